"""The objects that users work with: the dict, its flat view, the replica in memory.

All of them reach etcd through a store, see `etcdmap.tree`.

- `reading` and `writing` read and write one key; `mapping` writes many keys and makes
  a mapping.
- `flat` is the flat view.  `base` (`pop`, `del`, loops) and `views` (`items()`, `==`)
  are what the mapping and the flat view have in common, and `handle` is their base.
- `joined` makes one class of several, so that users see only one.
- `plan` finds the requests for a write of many keys, `execution` sends them, and
  `differences` reports what they change.
- `watch` returns changes one by one.  `live` is the mapping in memory: `feed` keeps it
  up to date, and `replica` is the tree that it reads from.
"""

from __future__ import annotations

from etcdmap.mapping.differences import ABSENT, Difference, Differences
from etcdmap.mapping.flat import FlatView
from etcdmap.mapping.frozen import FrozenMapping
from etcdmap.mapping.handle import View
from etcdmap.mapping.live import Live
from etcdmap.mapping.mapping import EtcdMapping
from etcdmap.mapping.watch import Watch

__all__ = [
    "ABSENT",
    "Difference",
    "Differences",
    "EtcdMapping",
    "FlatView",
    "FrozenMapping",
    "Live",
    "View",
    "Watch",
]

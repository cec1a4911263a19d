"""What users hold: the dict, its flat view, plans of many writes and their execution.

Everything goes through a store, see `etcdmap.tree`.  Open `reading` and `writing` for
one key, `mapping` for many and how a mapping is made, `flat` for the flat view; `base`
(`pop`, `del`, loops) and `views` (`items()`, `==`) for what both do alike, `handle` for
what both stand on, `joined` for how users come to see one class; `plan` for what a
write of many keys comes to, `execution` for how, `differences` for how it is told;
`watch` for changes one by one, `live` for the mapping in memory: `feed` keeps it up to
date and `replica` is what it reads from.
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

"""The store on etcd's v2 API (3.4 and 3.5, with ``--enable-v2``).

- `keys` has the operations of v2 and their parameters.
- `store` has the requests of a mapping, which it sends through `keys.fetch` and
  `keys.store`; `spelling` writes them as paths, queries and forms.
- `responses` says what answers mean; `readers`, `listing` and `models` read the nodes
  in them.
- `fenced` and `settling` are writes that may be sent twice.
- `memory` is what the client remembers about keys.
- `watching`, `followed` and `events` follow the changes below a path.
"""

from __future__ import annotations

from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.memory import Memory
from etcdmap.v2.models import Node, Result
from etcdmap.v2.request import OPENING, V2_API
from etcdmap.v2.store import V2Store

__all__ = ["OPENING", "V2_API", "KeysAPI", "Memory", "Node", "Result", "V2Store"]

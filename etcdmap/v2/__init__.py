"""The store on etcd's v2 API (3.4 and 3.5, with ``--enable-v2``).

Open `keys` for the operations and their parameters, `store` for what a mapping sends
(through `keys.fetch` and `keys.store`), `spelling` for how it goes on the wire;
`responses` for what answers mean, and `readers`, `listing`, `models` for the nodes in
them; `fenced` and `settling` for writes that may be sent twice, `memory` for what is
remembered of keys.
"""

from __future__ import annotations

from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.memory import Memory
from etcdmap.v2.models import Node, Result
from etcdmap.v2.request import OPENING, V2_API
from etcdmap.v2.store import V2Store

__all__ = ["OPENING", "V2_API", "KeysAPI", "Memory", "Node", "Result", "V2Store"]

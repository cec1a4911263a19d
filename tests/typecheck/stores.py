"""That the stores are what mappings ask for.  Checked by mypy, never run."""

from __future__ import annotations

from etcdmap.tree import ReadableStore, Store
from etcdmap.v2 import V2Store

from support.memory_store import MemoryStore, Tree


def stores(v2: V2Store) -> list[Store]:
    """Take both for stores, and a store for one that can be read."""
    found: list[Store] = [v2, MemoryStore(Tree())]
    readable: list[ReadableStore] = [*found]
    assert readable
    return found

"""What a client remembers about keys: one memory for each client.

All stores, mappings and keys interfaces on a client share its memory, so that each of
them knows what the others have written.
"""

from __future__ import annotations

from etcdmap.cache import ReadCache
from etcdmap.client import Client
from etcdmap.v2.request import V2_API

#: How many paths are remembered; they take about 2 MiB.
_MOST = 20_000


class KnownStates(dict[str, int]):
    """The index of the last change of files, by absolute path.

    Writes name this index as the state that they replace, see `etcdmap.v2.settling`.
    An index that is out of date costs two requests more: etcd refuses the write, and
    the client reads the key and writes again.

    Threads: each method is one operation on a dict.
    """

    def put(self, path: str, index: int) -> None:
        """Remember the index of the last change at a path."""
        self[path] = index
        if len(self) > _MOST:
            # Drop the older half at once, so that this seldom happens.
            for old in list(self)[: _MOST // 2]:
                self.drop(old)

    def drop(self, path: str) -> None:
        """Forget a path."""
        self.pop(path, None)


class Memory:
    """What a client remembers about keys; dropped when its cluster was rebuilt.

    For `fence`, see `etcdmap.connect`.
    """

    def __init__(
        self,
        client: Client,
        cache: ReadCache | None = None,
        fence: bool | None = None,
    ) -> None:
        if fence is not None and not isinstance(fence, bool):
            raise TypeError(f"fence is True, False or None, not {fence!r}")
        self._client = client
        self.cache = cache
        self.states = KnownStates()
        self.fence = fence
        self.freshness = client.freshness(V2_API)

    @classmethod
    def of(
        cls, client: Client, cache: ReadCache | None = None, fence: bool | None = None
    ) -> Memory:
        """Return the memory of a client; the first call makes it with the options."""
        memory: Memory | None = client.stores.get("v2")
        if memory is None:
            new = cls(client, cache, fence)
            memory = client.stores.setdefault("v2", new)
            if memory is new:
                new.freshness.on_rebuilt.append(new.clear)
        return memory

    @property
    def fences_writes(self) -> bool:
        """Whether writes of files name the state that they replace at the moment."""
        return len(self._client.state[0]) > 1 if self.fence is None else self.fence

    def clear(self) -> None:
        """Forget everything."""
        self.states.clear()
        if self.cache is not None:
            self.cache.clear()

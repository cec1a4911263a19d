"""What is remembered of keys, for all who use one client.

A store, the keys interface and every mapping on a client share one memory, so that a
write over one of them is seen by the others.  It lies in a slot of the client's.
"""

from __future__ import annotations

from etcdmap.cache import ReadCache
from etcdmap.client import Client
from etcdmap.v2.request import V2_API

#: Paths.  About 2 MiB.
_MOST = 20_000


class KnownStates(dict[str, int]):
    """The index of the last change of files, by absolute path.

    So that writes can name what they replace, see `etcdmap.v2.settling`.  A memory
    that is out of date costs two requests more and nothing else: etcd refuses the
    write, and the client looks again.

    Threads: each method is one operation on a dict.
    """

    def put(self, path: str, index: int) -> None:
        """Remember the index that was seen or made at a path."""
        self[path] = index
        if len(self) > _MOST:
            # The oldest half: rare and cheap, and nobody is hurt.
            for old in list(self)[: _MOST // 2]:
                self.drop(old)

    def drop(self, path: str) -> None:
        """Forget a path."""
        self.pop(path, None)


class Memory:
    """What is remembered of keys.

    Args:
        client: whose; what it remembers goes when its cluster is rebuilt.
        cache: of what was read; None for none.
        fence: whether writes of files name the state that they replace; None for as
            long as the client knows several endpoints.
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
        self.freshness.on_rebuilt.append(self.clear)

    @classmethod
    def make(cls, client: Client, cache: ReadCache | None, fence: bool | None) -> None:
        """Make the memory of a new client, before anybody uses it."""
        client.stores["v2"] = cls(client, cache, fence)

    @classmethod
    def of(cls, client: Client) -> Memory:
        """Return the memory of a client, which is made if there is none."""
        memory = client.stores.get("v2")
        if memory is None:
            memory = client.stores.setdefault("v2", cls(client))
        found: Memory = memory
        return found

    @property
    def fences_writes(self) -> bool:
        """Whether writes of files name the state that they replace, now."""
        return self._client.has_several if self.fence is None else self.fence

    def clear(self) -> None:
        """Forget all of it."""
        self.states.clear()
        if self.cache is not None:
            self.cache.clear()

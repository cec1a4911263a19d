"""What a client remembers of files, so that its writes can name what they replace.

See `etcdmap.settling` for what that is good for.  A memory that is out of date
costs two requests more and nothing else: etcd refuses the write, and the client
looks again.
"""

from __future__ import annotations

#: Paths.  About 2 MiB.
_MOST = 20_000


class Fences:
    """The index of the last change of files, by absolute path.

    Threads: each method is one operation on a dict.
    """

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}

    def get(self, path: str) -> int | None:
        """Give the index that was last seen or made at a path."""
        return self._indexes.get(path)

    def put(self, path: str, modified_index: int) -> None:
        """Remember an index."""
        indexes = self._indexes
        indexes[path] = modified_index
        if len(indexes) > _MOST:
            # The oldest half: rare and cheap, and nobody is hurt.
            for old in list(indexes)[: _MOST // 2]:
                indexes.pop(old, None)

    def drop(self, path: str) -> None:
        """Forget a path."""
        self._indexes.pop(path, None)

    def clear(self) -> None:
        """Forget everything."""
        self._indexes.clear()

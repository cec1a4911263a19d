"""What a client remembers of files, so that its writes can name what they replace.

See `etcdmap.settling` for what that is good for.  A memory that is out of date
costs two requests more and nothing else: etcd refuses the write, and the client
looks again.
"""

from __future__ import annotations

#: Paths.  About 2 MiB.
_MOST = 20_000


class Fences(dict[str, int]):
    """The index of the last change of files, by absolute path.

    Threads: each method is one operation on a dict.
    """

    def put(self, path: str, modified_index: int) -> None:
        """Remember the index that was seen or made at a path."""
        self[path] = modified_index
        if len(self) > _MOST:
            # The oldest half: rare and cheap, and nobody is hurt.
            for old in list(self)[: _MOST // 2]:
                self.drop(old)

    def drop(self, path: str) -> None:
        """Forget a path."""
        self.pop(path, None)

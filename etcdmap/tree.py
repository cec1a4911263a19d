"""The narrow way through which mappings reach a store: nodes, texts and indexes.

`Tree` is what the dict layer knows of etcd.  It shows no HTTP and no v2
parameters, so that another implementation can stand behind the same mappings;
`etcdmap.v2tree` has the one on etcd's v2 keys.

Paths are absolute.  One with a trailing slash names the directory that a
mapping stands on: with v2 auth, a role for ``/app/*`` may list ``/app/`` only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from etcdmap.cache import ReadCache
from etcdmap.errors import DeadlineExceeded
from etcdmap.nodes import ANYTHING, Directory, Expect, Fence, File, Snapshot


class Tree(Protocol):
    """A store of files and directories.

    A path that can't be read because nothing is there raises KeyNotFound; so
    does one below a file, then with code 104.
    """

    @property
    def cache(self) -> ReadCache | None:
        """What reads may be answered from."""
        ...

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> Tree:
        """Return the same store with other options; None leaves one as it is.

        Of the store of one `call`, the one for all calls.
        """
        ...

    @property
    def until(self) -> float:
        """When a call that begins now must have ended, on the client's clock."""
        ...

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if the call must have ended by then."""
        ...

    def call(self, until: float | None = None) -> Tree:
        """Return the same store for the requests of one call.

        Each of them gets what is left of the time until `until`, or until the
        deadline of a call that begins now if that comes first.  When nothing is
        left, DeadlineExceeded is raised and nothing sent.
        """
        ...

    def get(self, path: str, *, cached: bool = False) -> File | Directory:
        """Read one node; of a directory no children.

        With `cached` the answer may come from the cache.  1 request, or none.
        """
        ...

    def list(self, path: str, *, recursive: bool = False) -> File | Directory:
        """Read a file, or list a directory.  1 request, atomic."""
        ...

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        """Read a whole directory as plain values.  1 request, atomic.

        Args:
            path: the directory.
            decode: makes the value of a file's text.
            key_of: makes the key of a name, or None to leave it out; None for
                the names as they are.

        Raises:
            NotADirectory: it is a file.
        """
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a node.  1 request, 2 if unclear; or cached."""
        ...

    def index(self, path: str) -> int:
        """Return the index of the store.  1 request."""
        ...

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        expect: Expect = ANYTHING,
        known: Fence | None = None,
    ) -> int:
        """Write a file and return its index.  Atomic.

        1 request; with several endpoints 1 more if neither `known` nor a read or
        write before tells the state that is replaced.

        Raises:
            NotAFile: a directory stands there.
            NotADirectory: a file stands on the way.
            KeyExists, KeyNotFound, CompareFailed: not as expected.
        """
        ...

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """Write a file with a new name that sorts last; return it.  1 request."""
        ...

    def refresh(self, path: str, ttl: float) -> None:
        """Renew the ttl of a file.  1 request, atomic."""
        ...

    def delete(
        self, path: str, *, expect: Expect = ANYTHING, known: Fence | None = None
    ) -> None:
        """Delete whatever is there, or the file as expected.  Cost: as `put`."""
        ...

    def delete_directory(self, path: str) -> None:
        """Delete whatever is there, without looking first.  1 request."""
        ...

    def delete_file(self, path: str) -> None:
        """Delete a file; NotAFile if a directory stands there.  Cost: as `put`."""
        ...

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """Make a directory; in place of a file with `replace`.  1 request.

        Raises:
            KeyExists: something is there (without `replace`).
            NotAFile: a directory is there (with `replace`).
        """
        ...


#: Most rounds of one call, whatever its deadline.
_MOST_ROUNDS = 1000
#: Seconds for which the first pause, and any, lasts at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


def rounds(tree: Tree, path: str) -> Iterator[Tree]:
    """Yield a store for the requests of one call, for each time that it looks anew.

    What looks, and then writes on the condition that nothing has changed, loops
    over this.  The pause between two rounds grows, and is of a length of chance:
    many writers of one key would else meet again and again, and a server whose
    answers contradict each other would be asked as fast as it answers.

    Raises:
        DeadlineExceeded: others came between until the time was over, or too
            often.
    """
    call = tree.call()
    longest = _FIRST_PAUSE
    for _ in range(_MOST_ROUNDS):
        yield call
        if not call.pause(random.uniform(0, longest)):
            break
        longest = min(2 * longest, _LONGEST_PAUSE)
    raise DeadlineExceeded(
        f"{path or '/'}: other writers came between, again and again; nothing was "
        "written by this call"
    )

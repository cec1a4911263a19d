"""The waist: what a mapping asks of a store, and the values that pass between them.

Above it nobody knows which API of etcd is spoken; below it nobody knows of mappings,
keys and codecs.  A *store* holds *files*, texts, and *directories*, by absolute path:
``/app/db``; the root is ``""``.  It owns the client, the cache, and what is remembered
of keys.

A `ReadableStore` is all that the reading half of a mapping needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from etcdmap.cache import ReadCache
from etcdmap.client import Client

S = TypeVar("S", bound="ReadableStore")

#: What a read promises; see `EtcdMapping.using`.
CONSISTENCIES = ("session", "linearizable", "any")


# --- what is there


class File(NamedTuple):
    """A file: its text, the index of its last change, seconds left."""

    text: str
    modified_index: int
    ttl: int | None


class Directory(NamedTuple):
    """A directory: its children by name, and seconds left.

    A subdirectory in a listing that is not recursive shows no children.  No listing
    shows names that start with ``_``.
    """

    children: dict[str, Any]  # name -> Node; mypy can't recurse here
    ttl: int | None
    #: The index of the store at that moment; of the top of a listing only.
    etcd_index: int = 0


Node: TypeAlias = "File | Directory"


class Snapshot(NamedTuple):
    """A subtree as one moment showed it.

    Attributes:
        value: a plain nested dict.
        index: the index of the store at that moment.
    """

    value: dict[str, Any]
    index: int  # type: ignore[assignment]  # in place of tuple's method


# --- what a write expects to be there


class Fence(NamedTuple):
    """The very state of a key that a write replaces.

    Attributes:
        as_of: the index of the key's last change; of an absent key, that of the
            store when it was seen to be absent, or 0 if that is not known.
        absent: whether nothing is there.
    """

    as_of: int
    absent: bool = False


class Holding(NamedTuple):
    """A file is there that holds this text."""

    text: str


class Present(NamedTuple):
    """A file is there, whatever it holds."""


Expect: TypeAlias = "Fence | Holding | Present"


# --- the store


class ReadableStore(Protocol):
    """The reading half of a store.

    Reads raise `KeyNotFound`, with the index of the store, if nothing is there, and
    `NotADirectory` if a file stands on the way; and what a client's call raises.
    """

    @property
    def client(self) -> Client:
        """The client that is asked."""

    @property
    def cache(self) -> ReadCache | None:
        """What reads may be answered from."""

    # --- its options, and one call of several requests

    def using(
        self: S, *, consistency: str | None = None, timeout: float | None = None
    ) -> S:
        """Return the same store with other options; None leaves one as it is.

        Of the store of one `call`, the one for all calls.

        Args:
            consistency: one of `CONSISTENCIES`.
            timeout: deadline of one call, seconds.
        """

    def call(self: S, until: float | None = None) -> S:
        """Return the same store for the requests of one call.

        They have one deadline: `until`, or that of a call that begins now if it comes
        first.
        """

    @property
    def until(self) -> float:
        """When a call that begins now must have ended, on the client's clock."""

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if the call must have ended by then."""

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> Node:
        """Return one node; of a directory no children.

        With `cached` the answer may come from the cache.
        """

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        """Return a file, or a directory with what is below it.  Atomic.

        Args:
            path: the node.
            recursive: whether all that is below is listed, or one level.
            of_directory: whether a mapping stands on it, so that it should be one.
        """

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        """Return a whole directory as plain values.  Atomic.

        Args:
            path: the directory.
            decode: makes the value of a file's text.
            key_of: makes the key of a name, or None to leave it out; None for
                the names as they are.
        """

    def exists(self, path: str) -> bool:
        """Tell whether there is a node."""

    def index(self, path: str) -> int:
        """Return the index of the store; `path` is a directory that may be read."""


class Store(ReadableStore, Protocol):
    """A store that can be written, too.

    A write is atomic unless it says otherwise.  On what it may raise besides, see
    `ReadableStore`.
    """

    def check_text(self, text: str) -> None:
        """Raise LimitExceeded for a text that is too large to store."""

    def check_ttl(self, ttl: float) -> None:
        """Raise TypeError or ValueError for what is no ttl."""

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> int:
        """Write a file and return its index.

        Args:
            path: where; directories on the way are made.
            text: what.
            ttl: seconds until it expires.
            known: the state that it replaces most likely, which saves looking.
            expect: what must be there.

        Raises:
            NotAFile: a directory stands there.
            NotADirectory: a file stands on the way.
            KeyExists, KeyNotFound, CompareFailed: not as expected.
        """

    def put_over(self, path: str, text: str, *, ttl: float | None = None) -> int:
        """Write a file, in place of a directory with all in it; return its index.

        Raises:
            PartialWrite: the directory is gone, and nothing took its place.
        """

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """Write a file with a new name, which sorts last in a directory; return it."""

    def refresh(self, path: str, ttl: float) -> None:
        """Renew the ttl of a file; who watches is not told."""

    def delete(
        self,
        path: str,
        *,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> None:
        """Delete whatever is there, a directory with all in it.

        With `known` or `expect` a file only: NotAFile if it is a directory.
        """

    def delete_directory(self, path: str) -> None:
        """Delete what is known to be a directory, with all in it."""

    def make_directory(
        self, path: str, *, ttl: float | None = None, over_file: bool = False
    ) -> None:
        """Make a directory, with `over_file` in place of a file.

        Raises:
            KeyExists: something is there (without `over_file`).
            NotAFile: a directory is there (with `over_file`).
        """

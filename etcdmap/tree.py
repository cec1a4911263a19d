"""The waist: what a mapping asks a store, and the values that they exchange.

Above it nobody knows which API of etcd is spoken; below it nobody knows of mappings,
their keys and codecs.  A *store* holds *files*, which are texts, and *directories*, by
absolute path: ``/app/db``; the root is ``""``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, get_args

from etcdmap.cache import ReadCache
from etcdmap.client import Client
from etcdmap.errors import EtcdMapError

S = TypeVar("S", bound="ReadableStore")

#: What a read promises; see `EtcdMapping.using`.
Consistency: TypeAlias = Literal["session", "linearizable", "any"]
CONSISTENCIES: tuple[str, ...] = get_args(Consistency)


# --- what is there


class File(NamedTuple):
    """A file, as it was seen."""

    text: str
    modified_index: int  # of its last change
    ttl: int | None  # seconds left; None for ever


class Directory(NamedTuple):
    """A directory, as it was seen."""

    children: dict[str, Any]  # name -> Node (mypy can't recurse); empty if not listed
    ttl: int | None  # seconds left; None for ever
    etcd_index: int = 0  # of the store; only at the top of a listing


Node: TypeAlias = "File | Directory"


class Snapshot(NamedTuple):
    """A subtree as one moment showed it.

    Attributes:
        value: a plain nested dict.
        index: the index of the store at that moment.
    """

    value: dict[str, Any]
    index: int  # type: ignore[assignment]  # in place of tuple's method


# --- what happens


class Event(NamedTuple):
    """What became of a key.

    Attributes:
        action: ``"set"``, ``"delete"``, ``"expire"`` or ``"make_directory"``.
        key: the path below the mapping's prefix, as stored; "" is the prefix itself.
        value: what is there now; None unless it was set.
        previous: the value that was there before; None for none, or a directory.
        index: the index of the store at this change; several events of one change
            have the same.
        coalesced: whether it stands for any number of changes, some of which could not
            be told one by one: it is one difference between what was known before and
            what is there now.
    """

    action: str
    key: str
    value: Any
    previous: Any
    index: int  # type: ignore[assignment]  # in place of tuple's method
    coalesced: bool = False


class Change(NamedTuple):
    """What one write or expiry did; all else that follows from it is left to tell.

    Where all events pass, `tuple.__new__` makes this and an `Event`, as a named tuple's
    own constructor is a call in Python.
    """

    action: str  # as of an `Event`
    path: str  # what is below a node that goes, goes with it
    text: str | None
    index: int  # type: ignore[assignment]  # in place of tuple's method
    previous: str | None = None  # the text before, where it was told
    #: A directory that is there at the latest now, and may have been before.
    implied: bool = False


#: A text, a directory with what is in it by name, or nothing.  Never edited.
Tree: TypeAlias = "str | dict[str, Any] | None"


class Reading(NamedTuple):
    """A whole tree, read anew: what led to it could not be told, if there was more."""

    root: Tree
    index: int  # type: ignore[assignment]  # in place of tuple's method


class Follower(Protocol):
    """Tells what happens to one node and all below it, in order, each change once.

    One thread uses it at a time; `prove` and `close` may come from others.
    """

    @property
    def covered(self) -> int:
        """The index up to which all changes were told."""

    @property
    def settled(self) -> int:
        """The index that another one may go on from: nothing before can still come."""

    @property
    def seen(self) -> int:
        """The highest index that its client has seen, of own writes too."""

    @property
    def lasting(self) -> bool:
        """Whether `trouble` will not pass by itself, as far as one can tell."""

    #: When nothing newer was there than what was told, on the client's clock.
    proved: float
    #: Seconds within which it is proved that nothing was missed.
    max_stale: float
    #: Why nothing can be told at the moment.
    trouble: EtcdMapError | None

    def read(self) -> Reading:
        """Read the tree, to follow it from there; raises what a read raises.

        Cost: 1 request.
        """

    def follow(self, until: float) -> Sequence[Change | Reading]:
        """Wait for news until a time, on the client's clock; return what has come.

        Where it can't be told what happened, that is a `Reading`, if it may heal.  An
        outage is no error: there are no news, and `trouble` says why.

        Raises:
            WatchExpired: it is not known what happened, and it may not heal.
        """

    def prove(self) -> None:
        """Have it find out, now, what it has not been told of."""

    def close(self) -> None:
        """End what is under way; whoever waits is woken."""


# --- what a write expects to be there


class Fence(NamedTuple):
    """A key is in this very state."""

    #: The index of its last change; of an absent key, that of the store when it was
    #: seen to be absent, or 0 if that is not known.
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

        It is for any number of calls, even if this one is for a single `call`.
        """

    def call(self: S, until: float | None = None) -> S:
        """Return the same store for the requests of one call, with one deadline.

        It is `until`, or that of a call that begins now, whichever comes first.
        """

    @property
    def until(self) -> float:
        """When a call that begins now must have ended, on the client's clock."""

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> Node:
        """Return one node without children; if `cached`, maybe from the cache."""

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        """Return a file, or a directory with one level below it, or all.  Atomic.

        With `of_directory` a mapping stands on it, so that it should be a directory.
        """

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        """Return a whole directory as plain values.  Atomic.

        `decode` makes the value of a file's text.  `key_of` makes the key of a name, or
        None to leave it out; without it keys are the names.
        """

    def exists(self, path: str) -> bool:
        """Tell whether there is a node."""

    def index(self, path: str) -> int:
        """Return the index of the store; `path` is a directory that may be read."""


class WatchableStore(ReadableStore, Protocol):
    """A store that can be followed, too."""

    def follower(
        self,
        path: str,
        *,
        of_directory: bool = False,
        after: int | None = None,
        max_stale: float = 10.0,
        heals: bool = False,
    ) -> Follower:
        """Return what follows a node and all below it.

        Args:
            path: of the node, which need not exist.
            of_directory: a mapping stands on it, so that it should be a directory.
            after: the index of the last change that is known; None if `read` will say.
            max_stale: seconds within which it is proved that nothing was missed.
            heals: whether to read the tree where it is not known what happened.

        Cost: no request.
        """


class Store(WatchableStore, Protocol):
    """A store that can be written, too.

    Each write is atomic, unless it says otherwise.
    """

    @property
    def longest_ttl(self) -> int:
        """The longest ttl that it takes, seconds; others may write longer ones."""

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if the deadline comes before the end."""

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
        """Write a file, and the directories on its way; return its index.

        Args:
            path: where.
            text: what.
            ttl: seconds until it expires.
            known: the state that it replaces most likely, which may save a request.
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
        """Renew the ttl of a file; watchers are not told."""

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

"""The waist: what a mapping asks a store, and the values that they exchange.

Code above this interface does not know which API of etcd is spoken; code below it knows
nothing about mappings, their keys and codecs.  A *store* contains *files*, which are
texts, and *directories*, by absolute path: ``/app/db``; the root is ``""``.
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
    """The whole content of a mapping at one moment.

    Attributes:
        value: the content, as a plain nested dict.
        index: the index of the store at that moment.
    """

    value: dict[str, Any]
    index: int  # type: ignore[assignment]  # in place of tuple's method


# --- what happens


class Event(NamedTuple):
    """One change of a key.

    Attributes:
        action: ``"set"``, ``"delete"``, ``"expire"`` or ``"make_directory"``.
        key: the path below the mapping's prefix, as stored; "" is the prefix itself.
        value: the value that is there now; None for every action except ``"set"``.
        previous: the value that was there before; None if there was none, or if it was
            a directory.
        index: the index of the store at this change.  Several events that come from one
            change have the same index.
        coalesced: whether the event stands for any number of changes that are not
            reported one by one.  Such an event is a difference between the content that
            was known before and the present content.
    """

    action: str
    key: str
    value: Any
    previous: Any
    index: int  # type: ignore[assignment]  # in place of tuple's method
    coalesced: bool = False


class Change(NamedTuple):
    """The effect of one write or expiry; the reader finds out what else it changes.

    Code that handles every event makes a `Change` and an `Event` by `tuple.__new__`,
    because a named tuple's own constructor is slower: it is a call in Python.
    """

    action: str  # as in an `Event`
    path: str  # if it is deleted or expires, everything below it goes too
    text: str | None
    index: int  # type: ignore[assignment]  # in place of tuple's method
    previous: str | None = None  # the text before, if etcd reported it
    #: Whether this is a directory that is there now, and may have been there before.
    implied: bool = False


#: A text, a directory (a dict from names to trees), or None.  It is never edited.
Tree: TypeAlias = "str | dict[str, Any] | None"


class Reading(NamedTuple):
    """A whole tree that was read again: the changes that led to it are not known."""

    root: Tree
    index: int  # type: ignore[assignment]  # in place of tuple's method


class Follower(Protocol):
    """Reports what happens to one node and all below it, in order, each change once.

    One thread at a time uses it; `prove` and `close` may be called by other threads.
    """

    @property
    def covered(self) -> int:
        """The index up to which all changes were reported."""

    @property
    def settled(self) -> int:
        """The index from which another follower may go on without missing a change."""

    @property
    def seen(self) -> int:
        """The highest index that its client has seen, including that of own writes."""

    @property
    def lasting(self) -> bool:
        """Whether `trouble` stays until somebody acts on it, as far as is known."""

    #: The last time, on the client's clock, at which nothing was newer than the changes
    #: that were reported.
    proved: float
    #: Seconds within which the follower always proves that it has missed nothing.
    max_stale: float
    #: Why the follower can report nothing at the moment; None if it can.
    trouble: EtcdMapError | None

    def read(self) -> Reading:
        """Read the tree, to follow it from there; raise what a read raises.

        Cost: 1 request.
        """

    def follow(self, until: float) -> Sequence[Change | Reading]:
        """Wait for news until a time, on the client's clock; return what has come.

        If it is not known what happened, and the follower may heal, it returns a
        `Reading`.  An outage is no error: there are no news, and `trouble` says why.

        Raises:
            WatchExpired: it is not known what happened, and the follower may not heal.
        """

    def prove(self) -> None:
        """Have the follower find out now whether it has missed a change."""

    def close(self) -> None:
        """End all requests that are under way; a thread that waits is woken."""


# --- what a write expects to be there


class Fence(NamedTuple):
    """The write expects the key in exactly this state."""

    #: The index of the key's last change.  If the key is absent, the index that the
    #: store had when this was seen, or 0 if that is not known.
    as_of: int
    absent: bool = False


class Holding(NamedTuple):
    """The write expects a file with this text."""

    text: str


class Present(NamedTuple):
    """The write expects a file, whatever its text is."""


Expect: TypeAlias = "Fence | Holding | Present"


# --- the store


class ReadableStore(Protocol):
    """The reading half of a store.

    If nothing is there, reads raise `KeyNotFound` with the index of the store.  If a
    file stands where a directory is needed, they raise `NotADirectory`.  They also
    raise the errors of a client's call.
    """

    @property
    def client(self) -> Client:
        """The client that sends the requests."""

    @property
    def cache(self) -> ReadCache | None:
        """The cache that may answer reads; None if there is none."""

    # --- its options, and one call of several requests

    def using(
        self: S, *, consistency: str | None = None, timeout: float | None = None
    ) -> S:
        """Return the same store with other options; None leaves an option as it is.

        The new store is for any number of calls, even if this one came from `call`.
        """

    def call(self: S, until: float | None = None) -> S:
        """Return the same store for the requests of one call, with one deadline.

        The deadline is `until`, or that of a call that begins now if that is earlier.
        """

    @property
    def until(self) -> float:
        """The time, on the client's clock, by which a call from now must have ended."""

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> Node:
        """Return one node without children; with `cached`, maybe from the cache."""

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        """Return a file, or a directory with one level below it, or with all.  Atomic.

        `of_directory` says that the path is the directory of a mapping, so that no file
        should be there.
        """

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        """Return a whole directory as plain values.  Atomic.

        `decode` turns a file's text into a value.  `key_of` turns a name into a key, or
        returns None to leave the name out; without `key_of`, the names are the keys.
        """

    def exists(self, path: str) -> bool:
        """Tell whether a node is there."""

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
        """Return a follower of a node and everything below it.

        Args:
            path: the path of the node, which need not exist.
            of_directory: whether it is the path of a mapping's directory, so that no
                file should be there.
            after: the index of the last change that is known; None if the caller will
                call `read` first.
            max_stale: seconds within which the follower proves that it missed nothing.
            heals: whether the follower reads the tree again when it is not known what
                happened.

        Cost: no request.
        """


class Store(WatchableStore, Protocol):
    """A store that can be written, too.

    Each write is atomic, unless it says otherwise.
    """

    @property
    def longest_ttl(self) -> int:
        """The longest ttl that may be written, in seconds."""

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if the deadline would come first."""

    def check_text(self, text: str) -> None:
        """Raise LimitExceeded for a text that is too large to store."""

    def check_ttl(self, ttl: float) -> None:
        """Raise TypeError or ValueError if this can't be a ttl."""

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> int:
        """Write a file, and make the directories above it; return its index.

        Args:
            path: the path of the file.
            text: the text to store.
            ttl: seconds until it expires.
            known: the state that the write most likely replaces; it may save a request.
            expect: what must be there for the write to be carried out.

        Raises:
            NotAFile: a directory is there.
            NotADirectory: a file stands where a directory is needed.
            KeyExists, KeyNotFound, CompareFailed: what is there is not as expected.
        """

    def put_over(self, path: str, text: str, *, ttl: float | None = None) -> int:
        """Write a file, even in place of a whole directory; return its index.

        Raises:
            PartialWrite: the directory was deleted, but the file was not written.
        """

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """Write a file with a new name, which sorts last; return that name."""

    def refresh(self, path: str, ttl: float) -> None:
        """Renew the ttl of a file, without an event."""

    def delete(
        self,
        path: str,
        *,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> None:
        """Delete a file, or a directory with everything in it.

        With `known` or `expect`, delete only a file: NotAFile is raised if a directory
        is there.
        """

    def delete_directory(self, path: str) -> None:
        """Delete a node that is known to be a directory, with everything in it."""

    def make_directory(
        self, path: str, *, ttl: float | None = None, over_file: bool = False
    ) -> None:
        """Make a directory; with `over_file`, even in place of a file.

        Raises:
            KeyExists: something is there (without `over_file`).
            NotAFile: a directory is there (with `over_file`).
        """

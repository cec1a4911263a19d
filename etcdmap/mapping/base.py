"""What the nested mapping and the flat view have in common.

A method that must read before it writes loops over `rounds`: it writes on the condition
that nothing has changed since the read, and if something has, it reads again.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from etcdmap.codecs import decode_node
from etcdmap.errors import (
    CompareFailed,
    DeadlineExceeded,
    EtcdMapError,
    InvalidKey,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    OutcomeUnknown,
    PartialWrite,
    Refusal,
    legible,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping import execution, plan
from etcdmap.mapping.handle import Handle, absent, sought
from etcdmap.mapping.views import Contents, ListedMapping, plain_mapping
from etcdmap.marks import alters_data
from etcdmap.paths import warn_left_out
from etcdmap.refusals import place, shown_key, tell
from etcdmap.tree import Directory, Fence, File, Node, Present, ReadableStore, Store

B = TypeVar("B", bound="Base")


class _Missing:
    def __repr__(self) -> str:  # as signatures show it
        return "<none given>"


#: In place of a default that was not given.
MISSING: Any = _Missing()

#: Types of values that no caller can change, so the same object may be returned often.
UNCHANGEABLE = frozenset((str, int, float, bool, type(None)))

#: Seconds that a user who presses Tab waits at most; up to 0.3 with the time that the
#: thread of a session adds.
_COMPLETION_PATIENCE = 0.2

#: The key, the path and the node of one thing that a mapping shows.
Entry = tuple[str, str, Node]


class Listed(Handle, ListedMapping):
    """What is shown of a directory, nested or flat."""

    #: Whether a directory can be the value of a key.
    _nested: ClassVar[bool]

    @abstractmethod
    def _read(self, store: ReadableStore) -> tuple[dict[str, Any] | None, int]:
        """Return the whole content (None if no directory is there) and the index."""

    @abstractmethod
    def _shown(self, listing: Directory) -> list[Entry]:
        """Return what this mapping shows of its directory, sorted by key."""

    def _until(self) -> float:
        return self._view.store.until

    def _whole(self, until: float | None = None) -> dict[str, Any] | None:
        store = self._view.store
        return self._read(store if until is None else store.call(until))[0]

    def _entries(self, store: ReadableStore, *, recursive: bool = False) -> list[Entry]:
        listing, _ = self._listing(store, recursive=recursive or not self._nested)
        return [] if listing is None else self._shown(listing)

    def get(self, key: str, default: Any = None) -> Any:
        """Return ``m[key]``, or `default` if the key is absent.

        Raises:
            DecodeError: the codec can't read the text.

        Cost: 1 request; none if the value is cached, or for a `Live`.

        >>> m.get("port"), m.get("nope"), m.get("nope", 1)
        (8080, None, 1)
        """
        try:
            return self[key]
        except KeyNotFound:
            return default

    # --- loops

    def __iter__(self) -> Iterator[str]:
        """Return the keys, sorted.  Cost: 1 request; none for a `Live`.

        >>> [key for key in m]
        ['db', 'port']
        """
        return iter([key for key, _, _ in self._entries(self._view.store)])

    def __reversed__(self) -> Iterator[str]:
        """Return the keys in reverse order.  Cost: 1 request; none for a `Live`.

        >>> list(reversed(m))
        ['port', 'db']
        """
        return reversed([key for key, _, _ in self._entries(self._view.store)])

    def __len__(self) -> int:
        """Count the keys; only a flat view counts the keys in subdirectories, too.

        Cost: 1 request; none for a `Live`.

        >>> len(m), len(m["db"])
        (2, 2)
        """
        return len(self._entries(self._view.store))

    def _ipython_key_completions_(self) -> list[str]:
        """Complete keys when Tab is pressed after ``m["`` in IPython.

        If etcd takes long or fails, no key is offered.

        Cost: 1 request; none for a `Live`.
        """
        store = self._view.store.using(timeout=_COMPLETION_PATIENCE)
        with suppress(Exception):
            return [key for key, _, _ in self._entries(store)]
        return []

    def _listed_items(self) -> list[tuple[str, Any]]:
        return [(k, self._value(p, n)) for k, p, n in self._entries(self._view.store)]

    # --- nodes

    def _value(self, path: str, node: Node) -> Any:
        if isinstance(node, File):
            return decode_node(path, node.text, self._view.codec.decode)
        return self._sub(path)

    def _plain(self, path: str, node: Node) -> Any:
        """Return plain values for a node that was listed with all that is in it."""
        if isinstance(node, File):
            return self._value(path, node)
        shown = self._in(path, node)
        return {key: self._plain(below, child) for key, below, child in shown}

    def _in(self, path: str, directory: Directory) -> list[Entry]:
        """Return the children that are shown, sorted by key; warn about the others."""
        key_of = self._view.naming.key
        entries = []
        for name, child in directory.children.items():
            key = key_of(name)
            if key is None:
                warn_left_out(f"{path}/{name}")
            else:
                entries.append((key, f"{path}/{name}", child))
        return sorted(entries)

    def _listing(
        self, store: ReadableStore, *, recursive: bool = False
    ) -> tuple[Directory | None, int]:
        """Return this mapping's directory, or None, and the index of the store."""
        root = self._view.root
        node, index = survey(store, root, recursive=recursive, of_directory=True)
        if isinstance(node, File):
            raise NotADirectory(
                "this mapping's directory is a file now", key=self.prefix
            )
        return node, index


class Base(Listed, MutableMapping[str, Any]):
    """A mapping on a directory that can be written, nested or flat."""

    #: The end of the message that refuses a key below another key.
    _overlap: ClassVar[str]

    # --- read, then write

    @alters_data
    def pop(self, key: str, default: Any = MISSING) -> Any:
        """Remove a key and return its value; for a directory, return a plain dict.

        If several callers race for the value of a file, only one of them gets it.  A
        directory is first read and then deleted.  What others write into the directory
        between these two steps is lost.

        Raises:
            KeyNotFound: the key is absent and no default was given.
            OutcomeUnknown: etcd's answer was lost, so the value may or may not be gone.
            DeadlineExceeded: other writers kept changing the value until the time was
                over.

        Cost: 2 requests; 2 more each time that another writer changes the value in
        between.

        >>> m.pop("port"), m.pop("port", None)
        (8080, None)
        """
        self._check_writable()
        try:
            with sought(key):
                path = self._readable(key)
                for store in rounds(self._view.store, path):
                    node = store.list(path, recursive=self._nested)
                    if isinstance(node, Directory) and not self._nested:
                        raise absent(key, "a directory is there", path)
                    value = self._plain(path, node)  # before it is gone
                    if _take(store, path, node):
                        return value
        except KeyNotFound:
            if default is MISSING:
                raise
            return default
        raise AssertionError("unreachable")

    @alters_data
    def popitem(self) -> tuple[str, Any]:
        """Remove the key that sorts last, and return it with its value.

        If several callers race, each of them gets another value.  But a directory may
        be returned to several callers, because it is first read and then deleted.

        Raises:
            KeyNotFound: the mapping is empty.
            OutcomeUnknown, DeadlineExceeded: as for `pop`.

        Cost: 2 requests; 1 more for each key that another caller took first.

        >>> m.popitem()
        ('port', 8080)
        """
        self._check_writable()
        for store in rounds(self._view.store, self._view.root):
            entries = self._entries(store, recursive=True)
            if not entries:
                break
            # No pause after a key that another caller took: with a pause, this caller
            # would be too late for the next key as well.
            for key, path, node in reversed(entries):
                value = self._plain(path, node)  # before it is gone
                with suppress(KeyNotFound, NotADirectory):
                    if _take(store, path, node):
                        return key, value
        why = "the mapping is empty"
        raise absent(f"popitem(): {why}", why, self.prefix)

    @alters_data
    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; if the key is absent, store ``default`` first.

        If several callers race, all of them get the same value.  If ``default`` is a
        mapping, the caller that creates its directory also fills the directory, and all
        callers get a mapping on this directory.

        Raises:
            NotAFile: in a flat view, a directory is there.
            NotADirectory: a file stands where a directory is needed.
            DirectoryGone: ``default`` is, or contains, a mapping on etcd whose
                directory does not exist.
            DeadlineExceeded: other writers kept changing the key until the time was
                over.

        Cost: 1 request if the key was present; otherwise 2, and for a mapping 1 more
        for each key in the mapping.

        >>> m.setdefault("port", 1), m.setdefault("name", "shop")
        (8080, 'shop')
        """
        path, wanted, until = self._checked(key, default)
        for store in rounds(self._view.store.call(until), path):
            node = self._found_or_made(store, path, wanted)
            if isinstance(node, Directory) and not self._nested:
                raise NotAFile("a directory is there", key=path)
            if node is not None:
                return self._value(path, node)
        raise AssertionError("unreachable")

    def _found_or_made(
        self, store: Store, path: str, wanted: plan.Encoded
    ) -> Node | None:
        """Return the node at a path, created if it was absent; None to read again."""
        node, since = survey(store, path)
        if node is not None:
            return node
        try:
            self._create(store, path, wanted, since=since)
        except KeyExists:
            return None  # another caller was quicker: take that caller's value
        except OutcomeUnknown:
            # Any value will do, whoever wrote it.
            if isinstance(wanted, str):
                with suppress(EtcdMapError):  # OutcomeUnknown says more than this one
                    node, _ = survey(store, path)
            if node is None:
                raise
            return node
        return File(wanted, 0, None) if isinstance(wanted, str) else Directory({}, None)

    def _checked(
        self, key: str, value: Any, ttl: float | None = None
    ) -> tuple[str, plan.Encoded, float | None]:
        """Check a write before its first request.

        Return its path, what to store, and the time at which the call must have ended;
        None instead of the time if nothing was read, so that the call has not begun.
        """
        path = self._writable(key)
        self._check_ttl(ttl)
        if type(value) in UNCHANGEABLE:  # nearly always
            return path, self._encode_text(path, value), None
        until = self._until()
        return path, self._encode(path, value, until), until

    def _encode_all(
        self, other: Any, more: Mapping[str, Any], until: float
    ) -> dict[str, Any]:
        root, naming = self._view.root, self._view.naming
        values = _as_dict(plain_mapping(other, until, stored=True), root)
        encoder = self._encoder(until)
        wanted: dict[str, plan.Encoded] = {}
        for key, value in {**values, **more}.items():
            try:
                path = naming.writable(root, key)
            except (TypeError, ValueError) as error:
                encoder.refused.add(error)
                encoder.encode(f"{root}/{shown_key(key)}", value)
                continue
            if type(value) in UNCHANGEABLE:  # nearly always
                wanted[path] = encoder.encode_value(path, value)
            else:
                wanted[path] = encoder.encode(path, value)
        for below, above in plan.overlapping(wanted):
            why = f"it lies below '{legible(above)}'{self._overlap}"
            encoder.refused.add(tell(InvalidKey(), [Refusal(below, why)]))
        encoder.refused.raise_first()
        return wanted

    def __delitem__(self, key: str) -> None:
        """Delete a file, or a directory with everything in it.

        In a flat view, only files have keys, so only files can be deleted.

        Raises:
            KeyNotFound: the key is absent, or can't exist.

        Cost: 1 request.

        >>> del m["port"]
        >>> "port" in m
        False
        """
        self._check_writable()
        path = self._readable(key)
        store = self._view.store
        try:
            with sought(key):
                store.delete(path, expect=None if self._nested else Present())
        except NotAFile:
            raise absent(key, "a directory is there", path) from None

    def _create(
        self,
        store: Store,
        path: str,
        wanted: plan.Encoded,
        ttl: float | None = None,
        since: int = 0,
    ) -> int | None:
        if isinstance(wanted, str):
            expect = Fence(since, absent=True)
            return store.put(path, wanted, ttl=ttl, expect=expect)
        store.make_directory(path, ttl=ttl)
        # A directory that was not there before has nothing in it.
        todo = plan.Plan(self._view.naming, since)
        plan.become(todo, path, wanted, Directory({}, None))
        try:
            execution.carry_out(store, todo)
        except EtcdMapError as error:
            if isinstance(error, PartialWrite):
                raise
            # If the plan has one step only, that step's own error was raised, which
            # does not say that the directory was made already.
            failed = {step.path: error for step in todo.steps}
            raise PartialWrite(written=[path], failed=failed, pending=()) from None
        return None

    def __ior__(self: B, other: Contents) -> B:  # type: ignore[override]
        """Update from a mapping or pairs.  Cost: as for `update`.

        >>> m |= {"port": 1}
        >>> m["port"]
        1
        """
        self.update(other)
        return self


def _as_dict(contents: Contents, path: str) -> dict[str, Any]:
    """Return a mapping or pairs as a dict; refuse anything else, as for a value."""
    try:
        return dict(contents)
    except (TypeError, ValueError) as error:
        if type(error) in (TypeError, ValueError):  # `contents` may raise a subclass
            place(error, path or "/")
        raise


#: Most rounds of one call, whatever its deadline.
_MOST_ROUNDS = 1000
#: The longest that the first pause may be, and that any pause may be, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


def rounds(store: Store, path: str) -> Iterator[Store]:
    """Yield the store for one round of reading and writing, until the caller returns.

    All rounds belong to one call and share its deadline.  The pauses between them are
    random and grow: otherwise many writers of one key would collide again and again,
    and a server whose answers contradict each other would be asked as fast as it
    answers.

    Raises:
        DeadlineExceeded: other writers came between until the time was over, or too
            often.
    """
    call = store.call()
    longest = _FIRST_PAUSE
    for _ in range(_MOST_ROUNDS):
        yield call
        if not call.pause(random.uniform(0, longest)):
            break
        longest = min(2 * longest, _LONGEST_PAUSE)
    raise DeadlineExceeded(
        f"{legible(path) or '/'}: other writers came between, again and again; nothing "
        "was written by this call"
    )


def survey(
    store: ReadableStore,
    path: str,
    *,
    recursive: bool = False,
    of_directory: bool = False,
) -> tuple[Node | None, int]:
    """Return the node at a path or None, and the index of the store (0 for a file)."""
    try:
        node = store.list(path, recursive=recursive, of_directory=of_directory)
    except KeyNotFound as error:
        return None, error.etcd_index or 0
    return node, node.etcd_index if isinstance(node, Directory) else 0


def _take(store: Store, path: str, node: Node) -> bool:
    """Delete a node that was read; return False if it has changed since the read."""
    try:
        if isinstance(node, File):
            store.delete(path, expect=Fence(node.modified_index))
        else:
            store.delete(path)
    except (CompareFailed, NotAFile):
        return False
    return True

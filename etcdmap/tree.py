"""The store behind the mappings: etcd's v2 keys, with fences and the read cache.

`Tree` is all that the dict layer knows of etcd: nodes, texts and indexes, but no HTTP
and no v2 parameters.

Paths are absolute.  One with a trailing slash names the directory that a
mapping stands on: with v2 auth, a role for ``/app/*`` may list ``/app/`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, cast

from etcdmap.answers import presence, presence_from_body
from etcdmap.cache import ReadCache
from etcdmap.errors import (
    EtcdMapError,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    PartialWrite,
)
from etcdmap.fenced import FencedDelete, FencedPut, FencedRefresh, spell_condition
from etcdmap.keys import KeysAPI
from etcdmap.models import Answer, Asked
from etcdmap.nodes import (
    Directory,
    Fence,
    File,
    Snapshot,
    index_of_read,
    index_of_write,
    listing_of,
    name_of_new,
    node_of,
)
from etcdmap.parameters import spell_form, spell_query
from etcdmap.snapshots import snapshot_of

T = TypeVar("T")

#: What a read promises; see `EtcdMapping.using`.
CONSISTENCIES = ("session", "linearizable", "any")

# Queries, without and with a quorum.  What is read whole is given in order.  It takes
# etcd longer to sort, but then everything here is met in the order in which it lies in
# memory.
_RECURSIVE = [spell_query(recursive=True, quorum=quorum) for quorum in (False, True)]
_SORTED = [
    spell_query(recursive=True, sorted=True, quorum=quorum) for quorum in (False, True)
]


class Tree:
    """A store of files and directories.

    A path that can't be read because nothing is there raises KeyNotFound; so
    does one below a file, then with code 104.

    Args:
        keys: reaches etcd; its client may have a cache.
        consistency: one of `CONSISTENCIES`.
        timeout: deadline of one call, seconds; None for the client's.
        deadline: when all its requests must have ended; see `call`.
    """

    def __init__(
        self,
        keys: KeysAPI,
        consistency: str = "session",
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> None:
        if consistency not in CONSISTENCIES:
            names = ", ".join(map(repr, CONSISTENCIES))
            raise ValueError(f"consistency is one of {names}, not {consistency!r}")
        self.keys = keys
        self.consistency = consistency
        self.timeout = timeout
        self._deadline = deadline
        self._quorum = consistency == "linearizable"
        self._query = "?quorum=true" if self._quorum else ""

    @property
    def cache(self) -> ReadCache | None:
        """What reads may be answered from."""
        return None if self._quorum else self.keys.client.cache

    def __reduce__(self) -> tuple[Any, ...]:
        return Tree, (self.keys, self.consistency, self.timeout)

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> Tree:
        """Return the same store with other options; None leaves one as it is.

        Of the store of one `call`, the one for all calls.
        """
        if consistency is None:
            consistency = self.consistency
        return Tree(self.keys, consistency, timeout or self.timeout)

    @property
    def until(self) -> float:
        """When a call that begins now must have ended, on the client's clock."""
        if self._deadline is not None:
            return self._deadline
        return self.keys.client.deadline(self.timeout)

    def pause(self, seconds: float) -> bool:
        """Wait; return False at once if the call must have ended by then."""
        client = self.keys.client
        if client.clock() + seconds >= self.until:
            return False
        client.sleep(seconds)
        return True

    def call(self, until: float | None = None) -> Tree:
        """Return the same store for the requests of one call.

        Each of them gets what is left of the time until `until`, or until the
        deadline of a call that begins now if that comes first.  When nothing is
        left, DeadlineExceeded is raised and nothing sent.
        """
        deadline = self.until if until is None else min(until, self.until)
        return Tree(self.keys, self.consistency, self.timeout, deadline)

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> File | Directory:
        """Read one node; of a directory no children.

        With `cached` the answer may come from the cache.  1 request, or none.
        """
        cache = self.cache if cached else None
        if cache is None:
            return self._fetch_node(path)[0]
        node: File | Directory | None = cache.get(path)
        if node is not None:
            return node
        if self.consistency == "any":
            # Not for others: what it brings may be older than they may see.
            return self._fetch_node(path)[0]
        call, clock = self.call(), self.keys.client.clock
        fetch = partial(call._fetch_node, path)
        node = cache.load(path, fetch, attrgetter("ttl"), lambda: call.until - clock())
        return cast("File | Directory", node)

    def list(self, path: str, *, recursive: bool = False) -> File | Directory:
        """Read a file, or list a directory.  1 request, atomic."""
        query = _RECURSIVE[self._quorum] if recursive else self._query
        if self.cache is None or self.consistency == "any":
            return self._fetch(path, listing_of, query, kind="list")
        read = self.cache.begin(path)
        index = 0
        entries: list[tuple[str, Any, int | None]] = []
        try:
            node = self._fetch(path, listing_of, query, kind="list")
            if isinstance(node, Directory):
                index = node.etcd_index
                entries.extend(_entries(path.rstrip("/"), node))
        finally:
            self.cache.end(read, entries, index)
        return node

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
        read = partial(snapshot_of, decode, key_of)
        return self._fetch(path, read, _SORTED[self._quorum], kind="list")

    def exists(self, path: str) -> bool:
        """Tell whether there is a node.  1 request, 2 if unclear; or cached."""
        if self.cache is not None and self.cache.get(path) is not None:
            return True
        if self._quorum:  # HEAD ignores it
            return self._fetch(path, presence_from_body)
        until = self.until
        found = self._fetch(path, presence, method="HEAD")
        return (
            self.call(until)._fetch(path, presence_from_body)
            if found is None
            else found
        )

    def index(self, path: str) -> int:
        """Return the index of the store.  1 request."""
        return self._fetch(path, index_of_read)

    def _fetch_node(self, path: str) -> tuple[File | Directory, int]:
        node, index = self._fetch(path, node_of)
        if isinstance(node, File) and self.keys.client.fences_writes:
            self.keys.client.fences.put(path, node.modified_index)
        return node, index

    def _fetch(
        self,
        path: str,
        read: Callable[[Asked, Answer], T],
        query: str | None = None,
        *,
        method: str = "GET",
        kind: str = "get",
    ) -> T:
        try:
            return self.keys.fetch(
                path,
                self._query if query is None else query,
                read,
                method=method,
                kind="quorum" if self._quorum else kind,
                consistency=self.consistency,
                deadline=self.until,
            )
        except NotADirectory as error:
            raise KeyNotFound(
                "a file stands on the way to this key",
                code=error.code,
                cause=error.cause,
                etcd_index=error.etcd_index,
                endpoint=error.endpoint,
                key=error.key,
            ) from error

    # --- writes

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        known: Fence | None = None,
        expect: Fence | None = None,
        expect_text: str | None = None,
        present: bool = False,
        replace: bool = False,
    ) -> int:
        """Write a file and return its index.  Atomic.

        On one condition at most: the state that is replaced, its text (not an empty
        one, which v2 can't compare with), or that a file is there.  With `replace`
        also in place of a directory.

        1 request; with several endpoints 1 more if neither `known` nor a read or
        write before tells the state that is replaced; 2 more where a directory goes
        first.

        Raises:
            NotAFile: a directory stands there.
            NotADirectory: a file stands on the way.
            KeyExists, KeyNotFound, CompareFailed: not as expected.
            PartialWrite: the directory is gone, and nothing took its place.
        """
        until = self.until
        try:
            # A text can come back, so a write on it could be carried out twice.
            if self.keys.client.fences_writes and expect_text is None:
                write = FencedPut(self.keys, path, until, text, ttl, present=present)
                return write.do(known) if expect is None else write.do_if(expect)
            return self._put_unfenced(path, text, ttl, expect, expect_text, present)
        except NotAFile:
            if not replace:
                raise
        call = self.call(until)
        with suppress(KeyNotFound):  # gone already
            call.delete(path)
        try:
            return call.put(path, text, ttl=ttl)
        except EtcdMapError as error:  # whatever it says, the directory is gone
            raise PartialWrite(written=(), failed={path: error}, pending=()) from error

    def _put_unfenced(
        self,
        path: str,
        text: str,
        ttl: float | None,
        expect: Fence | None,
        expect_text: str | None,
        present: bool,
    ) -> int:
        # With noValueOnSuccess the header is the index of this very write.
        query, action, after = "?noValueOnSuccess=true", "set", 0
        if expect is not None:
            condition, action, after = spell_condition(expect)
            query += condition
        elif expect_text is not None:
            action = "compareAndSwap"
        elif present:
            query, action = f"{query}&prevExist=true", "update"
        form = spell_form(text, ttl, prev_value=expect_text)
        return self._store("PUT", Asked(path, action, after, bare=True), query, form)

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """Write a file with a new name that sorts last; return it.  1 request."""
        return self.keys.store(
            "POST",
            Asked(path, "create", inside=True),
            "",
            spell_form(text, ttl),
            name_of_new,
            deadline=self.until,
        )

    def refresh(self, path: str, ttl: float) -> None:
        """Renew the ttl of a file.  1 request, atomic."""
        client = self.keys.client
        known = client.fences.get(path) if client.fences_writes else None
        if known:
            write = FencedRefresh(self.keys, path, self.until, ttl)
            write.do(Fence(known))
            return
        query = "?prevExist=true&noValueOnSuccess=true"
        form = spell_form(None, ttl, refresh=True)
        index = self._store("PUT", Asked(path, "update", bare=True), query, form)
        if client.fences_writes:
            client.fences.put(path, index)

    def delete(self, path: str, *, expect: Fence | None = None) -> None:
        """Delete whatever is there, or the file as expected.  Cost: as `put`."""
        if self.keys.client.fences_writes:
            write = FencedDelete(self.keys, path, self.until)
            if expect is not None:
                write.do_if(expect)
                return
            with suppress(NotAFile):  # a directory: v2 has no condition for its delete
                write.do(None)
                return
        if expect is None:
            self.delete_directory(path)
        else:
            asked = Asked(path, "compareAndDelete")
            self._store("DELETE", asked, f"?prevIndex={expect.modified_index}")

    def delete_directory(self, path: str) -> None:
        """Delete whatever is there, without looking first.  1 request."""
        self._store("DELETE", Asked(path, "delete"), "?recursive=true")

    def delete_file(self, path: str, *, known: Fence | None = None) -> None:
        """Delete a file; NotAFile if a directory stands there.  Cost: as `put`."""
        if self.keys.client.fences_writes:
            FencedDelete(self.keys, path, self.until).do(known)
        else:
            self._store("DELETE", Asked(path, "delete"), "")

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """Make a directory; in place of a file with `replace`.  1 request.

        Raises:
            KeyExists: something is there (without `replace`).
            NotAFile: a directory is there (with `replace`).
        """
        query = spell_query(dir=True, prevExist=None if replace else False)
        asked = Asked(path, "set" if replace else "create")
        self._store("PUT", asked, query, spell_form(None, ttl))

    def _store(
        self, method: str, asked: Asked, query: str, form: str | None = None
    ) -> int:
        return self.keys.store(
            method, asked, query, form, index_of_write, deadline=self.until
        )


def _entries(
    path: str, node: File | Directory, ends: int | None = None
) -> Iterator[tuple[str, File | Directory, int | None]]:
    """Yield what a listing says about a node and all below it, for the cache.

    A node goes with its directory, of whose ttl it shows nothing itself.
    """
    ttl = node.ttl
    if ends is not None and (ttl is None or ttl > ends):
        ttl = ends
    if isinstance(node, File):
        yield path, node, ttl
        return
    yield path, Directory({}, node.ttl), ttl
    for name, child in node.children.items():
        yield from _entries(f"{path}/{name}", child, ttl)

"""The store behind the mappings: etcd's v2 keys, with fences and the read cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

from etcdmap.answers import presence, presence_from_body
from etcdmap.cache import ReadCache
from etcdmap.errors import DeadlineExceeded, KeyNotFound, NotADirectory, NotAFile
from etcdmap.fenced import FencedDelete, FencedPut, FencedRefresh
from etcdmap.keys import KeysAPI
from etcdmap.models import Answer, Asked
from etcdmap.nodes import (
    ANYTHING,
    PRESENT,
    Directory,
    Expect,
    Fence,
    File,
    Snapshot,
    index_of_read,
    index_of_write,
    listing_of,
    name_of_new,
    node_and_index_of,
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


class V2Tree:
    """A `Tree` on etcd's v2 keys.

    Args:
        keys: reaches etcd; its client may have a cache.
        consistency: one of `CONSISTENCIES`.
        timeout: deadline of one call, seconds; None for the client's.
        deadline: when all its requests must have ended; see `Tree.call`.
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
        """See `Tree.cache`."""
        return None if self._quorum else self.keys.client.cache

    def __reduce__(self) -> tuple[Any, ...]:
        return V2Tree, (self.keys, self.consistency, self.timeout)

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> V2Tree:
        """See `Tree.using`."""
        return V2Tree(
            self.keys,
            self.consistency if consistency is None else consistency,
            self.timeout if timeout is None else timeout,
        )

    @property
    def until(self) -> float:
        """See `Tree.until`."""
        if self._deadline is not None:
            return self._deadline
        client = self.keys.client
        return client.clock() + (self.timeout or client.timeout)

    def pause(self, seconds: float) -> bool:
        """See `Tree.pause`."""
        client = self.keys.client
        if client.clock() + seconds >= self.until:
            return False
        client.sleep(seconds)
        return True

    def call(self, until: float | None = None) -> V2Tree:
        """See `Tree.call`."""
        deadline = self.until if until is None else min(until, self.until)
        return V2Tree(self.keys, self.consistency, self.timeout, deadline)

    def _left(self) -> float | None:
        """Return how long the next request may take; None for the client's timeout."""
        if self._deadline is None:
            return self.timeout
        left = self._deadline - self.keys.client.clock()
        if left <= 0:
            raise DeadlineExceeded(
                "the time for the whole call was over before its next request, which "
                "was not sent: give it a longer timeout"
            )
        return left

    def _seconds(self) -> float:
        """Return how long a fenced write may take, whatever it has to ask."""
        return self._left() or self.keys.client.timeout

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> File | Directory:
        """See `Tree.get`."""
        cache = self.cache
        if not cached or cache is None:
            return self._fetch(path)
        node: File | Directory | None = cache.get(path)
        if node is not None:
            return node
        if self.consistency == "any":
            # Not for others: what it brings may be older than they may see.
            return self._fetch(path)
        call = self.call()
        fetch = partial(call._fetch_for_cache, path)
        node = cache.load(path, fetch, _ttl_of, call._left)
        return cast("File | Directory", node)

    def list(self, path: str, *, recursive: bool = False) -> File | Directory:
        """See `Tree.list`."""
        query = _RECURSIVE[self._quorum] if recursive else self._query
        if self.cache is None or self.consistency == "any":
            return self._get(path, query, listing_of, kind="list")
        read = self.cache.begin(path)
        index = 0
        entries: list[tuple[str, Any, int | None]] = []
        try:
            node = self._get(path, query, listing_of, kind="list")
            if isinstance(node, Directory):
                index = node.etcd_index
                path = path.rstrip("/")
                entries.append((path, Directory({}, node.ttl), node.ttl))
                entries.extend(_entries(path, node, node.ttl))
        finally:
            self.cache.end(read, entries, index)
        return node

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        """See `Tree.read`."""
        read = partial(snapshot_of, decode, key_of)
        return self._get(path, _SORTED[self._quorum], read, kind="list")

    def exists(self, path: str) -> bool:
        """See `Tree.exists`."""
        if self.cache is not None and self.cache.get(path) is not None:
            return True
        if self._quorum:  # HEAD ignores it
            return self._fetch_as(path, self._query, presence_from_body)
        until = self.until
        found = self._fetch_as(path, "", presence, method="HEAD")
        if found is not None:
            return found
        return self.call(until)._fetch_as(path, "", presence_from_body)

    def index(self, path: str) -> int:
        """See `Tree.index`."""
        return self._fetch_as(path, self._query, index_of_read)

    def _fetch_for_cache(self, path: str) -> tuple[File | Directory, int]:
        node, index = self._get(path, self._query, node_and_index_of, kind="get")
        if isinstance(node, File) and self.keys.client.fences_writes:
            self.keys.client.fences.put(path, node.modified_index)
        return node, index

    def _fetch(self, path: str) -> File | Directory:
        # As `_get` and `_fetch_as`, spelt out: this is m[k].
        try:
            node = self.keys.fetch(
                path,
                self._query,
                node_of,
                kind="quorum" if self._quorum else "get",
                consistency=self.consistency,
                timeout=self._left(),
            )
        except NotADirectory as error:
            raise _absent_below_file(error) from error
        if isinstance(node, File) and self.keys.client.fences_writes:
            self.keys.client.fences.put(path, node.modified_index)
        return node

    def _get(
        self, path: str, query: str, read: Callable[[Asked, Answer], T], *, kind: str
    ) -> T:
        try:
            return self._fetch_as(path, query, read, kind=kind)
        except NotADirectory as error:
            raise _absent_below_file(error) from error

    def _fetch_as(
        self,
        path: str,
        query: str,
        read: Callable[[Asked, Answer], T],
        *,
        method: str = "GET",
        kind: str = "get",
    ) -> T:
        return self.keys.fetch(
            path,
            query,
            read,
            method=method,
            kind="quorum" if self._quorum else kind,
            consistency=self.consistency,
            timeout=self._left(),
        )

    # --- writes

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        expect: Expect = ANYTHING,
        known: Fence | None = None,
    ) -> int:
        """See `Tree.put`."""
        if self.keys.client.fences_writes:
            write = FencedPut(
                self.keys, path, self._seconds(), text, ttl, present=expect == PRESENT
            )
            if expect is ANYTHING or expect == PRESENT:
                return write.do(known)
            fence = _fence_of(expect)
            if fence is not None:
                return write.do_if(fence)
        # With noValueOnSuccess the header is the index of this very write.
        query, action = "?noValueOnSuccess=true", "set"
        if expect is not ANYTHING:
            conditions, action = _conditions(expect)
            query += conditions
        form = spell_form(text, ttl, prev_value=expect.text)
        asked = Asked(path, action, after=expect.modified_index or expect.since)
        return self._store("PUT", asked, query, form)

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """See `Tree.append`."""
        return self.keys.store(
            "POST",
            Asked(path, "create", inside=True),
            "",
            spell_form(text, ttl),
            name_of_new,
            timeout=self._left(),
        )

    def refresh(self, path: str, ttl: float) -> None:
        """See `Tree.refresh`."""
        client = self.keys.client
        known = client.fences.get(path) if client.fences_writes else None
        if known:
            write = FencedRefresh(self.keys, path, self._seconds(), ttl)
            write.do(Fence(known))
            return
        query = "?prevExist=true&noValueOnSuccess=true"
        form = spell_form(None, ttl, refresh=True)
        index = self._store("PUT", Asked(path, "update", after=0), query, form)
        if client.fences_writes:
            client.fences.put(path, index)

    def delete(
        self, path: str, *, expect: Expect = ANYTHING, known: Fence | None = None
    ) -> None:
        """See `Tree.delete`."""
        if not self._delete_fenced(path, expect, known):
            query, action = "?recursive=true", "delete"
            if expect is not ANYTHING:
                query = spell_query(
                    prevIndex=expect.modified_index, prevValue=expect.text
                )
                action = "compareAndDelete"
            self._store("DELETE", Asked(path, action), query)

    def _delete_fenced(self, path: str, expect: Expect, known: Fence | None) -> bool:
        """Delete a file by a fenced write; False if that can't be."""
        if not self.keys.client.fences_writes:
            return False
        write = FencedDelete(self.keys, path, self._seconds())
        if expect is not ANYTHING:
            fence = _fence_of(expect)
            if fence is not None:
                write.do_if(fence)
            return fence is not None
        try:
            write.do(known)
        except NotAFile:
            return False  # a directory: v2 has no condition for its delete
        return True

    def delete_directory(self, path: str) -> None:
        """See `Tree.delete_directory`."""
        self._store("DELETE", Asked(path, "delete"), "?recursive=true")

    def delete_file(self, path: str) -> None:
        """See `Tree.delete_file`."""
        if self.keys.client.fences_writes:
            FencedDelete(self.keys, path, self._seconds()).do(None)
            return
        self._store("DELETE", Asked(path, "delete"), "")

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """See `Tree.make_directory`."""
        query = spell_query(dir=True, prevExist=None if replace else False)
        asked = Asked(path, "set" if replace else "create")
        self._store("PUT", asked, query, spell_form(None, ttl))

    def _store(
        self, method: str, asked: Asked, query: str, form: str | None = None
    ) -> int:
        return self.keys.store(
            method, asked, query, form, index_of_write, timeout=self._left()
        )


def _fence_of(expect: Expect) -> Fence | None:
    """Give the state that a condition names, if it names one.

    A text can come back, so a write on that condition could be carried out twice.
    """
    if expect.modified_index is not None:
        return Fence(expect.modified_index)
    if expect.present is False:
        return Fence(0, expect.since)
    return None


def _conditions(expect: Expect) -> tuple[str, str]:
    """Spell a condition, and name the action that etcd takes it for."""
    if expect.present is False:
        return "&prevExist=false", "create"
    query = "&prevExist=true" if expect.present else ""
    if expect.modified_index is not None:
        query += f"&prevIndex={expect.modified_index}"
    compared = expect.modified_index is not None or expect.text is not None
    return query, "compareAndSwap" if compared else "update"


def _absent_below_file(error: NotADirectory) -> KeyNotFound:
    return KeyNotFound(
        "a file stands on the way to this key",
        code=error.code,
        cause=error.cause,
        etcd_index=error.etcd_index,
        endpoint=error.endpoint,
        key=error.key,
    )


def _ttl_of(node: File | Directory) -> int | None:
    return node.ttl


def _entries(
    path: str, directory: Directory, ends: int | None
) -> Iterator[tuple[str, File | Directory, int | None]]:
    """Yield what a listing says about the nodes below it, for the cache.

    A node goes with its directory, of whose ttl it shows nothing itself.
    """
    for name, child in directory.children.items():
        ttl = child.ttl
        if ends is not None and (ttl is None or ttl > ends):
            ttl = ends
        child_path = f"{path}/{name}"
        if isinstance(child, Directory):
            yield child_path, Directory({}, child.ttl), ttl
            yield from _entries(child_path, child, ttl)
        else:
            yield child_path, child, ttl

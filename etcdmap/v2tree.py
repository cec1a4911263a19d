"""The store behind the mappings: etcd's v2 keys, with fences and the read cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

from etcdmap.answers import presence, presence_from_body
from etcdmap.errors import DeadlineExceeded, KeyNotFound, NotADirectory, NotAFile
from etcdmap.fenced import FencedWrites, remember_read
from etcdmap.keys import KeysAPI
from etcdmap.models import Answer
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
        self.cache = None if self._quorum else keys.client.cache
        client = keys.client
        # With one endpoint there is nowhere else to send a copy to.
        self._fences = client.fence and len(client.endpoints) > 1

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
                "was not sent"
            )
        return left

    @property
    def _fenced(self) -> FencedWrites | None:
        return FencedWrites(self.keys, self._left()) if self._fences else None

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
        if self._fences:
            remember_read(self.keys, path, node)
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
        if self._fences:
            remember_read(self.keys, path, node)
        return node

    def _get(
        self, path: str, query: str, read: Callable[[str, Answer], T], *, kind: str
    ) -> T:
        try:
            return self._fetch_as(path, query, read, kind=kind)
        except NotADirectory as error:
            raise _absent_below_file(error) from error

    def _fetch_as(
        self,
        path: str,
        query: str,
        read: Callable[[str, Answer], T],
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
        fenced = self._fenced
        if fenced is not None:
            if expect is ANYTHING:
                return fenced.put(path, text, ttl, known)
            if expect == PRESENT:
                return fenced.replace(path, text, ttl)
            fence = _fence_of(expect)
            if fence is not None:
                return fenced.put_if(path, text, ttl, fence)
        # With noValueOnSuccess the header is the index of this very write.
        query = "?noValueOnSuccess=true"
        if expect is not ANYTHING:
            query += _conditions(expect)
        form = spell_form(text, ttl, prev_value=expect.text)
        return self._store("PUT", path, query, form)

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        """See `Tree.append`."""
        return self.keys.store(
            "POST", path, "", spell_form(text, ttl), name_of_new, timeout=self._left()
        )

    def refresh(self, path: str, ttl: float) -> None:
        """See `Tree.refresh`."""
        query = "?prevExist=true&noValueOnSuccess=true"
        self._store("PUT", path, query, spell_form(None, ttl, refresh=True))

    def delete(
        self, path: str, *, expect: Expect = ANYTHING, known: Fence | None = None
    ) -> None:
        """See `Tree.delete`."""
        if not self._delete_fenced(path, expect, known):
            query = "?recursive=true"
            if expect is not ANYTHING:
                query = spell_query(
                    prevIndex=expect.modified_index, prevValue=expect.text
                )
            self._store("DELETE", path, query)

    def _delete_fenced(self, path: str, expect: Expect, known: Fence | None) -> bool:
        """Delete a file by a fenced write; False if that can't be."""
        fenced = self._fenced
        if fenced is None:
            return False
        if expect is not ANYTHING:
            fence = _fence_of(expect)
            if fence is not None:
                fenced.delete_if(path, fence)
            return fence is not None
        try:
            fenced.delete(path, known)
        except NotAFile:
            return False  # a directory: v2 has no condition for its delete
        return True

    def delete_directory(self, path: str) -> None:
        """See `Tree.delete_directory`."""
        self._store("DELETE", path, "?recursive=true")

    def delete_file(self, path: str) -> None:
        """See `Tree.delete_file`."""
        fenced = self._fenced
        if fenced is not None:
            fenced.delete(path)
            return
        self._store("DELETE", path, "")

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """See `Tree.make_directory`."""
        query = spell_query(dir=True, prevExist=None if replace else False)
        self._store("PUT", path, query, spell_form(None, ttl))

    def _store(
        self, method: str, path: str, query: str, form: str | None = None
    ) -> int:
        return self.keys.store(
            method, path, query, form, index_of_write, timeout=self._left()
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


def _conditions(expect: Expect) -> str:
    query = ""
    if expect.present is not None:
        query += "&prevExist=true" if expect.present else "&prevExist=false"
    if expect.modified_index is not None:
        query += f"&prevIndex={expect.modified_index}"
    return query


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

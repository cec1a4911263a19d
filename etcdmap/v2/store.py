"""The store on etcd's v2 keys, with fences and the read cache.

This module and those below it handle what is special in v2.  The directory of a mapping
is requested with a slash at its end: with v2 auth, a role for ``/app/*`` may list
``/app/`` but not ``/app``.  v2 can't compare with an empty text.  A directory must be
deleted before a file can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, cast

from etcdmap.cache import ReadCache
from etcdmap.client import Client, Resend
from etcdmap.errors import (
    CompareFailed,
    EtcdMapError,
    KeyNotFound,
    NotAFile,
    PartialWrite,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.transport import Answer
from etcdmap.tree import (
    CONSISTENCIES,
    Directory,
    Expect,
    Fence,
    File,
    Holding,
    Node,
    Present,
    Snapshot,
)
from etcdmap.v2.fenced import FencedDelete, FencedPut, FencedRefresh
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.listing import snapshot_of
from etcdmap.v2.readers import (
    index_of_read,
    index_of_write,
    listing_of,
    name_of_new,
    node_of,
)
from etcdmap.v2.responses import NO_TTL, presence_from_body
from etcdmap.v2.spelling import (
    MAX_TTL,
    check_text,
    spell_condition,
    spell_form,
    spell_query,
    whole_seconds,
)
from etcdmap.v2.watching import V2Follower

T = TypeVar("T")

# Queries, without and with a quorum.  When a whole directory is read, sorting it takes
# some time in etcd, but saves more time here.
_PLAIN = [spell_query(quorum=quorum) for quorum in (False, True)]
_RECURSIVE = [spell_query(recursive=True, quorum=quorum) for quorum in (False, True)]
_SORTED = [
    spell_query(recursive=True, sorted=True, quorum=quorum) for quorum in (False, True)
]


class V2Store:
    """A `Store` on etcd's v2 keys; the docstrings of its methods are in `Store`.

    Unless its docstring here says something else, a method costs 1 request, or none if
    the cache answers.  With a `deadline`, the store is for one call, see `Store.call`.
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

    @property
    def client(self) -> Client:
        return self.keys.client

    @property
    def cache(self) -> ReadCache | None:
        return None if self._quorum else self.keys.memory.cache

    def __reduce__(self) -> tuple[Any, ...]:
        return V2Store, (self.keys, self.consistency, self.timeout)

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> V2Store:
        if consistency is None:
            consistency = self.consistency
        return V2Store(self.keys, consistency, timeout or self.timeout)

    @property
    def until(self) -> float:
        if self._deadline is not None:
            return self._deadline
        client = self.keys.client
        return client.clock() + (self.timeout or client.timeout)

    def pause(self, seconds: float) -> bool:
        client = self.keys.client
        if client.clock() + seconds >= self.until:
            return False
        client.sleep(seconds)
        return True

    def call(self, until: float | None = None) -> V2Store:
        deadline = self.until if until is None else min(until, self.until)
        return V2Store(self.keys, self.consistency, self.timeout, deadline)

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> Node:
        cache = self.cache if cached else None
        if cache is None:
            return self._fetch_node(path)[0]
        node: Node | None = cache.get(path)
        if node is not None:
            return node
        if self.consistency == "any":
            # Not through the cache: this answer may be too old for the session reads
            # that share the cache.
            return self._fetch_node(path)[0]
        call, clock = self.call(), self.keys.client.clock
        fetch = partial(call._fetch_node, path)
        node = cache.load(path, fetch, attrgetter("ttl"), lambda: call.until - clock())
        return cast("Node", node)

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        if of_directory:
            path = f"{path}/"
        query = (_RECURSIVE if recursive else _PLAIN)[self._quorum]
        cache = self.cache
        if cache is None or self.consistency == "any":
            return self._fetch(path, listing_of, query, kind="list")
        read, index = cache.begin(path), 0
        entries: list[tuple[str, Any, int | None]] = []
        try:
            node = self._fetch(path, listing_of, query, kind="list")
            if isinstance(node, Directory):
                index = node.etcd_index
                entries.extend(_entries(path.rstrip("/"), node))
        finally:
            cache.end(read, entries, index)
        return node

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        read = partial(snapshot_of, decode, key_of)
        return self._fetch(f"{path}/", read, _SORTED[self._quorum], kind="list")

    def exists(self, path: str) -> bool:
        """Cost: 2 requests if the answer to the first one is unclear."""
        cache = self.cache
        if cache is not None and cache.get(path) is not None:
            return True
        if self._quorum:  # HEAD ignores the parameter
            return self._fetch(path, presence_from_body)
        return self.keys.present(
            path, consistency=self.consistency, deadline=self.until
        )

    def index(self, path: str) -> int:
        return self._fetch(f"{path}/", index_of_read)

    def follower(
        self,
        path: str,
        *,
        of_directory: bool = False,
        after: int | None = None,
        max_stale: float = 10.0,
        heals: bool = False,
    ) -> V2Follower:
        return V2Follower(
            self.keys,
            path,
            of_directory=of_directory,
            after=after,
            max_stale=max_stale,
            heals=heals,
            timeout=self.timeout or self.keys.client.timeout,
        )

    def _fetch_node(self, path: str) -> tuple[Node, int]:
        node, index = self._fetch(path, node_of)
        memory = self.keys.memory
        if isinstance(node, File) and memory.fences_writes:
            memory.states.put(path, node.modified_index)
        return node, index

    def _fetch(
        self,
        path: str,
        read: Callable[[Any, Answer], T],
        query: str | None = None,
        *,
        kind: str = "get",
    ) -> T:
        return self.keys.fetch(
            path,
            _PLAIN[self._quorum] if query is None else query,
            read,
            kind="quorum" if self._quorum else kind,
            consistency=self.consistency,
            deadline=self.until,
        )

    # --- writes

    @property
    def longest_ttl(self) -> int:
        return MAX_TTL

    def check_text(self, text: str) -> None:
        check_text(text)

    def check_ttl(self, ttl: float) -> None:
        whole_seconds(ttl)

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> int:
        """Cost: with several endpoints, 2 requests if the present state is not known.

        That is the case if neither `known` nor an earlier read or write tells it.  1
        more if an empty text is expected, or is written where a file must be already.
        """
        return self._put(path, text, self.until, ttl, known, expect)

    def _put(
        self,
        path: str,
        text: str,
        until: float,
        ttl: float | None,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> int:
        fenced = self.keys.memory.fences_writes
        if expect is None:  # nearly always
            if fenced:
                return FencedPut(self.keys, path, until, text, ttl).do(known)
            return self._put_unfenced(path, text, ttl, None, until)
        if isinstance(expect, Present) and not text:
            # etcd would take this for an update of a directory: 3.4 reports success and
            # changes nothing, and 3.5 fails.
            self._need_file(path, until)
        elif isinstance(expect, Holding) and not expect.text:
            expect = self._fence_of(path, expect, until)
        # A write that expects a text could be carried out twice, because the same text
        # may come back.
        if not fenced or isinstance(expect, Holding):
            return self._put_unfenced(path, text, ttl, expect, until)
        present = isinstance(expect, Present)
        write = FencedPut(self.keys, path, until, text, ttl, present=present)
        return write.do_if(expect) if isinstance(expect, Fence) else write.do(known)

    def _put_unfenced(
        self,
        path: str,
        text: str,
        ttl: float | None,
        expect: Expect | None,
        until: float,
    ) -> int:
        # X-Etcd-Index is the index of this write only with noValueOnSuccess.
        query, action, after, before = "?noValueOnSuccess=true", "set", 0, None
        if isinstance(expect, Fence):
            query, action = spell_condition(expect)
            after = expect.as_of
        elif isinstance(expect, Holding):
            action, before = "compareAndSwap", expect.text
        elif isinstance(expect, Present):
            query, action = spell_query(noValueOnSuccess=True, prevExist=True), "update"
        form = spell_form(text, ttl, prev_value=before)
        return self._store("PUT", path, action, query, form, until, after, True)

    def put_over(self, path: str, text: str, *, ttl: float | None = None) -> int:
        """Cost: as for `put`; 2 requests more if a directory must be deleted first."""
        until = self.until
        try:
            return self._put(path, text, until, ttl)
        except NotAFile:
            pass
        with suppress(KeyNotFound):  # it is gone already
            self.call(until).delete(path)
        try:
            return self._put(path, text, until, ttl)
        except EtcdMapError as error:  # it does not say that the directory is gone
            raise PartialWrite(written=(), failed={path: error}, pending=()) from None

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        return self.keys.store(
            "POST",
            f"{path}/",
            "create",
            "",
            spell_form(text, ttl),
            name_of_new,
            inside=True,
            deadline=self.until,
        )

    def refresh(self, path: str, ttl: float) -> None:
        memory, until = self.keys.memory, self.until
        known = memory.states.get(path) if memory.fences_writes else None
        try:
            if known:
                FencedRefresh(self.keys, path, until, ttl).do(Fence(known))
                return
            query = spell_query(prevExist=True, noValueOnSuccess=True)
            form = spell_form(None, ttl, refresh=True)
            index = self._store("PUT", path, "update", query, form, until, bare=True)
        except NotAFile as error:
            error.reason = NO_TTL
            raise
        if memory.fences_writes:
            memory.states.put(path, index)

    def delete(
        self, path: str, *, known: Fence | None = None, expect: Expect | None = None
    ) -> None:
        """Cost: as for `put`."""
        until = self.until
        if isinstance(expect, Holding):
            # A DELETE takes the text to compare with only in its URL, so the text would
            # end up in logs.
            expect = self._fence_of(path, expect, until)
        if self.keys.memory.fences_writes:
            write = FencedDelete(self.keys, path, until)
            if isinstance(expect, Fence):
                write.do_if(expect)
                return
            try:
                write.do(known)
                return
            except NotAFile:  # v2 has no condition for the delete of a directory
                if known is not None or expect is not None:
                    raise
        if isinstance(expect, Fence):
            query = spell_query(prevIndex=expect.as_of)
            self._store("DELETE", path, "compareAndDelete", query, None, until)
        elif known is not None or expect is not None:
            self._store("DELETE", path, "delete", "", None, until)
        else:
            self._delete_all(path, until)

    def delete_directory(self, path: str) -> None:
        self._delete_all(path, self.until)

    def _delete_all(self, path: str, until: float) -> None:
        self._store("DELETE", path, "delete", spell_query(recursive=True), None, until)

    def make_directory(
        self, path: str, *, ttl: float | None = None, over_file: bool = False
    ) -> None:
        query = spell_query(dir=True, prevExist=None if over_file else False)
        action = "set" if over_file else "create"
        self._store("PUT", path, action, query, spell_form(None, ttl), self.until)

    def _store(
        self,
        method: str,
        path: str,
        action: str,
        query: str,
        form: str | None,
        until: float,
        after: int = 0,
        bare: bool = False,
    ) -> int:
        return self.keys.store(
            method,
            path,
            action,
            query,
            form,
            index_of_write,
            # By position: naming the arguments would double the time that it takes.
            until,
            Resend.IF_NOT_SENT,
            after,
            bare,
        )

    def _need_file(self, path: str, until: float) -> File:
        node = self.call(until).get(path)
        if isinstance(node, Directory):
            raise NotAFile("a directory is there", key=path)
        return node

    def _fence_of(self, path: str, expect: Holding, until: float) -> Fence:
        """Return the state of a file that must hold a text."""
        node = self._need_file(path, until)
        if node.text != expect.text:
            raise CompareFailed("Compare failed", key=path)
        return Fence(node.modified_index)


def _entries(
    path: str, node: Node, ends: int | None = None
) -> Iterator[tuple[str, Node, int | None]]:
    """Yield path, node and ttl of a node and of all nodes below it, for the cache.

    A directory above the node may expire in `ends` seconds.  The node itself does not
    show this, but it will expire with the directory.
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

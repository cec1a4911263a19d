"""A passive TTL cache of nodes, by absolute path; one for each client.

The only module that imports cachetools.

Theory of operation
-------------------
*Whose writes are seen when.*  Nobody tells the cache of writes by other processes: they
are seen once an entry has expired.  Writes over the same client call `invalidate` after
their answer came, or failed to come; from then on nobody gets what was there before.

*Slow reads.*  Of two answers the one with the higher index of the store shows the
newer state, whichever came last: it stays.  A read that began before a write of
ours ended may bring the old value after it, with nothing stored to compare with.
So every read is known from `begin` to `end`; `invalidate` marks those under way
that overlap as *spoilt*, and what a spoilt read brings is not stored.

*Concurrent misses.*  The first thread that misses a path makes the request; the
others wait for it (`load`).  Nobody waits for a read that is spoilt: a thread that
comes after a write starts a read of its own.

*Age.*  An entry expires `ttl` seconds after its read began; or earlier, with the ttl of
its key (less the second by which etcd rounds that up), or of a directory above it.
Nodes do not show that one.  A listing does, and caches the directory itself, too: what
is read below it later expires with it, as long as its entry is held.

*Threads.*  Hits take no lock: they are one lookup in a plain dict (`hot`), which
mirrors the store.  All else happens under one lock, never held during I/O.

Absent keys are not cached, so a new key is seen at once.  Nor are lists of children, so
a loop sees new keys; but it caches the nodes that it lists.

The store is a FIFO: with the same ttl for all, the entry stored first is the one
that expires first.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cachetools

from etcdmap import forking
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.paths import PLAIN, UNREADABLE

#: Entries.  About 4 MiB with small values.
DEFAULT_SIZE = 10_000

#: Seconds by which etcd may be late to delete what has expired, at most.
_LATE = 5.0


class CacheInfo(NamedTuple):
    """The figures of a cache since it was made or cleared; counts may be a little off.

    Attributes:
        hits: how many reads were answered without a request.
        misses: how many reads sent a request, or waited for another thread's request.
        currsize: how many entries the cache contains, including expired ones.
        maxsize: how many entries the cache may contain.
        ttl: seconds for which an entry may be used.
    """

    hits: int
    misses: int
    currsize: int
    maxsize: int
    ttl: float


@dataclass(slots=True, eq=False)
class Entry:
    """What is kept of a path; times are those of the cache's timer."""

    node: Any
    expires: float  # when the entry does
    ends: float  # when the node may expire in etcd, or infinity, as far as was seen
    index: int  # of the store, when it was read
    decoded: tuple[Any, Any] | None = None  # a codec and an immutable value of it


@dataclass(slots=True, eq=False)
class Read:
    """A read under way: what it covers, when it began, whether a write overlapped."""

    path: str
    began: float
    spoilt: bool = False


@dataclass(slots=True, eq=False)
class _Flight:
    """A read that other threads may wait for."""

    read: Read
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    error: Exception | None = None


class ReadCache:
    """See the module's text."""

    def __init__(
        self,
        ttl: float,
        size: int = DEFAULT_SIZE,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl = ttl
        self.size = size
        self.timer = timer
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start empty: a thread that did not survive the fork may hold the lock."""
        self._lock = threading.RLock()
        self.hot: dict[str, Entry] = {}
        self._store = _Store(self.size, self.hot)
        self._reads: set[Read] = set()
        self._flights: dict[str, _Flight] = {}
        self.hits = self._misses = 0

    # --- reads

    def get(self, path: str) -> Any:
        """Return the node cached for a path, or None.  Takes no lock."""
        entry = self.hot.get(path)
        if entry is None or entry.expires <= self.timer():
            return None
        self.hits += 1
        return entry.node

    def keep_decoded(self, path: str, node: Any, codec: Any, value: Any) -> None:
        """Keep what a codec made of a node, if that node is still the cached one.

        Not where no key leads (below a hidden directory, which a prefix can name):
        hits on decoded values don't check keys.
        """
        entry = self.hot.get(path)
        if entry is not None and entry.node is node and PLAIN.readable("", path[1:]):
            entry.decoded = (codec, value)

    def load(
        self,
        path: str,
        fetch: Callable[[], tuple[Any, int]],
        ttl_of: Callable[[Any], int | None],
        left: Callable[[], float | None] = lambda: None,
    ) -> Any:
        """Fetch a node that was missed, or wait for the thread that does.

        `fetch` returns the node and the index of the store.  What it raises is raised
        in all that wait for it.  `left` returns the seconds that the caller still has.
        """
        self._misses += 1
        while True:
            flight, mine = self._join(path)
            if flight is None:
                # Another thread has stored it meanwhile.
                node = self.get(path)
                if node is not None:
                    return node
                continue
            if mine:
                return self._fly(flight, fetch, ttl_of)
            patience = left()
            # Half of the time; the rest is for a request of its own.
            if not flight.done.wait(None if patience is None else patience / 2):
                self._forget_flight(flight)
                return fetch()[0]
            if flight.error is not None:
                raise copy.copy(flight.error)
            if flight.value is not None:
                return flight.value
            # Its thread was interrupted: look again, one of those waiting takes over.

    def _join(self, path: str) -> tuple[_Flight | None, bool]:
        """Return the flight to wait for, or a new one and True; None on a hit."""
        with self._lock:
            entry = self.hot.get(path)
            if entry is not None and entry.expires > self.timer():
                return None, False
            flight = self._flights.get(path)
            if flight is not None:
                return flight, False
            flight = self._flights[path] = _Flight(self.begin(path))
            return flight, True

    def _forget_flight(self, flight: _Flight) -> None:
        """Have nobody else wait for a flight."""
        with self._lock:
            if self._flights.get(flight.read.path) is flight:
                del self._flights[flight.read.path]

    def _fly(
        self,
        flight: _Flight,
        fetch: Callable[[], tuple[Any, int]],
        ttl_of: Callable[[Any], int | None],
    ) -> Any:
        read = flight.read
        index = 0
        entries: list[tuple[str, Any, int | None]] = []
        try:
            node, index = fetch()
            entries.append((read.path, node, ttl_of(node)))
            flight.value = node
        except Exception as error:
            flight.error = error
            raise
        finally:
            # Under one lock: in between, others would find neither flight nor entry.
            with self._lock:
                self._forget_flight(flight)
                self.end(read, entries, index)
            flight.done.set()
        return node

    def begin(self, path: str) -> Read:
        """Note that a read of this node, and maybe of all below it, begins.

        Each needs a call of `end`, also if it fails.
        """
        read = Read(path.rstrip("/"), self.timer())
        with self._lock:
            self._reads.add(read)
        return read

    def end(
        self, read: Read, entries: Iterable[tuple[str, Any, int | None]], index: int
    ) -> None:
        """Store what a read brought, unless it was spoilt: path, node and its ttl."""
        with self._lock:
            self._reads.discard(read)
            if not read.spoilt:
                self._keep(read, entries, index)

    def _keep(
        self, read: Read, entries: Iterable[tuple[str, Any, int | None]], index: int
    ) -> None:
        above = self._ends_above(read)
        for path, node, node_ttl in entries:
            there = self.hot.get(path)
            if UNREADABLE in path or (there is not None and there.index > index):
                continue  # no key leads there, and hits don't check keys
            ends = above
            if node_ttl is not None:  # less the second by which it is rounded up
                ends = min(ends, read.began + node_ttl - 1)
            # A directory is kept even if it expires now: it bounds what is read below.
            if ends > read.began or hasattr(node, "children"):
                expires = min(read.began + self.ttl, ends)
                self._store[path] = Entry(node, expires, ends, index)
            elif there is not None:
                self._store.drop(path)  # out of date

    def _ends_above(self, read: Read) -> float:
        """Return when the directories above a read end, as far as is known here."""
        ends, path = math.inf, read.path
        while path:
            path = path.rpartition("/")[0]
            entry = self.hot.get(path)
            # A directory seen long after its end was made anew, and that ttl is gone.
            if entry is not None and entry.ends > read.began - _LATE:
                ends = min(ends, entry.ends)
        return ends

    # --- writes

    def invalidate(self, path: str) -> None:
        """Forget a node and all below it, after a write."""
        path = path.rstrip("/")
        with self._lock:
            self._store.drop(path)
            for read in self._reads:
                if _overlap(read.path, path):
                    read.spoilt = True
                    self._flights.pop(read.path, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._store.drop("")
            for read in self._reads:
                read.spoilt = True
            self._flights.clear()
            self.hits = self._misses = 0

    def info(self) -> CacheInfo:
        """Return what the cache did."""
        with self._lock:
            size = len(self._store)
            return CacheInfo(self.hits, self._misses, size, self.size, self.ttl)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


class _Store(cachetools.FIFOCache[str, Entry]):
    """Entries by path; it knows the paths below a directory without looking at all."""

    def __init__(self, size: int, hot: dict[str, Entry]) -> None:
        super().__init__(size)
        self._hot = hot
        # Directory -> paths right below it that are stored, or lead to such.
        self._below: dict[str, set[str]] = {}

    def __setitem__(self, path: str, entry: Entry) -> None:
        super().__setitem__(path, entry)
        self._hot[path] = entry
        while path:
            parent = path.rpartition("/")[0]
            siblings = self._below.setdefault(parent, set())
            if path in siblings:
                return
            siblings.add(path)
            path = parent

    def __delitem__(self, path: str) -> None:
        super().__delitem__(path)
        del self._hot[path]
        while path and path not in self._below and path not in self:
            parent = path.rpartition("/")[0]
            siblings = self._below[parent]
            siblings.discard(path)
            if siblings:
                return
            del self._below[parent]
            path = parent

    def drop(self, path: str) -> None:
        """Delete an entry and all below it."""
        for below in tuple(self._below.get(path, ())):
            self.drop(below)
        if path in self:
            del self[path]

"""A passive TTL cache of nodes, by absolute path; one for each client.

The only module that imports cachetools.

Theory of operation
-------------------
*Whose writes are seen when.*  The cache never waits for etcd and is told of
nothing that other processes do: their writes are seen once an entry has
expired.  Writes over the same client call `invalidate` after their answer came,
or failed to come; from then on nobody gets what was there before.

*Slow reads.*  Of two answers the one with the higher index of the store shows the
newer state, whichever came last: it stays.  A read that began before a write of
ours ended may bring the old value after it, with nothing stored to compare with.
So every read is known from `begin` to `end`; `invalidate` marks those under way
that overlap as *spoilt*, and what a spoilt read brings is not stored.

*Concurrent misses.*  The first thread that misses a path makes the request; the
others wait for it (`load`).  A spoilt read takes no more followers: a thread that
comes after a write starts a read of its own.

*Age.*  An entry counts from the moment its read began, and ends with the key's
own ttl, less the second by which etcd rounds that up; or with that of a directory
above it.  Nodes show nothing of that one.  A listing shows both, and primes an entry
of the directory, which bounds what is read below it later for as long as it is held.

*Threads.*  Hits take no lock: they are one lookup in a plain dict (`hot`), which
mirrors the store.  All else happens under one lock, never held during I/O.

Absent keys are not cached, so a key that appears is seen at once; nor are lists
of children, so a loop sees new keys, but it primes the entries of all of them.

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
from etcdmap.paths import PLAIN, UNREADABLE

#: Entries.  About 4 MiB with small values.
DEFAULT_SIZE = 10_000

#: Seconds by which etcd may be late to end what has expired, at most.
_LATE = 5.0


class CacheInfo(NamedTuple):
    """What a cache did since it was made or cleared; counts are close, not exact.

    Attributes:
        hits: reads answered without a request.
        misses: reads that made one, or waited for another thread's.
        currsize: entries held, expired ones included.
        maxsize: the limit.
        ttl: seconds for which an entry counts.
    """

    hits: int
    misses: int
    currsize: int
    maxsize: int
    ttl: float


@dataclass(slots=True, eq=False)
class Entry:
    """A node, until when it counts, and what a codec made of it.

    Attributes:
        node: what was read.
        expires: on the clock of the cache's timer.
        ends: when the node may end by its ttl or that of a directory above it, on
            the same clock; infinity for never, as far as was seen.
        index: the index of the store when it was read.
        decoded: a codec and the value that it made, for values that nobody can
            change; None where none is kept.
    """

    node: Any
    expires: float
    ends: float
    index: int
    decoded: tuple[Any, Any] | None = None


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
    """See the module's text.

    Args:
        ttl: seconds for which an entry counts.
        size: most entries to hold.
        timer: gives the time in seconds; for tests.
    """

    def __init__(
        self,
        ttl: float,
        size: int = DEFAULT_SIZE,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"cache_size is an int, not {type(size).__name__}")
        if size < 1:
            raise ValueError(f"cache_size must be at least 1, not {size}")
        self.ttl = ttl
        self.size = size
        self.timer = timer
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start empty: the lock may be held, by a thread that is not here."""
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

        Not where no key leads, as into a directory that is hidden, which only a
        prefix names: what is kept is handed out to all mappings without a check of
        their keys.
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

        `fetch` gives the node and the index of the store.  What it raises is raised
        to all that waited for it.  `left` tells how long the caller still has.
        """
        self._misses += 1
        while True:
            flight, mine = self._join(path)
            if flight is None:
                # It came while this thread was on its way here.
                node = self.get(path)
                if node is not None:
                    return node
                continue
            if mine:
                return self._fly(flight, fetch, ttl_of)
            patience = left()
            # Half of the time: the rest is for asking oneself.
            if not flight.done.wait(None if patience is None else patience / 2):
                self._forget_flight(flight)
                return fetch()[0]
            if flight.error is not None:
                raise copy.copy(flight.error)
            if flight.value is not None:
                return flight.value
            # Its thread was interrupted; one of those waiting takes over.

    def _join(self, path: str) -> tuple[_Flight | None, bool]:
        """Return the flight to wait for, or a new one and True; None for no need."""
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
        """Have nobody else wait for a flight that takes too long, or never ends."""
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
            with self._lock:  # one hold: nobody may find neither flight nor entry
                self._forget_flight(flight)
                self.end(read, entries, index)
            flight.done.set()
        return node

    def begin(self, path: str) -> Read:
        """Note that a read of this node, and maybe of all below it, begins."""
        read = Read(path.rstrip("/"), self.timer())
        with self._lock:
            self._reads.add(read)
        return read

    def end(
        self, read: Read, entries: Iterable[tuple[str, Any, int | None]], index: int
    ) -> None:
        """Store what a read brought, unless it was spoilt.

        Must be called for every `begin`, with no entries if the read failed.

        Args:
            read: what `begin` gave.
            entries: path, node and the node's own ttl.
            index: the index of the store in the answer.
        """
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
            # A directory that is about to end is held for what is read below it.
            if ends > read.began or hasattr(node, "children"):
                expires = min(read.began + self.ttl, ends)
                self._store[path] = Entry(node, expires, ends, index)
            elif there is not None:
                self._store.drop(path)  # older, and the newer one can't be kept

    def _ends_above(self, read: Read) -> float:
        """Return when the directories above a read end, as far as is known here."""
        ends, path = math.inf, read.path
        while path:
            path = path.rpartition("/")[0]
            entry = self.hot.get(path)
            # What is still there long after was made anew, without that ttl.
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
        """Tell what the cache did."""
        with self._lock:
            size = len(self._store)
            return CacheInfo(self.hits, self._misses, size, self.size, self.ttl)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


class _Store(cachetools.FIFOCache[str, Entry]):
    """Entries by path, which also knows what is stored below a directory.

    Without that, every delete would have to look at all paths held.
    """

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

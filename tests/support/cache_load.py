"""Many threads that read and write few keys through one cache, and what they see."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from etcdmap import EtcdMapping
from etcdmap.cache import ReadCache
from etcdmap.connecting import make_client
from etcdmap.transport import Answer
from etcdmap.transport import Request as HTTPRequest

from support.fake_etcd import FakeEtcd
from support.transports import Instantly

PREFIX = "/load"


@dataclass(frozen=True)
class Load:
    """What to run.

    Attributes:
        seconds: how long.
        cache_ttl: seconds for which an entry counts.
        writers: every other one over a client of its own, as another process.
        pause: seconds between two writes of a writer.
        latency: seconds that etcd takes.
    """

    seconds: float
    cache_ttl: float = 1.0
    readers: int = 32
    writers: int = 4
    keys: int = 100
    pause: float = 0.05
    latency: float = 0.001


@dataclass
class Figures:
    """What came of it.

    Attributes:
        seconds: from the first read to the last.
        reads: by all threads.
        requests: GETs by key.
        writes: PUTs by key.
        oldest: the greatest age of a value read that had been replaced, seconds.
        slowest: the longest exchange, seconds.
        wrong: what must not be, in words.
    """

    load: Load
    seconds: float = 0.0
    reads: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    oldest: float = 0.0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def allowed(self, key: str) -> float:
        """Give how many requests a key may cost: one for each ttl, one a write."""
        return 1 + self.seconds // self.load.cache_ttl + self.writes[key]


class _Timed(Instantly):
    """A transport that notes the longest exchange."""

    def __init__(self, inner: FakeEtcd) -> None:
        self._inner = inner
        self.slowest = 0.0

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        start = time.monotonic()
        try:
            return self._inner.exchange(endpoint, request, timeout)
        finally:
            self.slowest = max(self.slowest, time.monotonic() - start)

    def close(self) -> None:
        self._inner.close()


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.figures = Figures(load)
        self.etcd = FakeEtcd(load.latency)
        self.transport = _Timed(self.etcd)
        cache = ReadCache(load.cache_ttl)
        client = make_client(
            "http://fake:1", self.transport, cache=cache, max_stale=3600.0
        )
        self.mapping = EtcdMapping(client=client, prefix=PREFIX)
        #: Another process, whose writes the cache is told nothing of.
        others = make_client("http://fake:1", self.transport, max_stale=3600.0)
        self.others = EtcdMapping(client=others, prefix=PREFIX)
        self.keys = [f"k{n}" for n in range(load.keys)]
        self._lock = threading.Lock()
        self._start = threading.Barrier(load.readers + load.writers)
        self._end = threading.Event()

    def run(self) -> Figures:
        """Run it."""
        for key in self.keys:
            self.mapping[key] = 0
        self.etcd.counts.clear()
        load, figures = self.load, self.figures
        threads = load.readers + load.writers
        begin = time.monotonic()
        with _eager_threads(), ThreadPoolExecutor(threads) as pool:
            work = [pool.submit(self._read, n) for n in range(load.readers)]
            work += [pool.submit(self._write, n) for n in range(load.writers)]
            self._end.wait(load.seconds)
            self._end.set()
            for each in work:
                each.result()
        figures.seconds = time.monotonic() - begin
        for key in self.keys:
            figures.requests[key] = self.etcd.reads(f"{PREFIX}/{key}")
            figures.writes[key] = self.etcd.writes(f"{PREFIX}/{key}")
        figures.slowest = self.transport.slowest
        return figures

    def _read(self, who: int) -> None:
        rng = random.Random(who)
        last = dict.fromkeys(self.keys, 0)
        reads, oldest = 0, 0.0
        self._start.wait()
        while not self._end.is_set():
            for key in rng.choices(self.keys, k=50):
                start = time.monotonic()
                value = self.mapping[key]
                replaced = self.etcd.ended(f"{PREFIX}/{key}", str(value))
                oldest = max(oldest, start - replaced)
                if value < last[key]:
                    self._wrong(f"{key} went back from {last[key]} to {value}")
                last[key] = value
                reads += 1
        with self._lock:
            self.figures.reads += reads
            self.figures.oldest = max(self.figures.oldest, oldest)

    def _write(self, who: int) -> None:
        rng = random.Random(who)
        mine = self.keys[who :: self.load.writers]
        written = dict.fromkeys(mine, 0)
        self._start.wait()
        while not self._end.wait(self.load.pause):
            key = rng.choice(mine)
            written[key] += 1
            if who % 2:
                self.others[key] = written[key]
                continue
            self.mapping[key] = written[key]
            for one in (key, rng.choice(mine)):
                value = self.mapping[one]
                if value != written[one]:
                    self._wrong(f"{one} is {value} after {written[one]} was written")

    def _wrong(self, what: str) -> None:
        with self._lock:
            self.figures.wrong.append(what)


@contextmanager
def _eager_threads() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def run_load(load: Load) -> Figures:
    """Run a load, and give what came of it; an error of a thread is raised."""
    return _Run(load).run()

"""How quickly callbacks are called, and what an event costs, beside python-etcd."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.speed.clients import OURS, PYTHON_ETCD
from benchmarks.speed.measure import Job, Sample, ratio, run_rounds
from benchmarks.speed.model import Check
from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

PREFIX = "/events"
#: Seconds between two writes, one by one.
PACE = 0.004
WRITERS = 16
#: What the last writer writes.
STOP = "stop"

#: Gets a value.
Call = Callable[[str], object]
#: How to follow: calls for each value; its return ends it.  It adds what could not be
#: told one by one to a list.
Following = Callable[[str, Call, "list[str]"], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def by_live(endpoint: str, call: Call, lost: list[str]) -> Iterator[None]:
    """Follow by a live replica."""

    def told(event: Any) -> None:
        if event.coalesced:
            lost.append(event.key)
        call(event.value)

    with (
        EtcdMapping(endpoint, PREFIX, codec="text") as mapping,
        mapping.live() as live,
        live.subscribe(told),
    ):
        yield


@contextlib.contextmanager
def by_python_etcd(endpoint: str, call: Call, lost: list[str]) -> Iterator[None]:
    """Follow by python-etcd's watch, in a loop in a thread."""
    import etcd

    place, ended = urlsplit(endpoint), threading.Event()
    client = etcd.Client(host=place.hostname, port=place.port, read_timeout=60)

    def loop(index: int) -> None:
        while not ended.is_set():
            try:
                found = client.watch(PREFIX, index=index, recursive=True)
            except etcd.EtcdEventIndexCleared:
                lost.append(PREFIX)
                index = client.read(PREFIX).etcd_index + 1
                continue
            index = found.modifiedIndex + 1
            call(found.value)

    start = client.read(PREFIX).etcd_index + 1
    threading.Thread(target=loop, args=(start,), daemon=True).start()
    yield
    ended.set()
    client.write(f"{PREFIX}/ended", STOP)


def followings() -> dict[str, Following]:
    """Return what there is to measure; python-etcd may be missing."""
    found: dict[str, Following] = {OURS: by_live}
    if importlib.util.find_spec("etcd") is not None:
        found[PYTHON_ETCD] = by_python_etcd
    return found


@contextlib.contextmanager
def _one_member() -> Iterator[str]:
    with LocalCluster(fsync=False) as cluster:
        (endpoint,) = cluster.endpoints
        with EtcdMapping(endpoint, PREFIX, codec="text") as mapping:
            mapping["begun"] = "yes"
        yield endpoint


# --- one by one


def told(rounds: int, count: int) -> Iterator[Check]:
    """Measure from the return of a write to the callback, all in one process."""
    with _one_member() as endpoint:
        jobs = {
            name: _one_by_one(endpoint, following, count)
            for name, following in followings().items()
        }
        samples = run_rounds(jobs, rounds)
    for name, found in samples.items():
        p50 = statistics.median(sample["p50"] for sample in found)
        print(f"from set to callback, {name}: {p50:.0f} us, the median")
    if PYTHON_ETCD in samples:
        share = ratio(samples[OURS], samples[PYTHON_ETCD], "p50")
        yield Check("from set to callback: p50, to python-etcd", share, 0.6)


def _one_by_one(endpoint: str, following: Following, count: int) -> Job:
    def job() -> Sample:
        called: dict[str, float] = {}
        all_called = threading.Event()

        def call(value: str) -> None:
            called[value] = time.perf_counter()
            if value == str(count - 1):
                all_called.set()

        with (
            EtcdMapping(endpoint, PREFIX, codec="text") as writer,
            following(endpoint, call, []),
        ):
            returned = []
            for number in range(count):
                time.sleep(PACE)
                writer["told"] = str(number)
                returned.append(time.perf_counter())
            if not all_called.wait(5):
                raise AssertionError("not all were told")
        late = [called[str(n)] - seconds for n, seconds in enumerate(returned)]
        return {"p50": 1e6 * statistics.median(late)}

    return job


# --- many


def rate(count: int, per_second: int = 5000) -> Iterator[Check]:
    """Have many writers write at a rate, and follow in a process."""
    cpu = {}
    with _one_member() as endpoint:
        for name, following in followings().items():
            written = _Writers(endpoint, count, per_second)
            events, lost, cpu[name], late = _followed(endpoint, following, written)
            print(
                f"{name}: {written.per_second:,.0f} writes a second; {events:,} "
                f"events, {lost} not one by one; {cpu[name]:.0f} us CPU an event; the "
                f"last one {1000 * late:.0f} ms after its write"
            )
            if name == OURS:
                least = 0.95 * per_second
                yield from _keeps_up(f"{WRITERS} writers", written, events, lost, least)
    if PYTHON_ETCD in cpu:
        share = cpu[OURS] / cpu[PYTHON_ETCD]
        yield Check(f"{WRITERS} writers: CPU an event, to python-etcd", share, 0.25)


def _keeps_up(
    name: str, written: _Writers, events: int, lost: int, least: float
) -> Iterator[Check]:
    """Check that each write was told, and all alone, at that rate at least."""
    missing = max(0, written.count + 1 - events)
    yield Check(f"{name}: not told one by one", lost + missing, 0, unit="")
    reached = round(written.per_second)
    yield Check(f"{name}: a second", reached, least, higher=True, unit="")


def busy(seconds: float, per_second: int = 1000) -> Iterator[Check]:
    """Have a thread compute beside a replica, and write at a rate."""
    with _one_member() as endpoint:
        written = _Writers(endpoint, int(seconds * per_second), per_second)
        events, lost, _, late = _followed(endpoint, by_live, written, spin=True)
        print(
            f"beside a busy thread: {written.per_second:,.0f} writes a second; the "
            f"last one seen {1000 * late:.0f} ms after its write"
        )
        least = 0.9 * per_second
        yield from _keeps_up("beside a busy thread", written, events, lost, least)


class _Writers:
    """Two processes with bare sockets: cheap, so that the follower gets the CPU."""

    def __init__(self, endpoint: str, count: int, per_second: float) -> None:
        self._endpoint = endpoint
        self.count = count
        self._per_second = per_second
        self.per_second = 0.0

    def run(self) -> float:
        """Write; return when the last one was written."""
        context = multiprocessing.get_context("spawn")
        share = self.count // 2
        arguments = (self._endpoint, share, self._per_second / 2)
        with context.Pool(2) as pool:
            spans = pool.starmap(_write, [(*arguments, f"{n}") for n in range(2)])
        self.per_second = (
            2
            * share
            / (max(end for _, end in spans) - min(start for start, _ in spans))
        )
        with EtcdMapping(self._endpoint, PREFIX, codec="text") as mapping:
            mapping["last"] = STOP
        return time.perf_counter()


def _write(
    endpoint: str, count: int, per_second: float, name: str
) -> tuple[float, float]:
    """Write to keys of a directory on several connections; return from when to when."""
    place = urlsplit(endpoint)
    width = WRITERS // 2
    lines = [
        socket.create_connection((place.hostname, place.port or 0))
        for _ in range(width)
    ]
    begun = time.perf_counter()
    for number in range(0, count, width):
        batch = lines[: count - number]
        for at, line in enumerate(batch, number):
            body = f"value={at}"
            line.sendall(
                f"PUT /v2/keys{PREFIX}/{name}-{at % 200} HTTP/1.1\r\nHost: etcd\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        for line in batch:
            if not line.recv(65536).startswith(b"HTTP/1.1 20"):
                raise AssertionError("a write was refused")
        time.sleep(max(0.0, begun + number / per_second - time.perf_counter()))
    return begun, time.perf_counter()


def _followed(
    endpoint: str, following: Following, written: _Writers, *, spin: bool = False
) -> tuple[int, int, float, float]:
    """Follow in a process of its own while it is written.

    Returns how many events there were, and how many told more than one change; the
    CPU time of one in microseconds, and how long after the last write the last came.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, endpoint, following, spin)
    process = context.Process(target=_follow, args=arguments, daemon=True)
    process.start()
    here.recv()  # it follows
    last = written.run()
    if not here.poll(60):
        raise AssertionError("the last event was not told")
    events, lost, cpu, seen = here.recv()
    process.join()
    return events, lost, 1e6 * cpu / events, seen - last


def _follow(pipe: Any, endpoint: str, following: Following, spin: bool) -> None:
    events, lost = itertools.count(), list[str]()
    done = threading.Event()
    seen = 0.0

    def call(value: str) -> None:
        nonlocal seen
        next(events)
        if value == STOP:
            seen = time.perf_counter()
            done.set()

    def compute() -> None:
        while not done.is_set():
            sum(range(100))

    with following(endpoint, call, lost):
        if spin:
            threading.Thread(target=compute, daemon=True).start()
        time.sleep(0.1)
        used = time.process_time()
        pipe.send(True)
        done.wait(60)
        used = time.process_time() - used
    pipe.send((next(events), len(lost), used, seen))

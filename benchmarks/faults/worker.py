"""The process of a client under test, and that of the one who writes beside it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults import writes
from benchmarks.faults.clients import Setup, find_factory
from benchmarks.faults.judge.events import Line
from benchmarks.faults.judge.history import Level, Op, Recorder
from benchmarks.faults.workloads import (
    FOREIGN,
    Seat,
    Stopped,
    alternate,
    contend,
    count,
    pace,
    read,
)

_FORKS = 4
#: After the call that runs when the workload is stopped.
_GRACE = 5.0


class Job(NamedTuple):
    """What a client's process shall do."""

    client: str
    factory: str
    setup: Setup
    workload: str
    rate: float
    history: Path
    #: No process outlives this moment of `time.monotonic`.
    deadline: float

    @property
    def warnings(self) -> Path:
        """Where the client's warnings are written, one a line."""
        return self.history.with_suffix(".warnings")


Loop = Callable[[Seat, float, Stopped], None]


class Part(NamedTuple):
    """What one thread does."""

    loop: Loop
    #: What its reads promise, if not what the client was made with.
    level: Level | None = None
    #: Whether it has a client of its own, that no other thread leads elsewhere.
    alone: bool = False


#: By name: the threads of the client's process.
WORKLOADS: dict[str, tuple[Part, ...]] = {
    "mixed": (Part(alternate),),
    "mixed+reader": (Part(alternate), Part(read)),
    "mixed+any": (Part(alternate), Part(read, "any")),
    "read": (Part(read),),
    "threads": (Part(alternate),) * 8,
    "forks": (Part(alternate),),
    "contend": (Part(contend),),
    "count": (Part(count),),
    "unfenced": tuple(
        Part(loop, alone=True)
        for loop in (
            writes.append,
            writes.create,
            writes.mkdir,
            writes.swap,
            writes.put,
        )
    ),
    "heartbeat": (Part(writes.beat),),
    "bulk": (Part(writes.bulk),),
    "bulk-large": (Part(writes.bulk_large),),
}


def work(job: Job, stop: Signal) -> None:
    """Run a client until it is told to stop; the target of a process."""
    warnings.showwarning = lambda text, *_: _note_warning(job, str(text))
    warnings.simplefilter("always")
    for kind in (ResourceWarning, DeprecationWarning):
        warnings.simplefilter("ignore", kind)
    subject = find_factory(job.factory)(job.setup)
    recorder = Recorder(job.history, subject.outcome)
    stopped = stopper(job.deadline, stop)
    seat = Seat(subject, recorder, job.client, 0, job.setup.level)
    if job.workload == "forks":
        _fork(seat, job, stop)
    else:
        _run_threads(seat, job, stopped)
    recorder.close()
    with contextlib.suppress(Exception):
        subject.close()
    # Threads that hang must not keep the process.
    os._exit(0)


def stopper(deadline: float, stop: Signal, parent: int | None = None) -> Stopped:
    """Make the function that tells a process when to end, also if nobody says so."""
    if parent is None:
        # Not getppid(): the parent may be gone by now.
        process = multiprocessing.parent_process()
        assert process is not None
        assert process.pid is not None
        parent = process.pid

    def stopped() -> bool:
        late = time.monotonic() > deadline or os.getppid() != parent
        return late or stop.is_set()

    return stopped


def _run_threads(seat: Seat, job: Job, stopped: Stopped) -> None:
    threads = []
    for number, part in enumerate(WORKLOADS[job.workload]):
        mine = seat._replace(thread=number)
        if part.level is not None:
            subject = seat.subject.using(part.level)
            # A session of its own: nothing is promised between the two.
            mine = mine._replace(
                subject=subject, level=part.level, client=f"{job.client}-{part.level}"
            )
        if part.alone:
            name = f"{job.client}-{part.loop.__name__}"
            subject = find_factory(job.factory)(job.setup)
            mine = mine._replace(subject=subject, client=name)
        arguments = (mine, job.rate, stopped)
        threads.append(threading.Thread(target=part.loop, args=arguments, daemon=True))
    for thread in threads:
        thread.start()
    while not stopped():
        time.sleep(0.02)
    end = time.monotonic() + job.setup.timeout + _GRACE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _fork(seat: Seat, job: Job, stop: Signal) -> None:
    """Use the client once, then share it with forked children."""
    seat.do("get", FOREIGN)
    children = []
    parent = os.getpid()
    for number in range(_FORKS):
        pid = os.fork()
        if pid == 0:
            seat.recorder.forget_open()
            stopped = stopper(job.deadline, stop, parent)
            mine = seat._replace(client=f"{job.client}f{number}")
            _run_threads(mine, job._replace(client=mine.client), stopped)
            seat.recorder.close()
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def _note_warning(job: Job, text: str) -> None:
    with job.warnings.open("a", encoding="utf-8") as file:
        file.write(" ".join(text.split()) + "\n")


# --- the other process


class Foreign(NamedTuple):
    """Who writes the foreign key, and where."""

    endpoints: tuple[str, ...]
    prefix: str
    rate: float
    history: Path
    deadline: float


def write_foreign(job: Foreign, stop: Signal) -> None:
    """Write one key through some members until told to stop; a process's target.

    Every write compares with the index of the one before.  So none of them comes late,
    and what goes wrong on this key is the judged client's doing.
    """
    recorder = Recorder(job.history, lambda *_: "unknown")
    writer = _FencedWriter(job.endpoints, f"/v2/keys{job.prefix}/{FOREIGN}")
    stopped = stopper(job.deadline, stop)
    numbers = itertools.count()
    for _ in pace(job.rate, stopped):
        value = f"foreign.{next(numbers)}"
        template = Op("foreign", "set", FOREIGN, 0.0, 0.0, value=value, judged=False)
        recorder.run(lambda value=value: writer.write(value), template)  # type: ignore[misc]
    recorder.close()


class _FencedWriter:
    def __init__(self, endpoints: tuple[str, ...], path: str) -> None:
        self._lines = itertools.cycle(Line(url, 1.0) for url in endpoints)
        self._line = next(self._lines)
        self._path = path
        self._index: int | None = None

    def write(self, value: str) -> None:
        try:
            if self._index is None:
                node = self._line.ask("GET", f"{self._path}?quorum=true").body
                self._index = node.get("node", {}).get("modifiedIndex", 0)
            fence = f"prevIndex={self._index}" if self._index else "prevExist=false"
            answer = self._line.ask("PUT", f"{self._path}?{fence}", f"value={value}")
            self._index = answer.body["node"]["modifiedIndex"]
        except (OSError, http.client.HTTPException, LookupError, ValueError):
            self._index = None
            self._line = next(self._lines)
            raise

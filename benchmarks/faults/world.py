"""The world of one run: a cluster, the clients' processes, and those who watch."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from benchmarks.faults.clients import Setup
from benchmarks.faults.following import Assignment, follow, read_notes
from benchmarks.faults.judge.events import EventLog, Line, Watcher, read_all
from benchmarks.faults.judge.following import Notes
from benchmarks.faults.judge.history import Level, Op, load
from benchmarks.faults.row import TIMEOUT, Row
from benchmarks.faults.worker import Foreign, Job, work, write_foreign
from etcdmap.local import LocalCluster, Member

from support.isolation import SplitCluster
from support.tcp_proxy import TcpProxy

T = TypeVar("T")

PREFIX = "/faults"
USER, PASSWORD = "root", "correct horse"
_FOREIGN_RATE = 20.0
#: Calls a second of one thread, where that is not the command line's to say; of
#: threads and forks 400 together.
_RATES = {
    "threads": 50.0,
    "forks": 100.0,
    "unfenced": 20.0,
    "heartbeat": 2.0,
    "count": 50.0,
    "bulk": 1 / 6,
    "bulk-large": 1 / 6,
}
#: The client that does the same beside the one under test.
PEER = "python-etcd"
_LONGEST_RUN = 120.0
_JOIN = 15.0


class Options(NamedTuple):
    """What the command line says, for all rows."""

    factory: str = "etcdmap"
    level: Level = "session"
    rate: float = 200.0
    timeout: float = TIMEOUT
    client_options: tuple[tuple[str, Any], ...] = ()
    binary: str | None = None
    #: Whether `PEER` is there to do the same, in the rows that ask for it.
    beside: bool = False


class _Processes:
    """Those that are told to stop by one signal."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._started: list[SpawnProcess] = []

    def start(self, target: Callable[[T, Signal], None], job: T) -> None:
        process = self._context.Process(target=target, args=(job, self._stop))
        process.start()
        self._started.append(process)

    def stop(self, patience: float) -> None:
        """Wait for them so many seconds; kill those that are left."""
        self._stop.set()
        end = time.monotonic() + patience
        for process in self._started:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._started.clear()


class World:
    """Starts everything a row needs; a context manager.

    Attributes:
        cluster: of three members.
        logs: what the cluster did; one more for each time that it lost its data.
        proxy: what those who follow go through, in the rows that ask for it.
    """

    proxy: TcpProxy | None = None

    def __init__(self, row: Row, options: Options) -> None:
        self._row = row
        self._options = options
        self._tmp = tempfile.TemporaryDirectory(prefix="etcdmap-faults-")
        self._dir = Path(self._tmp.name)
        kind = SplitCluster if row.split else LocalCluster
        self.cluster = kind(
            3, election_timeout=1.0, heartbeat=0.1, binary=options.binary
        )
        self._clients, self._followers = _Processes(), _Processes()
        self._watcher: Watcher | None = None
        self.logs: list[EventLog] = []

    def __enter__(self) -> World:
        try:
            self.cluster.start()
            if self._row.auth:
                enable_auth(self.cluster.leader())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started."""
        self.stop_clients()
        if self.proxy is not None:
            self.proxy.__exit__()
        self.cluster.close()
        self._tmp.cleanup()

    # --- clients

    def start_clients(self) -> None:
        """Start all processes, and watch from before their first operation."""
        leader = self.cluster.leader()
        followers = [member for member in self.cluster.members if member is not leader]
        order = [leader, *followers]
        if self._row.in_use == "follower":
            order = [*followers, leader]
        endpoints = tuple(member.endpoint for member in order)
        if self._row.watched:
            self.watch(order[0])
        deadline = time.monotonic() + _LONGEST_RUN
        # Not where requests to other members are counted.
        if self._row.watched and not self._row.auth:
            self._clients.start(
                write_foreign,
                Foreign(
                    (*endpoints[1:], endpoints[0]),
                    PREFIX,
                    _FOREIGN_RATE,
                    self._dir / "foreign.jsonl",
                    deadline,
                ),
            )
        for number in range(self._row.clients):
            turned = endpoints[number:] + endpoints[:number]
            self._clients.start(work, self._job(f"c{number}", turned, deadline))
        if self.beside:
            job = self._job(PEER, endpoints, deadline)
            setup = job.setup._replace(level="any", options=())
            self._clients.start(work, job._replace(factory=PEER, setup=setup))
        if self._row.followed:
            self._follow(endpoints, deadline)

    def _follow(self, endpoints: tuple[str, ...], deadline: float) -> None:
        """Start those who follow, once there is something."""
        if self._row.proxied:
            self.proxy = TcpProxy(endpoints[0])
            endpoints = (self.proxy.__enter__().endpoint,)
        job = Assignment(
            endpoints, PREFIX, self._row.max_stale, self._dir / "notes", deadline
        )
        self._followers.start(follow, job)

    @property
    def follows(self) -> bool:
        """Whether those who follow have begun, where there are any."""
        return not self._row.followed or (self._dir / "notes.begun").exists()

    def notes(self) -> Notes:
        """Read what those who follow were told."""
        return read_notes(self._dir / "notes")

    @property
    def beside(self) -> bool:
        """Whether the other client is there."""
        return self._row.beside and self._options.beside

    def _job(self, client: str, endpoints: tuple[str, ...], deadline: float) -> Job:
        options = self._options
        setup = Setup(
            endpoints,
            PREFIX,
            options.level,
            self.timeout,
            USER if self._row.auth else None,
            PASSWORD if self._row.auth else None,
            (*self._row.options, *options.client_options),
        )
        return Job(
            client,
            options.factory,
            setup,
            self._row.workload,
            self.rate,
            self._dir / f"{client}.jsonl",
            deadline,
        )

    @property
    def rate(self) -> float:
        """Operations a second of one thread."""
        return _RATES.get(self._row.workload, self._options.rate)

    @property
    def timeout(self) -> float:
        """Of one call, seconds."""
        return self._row.timeout or self._options.timeout

    def stop_clients(self) -> None:
        """Have all processes end; kill those that don't."""
        self._clients.stop(self.timeout + _JOIN)
        # Last: they look at what is there at the end.
        self._followers.stop(3 * _JOIN)

    def ops(self) -> list[Op]:
        """Read what all clients did up to now."""
        return load(self._dir.glob("*.jsonl"))

    def last_op(self, client: str = "c0") -> Op | None:
        """Give the last operation of a client."""
        mine = [op for op in self.ops() if op.judged and op.client.startswith(client)]
        return max(mine, key=lambda op: op.end, default=None)

    def warnings(self) -> list[str]:
        """Give the warnings of all clients."""
        texts = [
            path.read_text(encoding="utf-8") for path in self._dir.glob("*.warnings")
        ]
        return [line for text in texts for line in text.splitlines()]

    # --- what the cluster itself says

    def watch(self, first: Member, after: int | None = None) -> None:
        """Begin to follow the cluster's events.

        Args:
            first: the member to ask first.
            after: an index; None for the present one.
        """
        others = [url for url in self.cluster.endpoints if url != first.endpoint]
        endpoints = [*others, first.endpoint]
        patience = 1.0
        if self._row.auth:  # where requests to other members are counted
            endpoints.reverse()
            patience = 20.0
        if after is None:
            _, after = read_all(endpoints, PREFIX)
        self._watcher = Watcher(endpoints, PREFIX, after, patience=patience)

    def end_watch(self, index: int | None) -> None:
        """Keep what was seen.

        Args:
            index: up to which the events are wanted; None where there is no asking.
        """
        if self._watcher is None:
            return
        log = self._watcher.stop(index or 0)
        complete = log.complete and index is not None
        self.logs.append(log._replace(complete=complete, final_index=index))
        self._watcher = None

    def final(self) -> tuple[Mapping[str, str], int]:
        """Read all values from the whole cluster, and the index."""
        return read_all(self.cluster.endpoints, PREFIX)


def enable_auth(member: Member) -> None:
    """Turn on v2's users; those without a password may still do everything."""
    line = Line(member.endpoint, 10.0)
    user = f'{{"user": "{USER}", "password": "{PASSWORD}"}}'
    for path, body in ((f"users/{USER}", user), ("enable", None)):
        answer = line.ask("PUT", f"/v2/auth/{path}", body)
        assert answer.status < 300, answer
    line.close()

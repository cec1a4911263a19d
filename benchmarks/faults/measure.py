"""One run of one row, and what is made of it."""

from __future__ import annotations

import dataclasses
import http.client
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from benchmarks.faults.actions import Stage
from benchmarks.faults.clients import HONEST
from benchmarks.faults.judge.calls import Bulk, count_expired, most_failed, sum_up_bulk
from benchmarks.faults.judge.checker import Report, check, longest_gap
from benchmarks.faults.judge.following import Followed, sum_up_following
from benchmarks.faults.judge.history import Op
from benchmarks.faults.row import Row
from benchmarks.faults.workloads import next_tick
from benchmarks.faults.world import PEER, Options, World

_WARM_UP = 1.5
#: From the start of a bulk write to the fault.
_INTO_CALL = 0.3
#: Within which a client notes what it was told; shorter than an outage.
_NOTED = 1.0


class Invalid(Exception):
    """The run was not the one wanted: the client had gone to another member."""


@dataclasses.dataclass
class Run:
    """What one run gave; times are in seconds, None where there is none.

    Attributes:
        write_gap: longest time without a successful write.
        read_gap: the same for reads, by the threads that write as well.
        reader_gap: the same for a thread that only reads.
        slowest: the longest call.
        resumed: from a healthy cluster after an outage to the first success.
        elsewhere: requests that other members than the one in use got, for each
            operation; only where nothing else asks them.
        left: how many times a call ended with another member in use than the one
            before it.
        operations: how many calls there were.
        failed: how many writes of one thread failed since the fault began, of the
            one that met most.
        expired: how often the keys that a heartbeat shall keep expired.
        bulk: of writes of many keys.
        followed: of a live replica and a watch.
        reports: of the checker; two where the cluster lost its data.
        warnings: of the clients.
    """

    write_gap: float | None
    read_gap: float | None
    reader_gap: float | None
    slowest: float
    resumed: float | None
    elsewhere: float | None
    left: int
    operations: int
    failed: int
    expired: int | None
    bulk: Bulk | None
    followed: Followed | None
    reports: list[Report]
    warnings: list[str]

    @property
    def unexpected(self) -> int:
        """How many errors were of a type that the documentation does not promise."""
        return sum(
            count
            for (kind, name), count in self.errors.items()
            if name not in HONEST or (kind == "get" and name == "OutcomeUnknown")
        )

    @property
    def errors(self) -> Counter[tuple[str, str]]:
        """The errors of all reports, by the kind of operation and the type."""
        found: Counter[tuple[str, str]] = Counter()
        for report in self.reports:
            for kind, errors in report.errors.items():
                found.update({(kind, name): n for name, n in errors.items()})
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON can take it."""
        return dataclasses.asdict(self)


def run_once(row: Row, options: Options) -> dict[str, Run]:
    """Run a row once.

    Returns:
        By the client's name; that of the client under test comes first.

    Raises:
        Invalid: the client used another kind of member than wanted.
    """
    with World(row, options) as world:
        world.start_clients()
        stage = _begin(world, row)
        before = _requests(world) if row.auth else {}
        stage.began = time.monotonic()
        row.fault(stage)
        stage.ended = time.monotonic()
        time.sleep(max(row.tail, stage.began + row.whole - stage.ended))
        until = time.monotonic()
        world.stop_clients()
        after = _requests(world) if row.auth else {}
        final, index = world.final()
        world.end_watch(index)
        ops = world.ops()
        theirs = [op for op in ops if op.client.startswith(PEER)]
        ops = [op for op in ops if not op.client.startswith(PEER)]
        run = _measure(row, stage, ops, until)
        _judge(run, world, stage, ops, final)
        if row.followed:
            gone, _ = stage.wiped or (math.inf, 0.0)
            run.followed = sum_up_following(world.notes(), ops, world.logs, gone)
        run.warnings = world.warnings()
        if row.auth:
            elsewhere = sum(
                after[url] - before[url]
                for url in after
                if url != stage.in_use.endpoint
            )
            run.elsewhere = elsewhere / max(run.operations, 1)
        runs = {options.factory: run}
        if world.beside:
            runs[PEER] = _measure(row, stage, theirs, until)
            _judge(runs[PEER], world, stage, theirs, final)
        return runs


def _begin(world: World, row: Row) -> Stage:
    """Wait for the moment in which the fault shall begin."""
    bulk = row.workload.startswith("bulk")
    _warm_up(world, bulk=bulk)
    stage = _stage(world, row)
    if bulk:  # not between two of them
        time.sleep(next_tick(world.rate) + _INTO_CALL - time.monotonic())
    return stage


def _warm_up(world: World, *, bulk: bool) -> None:
    """Wait until the clients work, and a little longer."""
    deadline = time.monotonic() + 30.0
    # A loop of thousands of writes has long begun when the first call for them ends.
    clients = ["c0", PEER] if world.beside and not bulk else ["c0"]
    while not (world.follows and all(map(world.last_op, clients))):
        if time.monotonic() > deadline:
            raise Invalid("the client did nothing")
        time.sleep(0.05)
    time.sleep(_WARM_UP)


def _stage(world: World, row: Row) -> Stage:
    op = world.last_op()
    assert op is not None
    stage = Stage(
        world.cluster,
        in_use=world.cluster.member(op.endpoint),
        leader=world.cluster.leader(),
        lasts=row.lasts,
        before_wipe=lambda: world.end_watch(None),
        after_wipe=lambda: world.watch(stage.in_use, after=0),
        proxy=world.proxy,
    )
    if (stage.in_use is stage.leader) != (row.in_use == "leader"):
        raise Invalid(f"{stage.in_use.name} is in use, {stage.leader.name} leads")
    return stage


def _measure(row: Row, stage: Stage, ops: list[Op], until: float) -> Run:
    mine = [op for op in ops if op.judged]
    writes = [op for op in mine if op.kind != "get"]
    # Where it is writes that count, who must know what is there looks now and then.
    reads = [op for op in mine if op.kind == "get" and not row.beside]
    beside = "+" in row.workload  # then thread 1 only reads

    def gap(some: list[Op]) -> float | None:
        return longest_gap(some, stage.began, until) if some else None

    during = [op for op in mine if op.end >= stage.began and op.end != float("inf")]
    clients = {op.client for op in during}
    successes = [op.end for op in writes or reads if op.outcome == "ok"]
    resumed = None
    if stage.healthy is not None:
        first = min((end for end in successes if end >= stage.healthy), default=until)
        resumed = first - stage.healthy
    if row.workload == "heartbeat":  # refused: too late, it has expired
        writes = [op for op in writes if op.outcome != "refused"]
    bulk = None
    if row.workload.startswith("bulk"):
        bulk = sum_up_bulk(mine, stage.began, stage.ended)
    return Run(
        write_gap=gap(writes) if bulk is None else None,
        read_gap=gap([op for op in reads if not (beside and op.thread == 1)]),
        reader_gap=gap([op for op in reads if beside and op.thread == 1]),
        slowest=max((op.end - op.start for op in during), default=0.0),
        resumed=resumed,
        elsewhere=None,
        left=sum(_moves([op for op in mine if op.client == c]) for c in clients),
        operations=len(during),
        failed=most_failed(mine, stage.began),
        expired=None,
        bulk=bulk,
        followed=None,
        reports=[],
        warnings=[],
    )


def _moves(ops: list[Op]) -> int:
    ended = sorted(ops, key=lambda op: op.end)
    return sum(one.endpoint != two.endpoint for one, two in pairwise(ended))


def _judge(
    run: Run, world: World, stage: Stage, ops: list[Op], final: Mapping[str, str]
) -> None:
    log = world.logs[0] if world.logs else None
    kept = {op.key for op in ops if op.kind == "refresh"}
    if kept and log is not None:
        run.expired = count_expired(log, kept)
    at_end = {**dict.fromkeys(op.key for op in ops), **final}
    if stage.wiped is None:
        run.reports = [check(ops, events=log, final=at_end)]
        return
    gone, empty = stage.wiped
    before = [op for op in ops if op.end <= gone]
    # A write that was on its way may have reached the new cluster.  One that was
    # acknowledged while members were being killed is gone with them.
    after = [
        op
        for op in ops
        if op.start >= empty
        or (
            op.writes
            and op.end > gone
            and (op.end > empty + _NOTED or op.outcome != "ok")
        )
    ]
    run.reports = [
        check(before, events=log),
        check(after, events=world.logs[1], final=at_end),
    ]


def _requests(world: World) -> dict[str, float]:
    """Ask members how many requests for keys they got."""
    counts = {}
    for member in world.cluster.members:
        # Patient: checking passwords keeps members busy for a while.
        connection = http.client.HTTPConnection(
            urlsplit(member.endpoint).netloc, timeout=30.0
        )
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.findall(r"^etcd_http_received_total\{.*\} (\S+)$", text, re.M)
        counts[member.endpoint] = sum(map(float, found))
    return counts

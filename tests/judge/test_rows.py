"""Whether the rows of `benchmarks.faults` fail when their limits are not held."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from benchmarks.faults.judge.calls import Bulk
from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.history import Op
from benchmarks.faults.judge.samples import LATE, events, op, write
from benchmarks.faults.measure import Run
from benchmarks.faults.report import Result
from benchmarks.faults.rows import ROWS


@pytest.fixture(scope="module")
def complaints() -> Any:
    """Give a function: what is said of a row whose one run gave this."""
    rows = {row.name: row for row in ROWS}

    def complain(name: str, *ops: Op, log: Any = None, **found: Any) -> list[str]:
        values: dict[str, Any] = {field.name: None for field in dataclasses.fields(Run)}
        values.update(slowest=0.0, left=0, operations=1, failed=0, warnings=[])
        values["reports"] = [check(ops, events=log)]
        run = Run(**{**values, **found})
        return Result(rows[name], [run], []).complaints(5.0)

    return complain


def test_rows_good_run_has_no_complaint(complaints: Any) -> None:
    """One call that ends unknown is all that a fault may cost."""
    late = op("append", "1", 0, 5, **LATE)
    assert not complaints(
        "unfenced-stop-follower", late, failed=1, write_gap=5.2, slowest=5.0
    )
    assert not complaints("heartbeat-cut-leader", failed=1, write_gap=2.8, expired=0)


def test_rows_second_call_that_fails_is_a_complaint(complaints: Any) -> None:
    """A member that hangs is left after the first."""
    (said,) = complaints("unfenced-stop-follower", failed=2)
    assert said == "failed calls in a thread: more than 1"
    (said,) = complaints("heartbeat-stop-leader", failed=2)
    assert said == "failed calls in a thread: more than 1"


def test_rows_error_of_another_type_is_a_complaint(complaints: Any) -> None:
    """A write that was sent and not answered is unknown, and nothing else."""
    failed = op("append", "1", 0, 5, outcome="failed", error="ClusterUnavailable")
    (said,) = complaints("unfenced-kill-follower", failed, failed=1)
    assert said == "errors where there need be none"


def test_rows_heartbeat_has_its_own_timeout(complaints: Any) -> None:
    """5 s would be too long for a ttl of 4 s."""
    assert complaints("heartbeat-stop-follower", slowest=2.6)
    assert not complaints("heartbeat-stop-follower", slowest=2.4)


def test_rows_expired_key_is_a_complaint(complaints: Any) -> None:
    """That is what a heartbeat is for."""
    assert complaints("heartbeat-stop-follower", expired=1)


def test_rows_set_without_fence_may_come_late(complaints: Any) -> None:
    """Its caller is told so; with a fence it is a complaint."""
    ops = [write("1", 0, 1, **LATE), write("2", 2, 3)]
    log = events("2", "1")
    assert not complaints("unfenced-stop-leader", *ops, log=log)
    assert "old_value_back: 1" in complaints("stop-leader", *ops, log=log)


def bulk(**found: Any) -> Bulk:
    """Make the figures of bulk writes."""
    values = dict.fromkeys(("usual", "longest", "within"), 0.0)
    return Bulk(**{**values, "written": 0, "failed": 0, "pending": 0, **found})


def test_rows_bulk_write_is_judged_by_its_delay(complaints: Any) -> None:
    """Not by the timeout, which is that of each request in it."""
    name = "bulk-stop-follower"
    assert not complaints(name, slowest=9.0, bulk=bulk(usual=8.0, longest=9.0))
    (said,) = complaints(name, slowest=9.0, bulk=bulk(usual=2.0, longest=9.0))
    assert said == "a bulk write took over 1.5 s longer than usual"


def test_rows_bulk_write_gives_up_a_silent_cluster(complaints: Any) -> None:
    """After one to two deadlines, however long the outage lasts."""
    name = "bulk-stop-all"
    assert not complaints(name, slowest=17.0, bulk=bulk(longest=17.0, within=10.1))
    (said,) = complaints(name, slowest=27.0, bulk=bulk(longest=27.0, within=20.0))
    assert said == "a bulk write went on for over 2 deadlines without an answer"

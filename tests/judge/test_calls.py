"""What the judge of fault runs says of failed calls, heartbeats and bulk writes."""

from __future__ import annotations

from benchmarks.faults.judge.calls import count_expired, most_failed, sum_up_bulk
from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.history import NOT_TRIED, Op
from benchmarks.faults.judge.samples import LATE, op, write


def bulk(start: float, end: float, *outcomes: str) -> list[Op]:
    """Make one call for several keys: an outcome each, "pending" if not tried."""
    rest = {
        "ok": {},
        "unknown": LATE,
        "pending": {"outcome": "failed", "error": NOT_TRIED},
    }
    return [
        write(f"{start}", start, end, key=f"k{number}", **rest[outcome])
        for number, outcome in enumerate(outcomes)
    ]


def test_most_failed_is_that_of_one_thread_since_the_fault() -> None:
    """The thread that met most counts, reads and what was before do not."""
    ops = [
        write("0", 0, 1, **LATE),
        write("1", 4, 6, **LATE),
        op("refresh", None, 6, 7, outcome="failed", error="ClusterUnavailable"),
        op("create", "2", 7, 8, outcome="refused", error="KeyExists"),
        op("get", None, 8, 9, outcome="failed", error="ClusterUnavailable"),
        write("3", 5, 6, thread=1, **LATE),
    ]
    assert most_failed(ops, begin=5.0) == 2
    assert most_failed(ops, begin=8.5) == 0


def test_count_expired_looks_at_the_keys_that_are_kept() -> None:
    """Deletes are none, and other keys may expire."""
    log = EventLog(
        (
            Event(5, "beat", "set", "1"),
            Event(6, "beat", "expire", None),
            Event(7, "other", "expire", None),
            Event(8, "beat", "delete", None),
        )
    )
    assert count_expired(log, ["beat"]) == 1


def test_bulk_calls_that_the_fault_met_are_summed_up() -> None:
    """Those before and after it tell what is usual; a small one does not."""
    ops = [
        *bulk(0, 1, "ok"),
        *bulk(1, 3, "ok", "ok", "ok"),
        *bulk(8, 15, "ok", "unknown", "pending"),
        *bulk(15, 21, "unknown", "pending", "pending"),
        *bulk(21, 25, "ok", "ok", "ok"),
    ]
    found = sum_up_bulk(ops, begin=10.0, end=20.0)
    assert (found.written, found.failed, found.pending) == (1, 2, 3)
    assert (found.usual, found.longest, found.delay) == (3.0, 7.0, 4.0)
    assert found.within == 5.0  # of both, only what lies in the fault


def test_bulk_without_calls_is_all_zero() -> None:
    """A client that never got there gives no figures, and no error."""
    found = sum_up_bulk([], begin=1.0, end=2.0)
    assert (found.longest, found.written, found.delay) == (0.0, 0, 0.0)


def test_bulk_call_that_never_returned_goes_on_until_the_fault_is_over() -> None:
    """It has no end, but the fault does."""
    found = sum_up_bulk(bulk(8, float("inf"), "unknown"), begin=10.0, end=20.0)
    assert found.within == 10.0

"""What the judge of fault runs counts, with and without the cluster's own events."""

from __future__ import annotations

import dataclasses

from benchmarks.faults.judge.checker import check, longest_gap, oldest_read
from benchmarks.faults.judge.samples import (
    LATE,
    counts,
    events,
    op,
    read,
    session,
    write,
)


def test_counters_applied_twice_is_found_in_events() -> None:
    """A value is written by one event at most."""
    ops = [write("1", 0, 1), write("2", 2, 3)]
    assert counts(*ops, events=events("1", "1", "2")) == {"twice": 1}


def test_counters_old_value_over_newer_is_found_in_events() -> None:
    """A late copy that passes over a newer write is both twice and back."""
    # The read is right: that is what the cluster holds by then.
    ops = session(write("1", 0, 1), write("2", 2, 3), read("1", 8, 9))
    found = counts(*ops, events=events("1", "2", "1"))
    assert found == {"twice": 1, "old_value_back": 1}


def test_counters_late_unknown_write_over_newer_is_an_old_value_back() -> None:
    """The caller was told 'unknown', and still the newer write was replaced."""
    ops = [write("1", 0, 1, **LATE), write("2", 2, 3)]
    assert check(ops).clean
    assert counts(*ops, events=events("2", "1")) == {"old_value_back": 1}
    assert counts(*ops, events=events("1", "2")) == {}


def test_counters_late_unknown_write_is_told_from_reads_alone() -> None:
    """Without events, a value that comes back after a newer one was seen counts."""
    ops = [
        write("1", 0, 1, **LATE),
        write("2", 2, 3),
        read("2", 4, 5),
        read("1", 6, 7),
        read("1", 8, 9),
    ]
    assert counts(*ops) == {"old_value_back": 1}


def test_counters_unknown_own_write_that_was_seen_makes_a_read_stale() -> None:
    """Once it was seen, an unknown write is known to be older than the next one."""
    ops = session(
        write("1", 0, 1, **LATE), read("1", 2, 3), write("2", 4, 5), read("1", 6, 7)
    )
    assert counts(*ops) == {"stale_own_read": 1}


def test_counters_unknown_writes_may_land_in_any_order() -> None:
    """Of two writes that were not acknowledged either may be the last."""
    ops = [
        write("1", 0, 1, **LATE),
        write("2", 2, 3, **LATE),
        read("2", 4, 5),
        read("1", 6, 7),
    ]
    assert counts(*ops) == {}


def test_counters_concurrent_writes_are_no_old_values() -> None:
    """Of two writes at the same time either may be the last."""
    ops = [write("1", 0, 5), write("2", 1, 4, client="b")]
    assert counts(*ops, events=events("1", "2")) == {}
    assert counts(*ops, events=events("2", "1")) == {}


def test_counters_acknowledged_write_without_event_is_lost() -> None:
    """What was acknowledged is among the events."""
    ops = [write("1", 0, 1), write("2", 2, 3), write("3", 4, 5, **LATE)]
    assert counts(*ops, events=events("1")) == {"lost": 1}
    gap = events("1")._replace(complete=False)
    assert counts(*ops, events=gap) == {}


def test_counters_acknowledged_write_missing_at_the_end_is_lost() -> None:
    """Without events, the value at the end tells."""
    ops = [write("1", 0, 1), write("2", 2, 3)]
    assert counts(*ops, final={"k": "1"}) == {"lost": 1}
    assert counts(*ops, final={"k": None}) == {"lost": 1}
    assert counts(*ops, final={"k": "2"}) == {}
    assert check(ops, final={"k": "1"}).not_linearizable == ["k"]


def test_counters_last_event_must_be_the_value_at_the_end() -> None:
    """Events and a quorum read at the end agree."""
    ops = [write("1", 0, 1), write("2", 2, 3)]
    assert counts(*ops, events=events("1", "2"), final={"k": "1"}) == {"lost": 1}


def test_counters_event_after_the_final_read_is_no_loss() -> None:
    """What took effect after the values at the end were read is not missing there."""
    ops = [write("1", 0, 1), write("2", 2, 3, **LATE)]
    late = events("1", "2")  # with indexes 10 and 11
    assert counts(*ops, events=late._replace(final_index=10), final={"k": "1"}) == {}


def test_counters_overwritten_by_a_late_write_is_not_lost() -> None:
    """An unknown write may replace an acknowledged one: that is another counter."""
    ops = [write("1", 0, 1, **LATE), write("2", 2, 3)]
    assert counts(*ops, final={"k": "1"}) == {}


def test_counters_deleted_is_not_lost() -> None:
    """A key that was deleted may be absent at the end."""
    ops = [write("1", 0, 1), op("delete", None, 2, 3)]
    assert check(ops, final={"k": None}).clean
    assert check(ops, final={"k": None}, events=events("1", None)).clean


def test_counters_failed_write_with_event_is_wrong() -> None:
    """A write that is said to have failed has no event."""
    ops = [write("1", 0, 1, outcome="failed", error="ClusterUnavailable")]
    assert counts(*ops, events=events("1")) == {"wrong_value": 1}


def test_counters_others_do_not_count() -> None:
    """Only what the judged clients did is held against them."""
    ops = [write("1", 0, 1), write("2", 2, 3), read("?", 4, 5), read("1", 6, 7)]
    ops = session(*(dataclasses.replace(one, judged=False) for one in ops))
    found = check(ops, events=events("2", "1", "1")).counters
    assert found.clean


def test_check_stale_read_with_events_knows_the_order_of_unknown_writes() -> None:
    """With events a read is known to be stale that otherwise might be late."""
    ops = session(
        write("1", 0, 1, **LATE), write("2", 2, 3), read("2", 4, 5), read("1", 6, 7)
    )
    assert counts(*ops, events=events("1", "2")) == {"stale_own_read": 1}


def test_check_counts_errors_of_judged_clients() -> None:
    """Errors are counted by type, for each kind of operation apart."""
    ops = [
        write("1", 0, 1, **LATE),
        read(None, 2, 3, outcome="failed", error="DeadlineExceeded"),
        read(None, 2, 3, outcome="failed", error="OSError", judged=False),
    ]
    errors = check(ops).errors
    assert errors == {"set": {"OutcomeUnknown": 1}, "get": {"DeadlineExceeded": 1}}


# --- times


def test_oldest_read_is_measured_from_the_write_that_replaced_the_value() -> None:
    """A value's age is the time since it surely was replaced."""
    ops = session(
        write("1", 0, 1, client="b"),
        write("2", 2, 3, client="b"),
        read("1", 5, 6),
        read("2", 7, 8),
    )
    assert oldest_read(ops, events("1", "2")) == 2
    assert check(ops, events=events("1", "2")).oldest_read == 2


def test_oldest_read_of_absent_counts_from_the_first_write() -> None:
    """A key that was absent is replaced by its first value."""
    ops = session(write("1", 0, 1, client="b"), read(None, 4, 5))
    assert oldest_read(ops, events("1")) == 3


def test_longest_gap_looks_at_each_thread() -> None:
    """A thread that hangs is not hidden by one that does not."""
    ops = [write(str(n), n, n + 0.5) for n in range(10)]
    ops += [read("0", 0, 1, thread=1), read("0", 1, 7, thread=1)]
    assert longest_gap(ops, 0.0, 9.5) == 6
    assert longest_gap(ops[:10], 0.0, 9.5) == 1


def test_longest_gap_passes_by_who_had_stopped_before() -> None:
    """A thread that had nothing to do any more has no gap."""
    ops = [write(str(n), n, n + 0.5) for n in range(10)]
    assert longest_gap([*ops, read("0", 0, 1, thread=1)], 4.0, 9.5) == 1


def test_longest_gap_without_recovery_lasts_to_the_end() -> None:
    """What never succeeds again counts until one stops to look."""
    ops = [write("1", 0, 1), write("2", 2, 9, **LATE)]
    assert longest_gap(ops, 1.5, 20.0) == 19

"""The judge of fault runs, on histories that are known to be good or bad."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.history import Op
from benchmarks.faults.judge.linearize import linearize
from benchmarks.faults.judge.samples import (
    LATE,
    counts,
    events,
    op,
    read,
    session,
    write,
)

GOOD = [
    pytest.param([], id="nothing"),
    pytest.param([write("1", 0, 1), read("1", 2, 3)], id="one after the other"),
    pytest.param([read(None, 0, 1), write("1", 2, 3)], id="absent at first"),
    pytest.param(
        [write("1", 0, 9), read("1", 1, 2, client="b"), read("1", 3, 4, client="c")],
        id="a read during the write sees it",
    ),
    pytest.param(
        [write("1", 0, 9), read(None, 1, 2, client="b"), read("1", 3, 4, client="c")],
        id="a read during the write misses it",
    ),
    pytest.param(
        # Only 2, 1 explains the reads, though 1 began first.
        [
            write("1", 0, 9),
            write("2", 1, 8, client="b"),
            read("2", 2, 3, client="c"),
            read("1", 4, 5, client="c"),
        ],
        id="in one order only",
    ),
    pytest.param(
        [write("1", 0, 1, **LATE), write("2", 2, 3), read("2", 4, 5), read("2", 6, 7)],
        id="unknown, never applied",
    ),
    pytest.param(
        [write("1", 0, 1, **LATE), read(None, 2, 3), read("1", 4, 5)],
        id="unknown, applied late",
    ),
    pytest.param(
        [write("1", 0, 1), write("2", 2, 3, outcome="failed"), read("1", 4, 5)],
        id="failed for certain",
    ),
    pytest.param(
        [
            op("create", "1", 0, 1),
            op("create", "2", 2, 3, outcome="refused"),
            op("cas", "3", 4, 5, expected="1"),
            op("cas", "4", 6, 7, expected="1", outcome="refused"),
            op("delete", None, 8, 9),
            op("delete", None, 10, 11, outcome="refused"),
            op("create", "5", 12, 13),
            op("cas", None, 14, 15, expected="5"),
            read(None, 16, 17),
        ],
        id="every kind, one after the other",
    ),
    pytest.param(
        # Refused since the first one, of which nobody heard, had taken effect.
        [
            op("create", "1", 0, 1, **LATE),
            op("create", "2", 2, 3, outcome="refused"),
            read("1", 4, 5),
        ],
        id="unknown create explains a refusal",
    ),
    pytest.param(
        [
            write("1", 0, 1),
            op("delete", None, 2, 3, **LATE),
            op("create", "2", 4, 5, client="b"),
            read("2", 6, 7),
        ],
        id="unknown delete explains a create",
    ),
    pytest.param(
        [
            write("1", 0, 1),
            write("2", 2, 3, **LATE),
            op("cas", "3", 4, 5, expected="1", outcome="refused"),
        ],
        id="unknown write explains a refusal",
    ),
    pytest.param(
        [write("1", 0, 1, **LATE), op("cas", "2", 2, 3, expected="1")],
        id="unknown write explains a compare-and-swap",
    ),
    pytest.param(
        [write("1", 0, float("inf"), **LATE), read("1", 5, 6)], id="never returned"
    ),
]


@pytest.mark.parametrize("ops", GOOD)
def test_check_good_history_finds_nothing(ops: list[Op]) -> None:
    """What a register can do is not complained about."""
    report = check(ops)
    assert report.clean, report.examples


BAD = [
    pytest.param([write("1", 0, 1), read(None, 2, 3)], id="lost"),
    pytest.param([write("1", 0, 1), write("2", 2, 3), read("1", 4, 5)], id="stale"),
    pytest.param([read("?", 0, 1)], id="never written"),
    pytest.param([read("1", 0, 1), write("1", 2, 3)], id="from the future"),
    pytest.param([read("1", 0, 1), write("1", 2, 3, **LATE)], id="from an unknown one"),
    pytest.param(
        [write("1", 0, 1), write("2", 2, 3, outcome="failed"), read("2", 4, 5)],
        id="failed, but there",
    ),
    pytest.param(
        # The unknown write may be late, but not twice.
        [
            write("1", 0, 1, **LATE),
            read("1", 2, 3),
            write("2", 4, 5),
            read("2", 6, 7),
            read("1", 8, 9),
        ],
        id="the old value comes back",
    ),
    pytest.param(
        [
            write("1", 0, 9),
            write("2", 1, 8, client="b"),
            read("2", 2, 3, client="c"),
            read("1", 4, 5, client="c"),
            read("2", 6, 7, client="d"),
        ],
        id="no order of concurrent writes",
    ),
    pytest.param(
        [op("create", "1", 0, 1), op("create", "2", 2, 3)], id="created twice"
    ),
    pytest.param(
        [write("1", 0, 1), op("cas", "2", 2, 3, expected="1", outcome="refused")],
        id="refused for nothing",
    ),
    pytest.param(
        [
            write("1", 0, 1),
            op("cas", "2", 2, 3, expected="1"),
            op("cas", "3", 4, 5, expected="1", client="b"),
        ],
        id="compared with what was gone",
    ),
    pytest.param(
        [write("1", 0, 1), write("2", 2, 3), op("delete", "1", 4, 5)],
        id="popped an old value",
    ),
]


@pytest.mark.parametrize("ops", BAD)
def test_check_bad_history_is_not_clean(ops: list[Op]) -> None:
    """What no register does is found."""
    report = check(ops)
    assert report.not_linearizable == ["k"]
    assert report.examples


def test_check_names_what_fits_no_order() -> None:
    """The operation that can't be placed is shown."""
    report = check([write("1", 0, 1), write("2", 2, 3), read("1", 4, 5)])
    assert "a.0 get k '1'" in report.examples[0]


def test_linearize_too_many_steps_is_undecided() -> None:
    """A search that is given up says so, and does not say yes."""
    ops = [write(str(n), n, n, **LATE) for n in range(20)]
    ops += [read(str(n), 30, 60, client=str(n)) for n in range(20)]
    ops += [read("none of them", 70, 80)]
    assert linearize(ops, max_steps=1000).ok is None


def test_linearize_unseen_unknown_writes_cost_nothing() -> None:
    """Hundreds of writes that nobody heard of do not make the search explode."""
    ops = [write(f"lost{n}", n, n + 0.5, **LATE) for n in range(300)]
    ops += [write(f"w{n}", n, n + 0.5, client="b") for n in range(300)]
    ops += [read(f"w{n}", n + 0.6, n + 0.7, client="b") for n in range(300)]
    assert linearize(ops, max_steps=2000).ok


def test_check_repeated_value_is_refused() -> None:
    """Without unique values nothing can be decided."""
    with pytest.raises(ValueError, match="'1' was written 2 times"):
        check([write("1", 0, 1), write("1", 2, 3)])


# --- session reads: may be stale, but not go back


def test_session_stale_read_of_others_value_is_allowed() -> None:
    """A session read need not see what another client wrote."""
    ops = session(write("1", 0, 1), write("2", 2, 3), read("1", 4, 5, client="b"))
    assert check(ops).clean


def test_session_stale_own_read_is_found() -> None:
    """A read that misses an own acknowledged write breaks the session."""
    ops = session(write("1", 0, 1), write("2", 2, 3), read("1", 4, 5))
    assert counts(*ops) == {"stale_own_read": 1}
    assert check(ops).broken_sessions


def test_session_stale_own_read_in_another_thread_is_found() -> None:
    """Threads that share a client share its session."""
    ops = session(write("1", 0, 1), read(None, 2, 3, thread=1))
    assert counts(*ops) == {"stale_own_read": 1}


def test_session_missing_own_unknown_write_is_allowed() -> None:
    """A write that was not acknowledged need not be seen."""
    ops = session(write("1", 0, 1), write("2", 2, 3, **LATE), read("1", 4, 5))
    assert check(ops).clean


def test_session_read_that_goes_back_is_found() -> None:
    """A session's reads never go back in time."""
    ops = session(
        write("1", 0, 1),
        write("2", 2, 3),
        read("2", 4, 5, client="b"),
        read("1", 6, 7, client="b"),
    )
    assert check(ops).broken_sessions
    assert counts(*ops) == {"old_value_back": 1}
    assert counts(*ops, events=events("1", "2")) == {"backwards": 1}


def test_session_overlapping_reads_may_be_answered_in_any_order() -> None:
    """Two reads of one session at the same time have no order."""
    ops = session(
        write("1", 0, 1),
        write("2", 2, 3),
        read("2", 4, 7, client="b"),
        read("1", 5, 6, client="b"),
    )
    assert check(ops).clean


def test_session_two_readers_must_agree_on_one_order() -> None:
    """Writes at the same time have one order for all sessions."""
    ops = session(
        write("1", 0, 1, client="x"),
        write("2", 0, 1, client="y"),
        read("1", 2, 3),
        read("2", 4, 5),
        read("2", 2, 3, client="b"),
        read("1", 4, 5, client="b"),
    )
    assert check(ops).broken_sessions


def test_session_read_from_the_future_is_found() -> None:
    """Nothing is read before it was written."""
    ops = session(read("1", 0, 1, client="b"), write("1", 2, 3))
    assert check(ops).broken_sessions
    assert counts(*ops) == {"wrong_value": 1}


def test_session_value_that_was_seen_is_older_than_what_began_later() -> None:
    """An unknown write that was read has its place before all later ones."""
    ops = session(
        write("1", 0, 1, **LATE),
        read("1", 2, 3, client="b"),
        write("2", 4, 5),
        read("2", 6, 7, client="c"),
        read("1", 8, 9, client="c"),
    )
    assert check(ops).broken_sessions


def test_session_of_any_reads_promises_nothing_but_true_values() -> None:
    """Reads with "any" consistency may go back, and may not invent."""
    old = read("1", 4, 5)
    ops = [write("1", 0, 1), write("2", 2, 3), dataclasses.replace(old, level="any")]
    assert check(ops).clean
    invented = dataclasses.replace(old, level="any", value="?")
    assert counts(*ops[:2], invented) == {"wrong_value": 1}

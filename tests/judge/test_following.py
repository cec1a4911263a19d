"""Whether the judge finds what those who follow must not be told."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.following import (
    ANEW,
    Followed,
    Notes,
    Sample,
    Told,
    sum_up_following,
)
from benchmarks.faults.judge.history import Op


def log(*values: str, first: int = 10) -> EventLog:
    """Make the events of key "k"."""
    numbered = enumerate(values, start=first)
    return EventLog(tuple(Event(n, "k", "set", value) for n, value in numbered))


def told(value: str, previous: str | None, index: int, **more: Any) -> Told:
    """Make an event that was told a tenth of a second after its index, in seconds."""
    fields = {"time": index + 0.1, "action": "set", "key": "k", "coalesced": False}
    return Told(**{**fields, **more}, value=value, previous=previous, index=index)


LOG = log("v.0", "v.1", "v.2", "v.3")
START = told("v.0", None, 10, coalesced=True)
ALL = [START, told("v.1", "v.0", 11), told("v.2", "v.1", 12), told("v.3", "v.2", 13)]
OPS = [
    Op("a", "set", "k", n + 9.5, n + 10.0, value=f"v.{n}", endpoint="x")
    for n in range(4)
]


def judge(
    live: list[Told],
    *logs: EventLog,
    samples: tuple[Sample, ...] = (),
    wiped: float = float("inf"),
) -> Followed:
    """Judge what a replica was told."""
    logs = logs or (LOG,)
    final = {"k": logs[-1].events[-1].value or ""}
    anew = Told(0.0, ANEW, "", None, None, 0, coalesced=False)
    last = logs[-1].events[-1]
    watch = [anew, told(last.value or "", None, last.index, coalesced=True)]
    return sum_up_following(Notes(live, watch, samples, final, True), OPS, logs, wiped)


def counts(found: Followed) -> dict[str, int]:
    """Give what was found."""
    names = ("lost", "twice", "wrong", "lies", "coalesced")
    return {name: count for name in names if (count := getattr(found, name))}


def test_following_all_that_happened_is_good() -> None:
    """And it is late by as much as it was told after the acknowledgement."""
    found = judge(ALL)
    assert counts(found) == {}
    assert found.later_than(0.0) == pytest.approx(0.1)
    assert found.expired == 0


@pytest.mark.parametrize(
    ("live", "wrong"),
    [
        pytest.param([*ALL[:2], told("v.3", "v.1", 13)], {"lost": 1}, id="a gap"),
        pytest.param(ALL[:3], {"lost": 1}, id="the end"),
        pytest.param(
            [*ALL[:2], ALL[1]._replace(previous="v.1"), *ALL[2:]],
            {"twice": 1},
            id="twice",
        ),
        pytest.param(
            [*ALL[:3], ALL[3]._replace(previous="v.1")], {"wrong": 1}, id="before"
        ),
        pytest.param(
            [*ALL[:2], told("v.9", "v.1", 12), told("v.3", "v.9", 13)],
            {"wrong": 1},
            id="another value",
        ),
        pytest.param(
            [*ALL[:2], told("v.3", "v.1", 13, coalesced=True)],
            {"coalesced": 1},
            id="a difference",
        ),
        pytest.param(
            [*ALL[:2], told("v.3", "v.1", 12, coalesced=True)],
            {"coalesced": 1, "wrong": 1},
            id="a difference to no state",
        ),
    ],
)
def test_following_finds(live: list[Told], wrong: dict[str, int]) -> None:
    """What is not told, told again, or told wrongly."""
    assert counts(judge(live)) == wrong


def test_following_to_a_cluster_built_anew() -> None:
    """Differences lead there; what came while the old one went can't be known."""
    new = log("v.2", "v.3", first=4)
    gone = Told(14.0, "delete", "k", None, "v.3", 3, coalesced=True)
    rest = [told("v.2", None, 4), told("v.3", "v.2", 5)]
    old = EventLog(LOG.events[:3])
    assert counts(judge([*ALL, gone, *rest], old, new, wiped=13.5)) == {"coalesced": 1}
    assert counts(judge([*ALL, *rest], old, new, wiped=13.5))["wrong"]


@pytest.mark.parametrize(
    ("stale_for", "lies"), [(0.5, {}), (0.3, {}), (0.1, {"lies": 1})]
)
def test_following_finds_what_is_older_than_said(
    stale_for: float, lies: dict[str, int]
) -> None:
    """At 12.25, of what was acknowledged at 12 and is not shown."""
    sample = Sample(12.25, stale_for, {"k": "v.1"})
    assert counts(judge(ALL, samples=(sample,))) == lies

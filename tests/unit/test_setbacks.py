"""What failures in a row come to, while a tree is followed."""

from __future__ import annotations

from typing import Any

import pytest

from etcdmap.connecting import make_client
from etcdmap.errors import EtcdMapError, ExchangeFailed, Unauthorized
from etcdmap.v2.setbacks import ELECTION, LONGEST_PAUSE, PATIENCE, Setbacks

from support.scripted_cluster import FakeTime, Steady
from support.transports import Instantly

A, B, C = "http://a:1", "http://b:2", "http://c:3"
REFUSED, GONE = Unauthorized("no"), ExchangeFailed("gone", sent=False)
LATE = ExchangeFailed("late", sent=True, timed_out=True)


@pytest.fixture
def time() -> FakeTime:
    """Give a clock that stands still."""
    return FakeTime()


@pytest.fixture
def setbacks(time: FakeTime) -> Setbacks:
    """Give those of a client of three members."""
    unused: Any = Instantly()
    client = make_client([A, B, C], unused, clock=time.clock, rng=Steady())
    return Setbacks(client, timeout=5.0)


def fail(setbacks: Setbacks, endpoint: str, error: EtcdMapError) -> bool:
    """Have a member fail; tell whether it is trouble."""
    return setbacks.note_failure(error, endpoint, of_member=True)


def test_one_member_that_refuses_twice_is_no_majority(setbacks: Setbacks) -> None:
    """Nor does a refusal count once the member fails in another way."""
    failures = [(A, REFUSED), (A, REFUSED), (B, REFUSED), (B, GONE)]
    told = []
    for failure in failures:
        fail(setbacks, *failure)
        told.append(setbacks.most_refuse)
    assert told == [False, False, True, False]


def test_it_is_trouble_once_all_have_failed_for_as_long_as_an_election(
    setbacks: Setbacks, time: FakeTime
) -> None:
    """A refusal for good need not wait for that."""
    assert [fail(setbacks, each, GONE) for each in (A, B, C)] == 3 * [False]
    time.now += ELECTION
    assert fail(setbacks, A, GONE)
    setbacks.note_proof()
    assert [fail(setbacks, each, REFUSED) for each in (A, B, C)] == [False, False, True]


def test_connection_that_fails_once_is_no_trouble_with_one_member() -> None:
    """A proxy may have ended it."""
    unused: Any = Instantly()
    setbacks = Setbacks(make_client(A, unused), timeout=5.0)
    assert not setbacks.note_failure(REFUSED, A, of_member=False)
    assert setbacks.note_failure(REFUSED, A, of_member=False)


def test_patience_grows_when_all_are_late_up_to_the_timeout(setbacks: Setbacks) -> None:
    """They may all be far away; an answer tells how far."""
    seen = []
    for _ in range(5):
        for endpoint in (A, B, C):
            fail(setbacks, endpoint, LATE)
        seen.append(setbacks.patience)
    assert seen == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 5.0, 5.0]
    setbacks.note_speed(0.001)
    assert setbacks.patience == PATIENCE
    setbacks.note_speed(0.5)
    assert setbacks.patience == 4 * 0.5


def test_pauses_grow_to_a_bound_and_begin_anew(setbacks: Setbacks) -> None:
    """There is none before all members were tried."""
    pauses: list[float] = []
    for number in range(60):
        fail(setbacks, (A, B, C)[number % 3], GONE)
        pauses.append(setbacks.before_next_attempt())
    assert pauses[:3] == 3 * [0.0]
    assert sorted(pauses) == pauses
    assert 0.5 * LONGEST_PAUSE <= pauses[-1] <= LONGEST_PAUSE
    pauses = [setbacks.before_next_proof() for _ in range(20)]
    assert pauses[0] == setbacks.moment < pauses[1] < pauses[-1] == LONGEST_PAUSE
    setbacks.note_proof()
    assert setbacks.before_next_attempt() == 0.0
    assert setbacks.before_next_proof() == setbacks.moment


def test_replicas_that_lose_track_spread_and_do_so_ever_less_often(
    setbacks: Setbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All replicas of a cluster that was wiped lose it at once."""
    rng: Any = setbacks._client.rng
    monkeypatch.setattr(rng, "random", lambda: 1.0, raising=False)
    pauses = [setbacks.before_next_reading() for _ in range(10)]
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[1] < pauses[-1] == LONGEST_PAUSE
    monkeypatch.setattr(rng, "random", lambda: 0.0)
    assert setbacks.before_next_reading() == 0.0

"""What one client has seen of its cluster, and when a read must be proved."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest

from etcdmap.client.freshness import ClusterRebuilt, Freshness, Need, StaleAnswer
from etcdmap.errors import ExchangeFailed, InvalidResponse, WrongCluster
from etcdmap.transport import Answer
from etcdmap.v2 import V2_API

from support.scripted_cluster import FakeTime

MAX_STALE = 2.0


class Dropped:
    """Counts how often memories were dropped."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        """Count."""
        self.times += 1


@pytest.fixture
def time() -> FakeTime:
    """Give a clock that stands still."""
    return FakeTime()


@pytest.fixture
def dropped() -> Dropped:
    """Give what counts the drops."""
    return Dropped()


@pytest.fixture
def session(time: FakeTime, dropped: Dropped) -> Freshness:
    """Give a session that has seen nothing."""
    freshness = Freshness(V2_API, MAX_STALE, time.clock)
    freshness.on_rebuilt.append(dropped)
    return freshness


def at(index: int | str | None, cluster: str | None = "c1") -> Answer:
    """Make an answer of a cluster at an index."""
    headers: dict[str, Any] = {}
    if index is not None:
        headers["x-etcd-index"] = str(index)
    if cluster is not None:
        headers["x-etcd-cluster-id"] = cluster
    return Answer(200, headers, b"", "http://a:1")


# --- the index ----------------------------------------------------------------


def take(session: Freshness, answer: Answer, floor: int, *, quorum: bool) -> None:
    """Check an answer and learn from it, as a call does with one that makes sense."""
    session.take(answer, floor, quorum=quorum)


def test_check_higher_index_is_remembered(session: Freshness) -> None:
    """The highest index seen is what later calls begin with."""
    take(session, at(7), 0, quorum=False)
    take(session, at(9), 7, quorum=False)
    assert session.index == 9


def test_check_equal_index_is_taken(session: Freshness) -> None:
    """A state that is as new as what was seen can be used."""
    take(session, at(7), 0, quorum=False)
    take(session, at(7), 7, quorum=False)
    assert session.index == 7


def test_check_lower_index_is_refused_as_stale(session: Freshness) -> None:
    """An older state than this client has seen is not used."""
    take(session, at(9), 0, quorum=False)
    with pytest.raises(StaleAnswer, match="index 8, older than 9") as caught:
        take(session, at(8), 9, quorum=False)
    assert caught.value.sent
    assert isinstance(caught.value, ExchangeFailed)
    assert session.index == 9


def test_check_floor_is_that_of_the_calls_beginning(session: Freshness) -> None:
    """What another thread has seen since does not make an answer stale."""
    take(session, at(9), 0, quorum=False)
    take(session, at(8), 7, quorum=False)
    assert session.index == 9


def test_check_without_floor_takes_any_index(session: Freshness) -> None:
    """With consistency "any" there is nothing to be older than."""
    take(session, at(9), 0, quorum=False)
    take(session, at(3), 0, quorum=False)
    assert session.index == 9


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="missing"),
        pytest.param("0", id="zero"),
        pytest.param("", id="empty"),
        pytest.param("-5", id="negative"),
        pytest.param("7.5", id="float"),
        pytest.param("abc", id="text"),
        pytest.param("٧", id="arabic-digit"),
        pytest.param("9" * 21, id="too-long"),
        pytest.param("9" * 5000, id="beyond-int"),
    ],
)
def test_check_strange_index_changes_nothing(session: Freshness, text: str) -> None:
    """An answer without a usable index is neither newer nor older."""
    take(session, at(9), 0, quorum=False)
    take(session, at(text), 9, quorum=False)
    assert session.index == 9


# --- a rebuilt cluster --------------------------------------------------------


def test_check_quorum_answer_below_floor_starts_anew(
    session: Freshness, dropped: Dropped
) -> None:
    """What the cluster agrees on is the truth: the memory was of another time."""
    take(session, at(900), 0, quorum=False)
    with pytest.warns(ClusterRebuilt, match="from 900 to 3"):
        take(session, at(3), 900, quorum=True)
    assert session.index == 3
    assert dropped.times == 1


def test_check_rebuilt_cluster_is_warned_of_once(
    session: Freshness, dropped: Dropped
) -> None:
    """Calls that began before it was found out do not say it again."""
    take(session, at(900), 0, quorum=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        take(session, at(3), 900, quorum=True)
        take(session, at(3), 900, quorum=True)
        take(session, at(4), 900, quorum=True)
    assert [w.category for w in caught] == [ClusterRebuilt]
    assert dropped.times == 1
    assert session.index == 4


def test_check_rebuilt_twice_is_warned_of_twice(session: Freshness) -> None:
    """A second rebuild is news."""
    take(session, at(900), 0, quorum=False)
    with pytest.warns(ClusterRebuilt):
        take(session, at(50), 900, quorum=True)
    with pytest.warns(ClusterRebuilt, match="from 50 to 3"):
        take(session, at(3), 50, quorum=True)


def test_check_quorum_answer_at_or_above_floor_is_no_rebuild(
    session: Freshness, dropped: Dropped
) -> None:
    """The usual case says nothing."""
    take(session, at(9), 0, quorum=False)
    take(session, at(9), 9, quorum=True)
    take(session, at(10), 9, quorum=True)
    assert dropped.times == 0


def test_check_memories_are_dropped_without_the_lock(time: FakeTime) -> None:
    """What is called back may use the session."""
    seen: list[int] = []

    def use() -> None:
        take(used, at(5), 0, quorum=False)
        seen.append(used.index)

    used = Freshness(V2_API, MAX_STALE, time.clock)
    used.on_rebuilt.append(use)
    take(used, at(9), 0, quorum=False)
    with pytest.warns(ClusterRebuilt):
        take(used, at(3), 9, quorum=True)
    assert seen == [5]


# --- another cluster ----------------------------------------------------------


def test_check_other_cluster_id_is_refused(session: Freshness) -> None:
    """Another cluster's data is an error, not data; both ids are named."""
    take(session, at(7, "c1"), 0, quorum=False)
    with pytest.raises(WrongCluster, match="forget_cluster") as caught:
        take(session, at(8, "c2"), 0, quorum=False)
    assert "c1" in str(caught.value)
    assert "c2" in str(caught.value)
    assert "http://a:1" in str(caught.value)
    assert isinstance(caught.value, InvalidResponse)


def test_check_other_cluster_is_refused_with_a_quorum_too(session: Freshness) -> None:
    """The other cluster agrees on its own data only."""
    take(session, at(7, "c1"), 0, quorum=False)
    with pytest.raises(WrongCluster):
        take(session, at(3, "c2"), 7, quorum=True)


def test_check_other_clusters_index_is_not_taken(session: Freshness) -> None:
    """Else the right cluster's answers would be stale from then on."""
    take(session, at(7, "c1"), 0, quorum=False)
    with pytest.raises(WrongCluster):
        take(session, at(900, "c2"), 0, quorum=False)
    assert session.index == 7


def test_check_other_cluster_stays_refused(session: Freshness) -> None:
    """Once is not enough to get used to it."""
    take(session, at(7, "c1"), 0, quorum=False)
    for _ in range(3):
        with pytest.raises(WrongCluster):
            take(session, at(8, "c2"), 0, quorum=False)
    take(session, at(8, "c1"), 0, quorum=False)


@pytest.mark.parametrize("shown", [None, ""])
def test_check_answer_without_cluster_id_where_one_is_known_is_refused(
    session: Freshness, shown: str | None
) -> None:
    """A member always tells it; what does not may be anybody's."""
    take(session, at(7, "c1"), 0, quorum=False)
    with pytest.raises(WrongCluster, match="without an id"):
        take(session, at(8, shown), 7, quorum=False)
    assert session.cluster_id == "c1"
    assert session.index == 7


@pytest.mark.parametrize("shown", [None, ""])
def test_check_empty_id_is_not_the_first_one(
    session: Freshness, shown: str | None
) -> None:
    """Old servers and proxies tell none: then there is nothing to remember."""
    take(session, at(7, shown), 0, quorum=False)
    assert session.cluster_id is None
    take(session, at(8, "c1"), 0, quorum=False)
    assert session.cluster_id == "c1"


def test_check_401_fixes_no_id(session: Freshness) -> None:
    """Anybody can refuse a user."""
    refused = Answer(401, {"x-etcd-cluster-id": "c9"}, b"", "http://a:1")
    session.check_cluster(refused)
    assert session.cluster_id is None
    take(session, at(7, "c1"), 0, quorum=False)
    with pytest.raises(WrongCluster):
        session.check_cluster(refused)


def test_forget_takes_the_next_cluster(session: Freshness, dropped: Dropped) -> None:
    """After it was replaced on purpose the next one to answer is the right one."""
    take(session, at(900, "c1"), 0, quorum=False)
    session.forget()
    assert dropped.times == 1
    take(session, at(3, "c2"), session.index, quorum=False)
    assert session.index == 3
    with pytest.raises(WrongCluster):
        take(session, at(901, "c1"), 3, quorum=False)


def test_forget_proves_nothing_any_more(session: Freshness, time: FakeTime) -> None:
    """The old cluster's proof says nothing of the new one."""
    session.proved(time.now)
    session.forget()
    assert session.needs_proof() is Need.YES


# --- the proof ----------------------------------------------------------------


def test_needs_proof_at_first_is_yes(session: Freshness) -> None:
    """Nothing was ever proved."""
    assert session.needs_proof() is Need.YES


@pytest.mark.parametrize(
    ("age", "need"),
    [
        pytest.param(0.0, Need.NO, id="new"),
        pytest.param(1.5, Need.NO, id="three-quarters"),
        pytest.param(1.51, Need.BETTER, id="soon-over"),
        pytest.param(2.0, Need.BETTER, id="at-its-end"),
        pytest.param(2.01, Need.YES, id="over"),
        pytest.param(3600.0, Need.YES, id="an-hour"),
    ],
)
def test_needs_proof_goes_by_its_age(
    session: Freshness, time: FakeTime, age: float, need: Need
) -> None:
    """It counts for `max_stale`, and is renewed in its last quarter."""
    session.proved(time.now)
    time.now += age
    assert session.needs_proof() is need


def test_needs_proof_counts_from_the_moment_asked(
    session: Freshness, time: FakeTime
) -> None:
    """A proof is of the state when the call began, not when it was answered."""
    began = time.now
    time.now += 1.9
    session.proved(began)
    time.now += 0.2
    assert session.needs_proof() is Need.YES


def test_proved_earlier_does_not_shorten_a_proof(
    session: Freshness, time: FakeTime
) -> None:
    """Answers arrive out of order."""
    session.proved(time.now)
    session.proved(time.now - 5)
    assert session.needs_proof() is Need.NO


def test_needs_proof_renewal_is_taken_by_one_caller(
    session: Freshness, time: FakeTime
) -> None:
    """One quorum read renews the proof; the others go on with plain reads."""
    session.proved(time.now)
    time.now += 1.6
    assert [session.needs_proof() for _ in range(4)] == [
        Need.BETTER,
        Need.NO,
        Need.NO,
        Need.NO,
    ]


def test_needs_proof_renewal_of_threads_is_taken_by_one(
    session: Freshness, time: FakeTime
) -> None:
    """The same for threads that come at the same moment."""
    session.proved(time.now)
    time.now += 1.6
    start = threading.Barrier(8)
    needs: list[Need] = []

    def ask() -> None:
        start.wait(10)
        needs.append(session.needs_proof())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(need.value for need in needs) == ["better"] + ["no"] * 7


def test_needs_proof_renewal_that_fails_is_no_proof(
    session: Freshness, time: FakeTime
) -> None:
    """If whoever took it does not succeed, all must prove it when it is over."""
    session.proved(time.now)
    time.now += 1.6
    session.needs_proof()
    time.now += 0.5
    assert [session.needs_proof() for _ in range(2)] == [Need.YES, Need.YES]


def test_needs_proof_next_period_has_its_own_renewal(
    session: Freshness, time: FakeTime
) -> None:
    """Each proof is renewed in turn."""
    for _ in range(3):
        session.proved(time.now)
        time.now += 1.6
        assert session.needs_proof() is Need.BETTER
        assert session.needs_proof() is Need.NO


def test_after_fork_a_held_lock_does_not_matter(session: Freshness) -> None:
    """Another thread of the parent may have held it at the fork."""
    session._lock.acquire()
    session.after_fork()
    take(session, at(7), 0, quorum=False)
    assert session.index == 7

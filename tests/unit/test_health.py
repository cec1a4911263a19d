"""Latencies, failures, rests, and when to ask another endpoint."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from etcdmap.client.endpoint_health import Health, Policy

from support.scripted_cluster import A, B, C, FakeTime

ALL = (A, B, C)


@pytest.fixture
def time() -> FakeTime:
    """Give a clock that stands still."""
    return FakeTime()


@pytest.fixture
def health(time: FakeTime) -> Health:
    """Give what knows nothing yet."""
    return Health(Policy(), time.clock)


def answered(health: Health, seconds: float, kind: str = "get") -> None:
    """Note an answer of A's that took some seconds until now."""
    health.answered(A, kind, health._clock() - seconds)


# --- order and rests ----------------------------------------------------------


@pytest.mark.parametrize(
    ("pinned", "order"),
    [
        pytest.param(A, (A, B, C), id="first"),
        pytest.param(B, (B, C, A), id="middle"),
        pytest.param(C, (C, A, B), id="last"),
    ],
)
def test_order_all_well_goes_round_from_the_pinned(
    health: Health, pinned: str, order: tuple[str, ...]
) -> None:
    """The pinned one is first, the others as they follow it."""
    assert health.order(ALL, pinned) == order


def test_order_failed_endpoint_is_last(health: Health) -> None:
    """One that just failed is not tried first, pinned or not."""
    health.failed(A)
    assert health.order(ALL, A) == (B, C, A)


def test_order_all_failed_begins_with_the_longest_rested(
    health: Health, time: FakeTime
) -> None:
    """When all rest, the one whose rest ends first is tried first."""
    for endpoint in (C, A, B):
        health.failed(endpoint)
        time.now += 0.01
    assert health.order(ALL, A) == (C, A, B)


def test_order_rest_that_is_over_counts_as_none(health: Health, time: FakeTime) -> None:
    """After it, the order is as before."""
    health.failed(A)
    time.now += 0.1
    assert health.order(ALL, A) == (A, B, C)


def test_order_rest_lasts_until_its_end(health: Health, time: FakeTime) -> None:
    """Just before, it still rests."""
    health.failed(A)
    time.now += 0.09
    assert health.order(ALL, A) == (B, C, A)


def test_failed_again_and_again_rests_longer_up_to_a_limit(
    health: Health, time: FakeTime
) -> None:
    """Rests double from 0.1 s to 5 s."""
    lengths = []
    for _ in range(9):
        health.failed(A)
        start = time.now
        while health.order(ALL, A)[0] != A:
            time.now += 0.01
        lengths.append(round(time.now - start, 1))
    assert lengths == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_answered_ends_a_rest_and_its_growth(health: Health, time: FakeTime) -> None:
    """An endpoint that answers is as good as new."""
    for _ in range(6):
        health.failed(A)
    answered(health, 0.001)
    assert health.order(ALL, A) == (A, B, C)
    health.failed(A)
    time.now += 0.1
    assert health.order(ALL, A) == (A, B, C)


def test_answered_by_one_leaves_the_others_resting(health: Health) -> None:
    """Each endpoint rests on its own."""
    health.failed(A)
    health.failed(B)
    answered(health, 0.001)
    assert health.order(ALL, B) == (C, A, B)


def test_order_knows_rests_of_endpoints_that_are_gone(health: Health) -> None:
    """A sync may have taken one away."""
    health.failed("http://gone:1")
    assert health.order(ALL, A) == ALL


def test_keep_only_forgets_all_that_is_known_of_others(health: Health) -> None:
    """Should one come back, it begins anew."""
    for endpoint in (A, B):
        health.failed(endpoint)
        health.overtaken(endpoint)
    health.keep_only((B, C))
    assert health.order(ALL, A) == (A, C, B)
    assert not health.overtaken(A)
    assert health.overtaken(B)


# --- overtakes ----------------------------------------------------------------


def test_overtaken_once_is_chance(health: Health) -> None:
    """One slow answer is no reason to leave."""
    assert not health.overtaken(A)


def test_overtaken_twice_in_a_row_is_left(health: Health) -> None:
    """The second one in a row is."""
    health.overtaken(A)
    assert health.overtaken(A)


def test_overtaken_after_an_answer_counts_anew(health: Health) -> None:
    """In a row means that it gave no usable answer in between."""
    health.overtaken(A)
    answered(health, 0.001)
    assert not health.overtaken(A)


def test_overtaken_each_endpoint_counts_for_itself(health: Health) -> None:
    """One of two is not two of one."""
    health.overtaken(A)
    assert not health.overtaken(B)


def test_overtaken_policy_sets_how_often(time: FakeTime) -> None:
    """The number is the policy's."""
    health = Health(Policy(overtakes=1), time.clock)
    assert health.overtaken(A)


# --- the delay ----------------------------------------------------------------


def test_delay_nothing_measured_is_the_first_one(health: Health) -> None:
    """1 s, until something is known."""
    assert health.delay("get") == 1.0


@pytest.mark.parametrize(
    ("kind", "floor"),
    [("get", 0.02), ("quorum", 0.02), ("list", 0.02), ("write", 0.1)],
)
def test_delay_quick_answers_end_at_the_floor(
    health: Health, kind: str, floor: float
) -> None:
    """However quick the cluster is, it is not asked twice before that."""
    for _ in range(50):
        answered(health, 0.0005, kind)
    assert health.delay(kind) == floor


def test_delay_of_one_kind_says_nothing_of_another(health: Health) -> None:
    """A listing takes longer than a get."""
    answered(health, 0.0005)
    assert health.delay("list") == 1.0


def test_delay_follows_slow_answers(health: Health) -> None:
    """With auth on, every request takes 60 ms and more: that is no fault."""
    for _ in range(50):
        answered(health, 0.06)
    assert 0.06 <= health.delay("get") < 0.07


def test_delay_covers_answers_that_vary(health: Health) -> None:
    """Where answers take 50 to 250 ms, nearly all of them come within it."""
    for number in range(200):
        answered(health, 0.05 if number % 2 else 0.25)
    assert health.delay("get") > 0.25


def test_delay_after_one_answer_is_some_times_as_long(health: Health) -> None:
    """As TCP's timer: three times the first sample."""
    answered(health, 0.2)
    assert health.delay("get") == pytest.approx(0.6)


def test_delay_comes_down_again(health: Health) -> None:
    """A slow time is forgotten."""
    for _ in range(20):
        answered(health, 2.0)
    for _ in range(100):
        answered(health, 0.001)
    assert health.delay("get") < 0.05


# --- the budget ---------------------------------------------------------------


def hedges(health: Health, kind: str = "get", most: int = 1000) -> int:
    """Take extra requests until there are none left; count them."""
    return next((n for n in range(most) if not health.may_hedge(kind)), most)


def test_may_hedge_busy_cluster_has_a_limited_burst(health: Health) -> None:
    """While answers come, extra requests come out of a budget."""
    answered(health, 0.001)
    assert hedges(health) == 10


def test_may_hedge_budget_is_a_share_of_the_requests(
    health: Health, time: FakeTime
) -> None:
    """At most 5 % of requests while nothing fails."""
    answered(health, 0.001)
    hedges(health)
    taken = 0
    for _ in range(1000):
        health.count_request()
        time.now += 0.001
        answered(health, 0.001)
        taken += health.may_hedge("get")
    assert 45 <= taken <= 51


def test_may_hedge_budget_does_not_pile_up(health: Health) -> None:
    """A quiet week does not pay for a burst of thousands."""
    for _ in range(100_000):
        health.count_request()
    answered(health, 0.001)
    assert hedges(health) <= 11


def test_may_hedge_nothing_answered_for_a_while_is_free(
    health: Health, time: FakeTime
) -> None:
    """Then something fails, and the budget does not count."""
    answered(health, 0.001)
    hedges(health)
    time.now += 0.51
    assert hedges(health, most=50) == 50


def test_may_hedge_free_requests_leave_the_budget(
    health: Health, time: FakeTime
) -> None:
    """What is free is not taken from what is not."""
    answered(health, 0.001)
    time.now += 0.51
    hedges(health, most=50)
    answered(health, 0.001)
    assert hedges(health) == 10


def test_may_hedge_nothing_ever_answered_is_free_after_a_while(
    health: Health, time: FakeTime
) -> None:
    """A cluster that never answers is not taken for one that is just busy."""
    assert hedges(health, most=50) == 10
    time.now += 4.1  # four times the delay of the first request
    assert hedges(health, most=50) == 50


def test_may_hedge_quiet_goes_by_kind(health: Health, time: FakeTime) -> None:
    """Answered reads do not keep silent writes from being hedged."""
    answered(health, 0.001, "write")
    time.now += 0.51
    answered(health, 0.001)
    assert hedges(health, "get") == 10
    assert hedges(health, "write", most=50) == 50


def test_policy_is_not_changed_afterwards() -> None:
    """Clients may share one."""
    with pytest.raises(FrozenInstanceError):
        Policy().overtakes = 5  # type: ignore[misc]

"""A request under way to several endpoints at the same time."""

from __future__ import annotations

import gc
import itertools
import socket
import warnings
from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import Any

import pytest

from etcdmap.client import Resend
from etcdmap.client.endpoint_health import Policy
from etcdmap.client.freshness import ClusterRebuilt, Need
from etcdmap.connecting import make_client
from etcdmap.errors import (
    ClusterUnavailable,
    DeadlineExceeded,
    ExchangeFailed,
    InvalidResponse,
    KeyExists,
    KeyNotFound,
    OutcomeUnknown,
)
from etcdmap.transport import Answer, Identity
from etcdmap.transport import Request as HTTPRequest
from etcdmap.transport.polling import READ, Waiting, ready
from etcdmap.v2 import V2_API
from etcdmap.v2.models import Result
from etcdmap.v2.responses import guarded, result_of

from support.requests import Asked, Request
from support.scripted_cluster import A, B, C
from support.staged import (
    Plan,
    Stage,
    after,
    failed,
    html,
    never,
    no_quorum,
    redirect,
    refusal,
    said,
    unconnected,
    value,
)
from support.transports import answer

TARGET = "/v2/keys/k"
ALL = (A, B, C)
_read = partial(guarded, result_of, Asked("/k"))
_written = partial(guarded, result_of, Asked("/k", "compareAndSwap"))


def get(consistency: str = "any", **more: Any) -> Request[Result]:
    """Make a read."""
    settings = {"kind": "get", "resend": Resend.ALWAYS, "key": "/k", **more}
    return Request("GET", TARGET, _read, consistency=consistency, **settings)


def put(resend: Resend = Resend.FENCED) -> Request[Result]:
    """Make a write, which may be sent twice."""
    target = f"{TARGET}?prevIndex=3"
    return Request("PUT", target, _written, b"value=v", resend, key="/k")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give three endpoints that answer at once."""
    return Stage(monkeypatch)


def text_of(result: Result) -> str | None:
    """Give the value that came."""
    assert result.node is not None
    return result.node.value


def read(stage: Stage, consistency: str = "any", **more: Any) -> str | None:
    """Send a read and give the value that came."""
    return text_of(stage.client.send(get(consistency), **more))


def all_do(stage: Stage, *plans: Plan) -> None:
    """Have every endpoint do the same."""
    for endpoint in ALL:
        stage.plans[endpoint] = list(plans)


# --- when another endpoint is asked -------------------------------------------


def test_read_answered_at_once_asks_one(stage: Stage) -> None:
    """While all is well there are no copies."""
    for _ in range(5):
        assert read(stage) == "a"
    assert stage.asked == [A] * 5


@pytest.mark.parametrize("request_", [get(), put()], ids=["read", "fenced"])
def test_silent_endpoint_is_hedged_after_the_first_delay(
    stage: Stage, request_: Request[Result]
) -> None:
    """After a second without an answer the next one is asked as well."""
    stage.plans[A] = [never]
    assert text_of(stage.client.send(request_)) == "b"
    assert stage.asked_when == [(0, A), (1.0, B)]


def test_read_answer_within_the_delay_is_not_hedged(stage: Stage) -> None:
    """Just in time is in time."""
    stage.plans[A] = [after(0.99, value("a"))]
    assert read(stage) == "a"
    assert stage.asked == [A]


@pytest.mark.parametrize(
    ("request_", "delay"),
    [pytest.param(get(), 0.02, id="read"), pytest.param(put(), 0.1, id="fenced")],
)
def test_silent_endpoint_of_a_quick_cluster_is_hedged_soon(
    stage: Stage, request_: Request[Result], delay: float
) -> None:
    """The delay follows the latency that was measured, down to its floor."""
    for _ in range(30):
        stage.plans[A] = [after(0.001, value("a"))]
        stage.client.send(request_)
    stage.restart()
    stage.plans[A] = [never]
    assert text_of(stage.client.send(request_)) == "b"
    assert stage.asked_when == [(0, A), (pytest.approx(delay), B)]


def test_slow_cluster_is_not_hedged(stage: Stage) -> None:
    """Where answers take 60 to 70 ms, 75 ms are nothing unusual."""
    for number in range(30):
        stage.plans[A] = [after(0.07 if number % 2 else 0.06, value("a"))]
        read(stage)
    stage.plans[A] = [after(0.075, value("a"))]
    stage.restart()
    read(stage)
    assert stage.asked == [A]


def test_two_silent_endpoints_the_third_is_asked(stage: Stage) -> None:
    """Each gets its delay."""
    stage.plans |= {A: [never], B: [never]}
    assert read(stage) == "c"
    assert stage.asked_when == [(0, A), (1.0, B), (2.0, C)]


def test_failure_is_not_waited_for(stage: Stage) -> None:
    """An attempt that has failed is followed by the next one at once."""
    stage.plans[A] = [after(0.3, failed())]
    assert read(stage) == "b"
    assert stage.asked_when == [(0, A), (0.3, B)]


def test_copy_that_fails_is_followed_at_once(stage: Stage) -> None:
    """A copy's failure needs no further delay."""
    stage.plans |= {A: [never], B: [after(0.2, failed())]}
    assert read(stage) == "c"
    assert stage.asked_when == [(0, A), (1.0, B), (1.2, C)]


def test_all_silent_further_copies_are_spaced(stage: Stage) -> None:
    """More copies don't hurry anybody; those sent before an election may be lost."""
    all_do(stage, never)
    for endpoint in ALL:
        stage.client.health.answered(endpoint, "get", stage.time.now - 0.0001)
    with pytest.raises(DeadlineExceeded):
        read(stage, timeout=3)
    times = [start.seconds for start in stage.starts]
    pauses = [b - a for a, b in itertools.pairwise(times[2:])]
    assert min(pauses) >= 0.29
    assert len(times) <= 13


def test_budget_used_up_waits_longer(stage: Stage) -> None:
    """On a busy cluster that answers, few requests go to a second endpoint."""
    health = stage.client.health
    for _ in range(50):
        health.answered(A, "get", stage.time.now - 0.001)
    for _ in range(20):
        health.may_hedge("get")
    stage.plans[A] = [never]
    stage.restart()

    def answered_meanwhile() -> None:
        health.answered(A, "get", stage.time.now - 0.001)

    stage.on_start = answered_meanwhile
    assert read(stage) == "b"
    assert stage.asked_when[1][0] >= 1.0


def test_one_endpoint_is_not_hedged(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nowhere else to go: the call waits on its connection."""
    stage = Stage(monkeypatch, endpoints=[A])
    stage.plans[A] = [after(4.9, value("a"))]
    assert read(stage) == "a"
    assert stage.asked == [A]


# --- whose answer counts ------------------------------------------------------


def test_first_answer_wins_though_asked_last(stage: Stage) -> None:
    """The copy was quicker."""
    stage.plans |= {A: [after(1.5, value("a"))], B: [after(0.3, value("b"))]}
    assert read(stage) == "b"
    assert stage.elapsed == 1.3


def test_first_answer_wins_though_overtaking_was_tried(stage: Stage) -> None:
    """The first attempt is still listened to."""
    stage.plans |= {A: [after(1.2, value("a"))], B: [after(0.5, value("b"))]}
    assert read(stage) == "a"
    assert stage.elapsed == 1.2


def test_bad_answer_of_a_copy_is_not_used(stage: Stage) -> None:
    """First means the first one that can be used."""
    stage.plans |= {
        A: [after(1.5, value("a"))],
        B: [after(0.1, html)],
        C: [after(0.1, no_quorum)],
    }
    assert read(stage) == "a"
    assert stage.asked[:3] == [A, B, C]


def test_losers_are_given_up(stage: Stage) -> None:
    """Nobody listens any more, so their connections are closed."""
    stage.plans |= {A: [never], B: [never]}
    assert read(stage) == "c"
    assert [(e.endpoint, e.given_up) for e in stage.exchanges] == [(A, True), (B, True)]


def test_losers_are_given_up_after_a_refusal(stage: Stage) -> None:
    """Also where etcd's answer is an error."""
    stage.plans |= {A: [never], B: [refusal(100, 404)]}
    with pytest.raises(KeyNotFound):
        read(stage)
    assert stage.running() == []


def test_losers_are_given_up_at_the_deadline(stage: Stage) -> None:
    """A call leaves nothing under way."""
    all_do(stage, never)
    with pytest.raises(DeadlineExceeded):
        read(stage)
    assert stage.running() == []


def test_losers_are_given_up_when_interrupted(stage: Stage) -> None:
    """Control-C is no reason to leak."""
    stage.plans[A] = [never]

    def interrupt() -> None:
        if stage.starts:
            raise KeyboardInterrupt

    stage.on_start = interrupt
    with pytest.raises(KeyboardInterrupt):
        read(stage)
    assert stage.running() == []


def test_copies_at_one_endpoint_are_two_at_most(stage: Stage) -> None:
    """A member that is silent for long is not piled upon."""
    all_do(stage, never)
    most: Counter[str] = Counter()

    def count() -> None:
        now = Counter(exchange.endpoint for exchange in stage.running())
        for endpoint, number in now.items():
            most[endpoint] = max(most[endpoint], number)

    stage.on_start = count
    with pytest.raises(DeadlineExceeded):
        read(stage, timeout=60)
    assert len(stage.starts) > 20
    assert most == {A: 2, B: 2, C: 2}


# --- who is left --------------------------------------------------------------


def test_overtaken_once_stays_pinned(stage: Stage) -> None:
    """One slow answer may be chance."""
    stage.plans[A] = [never]
    read(stage)
    assert stage.client.pinned == A


def test_overtaken_twice_is_left(stage: Stage) -> None:
    """A member that is stopped costs two delays, no more."""
    stage.plans[A] = [never]
    read(stage)
    read(stage)
    assert stage.client.pinned == B
    stage.restart()
    assert read(stage) == "b"
    assert stage.asked == [B]


def test_overtaken_member_that_is_left_rests(stage: Stage) -> None:
    """It is not the one to try when the next one fails."""
    stage.plans[A] = [never]
    read(stage)
    read(stage)
    assert stage.client.order()[-1] == A


def test_overtaken_and_quick_in_between_stays(stage: Stage) -> None:
    """Twice in a row it must be."""
    stage.plans[A] = [never, value("a"), never, value("a")]
    for _ in range(4):
        read(stage)
    assert stage.client.pinned == A


def test_failed_member_is_left_at_once(stage: Stage) -> None:
    """A failure is no chance."""
    stage.plans[A] = [failed(), value("a")]
    read(stage)
    assert stage.client.pinned == B


def test_member_that_wins_late_stays(stage: Stage) -> None:
    """The copy had no part in it."""
    stage.plans |= {A: [after(1.2, value("a"))], B: [never]}
    for _ in range(3):
        assert read(stage) == "a"
    assert stage.client.pinned == A


# --- writes -------------------------------------------------------------------


def test_fenced_write_deadline_with_copies_out_is_unknown(stage: Stage) -> None:
    """They may be carried out yet; all of them are listed."""
    all_do(stage, never)
    with pytest.raises(OutcomeUnknown) as caught:
        stage.client.send(put())
    assert {attempt.endpoint for attempt in caught.value.attempts} == set(ALL)
    assert all(attempt.sent for attempt in caught.value.attempts)
    assert stage.elapsed == 5.0


def test_fenced_write_deadline_nothing_sent_is_no_doubt(stage: Stage) -> None:
    """What never left this machine was not written."""
    all_do(stage, unconnected)
    with pytest.raises((DeadlineExceeded, ClusterUnavailable)) as caught:
        stage.client.send(put())
    assert not any(attempt.sent for attempt in caught.value.attempts)


def test_fenced_write_deadline_one_sent_is_unknown(stage: Stage) -> None:
    """One is enough."""
    all_do(stage, unconnected)
    stage.plans[B] = [failed(sent=True), failed(sent=False)]
    with pytest.raises(OutcomeUnknown):
        stage.client.send(put())


def test_read_deadline_with_copies_out_is_a_timeout(stage: Stage) -> None:
    """A read that was not answered did nothing."""
    all_do(stage, never)
    with pytest.raises(DeadlineExceeded, match="within 5 s") as caught:
        read(stage)
    assert {attempt.endpoint for attempt in caught.value.attempts} == set(ALL)


def test_fenced_write_refused_while_a_copy_is_out_says_so(stage: Stage) -> None:
    """The copy may be what the refusal met."""
    stage.plans |= {A: [never], B: [refusal(105)]}
    with pytest.raises(KeyExists) as caught:
        stage.client.send(put())
    assert caught.value.unanswered


def test_fenced_write_refused_after_a_lost_answer_says_so(stage: Stage) -> None:
    """The attempt that broke may have been carried out."""
    stage.plans |= {A: [failed(sent=True)], B: [refusal(105)]}
    with pytest.raises(KeyExists) as caught:
        stage.client.send(put())
    assert caught.value.unanswered


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(failed(sent=False), id="refused"),
        pytest.param(unconnected, id="connecting"),
    ],
)
def test_fenced_write_refused_and_nothing_else_sent_is_certain(
    stage: Stage, plan: Plan
) -> None:
    """No copy but this one can have been received."""
    stage.plans |= {A: [plan], B: [refusal(105)]}
    with pytest.raises(KeyExists) as caught:
        stage.client.send(put())
    assert not caught.value.unanswered


def test_fenced_write_refused_at_first_is_certain(stage: Stage) -> None:
    """The usual refusal."""
    stage.plans[A] = [refusal(105)]
    with pytest.raises(KeyExists) as caught:
        stage.client.send(put())
    assert not caught.value.unanswered


def test_fenced_write_copies_are_the_same_request(stage: Stage) -> None:
    """Method, condition and body."""
    stage.plans |= {A: [never], B: [failed()]}
    request = put()
    stage.client.send(request)
    sent = {(s.request.method, s.request.target, s.request.body) for s in stage.starts}
    assert sent == {(request.method, request.target, request.body)}
    assert stage.asked == [A, B, C]


@pytest.mark.parametrize("plan", [never, failed(), no_quorum], ids=["0", "1", "2"])
def test_unfenced_write_is_never_copied(stage: Stage, plan: Plan) -> None:
    """Carried out twice it would do something else."""
    stage.plans[A] = [plan]
    with pytest.raises(OutcomeUnknown) as caught:
        stage.client.send(put(Resend.IF_NOT_SENT))
    assert stage.asked == [A]
    assert len(caught.value.attempts) == 1


def test_unfenced_write_never_sent_goes_on(stage: Stage) -> None:
    """What has not left may go elsewhere."""
    stage.plans |= {A: [failed(sent=False)], B: [failed(sent=False)]}
    assert text_of(stage.client.send(put(Resend.IF_NOT_SENT))) == "c"


def test_watch_is_not_copied(stage: Stage) -> None:
    """It is late by design."""
    stage.plans[A] = [after(4.0, value("a"))]
    assert text_of(stage.client.send(get(patient=True))) == "a"
    assert stage.asked == [A]


# --- session reads: the proof -------------------------------------------------


def quorums(stage: Stage) -> list[tuple[str, bool]]:
    """Tell who was asked, and whether for a quorum read."""
    return [(s.endpoint, "quorum=true" in s.request.target) for s in stage.starts]


def prove(stage: Stage, age: float) -> None:
    """Have a proof of some age, by a read in the past."""
    read(stage, "session")
    stage.time.now += age
    stage.restart()


def test_session_read_at_first_is_a_quorum_read(stage: Stage) -> None:
    """It proves that the member is in touch with the others."""
    read(stage, "session")
    read(stage, "session")
    assert quorums(stage) == [(A, True), (A, False)]


def test_session_read_head_is_proved_by_get(stage: Stage) -> None:
    """HEAD ignores the parameter."""
    request = get("session")
    request.method = "HEAD"
    stage.client.send(request)
    assert stage.starts[0].request.method == "GET"


def test_session_read_with_query_keeps_it(stage: Stage) -> None:
    """The parameter is added to those that are there."""
    request = get("session")
    request.target = f"{TARGET}?recursive=true"
    stage.client.send(request)
    assert stage.starts[0].request.target == f"{TARGET}?recursive=true&quorum=true"


def test_session_read_renewal_silent_plain_read_takes_over(stage: Stage) -> None:
    """While the old proof counts there is no need to wait for the new one."""
    prove(stage, 1.6)
    stage.plans[A] = [never, value("a")]
    assert read(stage, "session") == "a"
    assert quorums(stage) == [(A, True), (A, False)]
    assert stage.client.pinned == A


def test_session_read_renewal_answered_while_plain_read_waits_wins(
    stage: Stage,
) -> None:
    """The quorum read is still listened to, and proves what it proves."""
    prove(stage, 1.6)
    stage.plans[A] = [after(0.5, value("quorum")), after(0.9, value("plain"))]
    assert read(stage, "session") == "quorum"
    assert stage.client.freshness(V2_API).needs_proof() is Need.NO


def test_session_read_plain_answer_proves_nothing(stage: Stage) -> None:
    """The proof ends when it ends, however many plain reads there were."""
    prove(stage, 1.6)
    stage.plans[A] = [never, value("a")]
    read(stage, "session")
    stage.time.now += 0.5
    assert stage.client.freshness(V2_API).needs_proof() is Need.YES


def test_session_read_renewal_failed_asks_the_next_for_a_proof(stage: Stage) -> None:
    """A member that can't is left; another one may be in touch."""
    prove(stage, 1.6)
    stage.plans[A] = [no_quorum]
    assert read(stage, "session") == "b"
    assert quorums(stage) == [(A, True), (B, True)]
    assert stage.client.pinned == B


def test_session_read_proof_over_silent_asks_the_next_for_one(stage: Stage) -> None:
    """Then a plain read will not do."""
    prove(stage, 2.1)
    stage.plans[A] = [never]
    assert read(stage, "session") == "b"
    assert quorums(stage) == [(A, True), (B, True)]


def test_session_read_member_that_fails_a_proof_is_left_at_once(stage: Stage) -> None:
    """A silent quorum read says enough."""
    prove(stage, 2.1)
    stage.plans[A] = [never]
    read(stage, "session")
    assert stage.client.pinned == B


def test_session_read_nobody_can_prove_says_what_to_do(stage: Stage) -> None:
    """It fails, though plain reads would be answered."""
    prove(stage, 2.1)
    all_do(stage, no_quorum)
    with pytest.raises(ClusterUnavailable, match=r"using\(consistency='any'\)"):
        read(stage, "session")
    assert all(quorum for _, quorum in quorums(stage))


def test_session_read_proof_is_as_old_as_its_question(stage: Stage) -> None:
    """What was answered late was the newest state when it was asked."""
    stage.plans[A] = [after(0.9, value("a"))]
    read(stage, "session")
    stage.time.now += 1.2
    assert stage.client.freshness(V2_API).needs_proof() is Need.YES


def test_acknowledged_write_proves_contact(stage: Stage) -> None:
    """The cluster agreed on it."""
    stage.client.send(put())
    assert read(stage, "session") == "a"
    assert quorums(stage) == [(A, False), (A, False)]


def test_refused_quorum_read_proves_contact(stage: Stage) -> None:
    """That a key is absent is agreed on like a value."""
    stage.plans[A] = [refusal(100, 404), value("a")]
    with pytest.raises(KeyNotFound):
        read(stage, "session")
    read(stage, "session")
    assert quorums(stage) == [(A, True), (A, False)]


def test_any_read_asks_for_no_proof(stage: Stage) -> None:
    """Whatever the member in use says."""
    read(stage)
    assert quorums(stage) == [(A, False)]


# --- session reads: answers that are too old ----------------------------------


@pytest.fixture
def seen(stage: Stage) -> Stage:
    """Give a client that has seen index 9, proved just now."""
    stage.plans[A] = [value("new", 9)]
    read(stage, "session")
    stage.restart()
    return stage


def test_stale_answer_is_asked_for_once_more(seen: Stage) -> None:
    """A follower catches up within milliseconds."""
    seen.plans[A] = [value("old", 8), value("new", 9)]
    assert read(seen, "session") == "new"
    assert seen.asked_when == [(0, A), (0.005, A)]
    assert seen.client.pinned == A


def test_stale_answer_twice_asks_the_next(seen: Stage) -> None:
    """One that lags for longer is passed over."""
    seen.plans |= {A: [value("old", 8)], B: [value("new", 9)]}
    assert read(seen, "session") == "new"
    assert quorums(seen) == [(A, False), (A, False), (B, False)]


def test_stale_answers_everywhere_ask_with_a_quorum(seen: Stage) -> None:
    """At last the cluster itself is asked."""
    seen.plans[A] = [value("old", 8), value("old", 8), value("new", 9)]
    seen.plans |= {B: [value("old", 8)], C: [value("old", 8)]}
    assert read(seen, "session") == "new"
    assert quorums(seen) == [
        (A, False),
        (A, False),
        (B, False),
        (C, False),
        (A, True),
    ]


def test_stale_answers_are_not_used_whoever_gives_them(seen: Stage) -> None:
    """Without a quorum there is no value, rather than an old one."""
    for endpoint, times in ((A, 2), (B, 1), (C, 1)):
        seen.plans[endpoint] = [value("old", 8)] * times + [no_quorum]
    with pytest.raises(ClusterUnavailable):
        read(seen, "session", timeout=1)


def test_stale_everywhere_with_a_quorum_is_a_rebuilt_cluster(seen: Stage) -> None:
    """What all agree on is the truth, though the client has seen more."""
    all_do(seen, value("rebuilt", 3))
    with pytest.warns(ClusterRebuilt):
        assert read(seen, "session") == "rebuilt"
    assert seen.client.freshness(V2_API).index == 3
    assert read(seen, "session") == "rebuilt"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(said("<html>", index=8), id="html"),
        pytest.param(said("<html>", 502, index=8), id="bad-gateway"),
        pytest.param(refusal(301, 500, index=8), id="electing"),
        pytest.param(said('{"action":', index=8), id="cut-off"),
    ],
)
def test_quorum_answer_that_is_none_is_no_rebuilt_cluster(
    stage: Stage, plan: Plan
) -> None:
    """What can't be used as an answer tells nothing of the cluster's index."""
    stage.client.send(put())
    stage.client.freshness(V2_API).index = 9
    stage.time.now += 10  # the proof is over
    stage.plans |= {A: [plan], B: [value("b", 9)]}
    assert read(stage, "session") == "b"
    assert stage.client.freshness(V2_API).index == 9


@pytest.mark.parametrize("consistency", ["session", "any"])
def test_answer_that_is_none_is_not_remembered(stage: Stage, consistency: str) -> None:
    """Else every proper answer would be stale after it."""
    stage.plans[A] = [said("<html>", index=10**15)]
    assert read(stage, consistency) == "b"
    assert stage.client.freshness(V2_API).index == 7


def test_stale_answer_is_fine_for_any(seen: Stage) -> None:
    """Who takes anything gets it at once."""
    seen.plans[A] = [value("old", 8)]
    assert read(seen) == "old"
    assert seen.asked == [A]


def test_stale_refusal_is_not_believed(seen: Stage) -> None:
    """A member that has not seen the key's creation says it is absent."""
    seen.plans[A] = [refusal(100, 404, index=8), value("new", 9)]
    assert read(seen, "session") == "new"


# --- 307 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get(), id="read"),
        pytest.param(put(), id="fenced"),
        pytest.param(put(Resend.IF_NOT_SENT), id="unfenced"),
    ],
)
def test_redirect_to_a_known_endpoint_is_followed(
    stage: Stage, request_: Request[Result]
) -> None:
    """With method, target and body as they were."""
    stage.plans[A] = [redirect(C + request_.target)]
    assert text_of(stage.client.send(request_)) == "c"
    assert stage.asked == [A, C]
    sent = stage.starts[1].request
    assert (sent.method, sent.target, sent.body) == (
        request_.method,
        request_.target,
        request_.body,
    )


def test_redirect_of_a_copy_is_followed(stage: Stage) -> None:
    """Also where the answer comes later."""
    stage.plans |= {A: [never], B: [after(0.1, redirect(C + TARGET))]}
    assert read(stage) == "c"


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("http://evil:1" + TARGET, id="elsewhere"),
        pytest.param("https://b:2" + TARGET, id="other-scheme"),
        pytest.param(B + "/v2/keys/other", id="other-target"),
        pytest.param(B + TARGET + "?quorum=true", id="more-query"),
        pytest.param(B, id="no-target"),
        pytest.param(TARGET, id="relative"),
        pytest.param("", id="empty"),
        pytest.param(B + "@evil:1" + TARGET, id="credentials"),
        pytest.param(B + ".evil:1" + TARGET, id="longer-host"),
    ],
)
def test_redirect_elsewhere_is_not_followed(stage: Stage, location: str) -> None:
    """The endpoint counts as failed; the next one is asked."""
    stage.plans[A] = [redirect(location)]
    assert read(stage) == "b"
    assert stage.asked == [A, B]


def test_redirect_elsewhere_everywhere_is_an_error_with_an_endpoint(
    stage: Stage,
) -> None:
    """Nobody else than the endpoints given is ever asked."""
    all_do(stage, redirect("http://evil:1" + TARGET))
    with pytest.raises(InvalidResponse, match=r"http://[abc]:[123] redirects"):
        read(stage)
    assert set(stage.asked) <= set(ALL)


@pytest.mark.parametrize(
    "request_", [get(), put(Resend.IF_NOT_SENT)], ids=["read", "write"]
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_redirect_loop_is_an_error_with_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, length: int, request_: Request[Result]
) -> None:
    """After at most 10 redirects."""
    endpoints = ALL[:length]
    stage = Stage(monkeypatch, endpoints=endpoints)
    for number, endpoint in enumerate(endpoints):
        after_it = endpoints[(number + 1) % length]
        stage.plans[endpoint] = [redirect(after_it + request_.target)]
    errors = (InvalidResponse, ClusterUnavailable, OutcomeUnknown)
    with pytest.raises(errors, match=r"http://[abc]:"):
        stage.client.send(request_)


def test_redirect_loop_of_two_ends_at_the_third(stage: Stage) -> None:
    """One good member is enough."""
    stage.plans |= {A: [redirect(B + TARGET)], B: [redirect(A + TARGET)]}
    assert read(stage) == "c"
    # The first request, 10 redirects, and what failed is asked again at most.
    assert len(stage.starts) <= 14


def test_redirect_ten_times_is_followed(stage: Stage) -> None:
    """As in Go's client."""
    stage.plans |= {
        A: [redirect(B + TARGET)] * 5 + [value("a")],
        B: [redirect(A + TARGET)],
    }
    assert read(stage) == "a"
    assert len(stage.starts) == 11


def test_redirect_of_a_hedged_call_leaves_other_copies(stage: Stage) -> None:
    """A redirect is no end of the call."""
    stage.plans |= {A: [after(1.3, value("a"))], B: [redirect(C + TARGET)], C: [never]}
    assert read(stage) == "a"


# --- on real sockets ----------------------------------------------------------


class SocketExchange:
    """An exchange that ends when a byte is sent to it."""

    def __init__(self, endpoint: str, outcome: Answer | ExchangeFailed) -> None:
        self.endpoint = endpoint
        self.ended = False
        self.sent = True
        self.closed = False
        self._outcome = outcome
        self._here, self._there = socket.socketpair()

    def end(self) -> None:
        """End it."""
        self._there.send(b"x")

    def waiting(self) -> Waiting:
        """See `Exchange.waiting`."""
        return Waiting(self._here, READ, float("inf"))

    def wait(self, timeout: float) -> bool:
        """See `Exchange.wait`."""
        if not self.ended and ready([self.waiting()], timeout):
            self.advance()
        return self.ended

    def advance(self, *, late: bool = False) -> None:
        """See `Exchange.advance`."""
        assert not late, "it has all the time in the world"
        self.ended = True

    def result(self) -> Answer:
        """See `Exchange.result`."""
        if isinstance(self._outcome, Answer):
            return self._outcome
        raise self._outcome

    def give_up(self) -> None:
        """See `Exchange.give_up`."""
        self.close()

    def showed(self, identity: Identity) -> None:
        """See `Exchange.showed`."""

    def close(self) -> None:
        """Close the sockets."""
        self.closed = True
        self._here.close()
        self._there.close()


class SocketTransport:
    """Gives out exchanges made before; ends one of them when another begins."""

    def __init__(self, *exchanges: SocketExchange, ends: SocketExchange) -> None:
        self.exchanges = {exchange.endpoint: exchange for exchange in exchanges}
        self.begun: list[str] = []
        self._ends = ends

    def begin(
        self,
        endpoint: str,
        request: HTTPRequest,
        timeout: float,
        identity: Identity | None = None,
    ) -> Any:
        """Begin one; the last of them makes one end."""
        self.begun.append(endpoint)
        if len(self.begun) == len(self.exchanges):
            self._ends.end()
        return self.exchanges[endpoint]

    def distrust(self, endpoint: str) -> None:
        """See `Transport.distrust`."""

    def keep_only(self, endpoints: Collection[str]) -> None:
        """See `Transport.keep_only`."""

    def close(self) -> None:
        """See `Transport.close`."""


@pytest.mark.parametrize("winner", [A, B])
def test_real_sockets_whoever_can_be_read_first_wins(winner: str) -> None:
    """Both are waited for at the same time; the other one is given up."""
    body = '{"action":"get","node":{"key":"/k","value":"%s"}}'
    exchanges = {
        url: SocketExchange(url, answer(body % url, endpoint=url)) for url in (A, B)
    }
    transport = SocketTransport(*exchanges.values(), ends=exchanges[winner])
    policy = Policy(first_delay=0.01)
    client = make_client([A, B], transport, shuffle=False, policy=policy)
    assert text_of(client.send(get())) == winner
    assert transport.begun == [A, B]
    loser = exchanges[A if winner == B else B]
    assert loser.closed
    exchanges[winner].close()


def test_real_sockets_nothing_is_left_open() -> None:
    """The losers' sockets are closed by the client, not by the collector."""
    exchanges = [SocketExchange(url, ExchangeFailed("x", sent=True)) for url in (A, B)]
    transport = SocketTransport(*exchanges, ends=exchanges[1])
    client = make_client(
        [A, B],
        transport,
        shuffle=False,
        policy=Policy(first_delay=0.01, again=9),
        timeout=0.2,
    )
    with pytest.raises((DeadlineExceeded, ClusterUnavailable)):
        client.send(get())
    exchanges[1].close()
    assert exchanges[0].closed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()

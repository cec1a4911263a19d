"""What a client remembers of its cluster, and from which answers it learns nothing.

Also what goes before a write that may not be sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from etcdmap import EtcdMapping, KeysAPI
from etcdmap.client import Resend
from etcdmap.errors import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapError,
    InvalidResponse,
    OutcomeUnknown,
    RequestFailed,
    Unauthorized,
    WrongCluster,
)
from etcdmap.v2 import V2_API
from etcdmap.v2.responses import guarded, result_of

from support.proper import Parts
from support.requests import Asked, Request
from support.scripted_cluster import A, B, C
from support.staged import (
    Plan,
    Stage,
    after,
    failed,
    never,
    no_quorum,
    refusal,
    said,
    unconnected,
    value,
)

ID = "x-etcd-cluster-id"


def cluster(name: str) -> dict[str, Any]:
    """Make the header by which an answer tells its cluster."""
    return {ID: name}


def get() -> Request[Any]:
    """Make a read."""
    read = partial(guarded, result_of, Asked("/k"))
    return Request("GET", "/v2/keys/k", read, resend=Resend.ALWAYS, key="/k")


def append() -> Request[Any]:
    """Make a write that may not be sent twice."""
    read = partial(guarded, result_of, Asked("/k", "create", inside=True))
    return Request("POST", "/v2/keys/k", read, b"value=v", key="/k")


def put() -> Request[Any]:
    """Make a write that may be sent twice."""
    read = partial(guarded, result_of, Asked("/k", "compareAndSwap"))
    target = "/v2/keys/k?prevIndex=3"
    return Request("PUT", target, read, b"value=v", Resend.FENCED, key="/k")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give three endpoints of one cluster that answer at once."""
    stage = Stage(monkeypatch)
    all_do(stage, value("v", **cluster("c1")))
    return stage


def all_do(stage: Stage, *plans: Plan) -> None:
    """Have every endpoint do the same."""
    for endpoint in (A, B, C):
        stage.plans[endpoint] = list(plans)


def remembered(stage: Stage) -> tuple[object, ...]:
    """Give what may only change by answers that were understood."""
    session = stage.client.freshness(V2_API)
    return session.index, session.cluster_id, session.needs_proof()


# --- refused or nonsensical answers -----------------------------------------------

GOOD = '{"action":"get","node":{"key":"/k","value":"v","modifiedIndex":3}}'
OTHER = '{"action":"get","node":{"key":"/other","value":"v","modifiedIndex":3}}'

#: Each with a cluster's id and an index that are not to be believed.
NO_ANSWERS = [
    pytest.param("<html>", 200, id="html"),
    pytest.param("", 200, id="empty"),
    pytest.param("null", 200, id="null"),
    pytest.param(GOOD[:-5], 200, id="cut-off"),
    pytest.param(OTHER, 200, id="another-key"),
    pytest.param(GOOD.replace("get", "delete"), 200, id="another-action"),
    pytest.param('{"action":"get"}', 200, id="no-node"),
    pytest.param(GOOD, 204, id="no-content"),
    pytest.param(GOOD, 301, id="redirect"),
    pytest.param("", 307, id="redirect-nowhere"),
    pytest.param("404 page not found", 404, id="v2-off"),
    pytest.param("<html>", 400, id="400"),
    pytest.param("late", 408, id="408"),
    pytest.param("oops", 500, id="500"),
    pytest.param("busy", 503, id="503"),
    pytest.param('{"errorCode":300,"message":"no","cause":""}', 500, id="300"),
    pytest.param('{"errorCode":110,"message":"no","cause":""}', 401, id="401"),
    pytest.param('{"message":"no"}', 401, id="401-plain"),
]
REQUESTS = [
    pytest.param(get, id="read"),
    pytest.param(put, id="fenced"),
    pytest.param(append, id="lone"),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("body", "status"), NO_ANSWERS)
def test_answer_that_is_none_fixes_nothing_at_first(
    stage: Stage, body: str, status: int, request_: Callable[[], Request[Any]]
) -> None:
    """Whatever it says of cluster and index: the first one understood counts."""
    before = remembered(stage)
    all_do(stage, said(body, status, index=10**9, **cluster("c9")))
    with pytest.raises(EtcdMapError):
        stage.client.send(request_(), timeout=1)
    assert remembered(stage) == before
    all_do(stage, value("v", index=7, **cluster("c1")))
    stage.client.send(get())
    assert remembered(stage)[:2] == (7, "c1")


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        *((*answer.values, {ID: "c9"}) for answer in NO_ANSWERS),
        ("<html>", 200, {}),
        ("<html>", 200, {ID: ""}),
    ],
)
@pytest.mark.parametrize("request_", REQUESTS)
def test_answer_that_is_none_changes_nothing_later(
    stage: Stage,
    body: str,
    status: int,
    headers: dict[str, Any],
    request_: Callable[[], Request[Any]],
) -> None:
    """Neither the index, nor the cluster, nor how quick an endpoint is."""
    stage.client.send(put())
    before = remembered(stage)
    delays = [stage.client.health.delay(kind) for kind in ("get", "write")]
    all_do(stage, said(body, status, index=10**9, **headers))
    with pytest.raises(EtcdMapError):
        stage.client.send(request_(), timeout=0.9)
    assert remembered(stage) == before
    assert [stage.client.health.delay(kind) for kind in ("get", "write")] == delays
    all_do(stage, value("v", index=8, **cluster("c1")))
    stage.client.send(get())
    assert remembered(stage)[:2] == (8, "c1")


def test_answer_that_is_none_is_not_pinned(stage: Stage) -> None:
    """The endpoint that answered as etcd does is."""
    stage.plans |= {A: [failed()], B: [said("<html>", **cluster("c1"))]}
    stage.client.send(get())
    assert stage.client.pinned == C


@pytest.mark.parametrize("request_", REQUESTS)
def test_endpoint_without_an_id_is_the_first_cluster(
    stage: Stage, request_: Callable[[], Request[Any]]
) -> None:
    """Old servers and proxies tell none; the first one that does is remembered."""
    all_do(stage, value("v", index=7))
    stage.client.send(request_())
    assert stage.client.freshness(V2_API).cluster_id is None
    all_do(stage, value("v", index=8, **cluster("")))
    stage.client.send(request_())
    assert stage.client.freshness(V2_API).cluster_id is None
    all_do(stage, value("v", index=9, **cluster("c1")))
    stage.client.send(request_())
    assert stage.client.freshness(V2_API).cluster_id == "c1"


# --- 401 ------------------------------------------------------------------------------

unauthorized = refusal(110, 401, index=0)


def test_401_of_one_endpoint_is_believed() -> None:
    """There is nobody else to ask."""
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(patch, endpoints=[A])
        stage.plans[A] = [unauthorized]
        with pytest.raises(Unauthorized):
            stage.client.send(get())
        assert stage.asked == [A]


@pytest.mark.parametrize("request_", REQUESTS)
def test_401_of_one_of_three_is_not_believed(
    stage: Stage, request_: Callable[[], Request[Any]]
) -> None:
    """It may be out of touch; nothing was carried out by it."""
    stage.plans[A] = [unauthorized]
    stage.client.send(request_())
    assert stage.asked == [A, B]


@pytest.mark.parametrize("request_", REQUESTS)
def test_401_of_two_of_three_is_told_at_once(
    stage: Stage, request_: Callable[[], Request[Any]]
) -> None:
    """One of most of them is in touch."""
    all_do(stage, unauthorized)
    with pytest.raises(Unauthorized) as caught:
        stage.client.send(request_())
    assert stage.asked == [A, B]
    assert stage.elapsed == 0
    assert not caught.value.unanswered


def test_401_twice_by_the_same_endpoint_is_one(stage: Stage) -> None:
    """The others are down: that nobody answers is what is wrong."""
    all_do(stage, failed(sent=False))
    stage.plans[A] = [unauthorized]
    with pytest.raises(ClusterUnavailable, match="no endpoint could be used"):
        stage.client.send(get())
    assert stage.elapsed == 5.0


def test_401_after_a_lost_answer_leaves_a_write_in_doubt(stage: Stage) -> None:
    """The copy that was not answered may have been carried out."""
    all_do(stage, unauthorized)
    stage.plans[A] = [failed(sent=True)]
    with pytest.raises(Unauthorized) as caught:
        stage.client.send(put())
    assert caught.value.unanswered


def test_401_is_no_failure_of_its_endpoint(stage: Stage) -> None:
    """It does not rest: who has a right elsewhere goes on asking it."""
    all_do(stage, unauthorized)
    with pytest.raises(Unauthorized):
        stage.client.send(get())
    assert stage.client.order() == (A, B, C)
    assert not stage.client.freshness(V2_API).in_doubt()


# --- before a write that may not be sent twice ---------------------------------------


def kinds(stage: Stage) -> list[tuple[str, str]]:
    """Tell who was asked for what."""
    named = []
    for start in stage.starts:
        contact = Parts(start.request).is_contact
        named.append((start.endpoint, "contact" if contact else start.request.method))
    return named


def test_lone_write_while_all_is_well_is_one_request(stage: Stage) -> None:
    """Nothing is asked before it."""
    for _ in range(3):
        stage.client.send(append())
    assert kinds(stage) == [(A, "POST")] * 3


def test_lone_write_after_a_failure_looks_for_contact_first(stage: Stage) -> None:
    """An endpoint in touch with the others takes it; the one that failed does not."""
    stage.plans[A] = [never]
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append(), timeout=1)
    stage.restart()
    stage.client.send(append())
    assert kinds(stage) == [(B, "contact"), (B, "POST")]
    stage.restart()
    stage.client.send(append())  # the one before proved it
    assert kinds(stage) == [(B, "POST")]


def test_lone_write_contact_passes_over_those_that_hang(stage: Stage) -> None:
    """At most one call fails, whoever hangs next."""
    stage.plans |= {A: [never], B: [never]}
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append(), timeout=1)
    stage.restart()
    stage.client.send(append())
    assert kinds(stage)[-1] == (C, "POST")
    assert stage.elapsed < 2
    assert [kind for _, kind in kinds(stage)].count("POST") == 1


@pytest.mark.parametrize("plan", [never, failed(), no_quorum], ids=["0", "1", "2"])
def test_lone_write_without_contact_was_not_sent(stage: Stage, plan: Plan) -> None:
    """The error says so: trying again is safe."""
    all_do(stage, never)
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append(), timeout=1)
    stage.restart()
    all_do(stage, plan)
    with pytest.raises(RequestFailed, match="nothing was sent") as caught:
        stage.client.send(append(), timeout=2)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert {kind for _, kind in kinds(stage)} == {"contact"}
    assert stage.elapsed <= 2.0
    assert caught.value.attempts


def test_lone_write_contact_and_write_share_the_deadline(stage: Stage) -> None:
    """What the look took is not given to the write once more."""
    all_do(stage, failed())
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append(), timeout=1)
    good = value("v", **cluster("c1"))
    all_do(stage, after(0.8, good), never)
    stage.restart()
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append(), timeout=1)
    assert stage.elapsed == 1.0


def test_lone_write_whose_contact_is_refused_is_sent(stage: Stage) -> None:
    """Who may write but not read can't find out."""
    stage.plans[A] = [failed(), value("v", **cluster("c1"))]
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append())
    for endpoint in (B, C):
        stage.plans[endpoint] = [unauthorized, value("v", **cluster("c1"))]
    stage.plans[A] = [unauthorized, value("v", **cluster("c1"))]
    stage.restart()
    stage.client.send(append())
    assert [kind for _, kind in kinds(stage)] == ["contact", "POST"]


def test_lone_write_not_sent_in_time_goes_elsewhere(stage: Stage) -> None:
    """No connection after the hedging delay: it is taken back, and not sent later."""
    stage.plans[A] = [unconnected]
    stage.client.send(append())
    assert stage.asked_when == [(0, A), (1.0, B)]
    assert stage.exchanges[0].given_up
    assert stage.client.pinned == B


def test_lone_write_that_was_sent_waits(stage: Stage) -> None:
    """Only its answer can tell."""
    stage.plans[A] = [after(4.9, value("v", **cluster("c1")))]
    stage.client.send(append())
    assert stage.asked == [A]
    assert stage.elapsed == 4.9


def test_lone_write_that_is_never_connected_is_no_doubt(stage: Stage) -> None:
    """Nothing left this machine."""
    all_do(stage, unconnected)
    with pytest.raises((DeadlineExceeded, ClusterUnavailable)) as caught:
        stage.client.send(append())
    assert not any(attempt.sent for attempt in caught.value.attempts)
    assert stage.elapsed == 5.0


@pytest.mark.parametrize("status", [408, 425, 429, 499])
def test_client_error_about_time_leaves_a_write_in_doubt(
    stage: Stage, status: int
) -> None:
    """A gateway may have passed it on; only a read is sent a second time."""
    stage.plans[A] = [said("upstream request timeout", status)]
    stage.client.send(get())
    assert stage.asked == [A, B]
    all_do(stage, said("upstream request timeout", status))
    stage.restart()
    with pytest.raises(OutcomeUnknown):
        stage.client.send(append())
    assert len(stage.asked) == 1


# --- another cluster -----------------------------------------------------------------


@pytest.mark.parametrize("request_", [get, put])
def test_wrong_cluster_is_passed_over_and_not_asked_first_again(
    stage: Stage, request_: Callable[[], Request[Any]]
) -> None:
    """One endpoint is another cluster's; the others go on."""
    stage.client.send(get())
    stage.plans[A] = [value("theirs", index=10**6, **cluster("c2"))]
    stage.restart()
    for _ in range(3):
        assert stage.client.send(request_()).node.value == "v"
    assert stage.asked == [A, B, B, B]
    assert remembered(stage)[:2] == (7, "c1")


def test_wrong_cluster_everywhere_is_named_at_once(stage: Stage) -> None:
    """Both ids are in the message, and nothing is waited for."""
    stage.client.send(get())
    all_do(stage, value("theirs", **cluster("c2")))
    with pytest.raises(WrongCluster, match=r"c2.*c1"):
        stage.client.send(get())
    assert stage.elapsed == 0


def test_wrong_cluster_is_named_where_the_right_one_is_gone(stage: Stage) -> None:
    """At the deadline, since the right one may have come back."""
    stage.client.send(get())
    all_do(stage, failed(sent=False))
    stage.plans[C] = [value("theirs", **cluster("c2"))]
    with pytest.raises(WrongCluster):
        stage.client.send(get())
    assert stage.elapsed == 5.0


def test_identity_is_asked_for_before_writes_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read proves it by its own answer."""
    given: list[tuple[str, bool]] = []
    begin = stage.begin

    def noting(endpoint: str, request: Request[Any], *more: Any) -> Any:
        given.append((request.method, more[1] is not None))
        return begin(endpoint, request, *more)

    monkeypatch.setattr(stage, "begin", noting)
    stage.client.send(get())
    stage.client.send(put())
    stage.client.send(append())
    assert given == [("GET", False), ("PUT", True), ("POST", True)]


def test_identity_refuses_another_clusters_answer(stage: Stage) -> None:
    """What the transport asks first is checked like any other answer."""
    stage.client.send(get())
    look = stage.client.freshness(V2_API).identity
    plan = refusal(209, 400, index=0)
    good = plan.outcome
    assert not isinstance(good, EtcdMapError)
    good.headers[ID] = "c1"  # type: ignore[index]
    look.read(good)  # type: ignore[arg-type]
    good.headers[ID] = "c2"  # type: ignore[index]
    with pytest.raises(WrongCluster):
        look.read(good)  # type: ignore[arg-type]
    good.headers.pop(ID)  # type: ignore[union-attr]
    with pytest.raises(WrongCluster):
        look.read(good)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status"),
    [no for no in NO_ANSWERS if no.id in ("html", "empty", "cut-off", "v2-off", "503")],
)
def test_identity_is_shown_by_etcds_answers_only(
    stage: Stage, body: str, status: int
) -> None:
    """A gateway's page with the right id on it is no proof."""
    look = stage.client.freshness(V2_API).identity
    answer = said(body, status, **cluster("c1")).outcome
    with pytest.raises(InvalidResponse):
        look.read(answer)  # type: ignore[arg-type]
    assert stage.client.freshness(V2_API).cluster_id is None


def test_identity_is_anew_after_forgetting(stage: Stage) -> None:
    """What connections have shown before counts no more."""
    before = stage.client.freshness(V2_API).identity
    stage.client.forget_cluster()
    assert stage.client.freshness(V2_API).identity is not before


def test_mapping_and_keys_share_what_was_learnt(stage: Stage) -> None:
    """There is one cluster for all layers."""
    mapping = EtcdMapping(client=stage.client, prefix="/app")
    mapping.get("k")
    all_do(stage, value("theirs", **cluster("c2")))
    with pytest.raises(WrongCluster):
        KeysAPI(stage.client).get("/app/k")

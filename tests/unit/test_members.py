"""Who the members say they are, and what a client makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etcdmap.client import Resend
from etcdmap.client.client import _with_learnt
from etcdmap.connecting import make_client
from etcdmap.errors import ClusterUnavailable, InvalidResponse
from etcdmap.transport import Answer, WireTransport
from etcdmap.v2 import V2_API
from etcdmap.v2.request import MOST_URLS, Probe

from support.fault_server import FaultServer, Repeat, Reply, response
from support.scripted_cluster import (
    A,
    B,
    Behaviour,
    C,
    ScriptedCluster,
    in_turn,
    ok,
    refused,
    says,
    v2_off,
)
from support.transports import answer

D = "http://d:4"

MEMBERS, MACHINES = V2_API.members()


def members(*urls: list[str]) -> str:
    """Spell a list of members by their client URLs."""
    return json.dumps(
        {"members": [{"id": str(n), "clientURLs": u} for n, u in enumerate(urls)]}
    )


# --- reading the answer -------------------------------------------------------


def test_members_request_may_be_sent_again() -> None:
    """It is a read."""
    request = MEMBERS
    assert (request.method, request.target) == ("GET", "/v2/members")
    assert request.resend is Resend.ALWAYS


def test_members_all_urls_of_all_members_are_given() -> None:
    """A member may listen at several."""
    read = MEMBERS.read
    assert read(answer(members([A, B], [C]))) == (A, B, C)


def test_members_slash_and_repetition_are_cleaned() -> None:
    """Endpoints are spelt as everywhere."""
    read = MEMBERS.read
    assert read(answer(members([A + "/"], [A]))) == (A,)


def test_members_that_have_not_started_are_left_out() -> None:
    """They are listed, with no URLs."""
    assert MEMBERS.read(answer(members([], [B]))) == (B,)


STRANGE: list[Any] = [
    pytest.param(members(), id="none"),
    pytest.param(members([]), id="none-started"),
    pytest.param("", id="empty"),
    pytest.param("<html>", id="html"),
    pytest.param("null", id="null"),
    pytest.param("[]", id="list"),
    pytest.param("{}", id="no-members"),
    pytest.param('{"members":null}', id="members-null"),
    pytest.param('{"members":[5]}', id="member-number"),
    pytest.param('{"members":[{}]}', id="no-urls"),
    pytest.param('{"members":[{"clientURLs":null}]}', id="urls-null"),
    pytest.param('{"members":[{"clientURLs":[5]}]}', id="url-number"),
    pytest.param('{"members":[{"clientURLs":["ftp://a"]}]}', id="url-ftp"),
    pytest.param('{"members":[{"clientURLs":["http://u:p@a:1"]}]}', id="password"),
    pytest.param(b"\xff\xfe", id="no-utf-8"),
    pytest.param("[" * 100_000, id="deep"),
]


@pytest.mark.parametrize("body", STRANGE)
def test_members_strange_answer_is_refused_by_endpoint(body: str | bytes) -> None:
    """What can't be read as members is no list of members."""
    with pytest.raises(InvalidResponse, match="http://a:1 does not tell its members"):
        MEMBERS.read(answer(body))


@pytest.mark.parametrize("request_", [MEMBERS, MACHINES])
def test_members_other_status_is_refused(request_: Any) -> None:
    """A list behind an error is none."""
    with pytest.raises(InvalidResponse) as caught:
        request_.read(answer(members([A]), 404))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        pytest.param(A, (A,), id="one"),
        pytest.param(f"{A}, {B}", (A, B), id="two"),
        pytest.param(f"{A},{B}", (A, B), id="no-space"),
        pytest.param(f"{A}, , {B}", (A, B), id="gap"),
    ],
)
def test_machines_text_is_read(body: str, urls: tuple[str, ...]) -> None:
    """The older form: URLs in a line."""
    assert MACHINES.read(answer(body)) == urls


@pytest.mark.parametrize("body", ["", "  ", "nonsense", "<html>", b"\xff"])
def test_machines_strange_text_is_refused(body: str | bytes) -> None:
    """An empty list would leave nobody to ask."""
    with pytest.raises(InvalidResponse):
        MACHINES.read(answer(body))


# --- what is made of it -------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "learnt", "known", "result"),
    [
        pytest.param((A,), (A, B, C), (A,), (A, B, C), id="more"),
        pytest.param((A, B), (C,), (A, B), (A, B, C), id="given-stay"),
        pytest.param((B,), (A, B, C), (B,), (B, A, C), id="known-first"),
        pytest.param((A,), (A, B), (A, C), (A, B), id="left-the-cluster"),
        pytest.param((A,), (C, B, A), (A, B, C), (A, B, C), id="order-stays"),
        pytest.param((A,), (D,), (C, A), (A, D), id="learnt-replaced"),
        pytest.param((A, B), (), (B, A), (B, A), id="nothing-learnt"),
    ],
)
def test_with_learnt_keeps_given_and_order(
    given: tuple[str, ...],
    learnt: tuple[str, ...],
    known: tuple[str, ...],
    result: tuple[str, ...],
) -> None:
    """Those first given are never forgotten; what is known keeps its order."""
    assert _with_learnt(given, learnt, known) == result


def test_with_learnt_https_takes_in_https_only() -> None:
    """A member that advertises http does not pull the client out of TLS."""
    given = ("https://a:1",)
    learnt = ("http://a:1", "https://b:2", "http://c:3")
    assert _with_learnt(given, learnt, given) == ("https://a:1", "https://b:2")


def test_with_learnt_https_and_nothing_but_http_keeps_the_given() -> None:
    """Then there is nothing to learn."""
    given = ("https://a:1",)
    assert _with_learnt(given, ("http://a:1",), given) == given


def test_with_learnt_given_of_both_kinds_takes_both() -> None:
    """Whoever gives http allows it."""
    given = ("https://a:1", B)
    assert _with_learnt(given, (C,), given) == (*given, C)


# --- by a client --------------------------------------------------------------


def tells(*urls: str) -> Behaviour:
    """Tell the members."""
    return says(members(*([url] for url in urls)))


@pytest.fixture
def cluster() -> ScriptedCluster:
    """Give a client that knows one endpoint of three."""
    made = ScriptedCluster(endpoints=[A])
    made.behaviours[A] = tells(A, B, C)
    return made


def targets(cluster: ScriptedCluster) -> list[str]:
    """Give what was asked for."""
    return [request.target for request in cluster.requests]


def test_sync_learns_the_members(cluster: ScriptedCluster) -> None:
    """They are given, and used from then on."""
    assert cluster.client.sync() == (A, B, C)
    assert cluster.client.endpoints == (A, B, C)
    assert cluster.client.pinned == A
    assert targets(cluster) == ["/v2/members"]


def test_sync_without_members_asks_for_machines(cluster: ScriptedCluster) -> None:
    """Older servers and proxies know only that."""
    cluster.behaviours[A] = in_turn(v2_off, says(f"{A}, {B}"))
    assert cluster.client.sync() == (A, B)
    assert targets(cluster) == ["/v2/members", "/v2/machines"]


@pytest.mark.parametrize("body", STRANGE)
def test_sync_strange_answers_change_nothing(
    cluster: ScriptedCluster, body: str | bytes
) -> None:
    """An empty or broken list must not leave the client without endpoints."""
    cluster.behaviours[A] = in_turn(says(body), says(""))
    with pytest.raises(InvalidResponse):
        cluster.client.sync()
    assert cluster.client.endpoints == (A,)


def test_sync_outage_is_an_error_and_changes_nothing(
    cluster: ScriptedCluster,
) -> None:
    """Nobody answers."""
    cluster.behaviours[A] = refused
    with pytest.raises(ClusterUnavailable):
        cluster.client.sync()
    assert cluster.client.endpoints == (A,)


def test_sync_leaves_no_connection_to_who_left() -> None:
    """Members come and go for as long as a program runs."""
    told: list[str] = []
    script = Repeat(Reply(lambda request: response(members(told))))
    with (
        FaultServer([script]) as stays,
        FaultServer([script]) as leaves,
        make_client(stays.url, WireTransport()) as client,
    ):
        for _ in range(3):
            told[:] = [stays.url, leaves.url]
            client.sync()
            client.pin(leaves.url)
            client.sync()
            client.health.failed(leaves.url)
            client.pin(stays.url)
            told[:] = [stays.url]
            assert client.sync() == (stays.url,)
            leaves.wait_for(lambda server: len(server.ended) == server.connections)
            assert client.health._rests == {}
        assert (stays.connections, leaves.connections) == (1, 3)


@pytest.mark.parametrize("count", [MOST_URLS, MOST_URLS + 1])
def test_sync_too_many_members_are_refused(
    cluster: ScriptedCluster, count: int
) -> None:
    """A client would try them all in an outage: say why they are not taken."""
    urls = [f"http://member-{number}:1" for number in range(count)]
    # What makes no sense is asked for twice.
    cluster.behaviours[A] = in_turn(tells(*urls), tells(*urls), v2_off)
    if count == MOST_URLS:
        assert cluster.client.sync() == (A, *urls)
        return
    with pytest.raises(InvalidResponse, match="tells 101 URLs of members, more than"):
        cluster.client.sync()
    assert cluster.client.endpoints == (A,)


def test_sync_pinned_member_left_pins_another(cluster: ScriptedCluster) -> None:
    """A member that was removed is not asked any more."""
    cluster.client.sync()
    cluster.client.pin(C)
    cluster.behaviours[C] = tells(A, B)
    assert cluster.client.sync() == (A, B)
    assert cluster.client.pinned == A


def test_sync_pinned_member_stays_pinned(cluster: ScriptedCluster) -> None:
    """Learning is no failover."""
    cluster.client.sync()
    cluster.client.pin(B)
    cluster.behaviours[B] = tells(C, B, A)
    cluster.client.sync()
    assert cluster.client.pinned == B


def write_nothing(answer: Answer) -> None:
    """Read an answer as nothing."""


def ask(cluster: ScriptedCluster) -> None:
    """Send a read that any answer will do for."""
    cluster.client.send(Probe("/v2/keys/k", write_nothing, "members"))


def test_auto_sync_learns_at_most_once_in_its_time() -> None:
    """In passing, after a call that went well."""
    cluster = ScriptedCluster(endpoints=[A], auto_sync=60.0)
    cluster.behaviours[A] = tells(A, B)
    for _ in range(5):
        ask(cluster)
    assert targets(cluster).count("/v2/members") == 1
    assert cluster.client.endpoints == (A, B)
    cluster.time.now += 60
    ask(cluster)
    assert targets(cluster).count("/v2/members") == 2


def test_auto_sync_failure_is_not_the_callers() -> None:
    """The call itself went well; the next try is due in its time."""
    cluster = ScriptedCluster(endpoints=[A], auto_sync=60.0)
    cluster.behaviours[A] = in_turn(ok, says("<html>"))
    ask(cluster)
    tried = targets(cluster)
    # Twice each: nonsense on a connection may be another request's answer.
    assert tried == ["/v2/keys/k", *["/v2/members"] * 2, *["/v2/machines"] * 2]
    ask(cluster)
    assert targets(cluster) == [*tried, "/v2/keys/k"]
    assert cluster.client.endpoints == (A,)


def test_auto_sync_off_asks_nobody(cluster: ScriptedCluster) -> None:
    """It is off by default."""
    cluster.time.now += 1e6
    ask(cluster)
    assert targets(cluster) == ["/v2/keys/k"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_auto_sync_impossible_time_is_refused(seconds: float) -> None:
    """As every duration."""
    with pytest.raises(ValueError, match="auto_sync"):
        ScriptedCluster(auto_sync=seconds)

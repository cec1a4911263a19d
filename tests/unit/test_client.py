"""Which endpoint a request goes to, and what then."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from etcdmap.client import Resend
from etcdmap.client.options import clean_endpoints, positive_seconds
from etcdmap.connecting import connect, make_client
from etcdmap.errors import (
    ClientClosed,
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapError,
    InvalidResponse,
    KeyNotFound,
    NotAFile,
    OutcomeUnknown,
    RequestFailed,
    V2NotEnabled,
)
from etcdmap.transport import Answer
from etcdmap.v2.models import Result
from etcdmap.v2.responses import guarded, result_of

from support.requests import Asked, Request
from support.scripted_cluster import (
    A,
    B,
    Behaviour,
    C,
    FakeTime,
    ScriptedCluster,
    absent,
    bad_certificate,
    bad_gateway,
    electing,
    fails,
    html,
    in_turn,
    no_quorum,
    ok,
    redirecting,
    refused,
    reset,
    says,
    silent,
    slow,
    unreachable,
    v2_off,
)

_read = partial(guarded, result_of, Asked("/k"))
_written = partial(guarded, result_of, Asked("/k", "set"))


def get(**more: Any) -> Request[Result]:
    """Make a read."""
    settings = {"resend": Resend.ALWAYS, "key": "/k", **more}
    return Request("GET", "/v2/keys/k", _read, **settings)


def put(**more: Any) -> Request[Result]:
    """Make a write."""
    return Request("PUT", "/v2/keys/k", _written, b"value=v", **{"key": "/k", **more})


@pytest.fixture
def cluster() -> ScriptedCluster:
    """Give three endpoints that all work."""
    return ScriptedCluster()


def all_are(cluster: ScriptedCluster, behaviour: Behaviour) -> None:
    """Make every endpoint behave the same."""
    for endpoint in cluster.behaviours:
        cluster.behaviours[endpoint] = behaviour


# --- pinning and order ------------------------------------------------------


def test_send_all_endpoints_work_stays_on_the_first(cluster: ScriptedCluster) -> None:
    """One endpoint gets every request while it works."""
    for _ in range(5):
        cluster.client.send(get())
    assert cluster.asked == [A] * 5
    assert cluster.client.pinned == A


def value_of(result: Result) -> str | None:
    """Give the value of the node in a result."""
    assert result.node is not None
    return result.node.value


def test_send_pinned_endpoint_fails_asks_the_next(cluster: ScriptedCluster) -> None:
    """A failed endpoint is left for the next one, whose answer is given."""
    cluster.behaviours[A] = refused
    assert value_of(cluster.client.send(get())) == "v"
    assert cluster.asked == [A, B]
    assert cluster.client.pinned == B


def test_send_after_failover_starts_at_the_new_endpoint(
    cluster: ScriptedCluster,
) -> None:
    """The endpoint that failed is not tried first by the next call."""
    cluster.behaviours[A] = refused
    cluster.client.send(get())
    cluster.behaviours[A] = ok
    cluster.calls.clear()
    cluster.client.send(get())
    assert cluster.asked == [B]


def test_send_failover_from_the_middle_goes_round(cluster: ScriptedCluster) -> None:
    """After the last endpoint comes the first."""
    cluster.behaviours |= {A: refused}
    cluster.client.send(get())
    cluster.behaviours |= {A: ok, B: refused, C: refused}
    cluster.calls.clear()
    cluster.client.send(get())
    assert cluster.asked == [B, C, A]


def test_send_refusal_of_etcd_pins_its_endpoint(cluster: ScriptedCluster) -> None:
    """An error that etcd decided on is a usable answer, given at once."""
    cluster.behaviours |= {A: refused, B: absent}
    with pytest.raises(KeyNotFound):
        cluster.client.send(get())
    assert cluster.asked == [A, B]
    assert cluster.client.pinned == B


def test_send_passing_error_of_etcd_does_not_pin(cluster: ScriptedCluster) -> None:
    """A member without a leader is not stayed with."""
    cluster.behaviours |= {A: no_quorum, B: electing}
    cluster.client.send(get())
    assert cluster.asked == [A, B, C]
    assert cluster.client.pinned == C


def test_send_every_endpoint_failed_pins_the_one_that_rested_longest(
    cluster: ScriptedCluster,
) -> None:
    """After a call that failed everywhere the last to fail is not asked first."""
    all_are(cluster, fails("refused late", sent=False, takes=0.001))
    with pytest.raises(DeadlineExceeded):
        cluster.client.send(get())
    last = cluster.asked[-1]
    cluster.calls.clear()
    with pytest.raises(DeadlineExceeded):
        cluster.client.send(get())
    assert cluster.asked[0] != last


def test_send_after_an_outage_works_without_help(cluster: ScriptedCluster) -> None:
    """The call after the repair finds the member that is back."""
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable):
        cluster.client.send(put())
    cluster.behaviours[C] = ok
    assert cluster.client.send(put()).action == "set"


# --- rounds, pauses, the deadline -------------------------------------------


def test_send_all_refuse_makes_rounds_of_two_passes(cluster: ScriptedCluster) -> None:
    """2 x members attempts come before each pause."""
    all_are(cluster, refused)
    at_pause: list[int] = []
    cluster.time.on_wake = lambda: at_pause.append(len(cluster.calls))
    with pytest.raises(ClusterUnavailable):
        cluster.client.send(get())
    assert at_pause[:4] == [6, 12, 18, 24]
    assert cluster.asked[:6] == [A, B, C, A, B, C]


def test_send_all_refuse_pauses_grow_up_to_half_a_second(
    cluster: ScriptedCluster,
) -> None:
    """Pauses double from 50 ms and stay at 500 ms; the last one is cut short."""
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable):
        cluster.client.send(get())
    assert cluster.time.sleeps[:6] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])
    assert max(cluster.time.sleeps) <= 0.5
    assert sum(cluster.time.sleeps) == pytest.approx(5.0)


def test_send_pauses_are_spread_by_chance() -> None:
    """Many clients do not come back in step: half of each pause is chance."""
    cluster = ScriptedCluster(rng=random.Random(1))
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable):
        cluster.client.send(get())
    steady = [0.05, 0.1, 0.2, 0.4, 0.5]
    first = cluster.time.sleeps[:5]
    assert all(
        whole / 2 <= pause <= whole for pause, whole in zip(first, steady, strict=True)
    )
    assert first != pytest.approx(steady)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        pytest.param(refused, ClusterUnavailable, id="refused"),
        pytest.param(reset, ClusterUnavailable, id="reset"),
        pytest.param(unreachable, DeadlineExceeded, id="unreachable"),
        pytest.param(silent, DeadlineExceeded, id="silent"),
        pytest.param(no_quorum, ClusterUnavailable, id="no-quorum"),
        pytest.param(bad_gateway, ClusterUnavailable, id="bad-gateway"),
    ],
)
@pytest.mark.parametrize("timeout", [0.3, 5.0, 42.0])
def test_send_read_without_usable_answer_ends_at_its_deadline(
    cluster: ScriptedCluster, behaviour: Behaviour, kind: type, timeout: float
) -> None:
    """The deadline alone ends the call, neither early nor late."""
    all_are(cluster, behaviour)
    start = cluster.time.now
    with pytest.raises(kind):
        cluster.client.send(get(), timeout=timeout)
    assert cluster.time.now - start == pytest.approx(timeout)


def test_send_without_timeout_uses_the_clients() -> None:
    """The client's timeout is the default of its calls."""
    cluster = ScriptedCluster(timeout=2.5)
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable):
        cluster.client.send(get())
    assert cluster.time.now == pytest.approx(1002.5)


def test_send_deadline_exceeded_is_a_timeout_error(cluster: ScriptedCluster) -> None:
    """Code that handles TimeoutError handles a deadline too."""
    all_are(cluster, silent)
    with pytest.raises(TimeoutError, match="within 5 s"):
        cluster.client.send(get())


def test_send_member_recovers_during_the_call_succeeds(
    cluster: ScriptedCluster,
) -> None:
    """A call lasts through a short outage of all members."""
    all_are(cluster, refused)
    cluster.behaviours[B] = in_turn(*[refused] * 7, ok)
    cluster.client.send(put())
    assert cluster.client.pinned == B
    assert len(cluster.time.sleeps) == 3


def test_send_endpoint_pinned_meanwhile_is_first_after_the_pause(
    cluster: ScriptedCluster,
) -> None:
    """What another thread found out during a pause counts in the next round."""
    all_are(cluster, refused)

    def somebody_else() -> None:
        cluster.time.on_wake = lambda: None
        cluster.behaviours[C] = ok
        cluster.client.send(get())
        cluster.calls.clear()

    cluster.time.on_wake = somebody_else
    cluster.client.send(get())
    assert cluster.asked == [C]


# --- how long one attempt may take ------------------------------------------


def test_send_read_of_one_endpoint_waits_until_the_deadline() -> None:
    """With nowhere else to go, the call waits on its connection."""
    cluster = ScriptedCluster(endpoints=[A])
    cluster.behaviours[A] = slow(4.9)
    cluster.client.send(get())
    assert cluster.calls == [(A, 5.0)]


def test_send_write_waits_until_the_deadline(cluster: ScriptedCluster) -> None:
    """A write that went out can't go elsewhere, so it waits."""
    cluster.behaviours[A] = slow(4.9)
    cluster.client.send(put())
    assert cluster.calls == [(A, 5.0)]


def test_send_watch_waits_until_the_deadline(cluster: ScriptedCluster) -> None:
    """A late answer is what a watch is for."""
    cluster.behaviours[A] = slow(29.0)
    cluster.client.send(get(patient=True), timeout=30.0)
    assert cluster.calls == [(A, 30.0)]


# --- writes: sent again only while they were not sent ------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(refused, id="refused"),
        pytest.param(unreachable, id="unreachable"),
        pytest.param(bad_certificate, id="certificate"),
    ],
)
def test_send_write_not_carried_out_goes_to_the_next(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """What did not leave may be sent elsewhere."""
    cluster.behaviours[A] = behaviour
    cluster.client.send(put())
    assert cluster.asked == [A, B]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(redirecting, id="redirect"),
        pytest.param(v2_off, id="v2-off"),
        pytest.param(says("<html>", 400, index=None), id="400-html"),
        pytest.param(says("no such method", 501, index=None), id="501"),
    ],
)
def test_send_write_refused_by_no_etcd_is_not_sent_again(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """It may be a proxy's word on what it has passed on, or another's answer."""
    cluster.behaviours[A] = behaviour
    with pytest.raises(InvalidResponse):
        cluster.client.send(put())
    assert cluster.asked == [A]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(reset, id="reset"),
        pytest.param(silent, id="silent"),
        pytest.param(no_quorum, id="300"),
        pytest.param(electing, id="301"),
        pytest.param(html, id="200-html"),
        pytest.param(says(""), id="200-empty"),
        pytest.param(bad_gateway, id="502"),
        pytest.param(says("busy", 503, index=None), id="503-text"),
        pytest.param(says("late", 504, index=None), id="504-text"),
        pytest.param(says("oops", 500, index=None), id="500-text"),
    ],
)
def test_send_write_perhaps_carried_out_is_not_sent_again(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """A write without a proper answer ends as OutcomeUnknown, with its attempts."""
    cluster.behaviours |= {A: refused, B: behaviour}
    with pytest.raises(OutcomeUnknown, match="PUT /k") as caught:
        cluster.client.send(put())
    assert cluster.asked == [A, B]
    first, second = caught.value.attempts
    assert (first.endpoint, first.sent) == (A, False)
    assert (second.endpoint, second.sent) == (B, True)
    assert OutcomeUnknown.hint in str(caught.value).splitlines()[0]


@pytest.mark.parametrize("behaviour", [reset, no_quorum, html, bad_gateway])
def test_send_read_without_proper_answer_goes_to_the_next(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """A read may be sent as often as one likes."""
    cluster.behaviours[A] = behaviour
    assert value_of(cluster.client.send(get())) == "v"
    assert cluster.asked == [A, B]


def test_send_lasting_refusal_by_raft_is_raised_at_once(
    cluster: ScriptedCluster,
) -> None:
    """A 300 that all members agreed on is an answer: no other will differ."""
    cluster.behaviours[A] = says(
        '{"errorCode":300,"message":"Raft Internal Error",'
        '"cause":"nodePath /1/d : Not a file ()"}',
        500,
    )
    with pytest.raises(NotAFile):
        cluster.client.send(put())
    assert cluster.asked == [A]


def test_send_write_never_sent_ends_as_unavailable(cluster: ScriptedCluster) -> None:
    """Nothing left this machine: trying again is safe, and the error says so."""
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(put())
    assert not any(attempt.sent for attempt in caught.value.attempts)


def test_send_write_without_connection_in_time_ends_as_deadline(
    cluster: ScriptedCluster,
) -> None:
    """A write that never got a connection was surely not applied."""
    all_are(cluster, unreachable)
    with pytest.raises(DeadlineExceeded) as caught:
        cluster.client.send(put())
    assert not any(attempt.sent for attempt in caught.value.attempts)
    assert len(cluster.calls) == 5


# --- answers that will not change -------------------------------------------


def assert_one_round(cluster: ScriptedCluster) -> None:
    """Check that every endpoint was asked, none too often, and nobody waited."""
    assert cluster.asked[:3] == [A, B, C]
    assert len(cluster.asked) <= 6
    assert cluster.time.sleeps == []


def test_send_v2_off_everywhere_ends_early(cluster: ScriptedCluster) -> None:
    """Endpoints that all answer wrongly get one round, without a pause."""
    all_are(cluster, v2_off)
    with pytest.raises(V2NotEnabled):
        cluster.client.send(get())
    assert_one_round(cluster)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(html, id="html"),
        pytest.param(says(""), id="empty"),
        pytest.param(says("null"), id="null"),
        pytest.param(redirecting, id="redirect"),
    ],
)
def test_send_read_of_something_else_ends_early(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """What is no etcd will not become one: the error comes at once."""
    all_are(cluster, behaviour)
    with pytest.raises(InvalidResponse) as caught:
        cluster.client.send(get())
    assert caught.value.endpoint in (A, B, C)
    assert_one_round(cluster)


@pytest.mark.parametrize("behaviour", [html, v2_off, redirecting, bad_certificate])
def test_send_one_good_endpoint_wins(
    cluster: ScriptedCluster, behaviour: Behaviour
) -> None:
    """A single endpoint that is an etcd is enough."""
    all_are(cluster, behaviour)
    cluster.behaviours[C] = ok
    assert value_of(cluster.client.send(get())) == "v"
    assert cluster.client.pinned == C


def test_send_something_else_and_an_outage_goes_on(cluster: ScriptedCluster) -> None:
    """While one endpoint may come back, the call goes on until its deadline."""
    cluster.behaviours |= {A: v2_off, B: refused, C: v2_off}
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(get())
    assert cluster.time.now == pytest.approx(1005.0)
    assert "--enable-v2" in str(caught.value)


def test_send_refused_certificates_everywhere_end_early(
    cluster: ScriptedCluster,
) -> None:
    """A certificate that was refused will be refused again."""
    all_are(cluster, bad_certificate)
    with pytest.raises(ClusterUnavailable, match="certificate refused"):
        cluster.client.send(get())
    assert_one_round(cluster)


def test_send_certificates_and_something_else_end_early(
    cluster: ScriptedCluster,
) -> None:
    """Different faults that last are told together."""
    cluster.behaviours |= {A: bad_certificate, B: html, C: bad_certificate}
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(get())
    assert [a.endpoint for a in caught.value.attempts] == cluster.asked
    assert_one_round(cluster)


# --- what the errors say ----------------------------------------------------


def test_unavailable_lists_every_attempt_and_its_cause(
    cluster: ScriptedCluster,
) -> None:
    """Each endpoint is named with its own cause; repetitions are counted."""
    cluster.behaviours |= {A: refused, B: unreachable, C: no_quorum}
    with pytest.raises(DeadlineExceeded) as caught:
        cluster.client.send(get(), timeout=2.5)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("GET /k: ")
    assert f"  {A}: connection refused (3 times in 2 s)" in lines
    assert f"  {B}: no connection in time (3 times in 1.5 s)" in lines
    assert any(f"  {C}: " in line and "(2 times in 1 s)" in line for line in lines)
    assert len(lines) == 4
    assert [a.endpoint for a in caught.value.attempts] == cluster.asked


@pytest.mark.parametrize("behaviour", [refused, reset, silent, bad_certificate])
@pytest.mark.parametrize("request_", [get(), put()], ids=["read", "write"])
def test_failure_is_one_exception(
    cluster: ScriptedCluster, behaviour: Behaviour, request_: Request[Result]
) -> None:
    """Its lines say all; a chain would say it again, with a traceback for each."""
    all_are(cluster, behaviour)
    with pytest.raises(RequestFailed) as caught:
        cluster.client.send(request_)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


PROVE = "no member could prove that it is in touch with the others"
ANY = "using(consistency='any')"


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        pytest.param(no_quorum, {PROVE, ANY}, id="says-so"),
        pytest.param(silent, {ANY}, id="silent"),
        pytest.param(refused, set(), id="refused"),
        pytest.param(reset, set(), id="reset"),
        pytest.param(bad_gateway, set(), id="proxy"),
    ],
)
def test_proof_is_missed_only_where_a_member_answered(
    cluster: ScriptedCluster, behaviour: Behaviour, told: set[str]
) -> None:
    """Who meets nobody has nothing to read with less proof."""
    all_are(cluster, behaviour)
    with pytest.raises(RequestFailed) as caught:
        cluster.client.send(get(consistency="session"))
    assert {text for text in (PROVE, ANY) if text in str(caught.value)} == told


too_many_files = fails("Too many open files", sent=False)
no_tls = fails("what listens there speaks no TLS", sent=False)


@pytest.mark.parametrize(
    ("behaviours", "advised"),
    [
        pytest.param([refused], True, id="refused"),
        pytest.param([refused, bad_certificate, no_tls], True, id="one-refused"),
        pytest.param([too_many_files], False, id="files"),
        pytest.param([no_tls, bad_certificate, no_tls], False, id="tls"),
        pytest.param([no_quorum, reset, bad_gateway], False, id="answered"),
    ],
)
def test_check_that_etcd_runs_is_advised_where_nobody_was_met(
    cluster: ScriptedCluster, behaviours: list[Behaviour], advised: bool
) -> None:
    """Whoever is out of files, or has no certificate, has an etcd that runs."""
    cluster.behaviours |= dict(zip((A, B, C), behaviours * 3, strict=False))
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(get())
    assert ("check that etcd runs" in str(caught.value)) is advised


@pytest.mark.parametrize("left", [1, 2, 5])
def test_attempt_that_the_deadline_cuts_short_hides_no_cause(
    cluster: ScriptedCluster, left: int
) -> None:
    """On a machine that is busy the last one meets the end of the time."""
    late = fails("no connection in time", sent=False, nobody=True, takes=1e9)
    cluster.behaviours |= {e: in_turn(*[refused] * left, late) for e in (A, B, C)}
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(get())
    _, *lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(": connection refused" in line for line in lines)
    assert "no connection in time" not in str(caught.value)


def test_late_endpoint_among_others_is_told_whoever_was_asked_last(
    cluster: ScriptedCluster,
) -> None:
    """The kind of the error does not depend on where the time ended."""
    for timeout in (1.9, 2.0, 2.1, 2.5, 3.0):
        cluster.behaviours |= {A: refused, B: unreachable, C: refused}
        with pytest.raises(DeadlineExceeded):
            cluster.client.send(get(), timeout=timeout)


def test_unavailable_of_a_request_without_key_hides_the_query(
    cluster: ScriptedCluster,
) -> None:
    """A query may hold values; messages show the path only."""
    all_are(cluster, refused)
    request = Request("PUT", "/v2/keys/k?prevValue=hunter2", _read)
    with pytest.raises(ClusterUnavailable) as caught:
        cluster.client.send(request)
    assert "hunter2" not in str(caught.value)
    assert "PUT /v2/keys/k:" in str(caught.value)


def test_client_repr_shows_endpoints_and_asks_nobody(cluster: ScriptedCluster) -> None:
    """A client shows where it goes, without going there."""
    assert repr(cluster.client) == f"<Client {[A, B, C]}>"
    assert cluster.calls == []


# --- what is not the client's to handle -------------------------------------


def test_send_bug_in_read_gets_out(cluster: ScriptedCluster) -> None:
    """An error that is no answer's is not taken for an outage."""

    def read(answer: Answer) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cluster.client.send(Request("GET", "/", read))
    assert cluster.asked == [A]


def test_send_closed_transport_ends_at_once(cluster: ScriptedCluster) -> None:
    """A closed client is not an endpoint that failed."""

    def closed(time: FakeTime, timeout: float) -> Answer:
        raise ClientClosed("closed")

    cluster.behaviours[A] = closed
    with pytest.raises(ClientClosed):
        cluster.client.send(get())
    assert cluster.asked == [A]


def test_client_block_closes_the_transport_once(cluster: ScriptedCluster) -> None:
    """The end of a with block closes the connections."""
    with cluster.client as client:
        assert client is cluster.client
        assert cluster.closed == 0
    assert cluster.closed == 1


BAD_SECONDS = [
    pytest.param(0, ValueError, id="0"),
    pytest.param(-1, ValueError, id="negative"),
    pytest.param(float("inf"), ValueError, id="inf"),
    pytest.param(float("nan"), ValueError, id="nan"),
    pytest.param("5", TypeError, id="str"),
    pytest.param(True, TypeError, id="bool"),
]


@pytest.mark.parametrize(("value", "kind"), BAD_SECONDS)
def test_send_impossible_timeout_is_refused_before_any_request(
    cluster: ScriptedCluster, value: Any, kind: type[Exception]
) -> None:
    """A timeout that is none is the caller's error, not an outage."""
    with pytest.raises(kind):
        cluster.client.send(get(), timeout=value)
    assert cluster.calls == []


@pytest.mark.parametrize(
    ("value", "kind"), [*BAD_SECONDS, pytest.param(None, TypeError, id="None")]
)
def test_positive_seconds_impossible_is_refused_by_name(
    value: Any, kind: type[Exception]
) -> None:
    """The message names the argument."""
    with pytest.raises(kind, match="patience"):
        positive_seconds("patience", value)


def test_positive_seconds_gives_a_float() -> None:
    """Whole numbers are fine."""
    assert positive_seconds("x", 5) == 5.0
    assert isinstance(positive_seconds("x", 5), float)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_connect_impossible_timeout_is_refused(name: str) -> None:
    """Both timeouts are checked when the client is made."""
    with pytest.raises(ValueError, match=f"^{name} "):
        connect("http://a:1", **dict[str, Any]({name: 0}))


# --- endpoints --------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "known"),
    [
        pytest.param("http://a:1", ("http://a:1",), id="one"),
        pytest.param("https://a:1/", ("https://a:1",), id="slash"),
        pytest.param("HTTP://a:1", ("http://a:1",), id="scheme"),
        pytest.param("http://a", ("http://a:2379",), id="no-port"),
        pytest.param("https://a", ("https://a:2379",), id="tls-no-port"),
        pytest.param("http://a:80", ("http://a:80",), id="port-of-http"),
        pytest.param("http://[::1]", ("http://[::1]:2379",), id="ipv6-no-port"),
        pytest.param("http://a.", ("http://a.:2379",), id="root-dot"),
        pytest.param(["http://a", "http://a:2379"], ("http://a:2379",), id="same-port"),
        pytest.param("http://[::1]:2379", ("http://[::1]:2379",), id="ipv6"),
        pytest.param("http://[fe80::1%e0]:1", ("http://[fe80::1%e0]:1",), id="zone"),
        pytest.param("http://b\xfccher_1:2", ("http://b\xfccher_1:2",), id="idn"),
        pytest.param(
            "http://\u0939\u093f:1", ("http://\u0939\u093f:1",), id="idn-with-marks"
        ),
        pytest.param(
            ["http://b:1", "http://a:1"], ("http://b:1", "http://a:1"), id="2"
        ),
        pytest.param(["http://a:1", "http://a:1/"], ("http://a:1",), id="twice"),
        pytest.param(iter(["http://a:1"]), ("http://a:1",), id="iterator"),
    ],
)
def test_clean_endpoints_gives_scheme_host_and_port(
    given: Any, known: tuple[str, ...]
) -> None:
    """Endpoints are spelt one way, in the order given, each once."""
    assert clean_endpoints(given) == known


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="empty"),
        pytest.param([], id="none"),
        pytest.param("a:1", id="no-scheme"),
        pytest.param("localhost", id="host"),
        pytest.param("ftp://a:1", id="ftp"),
        pytest.param("unix://a", id="unix"),
        pytest.param("http://", id="no-host"),
        pytest.param("http://:2379", id="port-only"),
        pytest.param("http://a:1/v2", id="path"),
        pytest.param("http://a:1?x=1", id="query"),
        pytest.param("http://a:1#x", id="fragment"),
        pytest.param("http://a:x", id="port-text"),
        pytest.param("http://a:99999", id="port-high"),
        pytest.param("http://a:-1", id="port-negative"),
        pytest.param("http://[::1", id="ipv6-open"),
        pytest.param("http://a:1,http://b:2", id="comma"),
        pytest.param("http://a..b:1", id="label-empty"),
        pytest.param("http://.a:1", id="label-first-empty"),
        pytest.param(f"http://{'x' * 64}.a:1", id="label-long"),
        pytest.param(f"http://{chr(252) * 60}:1", id="label-long-on-the-wire"),
        pytest.param(["http://a:1", ""], id="one-empty"),
    ],
)
def test_clean_endpoints_no_endpoint_is_refused_with_an_example(given: Any) -> None:
    """The message shows what an endpoint looks like."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:2379"):
        clean_endpoints(given)


@pytest.mark.parametrize(
    "given", [5, None, b"http://a:1", {"http://a:1": 1}, [b"http://a:1"], [None]]
)
def test_clean_endpoints_wrong_type_is_refused(given: Any) -> None:
    """An endpoint is a str."""
    with pytest.raises(TypeError):
        clean_endpoints(given)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("http://root:hunter2@a:1", id="url"),
        pytest.param("http://root:hunter2@a:1/path", id="path"),
        pytest.param("http://hunter2@a:1", id="user-only"),
        pytest.param("http://root:hunter2@[::1", id="ipv6-open"),
        pytest.param("root:hunter2@a:1", id="no-scheme"),
        pytest.param("http:/root:hunter2@a:1", id="one-slash"),
        pytest.param("http://a:1,http://root:hunter2@b:2", id="comma"),
        pytest.param("http://root:hunter2", id="for-a-port"),
        pytest.param("http://root:hunter2%40a:1", id="at-quoted"),
        pytest.param("http://hunter2%40a:1", id="user-at-quoted"),
        pytest.param("http://root:1/hunter2@a", id="slash"),
        pytest.param("http://root:1#hunter2@a", id="hash"),
        pytest.param("http://root:1?hunter2@a", id="question-mark"),
        pytest.param("http://[hunter2]:1", id="brackets"),
        pytest.param("hunter2", id="alone"),
        pytest.param("http://hunter2!:1", id="no-name"),
    ],
)
def test_clean_endpoints_credentials_are_refused_and_not_shown(given: str) -> None:
    """A password in a URL reaches no traceback."""
    with pytest.raises(ValueError, match="endpoint 2 of 2") as caught:
        clean_endpoints(["http://fine:1", given])
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__


def test_client_shuffles_by_its_source_of_chance() -> None:
    """Clients spread over the members; no endpoint is lost on the way."""
    firsts = set()
    for seed in range(20):
        cluster = ScriptedCluster(shuffle=True, rng=random.Random(seed))
        assert set(cluster.client.endpoints) == {A, B, C}
        assert len(cluster.client.endpoints) == 3
        assert cluster.client.pinned == cluster.client.endpoints[0]
        firsts.add(cluster.client.pinned)
    assert firsts == {A, B, C}


def test_client_without_shuffle_keeps_the_order() -> None:
    """The caller may prefer a member."""
    cluster = ScriptedCluster(endpoints=[C, A, B], rng=random.Random(1))
    assert cluster.client.endpoints == (C, A, B)


# --- threads ----------------------------------------------------------------


def in_threads(count: int, work: Callable[[], object]) -> list[BaseException]:
    """Run the same work in threads, to its end; give what they raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return errors


def test_threads_no_lock_is_held_during_an_exchange(cluster: ScriptedCluster) -> None:
    """While one thread waits for an answer, another fails over and pins."""

    def other_thread() -> None:
        cluster.behaviours |= {A: refused, B: ok}
        cluster.client.send(get())

    def waiting(time: FakeTime, timeout: float) -> Answer:
        assert in_threads(1, other_thread) == []
        assert cluster.client.pinned == B
        return ok(time, timeout)

    cluster.behaviours[A] = waiting
    cluster.client.send(get())
    assert cluster.asked == [A, A, B]


def test_threads_failing_over_together_all_succeed(cluster: ScriptedCluster) -> None:
    """Eight threads lose their member at the same moment; each moves on once."""
    together = threading.Barrier(8, timeout=10)

    def refuse(time: FakeTime, timeout: float) -> Answer:
        together.wait()
        return refused(time, timeout)

    cluster.behaviours[A] = refuse
    assert in_threads(8, lambda: cluster.client.send(put())) == []
    assert sorted(cluster.asked) == [A] * 8 + [B] * 8
    assert cluster.client.pinned == B


def test_threads_failing_everywhere_get_an_error_each(
    cluster: ScriptedCluster,
) -> None:
    """Attempts of one thread do not show up in another's error."""
    all_are(cluster, refused)
    errors = in_threads(8, lambda: cluster.client.send(get()))
    assert len(errors) == 8
    assert all(isinstance(error, ClusterUnavailable) for error in errors)
    counts = [len(e.attempts) for e in errors if isinstance(e, ClusterUnavailable)]
    assert sum(counts) == len(cluster.calls)


def test_every_error_of_a_call_is_ours(cluster: ScriptedCluster) -> None:
    """Whatever the endpoints do, what gets out is an EtcdMapError."""
    for behaviour in (refused, reset, silent, html, v2_off, no_quorum, bad_gateway):
        all_are(cluster, behaviour)
        for request in (get(), put()):
            with pytest.raises(EtcdMapError) as caught:
                cluster.client.send(request)
            assert not isinstance(caught.value, KeyError)
            assert any(endpoint in str(caught.value) for endpoint in (A, B, C))


def test_client_defaults_need_no_clock() -> None:
    """A client made without test arguments works on real time."""
    cluster = ScriptedCluster()
    client = make_client([A, B], cluster, timeout=0.2)
    all_are(cluster, refused)
    with pytest.raises(ClusterUnavailable):
        client.send(get())
    assert {A, B} == set(cluster.asked)

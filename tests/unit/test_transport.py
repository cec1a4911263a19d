"""Exchanges with a server that misbehaves in every way, over real sockets.

The same promises hold for both transports: the one on sockets of our own and the
one on requests, which serves a session of the caller's.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import pickle
import signal
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from etcdmap.client import Resend
from etcdmap.errors import ClientClosed, EtcdMapError, ExchangeFailed, InvalidResponse
from etcdmap.transport import Answer, Transport, WireTransport, make_transport
from etcdmap.transport.stock import RequestsTransport, _retries, of_requests
from etcdmap.transport.threaded import ThreadedTransport
from etcdmap.v2 import V2_API

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    RECEIVE,
    RESET,
    STALL,
    Drip,
    Endless,
    FaultServer,
    Repeat,
    Reply,
    Script,
    Stopwatch,
    Until,
    chunked,
    head,
    refusing,
    response,
)
from support.requests import Request
from support.sessions import collect_what_urllib3_left
from support.transports import exchange

#: Seconds for one exchange, where its end is what is tested.
SHORT = 0.3
#: How late an exchange may end on a busy machine.
GRACE = 0.2

Make = Callable[..., Transport]


def identity(answer: Answer) -> Answer:
    """Read an answer as it is."""
    return answer


def get(target: str = "/v2/keys/k", method: str = "GET") -> Request[Answer]:
    """Make a request without a body."""
    return Request(method, target, identity, resend=Resend.ALWAYS)


def put(body: bytes = b"value=v") -> Request[Answer]:
    """Make a request with a body."""
    return Request("PUT", "/v2/keys/k", identity, body)


@pytest.fixture(params=["wire", "session"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Give a function that makes a transport, as `connect` does, of each kind."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Transport:
            if request.param == "session":
                session = stack.enter_context(requests.Session())
                session.trust_env = False
                session.verify = settings.pop("verify", True)
                session.cert = settings.pop("cert", None)
                settings["session"] = session
            transport = make_transport(**settings)
            stack.callback(transport.close)
            return transport

        yield make
    if request.param == "session":
        collect_what_urllib3_left()


@pytest.fixture
def transport(make: Make) -> Transport:
    """Give a transport with its default settings, of each kind."""
    return make()


@pytest.fixture
def make_own() -> Iterator[Make]:
    """Give a function that makes a transport that owns its connections."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Transport:
            transport = WireTransport(**settings)
            stack.callback(transport.close)
            return transport

        yield make


@pytest.fixture
def own(make_own: Make) -> Transport:
    """Give a transport that owns its connections."""
    return make_own()


def failure(
    transport: Transport,
    url: str,
    request: Request[Any] | None = None,
    timeout: float = 5.0,
) -> ExchangeFailed | InvalidResponse:
    """Give how an exchange fails; anything else that gets out is an error."""
    with pytest.raises((ExchangeFailed, InvalidResponse)) as caught:
        exchange(transport, url, request or get(), timeout)
    error = caught.value
    assert isinstance(error, (ExchangeFailed, InvalidResponse))
    forget_frames(error)
    return error


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: sockets, for one."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def has_ended(connection: int, server: FaultServer) -> bool:
    """Tell whether the server has seen the end of a connection."""
    return connection in server.ended


def may_be_applied(error: ExchangeFailed | InvalidResponse) -> bool:
    """Tell what the client above makes of a failure."""
    return error.sent if isinstance(error, ExchangeFailed) else not error.refused


# --- what works -------------------------------------------------------------


def test_exchange_gives_status_headers_and_body(transport: Transport) -> None:
    """An answer is given as it came, header names in lower case."""
    with FaultServer([READ, response("{}", 404, {"X-Some": "Thing"})]) as server:
        answer = exchange(transport, server.url, get(), 5)
        assert (answer.status, answer.body) == (404, b"{}")
        assert answer.headers["x-some"] == "Thing"
        assert answer.headers["x-etcd-index"] == "7"
        assert answer.endpoint == server.url


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get("/v2/keys/a%20b%2F%7E?x=%26"), id="get"),
        pytest.param(get(method="HEAD"), id="head"),
        pytest.param(put(b"value=%7E%0A"), id="put"),
        pytest.param(put(b""), id="put-empty"),
        pytest.param(put(b"v" * 3_000_000), id="put-large"),
    ],
)
def test_exchange_sends_target_and_body_as_they_are(
    transport: Transport, request_: Request[Any]
) -> None:
    """Nothing is quoted again, normalised or left out on the way."""
    with FaultServer() as server:
        exchange(transport, server.url, request_, 5)
        (received,) = server.requests
        assert received.line == f"{request_.method} {request_.target}"
        assert received.body == (request_.body or b"")
        if request_.body is not None:
            kind = received.headers["content-type"]
            assert kind == "application/x-www-form-urlencoded"
            assert received.headers["content-length"] == str(len(request_.body))


def test_exchange_names_itself_and_asks_for_plain_json(
    transport: Transport,
) -> None:
    """The headers are few; nothing compressed is asked for."""
    with FaultServer() as server:
        exchange(transport, server.url, get(), 5)
        headers = server.requests[0].headers
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert headers["accept"] == "application/json"
        assert headers["accept-encoding"] == "identity"
        assert headers["user-agent"].startswith("etcdmap")
        assert "authorization" not in headers
        assert "cookie" not in headers


LARGE = b"x" * 1_000_000


@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param([READ, response("")], b"", id="empty"),
        pytest.param([READ, response(LARGE)], LARGE, id="large"),
        pytest.param([READ, chunked(b"ab", b"c")], b"abc", id="chunked"),
        pytest.param([READ, chunked(LARGE, LARGE)], LARGE * 2, id="chunked-large"),
        pytest.param([READ, head() + b"abc", CLOSE], b"abc", id="until-close"),
        pytest.param([READ, head(204)], b"", id="204"),
        pytest.param([READ, Drip(response("abc"), 0.0)], b"abc", id="byte-by-byte"),
        pytest.param([READ, Drip(chunked(b"ab", b"c"), 0.0)], b"abc", id="chunk-bytes"),
        pytest.param(
            [READ, b"HTTP/1.1 100 Continue\r\n\r\n" + response("abc")], b"abc", id="100"
        ),
        pytest.param(
            [READ, b"HTTP/1.0 200 OK\r\n\r\nabc", CLOSE], b"abc", id="http-1.0"
        ),
    ],
)
def test_exchange_reads_whatever_http_allows(
    transport: Transport, script: Script, body: bytes
) -> None:
    """However an answer is cut and framed, it is the same answer."""
    with FaultServer(script) as server:
        assert exchange(transport, server.url, get(), 5).body == body


def test_exchange_does_not_unpack(transport: Transport) -> None:
    """A small answer can't become a huge one."""
    packed = gzip.compress(b"0" * 1_000_000)
    script: Script = [READ, response(packed, 200, {"Content-Encoding": "gzip"})]
    with FaultServer(script) as server:
        assert exchange(transport, server.url, get(), 5).body == packed


def test_exchange_head_has_no_body(transport: Transport) -> None:
    """The length in the answer to HEAD is that of a body that does not come."""
    with FaultServer([Repeat(READ, response("", 404, length=5000))]) as server:
        for _ in range(2):
            answer = exchange(transport, server.url, get(method="HEAD"), 5)
            assert (answer.status, answer.body) == (404, b"")
        assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (301, "/v2/keys/other"),
        (303, "/v2/keys/other"),
        (307, "http://127.0.0.1:1/"),
        (301, "http://[::1"),
        (301, "\xff"),
    ],
)
def test_exchange_redirect_is_given_not_followed(
    transport: Transport, status: int, location: str
) -> None:
    """A redirect is an answer like any other, wherever it points to."""
    script = [Repeat(READ, response("moved", status, {"Location": location}))]
    with FaultServer(script) as server:
        assert exchange(transport, server.url, put(), 5).status == status
        assert len(server.requests) == 1


def test_exchange_cookies_are_not_sent_back(own: Transport) -> None:
    """A load balancer's cookie is nobody's business."""
    script = [Repeat(READ, response("{}", 200, {"Set-Cookie": "a=b; Path=/"}))]
    with FaultServer(script) as server:
        for _ in range(2):
            exchange(own, server.url, get(), 5)
        assert all("cookie" not in request.headers for request in server.requests)


# --- failures: whether the request may have been received --------------------


def test_exchange_refused_was_not_sent(transport: Transport) -> None:
    """Nothing listens: nothing was sent, and it is no matter of time."""
    with refusing() as url:
        error = failure(transport, url)
    assert isinstance(error, ExchangeFailed)
    assert not error.sent
    assert not error.timed_out
    assert not error.lasting
    assert "connection refused: nothing listens there" in str(error)


def test_exchange_unanswered_connection_was_not_sent(make: Make) -> None:
    """A host that swallows connections is left after connect_timeout."""
    transport = make(connect_timeout=0.3)
    with socket.socket() as full:
        # A listener whose queue is full takes no further connection.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with Stopwatch() as watch:
                error = failure(transport, url, timeout=20)
    assert isinstance(error, ExchangeFailed)
    assert error.timed_out
    assert not error.sent
    assert watch.seconds < 0.3 + GRACE


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://nowhere.invalid:2379", id="unknown-name"),
        pytest.param(f"http://{'a' * 64}.invalid:2379", id="long-label"),
    ],
)
def test_exchange_impossible_host_was_not_sent(transport: Transport, url: str) -> None:
    """A name that can't be looked up is an error of ours."""
    error = failure(transport, url)
    assert isinstance(error, ExchangeFailed)
    assert not error.sent


ENDS = [
    pytest.param([READ, CLOSE], id="close-after-request"),
    pytest.param([READ, RESET], id="reset-after-request"),
    pytest.param([READ, b"HT", CLOSE], id="close-in-status"),
    pytest.param([READ, response("abc", length=9), CLOSE], id="body-too-short"),
    pytest.param([READ, response("abc", length=9), RESET], id="reset-in-body"),
    pytest.param([READ, chunked(b"abc", end=False), CLOSE], id="no-last-chunk"),
    pytest.param([READ, chunked(b"abc")[:-7], CLOSE], id="close-in-chunk"),
    pytest.param([READ, chunked(b"a" * 40)[:-12], CLOSE], id="close-inside-chunk"),
]


#: Ends that http.client, under requests, takes for the end of head or trailer.
QUIET_ENDS = [
    pytest.param([READ, head()[:-2], RESET], id="reset-before-body"),
    pytest.param([READ, b"HTTP/1.1 200 OK\r\nX-Etcd", CLOSE], id="close-in-header"),
    pytest.param([READ, head()[:-2], CLOSE], id="close-before-body"),
    pytest.param([READ, chunked(b"abc")[:-2], CLOSE], id="close-before-trailer-end"),
]


@pytest.mark.parametrize("script", [[CLOSE], [RESET]], ids=["close", "reset"])
def test_exchange_hung_up_at_once_fails(transport: Transport, script: Script) -> None:
    """Whether anything was sent depends on who is quicker; an answer never comes."""
    with FaultServer(script) as server:
        error = failure(transport, server.url, put())
    assert isinstance(error, ExchangeFailed)
    assert "the connection was closed before an answer came" in str(error)


@pytest.mark.parametrize("script", QUIET_ENDS)
def test_exchange_broken_off_in_head_or_trailer_is_noticed(script: Script) -> None:
    """Our own reader takes no end of the connection for the end of a head."""
    with FaultServer(script) as server:
        transport = make_transport()
        error = failure(transport, server.url, put())
        transport.close()
    assert may_be_applied(error)


@pytest.mark.parametrize("script", ENDS)
def test_exchange_broken_off_may_have_been_received(
    transport: Transport, script: Script
) -> None:
    """A connection that ends early gives no answer, and leaves a write in doubt."""
    with FaultServer(script) as server, Stopwatch() as watch:
        error = failure(transport, server.url, put())
    assert may_be_applied(error)
    assert watch.seconds < GRACE
    if isinstance(error, ExchangeFailed):
        assert not error.timed_out
        assert not error.lasting


def test_exchange_reset_while_sending_may_have_been_received(
    transport: Transport,
) -> None:
    """A server that goes away in the middle of a large body has seen a part."""
    with FaultServer([RECEIVE, RESET]) as server:
        error = failure(transport, server.url, put(b"v" * 5_000_000))
    assert may_be_applied(error)


NOT_HTTP = [
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="ssh"),
    pytest.param(b"\0" * 100, id="zeros"),
    pytest.param(b"HTTP/1.1\r\n\r\n", id="no-status"),
    pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status-text"),
    pytest.param(b"HTTP/1.1 99 OK\r\n\r\n", id="status-low"),
    pytest.param(b"HTTP/1.1 9999 OK\r\n\r\n", id="status-high"),
    pytest.param(head() + b"" + b"", id="no-length-no-end"),
]

BAD_FRAMES = [
    pytest.param(response("abc", 200, {"Content-Length": "4"}), id="two-lengths"),
    pytest.param(head(headers={"Transfer-Encoding": "chunked"}) + b"zz\r\n", id="size"),
    pytest.param(
        head(headers={"Transfer-Encoding": "chunked"}) + b"\r\n\r\n", id="size-empty"
    ),
    pytest.param(
        head(headers={"Transfer-Encoding": "chunked"}) + b"f" * 5000 + b"\r\n",
        id="size-endless",
    ),
    pytest.param(head(headers={"X-Long": "a" * 70_000}) + b"", id="line-too-long"),
    pytest.param(
        head(headers={f"X-{n}": "a" for n in range(500)}) + b"", id="too-many-headers"
    ),
]


@pytest.mark.parametrize("data", [*NOT_HTTP, *BAD_FRAMES])
def test_exchange_with_something_else_fails_within_its_time(
    transport: Transport, data: bytes
) -> None:
    """What is not HTTP is told, and is not waited for beyond the deadline."""
    with FaultServer([READ, data, STALL]) as server, Stopwatch() as watch:
        error = failure(transport, server.url, timeout=SHORT)
    assert may_be_applied(error)
    assert watch.seconds < SHORT + GRACE


@pytest.mark.parametrize("length", ["abc", "-1", "", "9" * 30])
def test_exchange_odd_length_fails_or_reads_to_the_end(
    transport: Transport, length: str
) -> None:
    """A length that is no number is an error, or counts for nothing."""
    with FaultServer([READ, response("abc", length=length), CLOSE]) as server:
        try:
            answer = exchange(transport, server.url, get(), 5)
        except (ExchangeFailed, InvalidResponse) as error:
            assert may_be_applied(error)  # noqa: PT017
        else:
            assert answer.body == b"abc"


# --- the deadline -----------------------------------------------------------

SLOW = [
    pytest.param([READ, chunked(end=False), Endless(b"1;a\r\nx\r\n")], id="flood"),
    pytest.param([STALL], id="stall"),
    pytest.param([READ, b"HTTP/1.1 200 OK\r\n", STALL], id="stall-in-head"),
    pytest.param([READ, response("abc", length=9), STALL], id="stall-in-body"),
    pytest.param([READ, head(), Endless(b"X: y\r\n", 0.05, 60)], id="drip-until-close"),
    pytest.param(
        [READ, b"HTTP/1.1 200 OK\r\n", Endless(b"X-A: y\r\n", 0.05, 60)],
        id="drip-headers",
    ),
    pytest.param(
        [READ, response("", length=999), Endless(b"a", 0.05, 60)], id="drip-body"
    ),
    pytest.param(
        [READ, chunked(end=False), Endless(b"1\r\na\r\n", 0.05, 60)], id="drip-chunks"
    ),
    pytest.param(
        [READ, chunked(end=False), b"0\r\n", Endless(b"X: y\r\n", 0.05, 60)],
        id="drip-trailer",
    ),
    pytest.param(
        [READ, Endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, 60)], id="drip-interim"
    ),
]


@pytest.mark.parametrize("script", SLOW)
def test_exchange_slow_answer_ends_at_the_deadline(
    transport: Transport, script: Script
) -> None:
    """Neither silence nor a drip holds a call longer than it may last."""
    with FaultServer([*script, STALL]) as server, Stopwatch() as watch:
        error = failure(transport, server.url, timeout=SHORT)
    assert may_be_applied(error)
    assert watch.seconds < SHORT + GRACE
    # What is refused for its shape may end earlier.
    if isinstance(error, ExchangeFailed):
        assert error.timed_out


@pytest.mark.parametrize("script", [[READ, STALL], [STALL]], ids=["read", "unread"])
def test_exchange_timed_out_says_for_how_long(
    transport: Transport, script: Script
) -> None:
    """The message names the seconds."""
    with FaultServer(script) as server:
        error = failure(transport, server.url, put(), timeout=0.25)
    assert "no answer within 0.25 s" in str(error)


def test_exchange_server_that_reads_nothing_ends_at_the_deadline(
    transport: Transport,
) -> None:
    """Sending is bounded as well: a stopped server takes only what fits a buffer."""
    never = threading.Event()
    with FaultServer([Until(never)]) as server, Stopwatch() as watch:
        error = failure(transport, server.url, put(b"v" * 10_000_000), timeout=SHORT)
    assert may_be_applied(error)
    assert watch.seconds < SHORT + GRACE


@pytest.mark.parametrize("timeout", [0, -1])
def test_exchange_without_any_time_fails_as_timed_out(
    transport: Transport, timeout: float
) -> None:
    """The clock may pass the deadline between the client's look at it and this."""
    with FaultServer([STALL]) as server:
        error = failure(transport, server.url, timeout=timeout)
    assert isinstance(error, ExchangeFailed)
    assert error.timed_out


@pytest.mark.parametrize("timeout", [1e10, 1e15])
def test_exchange_with_all_the_time_in_the_world_works(
    transport: Transport, timeout: float
) -> None:
    """Who means "for ever" by a huge number gets it, and no OverflowError."""
    with FaultServer(
        [READ, Until(ready := threading.Event()), response("x")]
    ) as server:
        threading.Timer(0.05, ready.set).start()
        assert exchange(transport, server.url, get(), timeout).body == b"x"


# --- the size of an answer --------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([READ, response(b"a" * 1000)], id="length"),
        pytest.param([READ, chunked(b"a" * 500, b"a" * 500)], id="chunked"),
        pytest.param([READ, head() + b"a" * 1000, CLOSE], id="until-close"),
    ],
)
def test_max_response_at_the_limit_is_read(make: Make, script: Script) -> None:
    """The limit is inclusive."""
    with FaultServer(script) as server:
        assert (
            exchange(make(max_response=1000), server.url, get(), 5).body == b"a" * 1000
        )


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([READ, response(b"a" * 1001)], id="length"),
        pytest.param([READ, chunked(b"a" * 500, b"a" * 501)], id="chunked"),
        pytest.param([READ, head() + b"a" * 1001, CLOSE], id="until-close"),
        pytest.param([READ, head(), Endless(b"a" * 9999)], id="endless"),
    ],
)
def test_max_response_beyond_is_refused_by_name(make: Make, script: Script) -> None:
    """The error says which option to change, and reading stops."""
    with FaultServer(script) as server:
        error = failure(make(max_response=1000), server.url, timeout=20)
    assert isinstance(error, InvalidResponse)
    assert "more than 1000 bytes" in str(error)
    assert "max_response" in str(error)
    assert error.endpoint == server.url
    assert error.status in (200, 301)


def test_answer_in_small_pieces_takes_no_multiple_of_its_length(make: Make) -> None:
    """A list of them would: each has 33 bytes beside its own."""
    pieces = [b"2\r\nab\r\n" * 10_000] * 10
    with FaultServer([READ, chunked(end=False), *pieces, b"0\r\n\r\n"]) as server:
        transport = make()
        tracemalloc.start()
        try:
            body = exchange(transport, server.url, get(), 20).body
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert body == b"ab" * 100_000
    assert peak < 10 * len(body)


@pytest.mark.parametrize("status", [301, 400, 401, 500, 503])
def test_refusal_is_short(make: Make, status: int) -> None:
    """Whoever says no needs no more than 64 KiB, but for what it quotes."""
    with FaultServer([READ, response(b"a" * 70_000, status)]) as server:
        error = failure(make(), server.url)
    assert isinstance(error, InvalidResponse)
    assert "more than 65" in str(error)


@pytest.mark.parametrize("status", [200, 404, 412])
def test_answer_that_may_quote_is_read(make: Make, status: int) -> None:
    """412 may quote a value of the store, others the key that was asked for."""
    text = b"a" * 70_000
    request = get(f"/v2/keys/{'k' * 2000}")
    with FaultServer([READ, response(text, status)]) as server:
        assert exchange(make(), server.url, request, 5).body == text


def test_answer_beyond_what_its_request_can_mean_is_refused(make: Make) -> None:
    """A list of members of more than 64 KiB is none."""
    request = next(iter(V2_API.members()))
    with FaultServer([READ, response(b"a" * 70_000)]) as server:
        transport = make()
        with pytest.raises(InvalidResponse, match="more than 65536 bytes"):
            exchange(transport, server.url, request, 5)


def test_max_response_beyond_does_not_spoil_the_next_answer(make: Make) -> None:
    """What is left of an answer that was refused is nobody's answer."""
    transport = make(max_response=1000)
    script: Script = [READ, response(b"a" * 5_000_000), READ, response("evil")]
    with FaultServer(script, [READ, response("next")]) as server:
        failure(transport, server.url)
        assert exchange(transport, server.url, get(), 5).body == b"next"


# --- connections ------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response("{}"), id="length"),
        pytest.param(response("{}", 404), id="404"),
        pytest.param(chunked(b"ab", b"c"), id="chunked"),
        pytest.param(response(LARGE), id="large"),
        pytest.param(head(204), id="204"),
    ],
)
def test_connection_sequential_requests_share_one(
    transport: Transport, answer: bytes
) -> None:
    """One thread needs one socket, whatever is answered."""
    with FaultServer([Repeat(READ, answer)]) as server:
        for request in (get(), put(), get(method="DELETE"), put(), get()):
            exchange(transport, server.url, request, 5)
        assert len(server.requests) == 5
        assert server.connections == 1


def test_connection_two_endpoints_do_not_mix(transport: Transport) -> None:
    """A connection is used for its own endpoint only."""
    with (
        FaultServer([Repeat(READ, response("one"))]) as one,
        FaultServer([Repeat(READ, response("two"))]) as two,
    ):
        for _ in range(3):
            assert exchange(transport, one.url, get(), 5).body == b"one"
            assert exchange(transport, two.url, get(), 5).body == b"two"
        assert (one.connections, two.connections) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            response("{}", 200, {"Connection": "close"}), id="connection-close"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", id="http-1.0"),
    ],
)
def test_connection_that_the_server_ends_is_not_used_again(
    transport: Transport, answer: bytes
) -> None:
    """A server that announces the end is taken at its word."""
    with FaultServer([READ, answer, STALL]) as server:
        for _ in range(3):
            assert exchange(transport, server.url, get(), 5).body == b"{}"
        assert server.connections == 3


def test_connection_closed_while_idle_is_replaced(transport: Transport) -> None:
    """A keep-alive that ran out costs a write nothing: it goes out once."""
    with FaultServer([READ, response("{}"), CLOSE]) as server:
        for number in range(3):
            assert exchange(transport, server.url, put(), 5).status == 200
            server.wait_for(partial(has_ended, number))
        assert len(server.requests) == 3
        assert server.connections == 3


def test_connection_reset_while_idle_is_replaced(transport: Transport) -> None:
    """So it is after a crash of the member."""
    with FaultServer([READ, response("{}"), RESET]) as server:
        for number in range(3):
            assert exchange(transport, server.url, put(), 5).status == 200
            server.wait_for(partial(has_ended, number))
        assert len(server.requests) == 3


def test_connection_closed_by_the_next_request_leaves_it_in_doubt(
    transport: Transport,
) -> None:
    """Closed as the request arrives: it may have been read, so it is not re-sent."""
    with FaultServer([READ, response("{}"), READ, CLOSE]) as server:
        exchange(transport, server.url, put(), 5)
        error = failure(transport, server.url, put())
        assert may_be_applied(error)
        assert len(server.requests) == 2
        assert server.connections == 1


@pytest.mark.parametrize("script", [*ENDS[:4], *SLOW[:2]])
def test_connection_that_failed_is_not_used_again(
    transport: Transport, script: Script
) -> None:
    """The exchange after a failure starts on a new connection, and works."""
    with FaultServer(script, [READ, response("next")]) as server:
        failure(transport, server.url, timeout=SHORT)
        assert exchange(transport, server.url, get(), 5).body == b"next"
        assert server.connections == 2


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(response("1") + response("evil"), id="two-answers"),
        pytest.param(chunked(b"1") + response("evil"), id="two-answers-chunked"),
        pytest.param(response("1") + b"\r\n", id="crlf"),
    ],
)
def test_connection_with_more_than_its_answer_does_not_answer_the_next(
    transport: Transport, first: bytes
) -> None:
    """What nobody asked for is never taken for the next answer."""
    later: Script = [READ, response("2")]
    with FaultServer([READ, first, *later], later) as server:
        assert exchange(transport, server.url, get(), 5).body == b"1"
        assert exchange(transport, server.url, get(), 5).body == b"2"


def test_connection_with_a_late_second_answer_does_not_answer_the_next(
    transport: Transport,
) -> None:
    """An answer that comes while the connection is idle is nobody's."""
    idle = threading.Event()
    told = threading.Event()

    class Tell(threading.Event):
        """An event that tells when it is waited for."""

        def wait(self, timeout: float | None = None) -> bool:
            told.set()
            return idle.wait(timeout)

    script: list[Any] = [
        READ,
        response("1"),
        Until(idle),
        response("evil"),
        Until(Tell()),
    ]
    with FaultServer(script, [READ, response("2")]) as server:
        assert exchange(transport, server.url, get(), 5).body == b"1"
        idle.set()
        assert told.wait(10)
        server.wait_for(lambda s: s.connections == 1)
        time.sleep(0.05)  # for the loopback to hand over what was sent
        assert exchange(transport, server.url, get(), 5).body == b"2"


def test_connection_head_with_a_body_does_not_answer_the_next(
    transport: Transport,
) -> None:
    """A server that sends a body to HEAD is misread by nobody."""
    later: Script = [READ, response("2")]
    with FaultServer([READ, response("evil"), *later], later) as server:
        assert exchange(transport, server.url, get(method="HEAD"), 5).body == b""
        assert exchange(transport, server.url, get(), 5).body == b"2"


# --- threads ----------------------------------------------------------------


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Run the same work in threads, to its end; raise what one of them raised."""
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
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def test_threads_use_as_many_sockets_as_there_are_requests_at_once(
    own: Transport,
) -> None:
    """Four at once take four sockets; one after the other they take the warmest."""
    all_there = threading.Event()
    first: list[Any] = [
        READ,
        Until(all_there),
        response("{}"),
        Repeat(READ, response("{}")),
    ]
    with FaultServer(first) as server:
        workers = threading.Thread(
            target=in_threads,
            args=(4, lambda: exchange(own, server.url, get(), 20)),
        )
        workers.start()
        server.wait_for(lambda s: len(s.requests) == 4)
        all_there.set()
        workers.join(20)
        assert server.connections == 4
        for _ in range(4):
            exchange(own, server.url, get(), 5)
        assert server.connections == 4
        assert len({request.connection for request in server.requests[4:]}) == 1


def test_threads_get_their_own_answers(transport: Transport) -> None:
    """Many threads on one transport never read each other's answers."""
    numbers = iter(range(1_000_000))

    def work() -> None:
        for _ in range(50):
            target = f"/v2/keys/{next(numbers)}"
            body = exchange(transport, server.url, get(target), 20).body
            assert body.decode() == f"GET {target}"

    echo = Reply(lambda request: response(request.line))
    with FaultServer([Repeat(echo)]) as server:
        in_threads(8, work)
        assert len(server.requests) == 400
        assert server.connections <= 8


# --- credentials and the environment ----------------------------------------


@pytest.mark.parametrize(
    ("username", "password", "pair"),
    [
        pytest.param("jörg", "pässword€", "jörg:pässword€", id="utf-8"),
        pytest.param("root", "a:b:c", "root:a:b:c", id="colons"),
        pytest.param("root", None, "root:", id="no-password"),
        pytest.param("", "x", ":x", id="empty-name"),
    ],
)
def test_auth_credentials_go_out_as_basic(
    make: Make, username: str, password: str | None, pair: str
) -> None:
    """v2 auth is HTTP basic auth, in UTF-8."""
    with FaultServer() as server:
        transport = make(username=username, password=password)
        exchange(transport, server.url, get(), 5)
        expected = base64.b64encode(pair.encode()).decode()
        assert server.requests[0].headers["authorization"] == f"Basic {expected}"


def test_auth_credentials_are_shown_nowhere(make: Make) -> None:
    """Neither the transport nor its errors show them, plain or in base64."""
    transport = make(username="root", password="hunter2")
    hidden = ("hunter2", base64.b64encode(b"root:hunter2").decode())
    shown = [repr(transport), str(transport)]
    with FaultServer([READ, b"nonsense\r\n\r\n", CLOSE]) as server, refusing() as url:
        for endpoint in (server.url, url):
            error = failure(transport, endpoint, timeout=SHORT)
            shown += [str(error), repr(error), repr(vars(error))]
            shown += traceback.format_exception(type(error), error, error.__traceback__)
    assert not any(secret in text for secret in hidden for text in shown)


def test_auth_credentials_are_not_pickled(make_own: Make) -> None:
    """A transport is not pickled, or at least not with its password."""
    transport = make_own(username="root", password="hunter2")
    try:
        pickled = pickle.dumps(transport)
    except (TypeError, AttributeError, pickle.PicklingError):
        return
    assert b"hunter2" not in pickled
    assert base64.b64encode(b"root:hunter2") not in pickled


@pytest.fixture
def hostile_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultServer]:
    """Set proxies and a netrc; give the proxy, which nobody may visit."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    with FaultServer() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text(netrc.read_text())
        yield proxy


def test_environment_has_no_say(
    hostile_environment: FaultServer, make_own: Make
) -> None:
    """Neither proxy variables nor ~/.netrc reach requests to etcd."""
    with FaultServer() as server:
        exchange(make_own(), server.url, get(), 5)
        assert "authorization" not in server.requests[0].headers
        assert hostile_environment.connections == 0


# --- TLS --------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1 that nobody signed."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_tls_self_signed_certificate_is_refused(
    transport: Transport, certificate: Path
) -> None:
    """A server that can't be verified gets no request, and it is no use to retry."""
    with FaultServer(certificate=certificate) as server:
        error = failure(transport, server.url, put())
        assert server.requests == []
    assert isinstance(error, ExchangeFailed)
    assert error.lasting
    assert not error.sent
    assert "TLS certificate refused" in str(error)
    assert "self" in str(error)  # "self-signed certificate"
    assert "/v2/keys" not in str(error), "a URL may hold values"


def test_tls_with_the_right_ca_works(make: Make, certificate: Path) -> None:
    """verify= a bundle trusts what it holds; the connection is kept."""
    transport = make(verify=str(certificate))
    with FaultServer(certificate=certificate) as server:
        for _ in range(3):
            assert exchange(transport, server.url, put(), 5).status == 200
        assert server.connections == 1


def test_tls_certificate_for_another_host_is_refused(
    make: Make, tmp_path: Path
) -> None:
    """A trusted certificate of another name is not enough."""
    other = make_certificate(tmp_path, "other.test")
    with FaultServer(certificate=other) as server:
        error = failure(make(verify=str(other)), server.url, put())
        assert server.requests == []
    assert isinstance(error, ExchangeFailed)
    assert error.lasting
    assert not error.sent


@pytest.mark.filterwarnings("ignore::etcdmap.UnverifiedTLS")
def test_tls_without_verification_works(make: Make, certificate: Path) -> None:
    """Who turns it off gets what they asked for."""
    transport = make(verify=False)
    with (
        FaultServer(certificate=certificate) as server,
        contextlib.suppress(urllib3.exceptions.InsecureRequestWarning),
    ):
        assert exchange(transport, server.url, get(), 5).status == 200


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"verify": "/nowhere/ca.pem"}, id="verify"),
        pytest.param({"cert": "/nowhere/client.pem"}, id="cert"),
        pytest.param({"cert": ("/nowhere/a.pem", "/nowhere/b.pem")}, id="pair"),
    ],
)
def test_tls_missing_file_is_named_and_nothing_sent(
    make: Make, certificate: Path, settings: dict[str, Any]
) -> None:
    """A path that is wrong stays wrong; the message shows it."""
    with FaultServer(certificate=certificate) as server:
        error = failure(make(**settings), server.url, put())
        assert server.requests == []
    assert isinstance(error, ExchangeFailed)
    assert not error.sent
    assert error.lasting
    assert "/nowhere/" in str(error)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([CLOSE], id="close"),
        pytest.param([RESET], id="reset"),
        pytest.param([b"HTTP/1.1 400 Bad Request\r\n\r\n", STALL], id="plain-http"),
    ],
)
def test_tls_handshake_that_fails_sends_nothing(
    transport: Transport, script: Script
) -> None:
    """Before the handshake is done no server can have read a request."""
    with FaultServer(script) as server:
        url = server.url.replace("http:", "https:")
        error = failure(transport, url, put(), timeout=5)
    assert isinstance(error, ExchangeFailed)
    assert not error.sent


def test_tls_handshake_that_stalls_ends_with_connect_timeout(make: Make) -> None:
    """The handshake is part of connecting."""
    transport = make(connect_timeout=0.3)
    with FaultServer([STALL]) as server, Stopwatch() as watch:
        url = server.url.replace("http:", "https:")
        error = failure(transport, url, put(), timeout=20)
    assert isinstance(error, ExchangeFailed)
    assert error.timed_out
    assert not error.sent
    assert watch.seconds < 0.3 + GRACE


@pytest.mark.parametrize("script", ENDS[:5])
def test_tls_exchange_broken_off_may_have_been_received(
    make: Make, certificate: Path, script: Script
) -> None:
    """Under TLS, too, an early end gives no answer."""
    transport = make(verify=str(certificate))
    with FaultServer(script, certificate=certificate) as server:
        error = failure(transport, server.url, put())
    assert may_be_applied(error)


def test_tls_end_that_was_not_announced_is_no_end_of_a_body(certificate: Path) -> None:
    """Without a length, only TLS can tell a whole body from one that was cut."""
    transport = make_transport(verify=str(certificate))
    script: Script = [READ, head() + b"abc", CLOSE]  # without a word of TLS
    with FaultServer(script, certificate=certificate) as server:
        error = failure(transport, server.url, put())
        transport.close()
    assert may_be_applied(error)


# --- close and fork ---------------------------------------------------------


def test_close_ends_idle_connections(own: Transport) -> None:
    """The server sees the end at once."""
    with FaultServer() as server:
        exchange(own, server.url, get(), 5)
        assert not server.ended
        own.close()
        server.wait_for(lambda s: s.ended == {0})


def test_close_makes_later_use_an_error(transport: Transport) -> None:
    """Use after close() is told as what it is; closing twice is fine."""
    transport.close()
    transport.close()
    with FaultServer() as server:
        with pytest.raises(ClientClosed, match="closed"):
            exchange(transport, server.url, get(), 5)
        assert server.connections == 0


def forked(work: Callable[[], bool]) -> bool:
    """Run something in a forked child and tell whether it was true there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_child_uses_connections_of_its_own(transport: Transport) -> None:
    """Parent and child would read each other's answers from a shared socket."""
    with FaultServer() as server:
        exchange(transport, server.url, get("/parent"), 5)

        def child() -> bool:
            answer = exchange(transport, server.url, get("/child"), 5)
            transport.close()
            return answer.status == 200

        assert forked(child)
        exchange(transport, server.url, get("/parent"), 5)
        by_line = {request.line: request.connection for request in server.requests}
        assert by_line == {"GET /parent": 0, "GET /child": 1}
        assert [request.connection for request in server.requests] == [0, 1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_child_that_closes_leaves_the_parent_alone(
    make_own: Make, certificate: Path
) -> None:
    """A child's close(), and its end, must not end a TLS session of the parent."""
    transport = make_own(verify=str(certificate))
    with FaultServer(certificate=certificate) as server:
        exchange(transport, server.url, get(), 5)

        def child() -> bool:
            transport.close()
            return True

        assert forked(child)
        assert exchange(transport, server.url, get(), 5).status == 200
        assert server.connections == 1


# --- a session of the caller's ----------------------------------------------


def test_session_settings_apply_and_it_is_not_closed() -> None:
    """Headers, auth and hooks of the session are used; closing it is its owner's."""
    seen: list[int] = []
    with requests.Session() as session, FaultServer() as server:
        session.trust_env = False
        session.headers["X-Tenant"] = "blue"
        session.auth = ("root", "hunter2")
        session.hooks["response"].append(lambda r, **_: seen.append(r.status_code))
        transport = make_transport(session=session)
        assert exchange(transport, server.url, put(), 5).status == 200
        transport.close()
        received = server.requests[0].headers
        assert received["x-tenant"] == "blue"
        assert received["authorization"].startswith("Basic ")
        assert seen == [200]
        assert not server.ended
        assert session.get(server.url + "/again").status_code == 200
        assert server.connections == 1


def test_session_of_the_caller_may_use_the_environment(
    hostile_environment: FaultServer,
) -> None:
    """Who gives a session with trust_env asked for proxies and netrc."""
    with requests.Session() as session, FaultServer() as server:
        exchange(make_transport(session=session), server.url, get(), 5)
        assert server.connections == 0
        assert hostile_environment.connections == 1


@pytest.mark.parametrize("auth", [None, ("other", "else")], ids=["netrc", "session"])
def test_credentials_given_count_more_than_what_a_session_finds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, auth: tuple[str, str] | None
) -> None:
    """Neither ~/.netrc nor the session's own auth takes the place of ours."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen = []
    for given in ({}, {"username": "root", "password": "hunter2"}):
        with requests.Session() as session, FaultServer() as server:
            session.auth = auth
            transport = make_transport(session=session, **given)
            exchange(transport, server.url, get(), 5)
            transport.close()
            token = server.requests[0].headers["authorization"].removeprefix("Basic ")
            seen.append(base64.b64decode(token))
    assert seen == [b"other:else" if auth else b"somebody:else", b"root:hunter2"]


def test_make_transport_without_session_uses_no_session() -> None:
    """The plain case is served by sockets of our own."""
    assert isinstance(make_transport(), WireTransport)
    with requests.Session() as session:
        transport = make_transport(session=session)
        assert isinstance(transport, ThreadedTransport)
        assert isinstance(transport.inner, RequestsTransport)


class Raising(requests.adapters.BaseAdapter):
    """An adapter that fails, at once or while its answer is read."""

    def __init__(self, error: Exception, *, in_body: bool) -> None:
        super().__init__()
        self.error = error
        self.in_body = in_body

    def send(self, *_: Any, **__: Any) -> requests.Response:
        """Fail, or give an answer that fails."""
        if not self.in_body:
            raise self.error
        answer = requests.Response()
        answer.status_code = 200
        answer.raw = self
        return answer

    def read1(self, *_: Any) -> bytes:
        """Fail."""
        raise self.error

    read = read1

    def release_conn(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def every(*bases: type[Exception]) -> list[Any]:
    """Find all subclasses of some exceptions, themselves included."""
    found: dict[str, type[Exception]] = {}
    todo = list(bases)
    while todo:
        kind = todo.pop()
        if kind.__module__.startswith(("requests.", "urllib3.")):
            found[f"{kind.__module__.partition('.')[0]}.{kind.__name__}"] = kind
        todo += kind.__subclasses__()
    return [pytest.param(kind, id=name) for name, kind in sorted(found.items())]


def an_instance(kind: type[Exception]) -> Exception:
    """Make an exception, however many arguments its class asks for."""
    if kind is urllib3.exceptions.InvalidChunkLength:
        return kind(urllib3.HTTPResponse(), b"zz")
    if kind is urllib3.exceptions.IncompleteRead:
        return kind(1, 2)
    for arguments in (("boom",), (None, "boom"), (None, "boom", "boom"), ("b", "", 0)):
        with contextlib.suppress(TypeError, AttributeError):
            return kind(*arguments)
    raise AssertionError(f"make a {kind} by hand")


EVERY = every(requests.RequestException, urllib3.exceptions.HTTPError)


#: What quotes a URL or a header, and so perhaps a password.
QUOTING = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("in_body", [False, True], ids=["send", "body"])
def test_every_exception_of_requests_becomes_ours(
    kind: type[Exception], in_body: bool
) -> None:
    """No exception of requests or urllib3 gets out, wherever it is raised."""
    cause = an_instance(kind)
    with requests.Session() as session:
        session.mount("http://", Raising(cause, in_body=in_body))
        error = failure(make_transport(session=session), "http://127.0.0.1:1", put())
    assert isinstance(error, EtcdMapError)
    assert error.__cause__ is (None if isinstance(cause, QUOTING) else cause)
    if in_body:
        assert may_be_applied(error), "an answer had begun: the request was received"


def test_every_exception_of_requests_was_found() -> None:
    """The list is not empty by accident."""
    names = {parameter.id for parameter in EVERY}
    assert {"requests.ConnectTimeout", "requests.ChunkedEncodingError"} <= names
    assert {"urllib3.ProtocolError", "urllib3.IncompleteRead"} <= names
    assert len(names) > 40


def test_failure_to_connect_after_a_retry_may_have_been_sent() -> None:
    """An adapter that sends again by itself tells of its last try only."""
    refused = urllib3.exceptions.NewConnectionError(None, "refused")  # type: ignore[arg-type]
    error = requests.ConnectionError(refused)
    assert not of_requests(error, 1.0).sent
    assert of_requests(error, 1.0, retried=True).sent


def test_session_that_retries_is_taken_at_its_word() -> None:
    """Requests' adapters as they come do not send again."""
    with requests.Session() as session:
        assert not _retries(session.get_adapter("http://a:1"))
        session.mount("http://", HTTPAdapter(max_retries=2))
        assert _retries(session.get_adapter("http://a:1"))

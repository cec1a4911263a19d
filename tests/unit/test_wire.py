"""Exchanges on sockets of our own, against servers that do wrong by a script."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from etcdmap.errors import ClientClosed, ExchangeFailed, InvalidResponse
from etcdmap.transport import (
    Answer,
    Transport,
    WireTransport,
    make_transport,
    wait_any,
)
from etcdmap.transport import wire as wire_module
from etcdmap.transport.http1 import Reader
from etcdmap.transport.pool import MAX_IDLE
from etcdmap.transport.stock import RequestsTransport

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    RECEIVE,
    RESET,
    STALL,
    WORKING,
    Drip,
    Endless,
    FaultServer,
    Repeat,
    Stopwatch,
    Until,
    chunked,
    file_answer,
    head,
    refusing,
    response,
)
from support.requests import Request
from support.sessions import OnSession
from support.transports import exchange

#: How late an exchange may end.
GRACE = 0.2
BIG = b"value=" + b"x" * 8_000_000  # more than the buffers of two sockets


@pytest.fixture
def transport() -> Iterator[WireTransport]:
    """Give a transport of our own."""
    transport = WireTransport()
    yield transport
    transport.close()


def get(target: str = "/v2/keys/k") -> Request[Any]:
    """Make a read."""
    return Request("GET", target, lambda answer: answer)


def put(body: bytes = b"value=v") -> Request[Any]:
    """Make a write."""
    return Request("PUT", "/v2/keys/k", lambda answer: answer, body)


def failure(call: Callable[..., object], *arguments: Any) -> ExchangeFailed:
    """Give the failure that a call ends in."""
    with pytest.raises(ExchangeFailed) as caught:
        call(*arguments)
    return caught.value


# --- what is sent


def test_exchange_sends_head_and_body_as_they_should_be() -> None:
    """One request is one buffer, with a Host and the fields of every request."""
    transport = WireTransport(username="ann", password="s3cret")
    with FaultServer() as server:
        answer = exchange(transport, server.url, put(), 5)
        transport.close()
    assert isinstance(answer, Answer)
    assert (answer.status, answer.endpoint) == (200, server.url)
    assert answer.headers["x-etcd-index"] == "7"
    [request] = server.requests
    assert (request.line, request.body) == ("PUT /v2/keys/k", b"value=v")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "7"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == "Basic YW5uOnMzY3JldA=="
    assert "s3cret" not in repr(transport)


def test_exchange_without_a_body_sends_no_length(transport: WireTransport) -> None:
    """A GET has nothing behind its head."""
    with FaultServer() as server:
        exchange(transport, server.url, get(), 5)
    assert "content-length" not in server.requests[0].headers
    assert server.requests[0].body == b""


@pytest.mark.parametrize("target", ["/v2/keys/a b", "/v2/keys/a\r\nX: y", "/\u00e4"])
def test_exchange_of_an_unquoted_target_sends_nothing(
    transport: WireTransport, target: str
) -> None:
    """What would end the request line early is refused, and for good."""
    with FaultServer() as server:
        error = failure(exchange, transport, server.url, get(target), 5)
    assert (error.sent, error.lasting) == (False, True)
    assert server.connections == 0


@pytest.mark.parametrize(
    "endpoint",
    [
        *("ftp://a:1", "http://", "a:1", "http://a:port", "http://a b:1"),
        *("http://[::1:1", "http://" + "x" * 70 + ":1"),
    ],
)
def test_exchange_with_what_is_no_endpoint_fails_for_good(
    transport: WireTransport, endpoint: str
) -> None:
    """A wrong URL does not become right by waiting."""
    error = failure(exchange, transport, endpoint, get(), 5)
    assert (error.sent, error.lasting) == (False, True)


# --- connections


def test_exchanges_share_one_connection(transport: WireTransport) -> None:
    """A connection that is whole is used again."""
    with FaultServer() as server:
        for _ in range(5):
            exchange(transport, server.url, get(), 5)
            transport.begin(server.url, get(), 5).result()
    assert (server.connections, len(server.requests)) == (1, 10)


def test_threads_use_as_many_connections_as_exchanges_at_a_time(
    transport: WireTransport,
) -> None:
    """And keep them all, up to a bound."""
    count = MAX_IDLE + 4
    go = threading.Event()
    with FaultServer([Repeat(READ, Until(go), file_answer())]) as server:
        threads = [
            threading.Thread(target=exchange, args=(transport, server.url, get(), 20))
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        server.wait_for(lambda server: len(server.requests) == count)
        go.set()
        for thread in threads:
            thread.join()
        assert server.connections == count
        server.wait_for(lambda server: len(server.ended) == count - MAX_IDLE)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(response("{}", headers={"Connection": "close"}), id="close"),
        pytest.param(response("{}") + b"garbage", id="garbage behind"),
        pytest.param(response("{}") * 2, id="two answers at once"),
        pytest.param(response("{}").replace(b"/1.1", b"/1.0"), id="HTTP/1.0"),
        pytest.param(chunked(b"{}") + b"\r\n", id="bytes behind chunks"),
    ],
)
def test_connection_that_can_not_go_on_is_closed(
    transport: WireTransport, last: bytes
) -> None:
    """The answer counts; the next request goes out on another connection."""
    with FaultServer([READ, last, STALL], WORKING) as server:
        assert exchange(transport, server.url, get(), 5).body == b"{}"
        server.wait_for(lambda server: 0 in server.ended)
        exchange(transport, server.url, get(), 5)
    assert server.connections == 2


def test_idle_connection_that_was_closed_is_not_used(transport: WireTransport) -> None:
    """A member that was restarted costs no failed request."""
    with FaultServer([READ, response("{}"), CLOSE], WORKING) as server:
        exchange(transport, server.url, put(), 5)
        server.wait_for(lambda server: 0 in server.ended)
        exchange(transport, server.url, put(), 5)
    assert [request.connection for request in server.requests] == [0, 1]


def test_distrusted_connections_are_not_used_again(transport: WireTransport) -> None:
    """Idle or in use: neither carries another request."""
    with FaultServer([READ, response("1"), READ, response("!")], WORKING) as server:
        exchange(transport, server.url, get(), 5)
        transport.distrust(server.url)
        begun = transport.begin(server.url, get(), 5)
        transport.distrust(server.url)  # meanwhile
        begun.result()
        exchange(transport, server.url, get(), 5)
    assert [request.connection for request in server.requests] == [0, 1, 2]


def test_distrust_never_raises(transport: WireTransport) -> None:
    """Who calls it has an error to tell; others may have closed the transport."""
    transport.distrust("http://never-seen:1")
    with FaultServer(WORKING) as server:
        exchange(transport, server.url, get(), 5)
        transport.close()
        transport.distrust(server.url)


def test_idle_connection_with_an_answer_nobody_asked_for_is_not_used(
    transport: WireTransport,
) -> None:
    """Else the next request would take it for its own."""
    asked, sent = threading.Event(), threading.Event()

    class Told:
        def do(self, conversation: object) -> None:
            sent.set()

    late: Any = [READ, response("1"), Until(asked), response("late"), Told(), STALL]
    with FaultServer(late, [READ, response("2")]) as server:
        assert exchange(transport, server.url, get(), 5).body == b"1"
        asked.set()
        assert sent.wait(5)
        assert exchange(transport, server.url, get(), 5).body == b"2"


def test_close_closes_the_connections(transport: WireTransport) -> None:
    """The idle ones at once; using it afterwards is an error."""
    with FaultServer() as server:
        exchange(transport, server.url, get(), 5)
        transport.close()
        server.wait_for(lambda server: 0 in server.ended)
        with pytest.raises(ClientClosed):
            exchange(transport, server.url, get(), 5)
        with pytest.raises(ClientClosed):
            transport.begin(server.url, get(), 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_leaves_the_parents_connection_alone(transport: WireTransport) -> None:
    """The child has one of its own; the parent's end stays the parent's."""
    go = threading.Event()
    first = [READ, file_answer("1"), READ, Until(go), file_answer("2"), STALL]
    with FaultServer(first, WORKING) as server:
        exchange(transport, server.url, get(), 5)
        begun = transport.begin(server.url, get(), 5)
        child = os.fork()
        if not child:
            code = 1
            try:
                ours = exchange(transport, server.url, get(), 5).body
                lost = failure(begun.result)
                code = 0 if b'"v"' in ours and lost.sent else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go.set()
        assert b'"2"' in begun.result().body
    assert [request.connection for request in server.requests] == [0, 0, 1]


# --- failures


def test_exchange_that_is_refused_was_not_sent(transport: WireTransport) -> None:
    """Nothing listens there: a write may go elsewhere."""
    with refusing() as endpoint:
        error = failure(exchange, transport, endpoint, put(), 5)
        started = transport.begin(endpoint, put(), 5)
        assert failure(started.result).sent is False
    assert (error.sent, error.timed_out, error.lasting) == (False, False, False)
    assert "refused" in str(error)


def test_exchange_with_an_unknown_name_was_not_sent(transport: WireTransport) -> None:
    """The reserved top-level name ``invalid`` (RFC 6761) never resolves."""
    error = failure(exchange, transport, "http://no.such.invalid:1", put(), 5)
    assert (error.sent, error.lasting) == (False, False)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([READ, CLOSE], id="closed"),
        pytest.param([READ, RESET], id="reset"),
        pytest.param([READ, head(), CLOSE], id="until end is whole"),
        pytest.param([READ, b"HTTP/1.1 200 OK\r\nX", CLOSE], id="in the head"),
        pytest.param([READ, response("{}", length=3), CLOSE], id="in the body"),
        pytest.param([READ, response("{}", length=3), RESET], id="reset in the body"),
        pytest.param([READ, chunked(b"{}", end=False), CLOSE], id="in the chunks"),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_answer_that_is_cut_off_fails(
    transport: WireTransport, script: list[Any], warm: bool
) -> None:
    """The request was sent; an answer that ends early is no answer."""
    before: list[Any] = [READ, response("{}")] if warm else []
    with FaultServer([*before, *script]) as server:
        if warm:
            exchange(transport, server.url, get(), 5)
        if script[1] == head():
            assert exchange(transport, server.url, get(), 5).body == b""
            return
        error = failure(exchange, transport, server.url, put(), 5)
    assert (error.sent, error.timed_out) == (True, False)
    assert server.connections == 1


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nX: ", response("{}", length=9)]
)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("timeout", [0.05, 0.3])
def test_exchange_that_gets_no_answer_ends_in_time(
    transport: WireTransport, start: bytes, warm: bool, timeout: float
) -> None:
    """Wherever the member stops."""
    before: list[Any] = [READ, response("{}")] if warm else []
    with FaultServer([*before, READ, start, STALL]) as server, Stopwatch() as watch:
        if warm:
            exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, get(), timeout)
        server.wait_for(lambda server: 0 in server.ended)
    assert (error.sent, error.timed_out) == (True, True)
    assert timeout <= watch.seconds < timeout + GRACE


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([Drip(response("x" * 200), 0.02)], id="head"),
        pytest.param([head(), Drip(b"x" * 200, 0.02)], id="body"),
        pytest.param([chunked(end=False), Endless(b"1\r\nx\r\n", 0.02)], id="chunks"),
        pytest.param([chunked(end=False), Endless(b"1;a\r\nx\r\n")], id="flood"),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_exchange_of_a_slow_drip_ends_in_time(
    transport: WireTransport, script: list[Any], warm: bool
) -> None:
    """The deadline is that of the whole exchange, not of one packet."""
    before: list[Any] = [READ, response("{}")] if warm else []
    with FaultServer([*before, READ, *script]) as server, Stopwatch() as watch:
        if warm:
            exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, get(), 0.4)
    assert (error.sent, error.timed_out) == (True, True)
    assert 0.4 <= watch.seconds < 0.4 + GRACE


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", response("{}", length="two")])
def test_answer_that_is_no_http_is_invalid(
    transport: WireTransport, data: bytes
) -> None:
    """And names who gave it; the connection is closed."""
    with FaultServer([READ, data, STALL]) as server:
        with pytest.raises(InvalidResponse, match=server.url):
            exchange(transport, server.url, get(), 5)
        server.wait_for(lambda server: 0 in server.ended)


def test_answer_over_the_limit_is_refused() -> None:
    """By its length at once; nothing of it is kept."""
    transport = WireTransport(max_response=1_000)
    with FaultServer([READ, response("", length=1_001), STALL]) as server:
        with pytest.raises(InvalidResponse, match="max_response"):
            exchange(transport, server.url, get(), 5)
        server.wait_for(lambda server: 0 in server.ended)
    transport.close()


def test_large_answer_is_read_whole(transport: WireTransport) -> None:
    """In chunks and by length, on a new connection and on a used one."""
    body = bytes(range(256)) * 40_000
    script = [READ, response(""), READ, chunked(body, b"x")]
    script += [READ, head(headers={"Content-Length": str(len(body))}), body]
    with FaultServer(script) as server:
        exchange(transport, server.url, get(), 5)
        assert exchange(transport, server.url, get(), 20).body == body + b"x"
        assert exchange(transport, server.url, get(), 20).body == body
    assert server.connections == 1


# --- large requests


@pytest.mark.parametrize("warm", [False, True])
def test_large_request_is_sent_whole(transport: WireTransport, warm: bool) -> None:
    """A socket takes a part at a time."""
    with FaultServer() as server:
        if warm:
            exchange(transport, server.url, get(), 5)
        exchange(transport, server.url, put(BIG), 20)
        exchange(transport, server.url, get(), 5)
    assert BIG in [request.body for request in server.requests]
    assert server.connections == 1


@pytest.mark.parametrize("warm", [False, True])
def test_large_request_that_is_not_read_ends_in_time(
    transport: WireTransport, warm: bool
) -> None:
    """A part of it has left, so it counts as sent."""
    before: list[Any] = [READ, response("{}")] if warm else []
    hold = threading.Event()
    with FaultServer([*before, Until(hold)]) as server, Stopwatch() as watch:
        if warm:
            exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, put(BIG), 0.4)
    assert (error.sent, error.timed_out) == (True, True)
    assert watch.seconds < 0.4 + GRACE


@pytest.mark.parametrize("ending", [STALL, CLOSE])
def test_large_request_that_is_refused_early_gives_the_answer(
    transport: WireTransport, ending: Any
) -> None:
    """RFC 9112 section 9.3: it need not send the rest to be told 'no'."""
    hold = threading.Event()
    script = [response("{}", 413), Until(hold), ending]
    with FaultServer(script) as server, Stopwatch() as watch:
        answer = exchange(transport, server.url, put(BIG), 10)
        assert answer.status == 413
        hold.set()
        server.wait_for(lambda server: 0 in server.ended)
    assert watch.seconds < 5


@pytest.mark.parametrize("warm", [False, True])
def test_large_request_that_is_cut_off_may_have_been_received(
    transport: WireTransport, warm: bool
) -> None:
    """The member went away while it was sent."""
    before: list[Any] = [READ, response("{}")] if warm else []
    with FaultServer([*before, RECEIVE, RESET]) as server:
        if warm:
            exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, put(BIG), 10)
    assert (error.sent, error.timed_out) == (True, False)


@pytest.mark.parametrize("warm", [False, True])
def test_interrupt_closes_the_connection(
    transport: WireTransport, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    """Ctrl-C may come anywhere; what is half read is not used again."""

    def interrupt(reader: Reader, data: bytes) -> bool:
        raise KeyboardInterrupt

    with FaultServer() as server:
        if warm:
            exchange(transport, server.url, get(), 5)
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "feed", interrupt)
            with pytest.raises(KeyboardInterrupt):
                exchange(transport, server.url, get(), 5)
        server.wait_for(lambda server: 0 in server.ended)
        exchange(transport, server.url, get(), 5)
    assert server.connections == 2


# --- start, wait, give up


def test_begin_does_not_wait_for_the_answer(transport: WireTransport) -> None:
    """The request goes out at once; waiting is a matter of its own."""
    go = threading.Event()
    with FaultServer([READ, Until(go), file_answer()]) as server:
        begun = transport.begin(server.url, get(), 5)
        server.wait_for(lambda server: server.requests)
        assert not begun.wait(0.01)
        assert begun.sent
        go.set()
        assert begun.wait(5)
        assert begun.wait(0)
        assert begun.result() is begun.result()


def test_give_up_closes_the_connection(transport: WireTransport) -> None:
    """Its answer, if there is one, is nobody's."""
    with FaultServer([READ, STALL], WORKING) as server:
        begun = transport.begin(server.url, put(), 5)
        server.wait_for(lambda server: server.requests)
        begun.give_up()
        server.wait_for(lambda server: 0 in server.ended)
        error = failure(begun.result)
        assert (error.sent, error.timed_out) == (True, False)
        exchange(transport, server.url, get(), 5)
    assert server.connections == 2


def test_give_up_after_the_end_changes_nothing(transport: WireTransport) -> None:
    """An answer that came is kept, and so is the connection."""
    with FaultServer() as server:
        begun = transport.begin(server.url, get(), 5)
        begun.result()
        begun.give_up()
        assert begun.result().status == 200
        exchange(transport, server.url, get(), 5)
    assert server.connections == 1


def test_begin_ends_by_its_deadline(transport: WireTransport) -> None:
    """Whoever waits longer is told in time."""
    with FaultServer([READ, STALL]) as server, Stopwatch() as watch:
        begun = transport.begin(server.url, get(), 0.2)
        assert begun.wait(10)
        assert failure(begun.result).timed_out
    assert 0.2 <= watch.seconds < 0.2 + GRACE


@pytest.fixture(params=["wire", "requests"])
def either(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Give each kind of transport."""
    transport: Transport = WireTransport()
    if request.param == "requests":
        transport = OnSession()
    yield transport
    transport.close()


def test_begin_of_a_slow_answer_gives_the_exchange(transport: WireTransport) -> None:
    """Whoever asked can go on waiting, or ask another one as well."""
    hold = threading.Event()
    script = [READ, response("{}"), READ, Until(hold), response("1")]
    with FaultServer(script) as server:
        exchange(transport, server.url, get(), 5)
        with Stopwatch() as watch:
            begun = transport.begin(server.url, get(), 5)
        assert watch.seconds < GRACE
        assert begun.sent
        hold.set()
        assert wait_any([begun], 5) is begun
        assert begun.result().body == b"1"
    assert server.connections == 1


def test_begin_without_time_fails(transport: WireTransport) -> None:
    """Begin does not wait, so there is no answer yet; what it says of it is true."""
    with FaultServer([STALL]) as server:
        begun = transport.begin(server.url, put(), 0)
        error = failure(begun.result)
    assert (error.sent, error.timed_out) == (begun.sent, True)


def test_wait_any_gives_the_first_that_ends(either: Transport) -> None:
    """One thread waits for two members."""
    hold = threading.Event()
    slow = [READ, Until(hold), file_answer("slow")]
    with FaultServer(slow) as first, FaultServer() as second:
        exchanges = [
            either.begin(first.url, get(), 5),
            either.begin(second.url, get(), 5),
        ]
        assert wait_any(exchanges, 5) is exchanges[1]
        assert exchanges[1].result().status == 200
        assert wait_any(exchanges[:1], 0.01) is None
        hold.set()
        assert wait_any(exchanges[:1], 5) is exchanges[0]
        assert b"slow" in exchanges[0].result().body


def test_wait_any_tells_of_failures(either: Transport) -> None:
    """An end is an end, refused or overdue."""
    with FaultServer([READ, STALL]) as server, refusing() as refused:
        slow, gone = (
            either.begin(server.url, get(), 0.3),
            either.begin(refused, get(), 5),
        )
        assert wait_any([slow, gone], 5) is gone
        assert not failure(gone.result).sent
        assert wait_any([slow], 5) is slow
        error = failure(slow.result)
        assert (error.sent, error.timed_out) == (True, True)


def test_wait_any_of_both_kinds_at_once(transport: WireTransport) -> None:
    """What is waited for is a socket, whoever works behind it."""
    stock = OnSession()
    with FaultServer([READ, STALL]) as first, FaultServer() as second:
        exchanges = [
            transport.begin(first.url, get(), 5),
            stock.begin(second.url, get(), 5),
        ]
        assert wait_any(exchanges, 5) is exchanges[1]
        exchanges[0].give_up()
    stock.close()


def test_give_up_of_a_thread_is_told(either: Transport) -> None:
    """Nobody waits any more, whoever still works."""
    hold = threading.Event()
    with FaultServer([READ, Until(hold), file_answer()]) as server:
        begun = either.begin(server.url, get(), 5)
        server.wait_for(lambda server: server.requests)
        begun.give_up()
        assert failure(begun.result).sent
        assert begun.wait(0)
        hold.set()


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusting(certificate: Path) -> Iterator[WireTransport]:
    """Give a transport that knows the certificate."""
    transport = WireTransport(verify=str(certificate))
    yield transport
    transport.close()


def test_tls_exchanges_share_one_connection_and_one_context(
    trusting: WireTransport, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address in the certificate is enough; the CAs are read once."""
    made: list[object] = []
    make = wire_module.make_context

    def counting(*arguments: Any) -> ssl.SSLContext:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(wire_module, "make_context", counting)
    close = [READ, response("{}", headers={"Connection": "close"})]
    with FaultServer(close, WORKING, certificate=certificate) as server:
        for _ in range(4):
            exchange(trusting, server.url, get(), 5)
            trusting.begin(server.url, get(), 5).result()
    assert (server.connections, len(made)) == (2, 1)


@pytest.mark.parametrize("kind", ["unknown CA", "another name"])
def test_tls_certificate_that_is_not_trusted_is_refused(
    trusting: WireTransport, transport: WireTransport, tmp_path: Path, kind: str
) -> None:
    """By default, and for good; nothing was sent."""
    named = kind == "another name"
    shown = make_certificate(tmp_path, "etcd.example" if named else "127.0.0.1")
    ours = WireTransport(verify=str(shown)) if named else transport
    with FaultServer(certificate=shown) as server:
        error = failure(exchange, ours, server.url, put(), 5)
    ours.close()
    assert (error.sent, error.lasting) == (False, True)
    assert "certificate" in str(error)
    assert server.requests == []


def test_tls_without_verification_trusts_anyone(certificate: Path) -> None:
    """If that is what was asked for."""
    transport = WireTransport(verify=False)
    with FaultServer(certificate=certificate) as server:
        assert exchange(transport, server.url, get(), 5).status == 200
        transport.close()


@pytest.mark.parametrize("settings", [{"verify": "/none"}, {"cert": "/none"}])
def test_tls_with_a_file_that_is_missing_fails_for_good(
    certificate: Path, settings: dict[str, str]
) -> None:
    """And says which setting it was."""
    transport = WireTransport(**settings)  # type: ignore[arg-type]
    with FaultServer(certificate=certificate) as server:
        error = failure(exchange, transport, server.url, get(), 5)
        transport.close()
    assert (error.sent, error.lasting) == (False, True)
    assert "/none" in str(error)


@pytest.mark.parametrize("pair", [False, True])
def test_tls_with_a_client_certificate(certificate: Path, pair: bool) -> None:
    """The member asks for it, and gets it."""
    path = str(certificate)
    transport = WireTransport(verify=path, cert=(path, path) if pair else path)
    with FaultServer(certificate=certificate) as server:
        assert server._tls is not None
        server._tls.verify_mode = ssl.CERT_REQUIRED
        server._tls.load_verify_locations(certificate)
        assert exchange(transport, server.url, get(), 5).status == 200
        transport.close()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_tls_without_the_client_certificate_is_unsent_before_the_request(
    trusting: WireTransport, certificate: Path, version: str
) -> None:
    """With TLS 1.3 the refusal comes after the request, and who sent it is unknown."""
    with FaultServer(certificate=certificate) as server:
        assert server._tls is not None
        server._tls.verify_mode = ssl.CERT_REQUIRED
        server._tls.load_verify_locations(certificate)
        server._tls.maximum_version = ssl.TLSVersion[version]
        error = failure(exchange, trusting, server.url, put(), 5)
    assert error.sent is (version == "TLSv1_3")
    assert server.requests == []


def test_tls_with_a_directory_of_authorities(certificate: Path, tmp_path: Path) -> None:
    """OpenSSL finds them by the hash of their name."""
    digest = subprocess.run(
        ["openssl", "x509", "-subject_hash", "-noout", "-in", str(certificate)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (tmp_path / f"{digest}.0").write_bytes(certificate.read_bytes())
    transport = WireTransport(verify=str(tmp_path))
    with FaultServer(certificate=certificate) as server:
        assert exchange(transport, server.url, get(), 5).status == 200
        transport.close()


def test_tls_handshake_that_does_not_come_ends_at_the_connect_timeout() -> None:
    """A stopped member still takes connections; nothing was sent to it."""
    transport = WireTransport(connect_timeout=0.2, verify=False)
    with FaultServer([STALL]) as server, Stopwatch() as watch:
        endpoint = server.url.replace("http:", "https:")
        error = failure(exchange, transport, endpoint, put(), 10)
    transport.close()
    assert (error.sent, error.timed_out) == (False, True)
    assert 0.2 <= watch.seconds < 0.2 + GRACE


def test_tls_to_a_member_without_it_was_not_sent(transport: WireTransport) -> None:
    """Its plain words are no handshake."""
    with FaultServer([response("", 400)]) as server:
        endpoint = server.url.replace("http:", "https:")
        assert failure(exchange, transport, endpoint, put(), 5).sent is False


def test_tls_end_without_notice_is_no_end_of_a_body(
    trusting: WireTransport, certificate: Path
) -> None:
    """Anyone on the way could have cut it."""
    with FaultServer([READ, head(), b"{}", CLOSE], certificate=certificate) as server:
        error = failure(exchange, trusting, server.url, get(), 5)
    assert error.sent


def test_tls_large_both_ways(trusting: WireTransport, certificate: Path) -> None:
    """Records of TLS are read to the last, and a request is sent in parts."""
    body = bytes(range(256)) * 8_000
    script = [READ, response(""), READ, chunked(body), READ, response(body)]
    with FaultServer(script, certificate=certificate) as server:
        exchange(trusting, server.url, put(BIG), 20)
        assert exchange(trusting, server.url, get(), 20).body == body
        begun = trusting.begin(server.url, get(), 20)
        assert wait_any([begun], 20) is begun
        assert begun.result().body == body
    assert server.requests[0].body == BIG
    assert server.connections == 1


def test_tls_begin_of_a_slow_answer_gives_the_exchange(
    trusting: WireTransport, certificate: Path
) -> None:
    """The same as without TLS."""
    hold = threading.Event()
    script = [READ, response("{}"), READ, Until(hold), response("1")]
    with FaultServer(script, certificate=certificate) as server:
        exchange(trusting, server.url, get(), 5)
        begun = trusting.begin(server.url, get(), 5)
        hold.set()
        assert begun.result().body == b"1"
    assert server.connections == 1


@pytest.mark.parametrize("start", [b"", response("{}", length=9)])
def test_tls_exchange_that_gets_no_answer_ends_in_time(
    trusting: WireTransport, certificate: Path, start: bytes
) -> None:
    """The same as without TLS."""
    script = [READ, response("{}"), READ, start, STALL]
    with FaultServer(script, certificate=certificate) as server, Stopwatch() as watch:
        exchange(trusting, server.url, get(), 5)
        error = failure(exchange, trusting, server.url, get(), 0.3)
    assert (error.sent, error.timed_out) == (True, True)
    assert watch.seconds < 0.3 + GRACE


# --- which transport


def test_make_transport_takes_sockets_for_the_plain_case() -> None:
    """And requests' own path for a session of the caller's."""
    transport = make_transport(username="ann", password="x")
    assert isinstance(transport, WireTransport)
    transport.close()
    with requests.Session() as session:
        inner = getattr(make_transport(session=session), "inner", None)
        assert isinstance(inner, RequestsTransport)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_environment_does_not_matter(
    transport: WireTransport, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Requests to etcd do not end up at a proxy by accident."""
    with refusing() as nowhere, FaultServer() as server:
        monkeypatch.setenv(name, nowhere)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none")
        assert exchange(transport, server.url, get(), 5).status == 200

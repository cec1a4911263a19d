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

from etcdmap.errors import ExchangeFailed, InvalidResponse
from etcdmap.transport import (
    Exchange,
    Transport,
    WireTransport,
    wait_any,
)
from etcdmap.transport import tls as tls_module
from etcdmap.transport.http1 import Reader
from etcdmap.transport.pool import MAX_IDLE

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    RECEIVE,
    RESET,
    STALL,
    WORKING,
    FaultServer,
    Repeat,
    Script,
    Stopwatch,
    Until,
    chunked,
    file_answer,
    refusing,
    response,
)
from support.hangs import Waiter, hanging_names
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
        *("http://[::1:1",),
    ],
)
def test_exchange_with_what_is_no_endpoint_fails_for_good(
    transport: WireTransport, endpoint: str
) -> None:
    """A wrong URL does not become right by waiting."""
    error = failure(exchange, transport, endpoint, get(), 5)
    assert (error.sent, error.lasting) == (False, True)


# --- connections


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


def test_keep_only_closes_the_idle_connections_of_others(
    transport: WireTransport,
) -> None:
    """And a later exchange there just connects anew."""
    with FaultServer(WORKING) as kept, FaultServer(WORKING) as dropped:
        for server in (kept, dropped):
            exchange(transport, server.url, get(), 5)
        transport.keep_only([kept.url])
        dropped.wait_for(lambda server: server.ended == {0})
        for server in (kept, dropped):
            exchange(transport, server.url, get(), 5)
        assert (kept.connections, dropped.connections) == (1, 2)


def test_keep_only_lets_others_exchanges_end_and_keeps_nothing_of_them(
    transport: WireTransport,
) -> None:
    """Neither one on an old connection, nor one that has none yet."""
    with FaultServer(WORKING) as server, hanging_names() as names:
        exchange(transport, server.url, get(), 5)
        url = f"http://slow.test:{server.port}"
        under_way = [transport.begin(each, get(), 5) for each in (server.url, url)]
        names.wait_until_asked()
        transport.keep_only([])
        names.release.set()
        for each in under_way:
            assert each.result().status == 200
        server.wait_for(lambda server: server.ended == {0, 1})


def test_close_ends_exchanges_at_endpoints_that_are_not_kept(
    transport: WireTransport,
) -> None:
    """They would hold up a thread until their deadline."""
    with FaultServer([READ, STALL]) as server:
        begun = transport.begin(server.url, get(), 60)
        waiter = Waiter(begun.result)
        waiter.wait_until_it_waits()
        transport.keep_only([])
        assert waiter.seconds_after(transport.close) < 5
        assert isinstance(waiter.outcome(), ExchangeFailed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_leaves_the_parents_connection_alone(transport: WireTransport) -> None:
    """The child has one of its own; the parent's end stays the parent's."""
    go = threading.Event()
    first: list[Any] = [
        READ,
        file_answer("1"),
        READ,
        Until(go),
        file_answer("2"),
        STALL,
    ]
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


@pytest.mark.parametrize("start", [b"", response("{}", length=9)])
def test_exchange_on_a_used_connection_that_gets_no_answer_ends_in_time(
    transport: WireTransport, start: bytes
) -> None:
    """Wherever the member stops; the connection is closed."""
    script: Script = [READ, response("{}"), READ, start, STALL]
    with FaultServer(script) as server, Stopwatch() as watch:
        exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, get(), 0.2)
        server.wait_for(lambda server: 0 in server.ended)
    assert (error.sent, error.timed_out) == (True, True)
    assert 0.2 <= watch.seconds < 0.2 + GRACE


def test_answer_over_the_limit_is_refused() -> None:
    """By its length at once; nothing of it is kept."""
    transport = WireTransport(max_response=1_000)
    with FaultServer([READ, response("", length=1_001), STALL]) as server:
        with pytest.raises(InvalidResponse, match="max_response"):
            exchange(transport, server.url, get(), 5)
        server.wait_for(lambda server: 0 in server.ended)
    transport.close()


# --- large requests


def test_large_request_is_sent_whole(transport: WireTransport) -> None:
    """A socket takes a part at a time, on a new connection and on a used one."""
    with FaultServer() as server:
        for _ in range(2):
            exchange(transport, server.url, put(BIG), 20)
        exchange(transport, server.url, get(), 5)
    assert [request.body for request in server.requests] == [BIG, BIG, b""]
    assert server.connections == 1


def test_large_request_that_is_not_read_ends_in_time(transport: WireTransport) -> None:
    """A part of it has left, so it counts as sent."""
    with (
        FaultServer([READ, response("{}"), Until(threading.Event())]) as server,
        Stopwatch() as watch,
    ):
        exchange(transport, server.url, get(), 5)
        error = failure(exchange, transport, server.url, put(BIG), 0.3)
    assert (error.sent, error.timed_out) == (True, True)
    assert watch.seconds < 0.3 + GRACE


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


def test_large_request_that_is_cut_off_may_have_been_received(
    transport: WireTransport,
) -> None:
    """The member went away while it was sent, on a connection that was in use."""
    with FaultServer([READ, response("{}"), RECEIVE, RESET]) as server:
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
    script: Script = [READ, response("{}"), READ, Until(hold), response("1")]
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
    slow: Script = [READ, Until(hold), file_answer("slow")]
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
        exchanges: list[Exchange] = [
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
    make = tls_module.make_context

    def counting(*arguments: Any) -> ssl.SSLContext:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(tls_module, "make_context", counting)
    close: Script = [READ, response("{}", headers={"Connection": "close"})]
    with FaultServer(close, WORKING, certificate=certificate) as server:
        for _ in range(4):
            exchange(trusting, server.url, get(), 5)
            trusting.begin(server.url, get(), 5).result()
    assert (server.connections, len(made)) == (2, 1)


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


def test_tls_large_both_ways(trusting: WireTransport, certificate: Path) -> None:
    """Records of TLS are read to the last, and a request is sent in parts."""
    body = bytes(range(256)) * 8_000
    script: Script = [READ, response(""), READ, chunked(body), READ, response(body)]
    with FaultServer(script, certificate=certificate) as server:
        exchange(trusting, server.url, put(BIG), 20)
        assert exchange(trusting, server.url, get(), 20).body == body
        begun = trusting.begin(server.url, get(), 20)
        assert wait_any([begun], 20) is begun
        assert begun.result().body == body
    assert server.requests[0].body == BIG
    assert server.connections == 1


def test_tls_exchange_that_gets_no_answer_ends_in_time(
    trusting: WireTransport, certificate: Path
) -> None:
    """The same as without TLS."""
    script: Script = [READ, response("{}"), READ, response("{}", length=9), STALL]
    with FaultServer(script, certificate=certificate) as server, Stopwatch() as watch:
        exchange(trusting, server.url, get(), 5)
        error = failure(exchange, trusting, server.url, get(), 0.3)
    assert (error.sent, error.timed_out) == (True, True)
    assert watch.seconds < 0.3 + GRACE


# --- which transport

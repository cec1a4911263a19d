"""Exchanges that are ended from another thread, wherever they wait."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from etcdmap.errors import ClientClosed, ExchangeFailed
from etcdmap.transport import (
    Answer,
    Exchange,
    Identity,
    Transport,
    WireTransport,
    wait_any,
)
from etcdmap.transport import sockets as sockets_module
from etcdmap.v2 import OPENING

from support.certificates import make_certificate
from support.fault_server import (
    READ,
    RESET,
    STALL,
    FaultServer,
    Repeat,
    Reply,
    Script,
    Stopwatch,
    Until,
    file_answer,
    head,
    response,
)
from support.hangs import Waiter, hanging_names, join, swallowing
from support.requests import Request
from support.sessions import OnSession

#: How late who waits may be woken.
GRACE = 0.2
BIG = b"value=" + b"x" * 8_000_000  # more than the buffers of two sockets


def get(target: str = "/v2/keys/k") -> Request[Answer]:
    """Make a read."""
    return Request("GET", target, lambda answer: answer)


def put(body: bytes = b"value=v") -> Request[Answer]:
    """Make a write."""
    return Request("PUT", "/v2/keys/k", lambda answer: answer, body)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@dataclass
class Case:
    """An exchange that hangs.

    Attributes:
        transport: on which it was begun.
        exchange: hangs.
        sent: whether its request may have been received.
        check: checks at the end what the server got.
    """

    transport: Transport
    exchange: Exchange
    sent: bool
    check: Callable[[], None] = lambda: None


#: Where an exchange can hang: kind of the transport, and the stage.
STAGES = [
    *("wire-name", "wire-connect", "wire-handshake", "wire-look", "wire-look-tls"),
    *("wire-sending", "wire-sending-tls", "wire-answer", "wire-answer-tls"),
    *("wire-body", "wire-warm", "wire-warm-tls", "wire-long"),
    *("threads-name", "threads-connect", "threads-look", "threads-sending"),
    *("threads-answer", "threads-answer-tls"),
]


@contextlib.contextmanager
def hanging(stage: str, certificate: Path) -> Iterator[Case]:
    """Give an exchange that hangs at a stage."""
    kind, _, rest = stage.partition("-")
    where, _, tls = rest.partition("-")
    with contextlib.ExitStack() as stack:
        stack.callback(join, "etcdmap-exchange")
        settings: Any = {"verify": str(certificate), "connect_timeout": 10}
        transport: Transport
        if kind == "wire":
            transport = WireTransport(opening=OPENING, **settings)
        else:
            transport = OnSession(**settings)
        stack.callback(transport.close)
        threads = kind == "threads"
        if where == "name":
            names = stack.enter_context(hanging_names())
            exchange = transport.begin("http://member.test:1", put(), 20)
            names.wait_until_asked()
            # From outside a thread does not show how far it has come.
            yield Case(transport, exchange, sent=threads)
            return
        if where == "connect":
            endpoint = stack.enter_context(swallowing())
            yield Case(transport, transport.begin(endpoint, put(), 2), sent=threads)
            return
        yield _at_server(stack, where, transport, certificate if tls else None)


#: What a server does, where it is not to read one request.
SCRIPTS: dict[str, list[Any]] = {
    "handshake": [Until(threading.Event())],
    "sending": [Until(threading.Event())],
    "body": [READ, response("{}", length=9), STALL],
    "warm": [READ, file_answer(), READ, STALL],
}


def _is_there(where: str, server: FaultServer, exchange: Exchange) -> bool:
    """Tell whether an exchange hangs where it is to hang."""
    if where == "handshake":
        return server.connections > 0
    if where == "sending":
        return exchange.sent
    return len(server.requests) == SCRIPTS.get(where, [READ]).count(READ)


def _at_server(
    stack: contextlib.ExitStack,
    where: str,
    transport: Transport,
    certificate: Path | None,
) -> Case:
    script = SCRIPTS.get(where, [READ, STALL])
    server = FaultServer(script, certificate=certificate, answers_looks=False)
    stack.enter_context(server)
    url = server.url
    request = put(BIG) if where == "sending" else put()
    first: Identity | None = None
    if where == "warm":
        transport.begin(url, get(), 5).result()
    elif where == "handshake":
        url = url.replace("http:", "https:")
    elif where == "look":
        first = get("/look")
    elif where == "long":
        request = Request("PUT", "/v2/keys/" + "x" * 5000, lambda a: a, b"value=v")
    exchange = transport.begin(url, request, 20, first)
    sent = where not in ("look", "handshake", "long")
    # `begin` does no handshake: somebody has to go on with it.
    while not _is_there(where, server, exchange):
        assert not exchange.wait(0.01)

    def check() -> None:
        assert [r.line[:3] for r in server.requests if r.line[:3] == "PUT"] == (
            ["PUT"] if sent and where != "sending" else []
        )

    return Case(transport, exchange, sent, check)


def wait_beside(exchange: Exchange) -> object:
    """Wait for it beside another one that hangs."""
    with hanging_beside() as other:
        assert wait_any([other, exchange], 15) is exchange
        other.give_up()
    return exchange.result()


@contextlib.contextmanager
def hanging_beside() -> Iterator[Exchange]:
    """Give another exchange that hangs."""
    transport = WireTransport(opening=OPENING)
    with FaultServer([STALL]) as server:
        yield transport.begin(server.url, get(), 20)
        transport.close()


WAYS: list[Any] = [
    pytest.param(lambda exchange: exchange.result(), id="result"),
    pytest.param(lambda exchange: exchange.wait(15) and exchange.result(), id="wait"),
    pytest.param(wait_beside, id="wait_any"),
]


def check_given_up(case: Case, error: object) -> None:
    """Check the end of an exchange that was ended from outside."""
    assert isinstance(error, ExchangeFailed), error
    assert not error.timed_out
    assert "given up" in str(error)
    assert case.exchange.ended
    assert (case.exchange.sent, error.sent) == (case.sent, case.sent)
    case.check()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
def test_cancel_wakes_who_waits(
    certificate: Path, stage: str, way: Callable[[Exchange], object]
) -> None:
    """At once, wherever it hangs, and it is told whether the request had left."""
    with hanging(stage, certificate) as case:
        waiter = Waiter(lambda: way(case.exchange))
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(case.exchange.cancel) < GRACE
        check_given_up(case, waiter.outcome())


@pytest.mark.parametrize("stage", STAGES)
def test_close_wakes_who_waits(certificate: Path, stage: str) -> None:
    """Closing the transport ends all exchanges; another one is an error."""
    with hanging(stage, certificate) as case:
        waiter = Waiter(case.exchange.result)
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(case.transport.close) < GRACE
        check_given_up(case, waiter.outcome())
        with pytest.raises(ClientClosed):
            case.transport.begin("http://127.0.0.1:1", get(), 5).result()


@pytest.mark.parametrize("stage", STAGES)
def test_give_up_ends_at_once(certificate: Path, stage: str) -> None:
    """Who waits no more is told the same; the connection, if any, is ended."""
    with hanging(stage, certificate) as case:
        with Stopwatch() as watch:
            case.exchange.give_up()
            with pytest.raises(ExchangeFailed) as caught:
                case.exchange.result()
        assert watch.seconds < GRACE
        check_given_up(case, caught.value)


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_before_anybody_waits_counts(certificate: Path, stage: str) -> None:
    """Whoever comes later finds it ended."""
    with hanging(stage, certificate) as case:
        case.exchange.cancel()
        case.exchange.cancel()
        with Stopwatch() as watch, pytest.raises(ExchangeFailed) as caught:
            case.exchange.result()
        assert watch.seconds < GRACE
        check_given_up(case, caught.value)


def test_cancel_of_one_of_several_leaves_the_others(certificate: Path) -> None:
    """Each has a connection of its own."""
    go = threading.Event()
    transport = WireTransport(opening=OPENING)
    with FaultServer([READ, Until(go), file_answer()]) as server:
        exchanges = [transport.begin(server.url, put(), 20) for _ in range(3)]
        server.wait_for(lambda s: len(s.requests) == 3)
        waiter = Waiter(lambda: wait_any(exchanges, 15))
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(exchanges[1].cancel) < GRACE
        assert waiter.outcome() is exchanges[1]
        go.set()
        assert exchanges[0].result().status == 200
        assert exchanges[2].result().status == 200
    transport.close()


def test_close_ends_all_that_wait(certificate: Path) -> None:
    """In whichever thread, plain, in TLS, in a look-up, on a session."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultServer([READ, STALL]))
        secure = stack.enter_context(
            FaultServer([READ, STALL], certificate=certificate)
        )
        names = stack.enter_context(hanging_names())
        transport = WireTransport(opening=OPENING, verify=str(certificate))
        urls = [server.url, secure.url, "http://member.test:1"]
        waiters = [
            Waiter(lambda url=url: transport.begin(url, put(), 20).result())  # type: ignore[misc]
            for url in urls * 3
        ]
        server.wait_for(lambda s: len(s.requests) == 3)
        secure.wait_for(lambda s: len(s.requests) == 3)
        names.wait_until_asked()
        with Stopwatch() as watch:
            transport.close()
            outcomes = [waiter.outcome() for waiter in waiters]
        assert watch.seconds < GRACE
        assert [outcome.sent for outcome in outcomes] == [True, True, False] * 3


# --- after the end --------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("what", ["cancel", "give_up"])
def test_cancel_after_the_end_harms_nobody(
    certificate: Path, tls: bool, what: str
) -> None:
    """The connection was given back, and carries somebody else's exchange by now."""
    go = threading.Event()
    script: Script = [READ, file_answer("1"), READ, Until(go), file_answer("2")]
    transport = WireTransport(verify=str(certificate))
    with FaultServer(script, certificate=certificate if tls else None) as server:
        first = transport.begin(server.url, get(), 5)
        assert b'"1"' in first.result().body
        second = transport.begin(server.url, get(), 10)
        server.wait_for(lambda s: len(s.requests) == 2)
        getattr(first, what)()
        go.set()
        assert b'"2"' in second.result().body
        assert b'"1"' in first.result().body
        assert server.connections == 1
    transport.close()


@pytest.mark.parametrize("kind", ["wire", "threads"])
def test_cancel_at_any_moment_harms_no_other_exchange(kind: str) -> None:
    """While answers come and connections change hands, each gets its own answer."""
    transport: Transport = WireTransport(opening=OPENING)
    if kind == "threads":
        transport = OnSession()
    echo = Reply(lambda request: response(request.line))
    victims: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
    with FaultServer([Repeat(echo)]) as server:

        def cancel_all() -> None:
            for each in iter(victims.get, None):
                each.cancel()

        canceller = Waiter(cancel_all)
        askers = [
            Waiter(partial(ask_often, transport, server.url, number, victims.put))
            for number in range(4)
        ]
        assert [asker.outcome() for asker in askers] == [None] * 4
        victims.put(None)
        canceller.outcome()
        transport.close()
        join("etcdmap-exchange")


def ask_often(
    transport: Transport, url: str, number: int, show: Callable[[Exchange], object]
) -> None:
    """Ask a server that says what it was asked, and check it; show every other one."""
    for turn in range(100):
        target = f"/v2/keys/{number}-{turn}"
        exchange = transport.begin(url, get(target), 10)
        if turn % 2:
            show(exchange)
        try:
            body = exchange.result().body.decode()
        except ExchangeFailed as error:
            assert turn % 2, error  # noqa: PT017
            assert "given up" in str(error)  # noqa: PT017
        else:
            assert body == f"GET {target}"


# --- an answer whose end is that of the connection --------------------------------


@pytest.mark.parametrize("end", ["cancel", "close"])
@pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_cancel_makes_no_answer_of_what_has_come(
    certificate: Path, end: str, warm: bool, tls: bool
) -> None:
    """Without a length the end of the connection ends it, but not an end of our own."""
    before: list[Any] = [READ, file_answer()] if warm else []
    told = threading.Event()

    class Told:
        def do(self, conversation: object) -> None:
            told.set()

    script: Any = [*before, READ, head() + b"half", Told(), STALL]
    transport = WireTransport(opening=OPENING, verify=str(certificate))
    with FaultServer(script, certificate=certificate if tls else None) as server:
        if warm:
            transport.begin(server.url, get(), 5).result()
        exchange = transport.begin(server.url, put(), 20)
        waiter = Waiter(exchange.result)
        assert told.wait(10)
        waiter.wait_until_it_waits()
        stop = transport.close if end == "close" else exchange.cancel
        assert waiter.seconds_after(stop) < GRACE
        error = waiter.outcome()
        assert isinstance(error, ExchangeFailed), error
        assert error.sent
        transport.close()


# --- sockets that nobody holds ----------------------------------------------------


@pytest.mark.parametrize("step", ["socket", "handshake"])
def test_cancel_while_a_socket_is_made_leaves_it_not_open(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, step: str
) -> None:
    """Between two waits there is nothing to wake, and still nothing is left open."""
    transport = WireTransport(opening=OPENING, verify=str(certificate))

    def closing(name: str) -> Callable[..., Any]:
        real = getattr(sockets_module, name)

        def close_and_go_on(*arguments: Any) -> Any:
            transport.close()
            return real(*arguments)

        return close_and_go_on

    name = "address_of" if step == "socket" else "_set_options"
    monkeypatch.setattr(sockets_module, name, closing(name))
    with FaultServer(certificate=certificate) as server:
        exchange = transport.begin(server.url, put(), 5)
        with pytest.raises(ExchangeFailed) as caught:
            exchange.result()
        assert not caught.value.sent
        assert "given up" in str(caught.value)
        assert server.requests == []


def test_reset_before_the_handshake_leaves_no_socket_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python's `wrap_socket` would leave it to the garbage collector."""
    go = threading.Event()
    numbers: list[int] = []
    real = sockets_module._set_options

    def set_options_and_wait(sock: socket.socket) -> None:
        real(sock)
        numbers.append(sock.fileno())
        go.set()
        server.wait_for(lambda server: 0 in server.ended)

    monkeypatch.setattr(sockets_module, "_set_options", set_options_and_wait)
    with FaultServer([Until(go), RESET]) as server:
        transport = WireTransport()
        exchange = transport.begin(server.url.replace("http:", "https:"), put(), 5)
        with pytest.raises(ExchangeFailed, match="connection was closed") as caught:
            exchange.result()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(*numbers)
    assert not caught.value.sent

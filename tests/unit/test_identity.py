"""What a connection must have shown before a request leaves on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from etcdmap.errors import ClientClosed, EtcdMapError, ExchangeFailed, InvalidResponse
from etcdmap.transport import Answer, Identity, Transport, WireTransport, wrapped
from etcdmap.transport import Request as HTTPRequest
from etcdmap.v2 import OPENING

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    RESET,
    STALL,
    FaultServer,
    Repeat,
    Script,
    Stopwatch,
    Until,
    file_answer,
    refusing,
    response,
)
from support.hangs import join
from support.requests import Request
from support.sessions import OnSession

#: How late an exchange may end.
GRACE = 0.2
LOOK, WRITE, READING = "GET /look", "PUT /v2/keys/k", "GET /v2/keys/k"


def get() -> Request[Answer]:
    """Make a read."""
    return Request("GET", "/v2/keys/k", lambda answer: answer)


def put(body: bytes = b"value=v") -> Request[Answer]:
    """Make a write."""
    return Request("PUT", "/v2/keys/k", lambda answer: answer, body)


def identity(read: Callable[[Answer], object] = bool) -> Identity:
    """Make something to be shown; each is another one."""

    def look(answer: Answer) -> Identity:
        read(answer)
        return made

    made: Identity = Request("GET", "/look", look)
    return made


def refuse(answer: Answer) -> NoReturn:
    """Find that an answer shows something else."""
    raise InvalidResponse("not this one", endpoint=answer.endpoint)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def wire(certificate: Path) -> Iterator[WireTransport]:
    """Give a transport of our own."""
    transport = WireTransport(opening=OPENING, verify=str(certificate))
    yield transport
    transport.close()


@pytest.fixture
def threaded() -> Iterator[Transport]:
    """Give a transport that blocks, in threads."""
    transport = OnSession()
    yield transport
    transport.close()
    join("etcdmap-exchange")


@pytest.fixture(params=["wire", "threaded"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Give a transport of each kind."""
    transport: Transport = request.getfixturevalue(request.param)
    return transport


def trace(server: FaultServer) -> list[tuple[int, str]]:
    """Tell what came on which connection."""
    return [(request.connection, request.line) for request in server.requests]


# --- once -------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_identity_is_asked_once_before_the_first_that_names_it(
    wire: WireTransport, certificate: Path, tls: bool
) -> None:
    """Not by a read, which names none; not again for the same one."""
    first = identity()
    with FaultServer(certificate=certificate if tls else None) as server:
        wire.begin(server.url, get(), 5).result()
        for _ in range(3):
            wire.begin(server.url, put(), 5, first).result()
        wire.begin(server.url, get(), 5).result()
        lines = [READING, LOOK, WRITE, WRITE, WRITE, READING]
        assert trace(server) == [(0, line) for line in lines]


def test_identity_is_asked_on_each_connection(wire: WireTransport) -> None:
    """What one connection has shown says nothing of another."""
    first = identity()
    go = threading.Event()
    held: list[Any] = [
        READ,
        file_answer(),
        READ,
        Until(go),
        Repeat(file_answer(), READ),
    ]
    with FaultServer(held) as server:
        begun = [wire.begin(server.url, put(), 5, first) for _ in range(3)]
        while len(server.requests) < 6:
            assert not any(each.wait(0.01) for each in begun)
        go.set()
        for each in begun:
            each.result()
        by_connection = sorted(trace(server), key=lambda pair: pair[0])
        assert by_connection == [
            (number, line) for number in range(3) for line in (LOOK, WRITE)
        ]
        for _ in range(3):
            wire.begin(server.url, put(), 5, first).result()
        assert len(server.requests) == 9


def test_identity_of_another_kind_is_asked_anew(transport: Transport) -> None:
    """What was shown before does not count for it, whichever was the last."""
    one, two = identity(), identity()
    with FaultServer() as server:
        for first in (one, one, two, two, one):
            transport.begin(server.url, put(), 5, first).result()
        lines = [LOOK, WRITE, WRITE, LOOK, WRITE, WRITE, LOOK, WRITE]
        assert server.lines == lines


def test_identity_that_was_shown_on_the_way_is_not_asked(transport: Transport) -> None:
    """A read whose answer was understood is proof enough, and of that one only."""
    one, two = identity(), identity()
    with FaultServer() as server:
        begun = transport.begin(server.url, get(), 5)
        begun.result()
        begun.showed(one)
        transport.begin(server.url, put(), 5, one).result()
        transport.begin(server.url, put(), 5, two).result()
        assert server.lines == [READING, WRITE, LOOK, WRITE]


def test_identity_shown_by_a_connection_that_ended_does_not_count(
    wire: WireTransport,
) -> None:
    """Told late, of a connection that is gone: the next one has shown nothing."""
    first = identity()
    ending: Script = [READ, response("{}", headers={"Connection": "close"}), CLOSE]
    with FaultServer(ending, [Repeat(READ, file_answer())]) as server:
        begun = wire.begin(server.url, get(), 5)
        begun.result()
        begun.showed(first)
        wire.begin(server.url, put(), 5, first).result()
        assert trace(server) == [(0, READING), (1, LOOK), (1, WRITE)]


def test_identity_of_distrusted_connections_is_asked_again(
    transport: Transport,
) -> None:
    """Nonsense came: what it was before says nothing of what it is now."""
    first = identity()
    with FaultServer() as server:
        transport.begin(server.url, put(), 5, first).result()
        transport.distrust(server.url)
        transport.begin(server.url, put(), 5, first).result()
        assert server.lines == [LOOK, WRITE] * 2


def test_identity_comes_before_a_long_target(wire: WireTransport) -> None:
    """One request before is enough for both; the answer to it is small."""
    target = "/v2/keys/" + "x" * 5000
    request: Request[Answer] = Request("PUT", target, lambda answer: answer, b"value=v")
    with FaultServer() as server:
        wire.begin(server.url, request, 5, identity()).result()
        assert server.lines == [LOOK, f"PUT {target}"]


def test_long_target_in_threads_comes_after_a_short_one_each_time(
    threaded: Transport,
) -> None:
    """Which connection it takes, and whether that is new, is nobody's to know there."""
    target = "/v2/keys/" + "x" * 5000
    long: Request[Answer] = Request("GET", target, lambda answer: answer)
    with FaultServer() as server:
        for _ in range(2):
            threaded.begin(server.url, long, 5).result()
        methods = [line.partition(" ")[0] for line in server.lines]
    assert methods == ["HEAD", "GET"] * 2


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(response("{}", headers={"Connection": "close"}), id="close"),
        pytest.param(response("{}").replace(b"/1.1", b"/1.0"), id="HTTP/1.0"),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_identity_at_a_server_that_ends_each_connection(
    wire: WireTransport, certificate: Path, ending: bytes, tls: bool
) -> None:
    """It can't be shown on the same connection; the request still arrives, once."""
    first = identity()
    shown = certificate if tls else None
    with FaultServer([READ, ending, CLOSE], certificate=shown) as server:
        for _ in range(2):
            assert wire.begin(server.url, put(), 5, first).result().status == 200
        assert [line for _, line in trace(server)].count(WRITE) == 2
        assert len({number for number, _ in trace(server)}) == len(server.requests)


def test_identity_and_a_large_request(wire: WireTransport) -> None:
    """The body follows once it is clear who gets it."""
    big = b"value=" + b"x" * 8_000_000
    with FaultServer() as server:
        assert wire.begin(server.url, put(big), 20, identity()).result().status == 200
        assert [request.body for request in server.requests] == [b"", big]


# --- what is not shown ------------------------------------------------------------

LOOKS: list[Any] = [
    pytest.param(refuse, [READ, file_answer(), CLOSE], id="another"),
    pytest.param(bool, [READ, b"SSH-2.0-OpenSSH_9.6\r\n", STALL], id="no-http"),
    pytest.param(bool, [READ, response("{}", length=9), STALL], id="half"),
    pytest.param(bool, [READ, CLOSE], id="closed"),
    pytest.param(bool, [READ, RESET], id="reset"),
    pytest.param(bool, [READ, response("{}", length=9), CLOSE], id="cut-off"),
    pytest.param(bool, [READ, STALL], id="silence"),
]


@pytest.mark.parametrize(("read", "script"), LOOKS)
@pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
def test_identity_that_is_not_shown_sends_nothing_more(
    transport: Transport, read: Any, script: list[Any], warm: bool
) -> None:
    """Not a byte of the request leaves, and that is what is told."""
    before: list[Any] = [READ, file_answer()] if warm else []
    with FaultServer([*before, *script], [Repeat(READ, file_answer())]) as server:
        if warm:
            transport.begin(server.url, get(), 5).result()
        with Stopwatch() as watch:
            begun = transport.begin(server.url, put(), 0.4, identity(read))
            with pytest.raises((ExchangeFailed, InvalidResponse)):
                begun.result()
        assert watch.seconds < 0.4 + GRACE
        assert not begun.sent
        assert WRITE not in server.lines
        assert server.lines.count(LOOK) == 1
        if script[-1] is CLOSE:  # requests can't know of an end that is still to come
            server.wait_for(lambda server: 0 in server.ended)
        # Nor is what failed taken for shown, or its connection used again.
        assert transport.begin(server.url, put(), 5, identity()).result().status == 200
        assert server.lines[-2:] == [LOOK, WRITE]


def test_identity_that_raises_anything_is_told_as_it_is(transport: Transport) -> None:
    """Whoever reads the answer says what is wrong with it."""

    def read(answer: Answer) -> NoReturn:
        raise EtcdMapError("so it is")

    with FaultServer() as server:
        begun = transport.begin(server.url, put(), 5, identity(read))
        with pytest.raises(EtcdMapError, match="so it is"):
            begun.result()
        assert not begun.sent
        assert server.lines == [LOOK]


@pytest.mark.parametrize("end", ["give_up", "cancel"])
def test_identity_given_up_while_it_is_asked_sends_nothing_more(
    wire: WireTransport, end: str
) -> None:
    """Nobody waits any more, so nothing may be done in nobody's name."""
    go = threading.Event()
    with FaultServer([READ, Until(go), Repeat(file_answer(), READ)]) as server:
        begun = wire.begin(server.url, put(), 5, identity())
        while not server.requests:
            assert not begun.wait(0.01)
        getattr(begun, end)()
        go.set()
        with pytest.raises(ExchangeFailed) as caught:
            begun.result()
        assert (begun.sent, caught.value.sent) == (False, False)
        server.wait_for(lambda s: 0 in s.ended)
        assert server.lines == [LOOK]


# --- in threads: once an endpoint ---------------------------------------------------


def test_identity_in_threads_is_asked_once_an_endpoint(threaded: Transport) -> None:
    """Which connection a request takes there is nobody's to know."""
    first = identity()
    with FaultServer() as one, FaultServer() as two:
        for server in (one, two, one, two):
            threaded.begin(server.url, put(), 5, first).result()
        assert one.lines == [LOOK, WRITE, WRITE]
        assert two.lines == [LOOK, WRITE, WRITE]


@pytest.mark.parametrize("request_", [get(), put()], ids=["get", "put"])
def test_identity_in_threads_is_asked_again_after_a_failure(
    threaded: Transport, request_: Request[Answer]
) -> None:
    """Any exchange that fails may mean that somebody else is there now."""
    first = identity()
    ok: Script = [READ, file_answer()]
    with FaultServer([*ok, *ok, READ, RESET], [Repeat(*ok)]) as server:
        threaded.begin(server.url, put(), 5, first).result()
        with pytest.raises(ExchangeFailed):
            threaded.begin(server.url, request_, 5).result()
        threaded.begin(server.url, put(), 5, first).result()
        assert server.lines[:2] == [LOOK, WRITE]
        assert server.lines[3:] == [LOOK, WRITE]


def test_identity_in_threads_is_asked_again_of_what_was_not_kept(
    threaded: Transport,
) -> None:
    """Nothing is remembered of endpoints that a client dropped."""
    first = identity()
    with FaultServer() as kept, FaultServer() as dropped:
        for server in (kept, dropped):
            threaded.begin(server.url, put(), 5, first).result()
        threaded.keep_only([kept.url])
        for server in (kept, dropped):
            threaded.begin(server.url, put(), 5, first).result()
        assert kept.lines == [LOOK, WRITE, WRITE]
        assert dropped.lines == [LOOK, WRITE] * 2


def test_identity_in_threads_shown_before_a_failure_does_not_count_after_it(
    threaded: Transport,
) -> None:
    """One thread is slow to say what its answer showed; meanwhile another failed."""
    first = identity()
    with FaultServer([READ, file_answer(), READ, RESET], [STALL]) as server:
        slow = threaded.begin(server.url, get(), 5)
        slow.result()
        with pytest.raises(ExchangeFailed):
            threaded.begin(server.url, get(), 5).result()
        slow.showed(first)
        server.scripts = ([Repeat(READ, file_answer())],)
        threaded.begin(server.url, put(), 5, first).result()
        assert server.lines == [READING, READING, LOOK, WRITE]


def test_identity_in_threads_is_asked_again_after_nothing_listened(
    threaded: Transport,
) -> None:
    """Between two processes at the same address there may be a cluster's end."""
    first = identity()
    with FaultServer() as server, refusing() as refused:
        threaded.begin(server.url, put(), 5, first).result()
        with pytest.raises(ExchangeFailed):
            threaded.begin(refused, put(), 5, first).result()
        threaded.begin(server.url, put(), 5, first).result()
        assert server.lines == [LOOK, WRITE, WRITE]


class Held:
    """A transport that blocks until it is let go on.

    Attributes:
        seen: the targets asked for.
        there: one for each request that came.
        go: set it, and all are answered.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.there = threading.Semaphore(0)
        self.go = threading.Event()

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        """Wait, then answer."""
        self.seen.append(request.target)
        self.there.release()
        assert self.go.wait(20)
        return Answer(200, {}, b"{}", endpoint)

    def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("first", ["told", "answered"])
@pytest.mark.parametrize("end", ["give_up", "cancel", "close"])
def test_identity_in_threads_ended_while_it_is_asked_sends_nothing_more(
    end: str, first: str
) -> None:
    """The look can't be broken off there; what would follow it stays away.

    Whether who waits is told before the look is answered, or after it.
    """
    held = Held()
    transport = wrapped(held)
    begun = transport.begin("http://a:1", put(), 5, identity())
    assert held.there.acquire(timeout=10)
    (transport.close if end == "close" else getattr(begun, end))()
    if first == "answered":
        held.go.set()
        join("etcdmap-exchange")
    with Stopwatch() as watch, pytest.raises(ExchangeFailed) as caught:
        begun.result()
    assert watch.seconds < GRACE
    assert (begun.sent, caught.value.sent) == (False, False)
    held.go.set()
    join("etcdmap-exchange")
    assert held.seen == ["/look"]


def test_closed_transport_of_anyone_begins_nothing() -> None:
    """Also where what it wraps knows no end."""
    held = Held()
    held.go.set()
    transport = wrapped(held)
    transport.close()
    with pytest.raises(ClientClosed):
        transport.begin("http://a:1", put(), 5).result()
    assert held.seen == []


@pytest.mark.parametrize("broken", [KeyError, KeyboardInterrupt])
def test_identity_in_threads_is_asked_again_after_an_interruption(
    broken: type[BaseException],
) -> None:
    """What broke off an exchange may have been the end of who showed it."""
    asked: list[str] = []
    breaks = [broken()]

    class Inner:
        def exchange(
            self, endpoint: str, request: HTTPRequest, timeout: float
        ) -> Answer:
            asked.append(request.method)
            if request.method == "PUT" and breaks:
                raise breaks.pop()
            return Answer(200, {}, b"", endpoint)

        def close(self) -> None:
            pass

    transport = wrapped(Inner())
    put = Request("PUT", "/v2/keys/k", bool, b"value=1")
    shown = identity()
    with pytest.raises((ExchangeFailed, KeyboardInterrupt)):
        transport.begin("http://a:1", put, 5.0, shown).result()
    transport.begin("http://a:1", put, 5.0, shown).result()
    assert asked == ["GET", "PUT", "GET", "PUT"]

"""Exchanges begin without waiting, whatever hangs; names are looked up once."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from etcdmap.errors import ExchangeFailed
from etcdmap.transport import Answer, Identity, WireTransport, wait_any
from etcdmap.transport import names as names_module
from etcdmap.v2 import OPENING

from support.certificates import make_certificate
from support.fault_server import (
    READ,
    STALL,
    FaultServer,
    Stopwatch,
    Until,
    file_answer,
)
from support.hangs import HangingNames, Waiter, hanging_names, swallowing, threads
from support.requests import Request
from support.sessions import OnSession

#: Seconds that count as none on a machine that is busy.
AT_ONCE = 0.1
#: How late an exchange may end.
GRACE = 0.2
#: A target that needs another request first; see `etcdmap.transport.head`.
LONG = "/v2/keys/" + "x" * 5000

KINDS = ["wire", "threads"]


def make(kind: str, **settings: Any) -> Any:
    """Make a transport of a kind."""
    if kind == "wire":
        return WireTransport(opening=OPENING, **settings)
    return OnSession(**settings)


def get(target: str = "/v2/keys/k") -> Request[Answer]:
    """Make a read."""
    return Request("GET", target, lambda answer: answer)


def identity() -> Identity:
    """Make what a connection has to show; whatever it answers will do."""
    return get("/v2/keys/?wait=maybe")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=KINDS)
def transport(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Any]:
    """Give a transport of each kind, which trusts the certificate."""
    transport = make(request.param, verify=str(certificate), connect_timeout=0.4)
    yield transport
    transport.close()


@pytest.fixture
def wire() -> Iterator[WireTransport]:
    """Give a transport of our own."""
    transport = WireTransport(opening=OPENING, connect_timeout=5)
    yield transport
    transport.close()


def failure(exchange: Any) -> ExchangeFailed:
    """Give the failure that an exchange ends in."""
    with pytest.raises(ExchangeFailed) as caught:
        exchange.result()
    return caught.value


# --- begin never waits ---------------------------------------------------------

Hang = AbstractContextManager[tuple[str, Request[Answer], Identity | None]]


@contextlib.contextmanager
def hang_in(stage: str, certificate: Path) -> Iterator[Any]:
    """Give endpoint, request and identity of an exchange that hangs somewhere."""
    tls = certificate if stage.endswith("-tls") else None
    with contextlib.ExitStack() as stack:
        if stage == "name":
            stack.enter_context(hanging_names())
            yield "http://member.test:1", get(), None
        elif stage == "connect":
            yield stack.enter_context(swallowing()), get(), None
        elif stage == "handshake":
            server = stack.enter_context(FaultServer([STALL]))
            yield server.url.replace("http:", "https:"), get(), None
        else:
            server = stack.enter_context(FaultServer([STALL], certificate=tls))
            long = stage.startswith("long")
            first = identity() if stage.startswith("look") else None
            yield server.url, get(LONG) if long else get(), first


STAGES = [
    *("name", "connect", "handshake", "long", "long-tls", "look", "look-tls"),
    *("answer", "answer-tls"),
]


@pytest.mark.parametrize("stage", STAGES)
def test_begin_never_waits(transport: Any, certificate: Path, stage: str) -> None:
    """Whatever hangs, it is waited for later, and until the deadline only."""
    with hang_in(stage, certificate) as (endpoint, request, first):
        with Stopwatch() as begin:
            exchange = transport.begin(endpoint, request, 0.5, first)
        assert begin.seconds < AT_ONCE
        assert not exchange.ended
        with Stopwatch() as rest:
            assert failure(exchange).timed_out
        assert rest.seconds < 0.5 + GRACE


@pytest.mark.parametrize("stage", STAGES)
def test_exchange_that_hangs_holds_up_no_other(
    transport: Any, certificate: Path, stage: str
) -> None:
    """Of two that are waited for together, the one that is answered ends at once."""
    with hang_in(stage, certificate) as hung, FaultServer() as good:
        endpoint, request, first = hung
        with Stopwatch() as watch:
            slow = transport.begin(endpoint, request, 5, first)
            quick = transport.begin(good.url, get(), 5)
            ended = wait_any([slow, quick], 5)
        assert ended is not None
        assert ended is quick
        assert watch.seconds < GRACE
        assert quick.result().status == 200
        slow.give_up()


def test_begin_with_a_warm_connection_and_a_long_target_asks_nothing_first(
    wire: WireTransport,
) -> None:
    """Only a new connection has to show that it takes more than a short target."""
    with FaultServer() as server:
        wire.begin(server.url, get(), 5).result()
        wire.begin(server.url, get(LONG), 5).result()
        assert server.lines == ["GET /v2/keys/k", f"GET {LONG}"]
        assert server.connections == 1


# --- one look-up of a name at a time ----------------------------------------------


@pytest.fixture
def names() -> Iterator[HangingNames]:
    """Give a name server that hangs."""
    with hanging_names() as names:
        yield names


def test_look_up_that_hangs_takes_one_thread(
    wire: WireTransport, names: HangingNames
) -> None:
    """Twenty calls, one after the other, wait for the same look-up."""
    for _ in range(20):
        error = failure(wire.begin("http://slow.test:1", get(), 0.1))
        assert (error.sent, error.timed_out) == (False, True)
        assert len(threads("etcdmap-resolve")) == 1
    assert names.asked == ["slow.test"]


def test_look_up_of_one_name_waits_for_no_other(
    wire: WireTransport, names: HangingNames
) -> None:
    """Each name has a thread of its own."""
    with FaultServer() as server:
        slow = wire.begin("http://slow.test:1", get(), 5)
        names.wait_until_asked()
        other = wire.begin("http://other.test:1", get(), 5)
        names.wait_until_asked()
        known = wire.begin(f"http://localhost:{server.port}", get(), 5)
        assert wait_any([slow, other, known], 5) is known
        assert names.asked == ["slow.test", "other.test"]
        slow.give_up()
        other.give_up()


def test_look_up_that_ends_is_there_for_all_who_wait(
    wire: WireTransport, names: HangingNames
) -> None:
    """In one thread or in many, each with its own port; who gave up is not missed."""
    with FaultServer() as one, FaultServer() as two:
        endpoints = [f"http://slow.test:{server.port}" for server in (one, two)]
        mine = [wire.begin(endpoint, get(), 10) for endpoint in endpoints * 3]
        theirs = [
            Waiter(lambda url=url: wire.begin(url, get(), 10).result())  # type: ignore[misc]
            for url in endpoints * 3
        ]
        for waiter in theirs:
            waiter.wait_until_it_waits()
        mine.pop().give_up()
        names.release.set()
        assert [exchange.result().status for exchange in mine] == [200] * 5
        assert [waiter.outcome().status for waiter in theirs] == [200] * 6
        assert names.asked == ["slow.test"]
        assert len(one.requests) == 6
        assert len(two.requests) == 5


def test_look_up_that_fails_is_told_to_all_who_wait(
    wire: WireTransport, names: HangingNames
) -> None:
    """And the next call asks anew: a name may be known a moment later."""
    names.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    exchanges = [wire.begin("http://slow.test:1", get(), 5) for _ in range(3)]
    names.release.set()
    for exchange in exchanges:
        error = failure(exchange)
        assert not error.sent
        assert "no such host found: Name or service not known" in str(error)
    names.error = None
    with FaultServer() as server:
        url = f"http://slow.test:{server.port}"
        assert wire.begin(url, get(), 5).result().status == 200
    assert names.asked == ["slow.test"] * 2


def test_look_up_that_raises_anything_is_a_failure_of_the_exchange(
    wire: WireTransport, names: HangingNames
) -> None:
    """Nobody waits for ever because a resolver broke."""
    names.error = OSError("the resolver broke")
    exchange = wire.begin("http://slow.test:1", get(), 5)
    names.release.set()
    with Stopwatch() as watch:
        assert "the resolver broke" in str(failure(exchange))
    assert watch.seconds < GRACE


_start = threading.Thread.start


def start_none_to_look_up(thread: threading.Thread) -> None:
    """Start a thread, but for one that would look up a name: there is none left."""
    if thread.name == "etcdmap-resolve":
        raise RuntimeError("can't start new thread")
    _start(thread)


def test_look_up_without_a_thread_is_done_by_the_caller(
    wire: WireTransport, names: HangingNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of the system, to wait is better than to fail."""

    names.release.set()
    with FaultServer() as server, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_none_to_look_up)
        exchange = wire.begin(f"http://slow.test:{server.port}", get(), 5)
        patch.undo()
        assert exchange.result().status == 200
    assert names.asked == ["slow.test"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_look_up_in_a_forked_child_starts_anew(
    wire: WireTransport, names: HangingNames
) -> None:
    """The thread that looks up is the parent's; the child would wait for nobody."""
    exchange = wire.begin("http://slow.test:1", get(), 5)
    names.wait_until_asked()
    with FaultServer() as server:
        child = os.fork()
        if not child:
            code = 1
            try:
                names.release.set()
                url = f"http://slow.test:{server.port}"
                code = 0 if wire.begin(url, get(), 5).result().status == 200 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(server.requests) == 1
    exchange.give_up()


def test_look_up_keeps_no_file_of_who_gave_up(
    wire: WireTransport, names: HangingNames
) -> None:
    """A name server that hangs for an hour does not eat the process's files."""
    assert os.path.isdir("/proc/self/fd") or pytest.skip("no /proc")
    wire.begin("http://slow.test:1", get(), 0.01).wait(1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        wire.begin("http://slow.test:1", get(), 5).give_up()
    assert len(os.listdir("/proc/self/fd")) <= before
    [look_up] = names_module.resolver._under_way.values()
    assert not look_up.flags


def test_look_up_that_is_interrupted_does_not_spoil_the_name(
    wire: WireTransport, names: HangingNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the caller, where no thread could be had: the next call asks anew."""

    names.error = KeyboardInterrupt()
    names.release.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_none_to_look_up)
        with pytest.raises(KeyboardInterrupt):
            wire.begin("http://slow.test:1", get(), 5)
    names.error = None
    with FaultServer() as server:
        url = f"http://slow.test:{server.port}"
        assert wire.begin(url, get(), 5).result().status == 200


# --- a name with several addresses --------------------------------------------------


@contextlib.contextmanager
def addresses_of(host: str, *addresses: tuple[int, str]) -> Iterator[None]:
    """Have a name stand for some addresses, each with its family."""
    real = socket.getaddrinfo

    def look_up(name: str, port: Any, *args: Any, **settings: Any) -> Any:
        if name != host or settings.get("flags"):
            return real(name, port, *args, **settings)
        kind = socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(family, *kind, (address, 0)) for family, address in addresses]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


HERE = (socket.AF_INET, "127.0.0.1")
#: No such family is known to any system.
LACKING = (9999, "::1")


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is not there")
def test_addresses_are_tried_in_turn_when_the_first_hangs() -> None:
    """Each has its share of the time to connect, so that the last one has some left."""
    with (
        contextlib.closing(WireTransport(connect_timeout=0.6)) as wire,
        FaultServer() as server,
        swallowing("127.0.0.2", server.port),
        swallowing("127.0.0.3", server.port),
        addresses_of(
            "several.test",
            *((socket.AF_INET, f"127.0.0.{number}") for number in (2, 3, 1)),
        ),
    ):
        url = f"http://several.test:{server.port}"
        assert wire.begin(url, get(), 10).result().status == 200
        # And within what a call has, if that is less.
        wire.distrust(url)
        assert wire.begin(url, get(), 0.45).result().status == 200
        with (
            Stopwatch() as watch,
            addresses_of("several.test", *[(socket.AF_INET, "127.0.0.2")] * 3),
        ):
            wire.distrust(url)
            error = failure(wire.begin(url, get(), 10))
        assert (error.sent, error.timed_out) == (False, True)
        assert 0.5 <= watch.seconds < 5


def test_addresses_of_a_family_that_the_system_lacks_are_passed_over(
    wire: WireTransport,
) -> None:
    """For example IPv6, switched off, while names still have such addresses."""
    with FaultServer() as server, addresses_of("both.test", LACKING, HERE):
        url = f"http://both.test:{server.port}"
        assert wire.begin(url, get(), 5).result().status == 200


# --- what comes on an idle connection ----------------------------------------------


@pytest.mark.parametrize("unasked", [file_answer("evil"), b"\r\n", b"x"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_bytes_that_nobody_asked_for_end_the_connection(
    transport: Any, certificate: Path, unasked: bytes, tls: bool
) -> None:
    """What comes after an answer was read is for no request, and no later one."""
    go, sent = threading.Event(), threading.Event()

    class Told:
        def do(self, conversation: object) -> None:
            sent.set()

    first: Any = [READ, file_answer("1"), Until(go), unasked, Told(), STALL]
    shown = certificate if tls else None
    with FaultServer(first, [READ, file_answer("2")], certificate=shown) as server:
        assert b'"1"' in transport.begin(server.url, get(), 5).result().body
        go.set()
        assert sent.wait(10)
        server.wait_for(lambda s: s.connections == 1)
        assert b'"2"' in transport.begin(server.url, get(), 5).result().body
        assert server.connections == 2
        server.wait_for(lambda s: 0 in s.ended)

"""'Never sent' is said only where it is true: proxies, TLS, gateways."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from etcdmap import (
    ClusterUnavailable,
    EtcdMapError,
    EtcdMapping,
    OutcomeUnknown,
    PartialWrite,
)
from etcdmap.errors import ClientClosed, ExchangeFailed, RequestFailed
from etcdmap.transport import Answer, Transport, WireTransport, make_transport

from support.certificates import make_certificate
from support.fault_server import (
    CLOSE,
    READ,
    RESET,
    STALL,
    FaultServer,
    Received,
    Repeat,
    Reply,
    Script,
    refusing,
    response,
)
from support.hangs import Waiter, join
from support.requests import Request
from support.sessions import collect_what_urllib3_left

WAIT = threading.Event()
ACCEPT = b"HTTP/1.1 200 Connection established\r\n\r\n"


def put() -> Request[Answer]:
    """Make a write."""
    return Request("PUT", "/v2/keys/k", lambda answer: answer, b"value=v")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@dataclass(frozen=True)
class StartTls:
    """Speak TLS from here on."""

    certificate: Path

    def do(self, conversation: Any) -> None:
        """Do it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        # Under the name of the plain socket's number, so that the server ends it.
        sock = context.wrap_socket(conversation.socket, server_side=True)
        conversation.socket = sock
        conversation.server._sockets[conversation.number] = sock


@pytest.fixture(autouse=True)
def no_garbage() -> Iterator[None]:
    """Leave nothing of urllib3's to the next test."""
    yield
    collect_what_urllib3_left()


@contextlib.contextmanager
def through(proxy: str, certificate: Path | None = None) -> Iterator[Transport]:
    """Give a transport whose exchanges go through a proxy."""
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy, "https": proxy}
        if certificate is not None:
            session.verify = str(certificate)
        transport = make_transport(session=session)
        yield transport
        transport.close()


def failure(transport: Transport, url: str, timeout: float = 5) -> ExchangeFailed:
    """Give the failure of a write."""
    begun = transport.begin(url, put(), timeout)
    with pytest.raises(ExchangeFailed) as caught:
        begun.result()
    assert begun.sent is caught.value.sent
    return caught.value


# --- a plain proxy, which passes requests on --------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
@pytest.mark.parametrize("end", [CLOSE, RESET, STALL], ids=["close", "reset", "hang"])
def test_proxy_that_hangs_up_may_have_passed_it_on(end: Any) -> None:
    """It has read the request, and says no more."""
    with FaultServer([READ, end]) as proxy, through(proxy.url) as transport:
        assert failure(transport, "http://etcd.test:2379", timeout=0.5).sent
        assert len(proxy.requests) == 1


def test_proxy_that_refuses_connections_got_nothing() -> None:
    """No connection, no request: it may go elsewhere."""
    with refusing() as proxy, through(proxy) as transport:
        assert not failure(transport, "http://etcd.test:2379").sent


def test_proxy_with_an_unknown_name_got_nothing() -> None:
    """Nobody was reached."""
    with through("http://proxy.invalid:1") as transport:
        assert not failure(transport, "http://etcd.test:2379").sent


# --- a proxy that makes tunnels ---------------------------------------------------

TUNNELS = [
    pytest.param([READ, response("", 403)], id="refused"),
    pytest.param([READ, response("", 407), CLOSE], id="wants-a-password"),
    pytest.param([READ, CLOSE], id="hung-up"),
    pytest.param([READ, RESET], id="reset"),
    pytest.param([READ, b"nonsense\r\n\r\n", CLOSE], id="nonsense"),
    pytest.param([READ, ACCEPT, CLOSE], id="no-handshake"),
    pytest.param([READ, ACCEPT, RESET], id="handshake-reset"),
]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
@pytest.mark.parametrize("script", TUNNELS)
def test_tunnel_that_does_not_come_about_carried_nothing(script: Any) -> None:
    """The request would have followed; only CONNECT was sent."""
    with FaultServer(script) as proxy, through(proxy.url) as transport:
        assert not failure(transport, "https://etcd.test:2379").sent
        assert {line.partition(" ")[0] for line in proxy.lines} == {"CONNECT"}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close", "reset"])
def test_tunnel_that_breaks_after_the_request_may_have_carried_it(
    certificate: Path, end: Any
) -> None:
    """What went through it was not to be seen by the proxy, and has left."""
    script: list[Any] = [READ, ACCEPT, StartTls(certificate), READ, end]
    with FaultServer(script) as proxy, through(proxy.url, certificate) as transport:
        assert failure(transport, "https://127.0.0.1:2379").sent
        assert proxy.lines[1] == "PUT /v2/keys/k"


def test_tunnel_to_a_certificate_that_is_not_trusted_carried_nothing(
    certificate: Path,
) -> None:
    """The member on the other side was refused, before the request."""
    script: list[Any] = [READ, ACCEPT, StartTls(certificate), READ]
    with FaultServer(script) as proxy, through(proxy.url) as transport:
        error = failure(transport, "https://127.0.0.1:2379")
        assert (error.sent, error.lasting) == (False, True)
        assert len(proxy.requests) == 1


# --- TLS --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
@pytest.mark.parametrize("with_session", [False, True], ids=["wire", "session"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_alert_about_our_certificate_counts_by_its_moment(
    certificate: Path, with_session: bool, version: str
) -> None:
    """TLS 1.2 refuses it in the handshake; 1.3 when the request has left already."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultServer(certificate=certificate))
        assert server._tls is not None
        server._tls.verify_mode = ssl.CERT_REQUIRED
        server._tls.load_verify_locations(certificate)
        server._tls.maximum_version = ssl.TLSVersion[version]
        transport: Transport = WireTransport(verify=str(certificate))
        if with_session:
            session = stack.enter_context(requests.Session())
            session.trust_env = False
            session.verify = str(certificate)
            transport = make_transport(session=session)
        stack.callback(transport.close)
        error = failure(transport, server.url)
        assert error.sent is (version == "TLSv1_3")
        assert server.requests == []


# --- what the caller of a mapping is told ------------------------------------------


def posts(server: FaultServer) -> int:
    """Count the requests that make a node."""
    return sum(line.startswith("POST") for line in server.lines)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # urllib3's own
def test_append_through_a_proxy_that_hangs_up_is_sent_once() -> None:
    """It may stand in etcd, so it is not sent again, and not called unsent."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(FaultServer([READ, CLOSE]))
        session = stack.enter_context(requests.Session())
        session.trust_env = False
        session.proxies = {"http": proxy.url}
        mapping = EtcdMapping(
            ["http://a.test:1", "http://b.test:1"], "/app", session=session, timeout=1
        )
        stack.enter_context(mapping)
        with pytest.raises(OutcomeUnknown):
            mapping.append("once")
        assert posts(proxy) == 1


def test_append_through_a_proxy_that_is_not_there_was_not_sent() -> None:
    """Trying again is safe, and that is what is said."""
    with refusing() as proxy, requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy}
        endpoints = ["http://a.test:1", "http://b.test:1"]
        with (
            EtcdMapping(endpoints, "/app", session=session, timeout=0.3) as mapping,
            pytest.raises(ClusterUnavailable) as caught,
        ):
            mapping.append("once")
        assert not any(attempt.sent for attempt in caught.value.attempts)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_append_that_a_gateway_gave_up_on_is_sent_once(status: int) -> None:
    """Its upstream was too slow to answer, which it may do yet."""
    answer = response("upstream request timeout", status, index=None)
    with (
        FaultServer([Repeat(READ, answer)]) as one,
        FaultServer([Repeat(READ, answer)]) as two,
        EtcdMapping([one.url, two.url], "/app", timeout=0.5) as mapping,
    ):
        with pytest.raises(OutcomeUnknown):
            mapping.append("once")
        assert posts(one) + posts(two) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_read_that_a_gateway_gave_up_on_is_asked_elsewhere(status: int) -> None:
    """A read may be sent any number of times."""
    answer = response("upstream request timeout", status, index=None)
    good = '{"action":"get","node":{"key":"/app/k","value":"v","modifiedIndex":3}}'
    with (
        FaultServer([Repeat(READ, answer)]) as one,
        FaultServer([Repeat(READ, response(good))]) as two,
        EtcdMapping([one.url, two.url], "/app", shuffle=False) as mapping,
    ):
        assert mapping["k"] == "v"
        assert len(one.requests) == 1


# --- close() -----------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True], ids=["one", "several"])
def test_close_of_the_client_leaves_a_fenced_write_unknown(many: bool) -> None:
    """It may be sent twice, and is not: who closed it gets no second try."""
    absent = response('{"errorCode":100,"message":"Key not found","index":7}', 404)
    script: Script = [READ, absent, READ, STALL]
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(FaultServer(script)) for _ in range(2 if many else 1)
        ]
        endpoints = [server.url for server in servers]
        mapping = stack.enter_context(
            EtcdMapping(endpoints, "/app", timeout=20, fence=True)
        )
        waiter = Waiter(lambda: mapping.set("k", "v"))
        while not any("PUT" in line for server in servers for line in server.lines):
            assert not WAIT.wait(0.005)
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(mapping.client.close) < 0.2
        assert isinstance(waiter.outcome(), OutcomeUnknown)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m["k"], id="read"),
        pytest.param(lambda m: m.append("v"), id="append"),
        pytest.param(lambda m: m.set("k", "v"), id="set"),
        pytest.param(lambda m: m.update(a="1", b="2"), id="update"),
        pytest.param(lambda m: m.clear(), id="clear"),
    ],
)
def test_close_of_the_client_ends_a_pause_between_attempts(call: Any) -> None:
    """Where nothing listens, calls try again and again; none of them was sent."""
    with refusing() as url, EtcdMapping(url, "/app", timeout=20) as mapping:
        waiter = Waiter(lambda: call(mapping))
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(mapping.client.close) < 0.2
        assert isinstance(waiter.outcome(), ClientClosed)


def test_close_of_the_client_ends_a_write_of_many_keys() -> None:
    """What was sent is unknown; the rest was never sent; nothing is called written."""
    absent = response('{"errorCode":100,"message":"Key not found","index":7}', 404)
    hold = threading.Event()

    def reply(request: Received) -> bytes:
        if request.line.startswith("GET"):
            return absent
        assert hold.wait(20)
        return b""

    values = {f"k{number}": number for number in range(50)}
    with (
        FaultServer([Repeat(Reply(reply))]) as server,
        EtcdMapping(server.url, "/app", timeout=20) as mapping,
    ):
        waiter = Waiter(lambda: mapping.update(values))
        server.wait_for(lambda s: any("PUT" in line for line in s.lines))
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(mapping.client.close) < 0.2
        error = waiter.outcome()
        assert isinstance(error, PartialWrite)
        assert not error.written
        sent = sum(line.startswith("PUT") for line in server.lines)
        unknown = [e for e in error.failed.values() if isinstance(e, OutcomeUnknown)]
        assert len(unknown) == sent
        assert len(error.failed) + len(error.pending) == len(values)
        hold.set()


@pytest.mark.parametrize("kind", ["plain", "tls", "session"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("call", ["read", "append", "create", "set"])
def test_close_of_the_client_ends_calls_that_wait(
    certificate: Path, kind: str, many: bool, call: str
) -> None:
    """A write that has left is unknown; a read just did not come about."""
    tls = certificate if kind == "tls" else None
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"timeout": 20, "fence": False}
        if kind == "session":
            options["session"] = stack.enter_context(requests.Session())
            options["session"].trust_env = False
        elif kind == "tls":
            options["verify"] = str(certificate)
        servers = [
            stack.enter_context(FaultServer([READ, STALL], certificate=tls))
            for _ in range(2 if many else 1)
        ]
        mapping = EtcdMapping([server.url for server in servers], "/app", **options)
        stack.callback(mapping.close)
        calls: dict[str, Any] = {
            "read": lambda: mapping["k"],
            "append": lambda: mapping.append("v"),
            "create": lambda: mapping.create("k", "v"),
            "set": lambda: mapping.set("k", "v"),
        }
        waiter = Waiter(calls[call])
        while not any(server.requests for server in servers):
            assert not WAIT.wait(0.005)
        waiter.wait_until_it_waits()
        assert waiter.seconds_after(mapping.client.close) < 0.2
        error = waiter.outcome()
        assert isinstance(error, EtcdMapError)
        kinds = (ClientClosed, ClusterUnavailable)
        assert isinstance(error, kinds if call == "read" else OutcomeUnknown), error
        if isinstance(error, RequestFailed):
            assert any(attempt.sent for attempt in error.attempts)
        with pytest.raises(ClientClosed):
            mapping["k"]
    join("etcdmap-exchange")

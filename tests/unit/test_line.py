"""Several requests on one connection, whose answers come late and in order."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from etcdmap.errors import ClientClosed, ExchangeFailed, InvalidResponse
from etcdmap.transport import Line, WireTransport

HEAD = b"HTTP/1.1 200 OK\r\nX-Index: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
REST = b"2\r\nok\r\n0\r\n\r\n"


def request(target: str = "/x") -> Any:
    """Return a GET."""
    return SimpleNamespace(method="GET", target=target, body=None, max_answer=None)


class Server:
    """One connection, as the server sees it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sock: socket.socket | None = None

    @property
    def sock(self) -> socket.socket:
        """The connection."""
        if self._sock is None:
            self._sock, _ = self._listener.accept()
            self._sock.settimeout(5)
        return self._sock

    def requests(self, count: int) -> list[bytes]:
        """Read requests; return their first lines."""
        data = b""
        while data.count(b"\r\n\r\n") < count:
            more = self.sock.recv(65536)
            assert more
            data += more
        return [part.split(b"\r\n")[0] for part in data.split(b"\r\n\r\n")[:-1]]

    def close(self) -> None:
        """End it all."""
        self._listener.close()
        if self._sock is not None:
            self._sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a server."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    """Give a line to it."""
    transport = WireTransport()
    line = transport.line(server.endpoint)
    yield line
    line.close()
    transport.close()


def soon(seconds: float = 5.0) -> float:
    """Return a time to come."""
    return time.monotonic() + seconds


def test_line_tells_the_head_before_the_body(server: Server, line: Line) -> None:
    """The head of a late answer can be read when it comes."""
    line.send([request()], soon())
    assert line.head(soon(0.02)) is None
    server.sock.sendall(HEAD % 7)
    head = line.head(soon())
    assert head is not None
    assert (head[0], head[1]["x-index"]) == (200, "7")
    assert line.receive(soon(0.02)) is None
    server.sock.sendall(REST)
    answer = line.receive(soon())
    assert answer is not None
    assert (answer.body, answer.headers["x-index"]) == (b"ok", "7")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_line_gives_answers_in_their_order(
    server: Server, line: Line, size: int
) -> None:
    """Requests leave together, and answers may come in any pieces."""
    line.send([request(f"/{n}") for n in range(3)], soon())
    assert [first.split()[1] for first in server.requests(3)] == [b"/0", b"/1", b"/2"]
    data = b"".join(HEAD % n + REST for n in range(3))

    def send() -> None:
        for at in range(0, len(data), size):
            server.sock.sendall(data[at : at + size])

    thread = threading.Thread(target=send)
    thread.start()
    for number in range(3):
        answer = line.receive(soon())
        assert answer is not None
        assert answer.headers["x-index"] == str(number)
    thread.join()


def test_line_that_ends_sending_reads_on(server: Server, line: Line) -> None:
    """The server sees the end, and its answer still comes."""
    line.send([request()], soon())
    server.requests(1)
    line.end_sending()
    assert server.sock.recv(100) == b""
    server.sock.sendall(HEAD % 1 + b"0\r\n\r\n")
    answer = line.receive(soon())
    assert answer is not None
    assert answer.body == b""


def test_line_cancelled_by_another_thread_ends_at_once(
    server: Server, line: Line
) -> None:
    """Whoever waits is woken, and gets an error."""
    line.send([request()], soon())
    timer = threading.Timer(0.05, line.cancel)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(ExchangeFailed):
        line.receive(soon())
    assert time.monotonic() - begun < 1
    timer.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timer here")
def test_line_waits_no_longer_where_a_timer_interrupts(
    server: Server, line: Line
) -> None:
    """As an application's heartbeat does: after each signal Python reads anew."""
    line.send([request()], soon())
    cancel = threading.Timer(3, line.cancel)  # so that it ends in any case
    cancel.start()
    handler = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert line.receive(soon(0.2)) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        cancel.cancel()
        cancel.join()


@pytest.mark.parametrize(
    "sent", [b"", HEAD % 1, HEAD % 1 + REST[:5], b"nonsense\r\n\r\n"]
)
def test_line_that_is_cut_off_or_brings_nonsense_fails(
    server: Server, line: Line, sent: bytes
) -> None:
    """With the library's own errors."""
    line.send([request()], soon())
    server.sock.sendall(sent)
    server.sock.shutdown(socket.SHUT_WR)
    with pytest.raises((ExchangeFailed, InvalidResponse)):
        line.receive(soon())


def test_line_to_nobody_fails() -> None:
    """A refused connection, and a transport that was closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    transport = WireTransport()
    line = transport.line(f"http://127.0.0.1:{port}")
    with pytest.raises(ExchangeFailed, match="refused"):
        line.send([request()], soon())
    line.close()
    transport.close()
    with pytest.raises(ClientClosed):
        transport.line("http://127.0.0.1:1")


def test_line_ends_with_its_transport(server: Server) -> None:
    """Closing the client wakes whoever waits on a line."""
    transport = WireTransport()
    line = transport.line(server.endpoint)
    line.send([request()], soon())
    timer = threading.Timer(0.05, transport.close)
    timer.start()
    with pytest.raises(ExchangeFailed):
        line.receive(soon())
    timer.join()
    line.close()

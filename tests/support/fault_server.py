"""A raw-socket server whose faults are data.

What it does with a connection is a script, a sequence of actions::

    with FaultServer([READ, response("{}"), RESET]) as server:
        ...

    READ                      one whole request, which is remembered
    RECEIVE                   some bytes of a request, which are not
    Reply(function)           one whole request, answered by what the function gives
    b"..."                    these bytes, at once
    Drip(b"...", 0.05)        these bytes, one at a time
    Endless(b"...", 0.05)     these bytes again and again
    Until(event)              nothing, until the event is set
    STALL                     nothing, until the client goes away
    CLOSE                     an orderly end (which is also that of a script)
    RESET                     an end by RST, losing what is under way
    Repeat(action, ...)       these actions, until the client goes away

The first script is for the first connection and so on; the last one is for all
further connections.  Everything happens on threads that end with the server.

Whoever writes asks first of which cluster this is, once for each connection.  That is
answered on the way, whatever the script says, and remembered apart: scripts are about
the requests that a test makes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias


@dataclass(frozen=True)
class Act:
    """An action without settings."""

    name: str

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        getattr(conversation, self.name)()


READ: Final = Act("read")
RECEIVE: Final = Act("receive")
STALL: Final = Act("stall")
CLOSE: Final = Act("close")
RESET: Final = Act("reset")


@dataclass(frozen=True)
class Reply:
    """Read one whole request and send what a function makes of it."""

    function: Callable[[Received], bytes]

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        conversation.socket.sendall(self.function(conversation.read()))


@dataclass(frozen=True)
class Drip:
    """Send one byte, wait, and so on."""

    data: bytes
    interval: float

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        for byte in self.data:
            conversation.socket.sendall(bytes([byte]))
            conversation.server.pause(self.interval)


@dataclass(frozen=True)
class Endless:
    """Send the same bytes again and again, with or without a pause."""

    data: bytes
    interval: float = 0.0
    times: float = float("inf")

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        sent = 0
        while sent < self.times:
            conversation.socket.sendall(self.data)
            conversation.server.pause(self.interval)
            sent += 1


@dataclass(frozen=True)
class Until:
    """Do nothing until the event is set (or the server is closed)."""

    event: threading.Event

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        conversation.server.wait_event(self.event)


@dataclass(frozen=True)
class Repeat:
    """Do these actions until the client goes away."""

    actions: tuple[Action, ...]

    def __init__(self, *actions: Action) -> None:
        object.__setattr__(self, "actions", actions)

    def do(self, conversation: _Conversation) -> None:
        """Do it."""
        while True:
            conversation.run(self.actions)


Action: TypeAlias = "Act | bytes | Reply | Drip | Endless | Until | Repeat"
Script: TypeAlias = Sequence[Action]


@dataclass(frozen=True)
class Received:
    """One request as it came.

    Attributes:
        raw: all its bytes.
        connection: the number of the connection, from 0.
    """

    raw: bytes
    connection: int

    @property
    def line(self) -> str:
        """Method and target."""
        return self.raw.split(b"\r\n", 1)[0].decode("ascii").rpartition(" ")[0]

    @property
    def key(self) -> str:
        """The key that is asked for; its name as it stands in the target."""
        target = self.line.partition(" ")[2].partition("?")[0]
        return target.removeprefix("/v2/keys")

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with names in lower case."""
        lines = self.raw.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]
        pairs = (line.split(":", 1) for line in lines)
        return {name.strip().lower(): value.strip() for name, value in pairs}

    @property
    def body(self) -> bytes:
        """What came after the headers."""
        return self.raw.split(b"\r\n\r\n", 1)[1]


# --- answers as bytes -------------------------------------------------------


def head(
    status: int | str = 200,
    headers: dict[str, str] | None = None,
    *,
    index: int | None = 7,
) -> bytes:
    """Make the head of an answer, which says nothing of a length."""
    lines = [f"HTTP/1.1 {status}" + (" OK" if status == 200 else " X" * (status != ""))]
    lines += [] if index is None else [f"X-Etcd-Index: {index}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response(
    body: str | bytes = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    length: int | str | None = None,
    index: int | None = 7,
) -> bytes:
    """Make an answer; `length` is what Content-Length says, true if None."""
    data = body.encode() if isinstance(body, str) else body
    said = str(len(data) if length is None else length)
    return head(status, {"Content-Length": said, **(headers or {})}, index=index) + data


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    """Make an answer in chunks, with or without the one that ends it."""
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    whole = head(headers={"Transfer-Encoding": "chunked"}) + b"".join(parts)
    return whole + (b"0\r\n\r\n" if end else b"")


def file_answer(value: str = "v", key: str = "/k") -> bytes:
    """Make the answer to a GET of a file."""
    node = f'{{"key":"{key}","value":"{value}","modifiedIndex":3}}'
    return response(f'{{"action":"get","node":{node}}}')


def answering(value: str = "v") -> Reply:
    """Read one whole request for a file, a GET, and answer it."""
    return Reply(lambda request: file_answer(value, request.key))


#: A server that works, for ever.
WORKING: Final[Script] = (Repeat(answering()),)


#: Part of the target by which it is asked of which cluster a server is.
LOOK: Final = "?wait=maybe"


def look_answer(cluster_id: str | None) -> bytes:
    """Make etcd's answer to a form that it can't read."""
    said = '{"errorCode":209,"message":"Invalid field","cause":"wait","index":0}'
    headers = {} if cluster_id is None else {"X-Etcd-Cluster-Id": cluster_id}
    return response(said, 400, headers, index=None)


# --- the server -------------------------------------------------------------


class _Gone(Exception):
    """The client went away, or the script ended the connection."""


class FaultServer:
    """Serves scripts on a free port of the loopback, until the end of the block.

    Args:
        *scripts: what to do with the first connection, the second and so on.
        certificate: path of a PEM file with certificate and key, to speak TLS.
        cluster_id: what it says when it is asked of which cluster it is.
        answers_looks: whether it answers that at all by itself; else it is a request
            like any other.

    Attributes:
        requests: all that was received, in order.
        looks: the requests that asked of which cluster it is, and were answered.
        connections: how many connections were accepted.
        received: how many bytes of requests came, after TLS was taken off.
        ended: the numbers of the connections that are over.
    """

    def __init__(
        self,
        *scripts: Script,
        certificate: Path | None = None,
        cluster_id: str | None = None,
        answers_looks: bool = True,
    ) -> None:
        self.scripts = scripts or (WORKING,)
        self.answers_looks = answers_looks
        self.look_answer = look_answer(cluster_id)
        self.requests: list[Received] = []
        self.looks: list[Received] = []
        self.connections = 0
        self.received = 0
        self.ended: set[int] = set()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._sockets: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._wake_in, self._wake_out = socket.socketpair()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The endpoint to give to a client."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        """Method and target of each request."""
        return [request.line for request in self.requests]

    def __enter__(self) -> FaultServer:
        """Start to serve."""
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all connections and threads; raise what went wrong in them."""
        self._closing.set()
        self._wake_in.send(b"x")
        with self._changed:
            for connection in self._sockets.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for resource in (self._listener, self._wake_in, self._wake_out):
            resource.close()
        assert not any(thread.is_alive() for thread in self._threads)
        if self._errors and error is None:
            raise self._errors[0]

    def wait_for(
        self, condition: Callable[[FaultServer], object], timeout: float = 10.0
    ) -> None:
        """Wait until something is so; what happens at the server wakes it up."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout), (
                f"did not happen within {timeout:g} s"
            )

    # --- threads

    def _start(self, work: Callable[..., None], *args: object) -> None:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._closing.is_set():
                    return
                connection, _ = self._listener.accept()
                with self._changed:
                    number = self.connections
                    self.connections += 1
                    self._sockets[number] = connection
                    self._changed.notify_all()
                self._start(self._serve, number, connection)

    def _serve(self, number: int, connection: socket.socket) -> None:
        script = self.scripts[min(number, len(self.scripts) - 1)]
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                with self._changed:
                    self._sockets[number] = connection
            _Conversation(self, number, connection).run(script)
        except (_Gone, OSError):
            pass
        finally:
            with self._changed:
                del self._sockets[number]
                connection.close()
                self.ended.add(number)
                self._changed.notify_all()

    def remember(self, request: Received) -> None:
        """Keep a request, and tell whoever waits for one."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def count(self, size: int) -> None:
        """Count bytes that came."""
        with self._changed:
            self.received += size

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        if self._closing.wait(seconds):
            raise _Gone

    def wait_event(self, event: threading.Event) -> None:
        """Wait for an event, but not beyond the end of the server."""
        while not event.wait(0.02):
            if self._closing.is_set():
                raise _Gone


class _Conversation:
    """A script on one connection."""

    def __init__(self, server: FaultServer, number: int, sock: socket.socket) -> None:
        self.server = server
        self.number = number
        self.socket = sock
        self.buffer = b""

    def run(self, script: Script) -> None:
        """Do one action after the other."""
        for action in script:
            if isinstance(action, bytes):
                self.socket.sendall(action)
            else:
                action.do(self)

    def read(self) -> Received:
        """Read and remember one whole request."""
        request = self._next()
        while self.server.answers_looks and LOOK in request.line:
            self.server.looks.append(request)
            self.socket.sendall(self.server.look_answer)
            request = self._next()
        self.server.remember(request)
        return request

    def _next(self) -> Received:
        while b"\r\n\r\n" not in self.buffer:
            self.receive()
        start = Received(self.buffer, self.number)
        length = int(start.headers.get("content-length", "0"))
        size = self.buffer.index(b"\r\n\r\n") + 4 + length
        while len(self.buffer) < size:
            self.receive()
        whole, self.buffer = self.buffer[:size], self.buffer[size:]
        return Received(whole, self.number)

    def receive(self) -> None:
        """Take the bytes that are there, at least one."""
        data = self.socket.recv(65536)
        if not data:
            raise _Gone
        self.server.count(len(data))
        self.buffer += data

    def stall(self) -> None:
        """Do nothing until the client goes away."""
        while True:
            self.receive()

    def close(self) -> None:
        """End in order."""
        raise _Gone

    def reset(self) -> None:
        """End by RST."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise _Gone


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Give an endpoint that refuses connections: its port is held, not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


class Stopwatch:
    """Measures a block; for bounds, not for exact times."""

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._start

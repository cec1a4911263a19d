"""Connections to one endpoint: open one, plain or TLS, and use it.

Nothing here waits.  A function that would have to is a generator, and yields what it
waits for (`Waiting`).  Whoever drives it resumes it when the socket is ready, or throws
TimeoutError into it when the time is over.  So one thread can drive several.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Generator
from typing import Any, TypeVar

from etcdmap.errors import ExchangeFailed
from etcdmap.transport.names import address_of, resolver
from etcdmap.transport.polling import READ, WRITE, Flag, Waiting, reader

T = TypeVar("T")
Steps = Generator[Waiting, None, T]

#: Bytes asked of a socket at once: a TLS record has 16 KiB, loopback gives 64.
CHUNK = 64 * 1024
RECORD = 16 * 1024
#: Seconds that a read may block in the kernel; see `Connection`.
KERNEL_PATIENCE = 0.02
#: Seconds before and between the probes of an idle connection.
_KEEPALIVE = 1

#: What a socket raises instead of waiting.
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TLS_WANTS: dict[type, int] = {ssl.SSLWantReadError: READ, ssl.SSLWantWriteError: WRITE}
#: What it raises when the other side has closed the connection.
GONE = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)

_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
_TIMEVAL = struct.Struct("ll")


class Connection:
    """A connected socket that does not wait."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        # Of a mapping that nobody closes: no warning of a socket that nobody knows.
        weakref.finalize(self, sock.close)
        self.tls = isinstance(sock, ssl.SSLSocket)
        # Where ``recv`` itself can wait for `KERNEL_PATIENCE`, that takes one call of
        # the system instead of two.  With TLS, Python would go on waiting.
        self._blocks = not self.tls and _can_block(sock)
        self._flags = _DONT_WAIT if self._blocks else 0
        #: Seconds that a read may block now.
        self._patience = KERNEL_PATIENCE
        #: Waits some seconds until there is something to read.
        self.readable = reader(sock)
        #: That of the pool when it was opened; see `Pool.distrust`.
        self.age: object = None
        #: Whether no exchange on it has ended well yet.
        self.fresh = True
        #: The `Identity` that it has shown.
        self.shown: object = None

    def send(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; raise one of `BLOCKED` if that is nothing."""
        return self.sock.send(data, self._flags)

    def send_all(self, data: bytes, due: float) -> Steps[None]:
        """Send all of it, by a time."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest) :]
            except BLOCKED as blocked:
                yield self.waiting(blocked, WRITE, due)

    def receive(self) -> bytes:
        """Return what is there, ``b""`` at the end; `BLOCKED` if that is nothing."""
        return self.sock.recv(CHUNK, self._flags)

    def receive_soon(self) -> bytes:
        """Like `receive`, but wait for `KERNEL_PATIENCE`."""
        if not (self._blocks or self._holds() or self.readable(KERNEL_PATIENCE)):
            raise BlockingIOError
        if self.tls:  # a record at most, and without the detour that `recv` takes
            return self.sock.read(RECORD)  # type: ignore[attr-defined,no-any-return]
        return self.sock.recv(CHUNK)

    def receive_within(self, seconds: float) -> bytes:
        """Like `receive`, but wait for some seconds; `receive_soon` is spoilt by it.

        `BLOCKED` may also come sooner.
        """
        # After a signal, which the main thread gets, Python calls ``recv`` again, for
        # the whole time: the signals of a timer would keep it from ever ending.
        if self._blocks and threading.current_thread() is not threading.main_thread():
            if not self._patience <= seconds <= 4 * self._patience:
                # Half of it serves for the next reads, too, by which less time is left;
                # with less than a quarter, it would wake too often.
                self._patience = seconds / 2
                try:
                    _limit_blocking(self.sock, self._patience)
                except OSError:  # macOS, where both sides have ended: no need to wait
                    return self.receive()
            return self.sock.recv(CHUNK)
        if not (self._holds() or self.readable(seconds)):
            raise BlockingIOError
        return self.receive()

    def _holds(self) -> bool:  # what TLS holds, no waiting on the socket would show
        return self.tls and bool(self.sock.pending())  # type: ignore[attr-defined]

    def waiting(self, blocked: Exception, otherwise: int, due: float) -> Waiting:
        """Return what to wait for after one of `BLOCKED`."""
        return Waiting(self.sock, _TLS_WANTS.get(type(blocked), otherwise), due)

    def close(self) -> None:
        """Close it without a word of TLS, which the parent of a fork may still need."""
        self.sock.close()
        # Its number may be that of another socket soon.
        self.readable = lambda timeout: True


def _can_block(sock: socket.socket) -> bool:
    """Let reads block for `KERNEL_PATIENCE`; return whether the system can do it."""
    if type(sock).__module__ != "socket":
        return False  # gevent's, say: it would not block, but wait without an end
    try:
        _limit_blocking(sock, KERNEL_PATIENCE)
        supported = sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.size
        )
    except OSError:
        return False
    if not _DONT_WAIT or not any(supported):
        return False
    sock.setblocking(True)
    return True


def _limit_blocking(sock: socket.socket, seconds: float) -> None:
    # A limit of 0 would be none.
    limit = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000) or 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def dial(
    host: str, port: int, context: ssl.SSLContext | None, due: float
) -> Steps[Connection]:
    """Connect by a time, TLS handshake included.

    Raises:
        OSError: no address took the connection, TLS failed, or it took too long.
        ExchangeFailed: the host can't be a name, or the TLS handshake was cut off.
    """
    sock = yield from _connect_any(host, port, due)
    try:
        _set_options(sock)
        if context is None:
            return Connection(sock)
        # If the server has gone, `wrap_socket` raises and leaves the socket open.
        _raise_error_of(sock)
        # Without suppress_ragged_eofs, an end that TLS did not announce is an
        # error and not the end of a body.
        sock = context.wrap_socket(
            sock,
            # The dot of an absolute name is no part of it in TLS (RFC 6066 section 3).
            server_hostname=host.removesuffix("."),
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        connection = Connection(sock)
        yield from _handshake(connection, sock, due)
        return connection
    except BaseException:
        sock.close()
        raise


def _connect_any(host: str, port: int, due: float) -> Steps[socket.socket]:
    addresses = address_of(host, port)
    if addresses is None:
        addresses = yield from _look_up(host, port, due)
    failure: OSError = OSError(f"no address for {host}")
    for at, (family, kind, protocol, _, address) in enumerate(addresses):
        # A share of the time for each, as in Go's dialer: the first one of
        # several may be an IPv6 address that swallows everything.
        now = time.monotonic()
        share = (due - now) / (len(addresses) - at)
        try:
            sock = socket.socket(family, kind, protocol)  # the system may lack IPv6
            return (yield from _connect(sock, address, now + share))
        except OSError as error:
            failure = error
    raise failure


def _look_up(host: str, port: int, due: float) -> Steps[list[Any]]:
    with contextlib.closing(Flag()) as flag:
        look_up = resolver.look_up(host, flag)
        try:
            while look_up.outcome is None:
                yield Waiting(flag.sock, READ, due)
            return look_up.addresses(port)
        except TimeoutError:
            what = "the name of the host was not looked up in time"
            raise ExchangeFailed(
                what, sent=False, timed_out=True, nobody=True
            ) from None
        finally:
            resolver.leave(look_up, flag)


def _connect(sock: socket.socket, address: Any, due: float) -> Steps[socket.socket]:
    """Return the socket when it is connected; close it if that fails."""
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):  # it goes on by itself
            yield Waiting(sock, WRITE, due)
            _raise_error_of(sock)
        return sock
    except BaseException:
        sock.close()
        raise


def _raise_error_of(sock: socket.socket) -> None:
    """Raise what has happened to a connection since it was last used, if anything."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # TCP_KEEPALIVE is macOS' name for the first of them.
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE)


def _handshake(connection: Connection, sock: ssl.SSLSocket, due: float) -> Steps[None]:
    while True:
        try:
            return sock.do_handshake()
        except BLOCKED as blocked:
            yield connection.waiting(blocked, READ, due)
        except (*GONE, ssl.SSLZeroReturnError) as error:
            raise ExchangeFailed(
                "the TLS handshake was cut off: is there TLS on this port, or is it "
                "http://?",
                sent=False,
            ) from error

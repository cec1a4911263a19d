"""The connections to one endpoint that wait for their next request."""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from etcdmap.errors import ExchangeFailed
from etcdmap.transport import failures
from etcdmap.transport.polling import wake
from etcdmap.transport.protocol import Exchange, Opening
from etcdmap.transport.sockets import Connection, Steps, dial

#: Idle connections kept for one endpoint; more threads than that at one time
#: connect anew.  Go keeps 2 for each host, requests 10.
MAX_IDLE = 32


class Pool:
    """Connections to one endpoint: idle ones, and how to get a new one; its settings.

    Last in, first out: so the few that are needed stay warm.  Borrowing takes no
    lock: each step is one operation on a deque.

    Args:
        endpoint: scheme, host and port.
        fields: of every request, but for ``Host``; spelt.
        limit: for the body of an answer, bytes.
        connect_timeout: seconds for a new connection, TLS included.
        context: gives the TLS settings when they are needed.
        opening: what is sent before a first target that is too long.

    Attributes:
        fields: of every request.
        closed: whether `close` was called.
        lock: held while it is decided who may end a connection.

    Raises:
        ExchangeFailed: the endpoint is no such URL.
    """

    def __init__(
        self,
        endpoint: str,
        fields: str,
        limit: int,
        connect_timeout: float,
        context: Callable[[], ssl.SSLContext],
        opening: Opening | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.opening = opening
        self.limit = limit
        self._scheme, authority, self._host, self._port = split_endpoint(endpoint)
        self.fields = f"Host: {authority}\r\n{fields}"
        self._connect_timeout = connect_timeout
        self._context = context
        self.closed = False
        self._start()
        #: Changes when the connections so far are not to be used again.
        self._age = object()

    def _start(self) -> None:
        self.lock = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._opening: set[Exchange] = set()

    def borrow(self) -> Connection | None:
        """Take an idle connection out; None if there is none."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # An idle connection has nothing to say.  What can be read there is
            # its end, or an answer that nobody asked for: the next request
            # would take it for its own.
            if connection.age is self._age and not connection.readable(0):
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        """Put a connection back on which an exchange ended well."""
        if len(self._idle) >= MAX_IDLE or connection.age is not self._age:
            connection.close()
            return
        self._idle.append(connection)
        # close() may have run since; then nobody else would close this one.
        if self.closed:
            self.close()

    def connect(self, deadline: float, who: Exchange) -> Steps[Connection]:
        """Open a new connection."""
        context = self._context() if self._scheme == "https" else None
        age = self._age
        due = min(deadline, time.monotonic() + self._connect_timeout)
        self._opening.add(who)
        try:
            if self.closed:
                raise failures.given_up(sent=False)
            connection = yield from dial(self._host, self._port, context, due)
            connection.age = age
            with self.lock:
                self._all.add(connection)
            return connection
        finally:
            self._opening.discard(who)

    def close(self) -> None:
        """Close the idle connections, and end what waits on the others."""
        self.closed = True
        self._close_idle()
        for who in list(self._opening):
            who.cancel()
        with self.lock:
            for connection in list(self._all):
                wake(connection.sock)

    def distrust(self) -> None:
        """Use none of the connections again that are there now, idle or in use.

        Whoever got nonsense has given its connection back before it could know,
        and another thread may have taken it since.
        """
        self._age = object()
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return

    def forget(self) -> None:
        """Close, in a forked child, what the parent had open, in use or not.

        Open here, they would stay open for the member when the parent closes them.
        """
        for connection in list(self._all):
            connection.close()
        self._start()


def split_endpoint(endpoint: str) -> tuple[str, str, str, int]:
    """Give scheme, ``Host`` field, host and port of an endpoint.

    Raises:
        ExchangeFailed: it is not ``http(s)://host[:port]``.
    """
    try:
        parts = urlsplit(endpoint)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
        # The host alone: a port would count as a part of its last label.
        name, colon, end = parts.netloc.rpartition("@")[2].partition(":")
        authority = name.encode("idna").decode("ascii") + colon + end
    except ValueError as error:
        raise _unusable(endpoint) from error
    clean = authority.isprintable() and " " not in authority
    if scheme not in ("http", "https") or not host or not clean:
        raise _unusable(endpoint)
    return scheme, authority, host, port or (443 if scheme == "https" else 80)


def _unusable(endpoint: str) -> ExchangeFailed:
    shown = endpoint.rpartition("@")[2]
    return ExchangeFailed(f"not a usable URL: {shown}", sent=False, lasting=True)

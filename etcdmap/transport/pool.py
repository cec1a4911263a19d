"""The connections to one endpoint that wait for their next request."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from etcdmap.transport import failures
from etcdmap.transport.head import standing_fields
from etcdmap.transport.polling import wake
from etcdmap.transport.protocol import Cancellable, Settings
from etcdmap.transport.sockets import Connection, Steps, dial

#: Idle connections kept for one endpoint; more threads than that at one time
#: connect anew.  Go keeps 2 for each host, requests 10.
MAX_IDLE = 32


class Pool:
    """The connections to one endpoint, and what all exchanges on them have in common.

    Last in, first out: so the few that are needed stay warm.  Borrowing takes no
    lock: each step is one operation on a deque.
    """

    def __init__(
        self, endpoint: str, settings: Settings, context: Callable[[], ssl.SSLContext]
    ) -> None:
        self.endpoint = endpoint
        self.opening = settings.opening
        self.limit = settings.max_response  # bytes
        self._scheme, authority, self._host, self._port = split_endpoint(endpoint)
        fields = {"Host": authority, **standing_fields(settings)}
        #: Of every request, as they are sent.
        self.fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._connect_timeout = settings.connect_timeout
        self._context = context
        self.closed = False
        self._most_idle = MAX_IDLE
        self._start()
        #: Replaced when the connections so far are not to be used again.
        self._age = object()

    def _start(self) -> None:
        #: Held while it is decided who may end a connection.
        self.lock = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._connecting: set[Cancellable] = set()

    def borrow(self) -> Connection | None:
        """Take an idle connection out; None if there is none."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            # What can be read on an idle connection is its end, or an answer that
            # nobody asked for, which the next request would take for its own.
            if connection.age is self._age and not connection.readable(0):
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        """Put a connection back on which an exchange ended well."""
        if len(self._idle) >= self._most_idle or connection.age is not self._age:
            connection.close()
            return
        self._idle.append(connection)
        # retire() may have run since; then nobody else would close this one.
        if not self._most_idle:
            self._close_idle()

    def connect(self, deadline: float, who: Cancellable) -> Steps[Connection]:
        """Open a new connection for an exchange or a line."""
        context = self._context() if self._scheme == "https" else None
        age = self._age
        due = min(deadline, time.monotonic() + self._connect_timeout)
        self._connecting.add(who)
        try:
            if self.closed:
                raise failures.given_up(sent=False)
            connection = yield from dial(self._host, self._port, context, due)
            connection.age = age
            with self.lock:
                self._all.add(connection)
            return connection
        finally:
            self._connecting.discard(who)

    def close(self) -> None:
        """Close the idle connections, and end what waits on the others."""
        self.closed = True
        self.retire()
        for who in list(self._connecting):
            who.cancel()
        with self.lock:
            for connection in list(self._all):
                wake(connection.sock)

    def retire(self) -> None:
        """Keep no connections from now on; exchanges under way go on."""
        self._most_idle = 0
        self._close_idle()

    def distrust(self) -> None:
        """Use none of the present connections again, idle or in use.

        An exchange that got nonsense has given its connection back by the time this
        is known, and another thread may have taken it since: so all have to go.
        """
        self._age = object()
        self._close_idle()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):  # that was the last one
            while True:
                self._idle.pop().close()

    def forget(self) -> None:
        """Close, in a forked child, all that the parent had open.

        If they stayed open here, the server would not see the parent close them.
        """
        for connection in list(self._all):
            connection.close()
        self._start()


def split_endpoint(endpoint: str) -> tuple[str, str, str, int]:
    """Return scheme, ``Host`` field, host and port of an endpoint."""
    # No text shows a part of it, nor is one raised beside another's that does.
    with contextlib.suppress(ValueError):
        parts = urlsplit(endpoint)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
        # The host alone: a port would count as a part of its last label.
        name, colon, end = parts.netloc.rpartition("@")[2].partition(":")
        authority = name.encode("idna").decode("ascii") + colon + end
        clean = authority.isprintable() and " " not in authority
        if scheme in ("http", "https") and host and clean:
            return scheme, authority, host, port or (443 if scheme == "https" else 80)
    raise failures.unusable_url(
        "it is not http or https with a host that can be a name"
    )

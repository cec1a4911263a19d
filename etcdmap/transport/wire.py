"""The transport of our own: HTTP/1.1 on kept-alive sockets.

What it does for the plain case, and requests' own path does not: one buffer out
for head and body, an answer read by the few rules that it needs, the exchange
bounded as a whole (a slow drip ends at the deadline), keep-alive probes, and no
thread for an exchange that is waited for beside others.

It serves neither proxies nor what else a `requests.Session` can be given:
`make_transport` takes the stock path for those.  Nothing of the environment
matters: no proxy variables, no ~/.netrc, no REQUESTS_CA_BUNDLE or
CURL_CA_BUNDLE; ``verify`` and ``cert`` say it all.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

from etcdmap import forking
from etcdmap.errors import ClientClosed, ExchangeFailed
from etcdmap.models import Answer, Request
from etcdmap.transport import failures
from etcdmap.transport.exchange import WireExchange, answer_of
from etcdmap.transport.head import (
    LONGEST_FIRST_TARGET,
    OPENING,
    spell_start,
    standing_fields,
)
from etcdmap.transport.http1 import Reader
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import DEFAULT_MAX_RESPONSE
from etcdmap.transport.sockets import BLOCKED, KERNEL_PATIENCE, Connection
from etcdmap.transport.tls import Cert, Verify, make_context

_WHOLE = -1


class Wire:
    """Exchanges payloads with endpoints; knows nothing of what they mean.

    Args:
        connect_timeout: seconds for a new connection, TLS included.
        verify: see `make_context`.
        cert: see `make_context`.
        max_response: limit for the body of an answer, bytes.
    """

    def __init__(
        self, *, connect_timeout: float, verify: Verify, cert: Cert, max_response: int
    ) -> None:
        self._connect_timeout = connect_timeout
        self._max_response = max_response
        self._verify = verify
        self._cert = cert
        self._context: ssl.SSLContext | None = None
        self._context_lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self._closed = False
        forking.register(self)

    def pool(self, endpoint: str) -> Pool:
        """Give the connections to an endpoint.

        Raises:
            ClientClosed: `close` was called.
            ExchangeFailed: the endpoint is no URL.
        """
        if self._closed:
            raise ClientClosed("this client was closed; make a new mapping or client")
        pool = self._pools.get(endpoint)
        return self._add_pool(endpoint) if pool is None else pool

    def _add_pool(self, endpoint: str) -> Pool:
        new = Pool(endpoint, self._connect_timeout, self._tls)
        pool = self._pools.setdefault(endpoint, new)
        # close() may have run since; then nobody else would close this one.
        if self._closed:
            pool.close()
        return pool

    def exchange(
        self, pool: Pool, method: str, payload: bytes, timeout: float
    ) -> Reader:
        """Send a payload and read the whole answer."""
        begun = self.begin(pool, method, payload, timeout)
        if isinstance(begun, Reader):
            return begun
        try:
            return begun.read()
        finally:
            begun.give_up()  # a signal's exception may have ended the wait

    def begin(
        self, pool: Pool, method: str, payload: bytes, timeout: float
    ) -> Reader | WireExchange:
        """Send a payload; give the answer if it comes at once, else the exchange."""
        if timeout <= 0:
            raise failures.timed_out(timeout, sent=False)
        deadline = time.monotonic() + timeout
        reader = Reader(pool.endpoint, method, self._max_response)
        connection = pool.borrow()
        sent = 0
        if connection is not None:
            try:
                sent = _try_quickly(connection, payload, reader, deadline)
            except BaseException:
                connection.close()
                raise
            if sent == _WHOLE:
                if reader.reusable:
                    pool.give_back(connection)
                else:
                    connection.close()
                return reader
        return WireExchange(pool, payload, reader, timeout, deadline, connection, sent)

    def start(
        self, pool: Pool, method: str, payload: bytes, timeout: float
    ) -> WireExchange:
        """Send a payload, and give the exchange."""
        if timeout <= 0:
            raise failures.timed_out(timeout, sent=False)
        deadline = time.monotonic() + timeout
        reader = Reader(pool.endpoint, method, self._max_response)
        return WireExchange(pool, payload, reader, timeout, deadline, pool.borrow())

    def close(self) -> None:
        """Close the idle connections now, and those in use when they come back."""
        self._closed = True
        for pool in list(self._pools.values()):
            pool.close()

    def distrust(self, endpoint: str) -> None:
        """See `StartingTransport.distrust`."""
        pool = self._pools.get(endpoint)
        if pool is not None:
            pool.distrust()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent goes on with the old ones."""
        self._context_lock = threading.Lock()  # another thread may have held it
        for pool in self._pools.values():
            pool.forget()

    def _tls(self) -> ssl.SSLContext:
        with self._context_lock:
            if self._context is None:
                self._context = make_context(self._verify, self._cert)
            return self._context


def _try_quickly(
    connection: Connection, payload: bytes, reader: Reader, deadline: float
) -> int:
    """Send and read for as long as no call has to wait for longer than a moment.

    Returns:
        `_WHOLE` if the answer is whole, else how many bytes were sent.
    """
    try:
        sent = connection.send(payload)
    except BLOCKED:
        return 0
    except OSError as error:
        raise failures.of_socket(error, sent=connection.tls) from error
    if sent < len(payload):
        return sent
    latest = deadline - KERNEL_PATIENCE
    try:
        while time.monotonic() < latest:
            if reader.feed(connection.receive_soon()):
                return _WHOLE
    except BLOCKED:
        pass
    except OSError as error:
        raise failures.of_socket(error, sent=True) from error
    return sent


class WireTransport:
    """A `Transport` on sockets, for what needs nothing of `requests.Session`.

    Args:
        connect_timeout: seconds to wait for a connection, TLS included.
        username: for HTTP basic auth, which is what v2 auth uses.
        password: goes with it.
        verify: whether to verify TLS certificates, or the path of a CA bundle
            or of a directory of CAs.
        cert: path of a client certificate, or a pair (certificate, key).
        max_response: limit for an answer, bytes.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        username: str | None = None,
        password: str | None = None,
        verify: Verify = True,
        cert: Cert = None,
        max_response: int = DEFAULT_MAX_RESPONSE,
    ) -> None:
        self._wire = Wire(
            connect_timeout=connect_timeout,
            verify=verify,
            cert=cert,
            max_response=max_response,
        )
        fields = standing_fields(username, password)
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def exchange(self, endpoint: str, request: Request[Any], timeout: float) -> Answer:
        """See `Transport.exchange`."""
        wire = self._wire
        pool = wire.pool(endpoint)
        if len(request.target) > LONGEST_FIRST_TARGET:
            self._open(pool, timeout)
        payload = self._spell(pool.authority, request)
        reader = wire.exchange(pool, request.method, payload, timeout)
        return answer_of(reader, endpoint)

    def begin(
        self, endpoint: str, request: Request[Any], timeout: float
    ) -> Answer | WireExchange:
        """Send a request; give the answer if it comes at once, else the exchange.

        "At once" is within `KERNEL_PATIENCE`.

        Raises:
            ExchangeFailed: it failed at once.
        """
        wire = self._wire
        pool = wire.pool(endpoint)
        if len(request.target) > LONGEST_FIRST_TARGET:
            self._open(pool, timeout)
        payload = self._spell(pool.authority, request)
        begun = wire.begin(pool, request.method, payload, timeout)
        if isinstance(begun, Reader):
            return answer_of(begun, endpoint)
        return begun

    def start(
        self, endpoint: str, request: Request[Any], timeout: float
    ) -> WireExchange:
        """See `Transport.start`."""
        pool = self._wire.pool(endpoint)
        if len(request.target) > LONGEST_FIRST_TARGET:
            self._open(pool, timeout)
        payload = self._spell(pool.authority, request)
        return self._wire.start(pool, request.method, payload, timeout)

    def _open(self, pool: Pool, timeout: float) -> None:
        """Have a connection at hand that has carried a request."""
        connection = pool.borrow()
        if connection is not None:
            pool.give_back(connection)
            return
        payload = self._spell(pool.authority, OPENING)
        try:
            self._wire.exchange(pool, OPENING.method, payload, timeout)
        except ExchangeFailed as error:
            # What was to be sent has not left.
            raise ExchangeFailed(
                str(error), sent=False, timed_out=error.timed_out, lasting=error.lasting
            ) from error

    def distrust(self, endpoint: str) -> None:
        """See `StartingTransport.distrust`."""
        self._wire.distrust(endpoint)

    def close(self) -> None:
        """See `Transport.close`."""
        self._wire.close()

    def _spell(self, authority: str, request: Request[Any]) -> bytes:
        start = spell_start(request.method, request.target)
        body = request.body
        if body is None:
            return f"{start}Host: {authority}\r\n{self._fields}\r\n".encode("latin-1")
        # One buffer for head and body: two sends cost 20 us more (and 40 ms
        # where TCP_NODELAY is missing).
        head = (
            f"{start}Host: {authority}\r\n{self._fields}"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("latin-1") + body

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

from etcdmap import forking
from etcdmap.transport import failures
from etcdmap.transport.exchange import WireExchange
from etcdmap.transport.head import standing_fields
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import (
    DEFAULT_MAX_RESPONSE,
    Identity,
    Opening,
    Request,
)
from etcdmap.transport.tls import Cert, Verify, make_context


class WireTransport:
    """A `Transport` on sockets, for what needs nothing of `requests.Session`.

    Args:
        connect_timeout: seconds to wait for a connection, TLS included.
        username: for HTTP basic auth.
        password: goes with it.
        verify: whether to verify TLS certificates, or the path of a CA bundle
            or of a directory of CAs.
        cert: path of a client certificate, or a pair (certificate, key).
        max_response: limit for an answer, bytes.
        opening: what is sent before a target that is too long to come first.
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
        opening: Opening | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._opening = opening
        self._max_response = max_response
        self._verify = verify
        self._cert = cert
        fields = standing_fields(username, password)
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._context: ssl.SSLContext | None = None
        self._pools: dict[str, Pool] = {}
        self._closed = False
        self.after_fork()
        forking.register(self)

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> WireExchange:
        if self._closed:
            raise failures.client_closed()
        pool = self._pools.get(endpoint) or self._add_pool(endpoint)
        return WireExchange(pool, request, timeout, identity)

    def distrust(self, endpoint: str) -> None:
        pool = self._pools.get(endpoint)
        if pool is not None:
            pool.distrust()

    def close(self) -> None:
        self._closed = True
        for pool in list(self._pools.values()):
            pool.close()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent goes on with the old ones."""
        self._context_lock = threading.Lock()  # another thread may have held it
        for pool in self._pools.values():
            pool.forget()

    def _add_pool(self, endpoint: str) -> Pool:
        new = Pool(
            endpoint,
            self._fields,
            self._max_response,
            self._connect_timeout,
            self._tls,
            self._opening,
        )
        pool = self._pools.setdefault(endpoint, new)
        # close() may have run since; then nobody else would close this one.
        if self._closed:
            pool.close()
        return pool

    def _tls(self) -> ssl.SSLContext:
        with self._context_lock:
            if self._context is None:
                self._context = make_context(self._verify, self._cert)
            return self._context

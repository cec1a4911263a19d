"""The transport of our own: HTTP/1.1 on kept-alive sockets.

It does what requests does not: head and body leave in one buffer, a deadline bounds
the whole exchange (an answer that drips slowly, too), idle connections are probed, and
no exchange takes a thread.

It has no proxies, nor what else a `requests.Session` can be given, which is what
`stock` is for.  Nothing is taken from the environment: no proxies, no ~/.netrc, no
REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.
"""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from collections.abc import Collection
from typing import Any

from etcdmap import forking
from etcdmap.errors import ExchangeFailed
from etcdmap.transport import failures
from etcdmap.transport.exchange import WireExchange
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Identity, Request, Settings


class WireTransport:
    """A `Transport` on sockets; its arguments are the fields of `Settings`."""

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**settings)
        self._context: ssl.SSLContext | None = None
        self._pools: dict[str, Pool] = {}
        #: Those that only exchanges under way still use.
        self._retired: weakref.WeakSet[Pool] = weakref.WeakSet()
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
        if endpoint in self._pools:
            self._pools[endpoint].distrust()

    def keep_only(self, endpoints: Collection[str]) -> None:
        with self._pools_lock:
            for endpoint in set(self._pools) - set(endpoints):
                pool = self._pools.pop(endpoint)
                self._retired.add(pool)
                pool.retire()

    def close(self) -> None:
        self._closed = True
        with self._pools_lock:
            pools = [*self._pools.values(), *self._retired]
        for pool in pools:
            pool.close()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent goes on with the connections."""
        self._context_lock = threading.Lock()  # another thread may have held it
        self._pools_lock = threading.Lock()
        for pool in [*self._pools.values(), *self._retired]:
            pool.forget()

    def _add_pool(self, endpoint: str) -> Pool:
        new = Pool(endpoint, self._settings, self._tls)
        with self._pools_lock:
            pool = self._pools.setdefault(endpoint, new)
        # close() may have run since; then nobody else would close this one.
        if self._closed:
            pool.close()
        return pool

    def _tls(self) -> ssl.SSLContext:
        with self._context_lock:
            if self._context is None:
                self._context = make_context(self._settings)
            return self._context


def make_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of the TLS settings; some 20 ms to make with a system's CAs.

    Raises:
        ExchangeFailed: a file is missing or is not what it should be.
    """
    verify, cert = settings.verify, settings.cert
    # Verifies names and IP addresses; TLS 1.2 at least.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # as browsers and urllib3 do
    # Without it, a server may choose HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_authorities(context, verify)
        if cert is not None:
            context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    except OSError as error:
        message = f"TLS can't be set up from verify={verify!r}, cert={cert!r}: {error}"
        raise ExchangeFailed(message, sent=False, lasting=True) from error
    return context


def _load_authorities(context: ssl.SSLContext, verify: bool | str) -> None:
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return
    if verify is True:
        # requests' own constant, which distributions patch; imported for https only.
        from requests.utils import DEFAULT_CA_BUNDLE_PATH as path
    else:
        path = os.fspath(verify)
    place = "capath" if os.path.isdir(path) else "cafile"
    context.load_verify_locations(**{place: path})

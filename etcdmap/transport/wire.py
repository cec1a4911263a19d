"""The transport of our own: HTTP/1.1 on kept-alive sockets.

It does what requests does not: head and body leave in one buffer, a deadline bounds
the whole exchange (an answer that drips slowly, too), idle connections are probed, and
no exchange takes a thread.

It has no proxies, nor what else a `requests.Session` can be given, which is what
`stock` is for.  Nothing is taken from the environment: no proxies, no ~/.netrc, no
REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import Any

from etcdmap import forking
from etcdmap.errors import ClientClosed
from etcdmap.transport.exchange import WireExchange
from etcdmap.transport.line import Line
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Identity, Request, Settings
from etcdmap.transport.tls import Contexts, warn_unverified


class WireTransport:
    """A `Transport` on sockets; its arguments are the fields of `Settings`."""

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**settings)
        if self._settings.verify is False:
            warn_unverified()
        self._contexts = Contexts(self._settings)
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
            raise ClientClosed
        pool = self._pools.get(endpoint) or self._add_pool(endpoint)
        return WireExchange(pool, request, timeout, identity)

    def line(self, endpoint: str) -> Line:
        """Return a line to an endpoint; only this kind of transport has them.

        Raises:
            ClientClosed: `close` was called.
        """
        if self._closed:
            raise ClientClosed
        return Line(self._pools.get(endpoint) or self._add_pool(endpoint))

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
        self._pools_lock = threading.Lock()  # another thread may have held it
        for pool in [*self._pools.values(), *self._retired]:
            pool.forget()

    def _add_pool(self, endpoint: str) -> Pool:
        new = Pool(endpoint, self._settings, self._contexts.current)
        with self._pools_lock:
            pool = self._pools.setdefault(endpoint, new)
        # close() may have run since; then nobody else would close this one.
        if self._closed:
            pool.close()
        return pool

"""Exchanges with ONE endpoint: send a request, read its answer, or say why not.

The only package that imports requests.  What it promises the client above:

* An exchange ends by its timeout, with an `Answer`, with `ExchangeFailed`, which
  tells whether the server may have seen the request, or with `InvalidResponse`.
  No exception of a socket, of requests or of urllib3 gets out.
* Nothing is followed, retried or unpacked here: no redirects, no cookies.
* It is shared by threads, and a forked child starts with no connections: two
  processes that read from one socket would get each other's answers.
* One thread can have several exchanges under way: start, wait, give up.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from etcdmap.transport.exchange import wait_any
from etcdmap.transport.protocol import (
    DEFAULT_MAX_RESPONSE,
    Exchange,
    StartingTransport,
    Transport,
)
from etcdmap.transport.wire import WireTransport

if TYPE_CHECKING:
    from etcdmap.transport.adapter import WireAdapter
    from etcdmap.transport.stock import RequestsTransport

__all__ = [
    "DEFAULT_MAX_RESPONSE",
    "Exchange",
    "RequestsTransport",
    "StartingTransport",
    "Transport",
    "WireAdapter",
    "WireTransport",
    "make_transport",
    "wait_any",
]


# Loading requests takes longer than loading all of ours: only who uses it pays.
_NEED_REQUESTS = {
    "RequestsTransport": "etcdmap.transport.stock",
    "WireAdapter": "etcdmap.transport.adapter",
}


def __getattr__(name: str) -> Any:
    """Load what needs requests when it is asked for (PEP 562)."""
    if name in _NEED_REQUESTS:
        return getattr(importlib.import_module(_NEED_REQUESTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make_transport(*, session: Any = None, **settings: Any) -> StartingTransport:
    """Make the transport that serves some settings.

    Args:
        session: a `requests.Session` of the caller's: requests' own path, for
            its proxies, hooks, adapters and auth; None for sockets of our own.
        settings: see `WireTransport`.
    """
    if session is not None:
        from etcdmap.transport.stock import RequestsTransport

        return RequestsTransport(session=session, **settings)
    return WireTransport(**settings)

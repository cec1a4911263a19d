"""Exchanges with ONE endpoint: send a request, read its answer, or say why not.

The only package that imports requests.  What it promises the client above:

* An exchange ends by its timeout, with an `Answer`, with `ExchangeFailed`, or with
  `InvalidResponse`, and tells whether the server may have seen the request.  No
  exception of a socket, of requests or of urllib3 gets out.
* Nothing is followed, retried or unpacked here: no redirects, no cookies.
* It is shared by threads, and a forked child starts with no connections: two
  processes that read from one socket would get each other's answers.
* One thread can have several exchanges under way: begin, wait, give up; and another
  thread can cancel them.
"""

from __future__ import annotations

import sys
from typing import Any

from etcdmap.errors import EtcdMapError
from etcdmap.transport.exchange import wait_any
from etcdmap.transport.protocol import (
    DEFAULT_MAX_RESPONSE,
    Answer,
    BlockingTransport,
    Exchange,
    Identity,
    Opening,
    Request,
    Transport,
)
from etcdmap.transport.threaded import wrapped
from etcdmap.transport.wire import WireTransport

__all__ = [
    "DEFAULT_MAX_RESPONSE",
    "Answer",
    "BlockingTransport",
    "Exchange",
    "Identity",
    "Opening",
    "Request",
    "Transport",
    "WireTransport",
    "make_transport",
    "wait_any",
    "wrapped",
]


def make_transport(*, session: Any = None, **settings: Any) -> Transport:
    """Make the transport that serves some settings.

    Args:
        session: a `requests.Session` of the caller's: requests' own path, for
            its proxies, hooks, adapters and auth; None for sockets of our own.
        settings: see `WireTransport`.

    Raises:
        EtcdMapError: eventlet has replaced the sockets of Python.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("socket"):
        # Its sockets wait where ours must not, so no deadline would hold.
        raise EtcdMapError(
            "etcdmap does not work with eventlet's monkey patching; use gevent, or "
            "threads"
        )
    if session is not None:
        # Loading requests takes longer than loading all of ours: only who uses it
        # pays.
        from etcdmap.transport.stock import RequestsTransport

        return wrapped(RequestsTransport(session=session, **settings))
    return WireTransport(**settings)

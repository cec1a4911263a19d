"""Exchanges with ONE endpoint: send a request, read its answer, or say why not.

This is the only package that imports requests.  It promises:

* An exchange ends by its timeout, with an `Answer`, `ExchangeFailed` or
  `InvalidResponse`, and tells whether the server may have seen the request.  No
  exception of a socket, of requests or of urllib3 gets out.
* Redirects are not followed, nothing is sent twice or decompressed, and there are
  no cookies.
* Threads can share a transport.  A forked child starts without connections: two
  processes that read from one socket would get each other's answers.
* One thread can have several exchanges under way, and another thread can cancel them.

Sockets of our own also have a `Line`: see there.
"""

from __future__ import annotations

import sys
from typing import Any

from etcdmap.errors import EtcdMapError
from etcdmap.transport.exchange import wait_any
from etcdmap.transport.line import Line
from etcdmap.transport.protocol import (
    DEFAULT_MAX_RESPONSE,
    Answer,
    BlockingTransport,
    Exchange,
    Identity,
    Opening,
    Request,
    Settings,
    Transport,
)
from etcdmap.transport.threaded import wrapped
from etcdmap.transport.tls import RenewalFailed, UnverifiedTLS
from etcdmap.transport.wire import WireTransport

__all__ = [
    "DEFAULT_MAX_RESPONSE",
    "TRANSPORT_OPTIONS",
    "Answer",
    "BlockingTransport",
    "Exchange",
    "Identity",
    "Line",
    "Opening",
    "RenewalFailed",
    "Request",
    "Transport",
    "UnverifiedTLS",
    "WireTransport",
    "make_transport",
    "wait_any",
    "wrapped",
]

#: What `make_transport` takes.
TRANSPORT_OPTIONS = {"session", *Settings.__dataclass_fields__}


def make_transport(*, session: Any = None, **settings: Any) -> Transport:
    """Return a transport with some `Settings`.

    Args:
        session: a `requests.Session` to send everything through, for its proxies,
            hooks, adapters and auth; None for sockets of our own.
        **settings: the fields of `Settings`.

    Raises:
        EtcdMapError: eventlet has replaced Python's sockets.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("socket"):
        # eventlet's sockets wait where ours must not, so no deadline would hold.
        raise EtcdMapError(
            "etcdmap does not work with eventlet's monkey patching; use gevent, or "
            "threads"
        )
    if session is None:
        return WireTransport(**settings)
    # Imported here, as requests takes longer to import than all of etcdmap.
    from etcdmap.transport.stock import RequestsTransport

    return wrapped(RequestsTransport(session=session, **settings))

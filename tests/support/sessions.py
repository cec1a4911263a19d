"""Transports on a `requests.Session` that ends with them."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import requests

from etcdmap.transport.stock import RequestsTransport
from etcdmap.transport.threaded import ThreadedTransport
from etcdmap.v2 import OPENING


class OnSession(ThreadedTransport):
    """A transport on a session of its own, away from the environment.

    Args:
        verify: whom the session trusts.
        cert: what it shows.
        **settings: of the transport.
    """

    def __init__(
        self, *, verify: Any = True, cert: Any = None, **settings: Any
    ) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = verify
        self.session.cert = cert
        settings.setdefault("opening", OPENING)
        super().__init__(RequestsTransport(session=self.session, **settings))

    def close(self) -> None:
        """Close the session, too."""
        super().close()
        self.session.close()


def collect_what_urllib3_left() -> None:
    """Free the sockets that urllib3 drops unclosed when an exchange fails.

    Else they would warn in whichever test the garbage collector runs next.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

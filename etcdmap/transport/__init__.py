"""Exchanges with ONE endpoint: send a request, read its answer, or say why not."""

from etcdmap.transport.protocol import DEFAULT_MAX_RESPONSE, Transport
from etcdmap.transport.stock import RequestsTransport

__all__ = ["DEFAULT_MAX_RESPONSE", "RequestsTransport", "Transport"]

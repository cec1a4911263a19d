"""Requests to a cluster, over whichever of its endpoints works.

Open `client` for what a client can do, `call` for the retry policy (when a request is
sent, and to whom), `attempts` for what a call makes of answers, `endpoint_health` for
the delays, `freshness` for what reads promise, and `outcomes` for what a failed call
says.
"""

from __future__ import annotations

from etcdmap.client.client import DEFAULT_MAX_STALE, DEFAULT_TIMEOUT, Client
from etcdmap.client.endpoint_health import Policy
from etcdmap.client.freshness import ClusterRebuilt
from etcdmap.client.options import (
    clean_endpoints,
    flag,
    listed,
    plain_text,
    positive_int,
    positive_seconds,
    spell_endpoint,
)
from etcdmap.client.request import API, Request, Resend

__all__ = [
    "API",
    "DEFAULT_MAX_STALE",
    "DEFAULT_TIMEOUT",
    "Client",
    "ClusterRebuilt",
    "Policy",
    "Request",
    "Resend",
    "clean_endpoints",
    "flag",
    "listed",
    "plain_text",
    "positive_int",
    "positive_seconds",
    "spell_endpoint",
]

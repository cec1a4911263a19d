"""Asking one member how it is, with the standard library only."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

#: A member that is paused, or without a leader, may never answer.
_TIMEOUT = 1.0
_MAX_ANSWER = 1 << 20
#: etcd needs 50 ms and more to start: asking more often finds nothing new.
_INTERVAL = 0.01


def health(endpoint: str) -> str:
    """Tell why a member is not healthy; "" when it is."""
    try:
        answer = _get(endpoint, "/health")
        # "true" as a text; 3.5 adds a reason where it is not.
        if answer["health"] == "true":
            return ""
        return f"unhealthy: {answer.get('reason') or 'no reason given'}"
    except _BAD_ANSWER as exc:
        return str(exc) or type(exc).__name__


def known_endpoints(endpoint: str) -> frozenset[str]:
    """List the endpoints of all members that a member knows of."""
    with contextlib.suppress(*_BAD_ANSWER):
        members = _get(endpoint, "/v2/members")["members"]
        return frozenset(url for member in members for url in member["clientURLs"])
    return frozenset()


def raft(endpoint: str) -> tuple[str, str]:
    """Ask a member for its own id and the leader's; both "" when it doesn't answer."""
    with contextlib.suppress(*_BAD_ANSWER):
        answer = _get(endpoint, "/v2/stats/self")
        return str(answer["id"]), str(answer["leaderInfo"]["leader"])
    return "", ""


def moments(timeout: float) -> Iterator[None]:
    """Give moments to look at something: at least one, until time is up."""
    deadline = time.monotonic() + timeout
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_INTERVAL, left))
        yield


_BAD_ANSWER = (OSError, HTTPException, ValueError, TypeError, KeyError, AttributeError)


def _get(endpoint: str, path: str) -> Any:
    # http.client knows of no proxies: these go straight to the loopback.
    connection = HTTPConnection(urlsplit(endpoint).netloc, timeout=_TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return json.loads(connection.getresponse().read(_MAX_ANSWER))

"""Asking a member how it is, and waiting until the answer is a good one."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

from etcdmap.errors import LocalClusterError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

T = TypeVar("T")

#: A member that is paused, or without a leader, may never answer.
_TIMEOUT = 1.0
_MAX_ANSWER = 1 << 20
#: etcd needs 50 ms and more to start: asking more often finds nothing new.
_INTERVAL = 0.01


class NotYet(Exception):
    """What is waited for is not so yet; the text says why."""


def moments(timeout: float) -> Iterator[None]:
    """Yield when it is time to look again: at least once, until time is up."""
    deadline = time.monotonic() + timeout
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_INTERVAL, left))
        yield


def wait_for(look: Callable[[], T], timeout: float, what: str) -> T:
    """Call ``look`` until it raises NotYet no more, and return its result.

    Raises:
        LocalClusterError: time is up; the text begins with ``what``.
    """
    reason = None
    for _ in moments(timeout):
        try:
            return look()
        except NotYet as exc:
            reason = exc
    raise LocalClusterError(f"{what} within {timeout:g} s: {reason}") from reason


def check_health(endpoint: str) -> None:
    """Raise NotYet unless a member serves and knows a leader."""
    # "true" is a text, not a bool.  A reason is given from etcd 3.5 on.
    healthy, reason = _ask(
        endpoint, "/health", lambda it: (it["health"] == "true", it.get("reason"))
    )
    if not healthy:
        raise NotYet(f"unhealthy: {reason or 'no reason given'}")


def known_endpoints(endpoint: str) -> set[str]:
    """Return the endpoints of all members that a member knows of."""
    return _ask(
        endpoint,
        "/v2/members",
        lambda it: {url for member in it["members"] for url in member["clientURLs"]},
    )


def raft(endpoint: str) -> tuple[str, str]:
    """Return a member's own id, and the id of its leader."""
    return _ask(
        endpoint, "/v2/stats/self", lambda it: (it["id"], it["leaderInfo"]["leader"])
    )


def _ask(endpoint: str, path: str, read: Callable[[Any], T]) -> T:
    """Return what ``read`` finds in a member's answer; raise NotYet if it fails."""
    # Not urllib.request, which would send this to the proxy of the environment.
    connection = HTTPConnection(urlsplit(endpoint).netloc, timeout=_TIMEOUT)
    try:
        with contextlib.closing(connection):
            connection.request("GET", path)
            return read(json.loads(connection.getresponse().read(_MAX_ANSWER)))
    # A program other than etcd may answer anything.
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as exc:
        raise NotYet(str(exc) or type(exc).__name__) from exc

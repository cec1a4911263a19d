"""What the cluster itself says it did: the events of a directory, in order.

A watcher follows them by long polls with ``waitIndex``, from one member and, when
that one stops to answer, from the next: all members have the same events.  etcd keeps
the last 1,000, so a short outage loses none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

#: When no event is coming any more, seconds.
_QUIET = 2.0
_HISTORY_CLEARED = 401
_NOT_FOUND = 100

_TROUBLE = (OSError, http.client.HTTPException, ValueError, TypeError, LookupError)


@dataclasses.dataclass(frozen=True)
class Event:
    """One change of a key."""

    index: int
    key: str
    action: str
    #: None: it is gone.
    value: str | None


class EventLog(NamedTuple):
    """Changes in the order in which the cluster made them."""

    events: tuple[Event, ...] = ()
    #: Whether none is missing.
    complete: bool = True
    #: The index at which the values at the end were read; None: after all events.
    final_index: int | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer of etcd."""

    status: int
    index: int
    body: Any


class Line:
    """A connection to one member, opened when needed.

    Args:
        endpoint: its client URL.
        timeout: of each exchange, seconds.
        authorization: the header to send, or "".
    """

    def __init__(self, endpoint: str, timeout: float, authorization: str = "") -> None:
        self._connection = http.client.HTTPConnection(
            urlsplit(endpoint).netloc, timeout=timeout
        )
        self._headers = {"Authorization": authorization} if authorization else {}

    def ask(self, method: str, path: str, form: str | None = None) -> Answer:
        """Send a request.

        Raises:
            OSError, http.client.HTTPException, ValueError: no answer, or not etcd's.
        """
        headers = dict(self._headers)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            self._connection.request(method, path, form, headers)
            response = self._connection.getresponse()
            body = response.read()
            index = int(response.headers.get("X-Etcd-Index") or 0)
            return Answer(response.status, index, json.loads(body) if body else None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def read_all(
    endpoints: Sequence[str],
    prefix: str,
    *,
    timeout: float = 30.0,
) -> tuple[dict[str, str], int]:
    """Read a directory from the whole cluster, however long that takes to answer.

    Returns:
        The values by key relative to the directory, and etcd's index.  Directories
        are among them: their keys end in a slash, their values are empty.

    Raises:
        TimeoutError: nobody answered in time.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for endpoint in endpoints:
            line = Line(endpoint, 5.0)
            with contextlib.suppress(*_TROUBLE), contextlib.closing(line):
                answer = line.ask("GET", f"/v2/keys{prefix}?recursive=true&quorum=true")
                if answer.status == 200:
                    children = answer.body["node"].get("nodes", ())
                    nodes = [pair for node in children for pair in _flat(node, prefix)]
                    return dict(nodes), answer.index
                if answer.body["errorCode"] == _NOT_FOUND:
                    return {}, answer.index
        time.sleep(0.05)
    raise TimeoutError(f"no member gave a quorum read within {timeout:g} s")


def _flat(node: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    key = _relative(node["key"], prefix)
    if not node.get("dir"):
        return [(key, node["value"])]
    below = [pair for child in node.get("nodes", ()) for pair in _flat(child, prefix)]
    return [(f"{key}/", ""), *below]


def _relative(key: str, prefix: str) -> str:
    return key[len(prefix) :].lstrip("/")


class Watcher:
    """Follows the events of a directory in a thread of its own.

    Args:
        endpoints: the members to ask, the first one first.
        prefix: the directory.
        after: the index after which events are wanted.
        patience: how long a member may stay silent before the next one is asked.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        prefix: str,
        after: int,
        *,
        patience: float = 1.0,
    ) -> None:
        self._lines = [Line(url, patience) for url in endpoints]
        self._patience = patience
        self._prefix = prefix
        self._next = after + 1
        self._events: list[Event] = []
        self._complete = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self, index: int, timeout: float = 15.0) -> EventLog:
        """Wait for the events up to an index, stop, and give all of them.

        Args:
            index: of the whole store; its last event may be in another directory.
            timeout: in seconds; afterwards the log counts as incomplete.
        """
        deadline = time.monotonic() + timeout
        quiet = time.monotonic() + _QUIET
        while self._next <= index and time.monotonic() < min(deadline, quiet):
            before = self._next
            time.sleep(0.05)
            if self._next != before:
                quiet = time.monotonic() + _QUIET
        self._stop.set()
        self._thread.join(2 * self._patience * len(self._lines))
        return EventLog(tuple(self._events), self._complete)

    def _follow(self) -> None:
        while not self._stop.is_set():
            for line in self._lines:
                with contextlib.suppress(*_TROUBLE):
                    while not self._stop.is_set():
                        self._poll(line)
                line.close()
            self._stop.wait(0.02)

    def _poll(self, line: Line) -> None:
        query = f"wait=true&recursive=true&waitIndex={self._next}"
        answer = line.ask("GET", f"/v2/keys{self._prefix}?{query}")
        if answer.status == 200:
            self._note(answer.body)
        elif answer.body["errorCode"] == _HISTORY_CLEARED:
            self._complete = False
            self._next = answer.body["index"] + 1
        else:
            raise ValueError(f"no event: {answer.body}")

    def _note(self, body: dict[str, Any]) -> None:
        node = body["node"]
        index = int(node["modifiedIndex"])
        gone = body["action"] in ("delete", "expire", "compareAndDelete")
        key = _relative(node["key"], self._prefix)
        value = None if gone else node.get("value")
        self._events.append(Event(index, key, body["action"], value))
        self._next = index + 1

"""One directory of files in memory that answers like etcd: a transport for load.

GET, PUT and DELETE of files, and the listing of their directory.  It remembers when
each text was replaced, so that readers can tell how old is what they got.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from etcdmap.transport import Answer, Request

from support.proper import Parts
from support.transports import Instantly

_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Version:
    """What a file holds; None for a file that is absent."""

    text: str | None
    index: int


class FakeEtcd(Instantly):
    """A `Transport` to a member that holds files in one directory.

    Args:
        latency: seconds that an exchange takes, half of it before it is carried
            out and half after.
        clock: gives the time in seconds.

    Attributes:
        counts: exchanges by method and path.
    """

    def __init__(
        self, latency: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._pause = latency / 2
        self._clock = clock
        self._index = 1
        self._files: dict[str, Version] = {}
        #: When a text was replaced by another, by path and text.
        self._ended: dict[tuple[str, str | None], float] = {}
        self._lock = threading.Lock()

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Carry a request out."""
        if self._pause:
            time.sleep(self._pause)
        url = urlsplit(request.target)
        path = unquote(url.path.removeprefix("/v2/keys"))
        query = {name: texts[0] for name, texts in parse_qs(url.query).items()}
        with self._lock:
            self.counts[request.method, path] += 1
            status, payload = self._carry_out(request, path, query)
            index = self._index
        body = b"" if request.method == "HEAD" else json.dumps(payload).encode()
        if self._pause:
            time.sleep(self._pause)
        return Answer(status, {**_JSON, "x-etcd-index": str(index)}, body, endpoint)

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _carry_out(
        self, request: Request, path: str, query: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if path.endswith("/"):
            return 200, {"action": "get", "node": self._directory(path)}
        now = self._files.setdefault(path, Version(None, 0))
        if request.method in ("GET", "HEAD"):
            if now.text is None:
                return self._error(404, 100, "Key not found")
            return 200, {"action": "get", "node": _file(path, now)}
        wrong = self._why_not(now, query)
        if wrong is not None:
            return wrong
        new = None
        if request.method == "PUT":
            form = parse_qs((request.body or b"").decode(), keep_blank_values=True)
            new = form["value"][0]
        elif now.text is None:
            return self._error(404, 100, "Key not found")
        self._index += 1
        self._files[path] = after = Version(new, self._index)
        self._ended[path, now.text] = self._clock()
        done = {"action": Parts(request).action}
        return 200, done if new is not None else {**done, "node": _file(path, after)}

    def _directory(self, path: str) -> dict[str, Any]:
        nodes = [
            _file(name, version)
            for name, version in self._files.items()
            if name.startswith(path) and version.text is not None
        ]
        return {"key": path.rstrip("/"), "dir": True, "nodes": nodes}

    def _why_not(
        self, now: Version, query: dict[str, str]
    ) -> tuple[int, dict[str, Any]] | None:
        if query.get("prevExist") == "false" and now.text is not None:
            return self._error(412, 105, "Key already exists")
        index = query.get("prevIndex")
        if index is None:
            return None
        if now.text is None:
            return self._error(404, 100, "Key not found")
        if int(index) != now.index:
            return self._error(412, 101, "Compare failed")
        return None

    def _error(
        self, status: int, code: int, message: str
    ) -> tuple[int, dict[str, Any]]:
        error = {
            "errorCode": code,
            "message": message,
            "cause": "",
            "index": self._index,
        }
        return status, error

    # --- for the test

    def ended(self, path: str, text: str) -> float:
        """Tell when a text was replaced; a time to come if it was not."""
        return self._ended.get((path, text), float("inf"))

    def reads(self, path: str) -> int:
        """Count the reads of a path."""
        with self._lock:
            return self.counts["GET", path] + self.counts["HEAD", path]

    def writes(self, path: str) -> int:
        """Count the writes of a path."""
        with self._lock:
            return self.counts["PUT", path] + self.counts["DELETE", path]


def _file(path: str, version: Version) -> dict[str, Any]:
    file: dict[str, Any] = {"key": path}
    if version.text is not None:
        file["value"] = version.text
    return {**file, "modifiedIndex": version.index, "createdIndex": version.index}

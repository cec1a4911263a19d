"""A client that does what most do: stick to a member, time out, send it again.

Here to prove that the judge finds what it looks for: a PUT that is sent again is not
harmless.  One member at a time, round robin when it fails, 2 x members tries, 1 s for
each.
"""

from __future__ import annotations

import base64
import http.client
import threading
from collections.abc import Mapping
from urllib.parse import quote

from benchmarks.faults.clients import Setup, update_one_by_one
from benchmarks.faults.judge.events import Answer, Line
from benchmarks.faults.judge.history import Level, Op, Outcome

_PATIENCE = 1.0


class Refused(Exception):
    """etcd said no."""


class Unavailable(Exception):
    """No member answered."""


class NaiveSubject:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._at = 0
        self._local = threading.local()
        self._header = ""
        if setup.username is not None:
            pair = f"{setup.username}:{setup.password}".encode()
            self._header = "Basic " + base64.b64encode(pair).decode()

    @property
    def pinned(self) -> str:
        return self._setup.endpoints[self._at]

    def set(self, key: str, value: str) -> None:
        self._send("PUT", key, form=f"value={value}")

    def get(self, key: str) -> str | None:
        query = "?quorum=true" if self._setup.level == "linearizable" else ""
        answer = self._send("GET", key + query)
        return None if answer.status == 404 else str(answer.body["node"]["value"])

    def create(self, key: str, value: str) -> None:
        self._send("PUT", key, form=f"value={value}&prevExist=false")

    def cas(self, key: str, expected: str, value: str) -> None:
        self._send("PUT", key, form=f"value={value}&prevValue={quote(expected)}")

    def delete(self, key: str) -> None:
        self._send("DELETE", key)

    def append(self, directory: str, value: str) -> str:
        body = self._send("POST", directory, form=f"value={value}").body
        return str(body["node"]["key"]).rpartition("/")[2]

    def mkdir(self, key: str) -> None:
        self._send("PUT", key, form="dir=true&prevExist=false")

    def put(self, key: str, value: str) -> None:
        self.set(key, value)

    def lease(self, key: str, value: str, ttl: float) -> None:
        self._send("PUT", key, form=f"value={value}&ttl={ttl:.0f}")

    def refresh(self, key: str, ttl: float) -> None:
        self._send("PUT", key, form=f"refresh=true&prevExist=true&ttl={ttl:.0f}")

    def update(self, values: Mapping[str, str]) -> Mapping[str, Exception | None]:
        return update_one_by_one(self, values)

    def using(self, level: Level) -> NaiveSubject:
        return NaiveSubject(self._setup._replace(level=level))

    def outcome(self, op: Op, error: Exception) -> Outcome:
        if isinstance(error, Refused):
            return "refused"
        return "failed" if op.kind == "get" else "unknown"

    def close(self) -> None:
        pass

    def _send(self, method: str, target: str, form: str | None = None) -> Answer:
        path = f"/v2/keys{self._setup.prefix}/{target}"
        for _ in range(2 * len(self._setup.endpoints)):
            at = self._at
            try:
                answer = self._line(at).ask(method, path, form)
            except (OSError, http.client.HTTPException, ValueError):
                answer = Answer(599, 0, None)
            if answer.status < 500:
                break
            self._at = (at + 1) % len(self._setup.endpoints)
        else:
            raise Unavailable(f"{method} {path}")
        if answer.status >= 400 and (method, answer.status) != ("GET", 404):
            raise Refused(str(answer.body))
        return answer

    def _line(self, at: int) -> Line:
        lines: dict[int, Line] = self._local.__dict__.setdefault("lines", {})
        if at not in lines:
            lines[at] = Line(self._setup.endpoints[at], _PATIENCE, self._header)
        return lines[at]

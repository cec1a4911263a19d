"""Plain HTTP to one etcd, by the standard library: what a server says, unread."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class RawAnswer:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int]:
        """The status, and the errorCode in the body."""
        return self.status, self.json["errorCode"]

    @property
    def index(self) -> int:
        """The index of the store."""
        return int(self.headers["x-etcd-index"])


def ask(
    endpoint: str,
    method: str,
    target: str,
    form: str | None = None,
    headers: dict[str, str] | None = None,
    *,
    warm: bool = False,
    timeout: float = 30,
) -> RawAnswer:
    """Send a request as it is, follow nothing, and give the answer.

    With `warm` it is not the first request of its connection.
    """
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=timeout)
    try:
        if warm:
            connection.request("GET", "/version")
            connection.getresponse().read()
        extra = FORM if form is not None and headers is None else headers or {}
        connection.request(method, target, form, extra)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return RawAnswer(answer.status, fields, answer.read())
    finally:
        connection.close()


class Raw:
    """Requests for keys below a prefix; a path is sent as it is spelt.

    Args:
        endpoint: the member to ask.
        prefix: stands before every path.
    """

    def __init__(self, endpoint: str, prefix: str = "") -> None:
        self.endpoint = endpoint
        self.prefix = prefix

    def __call__(
        self,
        method: str,
        path: str,
        form: str | None = None,
        headers: dict[str, str] | None = None,
        *,
        warm: bool = False,
    ) -> RawAnswer:
        """Send one request; `path` may have a query."""
        target = f"/v2/keys{self.prefix}{path}"
        return ask(self.endpoint, method, target, form, headers, warm=warm)

    def node(self, path: str) -> dict[str, Any]:
        """Read a node that is there."""
        node: dict[str, Any] = self("GET", path).json["node"]
        return node

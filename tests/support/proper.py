"""The answer that etcd would give to a request, for fakes that hold no tree.

Every key is a file (or, where a directory is asked for, an empty one), every
condition is met, and nothing changes by it::

    proper(request, text="v", index=7)
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, unquote

from etcdmap.transport import Answer, Request

#: When the file that is there was last changed.
BEFORE = 3


class Parts:
    """What a request asks for: its key, and its query and form as etcd merges them."""

    def __init__(self, request: Request) -> None:
        path, _, query = request.target.partition("?")
        self.method = request.method
        self.path = unquote(path.removeprefix("/v2/keys"))
        self.key = self.path.rstrip("/")
        self.parameters = {
            name: texts[0]
            for text in (query, (request.body or b"").decode())
            for name, texts in parse_qs(text, keep_blank_values=True).items()
        }

    @property
    def compared(self) -> bool:
        """Whether it names the state that it replaces."""
        return not self.parameters.keys().isdisjoint(("prevIndex", "prevValue"))

    @property
    def action(self) -> str:
        """What etcd calls a success of it."""
        exist = self.parameters.get("prevExist")
        if self.method == "DELETE":
            return "compareAndDelete" if self.compared else "delete"
        if self.method == "POST" or (self.method == "PUT" and exist == "false"):
            return "create"
        if self.method == "PUT":
            if self.compared:
                return "compareAndSwap"
            return "update" if exist == "true" else "set"
        return "set" if self.parameters.get("wait") == "true" else "get"

    @property
    def is_identity(self) -> bool:
        """Whether it asks which cluster it is, and nothing else."""
        return self.parameters.get("wait") == "maybe"

    @property
    def is_contact(self) -> bool:
        """Whether it asks if the member is in touch, and nothing else."""
        return self.key.endswith("/_") and self.parameters.get("quorum") == "true"


def proper(
    request: Request,
    text: str = "v",
    *,
    index: int | None = 7,
    endpoint: str = "",
    **headers: str,
) -> Answer:
    """Answer a request as etcd does."""
    fields = {"content-type": "application/json", **headers}
    if index is not None:
        fields["x-etcd-index"] = str(index)
    status, payload = _said(Parts(request), text, index or 0)
    body = b"" if request.method == "HEAD" else json.dumps(payload).encode()
    return Answer(status, fields, body, endpoint)


def _said(asks: Parts, text: str, index: int) -> tuple[int, dict[str, Any]]:
    if asks.is_identity:
        return 400, {"errorCode": 209, "message": "Invalid field", "cause": ""}
    if asks.is_contact:
        return 404, {"errorCode": 100, "message": "Key not found", "cause": asks.key}
    if asks.method == "PUT" and "noValueOnSuccess" in asks.parameters:
        return 200, {"action": asks.action}
    node = _node(asks, text, index)
    payload: dict[str, Any] = {"action": asks.action, "node": node}
    if asks.method == "DELETE":
        payload["prevNode"] = {**node, "value": text, "modifiedIndex": BEFORE}
    created = asks.action == "create" or asks.action == "set"
    return 201 if created and asks.method != "GET" else 200, payload


def _node(asks: Parts, text: str, index: int) -> dict[str, Any]:
    key, changed = asks.key, BEFORE
    if asks.action != "get":
        changed = max(index, BEFORE)
    if asks.method == "POST":
        key = f"{key}/{changed:020d}"
    node: dict[str, Any] = {"modifiedIndex": changed, "createdIndex": BEFORE}
    if key:  # the root comes without one
        node["key"] = key
    if not key or "dir" in asks.parameters or "recursive" in asks.parameters:
        node["dir"] = True
    elif asks.method != "DELETE":
        node["value"] = text
    return node

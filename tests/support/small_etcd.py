"""A member in memory that answers as etcd's v2 API does: what a good server would say.

Small and quick, so that one can be made for each of thousands of cases.  No time passes
in it, so that nothing expires.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from etcdmap.errors import ExchangeFailed
from etcdmap.transport import Answer, Request

from support.proper import Parts
from support.transports import Instantly

_REASONS = {
    100: (404, "Key not found"),
    101: (412, "Compare failed"),
    102: (403, "Not a file"),
    104: (400, "Not a directory"),
    105: (412, "Key already exists"),
    108: (403, "Directory not empty"),
}
_EXPIRATION = "2040-01-01T00:00:00.5Z"

Raw = dict[str, Any]


class Refused(Exception):
    """What etcd refuses: its code, and the path that this is about."""


class SmallEtcd(Instantly):
    """A `Transport` to one member with a tree.

    Args:
        content: a nested dict of texts; a pair is a text and its ttl.
        prefix: the directory that it is in.
    """

    cluster_id = "cdf818194e3a8c32"

    def __init__(self, content: Mapping[str, Any], prefix: str) -> None:
        self.index = 10
        self._events: list[Raw] = []
        self._root: Raw = {"dir": True, "nodes": {}}
        self._fill(prefix, content)

    def _fill(self, path: str, content: Any) -> None:
        if isinstance(content, Mapping):
            self._make(path, {"dir": True, "nodes": {}})
            for name, value in content.items():
                self._fill(f"{path}/{name}", value)
        elif isinstance(content, tuple):
            self._make(path, _file(*content))
        else:
            self._make(path, _file(content))

    def close(self) -> None:
        """There is no connection."""

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Carry a request out."""
        asks = Parts(request)
        try:
            status, payload = self._carry_out(request, asks)
        except Refused as refused:
            code, path = refused.args
            status, message = _REASONS[code]
            payload = {
                "errorCode": code,
                "message": message,
                "cause": path,
                "index": self.index,
            }
        body = b"" if request.method == "HEAD" else json.dumps(payload).encode()
        headers = {
            "content-type": "application/json",
            "x-etcd-cluster-id": self.cluster_id,
            "x-etcd-index": str(self.index),
            "x-raft-index": "20",
            "x-raft-term": "2",
        }
        return Answer(status, headers, body, endpoint)

    def _carry_out(self, request: Request, asks: Parts) -> tuple[int, Raw]:
        if request.target == "/v2/members":
            member = {"id": "1", "name": "a", "peerURLs": ["http://a:2"]}
            return 200, {"members": [{**member, "clientURLs": ["http://a:1"]}]}
        if asks.is_identity:
            return 400, {"errorCode": 209, "message": "Invalid field", "cause": "wait"}
        if asks.parameters.get("wait") == "true":
            after = int(asks.parameters.get("waitIndex", 1))
            for event in self._events:
                node = event["node"]
                if node["modifiedIndex"] >= after and node["key"] == asks.key:
                    return 200, event
            raise ExchangeFailed("no answer in time", sent=True, timed_out=True)
        if asks.method in ("GET", "HEAD"):
            levels = 99 if asks.parameters.get("recursive") == "true" else 1
            node = _shown(asks.key, self._find(asks.key), levels)
            return 200, {"action": "get", "node": node}
        return self._write(asks)

    def _write(self, asks: Parts) -> tuple[int, Raw]:
        key = asks.key
        if asks.method == "POST":
            key = f"{key}/{self.index + 1:020d}"
        before = self._found(key)
        self._check(asks, key, before)
        payload: Raw = {"action": asks.action}
        if before is not None:
            payload["prevNode"] = _shown(key, before, 0)
        if asks.method == "DELETE":
            self.index += 1
            del self._find(key.rpartition("/")[0])["nodes"][key.rpartition("/")[2]]
            created = before["createdIndex"] if before is not None else 0
            gone = {"createdIndex": created, "modifiedIndex": self.index}
            payload["node"] = {"key": key, **gone}
        else:
            payload["node"] = _shown(key, self._put(asks, key, before), 0)
        self._events.append(payload)
        new = asks.method != "DELETE" and before is None
        if "noValueOnSuccess" in asks.parameters:
            payload = {"action": asks.action}
        return 201 if new else 200, payload

    def _put(self, asks: Parts, key: str, before: Raw | None) -> Raw:
        parameters = asks.parameters
        new: Raw = {"dir": True, "nodes": {}}
        if "dir" not in parameters:
            new = _file(parameters.get("value", ""))
        if "ttl" in parameters:
            new |= {"ttl": int(parameters["ttl"]), "expiration": _EXPIRATION}
        if parameters.get("refresh") == "true" and before is not None:
            new["value"] = before["value"]
        return self._make(key, new, before)

    def _check(self, asks: Parts, key: str, before: Raw | None) -> None:
        exist = asks.parameters.get("prevExist")
        needed = asks.method == "DELETE" or asks.compared or exist == "true"
        if before is None:
            if needed:
                raise Refused(100, key)
            return
        if exist == "false":
            raise Refused(105, key)
        allowed = {"dir", "recursive"} & asks.parameters.keys()
        if "dir" in before and (asks.method == "PUT" or asks.compared or not allowed):
            raise Refused(102, key)
        index, text = str(before["modifiedIndex"]), before.get("value")
        if (
            asks.parameters.get("prevIndex", index) != index
            or asks.parameters.get("prevValue", text) != text
        ):
            raise Refused(101, key)

    # --- the tree

    def _find(self, path: str) -> Raw:
        node = self._root
        for name in path.split("/")[1:]:
            if "nodes" not in node:
                raise Refused(104, path)
            if name not in node["nodes"]:
                raise Refused(100, path)
            node = node["nodes"][name]
        return node

    def _found(self, path: str) -> Raw | None:
        try:
            return self._find(path)
        except Refused as refused:
            if refused.args[0] != 100:
                raise
            return None

    def _make(self, path: str, new: Raw, before: Raw | None = None) -> Raw:
        self.index += 1
        *above, name = path.split("/")[1:]
        node = self._root
        for part in above:
            made = {"dir": True, "nodes": {}, **self._indexes()}
            node = node["nodes"].setdefault(part, made)
        new |= self._indexes()
        if before is not None and "dir" not in before:
            new["createdIndex"] = before["createdIndex"]
        node["nodes"][name] = new
        return new

    def _indexes(self) -> Raw:
        return {"modifiedIndex": self.index, "createdIndex": self.index}


def _file(text: str, ttl: int | None = None) -> Raw:
    expires = {} if ttl is None else {"ttl": ttl, "expiration": _EXPIRATION}
    return {"value": text, **expires}


def _shown(path: str, node: Raw, levels: int) -> Raw:
    """Give a node as etcd shows it, with some levels below it."""
    shown = {"key": path, **copy.copy(node)} if path else copy.copy(node)
    children = shown.pop("nodes", {})
    if children and levels:
        shown["nodes"] = [
            _shown(f"{path}/{name}", child, levels - 1)
            for name, child in sorted(children.items())
            if not name.startswith("_")
        ]
    return shown

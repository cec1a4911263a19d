"""Everything that v2 can do to a subtree, what is above it, and its neighbours."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from etcdmap.paths import UNREADABLE

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(
    endpoint: str, method: str, path: str, query: str = "", **form: object
) -> tuple[int, int, dict[str, Any]]:
    """Send one request; return status, index of the store, and what was answered."""
    url = f"{endpoint}/v2/keys{urllib.parse.quote(path)}{query}"
    body = urllib.parse.urlencode(form).encode() if form else None
    request = urllib.request.Request(url, body, method=method)  # noqa: S310
    try:
        with _opener.open(request, timeout=15) as answer:
            found = json.load(answer)
            return answer.status, int(answer.headers["X-Etcd-Index"]), found
    except urllib.error.HTTPError as error:
        with error:
            index = int(error.headers.get("X-Etcd-Index", 0))
            return error.code, index, json.load(error)


def truth(endpoint: str, path: str) -> tuple[Any, int]:
    """Return etcd's own tree at a path, by the cluster's agreement, and its index."""
    status, index, found = ask(endpoint, "GET", path, "?recursive=true&quorum=true")
    if status == 404 or found.get("errorCode") == 104:
        return None, index
    return _plain(found["node"]), index


def _plain(node: dict[str, Any]) -> Any:
    if not node.get("dir"):
        return node["value"]
    return {
        name: _plain(child)
        for child in node.get("nodes", ())
        if UNREADABLE not in (name := child["key"].rpartition("/")[2])
    }


#: What one step sends: a method, a path below the top, a query and a form.
Operation = tuple[str, str, str, dict[str, object]]

_TTL = {"ttl": 1}


def operations(rng: random.Random, prefix: str) -> Operation:
    """Return some operation in, above or beside the last name of a prefix."""
    top, _, name = prefix.rpartition("/")
    inside = "/".join(
        rng.choices(["a", "b", "c", "_h"], [5, 4, 3, 2], k=rng.randint(1, 3))
    )
    path = rng.choices(
        [
            f"{prefix}/{inside}",
            prefix,
            top,
            f"{top}/{name}2/a",
            f"{top}/{name[:-1]}",
            "/elsewhere",
        ],
        [30, 2, 1, 1, 1, 1],
    )[0]
    value = rng.choice(["1", "2", "", "xyz"])
    kinds: list[Callable[[], Operation]] = [
        lambda: ("PUT", path, "", {"value": value}),
        lambda: ("PUT", path, "", {"value": value}),
        lambda: ("PUT", path, "", {"value": value, "prevExist": "false"}),
        lambda: ("PUT", path, "", {"value": value, "prevExist": "true"}),
        lambda: ("PUT", path, "", {"value": value, "prevValue": "1"}),
        lambda: ("PUT", path, "", {"value": value, **_TTL}),
        lambda: ("PUT", path, "", {"dir": "true"}),
        lambda: ("PUT", path, "", {"dir": "true", "prevExist": "true"}),
        lambda: ("PUT", path, "", {"dir": "true", "prevExist": "false", **_TTL}),
        lambda: ("PUT", path, "", {"dir": "true", "prevExist": "true", **_TTL}),
        lambda: ("PUT", path, "", {"refresh": "true", "prevExist": "true", **_TTL}),
        lambda: ("PUT", path, "", {"refresh": "true", "prevExist": "false", **_TTL}),
        lambda: ("PUT", path, "?noValueOnSuccess=true", {"value": value}),
        lambda: ("POST", path, "", {"value": value}),
        lambda: ("DELETE", path, "", {}),
        lambda: ("DELETE", path, "?prevValue=1", {}),
        lambda: ("DELETE", path, "?dir=true", {}),
        lambda: ("DELETE", path, "?recursive=true", {}),
    ]
    return rng.choice(kinds)()

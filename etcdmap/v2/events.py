"""What an event of a recursive watch means for the tree below a path.

The table of what etcd does and which event that makes is a test, on each version:
``tests/facts/test_events.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etcdmap.errors import InvalidResponse
from etcdmap.paths import UNREADABLE
from etcdmap.tree import Change
from etcdmap.v2.models import Asked

_GONE = {"delete": "delete", "compareAndDelete": "delete", "expire": "expire"}


def index_in(payload: Mapping[str, Any]) -> int:
    """Return the index of an event."""
    index = payload["node"]["modifiedIndex"]
    if type(index) is not int or index < 1:
        raise InvalidResponse("an event whose index is of the wrong type")
    return index


def change_of(payload: Mapping[str, Any], asked: Asked) -> Change | None:
    """Return what an event changes at the path asked for or below; None for nothing."""
    node, root = payload["node"], asked.key.rstrip("/")
    path = node.get("key", "")
    gone = _GONE.get(payload["action"])
    if path != root and f"{root}/".startswith(f"{path}/"):
        # A file in its place needs no look: the root was absent before.
        return Change(gone, root, None, index_in(payload)) if gone else None
    if path != root and not path.startswith(f"{root}/"):
        # History tells the delete of /a to who watches /abc (etcd's event_history.go).
        return None
    shown = _shown_part(root, path)
    index, before = index_in(payload), (payload.get("prevNode") or {}).get("value")
    if gone:
        return Change(gone, path, None, index, before) if shown == path else None
    if shown != path:
        # Of a hidden node only the directories on its way are seen.
        return Change("make_directory", shown, None, index, implied=True)
    if node.get("dir") is True:
        implied = payload["action"] == "update"  # of a ttl: what is inside stays
        return Change("make_directory", path, None, index, implied=implied)
    if type(node.get("value")) is not str:
        raise InvalidResponse("an event of a file whose value is no text")
    return Change("set", path, node["value"], index, before)


def is_left_out(path: str) -> bool:
    """Tell whether a path holds a name that no listing or no key shows."""
    return "/_" in path or UNREADABLE in path


def _shown_part(root: str, path: str) -> str:
    """Return the path, up to the first name that is left out."""
    below = path[len(root) :]
    if not is_left_out(below):  # nearly always
        return path
    for name in below.split("/")[1:]:
        if is_left_out(f"/{name}"):
            break
        root = f"{root}/{name}"
    return root

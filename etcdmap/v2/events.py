"""What an event of a recursive watch means for the tree below a path.

``tests/facts/test_events.py`` has a table of what may happen in etcd and which events
it causes, and tests it on each version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etcdmap.errors import InvalidResponse
from etcdmap.paths import MAX_DEPTH, UNREADABLE
from etcdmap.tree import Change
from etcdmap.v2.models import INDEXES, Asked

_GONE = {"delete": "delete", "compareAndDelete": "delete", "expire": "expire"}
_THERE = frozenset({"set", "create", "update", "compareAndSwap"})


def index_in(payload: Mapping[str, Any]) -> int:
    """Return the index of an event."""
    index = payload["node"]["modifiedIndex"]
    if type(index) is not int or not 0 < index < INDEXES:
        raise InvalidResponse("an event whose index is no number of 64 bits")
    return index


def change_of(payload: Mapping[str, Any], asked: Asked) -> Change | None:
    """Return what an event changes at the watched path or below; None for nothing."""
    path, root = payload["node"].get("key", ""), asked.key.rstrip("/")
    gone = _GONE.get(payload["action"])
    is_inside = f"{path}/".startswith(f"{root}/")
    if not gone and not (is_inside and payload["action"] in _THERE):
        raise InvalidResponse("an event of no action on what is watched")
    if is_inside:
        return _change_inside(payload, root, path, gone)
    # History reports the delete of /a to a watch of /abc (etcd's event_history.go).
    is_above = f"{root}/".startswith(f"{path}/")
    # If a file was written above, nothing changes: the root was absent before.
    return Change(gone, root, None, index_in(payload)) if gone and is_above else None


def _change_inside(
    payload: Mapping[str, Any], root: str, path: str, gone: str | None
) -> Change | None:
    node, index = payload["node"], index_in(payload)
    before = (payload.get("prevNode") or {}).get("value")
    if not _is_clean(path) or (before is not None and type(before) is not str):
        raise InvalidResponse("an event whose key is no path, or with no text before")
    shown = _shown_part(root, path)
    if gone:
        return Change(gone, path, None, index, before) if shown == path else None
    if shown != path:
        # A hidden node is not seen, but the directories above it are.
        return Change("make_directory", shown, None, index, implied=True)
    if node.get("dir") is True:
        implied = payload["action"] == "update"  # of a ttl: the content is kept
        return Change("make_directory", path, None, index, implied=implied)
    if type(node.get("value")) is not str:
        raise InvalidResponse("an event of a file whose value is no text")
    return Change("set", path, node["value"], index, before)


def _is_clean(path: str) -> bool:
    """Tell whether a path has no empty name."""
    return "//" not in path and path[-1:] != "/"


def is_left_out(path: str) -> bool:
    """Tell whether a path contains a name that no listing shows or no key can express.

    A path with more names than a key may have is left out as well: no key could read
    it, and a much deeper tree would exceed Python's recursion limit.
    """
    return "/_" in path or UNREADABLE in path or path.count("/") > MAX_DEPTH


def _shown_part(root: str, path: str) -> str:
    """Return the path, up to the first name that is left out."""
    below = path[len(root) :]
    if not is_left_out(below):  # nearly always
        return path
    for name in below.split("/")[1:MAX_DEPTH]:
        if is_left_out(f"/{name}"):
            break
        root = f"{root}/{name}"
    return root

"""The values that v2's operations take and return: plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from etcdmap.errors import InvalidResponse

#: etcd's indexes are below, as they have 64 bits.
INDEXES = 2**64


class Asked(Protocol):
    """What marks the answer to a request of keys, and to no other; a `KeysRequest`."""

    key: str  # the absolute path; a slash at its end does not matter
    action: str | None  # as in `Result.action`; None for all that a watch may tell
    after: int  # of a write: its index must be higher
    bare: bool  # whether the answer may show no node (``noValueOnSuccess``)
    inside: bool  # whether it shows a new node, right below `key`


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the key tree, as etcd shows it.

    Attributes:
        key: the absolute path.
        value: the text of a file; None for a directory.
        dir: whether it is a directory.
        nodes: the children listed; None where none were listed, which etcd does
            not tell from an empty directory.
        created_index: the index of the creation.
        modified_index: the index of the last change.
        ttl: seconds left, rounded up, or None for ever.  An expired node may be
            seen for half a second more, with a ttl of 0.
        expiration: when it expires, or None.
    """

    key: str
    value: str | None
    dir: bool
    nodes: tuple[Node, ...] | None
    created_index: int
    modified_index: int
    ttl: int | None
    expiration: datetime | None

    def __repr__(self) -> str:
        # Values may be secrets; a node ends up in logs sooner or later.
        kind = "directory" if self.dir else "file"
        return f"<Node {kind} {self.key!r} at index {self.modified_index}>"

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Node:
        """Read a node of an answer, children included.

        Raises:
            InvalidResponse: a field is missing or of the wrong type.
        """
        is_dir: bool = _field(raw, "dir", bool, False)
        children = None
        if raw.get("nodes") is not None:
            children = tuple(cls.from_json(child) for _, child in children_of(raw))
        # The root comes without a key and without indexes.
        return cls(
            key=_field(raw, "key", str, "/"),
            value=None if is_dir else _field(raw, "value", str, None),
            dir=is_dir,
            nodes=children,
            created_index=_index(raw, "createdIndex"),
            modified_index=_index(raw, "modifiedIndex"),
            ttl=ttl_of(raw),
            expiration=_time(raw.get("expiration")),
        )


def children_of(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and JSON of each child that a node shows; refuse what is none."""
    listed = raw.get("nodes")
    if listed is None:
        return
    if type(listed) is not list:
        raise InvalidResponse(f"a node whose nodes is of type {type(listed).__name__}")
    directory = raw.get("key", "").rstrip("/")
    try:
        for child in listed:
            yield name_below(directory, child["key"]), child
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidResponse("a node whose nodes are not all nodes") from error


def name_below(directory: str, path: str) -> str:
    """Return the name of a child; InvalidResponse if it is none."""
    above, _, name = path.rpartition("/")
    if above != directory or not name:
        raise InvalidResponse("a node that is no child of its directory")
    return name


def _field(raw: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = raw.get(name, default)
    if value is not default and type(value) is not kind:
        raise InvalidResponse(f"a node whose {name} is of type {type(value).__name__}")
    return value


def _index(raw: Mapping[str, Any], name: str) -> int:
    index: int = _field(raw, name, int, 0)
    if not 0 <= index < INDEXES:
        raise InvalidResponse(f"a node whose {name} is no number of 64 bits")
    return index


def ttl_of(raw: Mapping[str, Any]) -> int | None:
    """Return the seconds that a node has left; 0 if it has expired, None for ever."""
    ttl = raw.get("ttl")
    if ttl is None:
        # A node that has expired is shown for half a second more, with a ttl below 0,
        # or of 0, which etcd leaves out.
        expiration = raw.get("expiration")
        if expiration is not None and type(expiration) is not str:
            raise InvalidResponse("a node whose expiration is no text")
        return None if expiration is None else 0
    if type(ttl) is not int or ttl >= 2**63:
        raise InvalidResponse("a node whose ttl is no number of 64 bits")
    return max(ttl, 0)


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidResponse("a node whose expiration is no text")
    # Go writes nanoseconds; Python 3.10 reads three or six digits, no 'Z'.
    seconds, _, fraction = text.rstrip("Z").partition(".")
    with suppress(ValueError):
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    # Not within the `except` of that error, which quotes the text, however long it is.
    raise InvalidResponse("a node whose expiration is no time")


@dataclass(frozen=True, slots=True)
class Result:
    """What etcd answered to one operation on a key.

    Attributes:
        action: what was done: ``get``, ``set``, ``create``, ``update``,
            ``compareAndSwap``, ``delete``, ``compareAndDelete``, ``expire``.
        node: the node after it; None with ``no_value_on_success``.
        prev_node: the node before it, if there was one.
        etcd_index: the index of the store at that time (``X-Etcd-Index``).
        raft_index: the index of the raft log, or None on an error.
        raft_term: the term of the raft log, or None on an error.
        cluster_id: the id of the cluster, or None where it was not sent.
    """

    action: str
    node: Node | None
    prev_node: Node | None
    etcd_index: int
    raft_index: int | None
    raft_term: int | None
    cluster_id: str | None

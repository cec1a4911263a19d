"""The values that v2's operations return, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from etcdmap.errors import InvalidResponse

#: All of etcd's indexes are smaller than this, because they have 64 bits.
INDEXES = 2**64


class Asked(Protocol):
    """What an answer must agree with, to be the answer to a certain `KeysRequest`."""

    key: str  # the absolute path; a slash at its end does not matter
    action: str | None  # as in `Result.action`; None for all actions of a watch
    after: int  # the index in the answer to a write must be higher
    bare: bool  # whether the answer may show no node (``noValueOnSuccess``)
    inside: bool  # whether the answer shows a new node, right below `key`


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the key tree, as etcd shows it.

    Attributes:
        key: the absolute path.
        value: the text of a file; None for a directory.
        dir: whether the node is a directory.
        nodes: the children that were listed.  None if no children were listed, and also
            for an empty directory, because etcd's answers don't tell the difference.
        created_index: the index at which the node was created.
        modified_index: the index of the node's last change.
        ttl: seconds until the node expires, rounded up; None if it never expires.  An
            expired node may still be seen for half a second, with a ttl of 0.
        expiration: the time when the node expires; None if it never expires.
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
        """Read a node from an answer, with its children.

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
    """Yield the name and JSON of each child of a node; refuse what can't be a child."""
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
    """Return the name of a child; raise InvalidResponse if it is no child."""
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
    """Return the seconds until a node expires; 0 if it has, None if it never does."""
    ttl = raw.get("ttl")
    if ttl is None:
        # A node that has expired may still be shown for half a second.  Its ttl is then
        # below 0, or it is 0, which etcd leaves out.
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
    # Go writes nanoseconds and a 'Z'; Python 3.10 reads only three or six digits.
    seconds, _, fraction = text.rstrip("Z").partition(".")
    with suppress(ValueError):
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    # Outside of the `except`: its error quotes the whole text, however long that is.
    raise InvalidResponse("a node whose expiration is no time")


@dataclass(frozen=True, slots=True)
class Result:
    """What etcd answered to one operation on a key.

    Attributes:
        action: the operation: ``get``, ``set``, ``create``, ``update``,
            ``compareAndSwap``, ``delete``, ``compareAndDelete``, ``expire``.
        node: the node after the operation; None with ``no_value_on_success``.
        prev_node: the node before the operation, if there was one.
        etcd_index: the index of the store at that time (``X-Etcd-Index``).
        raft_index: the index of the raft log, or None if etcd did not send it.
        raft_term: the term of the raft log, or None if etcd did not send it.
        cluster_id: the id of the cluster, or None if etcd did not send it.
    """

    action: str
    node: Node | None
    prev_node: Node | None
    etcd_index: int
    raft_index: int | None
    raft_term: int | None
    cluster_id: str | None

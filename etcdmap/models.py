"""The values that pass between the layers.

Everything here is plain data: no I/O, no knowledge of how it was fetched.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from etcdmap.errors import InvalidResponse

T = TypeVar("T")


class Resend(enum.Enum):
    """Whether a request may be sent again after it may have been received."""

    #: Carrying it out twice is the same as once: reads.
    ALWAYS = "always"
    #: At most one of its copies can be carried out, since each names the state
    #: that it replaces; but which answer belongs to which copy must be settled.
    FENCED = "fenced"
    #: Only while it is certain that no server has seen it: other writes.
    IF_NOT_SENT = "if not sent"


@dataclass(slots=True, repr=False)
class Answer:
    """One HTTP answer, read to its end.

    Header names are in lower case.  Not frozen: who has read a large body lets go
    of it, since the text, what is made of it and the body are large together.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: str
    _index: int = field(default=-1, init=False, compare=False)

    def __repr__(self) -> str:
        # The body holds values.
        return f"<Answer {self.status} of {self.endpoint}, {len(self.body)} bytes>"

    @property
    def index(self) -> int:
        """The index of the store (``X-Etcd-Index``); 0 where none is told."""
        if self._index < 0:  # it is asked for three times
            self._index = self.number("x-etcd-index") or 0
        return self._index

    def number(self, name: str) -> int | None:
        """Return the number in a header; None if there is none."""
        text = self.headers.get(name, "")
        # int() would also read signs, spaces, underscores and other scripts' digits;
        # and 20 digits are more than etcd's 64 bits take.
        usable = text.isdigit() and text.isascii() and len(text) <= 20
        return int(text) if usable else None


class Asked(NamedTuple):
    """What a request asks for, so that no answer to something else is taken for its.

    Attributes:
        key: the absolute path; a slash at its end does not matter.
        action: what a success says was done, as in `Result.action`; None for
            whatever a watch may tell.
        after: of a write, an index that its own must be above: that of the state
            replaced, and all seen before.
        bare: whether the answer may show no node (``noValueOnSuccess``).
        inside: whether the node is a new one, right below `key`.
    """

    key: str
    action: str | None = "get"
    after: int = 0
    bare: bool = False
    inside: bool = False

    def is_meant_by(self, cause: str) -> bool:
        """Tell whether a refusal may be about what was asked: it or a node above."""
        path, refused = self.key.rstrip("/"), cause.rstrip("/")
        return cause[:1] != "/" or f"{path}/".startswith(f"{refused}/")

    def is_shown_by(self, node: Mapping[str, Any]) -> bool:
        """Tell whether a node, as etcd shows it, is one that was asked for."""
        path = self.key.rstrip("/")
        shown = node.get("key", "")  # the root comes without one
        if shown == path:
            return not self.inside
        if not isinstance(shown, str):
            return False
        if shown == "/" and not path:  # as some servers give the root's
            return not self.inside
        if self.inside:
            return shown.rpartition("/")[0] == path and not shown.endswith("/")
        # A watch tells of what is below, of the end of a directory above, and, out of
        # history, of one whose name only begins like the path's.
        return self.action is None and (
            shown.startswith(f"{path}/") or path.startswith(shown)
        )


@dataclass(slots=True, eq=False)
class Request(Generic[T]):
    """One request to whichever endpoint answers.

    Not frozen, unlike the other models: one is made for every call, and a
    frozen dataclass takes three times as long to make.

    Attributes:
        method: the HTTP method.
        target: path and query, quoted, as they go on the wire.
        read: turns an answer into the result.  Raises ServerError for what etcd
            refused and InvalidResponse for what is not etcd's.
        body: a URL-encoded form, or None.
        resend: whether it may be sent again after it may have been received.
        kind: requests of one kind take about the same time: "get", "list",
            "write", "quorum".
        consistency: for a read: "session", "linearizable" (then it is asked with
            a quorum), or "any".
        patient: whether its answer is late by design, as a watch's is.
        key: the absolute path asked for, for messages.
    """

    method: str
    target: str
    read: Callable[[Answer], T]
    body: bytes | None = None
    resend: Resend = Resend.IF_NOT_SENT
    kind: str = "write"
    consistency: str = "any"
    patient: bool = False
    key: str | None = None

    def __repr__(self) -> str:
        # The query and the body hold values; neither may reach a log.
        return f"<Request {self.method} {self.target.partition('?')[0]}>"


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
            seen for half a second more, with a ttl of 0 or below.
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
        is_dir = raw.get("dir") is True
        children = None
        if raw.get("nodes") is not None:
            children = tuple(cls.from_json(child) for _, child in children_of(raw))
        # The root comes without a key and without indexes.
        return cls(
            key=_field(raw, "key", str, "/"),
            value=None if is_dir else _field(raw, "value", str, None),
            dir=is_dir,
            nodes=children,
            created_index=_field(raw, "createdIndex", int, 0),
            modified_index=_field(raw, "modifiedIndex", int, 0),
            ttl=_field(raw, "ttl", int, None),
            expiration=_time(raw.get("expiration")),
        )


def children_of(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return name and JSON of each child that a node shows.

    Raises:
        InvalidResponse: they are no list of nodes, or one is no child of its
            directory.
    """
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


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidResponse("a node whose expiration is no text")
    # Go writes nanoseconds; Python 3.10 reads three or six digits, no 'Z'.
    seconds, _, fraction = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    except ValueError as error:
        raise InvalidResponse("a node whose expiration is no time") from error


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

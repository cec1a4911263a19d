"""Turn v2's answers into what a store returns: files, directories, fences, indexes.

The readers work directly on the JSON, so that a listing of 10,000 keys is walked only
once.  An answer of a wrong shape raises `InvalidResponse`.
"""

from __future__ import annotations

from typing import Any

from etcdmap.errors import InvalidResponse, KeyNotFound, NotAFile
from etcdmap.paths import name_of
from etcdmap.transport import Answer
from etcdmap.tree import Directory, Fence, File
from etcdmap.v2.models import INDEXES, Asked, children_of, ttl_of
from etcdmap.v2.responses import (
    index_of,
    known_index,
    payload_of,
    presence_from_body,
    refusal_of,
    says_absent,
)

#: What etcd answers to a write with noValueOnSuccess, by action.
_BARE: dict[str | None, bytes] = {
    action: b'{"action":"%s"}\n' % action.encode()
    for action in ("set", "create", "update", "compareAndSwap")
}


def index_of_write(asked: Asked, answer: Answer) -> int:
    """Read the index of a write."""
    # For the answer to most writes, comparing bytes is enough, and quicker than JSON.
    plain = answer.status in (200, 201) and answer.body == _BARE.get(asked.action)
    if not (plain and asked.bare and known_index(answer) > asked.after):
        payload_of(asked, answer)
    return index_of(answer)


def index_of_read(asked: Asked, answer: Answer) -> int:
    """Read the index of the store from a GET, whether or not the node is there."""
    presence_from_body(asked, answer)  # a 404 from etcd has the index, too
    return index_of(answer)


def name_of_new(asked: Asked, answer: Answer) -> str:
    """Read the name that a POST gave to its node."""
    return name_of(payload_of(asked, answer)["node"]["key"])


def node_of(asked: Asked, answer: Answer) -> tuple[File | Directory, int]:
    """Read one node, without its children, and the index of the store."""
    raw = payload_of(asked, answer)["node"]
    index = index_of(answer)
    if raw.get("dir") is True:
        return Directory({}, ttl_of(raw)), index
    return _file(raw), index


def fence_of(asked: Asked, answer: Answer) -> Fence:
    """Read the state of a file; if the file is absent, this is a state as well."""
    if answer.status == 404:
        if not says_absent(asked, answer):  # otherwise, no exception need be made
            error = refusal_of(asked, answer)
            if not isinstance(error, KeyNotFound):
                raise error
        return Fence(index_of(answer), absent=True)
    node, _ = node_of(asked, answer)
    if isinstance(node, Directory):
        raise NotAFile("a directory is there", key=asked.key)
    return Fence(node.modified_index)


def listing_of(asked: Asked, answer: Answer) -> File | Directory:
    """Read a file, or a directory with the nodes that are listed below it."""
    raw = payload_of(asked, answer)["node"]
    index = index_of(answer)
    node = _node(raw)
    return node._replace(etcd_index=index) if isinstance(node, Directory) else node


def _node(raw: dict[str, Any]) -> File | Directory:
    if raw.get("dir") is not True:
        return _file(raw)
    children = {name: _node(child) for name, child in children_of(raw)}
    return Directory(children, ttl_of(raw))


def _file(raw: dict[str, Any]) -> File:
    text, index = raw["value"], raw["modifiedIndex"]
    if type(text) is not str or type(index) is not int or not 0 < index < INDEXES:
        raise InvalidResponse("a file whose value or index is of the wrong type")
    # Nearly always, neither of the two is there.
    expires = "ttl" in raw or "expiration" in raw
    return File(text, index, ttl_of(raw) if expires else None)

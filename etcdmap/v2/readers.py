"""What a store makes of v2's answers: files, directories, fences, indexes.

The readers work straight on the JSON, so that a listing of 10,000 keys is walked
once.  What is wrong with its shape ends as `InvalidResponse`.
"""

from __future__ import annotations

import re
from typing import Any

from etcdmap.errors import InvalidResponse, KeyNotFound, NotAFile
from etcdmap.paths import name_of
from etcdmap.transport import Answer
from etcdmap.tree import Directory, Fence, File
from etcdmap.v2.models import INDEXES, Asked, children_of, ttl_of
from etcdmap.v2.responses import (
    index_of,
    is_meant_by,
    payload_of,
    presence_from_body,
    refusal_of,
)

_match_absent = re.compile(
    rb'\{"errorCode":100,"message":"Key not found","cause":"([^"\\]*)",'
).match


def index_of_write(asked: Asked, answer: Answer) -> int:
    """Read the index of a write."""
    payload_of(asked, answer)
    return index_of(answer)


def index_of_read(asked: Asked, answer: Answer) -> int:
    """Read the index of the store from a GET, whether the node is there or not."""
    presence_from_body(asked, answer)  # also 404 has the index, if it is etcd's
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
    """Read the state of a file; that it is absent is an answer like others."""
    if answer.status == 404:
        # Every new key meets this before its first write.  A pattern is quicker than
        # JSON and an exception, and fits what all versions of etcd write.
        plain = _match_absent(answer.body)
        if plain is None or not is_meant_by(asked, plain[1].decode()):
            error = refusal_of(asked, answer)
            if not isinstance(error, KeyNotFound):
                raise error
        return Fence(index_of(answer), absent=True)
    node, _ = node_of(asked, answer)
    if isinstance(node, Directory):
        raise NotAFile("a directory is there", key=asked.key)
    return Fence(node.modified_index)


def listing_of(asked: Asked, answer: Answer) -> File | Directory:
    """Read a file, or a directory with what is listed below it."""
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
    return File(text, index, ttl_of(raw))

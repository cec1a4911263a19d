"""Files and directories as the dict layer sees them, and how to read them.

The readers work straight on the JSON, so that a listing of 10,000 keys is walked
once.  What is wrong with its shape ends as `InvalidResponse`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from etcdmap.answers import error_of, index_of, payload_of, presence_from_body
from etcdmap.errors import DecodeError, InvalidResponse, KeyNotFound, NotAFile
from etcdmap.models import Answer, Asked, children_of
from etcdmap.paths import UNREADABLE, name_of

T = TypeVar("T")

# What was warned of already.
_warned: set[str] = set()


class UnreadableName(UserWarning):
    """A listing leaves out a name to which no key leads: it may not be UTF-8."""


class File(NamedTuple):
    """A file node: its text, the index of its last change, seconds left."""

    text: str
    modified_index: int
    ttl: int | None


class Directory(NamedTuple):
    """A directory node: its visible children by name, and seconds left.

    A subdirectory in a listing that is not recursive shows no children.
    """

    children: dict[str, Any]  # name -> File | Directory; mypy can't recurse here
    ttl: int | None
    #: The index of the store at that moment; of the top of a listing only.
    etcd_index: int = 0


class Snapshot(NamedTuple):
    """A subtree as one moment showed it.

    Attributes:
        content: a plain nested dict.
        etcd_index: the index of the store at that moment.
    """

    content: dict[str, Any]
    etcd_index: int


class Fence(NamedTuple):
    """The state of a file that a write replaces.

    Attributes:
        modified_index: the index of its last change; 0 if it is absent.
        since: the index of the store when it was seen to be absent, or 0.
    """

    modified_index: int
    since: int = 0


_ABSENT = b'{"errorCode":100,"message":"Key not found",'


def index_of_write(asked: Asked, answer: Answer) -> int:
    """Read the answer to a write: its index."""
    payload_of(asked, answer)
    return index_of(answer)


def index_of_read(asked: Asked, answer: Answer) -> int:
    """Read the index of the store from a GET, whether the node is there or not."""
    presence_from_body(asked, answer)  # a 404 of etcd's tells the index as well
    return index_of(answer)


def name_of_new(asked: Asked, answer: Answer) -> str:
    """Read the name that a POST gave to its node."""
    return name_of(payload_of(asked, answer)["node"]["key"])


def node_of(asked: Asked, answer: Answer) -> tuple[File | Directory, int]:
    """Read one node, without its children, and the index of the store."""
    raw = payload_of(asked, answer)["node"]
    index = index_of(answer)
    if raw.get("dir") is True:
        return Directory({}, _ttl(raw)), index
    return _file(raw), index


def fence_of(asked: Asked, answer: Answer) -> Fence:
    """Read the state of a file; that it is absent is an answer like others.

    Raises:
        NotAFile: a directory is there.
    """
    if answer.status == 404:
        # Met before the first write of every new key: no JSON and no exception if
        # it looks as etcd has always written it.
        if not answer.body.startswith(_ABSENT):
            error = error_of(asked.key, answer)
            if not isinstance(error, KeyNotFound):
                raise error
        return Fence(0, index_of(answer))
    node, _ = node_of(asked, answer)
    if isinstance(node, Directory):
        raise NotAFile("a directory is there", code=102, key=asked.key)
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
    return Directory(children, _ttl(raw))


def _file(raw: dict[str, Any]) -> File:
    text, index = raw["value"], raw["modifiedIndex"]
    if type(text) is not str or type(index) is not int:
        raise InvalidResponse("a file whose value or index is of the wrong type")
    return File(text, index, _ttl(raw))


def _ttl(raw: dict[str, Any]) -> int | None:
    ttl = raw.get("ttl")
    if ttl is None:
        # A node that has expired is shown for half a second more, with a ttl of
        # 0, which etcd leaves out.
        return 0 if "expiration" in raw else None
    if type(ttl) is not int:
        raise InvalidResponse("a node whose ttl is no number")
    return ttl


def warn_left_out(path: str) -> None:
    """Say that a node is left out of a listing; once."""
    if path in _warned:
        return
    if len(_warned) < 1000:  # then they are shown again, which is right by then
        _warned.add(path)
    why = (
        "holds bytes that are not UTF-8, so no key leads to it; keys_api can delete "
        "its directory"
        if UNREADABLE in name_of(path)
        else "is not how escape_keys spells any key; a mapping without escape_keys, "
        "or keys_api, reaches it"
    )
    warnings.warn(
        f"left out of the listing: {path!r} {why}", UnreadableName, stacklevel=1
    )


def decode_node(path: str, text: str, decode: Callable[[str], T]) -> T:
    """Decode the text of a file; an error names the key.

    A codec of the user's may raise anything; a KeyError that got out of it
    would read as "absent".
    """
    if type(text) is not str:
        raise InvalidResponse("a file whose value is no text")
    try:
        return decode(text)
    except Exception as error:
        why = f"the codec failed with {type(error).__name__}"
        if isinstance(error, DecodeError):
            why = str(error.args[0])
        raise DecodeError(why, key=path) from error

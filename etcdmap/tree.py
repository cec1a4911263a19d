"""The narrow way through which mappings reach etcd: nodes, texts and indexes.

`Tree` is what the dict layer knows of a store.  It shows no HTTP and no v2
parameters, so that another implementation can stand behind the same mappings.
`V2Tree` implements it on etcd's v2 keys.

Paths are absolute.  One with a trailing slash names the directory that a
mapping stands on: with v2 auth, a role for ``/app/*`` may list ``/app/`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from etcdmap.answers import index_of, payload_of
from etcdmap.errors import DecodeError, InvalidResponse, KeyNotFound, NotADirectory
from etcdmap.keys import KeysAPI, spell_form, spell_query
from etcdmap.models import Answer
from etcdmap.paths import name_of

T = TypeVar("T")


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


class Snapshot(NamedTuple):
    """A subtree as one moment showed it.

    Attributes:
        content: a plain nested dict, or one decoded value for a file.
        etcd_index: the index of the store at that moment.
    """

    content: Any
    etcd_index: int


class Expect(NamedTuple):
    """The state that a write replaces; anything else fails the write."""

    #: Whether a node is there; None if it does not matter.
    present: bool | None = None
    #: The index of the last change of the file.
    modified_index: int | None = None


ANYTHING = Expect()
ABSENT = Expect(present=False)
PRESENT = Expect(present=True)


class Tree(Protocol):
    """A store of files and directories.

    A path that can't be read because nothing is there raises KeyNotFound; so
    does one below a file, then with code 104.
    """

    def get(self, path: str, *, recursive: bool = False) -> File | Directory:
        """Read a file, or list a directory.  1 request."""
        ...

    def read(self, path: str, decode: Callable[[str], Any]) -> Snapshot:
        """Read a whole subtree as plain values.  1 request, atomic."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a node.  1 request, 2 if unclear."""
        ...

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        expect: Expect = ANYTHING,
    ) -> int:
        """Write a file and give its index.  1 request, atomic.

        Raises:
            NotAFile: a directory stands there.
            NotADirectory: a file stands on the way.
            KeyExists, KeyNotFound, CompareFailed: not as expected.
        """
        ...

    def delete(self, path: str, *, modified_index: int | None = None) -> None:
        """Delete whatever is there, or the file with that index.  1 request."""
        ...

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """Make a directory; in place of a file with `replace`.  1 request.

        Raises:
            KeyExists: something is there (without `replace`).
            NotAFile: a directory is there (with `replace`).
        """
        ...


class V2Tree:
    """A `Tree` on etcd's v2 keys."""

    def __init__(self, keys: KeysAPI) -> None:
        self.keys = keys

    def get(self, path: str, *, recursive: bool = False) -> File | Directory:
        """See `Tree.get`."""
        query = "?recursive=true" if recursive else ""
        try:
            return self.keys.fetch(path, query, _node_of)
        except NotADirectory as error:
            raise _absent_below_file(error) from error

    def read(self, path: str, decode: Callable[[str], Any]) -> Snapshot:
        """See `Tree.read`."""
        try:
            return self.keys.fetch(
                path, "?recursive=true", partial(_snapshot_of, decode)
            )
        except NotADirectory as error:
            raise _absent_below_file(error) from error

    def exists(self, path: str) -> bool:
        """See `Tree.exists`."""
        return self.keys.exists(path)

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        expect: Expect = ANYTHING,
    ) -> int:
        """See `Tree.put`."""
        query = "?noValueOnSuccess=true"
        if expect.present is not None:
            query += f"&prevExist={'true' if expect.present else 'false'}"
        if expect.modified_index is not None:
            query += f"&prevIndex={expect.modified_index}"
        # With noValueOnSuccess the header is the index of this very write.
        return self.keys.store(
            "PUT", path, query, spell_form(text, ttl), _index_of_write
        )

    def delete(self, path: str, *, modified_index: int | None = None) -> None:
        """See `Tree.delete`."""
        query = "?recursive=true"
        if modified_index is not None:
            query = f"?prevIndex={modified_index}"
        self.keys.store("DELETE", path, query, None, _index_of_write)

    def make_directory(
        self, path: str, *, ttl: float | None = None, replace: bool = False
    ) -> None:
        """See `Tree.make_directory`."""
        query = spell_query(dir=True, prevExist=None if replace else False)
        self.keys.store("PUT", path, query, spell_form(None, ttl), _index_of_write)


def _absent_below_file(error: NotADirectory) -> KeyNotFound:
    return KeyNotFound(
        "a file stands on the way to this key",
        code=error.code,
        cause=error.cause,
        etcd_index=error.etcd_index,
        endpoint=error.endpoint,
        key=error.key,
    )


# --- reading answers: straight from the JSON, for listings of 10,000 keys ---


def _index_of_write(key: str, answer: Answer) -> int:
    payload_of(key, answer)["action"]
    return index_of(answer)


def _node_of(key: str, answer: Answer) -> File | Directory:
    index_of(answer)
    return _node(payload_of(key, answer)["node"])


def _node(raw: dict[str, Any]) -> File | Directory:
    ttl = raw.get("ttl")
    if ttl is not None and type(ttl) is not int:
        raise InvalidResponse("a node whose ttl is no number")
    if raw.get("dir") is True:
        children = {
            name_of(child["key"]): _node(child) for child in raw.get("nodes", ())
        }
        return Directory(children, ttl)
    text, index = raw["value"], raw["modifiedIndex"]
    if type(text) is not str or type(index) is not int:
        raise InvalidResponse("a file whose value or index is of the wrong type")
    return File(text, index, ttl)


def _snapshot_of(decode: Callable[[str], Any], key: str, answer: Answer) -> Snapshot:
    index = index_of(answer)
    return Snapshot(_plain(payload_of(key, answer)["node"], decode), index)


def _plain(raw: dict[str, Any], decode: Callable[[str], Any]) -> Any:
    if raw.get("dir") is not True:
        return decode_node(raw["key"], raw["value"], decode)
    content = {}
    for child in raw.get("nodes", ()):
        key = child["key"]
        if "dir" in child:
            content[name_of(key)] = _plain(child, decode)
        else:
            content[name_of(key)] = decode_node(key, child["value"], decode)
    # etcd lists in an order of chance; sorting here beats sorted=true there.
    return dict(sorted(content.items()))


def decode_node(path: str, text: str, decode: Callable[[str], T]) -> T:
    """Decode the text of a file; an error names the key.

    A codec of the user's may raise anything; a KeyError that got out of it
    would read as "absent".
    """
    if type(text) is not str:
        raise InvalidResponse("a file whose value is no text")
    try:
        return decode(text)
    except DecodeError as error:
        raise DecodeError(str(error.args[0]), key=path) from error
    except Exception as error:
        raise DecodeError(
            f"the codec failed with {type(error).__name__}", key=path
        ) from error

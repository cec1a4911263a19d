"""What every kind of mapping stands on: a client, a directory, a codec."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

from etcdmap.client import Client
from etcdmap.codecs import Codec, encode_text, get_codec
from etcdmap.errors import KeyNotFound, NotADirectory, ReadOnly
from etcdmap.keys import KeysAPI
from etcdmap.paths import clean_prefix, readable, writable
from etcdmap.tree import Directory, File, Tree, V2Tree, decode_node

H = TypeVar("H", bound="Handle")

#: etcd's code for a file where a directory is needed.
NOT_A_DIRECTORY = 104


class Handle:
    """A directory of etcd, held through a client.

    The base of the mappings: which node a key names, how a value is stored, who
    closes the client.  Sends no request of its own.
    """

    def __init__(
        self,
        client: Client,
        prefix: str | None,
        *,
        owner: bool,
        codec: str | Codec,
        readonly: bool,
    ) -> None:
        self._client = client
        self._tree: Tree = V2Tree(KeysAPI(client))
        self._codec = get_codec(codec)
        self._root = clean_prefix("" if prefix is None else prefix)
        self._whole_cluster = prefix is None
        self._owner = owner
        self._readonly = readonly

    @property
    def prefix(self) -> str:
        """The absolute path of the directory that this mapping stands on."""
        return self._root or "/"

    @property
    def client(self) -> Client:
        """The failover client, shared with all sub-mappings."""
        return self._client

    @property
    def keys_api(self) -> KeysAPI:
        """The operations of etcd itself, on absolute paths, over the same client."""
        return KeysAPI(self._client)

    @property
    def readonly(self) -> bool:
        """Whether writes are refused."""
        return self._readonly

    def sub(self: H, key: str) -> H:
        """Give the mapping on a subdirectory, whether it exists or not.

        Raises:
            InvalidKey: no directory can have this name.

        Cost: no request.
        """
        return self._sub(writable(self._root, key))

    def _sub(self: H, path: str) -> H:
        # A copy, not a new one: a subclass may have any constructor.
        child = object.__new__(type(self))
        child.__dict__.update(self.__dict__)
        child._root = path
        child._whole_cluster = False
        child._owner = False
        return child

    def close(self) -> None:
        """Close the connections, if this mapping made the client.

        Sub-mappings share the client and leave it open.
        """
        if self._owner:
            self._client.close()

    def __enter__(self: H) -> H:
        """Give the mapping; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the mapping."""
        self.close()

    def __repr__(self) -> str:
        """Show prefix and endpoints; sends no request."""
        endpoints = list(self._client.endpoints)
        return f"{type(self).__name__}({endpoints}, prefix={self.prefix!r})"

    # --- for the layers above

    def _readable(self, key: object) -> str:
        """Give the path of a key; KeyNotFound if no node can have it."""
        path = readable(self._root, key)
        if path is None:
            raise absent(key)
        return path

    def _check_writable(self) -> None:
        if self._readonly:
            raise ReadOnly("this mapping is read-only; nothing was sent")

    def _encode(self, value: Any) -> str:
        return encode_text(self._codec, value)

    def _value(self, path: str, node: File | Directory) -> Any:
        """Give a value, or a mapping on a directory."""
        if isinstance(node, File):
            return decode_node(path, node.text, self._codec.decode)
        return self._sub(path)

    def _plain(self, path: str, node: File | Directory) -> Any:
        """Give a node that was listed whole as plain values."""
        if isinstance(node, File):
            return decode_node(path, node.text, self._codec.decode)
        return {
            name: self._plain(f"{path}/{name}", node.children[name])
            for name in sorted(node.children)
        }

    def _not_a_directory(self) -> NotADirectory:
        return NotADirectory(
            "this mapping's directory is a file now",
            code=NOT_A_DIRECTORY,
            key=self.prefix,
        )


def absent(key: object, why: str = "no node can have this key") -> KeyNotFound:
    """Give the KeyError of a dict: with the caller's own key."""
    error = KeyNotFound(why)
    error.args = (key,)
    return error

"""What every kind of mapping stands on: a client, a directory, a codec."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

from etcdmap import plan
from etcdmap.cache import CacheInfo
from etcdmap.client import Client
from etcdmap.codecs import Codec, encode_text, get_codec
from etcdmap.endpoints import positive_seconds
from etcdmap.errors import (
    CompareFailed,
    EtcdMapError,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    PrefixRequired,
    ReadOnly,
)
from etcdmap.keys import KeysAPI
from etcdmap.nodes import Directory, Expect, File, decode_node
from etcdmap.parameters import check_text, whole_seconds
from etcdmap.paths import ESCAPED, PLAIN, Naming, clean_prefix
from etcdmap.tree import Tree
from etcdmap.v2tree import V2Tree

H = TypeVar("H", bound="Handle")

#: etcd's code for a file where a directory is needed.
NOT_A_DIRECTORY = 104

#: In place of a default that was not given.
MISSING: Any = object()


class Handle:
    """A directory of etcd, held through a client.

    The base of the mappings: which node a key names, how a value is stored, who
    closes the client.  Sends no request of its own.
    """

    # All of it is shared with sub-mappings and views, but for root and owner.
    _client: Client
    _tree: Tree
    _codec: Codec
    _naming: Naming
    _root: str
    _whole_cluster: bool
    _owner: bool
    _readonly: bool

    def _stand_on(
        self,
        client: Client,
        prefix: str | None,
        *,
        owner: bool,
        codec: str | Codec,
        consistency: str,
        escape_keys: bool,
        readonly: bool,
    ) -> None:
        self._client = client
        self._tree = V2Tree(KeysAPI(client), consistency)
        self._codec = get_codec(codec)
        self._naming = ESCAPED if escape_keys else PLAIN
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
        return self._sub(self._naming.writable(self._root, key))

    def using(
        self: H,
        *,
        consistency: str | None = None,
        timeout: float | None = None,
        codec: str | Codec | None = None,
    ) -> H:
        """Give the same mapping with other options.

        Args:
            consistency: what reads promise.  ``"session"``, the default: they never
                go back in time, always see this client's own writes, and show
                nothing older than ``max_stale`` seconds; if no member can prove
                that, they fail.  With the cache: own writes at once, others'
                within ``cache_ttl``.  ``"linearizable"``: the cluster agrees on
                each read, which costs a round of raft and passes the cache by.
                ``"any"``: whatever the member in use says.
            timeout: deadline of each request, seconds.
            codec: as for `EtcdMapping`.

        Cost: no request.
        """
        view = self._share(self._root)
        view._whole_cluster = self._whole_cluster
        if codec is not None:
            view._codec = get_codec(codec)
        if timeout is not None:
            timeout = positive_seconds("timeout", timeout)
        view._tree = self._tree.using(consistency=consistency, timeout=timeout)
        return view

    def _sub(self: H, path: str) -> H:
        child = self._share(path)
        child._whole_cluster = False
        return child

    def _share(self: H, path: str) -> H:
        # A copy, not a new one: a subclass may have any constructor.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._root = path
        other._owner = False
        return other

    def cache_info(self) -> CacheInfo | None:
        """Tell what the client's cache did; None if it has none."""
        return None if self._client.cache is None else self._client.cache.info()

    def cache_clear(self) -> None:
        """Forget what the client's cache holds."""
        if self._client.cache is not None:
            self._client.cache.clear()

    def close(self) -> None:
        """Close the connections, if this mapping made the client.

        Sub-mappings and views share the client and leave it open.
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

    def __getstate__(self) -> dict[str, Any]:
        """Give what is pickled: no credentials, no connections, no cached values."""
        # Whoever unpickles it gets a client of its own to close.
        return {**self.__dict__, "_owner": True}

    def __repr__(self) -> str:
        """Show prefix and endpoints; sends no request."""
        endpoints = list(self._client.endpoints)
        return f"{type(self).__name__}({endpoints}, prefix={self.prefix!r})"

    # --- for the layers above

    def _readable(self, key: object) -> str:
        """Give the path of a key; KeyNotFound if no node can have it."""
        path = self._naming.readable(self._root, key)
        if path is None:
            raise absent(key)
        return path

    def _writable(self, key: object) -> str:
        """Give the path of a key that is to be written; refuse bad ones."""
        self._check_writable()
        return self._naming.writable(self._root, key)

    def _check_writable(self) -> None:
        if self._readonly:
            raise ReadOnly("this mapping is read-only; nothing was sent")

    def _is_there(self, path: str) -> bool:
        """Tell whether a node is there for certain, after a lost answer."""
        try:
            return self._tree.exists(path)
        except EtcdMapError:
            return False  # that the answer was lost says more

    def _check_prefix(self, what: str) -> None:
        if self._whole_cluster:
            raise PrefixRequired(
                f"{what}; make the mapping with a prefix (prefix='/' if that is what "
                "you want)"
            )

    def _take(self, path: str, node: File | Directory) -> bool:
        """Delete a node as it was read; False if it was changed since."""
        try:
            if isinstance(node, File):
                expect = Expect(modified_index=node.modified_index)
                self._tree.delete(path, expect=expect)
            else:
                self._tree.delete(path)
        except (CompareFailed, NotAFile):
            return False
        except NotADirectory as error:
            raise absent(path, error.reason) from error
        return True

    def _encode(self, path: str, value: Any) -> plan.Encoded:
        """Check and encode a value or a whole mapping, before any request."""
        return plan.encode(path, value, self._encode_text, self._naming)

    def _encode_text(self, value: Any) -> str:
        text = encode_text(self._codec, value)
        check_text(text)
        return text

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
            key: self._plain(f"{path}/{name}", node.children[name])
            for key, name in self._keys_and_names(node)
        }

    def _keys_and_names(self, directory: Directory) -> list[tuple[str, str]]:
        """Give the keys of a directory and the names behind them, sorted by key."""
        if self._naming is PLAIN:
            return [(name, name) for name in sorted(directory.children)]
        keys = [(self._naming.key(name), name) for name in directory.children]
        return sorted((key, name) for key, name in keys if key is not None)

    def _not_a_directory(self) -> NotADirectory:
        return NotADirectory(
            "this mapping's directory is a file now",
            code=NOT_A_DIRECTORY,
            key=self.prefix,
        )


def check_ttl(ttl: float | None) -> None:
    """Refuse a bad ttl before the first request of several."""
    if ttl is not None:
        whole_seconds(ttl)


def absent(key: object, why: str = "no node can have this key") -> KeyNotFound:
    """Give the KeyError of a dict: with the caller's own key."""
    error = KeyNotFound(why)
    error.args = (key,)
    return error

"""What the tests of mappings share: filling and reading a store behind their back.

The kits write and read below the mapping under test, so that it is not judged by
itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Protocol

from etcdmap import Client, EtcdMapping, KeysAPI, Node, View
from etcdmap.codecs import AutoCodec, get_codec
from etcdmap.errors import KeyNotFound
from etcdmap.paths import ESCAPED, PLAIN, clean_prefix
from etcdmap.tree import File
from etcdmap.tree import Node as TreeNode

from support.memory_store import MemoryStore, Tree

_AUTO = AutoCodec()


class Kit(Protocol):
    """Makes mappings of one kind, and tells what they hold."""

    def make(self, content: Mapping[str, Any] | None = None) -> Any:
        """Give a mapping that holds `content`, apart from those made before."""
        ...

    def stored(self, mapping: Any) -> dict[str, Any]:
        """Give what a mapping holds as a plain nested dict, keys sorted."""
        ...


class DictKit:
    """The model: plain dicts."""

    def make(self, content: Mapping[str, Any] | None = None) -> Any:
        """See `Kit.make`."""
        return deepcopy(dict(content or {}))

    def stored(self, mapping: Any) -> dict[str, Any]:
        """See `Kit.stored`."""
        return deep_sorted(mapping)


class StoreKit(ABC):
    """A kit of mappings on the directories of one store.

    Attributes:
        prefix: the directory below which it makes them.
    """

    prefix: str
    _made = 0

    @abstractmethod
    def on(self, prefix: str | None, **options: Any) -> EtcdMapping:
        """Give a mapping with this prefix; the directory need not exist."""

    @abstractmethod
    def write(self, path: str, text: str) -> None:
        """Write a file."""

    @abstractmethod
    def make_directory(self, path: str) -> None:
        """Make a directory."""

    @abstractmethod
    def read(self, path: str, *, text: bool = False) -> Any:
        """Give what is stored at a path, by the codec ``auto``; None if nothing is.

        Args:
            path: an absolute path.
            text: give the stored texts, not decoded.
        """

    def make(
        self, content: Mapping[str, Any] | None = None, **options: Any
    ) -> EtcdMapping:
        """See `Kit.make`; without content the directory does not exist."""
        self._made += 1
        path = f"{self.prefix}/m{self._made}"
        if content is not None:
            self.fill(path, content)
        return self.on(path, **options)

    def fill(self, path: str, content: Mapping[str, Any]) -> None:
        """Make a directory with this content, as the codec ``auto`` stores it."""
        self.make_directory(path)
        for name, value in content.items():
            if isinstance(value, Mapping):
                self.fill(f"{path}/{name}", value)
            else:
                self.write(f"{path}/{name}", _AUTO.encode(value))

    def stored(self, mapping: Any, *, text: bool = False) -> dict[str, Any]:
        """See `Kit.stored`; a directory that does not exist is empty."""
        found = self.read(mapping.prefix, text=text)
        assert found is None or isinstance(found, dict)
        return found or {}


class EtcdKit(StoreKit):
    """Mappings on etcd; it writes and reads with `KeysAPI` alone."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self._keys = KeysAPI(client)

    def on(self, prefix: str | None, **options: Any) -> EtcdMapping:
        """See `StoreKit.on`."""
        return EtcdMapping(client=self.client, prefix=prefix, **options)

    def write(self, path: str, text: str) -> None:
        """See `StoreKit.write`."""
        self._keys.set(path, text)

    def make_directory(self, path: str) -> None:
        """See `StoreKit.make_directory`."""
        self._keys.make_directory(path)

    def read(self, path: str, *, text: bool = False) -> Any:
        """See `StoreKit.read`."""
        return read_tree(self._keys, path, text=text)


class MemoryKit(StoreKit):
    """Mappings on a store in memory."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._store = MemoryStore(Tree())

    def on(self, prefix: str | None, **options: Any) -> EtcdMapping:
        """See `StoreKit.on`."""
        view = View(
            store=self._store,
            codec=get_codec(options.pop("codec", "auto")),
            naming=ESCAPED if options.pop("escape_keys", False) else PLAIN,
            root=clean_prefix(prefix or ""),
            readonly=options.pop("readonly", False),
            whole_cluster=not prefix,
        )
        assert not options
        return EtcdMapping._on(view)

    def write(self, path: str, text: str) -> None:
        """See `StoreKit.write`."""
        self._store.put(path, text)

    def make_directory(self, path: str) -> None:
        """See `StoreKit.make_directory`."""
        self._store.make_directory(path)

    def read(self, path: str, *, text: bool = False) -> Any:
        """See `StoreKit.read`."""
        try:
            node = self._store.list(path, recursive=True)
        except KeyNotFound:
            return None
        return self._content(node, text)

    def _content(self, node: TreeNode, text: bool) -> Any:
        if isinstance(node, File):
            return node.text if text else _AUTO.decode(node.text)
        children = sorted(node.children.items())
        return {name: self._content(child, text) for name, child in children}


def deep_sorted(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Give a plain nested dict with sorted keys."""
    return {
        key: deep_sorted(value) if isinstance(value, Mapping) else value
        for key, value in sorted(mapping.items())
    }


def write_tree(keys: KeysAPI, path: str, content: Mapping[str, Any]) -> None:
    """Make a directory with this content, as the codec ``auto`` stores it."""
    keys.make_directory(path)
    for name, value in content.items():
        below = f"{path}/{name}"
        if isinstance(value, Mapping):
            write_tree(keys, below, value)
        else:
            keys.set(below, _AUTO.encode(value))


def read_tree(keys: KeysAPI, path: str, *, text: bool = False) -> Any:
    """Give what is stored at a path, by the codec ``auto``; None if nothing is.

    Args:
        keys: reads it.
        path: an absolute path.
        text: give the stored texts, not decoded.
    """
    if not keys.exists(path):
        return None
    node = keys.get(path, recursive=True, quorum=True).node
    assert node is not None
    return _content(node, text)


def _content(node: Node, text: bool) -> Any:
    if not node.dir:
        assert node.value is not None
        return node.value if text else _AUTO.decode(node.value)
    children = {child.key.rpartition("/")[2]: child for child in node.nodes or ()}
    return {name: _content(children[name], text) for name in sorted(children)}

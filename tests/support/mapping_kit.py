"""What the tests of mappings share: filling and reading a store behind their back.

`EtcdKit` writes and reads with `KeysAPI` alone, so that a mapping under test is not
judged by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from copy import deepcopy
from typing import Any, Protocol

from etcdmap import Client, EtcdMapping, KeysAPI, Node
from etcdmap.codecs import AutoCodec

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

    def make(
        self, content: Mapping[str, Any] | None = None
    ) -> MutableMapping[str, Any]:
        """See `Kit.make`."""
        return deepcopy(dict(content or {}))

    def stored(self, mapping: Any) -> dict[str, Any]:
        """See `Kit.stored`."""
        return deep_sorted(mapping)


class EtcdKit:
    """Mappings on directories below one prefix."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.keys = KeysAPI(client)
        self.prefix = prefix
        self.made = 0

    def make(
        self, content: Mapping[str, Any] | None = None
    ) -> MutableMapping[str, Any]:
        """See `Kit.make`; without content the directory does not exist."""
        self.made += 1
        path = f"{self.prefix}/m{self.made}"
        if content is not None:
            write_tree(self.keys, path, content)
        return EtcdMapping(client=self.client, prefix=path)

    def stored(self, mapping: Any) -> dict[str, Any]:
        """See `Kit.stored`; a directory that does not exist is empty."""
        found = read_tree(self.keys, mapping.prefix)
        assert found is None or isinstance(found, dict)
        return found or {}


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

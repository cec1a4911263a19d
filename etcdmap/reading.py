"""The reading half of a mapping: what `collections.abc.Mapping` asks for.

Every inherited method that would cost more requests than needed is overridden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from etcdmap.errors import KeyNotFound, NotADirectory
from etcdmap.handle import NOT_A_DIRECTORY, Handle
from etcdmap.paths import readable
from etcdmap.tree import Directory, File
from etcdmap.views import EtcdItemsView, EtcdKeysView, EtcdValuesView


class Reading(Handle, Mapping[str, Any]):
    """Reads of one key, of the directory, and of the whole subtree."""

    # --- reading one key

    def __getitem__(self, key: str) -> Any:
        """Give the value of a file, or a mapping on a directory.

        Raises:
            KeyNotFound: a KeyError; the key is absent, or can't exist.
            DecodeError: the codec can't read the text.

        Cost: 1 request.  Atomic: yes.
        """
        path = self._readable(key)
        try:
            node = self._tree.get(path)
        except KeyNotFound as error:
            error.args = (key,)
            raise
        return self._value(path, node)

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a node; False for a key that can't exist.

        Cost: 1 request without a body.
        """
        path = readable(self._root, key)
        return path is not None and self._tree.exists(path)

    def ttl(self, key: str) -> int | None:
        """Give the seconds that a node has left, rounded up; None for ever.

        Below a directory with a ttl, nodes show none of their own.

        Raises:
            KeyNotFound: the key is absent.

        Cost: 1 request.
        """
        try:
            return self._tree.get(self._readable(key)).ttl
        except KeyNotFound as error:
            error.args = (key,)
            raise

    # --- reading the directory

    def __iter__(self) -> Iterator[str]:
        """Give the keys, sorted.  Cost: 1 request."""
        return iter(sorted(self._listing().children))

    def __reversed__(self) -> Iterator[str]:
        """Give the keys in reverse order.  Cost: 1 request."""
        return iter(sorted(self._listing().children, reverse=True))

    def __len__(self) -> int:
        """Count the keys of this directory itself.  Cost: 1 request."""
        return len(self._listing().children)

    def keys(self) -> EtcdKeysView:
        """Give a live view of the keys."""
        return EtcdKeysView(self)

    def values(self) -> EtcdValuesView:
        """Give a live view of the values; one loop costs 1 request."""
        return EtcdValuesView(self)

    def items(self) -> EtcdItemsView:
        """Give a live view of the pairs; one loop costs 1 request."""
        return EtcdItemsView(self)

    def to_dict(self) -> dict[str, Any]:
        """Give the whole subtree as a plain nested dict, sorted by key.

        Raises:
            NotADirectory: a file stands where this mapping's directory was.
            DecodeError: the codec can't read a text; names the key.

        Cost: 1 request, whatever the size.  Atomic: one moment's state.
        """
        try:
            content = self._tree.read(f"{self._root}/", self._codec.decode).content
        except KeyNotFound as error:
            self._check_directory(error)
            return {}
        if not isinstance(content, dict):
            raise self._not_a_directory()
        return content

    copy = to_dict

    def __copy__(self) -> dict[str, Any]:
        """Give a plain dict: a copy of the data, not of the handle."""
        return self.to_dict()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Give a plain dict: a copy of the data, not of the handle."""
        return self.to_dict()

    def __eq__(self, other: object) -> bool:
        """Compare whole subtrees by value.  Cost: 1 request for each mapping."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(self.to_dict() == plain_mapping(other))

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Give a plain dict of both, `other` winning.  Cost: 1 request."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**self.to_dict(), **plain_mapping(other)}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Give a plain dict of both, this mapping winning.  Cost: 1 request."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**plain_mapping(other), **self.to_dict()}

    def _listing(self, *, recursive: bool = False) -> Directory:
        node = self._find(f"{self._root}/", recursive=recursive)
        if node is None:
            return Directory({}, None)
        if not isinstance(node, Directory):
            raise self._not_a_directory()
        return node

    def _listed_items(self) -> list[tuple[str, Any]]:
        children = self._listing().children
        return [
            (name, self._value(f"{self._root}/{name}", children[name]))
            for name in sorted(children)
        ]

    def _find(self, path: str, *, recursive: bool = False) -> File | Directory | None:
        """Give the node at a path, or None; a file on the way raises."""
        try:
            return self._tree.get(path, recursive=recursive)
        except KeyNotFound as error:
            self._check_directory(error)
            return None

    def _check_directory(self, error: KeyNotFound) -> None:
        if error.code == NOT_A_DIRECTORY:
            raise NotADirectory(
                "a file stands on the way", code=error.code, key=error.key
            ) from error


def plain_mapping(value: Any) -> Any:
    """Read another mapping on etcd once; leave everything else as it is."""
    return value.to_dict() if isinstance(value, Reading) else value

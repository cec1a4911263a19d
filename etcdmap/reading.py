"""The reading half of a mapping: what `collections.abc.Mapping` asks for.

Every inherited method that would cost more requests than needed is overridden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etcdmap.errors import KeyNotFound, NotADirectory
from etcdmap.handle import NOT_A_DIRECTORY, Handle
from etcdmap.nodes import Directory, File, Snapshot
from etcdmap.paths import PLAIN
from etcdmap.views import ListedMapping

#: Values that may be handed out many times; a list is decoded anew each time.
_UNCHANGEABLE = frozenset((str, int, float, bool, type(None)))


class Reading(Handle, ListedMapping):
    """Reads of one key, of the directory, and of the whole subtree."""

    # --- reading one key

    def __getitem__(self, key: str) -> Any:
        """Give the value of a file, or a mapping on a directory.

        Raises:
            KeyNotFound: a KeyError; the key is absent, or can't exist.
            DecodeError: the codec can't read the text.

        Cost: 1 request, none if cached.  Atomic: yes.
        """
        cache = self._tree.cache
        if cache is not None and self._naming is PLAIN and type(key) is str:
            # The way of nearly all hits, spelt out for speed.  No check of the
            # key: a path that can't exist is never in the cache.
            entry = cache.hot.get(f"{self._root}/{key}")
            if entry is not None and entry.expires > cache.timer():
                decoded = entry.decoded
                if decoded is not None and decoded[0] is self._codec:
                    cache.hits += 1
                    return decoded[1]
        path = self._readable(key)
        try:
            node = self._tree.get(path, cached=True)
        except KeyNotFound as error:
            error.args = (key,)
            raise
        value = self._value(path, node)
        if cache is not None and type(value) in _UNCHANGEABLE:
            cache.keep_decoded(path, node, self._codec, value)
        return value

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a node; False for a key that can't exist.

        Cost: 1 request without a body, none if cached.
        """
        path = self._naming.readable(self._root, key)
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
        return iter([key for key, _ in self._keys_and_names(self._listing())])

    def __reversed__(self) -> Iterator[str]:
        """Give the keys in reverse order.  Cost: 1 request."""
        return reversed([key for key, _ in self._keys_and_names(self._listing())])

    def __len__(self) -> int:
        """Count the keys of this directory itself.  Cost: 1 request."""
        return len(self._keys_and_names(self._listing()))

    def to_dict(self) -> dict[str, Any]:
        """Give the whole subtree as a plain nested dict, sorted by key.

        Raises:
            NotADirectory: a file stands where this mapping's directory was.
            DecodeError: the codec can't read a text; names the key.

        Cost: 1 request, whatever the size.  Atomic: one moment's state.
        """
        return self.snapshot().content

    def snapshot(self) -> Snapshot:
        """Give what `to_dict` gives, and the index of the store at that moment.

        Raises:
            NotADirectory: a file stands where this mapping's directory was.
            DecodeError: the codec can't read a text; names the key.

        Cost: 1 request, whatever the size.  Atomic: one moment's state.
        """
        key_of = None if self._naming is PLAIN else self._naming.key
        try:
            return self._tree.read(f"{self._root}/", self._codec.decode, key_of)
        except KeyNotFound as error:
            self._check_directory(error)
            return Snapshot({}, error.etcd_index or 0)

    @property
    def index(self) -> int:
        """The index of the store now.  Cost: 1 request."""
        return self._tree.index(f"{self._root}/")

    def _listing(self, *, recursive: bool = False) -> Directory:
        node, index = self._survey(f"{self._root}/", recursive=recursive)
        if node is None:
            return Directory({}, None, index)
        if not isinstance(node, Directory):
            raise self._not_a_directory()
        return node

    def _listed_items(self) -> list[tuple[str, Any]]:
        listing = self._listing()
        return [
            (key, self._value(f"{self._root}/{name}", listing.children[name]))
            for key, name in self._keys_and_names(listing)
        ]

    def _find(self, path: str, *, recursive: bool = False) -> File | Directory | None:
        """List the node at a path, or give None; a file on the way raises."""
        return self._survey(path, recursive=recursive)[0]

    def _survey(
        self, path: str, *, recursive: bool = False
    ) -> tuple[File | Directory | None, int]:
        """Like `_find`, with the index of the store; 0 for a file."""
        try:
            node = self._tree.list(path, recursive=recursive)
        except KeyNotFound as error:
            self._check_directory(error)
            return None, error.etcd_index or 0
        return node, node.etcd_index if isinstance(node, Directory) else 0

    def _check_directory(self, error: KeyNotFound) -> None:
        if error.code == NOT_A_DIRECTORY:
            raise NotADirectory(
                "a file stands on the way", code=error.code, key=error.key
            ) from error

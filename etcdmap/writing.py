"""Writes of one key, and what a dict does with one key at a time."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from etcdmap import plan
from etcdmap.errors import (
    CompareFailed,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
)
from etcdmap.handle import absent
from etcdmap.paths import writable
from etcdmap.reading import Reading, plain_mapping
from etcdmap.tree import ABSENT, Directory, Expect, File, decode_node

_MISSING: Any = object()


class Writing(Reading, MutableMapping[str, Any]):
    """Writes of one key: each is checked whole before anything is sent."""

    # --- writing one key

    def __setitem__(self, key: str, value: Any) -> None:
        """Store a value, or make the directory equal to a mapping.

        A value replaces a directory, and a mapping a file, as in a dict.  For a
        mapping only the differences are written, after all of it was checked.

        Raises:
            TypeError, ValueError: the codec refuses the value.
            InvalidKey: the key can't be written.
            NotADirectory: a file stands on the way.
            PartialWrite: a mapping was written in part only.

        Cost: 1 request for a value (2 more where a directory must go first);
        for a mapping 1 and the differences.  Atomic: per key.
        """
        self.set(key, value)

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        keep_ttl: bool = False,
    ) -> int | None:
        """Store a value as ``m[key] = value`` does, with a time to live.

        Args:
            key: where.
            value: what.
            ttl: seconds until it expires, rounded up to whole ones; None for
                ever.  For a mapping: the ttl of the directory, which is then
                made anew and ends with all that is in it.
            keep_ttl: keep what is left of the present ttl, which every write
                would otherwise drop; for values only.

        Returns:
            The index of the write; None for a mapping.

        Cost: as ``m[key] = value``; with `keep_ttl` 2 requests, and 2 more each
        time that another writer comes between.
        """
        self._check_writable()
        path = writable(self._root, key)
        if isinstance(value, Mapping):
            if keep_ttl:
                raise ValueError("keep_ttl is for values; a directory keeps its own")
            self._set_mapping(path, value, ttl)
            return None
        text = self._encode(value)
        if keep_ttl:
            if ttl is not None:
                raise ValueError("give ttl or keep_ttl, not both")
            return self._put_keeping_ttl(path, text)
        return self._put(path, text, ttl)

    def _put(self, path: str, text: str, ttl: float | None = None) -> int:
        try:
            return self._tree.put(path, text, ttl=ttl)
        except NotAFile:
            self._tree.delete(path)
            return self._tree.put(path, text, ttl=ttl)

    def _put_keeping_ttl(self, path: str, text: str) -> int:
        while True:
            node = self._find(path)
            if isinstance(node, Directory):
                return self._put(path, text)
            expect = (
                ABSENT if node is None else Expect(modified_index=node.modified_index)
            )
            # An expired node may be seen for half a second, with a ttl below 1.
            ttl = None if node is None or node.ttl is None else max(node.ttl, 1)
            try:
                return self._tree.put(path, text, ttl=ttl, expect=expect)
            except (KeyExists, CompareFailed, KeyNotFound):
                continue  # another writer was quicker: look again

    def _set_mapping(
        self, path: str, value: Mapping[str, Any], ttl: float | None = None
    ) -> None:
        wanted = plan.encode(path, plain_mapping(value), self._encode)
        current = self._find(path, recursive=True)
        plan.run(self._tree, plan.differences(path, wanted, current, ttl))

    def __delitem__(self, key: str) -> None:
        """Delete a file, or a directory with all below it.

        Raises:
            KeyNotFound: the key is absent, or can't exist.

        Cost: 1 request.
        """
        self._check_writable()
        path = self._readable(key)
        try:
            self._tree.delete(path)
        except (KeyNotFound, NotADirectory) as error:
            raise absent(key, error.reason) from error

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a key and give its value; a directory as a plain dict.

        A value is handed out once, however many callers race for it.  A
        directory is read and then deleted: what is written in between is lost.

        Raises:
            KeyNotFound: the key is absent and no default was given.
            OutcomeUnknown: the answer was lost; the value may be gone.

        Cost: 2 requests; 2 more each time that another writer comes between.
        """
        self._check_writable()
        try:
            path = self._readable(key)
            while True:
                node = self._tree.get(path, recursive=True)
                if self._take(path, node):
                    return self._plain(path, node)
        except KeyNotFound as error:
            if default is not _MISSING:
                return default
            error.args = (key,)
            raise

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key and give it with its value.

        Racing callers get different keys.

        Raises:
            KeyNotFound: the mapping is empty.

        Cost: 2 requests; 1 more for each key that somebody else took.
        """
        self._check_writable()
        while children := self._listing(recursive=True).children:
            for name in sorted(children, reverse=True):
                path = f"{self._root}/{name}"
                try:
                    if self._take(path, children[name]):
                        return name, self._plain(path, children[name])
                except KeyNotFound:
                    continue  # somebody else took it
        raise absent("popitem(): the mapping is empty", "the mapping is empty")

    def _take(self, path: str, node: File | Directory) -> bool:
        """Delete a node as it was read; False if it was changed since."""
        try:
            index = node.modified_index if isinstance(node, File) else None
            self._tree.delete(path, modified_index=index)
        except (CompareFailed, NotAFile):
            return False
        except NotADirectory as error:
            raise absent(path, error.reason) from error
        return True

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give the value of a key, after storing `default` if it was absent.

        Racing callers agree on one value.  For a mapping, whoever makes the
        directory fills it, and the mapping on it is given.

        Cost: 1 request if it was present; else 2 (a mapping: and its keys).
        """
        self._check_writable()
        path = writable(self._root, key)
        encoded = plan.encode(path, plain_mapping(default), self._encode)
        while True:
            node = self._find(path)
            if node is not None:
                return self._value(path, node)
            try:
                return self._create(path, encoded)
            except KeyExists:
                continue  # another caller was quicker: take theirs

    def _create(self, path: str, encoded: plan.Encoded) -> Any:
        if isinstance(encoded, str):
            self._tree.put(path, encoded, expect=ABSENT)
            return decode_node(path, encoded, self._codec.decode)
        self._tree.make_directory(path)
        plan.run(self._tree, plan.differences(path, encoded, Directory({}, None)))
        return self._sub(path)

"""Writes that a dict does not have: on conditions, in order, with a time to live."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from etcdmap.common import MISSING, survey
from etcdmap.errors import CompareFailed, KeyExists, KeyNotFound, NotAFile
from etcdmap.handle import absent, check_ttl, named
from etcdmap.nodes import Directory, Expect, File, decode_node
from etcdmap.parameters import whole_seconds
from etcdmap.tree import Tree, rounds
from etcdmap.writing import Writing, present, ttl_left, unchanged

C = TypeVar("C", bound="Conditional")


class Conditional(Writing):
    """Writes of one key that depend on what is there, or when."""

    def compare_and_swap(
        self, key: str, expected: Any, new: Any, *, ttl: float | None = None
    ) -> int:
        """Store a value if another one is there now; return the new index.

        The two are compared as text, as the codec writes it: with ``"auto"``
        ``1``, ``1.0`` and ``True`` differ.

        Raises:
            CompareFailed: another value is there.
            KeyNotFound: a KeyError; the key is absent.
            NotAFile: a directory is there.

        Cost: 1 request; 2 if the expected text is empty, which etcd can't
        compare with.  Atomic: yes.
        """
        path = self._writable(key)
        wanted = self._encode_text(new)
        check_ttl(ttl)
        text = self._encode_text(expected)
        tree = self._view.tree
        with named(key):
            if not text:
                tree = tree.call()
            expect = Expect(text=text) if text else _state_with(tree, path, text)
            return tree.put(path, wanted, ttl=ttl, expect=expect)

    def compare_and_delete(self, key: str, expected: Any) -> None:
        """Delete a key if this value is there now.

        Raises: as `compare_and_swap`.

        Cost: 2 requests, since a delete could only name the value in its URL, and
        URLs end up in logs.  Atomic: yes.
        """
        path = self._writable(key)
        text = self._encode_text(expected)
        tree = self._view.tree.call()
        with named(key):
            tree.delete(path, expect=_state_with(tree, path, text))

    def transform(
        self, key: str, func: Callable[[Any], Any], *, default: Any = MISSING
    ) -> Any:
        """Replace a value by ``func(value)``; return the new one.

        No update is lost: if another writer comes between, the function is
        called again with their value, so it should have no effects of its own.
        What is left of a ttl is kept.  The time that it takes counts.

        Args:
            key: where.
            func: gets the value, gives the new one.
            default: what the function gets if the key is absent.

        Raises:
            KeyNotFound: the key is absent and no default was given.
            NotAFile: a directory is there.
            DeadlineExceeded: others came between until the time was over.

        Cost: 2 requests; 2 more each time that another writer comes between.
        """
        path = self._writable(key)
        for tree in rounds(self._view.tree, path):
            node, since = survey(tree, path)
            value, ttl = self._before(key, path, node, default)
            new = func(value)
            text, expect = self._encode_text(new), unchanged(node, since)
            with suppress(KeyExists, CompareFailed, KeyNotFound):  # look again
                tree.put(path, text, ttl=ttl, expect=expect)
                return new
        raise AssertionError("unreachable")

    def _before(
        self, key: str, path: str, node: File | Directory | None, default: Any
    ) -> tuple[Any, int | None]:
        if isinstance(node, Directory):
            raise NotAFile("transform() is for values", code=102, key=path)
        if node is None:
            if default is MISSING:
                raise absent(key, "Key not found")
            return default, None
        return decode_node(path, node.text, self._view.codec.decode), ttl_left(node)

    def append(self, value: Any, *, ttl: float | None = None) -> str:
        """Store a value under a new key that sorts after all appended before.

        Returns:
            The key: etcd's index in 20 digits.

        Cost: 1 request.  Atomic: yes.
        """
        self._check_writable()
        text = self._encode_text(value)
        return self._view.tree.append(f"{self._view.root}/", text, ttl=ttl)

    def refresh(self, key: str, ttl: float) -> None:
        """Renew the ttl of a value; watchers are not told.

        Args:
            key: where.
            ttl: seconds from now, rounded up to whole ones.

        Raises:
            KeyNotFound: a KeyError; the key is absent.

        Cost: 1 request.  Atomic: yes.
        """
        whole_seconds(ttl)  # None would reach etcd, which refuses it
        path = self._writable(key)
        with named(key):
            self._view.tree.refresh(path, ttl)

    def mkdir(self: C, key: str, *, ttl: float | None = None) -> C:
        """Make an empty directory; return the mapping on it.

        Args:
            key: where.
            ttl: seconds until it expires with all in it; etcd can't change it
                later.

        Raises:
            KeyExists: something is there.

        Cost: 1 request.  Atomic: yes.
        """
        path = self._writable(key)
        self._view.tree.make_directory(path, ttl=ttl)
        return self._sub(path)


def _state_with(tree: Tree, path: str, text: str) -> Expect:
    """Name the state of a file by its index, if it holds this text."""
    node = present(tree, path)
    if not isinstance(node, File):
        raise NotAFile("a directory is there", code=102, key=path)
    if node.text != text:
        raise CompareFailed("Compare failed", code=101, key=path)
    return Expect(modified_index=node.modified_index)

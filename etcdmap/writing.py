"""Writes of one key, and what a dict does with one key at a time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from etcdmap import plan, sending
from etcdmap.common import survey
from etcdmap.errors import (
    CompareFailed,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
)
from etcdmap.handle import absent, check_ttl, named
from etcdmap.nodes import PRESENT, Directory, Expect, File
from etcdmap.paths import name_of
from etcdmap.plan import Plan
from etcdmap.reading import Reading
from etcdmap.tree import Tree, rounds


class Writing(Reading):
    """Writes of one key: each is checked whole before anything is sent."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Store a value, or make the directory equal to a mapping.

        A value replaces a directory, and a mapping a file, as in a dict.  For a
        mapping only the differences are written, after all of it was checked.

        Raises:
            TypeError, ValueError: the codec refuses the value.
            InvalidKey: the key can't be written.
            NotADirectory: a file stands on the way.
            DirectoryGone: the value holds a mapping without a directory.
            DirectoryNotEmpty: a directory that a mapping leaves out holds a name
                that this view does not show, and so can't mean to delete.
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
        path = self._writable(key)
        until = self._until()
        wanted = self._encode(path, value, until)
        check_ttl(ttl)
        if keep_ttl and ttl is not None:
            raise ValueError("give ttl or keep_ttl, not both")
        if isinstance(wanted, str):
            if keep_ttl:
                return self._put_keeping_ttl(path, wanted)
            return _put(self._view.tree, path, wanted, ttl, until)
        if keep_ttl:
            raise ValueError("keep_ttl is for values; a directory keeps its own")
        self._set_directory(self._view.tree.call(until), path, wanted, ttl)
        return None

    def _put_keeping_ttl(self, path: str, text: str) -> int:
        for tree in rounds(self._view.tree, path):
            node, since = survey(tree, path)
            if isinstance(node, Directory):
                return _put(tree, path, text)
            ttl = None if node is None else ttl_left(node)
            with suppress(KeyExists, CompareFailed, KeyNotFound):  # look again
                return tree.put(path, text, ttl=ttl, expect=unchanged(node, since))
        raise AssertionError("unreachable")

    def _set_directory(
        self,
        tree: Tree,
        path: str,
        wanted: dict[str, plan.Encoded],
        ttl: float | None = None,
    ) -> None:
        current, index = survey(tree, path, recursive=True)
        todo = Plan(self._view.naming, index)
        if ttl is None:
            plan.become(todo, path, wanted, current)
        else:
            plan.become_with_ttl(todo, path, wanted, current, ttl)
        sending.carry_out(tree, todo)

    def create(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store a value or a mapping where nothing is yet.

        Raises:
            KeyExists: something is there.

        Cost: 1 request; for a mapping 1 and its keys.  Atomic: yes; of callers
        who race for a mapping, whoever makes the directory fills it.
        """
        path = self._writable(key)
        until = self._until()
        wanted = self._encode(path, value, until)
        check_ttl(ttl)
        self._create(self._view.tree.call(until), path, wanted, ttl)

    def replace(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store a value or a mapping where something is already.

        Raises:
            KeyNotFound: a KeyError; the key is absent.

        Cost: as ``m[key] = value``.  Atomic: a value over a value.
        """
        path = self._writable(key)
        until = self._until()
        wanted = self._encode(path, value, until)
        check_ttl(ttl)
        tree = self._view.tree.call(until)
        with named(key):
            if isinstance(wanted, str):
                _replace_by_text(tree, path, wanted, ttl)
            else:
                present(tree, path)
                self._set_directory(tree, path, wanted, ttl)

    def __delitem__(self, key: str) -> None:
        """Delete a file, or a directory with all below it.

        Raises:
            KeyNotFound: the key is absent, or can't exist.

        Cost: 1 request.
        """
        self._check_writable()
        path = self._readable(key)
        try:
            self._view.tree.call().delete(path)
        except (KeyNotFound, NotADirectory) as error:
            raise absent(key, error.reason) from error


def present(tree: Tree, path: str) -> File | Directory:
    """Read a node that must be there; a file on the way is no absence."""
    node, _ = survey(tree, path)
    if node is None:
        raise absent(name_of(path), "Key not found")
    return node


def _put(
    tree: Tree,
    path: str,
    text: str,
    ttl: float | None = None,
    until: float | None = None,
) -> int:
    """Write a file, in place of a directory if there is one; return its index."""
    try:
        return tree.put(path, text, ttl=ttl)
    except NotAFile:
        tree = tree.call(until)
        with suppress(KeyNotFound):  # gone already
            tree.delete(path)
        return tree.put(path, text, ttl=ttl)


def _replace_by_text(tree: Tree, path: str, text: str, ttl: float | None) -> None:
    # An empty text is taken for an update of a directory: 3.4 says yes and changes
    # nothing, 3.5 fails.
    if not text and isinstance(present(tree, path), Directory):
        _put(tree, path, text, ttl)
        return
    try:
        tree.put(path, text, ttl=ttl, expect=PRESENT)
    except NotAFile:
        _put(tree, path, text, ttl)


def unchanged(node: File | Directory | None, since: int) -> Expect:
    """Return the condition that a key is as it was found."""
    if isinstance(node, File):
        return Expect(modified_index=node.modified_index)
    return Expect(present=False, since=since)


def ttl_left(node: File) -> int | None:
    """Return what is left of a ttl, as a ttl to write."""
    # An expired node may be seen for half a second, with a ttl below 1.
    return None if node.ttl is None else max(node.ttl, 1)

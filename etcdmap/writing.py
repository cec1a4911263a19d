"""Writes of one key, and what a dict does with one key at a time."""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import Any

from etcdmap import plan, sending
from etcdmap.errors import (
    CompareFailed,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    OutcomeUnknown,
)
from etcdmap.handle import MISSING, absent, check_ttl
from etcdmap.nodes import PRESENT, Directory, Expect, File, decode_node
from etcdmap.paths import name_of
from etcdmap.plan import Plan
from etcdmap.reading import Reading


class Writing(Reading, MutableMapping[str, Any]):
    """Writes of one key: each is checked whole before anything is sent."""

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
        path = self._writable(key)
        wanted = self._encode(path, value)
        check_ttl(ttl)
        if keep_ttl and ttl is not None:
            raise ValueError("give ttl or keep_ttl, not both")
        if isinstance(wanted, str):
            if keep_ttl:
                return self._put_keeping_ttl(path, wanted)
            return self._put(path, wanted, ttl)
        if keep_ttl:
            raise ValueError("keep_ttl is for values; a directory keeps its own")
        self._set_directory(path, wanted, ttl)
        return None

    def _put(self, path: str, text: str, ttl: float | None = None) -> int:
        try:
            return self._tree.put(path, text, ttl=ttl)
        except NotAFile:
            with contextlib.suppress(KeyNotFound):  # gone already
                self._tree.delete(path)
            return self._tree.put(path, text, ttl=ttl)

    def _put_keeping_ttl(self, path: str, text: str) -> int:
        while True:
            node, since = self._survey(path)
            if isinstance(node, Directory):
                return self._put(path, text)
            expect = unchanged(node, since)
            ttl = None if node is None else ttl_left(node)
            try:
                return self._tree.put(path, text, ttl=ttl, expect=expect)
            except (KeyExists, CompareFailed, KeyNotFound):
                continue  # another writer was quicker: look again

    def _set_directory(
        self, path: str, wanted: dict[str, plan.Encoded], ttl: float | None = None
    ) -> None:
        current, index = self._survey(path, recursive=True)
        todo = Plan(since=index)
        if ttl is None:
            plan.become(todo, path, wanted, current)
        else:
            plan.become_with_ttl(todo, path, wanted, current, ttl)
        sending.carry_out(self._tree, todo)

    def create(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store a value or a mapping where nothing is yet.

        Raises:
            KeyExists: something is there.

        Cost: 1 request; for a mapping 1 and its keys.  Atomic: yes; of callers
        who race for a mapping, whoever makes the directory fills it.
        """
        path = self._writable(key)
        wanted = self._encode(path, value)
        check_ttl(ttl)
        self._create(path, wanted, ttl)

    def replace(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store a value or a mapping where something is already.

        Raises:
            KeyNotFound: a KeyError; the key is absent.

        Cost: as ``m[key] = value``.  Atomic: a value over a value.
        """
        path = self._writable(key)
        wanted = self._encode(path, value)
        check_ttl(ttl)
        try:
            if not isinstance(wanted, str):
                self._present(key, path)
                self._set_directory(path, wanted, ttl)
            else:
                self._replace_by_text(path, wanted, ttl)
        except KeyNotFound as error:
            error.args = (key,)
            raise

    def _present(self, key: str, path: str) -> File | Directory:
        """Read a node that must be there; a file on the way is no absence."""
        node = self._find(path)
        if node is None:
            raise absent(key, "Key not found")
        return node

    def _replace_by_text(self, path: str, text: str, ttl: float | None) -> None:
        if not text and isinstance(self._present(name_of(path), path), Directory):
            # An empty text is taken for an update of the directory: 3.4 says yes
            # and changes nothing, 3.5 fails.
            self._put(path, text, ttl)
            return
        try:
            self._tree.put(path, text, ttl=ttl, expect=PRESENT)
        except NotAFile:
            self._put(path, text, ttl)

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

    def pop(self, key: str, default: Any = MISSING) -> Any:
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
                node = self._tree.list(path, recursive=True)
                value = self._plain(path, node)  # before it is gone
                if self._take(path, node):
                    return value
        except KeyNotFound as error:
            if default is not MISSING:
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
        while True:
            listing = self._listing(recursive=True)
            keys = self._keys_and_names(listing)
            if not keys:
                break
            for key, name in reversed(keys):
                path, node = f"{self._root}/{name}", listing.children[name]
                value = self._plain(path, node)  # before it is gone
                try:
                    if self._take(path, node):
                        return key, value
                except KeyNotFound:
                    continue  # somebody else took it
        raise absent("popitem(): the mapping is empty", "the mapping is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give the value of a key, after storing `default` if it was absent.

        Racing callers agree on one value.  For a mapping, whoever makes the
        directory fills it, and the mapping on it is given.

        Cost: 1 request if it was present; else 2 (a mapping: and its keys).
        """
        path = self._writable(key)
        wanted = self._encode(path, default)
        while True:
            node, since = self._survey(path)
            if node is not None:
                return self._value(path, node)
            try:
                self._create(path, wanted, since=since)
            except KeyExists:
                continue  # another caller was quicker: take theirs
            except OutcomeUnknown:
                # Whose value it is does not matter here, if there is one.
                if not isinstance(wanted, str) or not self._is_there(path):
                    raise
                continue
            if isinstance(wanted, str):
                return decode_node(path, wanted, self._codec.decode)
            return self._sub(path)

    def _create(
        self,
        path: str,
        wanted: plan.Encoded,
        ttl: float | None = None,
        since: int = 0,
    ) -> None:
        if isinstance(wanted, str):
            expect = Expect(present=False, since=since)
            self._tree.put(path, wanted, ttl=ttl, expect=expect)
            return
        self._tree.make_directory(path, ttl=ttl)
        # A directory that was not there before has nothing in it.
        todo = Plan(since=since)
        plan.merge(todo, path, wanted, Directory({}, None))
        sending.carry_out(self._tree, todo)


def unchanged(node: File | Directory | None, since: int) -> Expect:
    """Give the condition that a key is as it was found."""
    if isinstance(node, File):
        return Expect(modified_index=node.modified_index)
    return Expect(present=False, since=since)


def ttl_left(node: File) -> int | None:
    """Give what is left of a ttl, as a ttl to write."""
    # An expired node may be seen for half a second, with a ttl below 1.
    return None if node.ttl is None else max(node.ttl, 1)

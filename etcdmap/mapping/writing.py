"""Writes of one key: those of a dict, and those with a condition, an order or a ttl."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from etcdmap.errors import CompareFailed, KeyExists, KeyNotFound, NotAFile
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping import execution, plan
from etcdmap.mapping.base import MISSING, Base, rounds, survey
from etcdmap.mapping.handle import H, absent, named
from etcdmap.mapping.plan import Plan
from etcdmap.mapping.reading import Reading
from etcdmap.marks import alters_data
from etcdmap.tree import Directory, Fence, File, Holding, Present, Store


class Writing(Reading, Base):
    """The writes of one key: all of a write is checked before anything is sent."""

    _overlap = ": nest them instead"

    def __setitem__(self, key: str, value: Any) -> None:
        """Store a value, or make the directory equal to a mapping.

        A value may replace a directory, and a mapping may replace a file, as in a
        nested dict.  A mapping is first checked as a whole; then only the differences
        are written.

        Raises:
            TypeError, ValueError: the codec refuses the value.
            InvalidKey: the key can't be written.
            NotADirectory: a file stands where a directory is needed.
            DirectoryGone: the value is, or contains, a mapping on etcd whose directory
                does not exist.
            DirectoryNotEmpty: the write would delete a directory that contains a name
                which this mapping does not show.  Nothing was written, so that you
                don't delete a name that you can't see.
            PartialWrite: only a part of a mapping was written.

        Cost: 1 request for a value, and 2 more if a directory must be deleted first.
        For a mapping, 1 request, and 1 more for each difference.  Atomic: per key.

        >>> m["port"] = 9090
        >>> m["db"] = {"host": "10.0.0.7"}
        >>> m.to_dict()
        {'db': {'host': '10.0.0.7'}, 'port': 9090}
        """
        self.set(key, value)

    @alters_data
    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        keep_ttl: bool = False,
    ) -> int | None:
        """Store a value as ``m[key] = value`` does, optionally with a time to live.

        Args:
            key: the key to write.
            value: the value to store.
            ttl: seconds until the value expires, rounded up to whole seconds; None for
                a value that never expires.  If the value is a mapping, its directory
                gets the ttl: the directory is deleted and made again, and later expires
                with everything in it.
            keep_ttl: whether to keep the time that is left of the present ttl, but at
                most about 10 years, the longest ttl that may be written.  Without this
                option, each write replaces or removes the present ttl.  You can't use
                this option with a mapping.

        Returns:
            The index of the write (the number that etcd gives to this change); None
            for a mapping.

        Cost: as for ``m[key] = value``; with ``keep_ttl`` 2 requests, and 2 more each
        time that another writer changes the value in between.

        >>> index = m.set("session", "abc", ttl=60)
        >>> m["session"]
        'abc'
        """
        path, wanted, until = self._checked(key, value, ttl)
        if keep_ttl and ttl is not None:
            raise ValueError("give ttl or keep_ttl, not both")
        if isinstance(wanted, str):
            if keep_ttl:
                return self._put_keeping_ttl(path, wanted)
            return self._view.store.put_over(path, wanted, ttl=ttl)
        if keep_ttl:
            raise ValueError("keep_ttl is for values only, not for mappings")
        self._set_directory(self._view.store.call(until), path, wanted, ttl)
        return None

    def _put_keeping_ttl(self, path: str, text: str) -> int:
        for store in rounds(self._view.store, path):
            node, since = survey(store, path)
            if isinstance(node, Directory):
                return store.put_over(path, text)
            ttl = _ttl_left(store, node)
            with suppress(KeyExists, CompareFailed, KeyNotFound):  # then read again
                return store.put(path, text, ttl=ttl, expect=_state(node, since))
        raise AssertionError("unreachable")

    def _set_directory(
        self,
        store: Store,
        path: str,
        wanted: dict[str, plan.Encoded],
        ttl: float | None,
        *,
        present: bool = False,
    ) -> None:
        current, index = survey(store, path, recursive=True)
        if current is None and present:
            raise KeyNotFound("Key not found", key=path)
        todo = Plan(self._view.naming, index)
        if ttl is None:
            plan.become(todo, path, wanted, current)
        else:
            plan.become_with_ttl(todo, path, wanted, current, ttl)
        execution.carry_out(store, todo)

    @alters_data
    def create(self, key: str, value: Any, *, ttl: float | None = None) -> int | None:
        """Store a value or a mapping, but only if the key is absent.

        Returns:
            The index of the write; None for a mapping.

        Raises:
            KeyExists: the key is there already.

        Cost: 1 request; for a mapping 1 more for each of its keys.  Atomic: yes for a
        value.  For a mapping, only the creation of its directory is atomic.  If several
        callers race to create a mapping, the caller that creates the directory fills
        it, and the others get `KeyExists`.

        >>> index = m.create("leader", "me")
        >>> m["leader"]
        'me'
        """
        path, wanted, until = self._checked(key, value, ttl)
        return self._create(self._view.store.call(until), path, wanted, ttl)

    @alters_data
    def replace(self, key: str, value: Any, *, ttl: float | None = None) -> int | None:
        """Store a value or a mapping, but only if the key is there already.

        Returns:
            The index of the write; None for a mapping.

        Raises:
            KeyNotFound: a KeyError; the key is absent.

        Cost: as for ``m[key] = value``; 1 request more if a value replaces a directory.
        Atomic: yes if a value replaces a value, otherwise no.

        >>> index = m.replace("port", 9090)
        >>> m["port"]
        9090
        """
        path, wanted, until = self._checked(key, value, ttl)
        store = self._view.store.call(until)
        with named(key):
            if not isinstance(wanted, str):
                self._set_directory(store, path, wanted, ttl, present=True)
                return None
            try:
                return store.put(path, wanted, ttl=ttl, expect=Present())
            except NotAFile:
                return store.put_over(path, wanted, ttl=ttl)

    @alters_data
    def compare_and_swap(
        self, key: str, expected: Any, new: Any, *, ttl: float | None = None
    ) -> int:
        """Store a value if the present value is ``expected``; return the write's index.

        The stored text is compared with the text that the codec writes for
        ``expected``: with ``"auto"``, ``1``, ``1.0`` and ``True`` are different.

        Raises:
            CompareFailed: a value other than the expected one is there.
            KeyNotFound: a KeyError; the key is absent.
            NotAFile: a directory is there.

        Cost: 1 request; 2 if the expected text is empty, because etcd can't compare
        with an empty text.  Atomic: yes.

        >>> index = m.compare_and_swap("port", 8080, 9090)
        >>> m["port"]
        9090
        """
        path = self._writable(key)
        wanted = self._encode_text(path, new)
        self._check_ttl(ttl)
        expect = Holding(self._encode_text(path, expected))
        with named(key):
            return self._view.store.put(path, wanted, ttl=ttl, expect=expect)

    @alters_data
    def compare_and_delete(self, key: str, expected: Any) -> None:
        """Delete a key, but only if it has the expected value.

        The errors are those of `compare_and_swap`.

        Cost: 2 requests.  A DELETE that compares the value would have to carry it in
        the URL, and URLs end up in logs.  So the key is read first, and then deleted on
        the condition that it has not changed.  Atomic: yes.

        >>> m.compare_and_delete("port", 8080)
        >>> "port" in m
        False
        """
        path = self._writable(key)
        expect = Holding(self._encode_text(path, expected))
        with named(key):
            self._view.store.delete(path, expect=expect)

    @alters_data
    def transform(
        self, key: str, func: Callable[[Any], Any], *, default: Any = MISSING
    ) -> Any:
        """Replace a value by ``func(value)``; return the new value.

        No update is lost: if another writer changes the value in the meantime, the
        function is called again with the changed value.  So the function should have no
        side effects.  The key keeps the time that is left of its ttl, but at most about
        10 years, the longest ttl that may be written.  The time that the function takes
        is a part of the ``timeout``.

        Args:
            key: the key whose value to replace.
            func: a function that is given the present value and returns the new one.
            default: the value that the function is given if the key is absent.

        Raises:
            KeyNotFound: the key is absent and no default was given.
            NotAFile: a directory is there.
            DeadlineExceeded: other writers kept changing the value until the time was
                over.

        Cost: 2 requests; 2 more each time that another writer changes the value in
        between.

        >>> m.transform("port", lambda port: port + 1)
        8081
        """
        path = self._writable(key)
        for store in rounds(self._view.store, path):
            node, since = survey(store, path)
            if isinstance(node, Directory):
                raise NotAFile("transform() is for values", key=path)
            if node is None and default is MISSING:
                raise absent(key, "the key is absent, and no default= was given", path)
            new = func(default if node is None else self._value(path, node))
            text, ttl = self._encode_text(path, new), _ttl_left(store, node)
            with suppress(KeyExists, CompareFailed, KeyNotFound):  # then read again
                store.put(path, text, ttl=ttl, expect=_state(node, since))
                return new
        raise AssertionError("unreachable")

    @alters_data
    def append(self, value: Any, *, ttl: float | None = None) -> str:
        """Store a value under a new key that sorts after all keys appended earlier.

        Returns:
            The key, which is the index of the write in 20 digits.

        Cost: 1 request.  Atomic: yes.

        >>> key = m.sub("jobs").append("first")
        >>> m["jobs"][key]
        'first'
        """
        self._check_writable()
        root = self._view.root
        return self._view.store.append(root, self._encode_text(root, value), ttl=ttl)

    @alters_data
    def refresh(self, key: str, ttl: float) -> None:
        """Renew the ttl of a value, without an event for those who watch the key.

        Args:
            key: the key to renew.
            ttl: seconds from now until the key expires, rounded up to whole seconds.

        Raises:
            KeyNotFound: a KeyError; the key is absent.
            NotAFile: a directory is there.  etcd 3.5 always refuses to renew the ttl of
                a directory, but etcd 3.4 may renew the ttl, and then nothing is raised.

        Cost: 1 request.  Atomic: yes.

        >>> index = m.set("session", "abc", ttl=60)
        >>> m.refresh("session", 600)
        >>> m.ttl("session") > 60
        True
        """
        path = self._writable(key)
        self._view.store.check_ttl(ttl)  # raises for None as well
        with named(key):
            self._view.store.refresh(path, ttl)

    @alters_data
    def mkdir(self: H, key: str, *, ttl: float | None = None) -> H:
        """Make an empty directory; return the mapping on it.

        Args:
            key: the key of the new directory.
            ttl: seconds until the directory expires with everything in it.  If you need
                a ttl, give it here: etcd 3.5 can't set or change it later.

        Raises:
            KeyExists: the key is there already.

        Cost: 1 request.  Atomic: yes.

        >>> jobs = m.mkdir("jobs")
        >>> len(jobs)
        0
        """
        path = self._writable(key)
        self._view.store.make_directory(path, ttl=ttl)
        return self._sub(path)


def _state(node: File | None, since: int) -> Fence:
    return Fence(since, absent=True) if node is None else Fence(node.modified_index)


def _ttl_left(store: Store, node: File | None) -> int | None:
    """Return what is left of a node's ttl, as a ttl that can be written."""
    if node is None or node.ttl is None:
        return None
    # An expired node may still be seen for half a second, with a ttl of 0.  And another
    # program may have written a longer ttl than may be written here.
    return min(max(node.ttl, 1), store.longest_ttl)

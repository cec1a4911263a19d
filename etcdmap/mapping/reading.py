"""The reading half of a mapping: the methods that `collections.abc.Mapping` asks for.

Every inherited method that would cost more requests than needed is overridden.
"""

from __future__ import annotations

from typing import Any

from etcdmap.errors import EtcdMapError, KeyNotFound
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.base import UNCHANGEABLE, Entry, Listed
from etcdmap.mapping.handle import sought
from etcdmap.paths import PLAIN
from etcdmap.tree import Directory, ReadableStore, Snapshot


class Reading(Listed):
    """The reads: of one key, of the directory, and of the whole subtree."""

    _nested = True

    def __getitem__(self, key: str) -> Any:
        """Return the value of a file, or a mapping on a directory.

        Raises:
            KeyNotFound: a KeyError; the key is absent, or can't exist.
            DecodeError: the codec can't read the text.

        Cost: 1 request; none if the value is cached.  Atomic: yes.

        >>> m["port"], m["db"]["host"], m["db/host"]
        (8080, 'localhost', 'localhost')
        """
        view = self._view
        cache = view.store.cache
        if cache is not None and view.naming is PLAIN and type(key) is str:
            # For speed: nearly all hits end here, without a call.  The key needs no
            # check: a node that no key leads to is never kept decoded.
            entry = cache.hot.get(f"{view.root}/{key}")
            if entry is not None and entry.expires > cache.timer():
                decoded = entry.decoded
                if decoded is not None and decoded[0] is view.codec:
                    cache.hits += 1
                    return decoded[1]
        path = self._readable(key)
        try:
            node = view.store.get(path, cached=cache is not None)
        except EtcdMapError as error:
            # Drop the frames below this one, which tell the caller nothing.
            with sought(key):
                raise error.with_traceback(None) from error.__cause__
        value = self._value(path, node)
        if cache is not None and type(value) in UNCHANGEABLE:
            cache.keep_decoded(path, node, view.codec, value)
        return value

    def __contains__(self, key: object) -> bool:
        """Tell whether a file or directory has this key; False if the key can't exist.

        Cost: 1 request, whose answer has no body; none if the value is cached.

        >>> "port" in m, "nope" in m
        (True, False)
        """
        view = self._view
        path = view.naming.readable(view.root, key)
        return path is not None and view.store.exists(path)

    def ttl(self, key: str) -> int | None:
        """Return the seconds until a key expires, rounded up; None if it never expires.

        A key that has expired may still be seen for half a second, with a ttl of 0.
        The ttl of a directory above the key is not taken into account, although the key
        expires with that directory.  A `Live` knows no ttl and always returns None.

        Raises:
            KeyNotFound: the key is absent.

        Cost: 1 request; none for a `Live`.

        >>> m.ttl("port") is None
        True
        """
        with sought(key):
            return self._view.store.get(self._readable(key)).ttl

    def snapshot(self) -> Snapshot:
        """Return the whole content at one moment, and the index of the store then.

        The content is what ``to_dict()`` returns.  The index is a number that grows
        with every change in etcd.

        Raises:
            NotADirectory: a file stands where this mapping's directory was.
            DecodeError: the codec can't read a text; the error names the key.

        Cost: 1 request, whatever the size; none for a `Live`.  Atomic: the content is
        that of one moment.

        >>> m.snapshot().value["port"]
        8080
        """
        content, index = self._read(self._view.store)
        return Snapshot(content or {}, index)

    def index(self) -> int:
        """Return the present index of the store.  Cost: 1 request.

        >>> m.index() > 0
        True
        """
        return self._view.store.index(self._view.root)

    def _read(self, store: ReadableStore) -> tuple[dict[str, Any] | None, int]:
        view = self._view
        key_of = None if view.naming is PLAIN else view.naming.key
        try:
            return store.read(view.root, view.codec.decode, key_of)
        except KeyNotFound as error:
            return None, error.etcd_index or 0

    def _shown(self, listing: Directory) -> list[Entry]:
        return self._in(self._view.root, listing)

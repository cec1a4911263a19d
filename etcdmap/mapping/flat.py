"""A subtree as one flat mapping, from relative paths to values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from etcdmap.codecs import decode_node
from etcdmap.errors import KeyNotFound, NotADirectory, Refusal
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping import execution
from etcdmap.mapping.base import Base, Entry, Listed
from etcdmap.mapping.handle import absent, sought
from etcdmap.mapping.joined import brief, joined
from etcdmap.mapping.plan import Encoded, Encoder, Plan, Put, delete
from etcdmap.mapping.views import Contents
from etcdmap.marks import alters_data
from etcdmap.refusals import tell
from etcdmap.tree import Directory, File, ReadableStore


class _ValuesOnly(Encoder):
    """An encoder that refuses mappings."""

    def encode(self, path: str, value: Any) -> Encoded:
        if not isinstance(value, Mapping):
            return self.encode_value(path, value)
        why = (
            "a flat view holds values only; name the paths one by one, or assign to "
            "the nested mapping"
        )
        self.refused.add(tell(TypeError(), [Refusal(path, why)]))
        return ""


class FlatReading(Listed):
    """The reading half of a `FlatView`; the flat view of a live replica has no more."""

    _nested = False

    def __getitem__(self, key: str) -> Any:
        path = self._readable(key)
        with sought(key):
            node = self._view.store.get(path, cached=True)
        if not isinstance(node, File):
            raise absent(key, "a directory is there", path)
        return decode_node(path, node.text, self._view.codec.decode)

    def __contains__(self, key: object) -> bool:
        view = self._view
        path = view.naming.readable(view.root, key)
        try:
            return path is not None and isinstance(
                view.store.get(path, cached=True), File
            )
        except (KeyNotFound, NotADirectory):
            return False

    def _read(self, store: ReadableStore) -> tuple[dict[str, Any] | None, int]:
        listing, index = self._listing(store, recursive=True)
        if listing is None:
            return None, index
        files = self._shown(listing)
        return {key: self._value(path, node) for key, path, node in files}, index

    def _shown(self, listing: Directory) -> list[Entry]:
        return sorted(self._walk("", self._view.root, listing))

    def _walk(self, above: str, path: str, directory: Directory) -> Iterator[Entry]:
        for key, below, child in self._in(path, directory):
            if isinstance(child, File):
                yield above + key, below, child
            else:
                yield from self._walk(f"{above}{key}/", below, child)


@joined
class FlatView(FlatReading, Base):
    """A directory with all subdirectories, as one mapping from paths to values.

    `EtcdMapping.flat` makes it.  ``m.flat["db/host"]`` is ``m["db"]["host"]``: the
    paths are relative to the directory.  Only files have a key here, so an empty
    directory is invisible.  A write never deletes anything to make room for a value.
    Instead, the write raises `NotAFile` if a directory is there, and `NotADirectory` if
    a file stands where a directory is needed.

    Cost: operations on one key take as many requests as on the nested mapping.  (For
    ``k in m.flat``, etcd's answer is longer, because it contains the value of the key.)
    A loop, ``to_dict`` and ``len`` take 1 request, which returns everything, and
    `update` takes 1 request for each key.
    """

    _overlap = ", which is a value"
    __getitem__ = brief(FlatReading.__getitem__)

    def __setitem__(self, key: str, value: Any) -> None:
        path, text, _ = self._checked(key, value)
        self._view.store.put(path, cast("str", text))  # no encoder gives a directory

    def _encoder(self, until: float) -> Encoder:
        return _ValuesOnly(self._encode_text, self._view.naming, until)

    @alters_data
    def update(self, other: Contents = (), /, **kwargs: Any) -> None:
        """Store many values; all of them are checked before the first write.

        Raises:
            DirectoryGone: ``other`` is a mapping on etcd whose directory does not
                exist.
            PartialWrite: some keys failed; the error says which, and what was done.

        Cost: 1 request for each key, each with a deadline of its own.  Atomic:
        per key.
        """
        self._check_writable()
        store = self._view.store.call()
        texts = self._encode_all(other, kwargs, store.until)
        todo = Plan(self._view.naming)
        todo.writes += [Put(path, text) for path, text in texts.items()]
        execution.carry_out(store, todo)

    @alters_data
    def clear(self) -> None:
        """Delete all files, at every level; keep the directories.

        Raises:
            PrefixRequired: the mapping was made without a prefix.

        Cost: 1 listing, and 1 request for each file.  Atomic: no.
        """
        self._check_writable()
        self._check_prefix("clear() would empty the whole cluster")
        todo = Plan(self._view.naming)
        store = self._view.store.call()
        todo.leftovers += [delete(path, n) for _, path, n in self._entries(store)]
        execution.carry_out(store, todo)

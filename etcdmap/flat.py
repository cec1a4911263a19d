"""A subtree as one mapping of relative path -> value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

from etcdmap import sending
from etcdmap.errors import (
    InvalidKey,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    OutcomeUnknown,
)
from etcdmap.handle import MISSING, Handle, absent
from etcdmap.nodes import ABSENT, Directory, File, decode_node
from etcdmap.plan import Plan, Put, delete, overlapping
from etcdmap.views import ListedMapping, plain_mapping

F = TypeVar("F", bound="FlatView")


class FlatView(Handle, ListedMapping, MutableMapping[str, Any]):
    """The files of a subtree by relative path; made by `EtcdMapping.flat`.

    ``m.flat["db/host"]`` is ``m["db"]["host"]``.  Directories are not in it: an
    empty one is invisible, and nothing is deleted to make room for a value: a
    directory in its place raises `NotAFile`, a file on its way `NotADirectory`.

    Cost: of one key as for the mapping, but 1 GET for ``in``; a loop, `to_dict`
    and ``len`` 1 GET of the subtree; `update` 1 PUT for each key.
    """

    # --- reads

    def __getitem__(self, key: str) -> Any:
        path = self._readable(key)
        try:
            node = self._tree.get(path, cached=True)
        except KeyNotFound as error:
            error.args = (key,)
            raise
        if not isinstance(node, File):
            raise absent(key, "a directory is there")
        return decode_node(path, node.text, self._codec.decode)

    def __contains__(self, key: object) -> bool:
        path = self._naming.readable(self._root, key)
        try:
            return path is not None and isinstance(
                self._tree.get(path, cached=True), File
            )
        except KeyNotFound:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _, _ in self._files()])

    def __reversed__(self) -> Iterator[str]:
        return reversed([key for key, _, _ in self._files()])

    def __len__(self) -> int:
        return len(self._files())

    def to_dict(self) -> dict[str, Any]:
        """Give all files as a plain dict, sorted by path.  Cost: 1 request."""
        return dict(self._listed_items())

    def _listed_items(self) -> list[tuple[str, Any]]:
        decode = self._codec.decode
        return [(k, decode_node(p, n.text, decode)) for k, p, n in self._files()]

    def _files(self) -> list[tuple[str, str, File]]:
        """List the subtree: key, path and node of each file, sorted by key."""
        try:
            node = self._tree.list(f"{self._root}/", recursive=True)
        except KeyNotFound as error:
            if error.code == 104:
                raise self._not_a_directory() from error
            return []
        if not isinstance(node, Directory):
            raise self._not_a_directory()
        return sorted(self._walk("", self._root, node))

    def _walk(
        self, above: str, path: str, directory: Directory
    ) -> Iterator[tuple[str, str, File]]:
        for key, name in self._keys_and_names(directory):
            child, child_path = directory.children[name], f"{path}/{name}"
            if isinstance(child, File):
                yield above + key, child_path, child
            else:
                yield from self._walk(f"{above}{key}/", child_path, child)

    # --- writes
    def __setitem__(self, key: str, value: Any) -> None:
        path = self._writable(key)
        self._tree.put(path, self._text(key, value))

    def _text(self, key: str, value: Any) -> str:
        if isinstance(value, Mapping):
            raise TypeError(
                f"{key!r}: a flat view holds values only; name the paths one by one, "
                "or assign to the nested mapping"
            )
        return self._encode_text(value)

    def __delitem__(self, key: str) -> None:
        self._check_writable()
        path = self._readable(key)
        try:
            self._tree.delete_file(path)
        except (KeyNotFound, NotADirectory, NotAFile) as error:
            raise absent(key, error.reason) from error

    def pop(self, key: str, default: Any = MISSING) -> Any:
        """Remove a key and give its value, which is handed out once.

        Cost: 2 requests; 2 more each time that another writer comes between.
        """
        self._check_writable()
        try:
            path = self._readable(key)
            while True:
                node = self._tree.get(path)
                if not isinstance(node, File):
                    raise absent(key, "a directory is there")
                value = decode_node(path, node.text, self._codec.decode)
                if self._take(path, node):  # decoded first: then it is gone
                    return value
        except KeyNotFound as error:
            if default is not MISSING:
                return default
            error.args = (key,)
            raise

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key and give it with its value.

        Cost: 2 requests; 1 more for each key that somebody else took.
        """
        self._check_writable()
        while files := self._files():
            for key, path, node in reversed(files):
                value = decode_node(path, node.text, self._codec.decode)
                try:
                    if self._take(path, node):  # decoded first: then it is gone
                        return key, value
                except KeyNotFound:
                    continue  # somebody else took it
        raise absent("popitem(): the mapping is empty", "the mapping is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give the value of a key, after storing `default` if it was absent.

        Racing callers agree on one value.

        Raises:
            NotAFile: a directory is there.

        Cost: 1 request if it was present; else 2.
        """
        path = self._writable(key)
        text = self._text(key, default)
        while True:
            try:
                node = self._tree.get(path)
            except KeyNotFound:
                try:
                    self._tree.put(path, text, expect=ABSENT)
                except KeyExists:
                    continue  # another caller was quicker: take theirs
                except OutcomeUnknown:
                    # Whose value it is does not matter here, if there is one.
                    if not self._is_there(path):
                        raise
                    continue
                return decode_node(path, text, self._codec.decode)
            if not isinstance(node, File):
                raise NotAFile("a directory is there", code=102, key=path)
            return decode_node(path, node.text, self._codec.decode)

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store many values; checked whole before the first write.

        Raises:
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 request for each key.  Atomic: per key.
        """
        self._check_writable()
        other = plain_mapping(other)
        texts: dict[str, tuple[str, str]] = {}
        for key, value in {**dict(other), **kwargs}.items():
            path = self._naming.writable(self._root, key)
            texts[path[len(self._root) + 1 :]] = (path, self._text(key, value))
        for below, above in overlapping(texts):
            raise InvalidKey(f"{below!r} lies below {above!r}, which is a value")
        todo = Plan()
        todo.writes += [Put(path, text) for path, text in texts.values()]
        sending.carry_out(self._tree, todo)

    def __ior__(self: F, other: Any) -> F:  # type: ignore[override,misc]
        """Update from a mapping or pairs.  Cost: as `update`."""
        self.update(other)
        return self

    def clear(self) -> None:
        """Delete all files of the subtree; directories stay.

        Raises:
            PrefixRequired: the mapping was made without a prefix.

        Cost: 1 listing, and 1 request for each file.  Atomic: no.
        """
        self._check_writable()
        self._check_prefix("clear() would empty the whole cluster")
        todo = Plan()
        todo.leftovers += [delete(path, node) for _, path, node in self._files()]
        sending.carry_out(self._tree, todo)

"""The model of the state machine: directories and files in memory.

`ModelMapping` and `ModelFlat` do what the mappings promise, in the simplest way.
What a ttl counts to is left out: a node has one or has none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
)
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from etcdmap import (
    CompareFailed,
    DirectoryGone,
    InvalidKey,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    PartialWrite,
)
from etcdmap.codecs import AutoCodec, Codec

Path: TypeAlias = "tuple[str, ...]"

_MISSING: Any = object()


@dataclass
class FileNode:
    """A file: its text, and whether it expires."""

    text: str
    ttl: bool = False


@dataclass
class DirNode:
    """A directory: its children by name, and whether it expires."""

    children: dict[str, FileNode | DirNode] = field(default_factory=dict)
    ttl: bool = False


Found: TypeAlias = "FileNode | DirNode | None"


class ModelTree:
    """What etcd does with paths."""

    def __init__(self) -> None:
        self.root = DirNode()

    def find(self, path: Path) -> Found:
        """Give a node or None; NotADirectory where a file stands on the way."""
        node: Found = self.root
        for name in path:
            if isinstance(node, FileNode):
                raise NotADirectory("a file on the way")
            node = None if node is None else node.children.get(name)
        return node

    def put(self, path: Path, new: FileNode | DirNode) -> None:
        """Put a node in the place of whatever is there; make the way to it."""
        self.find(path)
        directory = self.root
        for name in path[:-1]:
            below = directory.children.setdefault(name, DirNode())
            assert isinstance(below, DirNode)
            directory = below
        directory.children[path[-1]] = new

    def remove(self, path: Path) -> None:
        """Delete a node that is there, with all below it."""
        directory = self.find(path[:-1])
        assert isinstance(directory, DirNode)
        del directory.children[path[-1]]

    # --- what keys_api does

    def set(self, path: Path, text: str, ttl: bool = False) -> None:
        """PUT a file."""
        if isinstance(self.find(path), DirNode):
            raise NotAFile("a directory")
        self.put(path, FileNode(text, ttl))

    def make_directory(self, path: Path, ttl: bool = False) -> None:
        """PUT a directory where nothing is."""
        if self.find(path) is not None:
            raise KeyExists("something is there")
        self.put(path, DirNode(ttl=ttl))

    def delete(self, path: Path) -> None:
        """DELETE whatever is there."""
        if self.find(path) is None:
            raise KeyNotFound("absent")
        self.remove(path)

    def refresh(self, path: Path) -> None:
        """Give a file a ttl."""
        node = self.find(path)
        if node is None:
            raise KeyNotFound("absent")
        node.ttl = True

    def pass_through(self, path: Path) -> None:
        """Make the directories on the way to a hidden node."""
        node = self.find(path)
        if isinstance(node, FileNode):
            raise NotADirectory("a file on the way")
        if node is None:
            self.put(path, DirNode())


class ModelView(MutableMapping[str, Any]):
    """What the mapping and its flat view have in common."""

    def __init__(self, tree: ModelTree, base: Path, codec: Codec | None = None) -> None:
        self.tree = tree
        self.base = base
        self.codec = AutoCodec() if codec is None else codec

    def _directory(self) -> DirNode:
        """Give the directory stood on, an empty one where there is none."""
        node = self.tree.find(self.base)
        if isinstance(node, FileNode):
            raise NotADirectory("the directory is a file")
        return DirNode() if node is None else node

    def _read(self, key: object) -> Found:
        """Give the node of a key; None where there is none or can't be one."""
        if not isinstance(key, str) or why_refused(key):
            return None
        try:
            return self.tree.find(self._path(key))
        except NotADirectory:
            return None

    def _path(self, key: str) -> Path:
        return (*self.base, *key.split("/"))

    def _writable(self, key: object) -> Path:
        """Give the path of a key to write; refuse bad ones."""
        if not isinstance(key, str):
            raise TypeError("no str")
        if why_refused(key) or any(unicodedata.category(c) == "Cc" for c in key):
            raise InvalidKey(key)
        return self._path(key)

    def _decode(self, node: FileNode) -> Any:
        return self.codec.decode(node.text)

    def __eq__(self, other: object) -> bool:
        return bool(self.to_dict() == plain_of(other))

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> dict[str, Any]:
        return {**self.to_dict(), **plain_of(other)}

    def __ror__(self, other: Any) -> dict[str, Any]:
        return {**plain_of(other), **self.to_dict()}

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __copy__(self) -> dict[str, Any]:
        return self.to_dict()

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return self.to_dict()

    def copy(self) -> dict[str, Any]:
        """Give a plain dict."""
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Give a plain dict."""
        raise NotImplementedError

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def keys(self) -> ModelKeys:
        """Give the keys."""
        return ModelKeys(self)


class ModelKeys(KeysView[str]):
    """Keys whose set operations look at all of them, as those of a dict do."""

    def __and__(self, other: Any) -> Any:
        return set(self) & other

    def __or__(self, other: Any) -> Any:
        return set(self) | other

    def __sub__(self, other: Any) -> Any:
        return set(self) - other

    def __xor__(self, other: Any) -> Any:
        return set(self) ^ other

    def isdisjoint(self, other: Any) -> bool:
        """Tell whether nothing is in both."""
        return set(self).isdisjoint(other)


class ModelMapping(ModelView):
    """What `EtcdMapping` promises."""

    @property
    def flat(self) -> ModelFlat:
        """The flat view."""
        return ModelFlat(self.tree, self.base, self.codec)

    def sub(self, key: str) -> ModelMapping:
        """Give the mapping on a subdirectory."""
        return ModelMapping(self.tree, self._writable(key), self.codec)

    # --- reads

    def __getitem__(self, key: str) -> Any:
        node = self._read(key)
        if node is None:
            raise KeyNotFound(key)
        if isinstance(node, FileNode):
            return self._decode(node)
        return ModelMapping(self.tree, self._path(key), self.codec)

    def __contains__(self, key: object) -> bool:
        return self._read(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._directory().children))

    def __len__(self) -> int:
        return len(self._directory().children)

    def ttl(self, key: str) -> bool:
        """Tell whether a node expires."""
        node = self._read(key)
        if node is None:
            raise KeyNotFound(key)
        return node.ttl

    def to_dict(self) -> dict[str, Any]:
        """Give a plain nested dict."""
        content: dict[str, Any] = self._plain(self._directory())
        return content

    def _plain(self, node: FileNode | DirNode) -> Any:
        if isinstance(node, FileNode):
            return self._decode(node)
        return {k: self._plain(child) for k, child in sorted(node.children.items())}

    # --- writes of one key

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def set(
        self, key: str, value: Any, *, ttl: float | None = None, keep_ttl: bool = False
    ) -> None:
        """Store a value or a mapping."""
        path, new = self._writable(key), self._encode(value)
        if keep_ttl and (ttl is not None or isinstance(new, DirNode)):
            raise ValueError("keep_ttl is for values, without ttl")
        current = self.tree.find(path)
        new.ttl = ttl is not None
        if keep_ttl and isinstance(current, FileNode):
            new.ttl = current.ttl
        self.tree.put(path, new)

    def _encode(self, value: Any) -> FileNode | DirNode:
        value = taken(value)
        if not isinstance(value, Mapping):
            return FileNode(self.codec.encode(value))
        node = DirNode()
        for key, child in value.items():
            self._writable(key)
            if "/" in key:
                raise InvalidKey(key)
            node.children[key] = self._encode(child)
        return node

    def _encode_text(self, value: Any) -> str:
        return self.codec.encode(value)

    def create(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store where nothing is."""
        path, new = self._writable(key), self._encode(value)
        if self.tree.find(path) is not None:
            raise KeyExists("something is there")
        new.ttl = ttl is not None
        self.tree.put(path, new)

    def replace(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store where something is."""
        path, new = self._writable(key), self._encode(value)
        if self.tree.find(path) is None:
            raise KeyNotFound(key)
        new.ttl = ttl is not None
        self.tree.put(path, new)

    def __delitem__(self, key: str) -> None:
        if self._read(key) is None:
            raise KeyNotFound(key)
        self.tree.remove(self._path(key))

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a key; a directory comes as a plain dict."""
        node = self._read(key)
        if node is None:
            if default is _MISSING:
                raise KeyNotFound(key)
            return default
        value = self._plain(node)
        self.tree.remove(self._path(key))
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key."""
        if not len(self):
            raise KeyNotFound("empty")
        key = list(self)[-1]
        return key, self.pop(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give what is there, after storing a default."""
        path, new = self._writable(key), self._encode(default)
        if self.tree.find(path) is None:
            self.tree.put(path, new)
        return self[key]

    def mkdir(self, key: str, *, ttl: float | None = None) -> ModelMapping:
        """Make an empty directory."""
        path = self._writable(key)
        self.tree.make_directory(path, ttl is not None)
        return ModelMapping(self.tree, path, self.codec)

    def refresh(self, key: str, ttl: float) -> None:
        """Give a file a ttl."""
        node = self.tree.find(self._writable(key))
        if node is None:
            raise KeyNotFound(key)
        node.ttl = True

    # --- conditions

    def compare_and_swap(
        self, key: str, expected: Any, new: Any, *, ttl: float | None = None
    ) -> None:
        """Store if a value is there."""
        path, text = self._writable(key), self._encode_text(new)
        self._compare(key, path, self._encode_text(expected))
        self.tree.put(path, FileNode(text, ttl is not None))

    def compare_and_delete(self, key: str, expected: Any) -> None:
        """Delete if a value is there."""
        path = self._writable(key)
        self._compare(key, path, self._encode_text(expected))
        self.tree.remove(path)

    def _compare(self, key: str, path: Path, text: str) -> None:
        current = self.tree.find(path)
        if current is None:
            raise KeyNotFound(key)
        if isinstance(current, DirNode):
            raise NotAFile("a directory")
        if current.text != text:
            raise CompareFailed("another value")

    def transform(
        self, key: str, func: Callable[[Any], Any], *, default: Any = _MISSING
    ) -> Any:
        """Replace a value by what a function makes of it."""
        path = self._writable(key)
        current = self.tree.find(path)
        if isinstance(current, DirNode):
            raise NotAFile("a directory")
        if current is None and default is _MISSING:
            raise KeyNotFound(key)
        new = func(default if current is None else self._decode(current))
        kept = current is not None and current.ttl
        self.tree.put(path, FileNode(self._encode_text(new), kept))
        return new

    # --- writes of many keys

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store many keys."""
        for path, node in self._encode_all(other, kwargs).items():
            self.tree.put(path, node)

    def _encode_all(
        self, other: Any, kwargs: Mapping[str, Any]
    ) -> dict[Path, FileNode | DirNode]:
        values = {**dict(taken(other)), **kwargs}
        wanted = {self._writable(k): self._encode(v) for k, v in values.items()}
        refuse_overlaps(wanted)
        for path in wanted:
            self.tree.find(path)  # a file on the way of one: none is written
        return wanted

    def merge(self, other: Any, *, ttl: float | None = None) -> None:
        """Store deeply."""
        for path, node in self._encode_all(other, {}).items():
            self._merge(path, node, ttl is not None)

    def _merge(self, path: Path, new: FileNode | DirNode, ttl: bool) -> None:
        if isinstance(new, FileNode):
            self.tree.put(path, FileNode(new.text, ttl))
            return
        if not isinstance(self.tree.find(path), DirNode):
            self.tree.put(path, DirNode())
        for name, child in new.children.items():
            self._merge((*path, name), child, ttl)

    def assign(self, other: Any, *, dry_run: bool = False) -> None:
        """Become equal to a mapping."""
        new = self._encode(other)
        assert isinstance(new, DirNode)
        self._directory()
        current = self.tree.find(self.base)
        if dry_run or (current is None and not new.children):
            return
        new.ttl = current is not None and current.ttl
        self.tree.put(self.base, new)

    def clear(self) -> None:
        """Delete all keys."""
        self._directory().children.clear()


class ModelFlat(ModelView):
    """What `EtcdMapping.flat` promises."""

    def _files(self) -> dict[str, FileNode]:
        return dict(sorted(self._walk("", self._directory())))

    def _walk(self, above: str, node: DirNode) -> Iterable[tuple[str, FileNode]]:
        for name, child in node.children.items():
            if isinstance(child, FileNode):
                yield above + name, child
            else:
                yield from self._walk(f"{above}{name}/", child)

    def _file(self, key: Any) -> FileNode:
        node = self._read(key)
        if not isinstance(node, FileNode):
            raise KeyNotFound(key)
        return node

    def __getitem__(self, key: str) -> Any:
        return self._decode(self._file(key))

    def __contains__(self, key: object) -> bool:
        return isinstance(self._read(key), FileNode)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files())

    def __len__(self) -> int:
        return len(self._files())

    def to_dict(self) -> dict[str, Any]:
        """Give all files by path."""
        return {key: self._decode(node) for key, node in self._files().items()}

    def _encode(self, value: Any) -> FileNode:
        if isinstance(value, Mapping):
            raise TypeError("values only")
        return FileNode(self.codec.encode(value))

    def __setitem__(self, key: str, value: Any) -> None:
        path, new = self._writable(key), self._encode(value)
        self.tree.set(path, new.text)

    def __delitem__(self, key: str) -> None:
        self._file(key)
        self.tree.remove(self._path(key))

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Remove a file."""
        if key not in self and default is not _MISSING:
            return default
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last file."""
        if not len(self):
            raise KeyNotFound("empty")
        key = list(self)[-1]
        return key, self.pop(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give what is there, after storing a default."""
        path, new = self._writable(key), self._encode(default)
        current = self.tree.find(path)
        if isinstance(current, DirNode):
            raise NotAFile("a directory")
        if current is None:
            self.tree.put(path, new)
        return self[key]

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store many files; those that can't be are told, the others stored."""
        values = {**dict(taken(other)), **kwargs}
        wanted = {self._writable(k): self._encode(v) for k, v in values.items()}
        refuse_overlaps(wanted)
        written, failed = [], {}
        for path, node in wanted.items():
            try:
                self.tree.set(path, node.text)
            except (NotAFile, NotADirectory) as error:
                failed["/".join(path)] = error
            else:
                written.append("/".join(path))
        if failed and len(wanted) == 1:
            raise next(iter(failed.values()))
        if failed:
            raise PartialWrite(written=written, failed=failed, pending=())

    def clear(self) -> None:
        """Delete all files; directories stay."""
        for key in self._files():
            self.tree.remove(self._path(key))


def why_refused(key: str) -> bool:
    """Tell whether no node can have this key."""
    return any(
        not part or part in (".", "..") or part[0] == "_" for part in key.split("/")
    )


def refuse_overlaps(paths: Iterable[Path]) -> None:
    """Refuse two paths of which one lies below the other."""
    known = list(paths)
    for one in known:
        for other in known:
            if one != other and one == other[: len(one)]:
                raise InvalidKey("overlapping")


def taken(value: Any) -> Any:
    """Give a mapping that is to be stored as a plain dict; refuse one that is gone."""
    if isinstance(value, ModelView) and value.tree.find(value.base) is None:
        raise DirectoryGone
    return plain_of(value)


def plain_of(value: Any) -> Any:
    """Give a mapping as a plain dict; leave everything else as it is."""
    return value.to_dict() if isinstance(value, ModelView) else value

"""A store in memory, which shows that a mapping needs no etcd below it, only a `Store`.

It keeps what `etcdmap.tree` promises, and knows of no API, no client and no transport.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias

from etcdmap import errors
from etcdmap.codecs import decode_node
from etcdmap.paths import PLAIN, name_of, warn_left_out
from etcdmap.tree import (
    Change,
    Directory,
    Expect,
    Fence,
    File,
    Holding,
    Node,
    Reading,
    Snapshot,
)

#: Characters of a text; seconds.
MAX_TEXT, MAX_TTL = 10_000_000, 1e9


@dataclass
class _File:
    text: str
    index: int
    ends: float


@dataclass
class _Directory:
    ends: float = math.inf
    children: dict[str, _File | _Directory] = field(default_factory=dict)


_Node: TypeAlias = "_File | _Directory"


class Tree:
    """What stores share: the nodes, their index, the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.root = _Directory()
        self.index = 1
        self._lock = threading.Lock()
        #: Stands where a client would: nobody is asked, there is no connection.
        self.client = SimpleNamespace(
            endpoints=("memory",),
            close=lambda: None,
            clock=time.monotonic,
            timeout=5.0,
            stores={},
            on_close=[],
        )
        #: All that was written, for those who follow; what expires is not in it.
        self.log: list[Change] = []

    @contextmanager
    def asked(self, path: str) -> Iterator[Tree]:
        """Hold the tree still for one request; have its refusal name the key."""
        with self._lock:
            try:
                yield self
            except errors.ServerError as error:
                error.key, error.etcd_index = path or "/", self.index
                raise

    def inside(self, directory: _Directory) -> dict[str, _Node]:
        """Give what is in a directory and has not expired."""
        now = self.clock()
        for name, node in list(directory.children.items()):
            if node.ends <= now:
                del directory.children[name]
        return directory.children

    def find(self, path: str) -> _Node:
        """Give the node at a path."""
        node: _Node = self.root
        for name in path.split("/")[1:]:
            if isinstance(node, _File):
                raise errors.NotADirectory("Not a directory")
            children = self.inside(node)
            if name not in children:
                raise errors.KeyNotFound("Key not found")
            node = children[name]
        return node

    def file(self, path: str) -> _File:
        """Give the file at a path."""
        node = self.find(path)
        if isinstance(node, _Directory):
            raise errors.NotAFile("Not a file")
        return node

    def place(self, path: str) -> dict[str, _Node]:
        """Give the children of the directory above a path; make it if need be."""
        if not path:
            raise errors.RootReadOnly("Root is read only")
        node: _Node = self.root
        for name in path.split("/")[1:-1]:
            if isinstance(node, _Directory):
                node = self.inside(node).setdefault(name, _Directory())
        if isinstance(node, _File):
            raise errors.NotADirectory("Not a directory")
        return self.inside(node)

    def put(self, path: str, text: str, ttl: float | None) -> int:
        """Write a file, whatever is there."""
        children = self.place(path)
        self.index += 1
        children[name_of(path)] = _File(text, self.index, self.end(ttl))
        self.log.append(Change("set", path, text, self.index))
        return self.index

    def end(self, ttl: float | None) -> float:
        """Return when what is written now ends."""
        return math.inf if ttl is None else self.clock() + math.ceil(ttl)

    def show(self, node: _Node, levels: float) -> Node:
        """Give a node as it is listed: without the names that start with ``_``."""
        ttl = None if node.ends == math.inf else math.ceil(node.ends - self.clock())
        if isinstance(node, _File):
            return File(node.text, node.index, ttl)
        names = [name for name in self.inside(node) if levels and name[0] != "_"]
        shown = {name: self.show(node.children[name], levels - 1) for name in names}
        return Directory(shown, ttl)


class MemoryFollower:
    """A `Follower` of a tree; it never misses anything."""

    def __init__(self, store: MemoryStore, path: str, after: int) -> None:
        self.trouble: errors.EtcdMapError | None = None
        self.lasting = False
        self.proved = math.inf
        self._store = store
        self._path = path
        self.covered = after
        self.max_stale = 10.0
        self._woken = threading.Event()

    @property
    def settled(self) -> int:
        return self.covered

    @property
    def seen(self) -> int:
        return self._store.index(self._path)

    def read(self) -> Reading:
        try:
            node = self._store.list(self._path, recursive=True)
        except errors.KeyNotFound as error:
            self.covered = error.etcd_index or 0
            return Reading(None, self.covered)
        self.covered = self.seen
        return Reading(_texts(node), self.covered)

    def follow(self, until: float) -> Sequence[Change | Reading]:
        while not self._woken.is_set() and time.monotonic() < until:
            before, self.covered = self.covered, self.seen
            news = [self._seen_from_here(c) for c in self._store.log(before)]
            if news:
                return [change for change in news if change is not None]
            self._woken.wait(0.001)
        return []

    def _seen_from_here(self, change: Change) -> Change | None:
        if f"{self._path}/".startswith(f"{change.path}/"):
            return change._replace(path=self._path)
        return change if change.path.startswith(f"{self._path}/") else None

    def prove(self) -> None:
        pass

    def close(self) -> None:
        self._woken.set()


class MemoryStore:
    """A `Store` on a tree; what its methods do, `etcdmap.tree` says."""

    cache = None
    longest_ttl = int(MAX_TTL)

    def __init__(
        self, tree: Tree, timeout: float = 5.0, deadline: float | None = None
    ) -> None:
        self._tree = tree
        self.client: Any = tree.client
        self._timeout = timeout
        self._deadline = deadline

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> MemoryStore:
        if consistency not in (None, "session", "linearizable", "any"):
            raise ValueError(f"no consistency: {consistency!r}")
        return MemoryStore(self._tree, timeout or self._timeout)

    def call(self, until: float | None = None) -> MemoryStore:
        deadline = self.until if until is None else min(until, self.until)
        return MemoryStore(self._tree, self._timeout, deadline)

    @property
    def until(self) -> float:
        if self._deadline is None:
            return self._tree.clock() + self._timeout
        return self._deadline

    def pause(self, seconds: float) -> bool:
        if self._tree.clock() + seconds >= self.until:
            return False
        time.sleep(seconds)
        return True

    # --- reads

    def get(self, path: str, *, cached: bool = False) -> Node:
        with self._tree.asked(path) as tree:
            return tree.show(tree.find(path), levels=0)

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        with self._tree.asked(path) as tree:
            node = tree.show(tree.find(path), levels=math.inf if recursive else 1)
            if isinstance(node, File):
                return node
            return node._replace(etcd_index=tree.index)

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        node = self.list(path, recursive=True)
        if isinstance(node, File):
            raise errors.NotADirectory("Not a directory", key=path)
        content = _plain(path, node, decode, key_of or PLAIN.key)
        return Snapshot(content, node.etcd_index)

    def exists(self, path: str) -> bool:
        with suppress(errors.KeyNotFound, errors.NotADirectory):
            self.get(path)
            return True
        return False

    def index(self, path: str) -> int:
        return self._tree.index

    def log(self, after: int) -> Sequence[Change]:
        """Return what was written after an index."""
        return [change for change in list(self._tree.log) if change.index > after]

    def follower(
        self,
        path: str,
        *,
        of_directory: bool = False,
        after: int | None = None,
        max_stale: float = 10.0,
        heals: bool = False,
    ) -> MemoryFollower:
        return MemoryFollower(self, path, after or 0)

    # --- writes

    def check_text(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise errors.LimitExceeded(f"a text of {len(text)} characters")

    def check_ttl(self, ttl: float) -> None:
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
            raise TypeError(f"no ttl: {ttl!r}")
        if not 0 < ttl <= MAX_TTL:
            raise ValueError(f"no ttl: {ttl!r}")

    def put(
        self,
        path: str,
        text: str,
        *,
        ttl: float | None = None,
        known: Fence | None = None,
        expect: Expect | None = None,
    ) -> int:
        with self._writing(path, text, ttl) as tree:
            if expect is not None:
                self._meet(path, expect)
            if isinstance(tree.place(path).get(name_of(path)), _Directory):
                raise errors.NotAFile("Not a file")
            return tree.put(path, text, ttl)

    def put_over(self, path: str, text: str, *, ttl: float | None = None) -> int:
        with self._writing(path, text, ttl) as tree:
            return tree.put(path, text, ttl)

    def append(self, path: str, text: str, *, ttl: float | None = None) -> str:
        with self._writing(path, text, ttl) as tree:
            name = f"{tree.index + 1:020}"
            tree.put(f"{path}/{name}", text, ttl)
            return name

    def refresh(self, path: str, ttl: float) -> None:
        with self._writing(path, "", ttl) as tree:
            tree.put(path, tree.file(path).text, ttl)

    def delete(
        self, path: str, *, known: Fence | None = None, expect: Expect | None = None
    ) -> None:
        with self._writing(path) as tree:
            if expect is not None:
                self._meet(path, expect)
            _ = tree.find(path) if known is None else tree.file(path)
            del tree.place(path)[name_of(path)]
            tree.index += 1
            tree.log.append(Change("delete", path, None, tree.index))

    def delete_directory(self, path: str) -> None:
        self.delete(path)

    def make_directory(
        self, path: str, *, ttl: float | None = None, over_file: bool = False
    ) -> None:
        with self._writing(path, "", ttl) as tree:
            children, name = tree.place(path), name_of(path)
            if name in children and not over_file:
                raise errors.KeyExists("Key already exists")
            if isinstance(children.get(name), _Directory):
                raise errors.NotAFile("Not a file")
            children[name] = _Directory(tree.end(ttl))
            tree.index += 1
            tree.log.append(Change("make_directory", path, None, tree.index))

    def _writing(
        self, path: str, text: str = "", ttl: float | None = None
    ) -> AbstractContextManager[Tree]:
        self.check_text(text)
        if ttl is not None:
            self.check_ttl(ttl)
        return self._tree.asked(path)

    def _meet(self, path: str, expect: Expect) -> None:
        """Raise unless a key is in the state that is expected."""
        if isinstance(expect, Fence) and expect.absent:
            if name_of(path) in self._tree.place(path):
                raise errors.KeyExists("Key already exists")
            return
        file = self._tree.file(path)
        is_other = (isinstance(expect, Fence) and file.index != expect.as_of) or (
            isinstance(expect, Holding) and file.text != expect.text
        )
        if is_other:
            raise errors.CompareFailed("Compare failed")


def _texts(node: Node) -> Any:
    if isinstance(node, File):
        return node.text
    return {name: _texts(child) for name, child in node.children.items()}


def _plain(
    path: str,
    directory: Directory,
    decode: Callable[[str], Any],
    key_of: Callable[[str], str | None],
) -> dict[str, Any]:
    """Give a directory that was listed whole as plain values, sorted by key."""
    content: dict[str, Any] = {}
    for name, child in directory.children.items():
        key, below = key_of(name), f"{path}/{name}"
        if key is None:
            warn_left_out(below)
        elif isinstance(child, File):
            content[key] = decode_node(below, child.text, decode)
        else:
            content[key] = _plain(below, child, decode, key_of)
    return dict(sorted(content.items()))

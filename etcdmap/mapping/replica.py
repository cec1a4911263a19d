"""A tree held in memory: states that are never edited, what leads from one to another.

A state is what a `Follower` told so far.  Of a change only the directories above it are
copied; all else is shared by the states.  So a reader that holds one sees all of it as
one moment had it, and two can be compared quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from etcdmap.client import Client
from etcdmap.codecs import decode_node
from etcdmap.errors import KeyNotFound, NotADirectory
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.paths import PLAIN
from etcdmap.tree import Change, Directory, Event, File, Node, Reading, Snapshot, Tree


class State(NamedTuple):
    """What is at a path and below it, as of an index."""

    path: str
    root: Tree
    index: int  # type: ignore[assignment]  # in place of tuple's method
    #: Whether all is known; else only what was told since it is followed.
    whole: bool = True

    def names_of(self, path: str) -> list[str]:
        """Return the names that lead from the root of this tree to a path."""
        return path[len(self.path) + 1 :].split("/") if path != self.path else []

    def find(self, path: str) -> Tree:
        """Return what is at a path; NotADirectory if a file stands on the way."""
        node: Any = self.root
        for name in self.names_of(path):
            if isinstance(node, str):
                raise NotADirectory("a file stands on the way", key=path)
            node = None if node is None else node.get(name)
        found: Tree = node
        return found


# --- from one state to the next


def after(
    state: State, news: Iterable[Change | Reading], covered: int = 0
) -> tuple[State, list[Event]]:
    """Return the state after some news, and the events that tell of them.

    If `covered` is higher, the state gets that index.  A change does not take the index
    back: it may have been said too soon.
    """
    events: list[Event] = []
    for each in news:
        if isinstance(each, Reading):
            new = State(state.path, each.root, each.index)
            events += differences(state, new)
            state = new
        elif each.action == "set":
            state = _after_a_set(state, each, events)
        elif each.action == "make_directory":
            state = _after_a_directory(state, each, events)
        else:
            state = _after_an_end(state, each, events)
    if covered > state.index:
        state = state._replace(index=covered)
    return state, events


# Each returns the next state, and adds its events to the last argument.


def _after_a_set(state: State, news: Change, events: list[Event]) -> State:
    _, path, text, index, before, _ = news
    top, root, shown, whole = state
    root, old = _with(root, path[len(top) + 1 :], text)
    if isinstance(old, str):  # nearly always
        event = "set", path, text, old, index, False
        events.append(tuple.__new__(Event, event))
    else:
        events += _made_on_the_way(state, path, index)
        if old is not None:
            events += _gone("delete", path, old, index)
        events.append(Event("set", path, text, before, index))
    if index < shown:
        index = shown
    return tuple.__new__(State, (top, root, index, whole))


def _after_a_directory(state: State, news: Change, events: list[Event]) -> State:
    old = _known_at(state, state.names_of(news.path))
    root = state.root
    events += _made_on_the_way(state, news.path, news.index)
    if not isinstance(old, dict):
        root, _ = _with(root, news.path[len(state.path) + 1 :], {})
        if state.whole or not news.implied:
            before = news.previous if old is None else old
            events.append(Event(news.action, news.path, None, before, news.index))
    return State(state.path, root, max(news.index, state.index), state.whole)


def _after_an_end(state: State, news: Change, events: list[Event]) -> State:
    names = state.names_of(news.path)
    old, root, whole = _known_at(state, names), state.root, state.whole
    if old is not None or not whole:
        events += _gone(news.action, news.path, old, news.index, news.previous)
        root = _without(root, names)
        # Where the root went, all is known again: there is nothing.
        whole = whole or not names
    return State(state.path, root, max(news.index, state.index), whole)


def differences(old: State, new: State) -> Iterator[Event]:
    """Yield the events that lead from a state to another one, marked `coalesced`."""
    yield from _differences(new.path, old.root, new.root, new.index)


def _known_at(state: State, names: list[str]) -> Tree:
    node: Any = state.root
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    found: Tree = node
    return found


def _with(root: Any, below: str, node: Any) -> tuple[Tree, Tree]:
    """Return a tree with a node below its root, and what was in its place."""
    if not below:
        return node, root
    new = top = dict(root) if isinstance(root, dict) else {}
    if "/" in below:
        *above, below = below.split("/")
        for name in above:
            old = new.get(name)
            new[name] = dict(old) if isinstance(old, dict) else {}
            new = new[name]
    old = new.get(below)
    new[below] = node
    return top, old


def _without(root: Any, names: list[str]) -> Any:
    """Return a tree without a node."""
    if not names or not isinstance(root, dict) or names[0] not in root:
        return root if names else None
    new = dict(root)
    if len(names) > 1:
        new[names[0]] = _without(root[names[0]], names[1:])
    else:
        del new[names[0]]
    return new


def _made_on_the_way(state: State, path: str, index: int) -> Iterator[Event]:
    if not state.whole:
        return  # they may have been there
    names = state.names_of(path)
    node, path = state.root, state.path
    for name in names:
        if not isinstance(node, dict):
            before = node if isinstance(node, str) else None
            yield Event("make_directory", path, None, before, index)
        node = node.get(name) if isinstance(node, dict) else None
        path = f"{path}/{name}"


def _gone(
    action: str, path: str, node: Tree, index: int, before: str | None = None
) -> Iterator[Event]:
    """Yield an event for each file that goes, and for what goes itself."""
    if isinstance(node, dict):
        for below, text in _files(path, node):
            yield Event(action, below, None, text, index)
    else:
        before = before if node is None else node
    yield Event(action, path, None, before, index)


def _files(path: str, directory: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, node in sorted(directory.items()):
        if isinstance(node, str):
            yield f"{path}/{name}", node
        else:
            yield from _files(f"{path}/{name}", node)


def _differences(path: str, old: Any, new: Any, index: int) -> Iterator[Event]:
    if old is new or old == new:
        return
    was_dir, is_dir = isinstance(old, dict), isinstance(new, dict)
    before = None if was_dir else old
    if old is not None and (new is None or (was_dir and not is_dir)):
        gone = _gone("delete", path, old, index)
        yield from (event._replace(coalesced=True) for event in gone)
    if is_dir:
        if not was_dir:
            yield Event("make_directory", path, None, before, index, coalesced=True)
            old = {}
        for name in sorted(old.keys() - new.keys()):
            yield from _differences(f"{path}/{name}", old[name], None, index)
        for name, node in sorted(new.items()):
            yield from _differences(f"{path}/{name}", old.get(name), node, index)
    elif new is not None:
        yield Event("set", path, new, before, index, coalesced=True)


# --- as a store


class Replica:
    """A `ReadableStore` on a state; what its methods do is said there.

    Nothing is asked, so it has no deadlines, and all its options come to the same.
    """

    cache = None
    until = float("inf")

    def __init__(self, client: Client, state: Callable[[], State]) -> None:
        self.client = client
        self._state = state

    def using(
        self, *, consistency: str | None = None, timeout: float | None = None
    ) -> Replica:
        return self

    def call(self, until: float | None = None) -> Replica:
        """Return the store of this very moment: what is read from it agrees."""
        state = self._state()
        return Replica(self.client, lambda: state)

    def get(self, path: str, *, cached: bool = False) -> Node:
        node = _present(self._state(), path)
        return _shown(node, levels=0)

    def list(
        self, path: str, *, recursive: bool = False, of_directory: bool = False
    ) -> Node:
        state = self._state()
        node = _shown(_present(state, path), levels=1000 if recursive else 1)
        if isinstance(node, Directory):
            return node._replace(etcd_index=state.index)
        return node

    def read(
        self,
        path: str,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None = None,
    ) -> Snapshot:
        state = self._state()
        node = _present(state, path)
        if isinstance(node, str):
            raise NotADirectory("this mapping's directory is a file now", key=path)
        return Snapshot(_plain(path, node, decode, key_of or PLAIN.key), state.index)

    def exists(self, path: str) -> bool:
        state = self._state()
        return _known_at(state, state.names_of(path)) is not None

    def index(self, path: str) -> int:
        return self._state().index


def _present(state: State, path: str) -> str | dict[str, Any]:
    node = state.find(path)
    if node is None:
        raise KeyNotFound("Key not found", etcd_index=state.index, key=path)
    return node


def _shown(node: str | dict[str, Any], levels: int) -> Node:
    if isinstance(node, str):
        return File(node, 0, None)
    if not levels:
        return Directory({}, None)
    children = {name: _shown(child, levels - 1) for name, child in node.items()}
    return Directory(children, None)


def _plain(
    path: str,
    directory: dict[str, Any],
    decode: Callable[[str], Any],
    key_of: Callable[[str], str | None],
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, node in directory.items():
        key, below = key_of(name), f"{path}/{name}"
        if key is None:
            continue
        if isinstance(node, str):
            content[key] = decode_node(below, node, decode)
        else:
            content[key] = _plain(below, node, decode, key_of)
    return dict(sorted(content.items()))

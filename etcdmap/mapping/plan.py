"""What to write so that a subtree becomes what it should be.

Values are checked and encoded whole before anything is planned, so that what is
refused is refused before the first write.  A plan holds the differences only,
compared as encoded text: what a reader of etcd would see.  So ``1``, ``1.0``
and ``True`` are different, and so is a key that expires from one that does not.

The steps of a plan stand in phases, which follow each other; within a phase no step
needs another one, so they may be sent in any order or at the same time:

1. `room`: delete directories that values replace, make directories in place of files;
2. `top`: make the directory that gets a ttl;
3. `writes`: files, and empty directories; those on the way are made with them;
4. `leftovers`: delete what is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from etcdmap.errors import DirectoryGone, DirectoryNotEmpty, LimitExceeded, legible
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.views import plain_mapping
from etcdmap.paths import MAX_DEPTH, Naming
from etcdmap.refusals import Refused, place, shown_key
from etcdmap.tree import Directory, Fence, File, Node

#: A checked and encoded value: the text of a file, or a directory by name.
Encoded: TypeAlias = "str | dict[str, Encoded]"


class Put(NamedTuple):
    """Write a file."""

    path: str
    text: str
    ttl: float | None = None
    known: Fence | None = None  # the state that it replaces


class MakeDirectory(NamedTuple):
    """Make a directory; a file that is there is replaced."""

    path: str
    ttl: float | None = None


class Delete(NamedTuple):
    """Delete a file, or a directory with all below it."""

    path: str
    known: Fence | None = None  # the state of a file
    is_directory: bool = False


Step: TypeAlias = "Put | MakeDirectory | Delete"


@dataclass
class Plan:
    """Steps in phases; see the module's text."""

    naming: Naming  # tells which names are shown; the others stay
    since: int = 0  # the index of the store at the listing that it is made from
    room: list[Step] = field(default_factory=list)
    top: list[Step] = field(default_factory=list)
    writes: list[Step] = field(default_factory=list)
    leftovers: list[Step] = field(default_factory=list)

    @property
    def phases(self) -> tuple[list[Step], ...]:
        """The phases, in order; some may be empty."""
        return (self.room, self.top, self.writes, self.leftovers)

    @property
    def steps(self) -> list[Step]:
        """All steps in an order in which they can be sent one by one."""
        return [step for phase in self.phases for step in phase]


class Encoder:
    """Checks and encodes a document: mappings as directories, all else by a function.

    Mappings on etcd that are in it are read before `until`.  What is refused is noted
    in `refused`, so that all of it can be told.
    """

    def __init__(
        self, encode_text: Callable[[str, Any], str], naming: Naming, until: float
    ) -> None:
        self._encode_text = encode_text
        self._naming = naming
        self._until = until
        self.refused = Refused()

    def encode(self, path: str, value: Any) -> Encoded:
        """Return a value encoded; without sense if something of it was refused."""
        # One function, as a document may have 200 levels and its caller a deep stack.
        try:
            value = plain_mapping(value, self._until, stored=True)
        except DirectoryGone as error:
            self.refused.add(place(error, path))
            return ""
        if not isinstance(value, Mapping):
            return self.encode_value(path, value)
        encoded: dict[str, Encoded] = {}
        for key, child in value.items():
            try:
                below = self._naming.name_path(path, key)
            except (TypeError, ValueError) as error:
                self.refused.add(error)
                if path.count("/") >= MAX_DEPTH:
                    self.refused.raise_first()  # it may hold itself, more than once
                if not isinstance(
                    error, LimitExceeded
                ):  # or all below is too long, too
                    self.encode(f"{path}/{shown_key(key)}", child)
            else:
                encoded[below[len(path) + 1 :]] = self.encode(below, child)
        return encoded

    def encode_value(self, path: str, value: Any) -> str:
        """Like `encode`, for what is no mapping."""
        try:
            return self._encode_text(path, value)
        except (TypeError, ValueError) as error:
            self.refused.add(error)
            return ""


def become(
    plan: Plan,
    path: str,
    wanted: Encoded,
    current: Node | None,
    *,
    keep: bool = False,
    ttl: float | None = None,
) -> None:
    """Add what makes the node at `path` equal to `wanted`; what is not shown stays.

    `current` was listed whole.  With `keep`, what `wanted` does not name stays as well;
    with `ttl`, all files are written.
    """
    if isinstance(wanted, str):
        if isinstance(current, Directory):
            _delete(plan, plan.room, path, current)
        elif current and (current.text, current.ttl, ttl) == (wanted, None, None):
            return
        plan.writes.append(Put(path, wanted, ttl, _state(plan, current)))
        return
    if isinstance(current, Directory) and not keep:
        current = _let_go(plan, path, wanted, current)
    if isinstance(current, File):
        plan.room.append(MakeDirectory(path))
    elif current is None and not wanted:
        plan.writes.append(MakeDirectory(path))
    children = current.children if isinstance(current, Directory) else {}
    for name, child in wanted.items():
        below = f"{path}/{name}"
        become(plan, below, child, children.get(name), keep=keep, ttl=ttl)


def _let_go(
    plan: Plan, path: str, wanted: dict[str, Encoded], current: Directory
) -> Directory | None:
    """Add the deletes of what is shown and not wanted; return what is left."""
    if current.ttl is not None:
        # When its ttl ends, all that is assigned now would be deleted with it.
        _delete(plan, plan.room, path, current)
        return None
    for name in sorted(current.children.keys() - wanted.keys()):
        if plan.naming.key(name) is not None:
            _delete(plan, plan.leftovers, f"{path}/{name}", current.children[name])
    return current


def become_with_ttl(
    plan: Plan, path: str, wanted: dict[str, Encoded], current: Node | None, ttl: float
) -> None:
    """Add what makes a directory anew, which expires with all in it after `ttl`."""
    if current is not None:
        _delete(plan, plan.room, path, current)
    plan.top.append(MakeDirectory(path, ttl))
    become(plan, path, wanted, Directory({}, None))


def overwrite(plan: Plan, path: str, text: str, current: Node | None) -> None:
    """Add what ``m[k] = v`` does for a value.

    The file is written even if it is the same, and a directory in its place is deleted
    with all that is in it.
    """
    if isinstance(current, Directory):
        plan.room.append(delete(path, current))
    plan.writes.append(Put(path, text, None, _state(plan, current)))


def delete(path: str, current: Node) -> Delete:
    """Return the step that deletes a node as a listing showed it."""
    if isinstance(current, File):
        return Delete(path, Fence(current.modified_index))
    return Delete(path, is_directory=True)


def _delete(plan: Plan, phase: list[Step], path: str, current: Node) -> None:
    """Add a delete; raise DirectoryNotEmpty if what is not shown would go as well."""
    if isinstance(current, Directory):
        unshown = next(_unshown(plan.naming, path, current), None)
        if unshown is not None:
            raise DirectoryNotEmpty(
                f"nothing was written: this directory would go, but it holds "
                f"'{legible(unshown)}', which this mapping does not show. del takes "
                "all of it; a mapping that shows the name, or keys_api, can move it",
                key=path,
            )
    phase.append(delete(path, current))


def _unshown(naming: Naming, path: str, directory: Directory) -> Iterator[str]:
    """Yield the paths below a directory to which no key leads."""
    for name, child in directory.children.items():
        if naming.key(name) is None:
            yield f"{path}/{name}"
        elif isinstance(child, Directory):
            yield from _unshown(naming, f"{path}/{name}", child)


def _state(plan: Plan, current: Node | None) -> Fence | None:
    if isinstance(current, File):
        return Fence(current.modified_index)
    # In place of a directory the file is absent only from its delete on, whose index
    # is not known yet.
    if current is None and plan.since:
        return Fence(plan.since, absent=True)
    return None


def overlapping(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of path keys of which the first lies below the second."""
    free: set[str] = set()  # no key, and below none; most keys share them
    for key in keys:
        above = directory = key.rpartition("/")[0]
        if directory in free:
            continue
        found = False
        while above:
            if above in keys:
                found = True
                yield key, above
            above = above.rpartition("/")[0]
        if not found:
            free.add(directory)

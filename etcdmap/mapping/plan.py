"""Plan the writes that give a subtree its new content.

All values are checked and encoded before anything is planned, so that an error about a
value comes before the first write.  A plan contains the differences only.  Values are
compared as encoded text, which is what a reader of etcd would see.  So ``1``, ``1.0``
and ``True`` are different, and a key that expires differs from a key that does not.

The steps of a plan are sent in four phases, one after the other.  Within a phase no
step needs another one, so its steps may be sent in any order or at the same time:

1. `room`: delete directories that values replace, make directories in place of files;
2. `top`: make the directory that gets a ttl;
3. `writes`: write files, and make empty directories; etcd makes the directories above;
4. `leftovers`: delete everything else that the new content does not contain.
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
    known: Fence | None = None  # the state that the write replaces


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
    """Steps in phases; see the module's docstring."""

    naming: Naming  # tells which names are shown; all other names are kept
    since: int = 0  # the index of the store when the directory was listed
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
    """Checks and encodes a document: mappings as directories, values by a function.

    If the document contains mappings on etcd, they are read before `until`.  Everything
    that is refused is collected in `refused`, so that one error can report all of it.
    """

    def __init__(
        self, encode_text: Callable[[str, Any], str], naming: Naming, until: float
    ) -> None:
        self._encode_text = encode_text
        self._naming = naming
        self._until = until
        self.refused = Refused()

    def encode(self, path: str, value: Any) -> Encoded:
        """Return an encoded value; it is meaningless if a part of it was refused."""
        # Only one call for each level: a document may have 200 levels, and the caller
        # may have a deep stack already.
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
                    self.refused.raise_first()  # it may contain itself, more than once
                if not isinstance(
                    error, LimitExceeded
                ):  # below such a key, everything is too long as well
                    self.encode(f"{path}/{shown_key(key)}", child)
            else:
                encoded[below[len(path) + 1 :]] = self.encode(below, child)
        return encoded

    def encode_value(self, path: str, value: Any) -> str:
        """Do what `encode` does, for a value that is no mapping."""
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
    """Add the steps that make the node at `path` equal to `wanted`.

    Names that are not shown are kept.  `current` was listed with everything in it.
    With `keep`, names that `wanted` does not contain are kept as well; with `ttl`, all
    files are written.
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
    """Add a delete for each name that is shown and not wanted; return what is left."""
    if current.ttl is not None:
        # When its ttl ended, everything that is assigned now would be deleted too.
        _delete(plan, plan.room, path, current)
        return None
    for name in sorted(current.children.keys() - wanted.keys()):
        if plan.naming.key(name) is not None:
            _delete(plan, plan.leftovers, f"{path}/{name}", current.children[name])
    return current


def become_with_ttl(
    plan: Plan, path: str, wanted: dict[str, Encoded], current: Node | None, ttl: float
) -> None:
    """Add the steps that make a new directory, which expires with all in it."""
    if current is not None:
        _delete(plan, plan.room, path, current)
    plan.top.append(MakeDirectory(path, ttl))
    become(plan, path, wanted, Directory({}, None))


def overwrite(plan: Plan, path: str, text: str, current: Node | None) -> None:
    """Add the steps of ``m[k] = v`` for a value.

    The file is written even if its text stays the same.  A directory in its place is
    deleted with everything in it.
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
    """Add a delete; raise DirectoryNotEmpty if it would also delete unshown names."""
    if isinstance(current, Directory):
        unshown = next(_unshown(plan.naming, path, current), None)
        if unshown is not None:
            raise DirectoryNotEmpty(
                f"nothing was written: this directory would go, but it holds "
                f"'{legible(unshown)}', which this mapping does not show. To delete "
                "the whole directory, use del; to keep that name, move it elsewhere "
                "first, with keys_api or with a mapping that shows it",
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
    # Where a directory is replaced, the file is absent only after the delete of the
    # directory, and the index of that delete is not known yet.
    if current is None and plan.since:
        return Fence(plan.since, absent=True)
    return None


def overlapping(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each pair of keys (paths) in which the first lies below the second."""
    # Directories that are no key and lie below no key; most keys share them.
    free: set[str] = set()
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

"""The differences that a write of many keys makes, as its caller sees them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from etcdmap.codecs import decode_node
from etcdmap.errors import DecodeError, legible
from etcdmap.mapping.plan import Delete, MakeDirectory, Plan, Put
from etcdmap.paths import Naming
from etcdmap.tree import Directory, File, Node


class _Absent(Enum):
    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"

    __str__ = __repr__


#: Stands in a `Difference` for a value that is not there.  None can't stand for it,
#: because None may be stored as a value.
ABSENT: Any = _Absent.ABSENT


@dataclass(frozen=True)
class Difference:
    """What `EtcdMapping.assign` or `EtcdMapping.merge` does to one key.

    It prints as one or two lines of a diff.  These lines show values, so be careful
    where you log them.

    Attributes:
        action: ``"set"``, ``"delete"`` or ``"make_directory"``.
        key: the path below the mapping's prefix.  You can use the path as a key of the
            mapping, with one exception: if the mapping has ``escape_keys``, and the
            path leads through a subdirectory, use ``keys``.
        old: the value before, as the codec reads it; if the codec can't read the stored
            text, this text.  For the ``"delete"`` of a directory, the content as a
            plain dict.  ABSENT if nothing was there.  If a value takes the place of a
            directory, there are two differences: a ``"delete"``, which has the content
            of the directory, and a ``"set"``, whose ``old`` is ABSENT.
        new: the value afterwards: ABSENT for a ``"delete"``, ``{}`` for a new
            directory.
        keys: the parts of the path, one key for each level: ``m[keys[0]][keys[1]]``.
    """

    action: str
    key: str
    old: Any = ABSENT
    new: Any = ABSENT
    keys: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        old, new = (f"{legible(self.key)}: {_shown(v)}" for v in (self.old, self.new))
        if self.old is ABSENT:
            return f"+ {new}"
        if self.new is ABSENT:
            return f"- {old}"
        if repr(self.old) == repr(self.new):
            return f"  {new} (its ttl only)"
        return f"- {old}\n+ {new}"


def _shown(value: Any) -> str:
    return legible(repr(value))


class Differences(list[Difference]):
    """A list of differences, sorted by key, that prints like a diff."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no differences"


def differences(
    plan: Plan, root: str, current: Directory, decode: Callable[[str], Any]
) -> Differences:
    """Return what a plan changes in the directory `root`, as it was listed before."""
    found = Differences()
    for step in plan.steps:
        names = step.path[len(root) + 1 :].split("/")
        keys = tuple(plan.naming.key(name) or "" for name in names)
        node = _node_at(current, names)
        old = new = ABSENT
        if isinstance(node, File) or isinstance(step, Delete):
            old = _plain(node, plan.naming, decode)
        if isinstance(step, Put):
            new = _decoded(step.text, decode)
        elif isinstance(step, MakeDirectory):
            new = {}
        found.append(Difference(_ACTIONS[type(step)], "/".join(keys), old, new, keys))
    found.sort(key=lambda difference: difference.keys)
    return found


_ACTIONS = {Put: "set", MakeDirectory: "make_directory", Delete: "delete"}


def _node_at(node: Node | None, names: list[str]) -> Node | None:
    for name in names:
        node = node.children.get(name) if isinstance(node, Directory) else None
    return node


def _plain(node: Node | None, naming: Naming, decode: Callable[[str], Any]) -> Any:
    if isinstance(node, File):
        return _decoded(node.text, decode)
    children = sorted(node.children.items()) if node else []
    return {naming.key(n) or "": _plain(c, naming, decode) for n, c in children}


def _decoded(text: str, decode: Callable[[str], Any]) -> Any:
    with suppress(DecodeError):
        return decode_node("", text, decode)
    return text

"""What to write so that a subtree becomes what it should be.

Values are checked and encoded whole before anything is planned, so that what is
refused is refused before the first write.  A plan holds the differences only,
compared as encoded text: what a reader of etcd would see.

Nothing in this module does I/O; `run` gets the tree to write to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from etcdmap.errors import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapError,
    KeyNotFound,
    NotAFile,
    PartialWrite,
)
from etcdmap.paths import writable_name
from etcdmap.tree import Directory, File, Tree

#: A checked and encoded value: the text of a file, or a directory by name.
Encoded: TypeAlias = "str | dict[str, Encoded]"


class Put(NamedTuple):
    """Write a file."""

    path: str
    text: str

    def apply(self, tree: Tree) -> None:
        """Send it.  1 request."""
        tree.put(self.path, self.text)


class MakeDirectory(NamedTuple):
    """Make a directory, in place of a file if there is one."""

    path: str
    ttl: float | None = None

    def apply(self, tree: Tree) -> None:
        """Send it.  1 request."""
        try:
            tree.make_directory(self.path, ttl=self.ttl, replace=True)
        except NotAFile:
            # Somebody made one in between; only a ttl would be missing.
            if self.ttl is not None:
                raise


class Delete(NamedTuple):
    """Delete a file, or a directory with all below it."""

    path: str

    def apply(self, tree: Tree) -> None:
        """Send it.  1 request."""
        try:
            tree.delete(self.path)
        except KeyNotFound:
            return  # gone already, which is what was wanted


Step: TypeAlias = "Put | MakeDirectory | Delete"


def encode(path: str, value: Any, encode_value: Callable[[Any], str]) -> Encoded:
    """Check and encode a value: a mapping as a directory, all else by the codec.

    Raises:
        TypeError, ValueError: the codec refuses a value, or a key is no `str`.
        InvalidKey, LimitExceeded: a key can't be written.
    """
    if not isinstance(value, Mapping):
        return encode_value(value)
    # A mapping that holds itself ends at the depth limit of paths.
    return {
        name: encode(writable_name(path, name), child, encode_value)
        for name, child in value.items()
    }


def differences(
    path: str,
    wanted: Encoded,
    current: File | Directory | None,
    ttl: float | None = None,
) -> list[Step]:
    """Plan how `current` becomes `wanted`: new things first, leftovers last.

    Args:
        path: the absolute path of both.
        wanted: what should be there.
        current: what is there, listed whole; None for nothing.
        ttl: for the directory at `path`, seconds; it is then made anew, since
            etcd takes a directory's ttl at its creation only.
    """
    if ttl is not None and isinstance(wanted, dict):
        removal = [] if current is None else [Delete(path)]
        return [*removal, MakeDirectory(path, ttl), *_fill(path, wanted)]
    leftovers: list[Step] = []
    steps = list(_differences(path, wanted, current, leftovers))
    return steps + leftovers


def _differences(
    path: str,
    wanted: Encoded,
    current: File | Directory | None,
    leftovers: list[Step],
) -> Iterator[Step]:
    if isinstance(wanted, str):
        yield from _file_differences(path, wanted, current)
    elif isinstance(current, Directory) and current.ttl is None:
        surplus = sorted(current.children.keys() - wanted.keys())
        leftovers += [Delete(f"{path}/{name}") for name in surplus]
        for name, child in wanted.items():
            there = current.children.get(name)
            yield from _differences(f"{path}/{name}", child, there, leftovers)
    else:
        yield from _replace_by_directory(path, wanted, current)


def _file_differences(
    path: str, wanted: str, current: File | Directory | None
) -> Iterator[Step]:
    if isinstance(current, Directory):
        yield Delete(path)
    # An equal text that expires is not what was assigned.
    elif current is not None and current.text == wanted and current.ttl is None:
        return
    yield Put(path, wanted)


def _replace_by_directory(
    path: str, wanted: dict[str, Encoded], current: File | Directory | None
) -> Iterator[Step]:
    # A directory with a ttl would take what is assigned with it when it ends.
    if isinstance(current, Directory):
        yield Delete(path)
    if current is not None or not wanted:
        yield MakeDirectory(path)
    yield from _fill(path, wanted)


def _fill(path: str, wanted: dict[str, Encoded]) -> Iterator[Step]:
    """Plan the content of a directory where nothing is yet."""
    for name, child in wanted.items():
        yield from _differences(f"{path}/{name}", child, None, [])


def run(tree: Tree, steps: list[Step]) -> None:
    """Carry out a plan, one step after the other.

    A step that fails does not keep the others from being tried, but when no
    member can be reached the rest is left.

    Raises:
        PartialWrite: some steps failed; says which, and what was not tried.
            If there was one step only, its own error is raised.

    Cost: 1 request for each step.
    """
    written: list[str] = []
    failed: dict[str, Exception] = {}
    pending: list[str] = []
    for at, step in enumerate(steps):
        try:
            step.apply(tree)
        except EtcdMapError as error:
            if len(steps) == 1:
                raise
            failed[step.path] = error
            if isinstance(error, (ClusterUnavailable, DeadlineExceeded)):
                pending = [later.path for later in steps[at + 1 :]]
                break
        else:
            written.append(step.path)
    if failed:
        partial = PartialWrite(written=written, failed=failed, pending=pending)
        raise partial from next(iter(failed.values()))

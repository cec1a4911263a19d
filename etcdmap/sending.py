"""Carry out a plan: send its steps, and tell how far it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from etcdmap.errors import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapError,
    KeyNotFound,
    NotAFile,
    PartialWrite,
)
from etcdmap.plan import Delete, MakeDirectory, Plan, Put, Step
from etcdmap.tree import Tree

Progress: TypeAlias = "Callable[[int, int], object]"


def carry_out(tree: Tree, plan: Plan, progress: Progress | None = None) -> None:
    """Send the steps of a plan.

    A step that fails does not keep the others from being tried, but when no
    member can be reached the rest is left.

    Args:
        tree: where to.
        plan: what.
        progress: called with the number of steps done and of all steps.

    Raises:
        PartialWrite: some steps failed; says which, and what was not tried.
            If there was one step only, its own error is raised.

    Cost: 1 request for each step.
    """
    steps = plan.steps
    written: list[str] = []
    failed: dict[str, Exception] = {}
    pending: list[str] = []
    for at, step in enumerate(steps):
        try:
            send(tree, step)
        except EtcdMapError as error:
            if len(steps) == 1:
                raise
            failed[step.path] = error
            if isinstance(error, (ClusterUnavailable, DeadlineExceeded)):
                pending = [later.path for later in steps[at + 1 :]]
                break
        else:
            written.append(step.path)
        if progress is not None:
            progress(at + 1, len(steps))
    if failed:
        partial = PartialWrite(written=written, failed=failed, pending=pending)
        raise partial from next(iter(failed.values()))


def send(tree: Tree, step: Step) -> None:
    """Send one step."""
    if isinstance(step, Put):
        tree.put(step.path, step.text, ttl=step.ttl, known=step.known)
    elif isinstance(step, MakeDirectory):
        _make_directory(tree, step)
    else:
        _delete(tree, step)


def _make_directory(tree: Tree, step: MakeDirectory) -> None:
    try:
        tree.make_directory(step.path, ttl=step.ttl, replace=True)
    except NotAFile:
        # Somebody made one in between; only a ttl would be missing.
        if step.ttl is not None:
            raise


def _delete(tree: Tree, step: Delete) -> None:
    try:
        if step.is_directory:
            tree.delete_directory(step.path)
        else:
            tree.delete(step.path, known=step.known)
    except KeyNotFound:
        return  # gone already, which is what was wanted

"""What a forked child must not share with its parent.

Two processes that read from one socket would get each other's answers.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HoldsSockets(Protocol):
    """Whatever keeps connections open."""

    def forget_sockets(self) -> None:
        """Start anew in a forked child: the parent goes on with the old ones."""
        ...


_holders: weakref.WeakSet[HoldsSockets] = weakref.WeakSet()


def forget_after_fork(holder: HoldsSockets) -> None:
    """Have `forget_sockets` called in every child forked from now on."""
    _holders.add(holder)


def _after_fork_in_child() -> None:
    for holder in list(_holders):
        holder.forget_sockets()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""What must start anew in a forked child.

A lock that another thread of the parent held at the fork stays locked for ever in the
child, and of a socket that both processes read from, each may get the other's answers.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

_known: weakref.WeakSet[Any] = weakref.WeakSet()


def register(thing: Any) -> None:
    """Have `thing.after_fork()` called in every child, before the fork returns there.

    It replaces locks and forgets sockets.
    """
    _known.add(thing)


def _after_fork_in_child() -> None:
    for thing in list(_known):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)

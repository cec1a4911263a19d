"""Wait for sockets, and for other threads beside them."""

from __future__ import annotations

import select
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Seconds; poll() takes no infinity, and no more than 2**31 ms.
_LONGEST = 3600.0


class Waiting(NamedTuple):
    """What somebody waits for: a socket to be ready, until some time."""

    fd: int
    events: int
    due: float


def ready(interests: Mapping[int, int], timeout: float) -> set[int]:
    """Wait until one of some sockets is ready, and return those that are.

    Args:
        interests: file descriptor -> `READ`, `WRITE` or both.
        timeout: seconds to wait at most.
    """
    # Made for one use, so: not epoll, which takes a file descriptor.
    kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
    with kind() as selector:
        for fd, events in interests.items():
            selector.register(fd, events)
        found = selector.select(max(0.0, min(timeout, _LONGEST)))
        return {key.fd for key, _ in found}


def reader(sock: socket.socket) -> Callable[[float], bool]:
    """Make a function that waits some seconds until a socket can be read.

    An end or an error of the connection can be read, too.
    """
    if not hasattr(select, "poll"):

        def readable(timeout: float) -> bool:
            return bool(ready({sock.fileno(): READ}, timeout))

        return readable
    poll = select.poll()
    poll.register(sock, select.POLLIN)

    def polled(timeout: float) -> bool:
        return bool(poll.poll(1000 * min(timeout, _LONGEST)))

    return polled


class Flag:
    """Something that another thread raises, and that can be waited for as a socket."""

    def __init__(self) -> None:
        self._end, self._signal = socket.socketpair()

    def fileno(self) -> int:
        """Return what becomes readable when the flag is raised."""
        return self._end.fileno()

    def raise_(self) -> None:
        """Raise it; from any thread, any number of times."""
        self._signal.close()

    def close(self) -> None:
        """Let go of it; nobody may wait for it any more."""
        self._end.close()
        self._signal.close()


def in_thread(name: str, work: Callable[[], object]) -> None:
    """Do some work in a thread; in the caller's if no thread can be had.

    None can be had at a limit of the system, or when the interpreter shuts down:
    to wait is better than to fail then.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        work()

"""Wait for sockets."""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable, Mapping
from socket import socket

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Seconds; poll() takes no infinity, and no more than 2**31 ms.
_LONGEST = 3600.0

# Both are made for one use, so: not epoll, which takes a file descriptor.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def ready(interests: Mapping[int, int], timeout: float) -> set[int]:
    """Wait until one of some sockets is ready, and give those that are.

    Args:
        interests: file descriptor -> `READ`, `WRITE` or both.
        timeout: seconds to wait at most.
    """
    with _Selector() as selector:
        for fd, events in interests.items():
            selector.register(fd, events)
        found = selector.select(max(0.0, min(timeout, _LONGEST)))
        return {key.fd for key, _ in found}


def reader(sock: socket) -> Callable[[float], bool]:
    """Make a function that waits some seconds until a socket can be read.

    An end or an error of the connection can be read, too.
    """
    if not hasattr(select, "poll"):  # Windows

        def readable(timeout: float) -> bool:
            return bool(select.select([sock], [], [], min(timeout, _LONGEST))[0])

        return readable
    poll = select.poll()
    poll.register(sock, select.POLLIN)

    def polled(timeout: float) -> bool:
        return bool(poll.poll(1000 * min(timeout, _LONGEST)))

    return polled

"""Wait for sockets, and for other threads beside them."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Seconds; poll() takes no infinity, and no more than 2**31 ms.
_LONGEST = 3600.0


class Waiting(NamedTuple):
    """A socket that somebody waits for, and until when."""

    sock: socket.socket
    events: int
    due: float


def ready(awaited: Iterable[Waiting], timeout: float) -> set[object]:
    """Wait some seconds until one of some sockets is ready; return those that are."""
    # Not epoll, which would take a file descriptor for this one use.
    kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
    with kind() as selector:
        for sock, events in {each.sock: each.events for each in awaited}.items():
            selector.register(sock, events)
        found = selector.select(max(0.0, min(timeout, _LONGEST)))
        return {key.fileobj for key, _ in found}


def wake(sock: socket.socket) -> None:
    """End a socket from another thread: closing it would not wake who waits for it."""
    with contextlib.suppress(OSError):  # not connected, or closed already
        # Not SSLSocket's own, which drops the TLS state that a reading thread needs.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def end_sending(sock: socket.socket) -> None:
    """Have the other side see the end of what comes, and go on reading from it."""
    with contextlib.suppress(OSError):  # gone already, which the next read tells
        # Not SSLSocket's own, as in `wake`.
        socket.socket.shutdown(sock, socket.SHUT_WR)


def reader(sock: socket.socket) -> Callable[[float], bool]:
    """Return a function that waits some seconds until a socket can be read.

    An end or an error of the connection can be read, too.
    """
    if not hasattr(select, "poll"):
        return lambda timeout: bool(ready([Waiting(sock, READ, 0.0)], timeout))
    poll = select.poll()
    poll.register(sock, select.POLLIN)

    def polled(timeout: float) -> bool:
        return bool(poll.poll(1000 * timeout))

    return polled


class Flag:
    """What one thread waits for beside sockets, and another one raises."""

    def __init__(self) -> None:
        #: Becomes readable when the flag is raised.
        self.sock, self._signal = socket.socketpair()

    def raise_(self) -> None:
        """Raise it; from any thread, any number of times."""
        self._signal.close()

    def close(self) -> None:
        """Close its sockets; nobody may wait for it any more."""
        self.sock.close()
        self._signal.close()


def in_thread(name: str, work: Callable[[], object]) -> None:
    """Do some work in a thread; in the caller's if no thread can be had.

    At a limit of the system, or while the interpreter shuts down, there is none;
    it is better to hold the caller up than to fail then.
    """
    taken = threading.Lock()

    def once() -> None:
        if taken.acquire(blocking=False):
            work()

    thread = threading.Thread(target=once, name=name, daemon=True)
    with contextlib.suppress(RuntimeError):
        thread.start()
        return
    # Once all the same: near the end of the stack `start` may fail after it has made
    # the thread.  And not in an except clause, or what goes wrong here would seem to
    # come of that.
    once()

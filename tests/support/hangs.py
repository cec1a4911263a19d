"""What hangs: name servers and listeners, and threads that wait for them."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: Functions of the package and of Python in which a thread waits for a socket.
_WAITS = {"polled", "receive_soon", "receive_within", "select", "wait"}


class HangingNames:
    """A name server that hangs for the names below ``test``, until it is released.

    Then each of them is an address of the loopback.

    Attributes:
        asked: the names, in the order in which they were asked for.
        release: set it, and it answers.
        error: what it raises instead of an answer, if anything.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()
        self.error: BaseException | None = None
        self._real = socket.getaddrinfo
        self._called = threading.Semaphore(0)

    def __call__(self, host: str, port: Any, *args: Any, **settings: Any) -> Any:
        """Stand for `socket.getaddrinfo`."""
        if not host.endswith(".test"):
            return self._real(host, port, *args, **settings)
        if settings.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        self.asked.append(host)
        self._called.release()
        assert self.release.wait(30), "nobody released the name server"
        if self.error is not None:
            raise self.error
        return self._real("127.0.0.1", port, *args, **settings)

    def wait_until_asked(self) -> None:
        """Wait until it is asked for a name, one more each time."""
        assert self._called.acquire(timeout=10), "nobody asked"


@contextlib.contextmanager
def hanging_names() -> Iterator[HangingNames]:
    """Put a name server in place that hangs; at the end, no look-up is left."""
    names = HangingNames()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", names)
        try:
            yield names
        finally:
            names.release.set()
            join("etcdmap-resolve")


@contextlib.contextmanager
def swallowing(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Give an endpoint whose connections never come about: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((host, port))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://{host}:{full.getsockname()[1]}"


def threads(name: str) -> list[threading.Thread]:
    """Return the threads of a name."""
    return [thread for thread in threading.enumerate() if thread.name == name]


def join(name: str, timeout: float = 10.0) -> None:
    """Wait until no thread of a name is left."""
    until = time.monotonic() + timeout
    while left := threads(name):
        assert time.monotonic() < until, f"a thread {name} is left"
        with contextlib.suppress(RuntimeError):  # it is about to start
            left[0].join(0.1)


class Waiter:
    """A thread that does something, and the time at which it was done.

    Args:
        work: what to do; what it raises is its outcome.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._outcome: Any = None
        self._ended = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except Exception as error:
            self._outcome = error
        self._ended = time.monotonic()

    def wait_until_it_waits(self) -> None:
        """Wait until the thread sits where it waits for something."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            frame = sys._current_frames().get(self._thread.ident or 0)
            assert frame is not None, f"it did not wait: {self._outcome!r}"
            if frame.f_code.co_name in _WAITS:
                return
            time.sleep(0.001)
        raise AssertionError("it does not wait")

    def seconds_after(self, event: Callable[[], object]) -> float:
        """Let something happen, and tell how long after it the work was done."""
        began = time.monotonic()
        event()
        self._thread.join(10)
        assert not self._thread.is_alive(), "nothing woke it"
        return self._ended - began

    def outcome(self) -> Any:
        """Wait for the end; return what was returned, or raised."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self._outcome

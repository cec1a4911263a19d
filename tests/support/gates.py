"""A transport whose exchanges can be held at will: races without a sleep."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from etcdmap.cache import ReadCache
from etcdmap.transport import Answer, BlockingTransport, Request, Transport, wrapped

#: Seconds after which a test that hangs is given up.
PATIENCE = 20.0


def key_of(request: Request) -> str:
    """Return the key that a request is about."""
    path = unquote(request.target.partition("?")[0])
    return path.removeprefix("/v2/keys").rstrip("/")


class Gate:
    """Holds one exchange.

    Attributes:
        held: set once the exchange is there.
    """

    def __init__(self, methods: tuple[str, ...], path: str, *, answered: bool) -> None:
        self._methods = methods
        self._path = path
        self.answered = answered
        self.held = threading.Event()
        self._opened = threading.Event()
        self._fault: BaseException | None = None

    def matches(self, request: Request) -> bool:
        """Tell whether it is the exchange to hold."""
        return request.method in self._methods and key_of(request) == self._path

    def wait(self) -> None:
        """Wait until the exchange is held."""
        assert self.held.wait(PATIENCE), "the exchange never came"

    def open(self, fault: BaseException | None = None) -> None:
        """Let it go on, or fail."""
        self._fault = fault
        self._opened.set()

    def pass_through(self) -> None:
        """Be held; called by the exchange."""
        self.held.set()
        assert self._opened.wait(PATIENCE), "the gate was never opened"
        if self._fault is not None:
            raise self._fault


class GatedTransport:
    """Passes exchanges on, remembers them, and holds those that it is told to.

    It blocks, so each exchange has a thread.
    """

    def __init__(self, inner: Transport | BlockingTransport) -> None:
        self.inner = wrapped(inner)
        self.requests: list[Request] = []
        self._gates: list[Gate] = []
        self._lock = threading.Lock()

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Pass it on, and wait at its gate before or after that."""
        gate = self._take_gate(request)
        if gate is not None and not gate.answered:
            gate.pass_through()
        answer = self.inner.begin(endpoint, request, timeout).result()
        if gate is not None and gate.answered:
            gate.pass_through()
        return answer

    def _take_gate(self, request: Request) -> Gate | None:
        with self._lock:
            self.requests.append(request)
            for gate in self._gates:
                if gate.matches(request):
                    self._gates.remove(gate)
                    return gate
        return None

    @contextlib.contextmanager
    def holding(
        self, path: str, *methods: str, answered: bool = True
    ) -> Iterator[Gate]:
        """Hold the next exchange on a path; it goes on at the end of the block.

        Args:
            path: the absolute path.
            *methods: those that count; none for reads.
            answered: hold it when etcd has answered, not before it is sent.
        """
        gate = Gate(methods or ("GET", "HEAD"), path, answered=answered)
        with self._lock:
            self._gates.append(gate)
        try:
            yield gate
        finally:
            gate.open()

    def close(self) -> None:
        """Close the transport within."""
        self.inner.close()

    def reads_of(self, path: str) -> int:
        """Count the reads of a path."""
        return sum(
            request.method in ("GET", "HEAD") and key_of(request) == path
            for request in list(self.requests)
        )


class Timer:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the time in seconds."""
        return self.now


class WatchedCache(ReadCache):
    """A cache that tells how many threads have missed a path and found their place.

    Whoever found the read of another thread waits for it, or is about to and will
    get what it brings; so a test knows when all are there.
    """

    def __init__(self, ttl: float, size: int = 1000, **options: Any) -> None:
        self._arrivals = threading.Semaphore(0)
        super().__init__(ttl, size, **options)

    def _join(self, path: str) -> Any:
        place = super()._join(path)
        self._arrivals.release()
        return place

    def wait_for_misses(self, count: int) -> None:
        """Wait until so many more misses found their place."""
        for _ in range(count):
            assert self._arrivals.acquire(timeout=PATIENCE), "a thread never came"


class Started:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._call = call
        self._args = args
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call(*self._args)
        except BaseException as error:  # the waiting thread's to raise
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def result(self) -> Any:
        """Wait for its end, and give or raise what came of it."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the thread never ended"
        if self._error is not None:
            raise self._error
        return self._result


def started(call: Callable[..., Any], *args: Any) -> Started:
    """Run something in a thread."""
    return Started(call, args)

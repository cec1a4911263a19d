"""A cluster without sockets or time: each endpoint behaves as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from etcdmap.connecting import make_client
from etcdmap.errors import ExchangeFailed
from etcdmap.transport import Answer, Request

from support.proper import proper
from support.transports import Instantly, answer

A, B, C = "http://a:1", "http://b:2", "http://c:3"


class FakeTime:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        #: Called at the end of each sleep.
        self.on_wake: Callable[[], object] = lambda: None

    def clock(self) -> float:
        """Give the time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait, and remember it."""
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_wake()


class Steady:
    """A source of chance without chance: the upper end of every range."""

    def uniform(self, low: float, high: float) -> float:
        """Give the upper end."""
        return high

    def sample(self, population: Iterable[Any], k: int) -> list[Any]:
        """Keep the order."""
        return list(population)[:k]


#: What an endpoint does with an exchange, given the seconds it may take.
Behaviour = Callable[[FakeTime, float], Answer]


def says(body: bytes | str, status: int = 200, *, index: int | None = 7) -> Behaviour:
    """Answer at once."""
    return lambda time, timeout: answer(body, status, index=index)


#: Stands for what etcd would answer to the request, whichever it is.
PROPER = Answer(200, {}, b"", "")


def ok(time: FakeTime, timeout: float) -> Answer:
    """Answer at once as etcd would: there is a file with the text ``v``."""
    return PROPER


absent = says('{"errorCode":100,"message":"Key not found"}', 404)
no_quorum = says('{"errorCode":300,"message":"Raft Internal Error"}', 500)
electing = says('{"errorCode":301,"message":"During Leader Election"}', 500)
html = says("<html>", index=None)
v2_off = says("404 page not found", 404, index=None)
bad_gateway = says("<html>502", 502, index=None)
redirecting = says("", 301, index=None)


def fails(message: str, *, takes: float = 0.0, **more: Any) -> Behaviour:
    """Fail after `takes` seconds; one that takes longer than it may times out."""

    def behave(time: FakeTime, timeout: float) -> Answer:
        time.now += min(takes, timeout)
        raise ExchangeFailed(message, timed_out=takes > 0, **more)

    return behave


refused = fails("connection refused", sent=False, nobody=True)
unreachable = fails("no connection in time", sent=False, takes=1.0)
reset = fails("closed before an answer came", sent=True)
silent = fails("no answer in time", sent=True, takes=float("inf"))
bad_certificate = fails("TLS certificate refused", sent=False, lasting=True)


def slow(seconds: float, behaviour: Behaviour = ok) -> Behaviour:
    """Do something after some seconds; later than allowed is silence."""

    def behave(time: FakeTime, timeout: float) -> Answer:
        if seconds > timeout:
            return silent(time, timeout)
        time.now += seconds
        return behaviour(time, timeout)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Do one thing after the other; the last one for good."""
    left = list(behaviours)
    return lambda time, timeout: (left.pop(0) if len(left) > 1 else left[0])(
        time, timeout
    )


class ScriptedCluster(Instantly):
    """A `Transport` to endpoints that behave as told; `client` is a client on it.

    Attributes:
        behaviours: what each endpoint does; may be changed at any time.
        calls: endpoint and timeout of every exchange, in order.
        requests: what was sent, in the same order.
    """

    def __init__(self, **options: Any) -> None:
        self.behaviours: dict[str, Behaviour] = {A: ok, B: ok, C: ok}
        self.time = FakeTime()
        self.calls: list[tuple[str, float]] = []
        self.requests: list[Request] = []
        self.closed = 0
        self._lock = threading.Lock()
        settings: dict[str, Any] = {
            "clock": self.time.clock,
            "sleep": self.time.sleep,
            "shuffle": False,
            "rng": Steady(),
            "endpoints": [A, B, C],
            **options,
        }
        self.client = make_client(settings.pop("endpoints"), self, **settings)

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Do what the endpoint does."""
        with self._lock:
            self.calls.append((endpoint, timeout))
            self.requests.append(request)
        assert timeout > 0, "an exchange without any time"
        given = self.behaviours[endpoint](self.time, timeout)
        if given is PROPER:
            return proper(request, endpoint=endpoint)
        return replace(given, endpoint=endpoint)

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    @property
    def asked(self) -> list[str]:
        """Who was asked, in order."""
        return [endpoint for endpoint, _ in self.calls]

    @property
    def timeouts(self) -> list[float]:
        """How long each exchange was allowed to take, in order."""
        return [timeout for _, timeout in self.calls]

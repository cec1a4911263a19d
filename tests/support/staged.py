"""A transport whose exchanges end when the test says, in a time that does not pass.

What an endpoint does with each exchange is a list of plans; the last one is for all
further exchanges::

    stage = Stage()
    stage.plans[A] = [after(2.0, value("a")), never]
    stage.plans[B] = [value("b")]                      # at once

`Stage` is the transport, `stage.client` a client on it.  The time moves only when the
client waits, so there is nothing to be late for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest

from etcdmap.connecting import make_client
from etcdmap.errors import EtcdMapError, ExchangeFailed
from etcdmap.transport import Answer, Identity, Request

from support.proper import proper
from support.scripted_cluster import A, B, C, FakeTime, Steady


@dataclass(frozen=True)
class Value:
    """Stands for what etcd would answer to a request if a file held this text."""

    text: str
    index: int
    headers: dict[str, Any]


Outcome = Answer | Value | EtcdMapError


class Plan(NamedTuple):
    """What comes of an exchange, and when."""

    seconds: float
    outcome: Outcome
    #: Whether the request left before the outcome.
    sent: bool = True


def value(text: str, index: int = 7, **headers: Any) -> Plan:
    """Answer at once, and properly, with a file of this text."""
    return Plan(0.0, Value(text, index, headers))


def said(body: str, status: int = 200, *, index: int = 7, **headers: Any) -> Plan:
    """Answer at once."""
    fields = {"x-etcd-index": str(index), **headers}
    return Plan(0.0, Answer(status, fields, body.encode(), ""))


def refusal(code: int, status: int = 412, index: int = 7) -> Plan:
    """Refuse at once, as etcd does."""
    body = {"errorCode": code, "message": "no", "cause": "", "index": index}
    return said(json.dumps(body), status, index=index)


def redirect(location: str) -> Plan:
    """Answer with 307."""
    return said("", 307, location=location)


def failed(*, sent: bool = True) -> Plan:
    """Fail at once."""
    return Plan(0.0, ExchangeFailed("it broke", sent=sent), sent)


def after(seconds: float, plan: Plan) -> Plan:
    """Do something later."""
    return plan._replace(seconds=seconds)


#: Silence.
never = after(math.inf, value("never"))
#: No connection, and no refusal either.
unconnected = never._replace(sent=False)
# etcd gives 0 for its index with this error.
no_quorum = refusal(300, 500, index=0)
html = said("<html>")


class StagedExchange:
    """An exchange that ends at a time; see `etcdmap.transport.Exchange`."""

    def __init__(
        self,
        endpoint: str,
        request: Request,
        plan: Plan,
        ends: float,
        wait: Callable[..., Any],
    ) -> None:
        self._wait = wait
        self.endpoint = endpoint
        self.request = request
        self.ends = ends
        self.ended = plan.seconds <= 0
        self.sent = plan.sent
        self.given_up = False
        self.identities: list[Identity] = []
        self._outcome = plan.outcome

    def wait(self, timeout: float) -> bool:
        """Wait on the stage, for this one only."""
        self.ended = self.ended or self._wait([self], timeout) is not None
        return self.ended

    def result(self) -> Answer:
        """Give or raise the outcome."""
        assert self.ended, "asked for a result that is not there"
        outcome = self._outcome
        if isinstance(outcome, Value):
            return proper(
                self.request,
                outcome.text,
                index=outcome.index,
                endpoint=self.endpoint,
                **outcome.headers,
            )
        if isinstance(outcome, Answer):
            return replace(outcome, endpoint=self.endpoint)
        raise outcome

    def give_up(self) -> None:
        """Remember it."""
        self.given_up = not self.ended

    def showed(self, identity: Identity) -> None:
        """Remember it."""
        self.identities.append(identity)


class Start(NamedTuple):
    """An exchange that the client began."""

    seconds: float
    endpoint: str
    request: Request


class Stage:
    """The transport.

    Attributes:
        plans: by endpoint.
        starts: what was begun, and when, from the beginning of the stage.
        exchanges: those that did not end at once.
        on_start: called before each exchange begins.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.plans: dict[str, list[Plan]] = {
            endpoint: [value(endpoint[7])] for endpoint in (A, B, C)
        }
        self.time = FakeTime()
        self.starts: list[Start] = []
        self.exchanges: list[StagedExchange] = []
        self.on_start: Callable[[], object] = lambda: None
        self._begin = self.time.now
        settings: dict[str, Any] = {
            "clock": self.time.clock,
            "sleep": self.time.sleep,
            "shuffle": False,
            "rng": Steady(),
            "endpoints": [A, B, C],
            **options,
        }
        self.client = make_client(settings.pop("endpoints"), self, **settings)
        monkeypatch.setattr("etcdmap.client.call.wait_any", self._wait_any)

    # --- the transport

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> Any:
        """Begin an exchange, which may end at once."""
        plan = self._plan(endpoint, request, timeout)
        ends = self.time.now + plan.seconds
        exchange = StagedExchange(endpoint, request, plan, ends, self._wait_any)
        if plan.seconds > 0:
            self.exchanges.append(exchange)
        return exchange

    def distrust(self, endpoint: str) -> None:
        """Have no connection."""

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Have nothing to keep."""

    def close(self) -> None:
        """Have nothing to close."""

    def _plan(self, endpoint: str, request: Request, timeout: float) -> Plan:
        assert timeout > 0, "an exchange without any time"
        self.on_start()
        self.starts.append(Start(self.elapsed, endpoint, request))
        plans = self.plans[endpoint]
        return plans.pop(0) if len(plans) > 1 else plans[0]

    def _wait_any(
        self, exchanges: Iterable[StagedExchange], timeout: float
    ) -> StagedExchange | None:
        first = min(exchanges, key=lambda exchange: exchange.ends)
        if first.ends > self.time.now + timeout:
            self.time.now += timeout
            return None
        self.time.now = max(self.time.now, first.ends)
        first.ended = True
        return first

    # --- what happened

    @property
    def elapsed(self) -> float:
        """Seconds since the stage was made, or since `restart`."""
        return round(self.time.now - self._begin, 6)

    @property
    def asked(self) -> list[str]:
        """Who was asked, in order."""
        return [start.endpoint for start in self.starts]

    @property
    def asked_when(self) -> list[tuple[float, str]]:
        """When who was asked."""
        return [(start.seconds, start.endpoint) for start in self.starts]

    def restart(self) -> None:
        """Count from here on."""
        self._begin = self.time.now
        self.starts.clear()
        self.exchanges.clear()

    def running(self) -> list[StagedExchange]:
        """Give the exchanges that the client still listens to."""
        return [e for e in self.exchanges if not (e.ended or e.given_up)]

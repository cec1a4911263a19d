"""Transports for tests: one that counts, one that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from etcdmap.transport import Answer, Exchange, Identity, Line, Request, Transport


class InstantExchange:
    """An exchange that has ended when it begins."""

    ended = True

    def __init__(self, endpoint: str, carry_out: Callable[[], Answer]) -> None:
        self.endpoint = endpoint
        self.sent = True
        self._outcome: Answer | Exception
        try:
            self._outcome = carry_out()
        except Exception as error:
            self._outcome = error
            self.sent = getattr(error, "sent", True)

    def wait(self, timeout: float) -> bool:
        """It has ended."""
        return True

    def result(self) -> Answer:
        """Give or raise the outcome."""
        if isinstance(self._outcome, Answer):
            return self._outcome
        raise self._outcome

    def give_up(self) -> None:
        """Too late."""

    cancel = give_up

    def showed(self, identity: Identity) -> None:
        """There is no connection that it could count for."""


class Instantly:
    """The rest of a transport whose exchanges are instant; asks for no identity."""

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Carry a request out."""
        raise NotImplementedError

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> InstantExchange:
        """Carry a request out at once."""
        return InstantExchange(
            endpoint, lambda: self.exchange(endpoint, request, timeout)
        )

    def distrust(self, endpoint: str) -> None:
        """There is no connection."""

    def keep_only(self, endpoints: Collection[str]) -> None:
        """There is nothing to keep."""


class Between(Instantly):
    """Stands between the client and a transport, and waits for each exchange there.

    Args:
        inner: carries the exchanges.
    """

    def __init__(self, inner: Transport) -> None:
        self.inner: Any = inner

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Pass it on."""
        return exchange(self.inner, endpoint, request, timeout)

    def distrust(self, endpoint: str) -> None:
        """Pass it on."""
        self.inner.distrust(endpoint)

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Pass it on."""
        self.inner.keep_only(endpoints)

    def close(self) -> None:
        """Close the transport within."""
        self.inner.close()


def exchange(
    transport: Transport, endpoint: str, request: Request, timeout: float
) -> Answer:
    """Begin an exchange and wait for its end."""
    return transport.begin(endpoint, request, timeout).result()


class CountingTransport:
    """Passes exchanges on and remembers them."""

    def __init__(self, inner: Transport) -> None:
        self.inner: Any = inner
        self.requests: list[Request] = []

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> Exchange:
        """Remember the request and pass it on."""
        self.requests.append(request)
        begun: Exchange = self.inner.begin(endpoint, request, timeout, identity)
        return begun

    def line(self, endpoint: str) -> Line:
        """Pass it on, and remember what is sent there."""
        line: Any = self.inner.line(endpoint)
        send = line.send

        def remember(requests: Sequence[Request], until: float) -> None:
            self.requests += requests
            send(requests, until)

        line.send = remember
        return cast("Line", line)

    def distrust(self, endpoint: str) -> None:
        """Pass it on."""
        self.inner.distrust(endpoint)

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Pass it on."""
        self.inner.keep_only(endpoints)

    def close(self) -> None:
        """Close the transport within."""
        self.inner.close()

    @property
    def methods(self) -> list[str]:
        """The methods of the requests, in order."""
        return [request.method for request in self.requests]


#: What one exchange does: an answer, an exception to raise, or a function.
Step = Answer | Exception | Callable[[str, Request, float], Answer]


class ScriptedTransport(Instantly):
    """Answers by a script; its end is an error of the test."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps = list(steps)
        self.calls: list[tuple[str, Request, float]] = []
        self.closed = False

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Do the next step of the script."""
        self.calls.append((endpoint, request, timeout))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Answer):
            return replace(step, endpoint=endpoint)
        return step(endpoint, request, timeout)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    @property
    def endpoints(self) -> list[str]:
        """Who was asked, in order."""
        return [endpoint for endpoint, _, _ in self.calls]


def answer(
    body: bytes | str,
    status: int = 200,
    *,
    index: int | None = 7,
    endpoint: str = "http://a:1",
) -> Answer:
    """Make an answer such as etcd gives."""
    headers = {"content-type": "application/json"}
    if index is not None:
        headers["x-etcd-index"] = str(index)
    text = body.encode() if isinstance(body, str) else body
    return Answer(status, headers, text, endpoint)

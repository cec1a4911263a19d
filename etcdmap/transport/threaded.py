"""Exchanges in threads of their own, for a transport that can only block."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import cast

from etcdmap import forking
from etcdmap.errors import ClientClosed, EtcdMapError, ExchangeFailed, legible
from etcdmap.transport import failures
from etcdmap.transport.exchange import wait_any
from etcdmap.transport.polling import READ, Flag, Waiting, in_thread
from etcdmap.transport.protocol import (
    Answer,
    BlockingTransport,
    Identity,
    Request,
    Transport,
)


def wrapped(transport: Transport | BlockingTransport) -> Transport:
    """Return a transport that can be waited for: a blocking one takes threads."""
    if hasattr(transport, "begin"):
        return cast("Transport", transport)
    return ThreadedTransport(transport)


class ThreadedTransport:
    """A `Transport` on one that can only block.

    It can't tell connections apart, so an `Identity` is asked for once at each
    endpoint, and again after any exchange with it that failed.
    """

    def __init__(self, inner: BlockingTransport) -> None:
        self.inner = inner
        self._closed = False
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start anew in a forked child: the threads are the parent's."""
        #: The identity last shown by each endpoint, in a list of its own.  A failure
        #: drops the list, so that exchanges begun before it note theirs in vain.
        self._shown: dict[str, list[Identity]] = {}
        self._running: set[ThreadExchange] = set()

    def begin(
        self,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None = None,
    ) -> ThreadExchange:
        exchange = ThreadExchange(timeout, self._shown.setdefault(endpoint, []))
        self._running.add(exchange)
        # Only now, or close() might miss it: what it finds in `_running`, it ends.
        if self._closed:
            exchange.give_up()
            raise ClientClosed
        work = partial(self._work, exchange, endpoint, request, timeout, identity)
        try:
            in_thread("etcdmap-exchange", work)
        except BaseException:  # Ctrl-C: nobody waits, though the thread may be there
            exchange.give_up()
            self._running.discard(exchange)
            raise
        return exchange

    def distrust(self, endpoint: str) -> None:
        self._shown.pop(endpoint, None)
        if hasattr(self.inner, "distrust"):
            with contextlib.suppress(Exception):  # whatever a caller's session does
                self.inner.distrust(endpoint)

    def keep_only(self, endpoints: Collection[str]) -> None:
        for endpoint in list(self._shown):
            if endpoint not in endpoints:
                self._shown.pop(endpoint, None)

    def close(self) -> None:
        self._closed = True
        self.inner.close()
        for exchange in list(self._running):
            exchange.cancel()

    def _work(
        self,
        exchange: ThreadExchange,
        endpoint: str,
        request: Request,
        timeout: float,
        identity: Identity | None,
    ) -> None:
        deadline = time.monotonic() + timeout
        outcome: Answer | BaseException
        try:
            if identity is not None and identity not in self._shown.get(endpoint, ()):
                answer = self.inner.exchange(endpoint, identity, timeout)
                shown = identity.read(answer)
                if shown is not None:
                    exchange.showed(cast("Identity", shown))
            if not exchange.leave():
                return
            left = max(deadline - time.monotonic(), 0.001)
            outcome = self.inner.exchange(endpoint, request, left)
        except BaseException as error:  # `result` raises it, an interrupt, too
            self._shown.pop(endpoint, None)
            outcome = error
            ours = (EtcdMapError, Warning)  # "-W error" makes warnings exceptions
            if isinstance(error, Exception) and not isinstance(error, ours):
                # A KeyError, say, would seem to say that a key is absent.
                what = legible(f"{type(error).__name__}: {error}")
                why = f"the transport failed with {what}"
                outcome = ExchangeFailed(why, sent=exchange.sent)
                outcome.__cause__ = error
        finally:
            self._running.discard(exchange)
        exchange.end(outcome)


class ThreadExchange:
    """An `Exchange` that a thread carries out.

    It takes a thread and a pair of sockets.  When it is given up, the thread goes on
    until its transport ends it, and its answer is dropped.
    """

    def __init__(self, timeout: float, shown: list[Identity]) -> None:
        self._shown = shown
        self.ended = self.sent = False
        self._timeout = timeout
        # The thread keeps its own deadline; this one is for a thread that hangs
        # where no deadline reaches, like the look-up of a name.
        self._due = time.monotonic() + timeout + 0.1
        self._outcome: Answer | BaseException | None = None
        self._lock = threading.Lock()
        try:
            self._flag = Flag()
        except OSError as error:
            raise failures.of_socket(error, sent=False) from error

    def leave(self) -> bool:
        """Note that the request leaves now; return False if nobody waits any more."""
        with self._lock:
            self.sent = self._outcome is None
            return self.sent

    def end(
        self,
        outcome: Answer | BaseException | None = None,
        failure: Callable[..., ExchangeFailed] = failures.given_up,
    ) -> None:
        """End with an outcome, or with a failure, if it has not ended already."""
        # The lock is that of `leave`: a request that is told to be unsent never leaves.
        with self._lock:
            if self._outcome is None:
                self._outcome = outcome or failure(sent=self.sent)
        self._flag.raise_()

    def waiting(self) -> Waiting | None:
        return None if self.ended else Waiting(self._flag.sock, READ, self._due)

    def wait(self, timeout: float) -> bool:
        return wait_any([self], timeout) is not None

    def result(self) -> Answer:
        self.wait(math.inf)
        if isinstance(self._outcome, Answer):
            return self._outcome
        raise self._outcome or AssertionError("unreachable")

    def give_up(self) -> None:
        if not self.ended:
            self.end()
            self.advance()

    def showed(self, identity: Identity) -> None:
        self._shown[:] = [identity]

    def cancel(self) -> None:
        self.end()

    def advance(self, *, late: bool = False) -> None:
        if late:
            self.end(failure=partial(failures.timed_out, self._timeout))
        self.ended = True
        if isinstance(self._outcome, ExchangeFailed):
            self.sent = self.sent and self._outcome.sent
        self._flag.close()

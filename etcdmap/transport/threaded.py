"""An exchange in a thread of its own, for a transport that can only block."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from etcdmap.models import Answer, Request
from etcdmap.transport import failures
from etcdmap.transport.polling import READ, ready
from etcdmap.transport.sockets import Waiting

Blocking = Callable[[str, Request[Any], float], Answer]


class ThreadExchange:
    """An `Exchange` that a thread carries out.

    Dearer than one on a socket: a thread and a pair of sockets each.  One that
    was given up goes on until its own deadline; nobody sees its answer.
    """

    def __init__(
        self, exchange: Blocking, endpoint: str, request: Request[Any], timeout: float
    ) -> None:
        self.endpoint = endpoint
        self.ended = False
        self.sent = True  # it can't be known before the end
        self._timeout = timeout
        # The thread keeps its own deadline; this one is for a thread that hangs
        # where no deadline reaches, like the look-up of a name.
        self._due = time.monotonic() + timeout + 0.1
        self._outcome: Answer | Exception | None = None
        self._end, self._signal = socket.socketpair()
        threading.Thread(
            target=self._work,
            args=(exchange, endpoint, request, timeout),
            name="etcdmap-exchange",
            daemon=True,
        ).start()

    def waiting(self) -> Waiting:
        """See `Exchange.waiting`."""
        return Waiting(self._end.fileno(), READ, self._due)

    def wait(self, timeout: float) -> bool:
        """See `Exchange.wait`."""
        if self.ended:
            return True
        until = time.monotonic() + timeout
        left = max(0.0, min(until, self._due) - time.monotonic())
        if ready({self._end.fileno(): READ}, left):
            self.advance()
        elif self._due <= until:
            self.overdue()
        return self.ended

    def result(self) -> Answer:
        """See `Exchange.result`."""
        self.wait(math.inf)
        if isinstance(self._outcome, Answer):
            return self._outcome
        if self._outcome is None:
            raise AssertionError("unreachable")
        raise self._outcome

    def give_up(self) -> None:
        """See `Exchange.give_up`."""
        if not self.ended:
            self._finish(failures.given_up(sent=self.sent))

    def advance(self) -> None:
        """See `Exchange.advance`."""
        self._finish(self._outcome)

    def overdue(self) -> None:
        """See `Exchange.overdue`."""
        self._finish(failures.timed_out(self._timeout, sent=self.sent))

    def _work(self, exchange: Blocking, *arguments: Any) -> None:
        outcome: Answer | Exception
        try:
            outcome = exchange(*arguments)
        except Exception as error:
            outcome = error
        with self._signal:  # closing it is the signal
            if not self.ended:
                self._outcome = outcome

    def _finish(self, outcome: Answer | Exception | None) -> None:
        self.ended = True
        self._end.close()
        self._outcome = outcome
        if isinstance(outcome, Exception):
            self.sent = getattr(outcome, "sent", True)

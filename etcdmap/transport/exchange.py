"""One exchange on one connection: start it, wait for it, or give it up."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from etcdmap.errors import EtcdMapError
from etcdmap.models import Answer
from etcdmap.transport import failures
from etcdmap.transport.http1 import Reader
from etcdmap.transport.polling import READ, WRITE, ready
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Exchange
from etcdmap.transport.sockets import BLOCKED, GONE, Connection, Steps, Waiting


class WireExchange:
    """An `Exchange` on a socket.

    Args:
        pool: where the connection comes from, and goes back to.
        payload: the request, head and body.
        reader: reads its answer.
        timeout: seconds that the whole of it may take.
        deadline: when they are over.
        connection: one on which `offset` bytes were sent already, or None.
        offset: ...

    Attributes:
        ended: whether there is an answer or a failure.
        sent: whether the request may have reached the server.
    """

    __slots__ = (
        "_answer",
        "_connection",
        "_deadline",
        "_failure",
        "_payload",
        "_pool",
        "_reader",
        "_sent_whole",
        "_steps",
        "_timeout",
        "_waiting",
        "_whole",
        "ended",
        "sent",
    )

    def __init__(
        self,
        pool: Pool,
        payload: bytes,
        reader: Reader,
        timeout: float,
        deadline: float,
        connection: Connection | None = None,
        offset: int = 0,
    ) -> None:
        self._pool = pool
        self._payload = payload
        self._reader = reader
        self._timeout = timeout
        self._deadline = deadline
        self._connection = connection
        self._answer: Answer | None = None
        self._failure: EtcdMapError | None = None
        self._waiting = Waiting(-1, READ, deadline)
        self._sent_whole = offset == len(payload)
        self._whole = False
        self.ended = False
        self.sent = offset > 0
        self._steps = self._run(offset)
        self._resume()
        if connection is None:
            # A connection on the same machine is there at once, and then the
            # request leaves before anybody waits.
            self.wait(0)

    @property
    def endpoint(self) -> str:
        """Who is asked."""
        return self._pool.endpoint

    def waiting(self) -> Waiting:
        """Tell what it waits for: a socket, and until when."""
        return self._waiting

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for its end, and tell whether it has ended."""
        until = time.monotonic() + timeout
        while not self.ended:
            due = self._waiting.due
            left = max(0.0, min(until, due) - time.monotonic())
            if self._is_ready(left):
                self.advance()
            elif (now := time.monotonic()) >= due:
                self.overdue()
            elif now >= until:
                return False
        return True

    def result(self) -> Answer:
        """Wait for its end, and give the answer or raise the failure."""
        if self._answer is None:
            self._answer = answer_of(self.read(), self._pool.endpoint)
        return self._answer

    def read(self) -> Reader:
        """Like `result`, but give the reader of the answer."""
        if not self.ended:
            self.wait(math.inf)
        if self._failure is not None:
            raise self._failure
        return self._reader

    def give_up(self) -> None:
        """Stop waiting; the connection is closed if there is no answer yet."""
        if not self.ended:
            self._fail(failures.given_up(sent=self.sent))

    # --- for those who wait for several

    def advance(self) -> None:
        """Go on: what it waited for is there."""
        self._resume()

    def overdue(self) -> None:
        """Go on: the time is over."""
        self._resume(TimeoutError())

    # --- steps

    def _is_ready(self, timeout: float) -> bool:
        fd, events, _ = self._waiting
        if events == READ and self._connection is not None:
            return self._connection.readable(timeout)
        return bool(ready({fd: events}, timeout))

    def _resume(self, error: TimeoutError | None = None) -> None:
        steps = self._steps
        try:
            self._waiting = next(steps) if error is None else steps.throw(error)
        except StopIteration:
            self._finish()
        except TimeoutError:
            self._fail(failures.timed_out(self._timeout, sent=self.sent))
        except OSError as problem:
            self._fail(failures.of_socket(problem, sent=self.sent), problem)
        except EtcdMapError as problem:
            self._fail(problem)
        except BaseException:  # a signal's: this exchange can't go on
            self.give_up()
            raise

    def _run(self, offset: int) -> Steps[None]:
        if self._connection is None:
            self._connection = yield from self._pool.connect(self._deadline)
        if not self._sent_whole:
            yield from self._send(self._connection, offset)
        yield from self._receive(self._connection)

    def _send(self, connection: Connection, offset: int) -> Steps[None]:
        rest = memoryview(self._payload)[offset:]
        # TLS may have sent a part before it says that it can't go on.
        self.sent = self.sent or connection.tls
        while rest:
            try:
                sent = connection.send(rest)
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ | WRITE, self._deadline)
                if self._was_answered_early(connection):
                    return
            except GONE:
                if not self.sent:
                    raise
                return  # an early refusal may be there to read
            else:
                self.sent = True
                rest = rest[sent:]
        self._sent_whole = True

    def _was_answered_early(self, connection: Connection) -> bool:
        """Tell whether an answer came before the request was sent whole.

        RFC 9112 section 9.3: then the rest of the request is not sent.
        """
        try:
            data = connection.receive()
        except BLOCKED:
            return False
        self._whole = self._reader.feed(data)
        return True

    def _receive(self, connection: Connection) -> Steps[None]:
        while not self._whole:
            if not connection.pending():
                yield Waiting(connection.sock.fileno(), READ, self._deadline)
            try:
                data = connection.receive()
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ, self._deadline)
                continue
            self._whole = self._reader.feed(data)
            # Whoever sends without a pause is never waited for.
            if time.monotonic() >= self._deadline and not self._whole:
                raise TimeoutError

    def _finish(self) -> None:
        self.ended = True
        connection, self._connection = self._connection, None
        if connection is None:
            raise AssertionError("unreachable")
        if self._reader.reusable and self._sent_whole:
            self._pool.give_back(connection)
        else:
            connection.close()

    def _fail(self, failure: EtcdMapError, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self._failure = failure
        self.ended = True
        self._steps.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def answer_of(reader: Reader, endpoint: str) -> Answer:
    """Give the answer that a reader has read to its end; once, as the body goes."""
    return Answer(reader.status, reader.headers, reader.body(), endpoint)


def wait_any(exchanges: Iterable[Exchange], timeout: float) -> Exchange | None:
    """Wait until one of several exchanges has ended, and give it.

    Args:
        exchanges: of any kind of transport, in the order of preference.
        timeout: seconds to wait at most.

    Returns:
        One that has ended, be it well or not; None if the time is over.
    """
    exchanges = list(exchanges)
    until = time.monotonic() + timeout
    while True:
        for exchange in exchanges:
            if exchange.ended:
                return exchange
        waiting = [exchange.waiting() for exchange in exchanges]
        due = min([until, *(each.due for each in waiting)])
        left = max(0.0, due - time.monotonic())
        found = ready({each.fd: each.events for each in waiting}, left)
        now = time.monotonic()
        for exchange, each in zip(exchanges, waiting, strict=True):
            if each.fd in found:
                exchange.advance()
            elif now >= each.due:
                exchange.overdue()
        if now >= until and not any(exchange.ended for exchange in exchanges):
            return None

"""One exchange on one connection: begin it, wait for it, give it up, or cancel it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from operator import attrgetter

from etcdmap.errors import EtcdMapError
from etcdmap.transport import failures
from etcdmap.transport.head import spell
from etcdmap.transport.http1 import Reader
from etcdmap.transport.polling import READ, WRITE, Waiting, ready, wake
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Answer, Exchange, Identity, Request
from etcdmap.transport.sockets import (
    BLOCKED,
    GONE,
    KERNEL_PATIENCE,
    Connection,
    Steps,
)


class WireExchange:
    """An `Exchange` on a socket.

    Nearly always there is a connection, and the request leaves at once; then the
    answer is read without more ado.  All else is in steps: a generator that yields
    what it waits for.

    Args:
        pool: where the connection comes from, and goes back to.
        request: what to send.
        timeout: seconds that the whole of it may take.
        identity: what the connection must have shown before; None for nothing.
    """

    #: What `cancel` has to wake; changed with the pool's lock held.  On the class, so
    #: that an exchange that goes well does not set it.
    _waiting: Waiting | None = None

    def __init__(
        self,
        pool: Pool,
        request: Request,
        timeout: float,
        identity: Identity | None,
    ) -> None:
        self.ended = self.sent = self._cancelled = False
        self._answer: Answer | None = None
        self._failure: EtcdMapError | None = None
        self._steps: Steps[None] | None = None
        self._pool = pool
        self._request = request
        self._payload = spell(request, pool.fields)
        self._reader = Reader(pool.endpoint, request.method, pool.limit)
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._identity = identity
        self._connection = connection = pool.borrow()
        # As `_asks_first`, spelt out: idle connections are not fresh.
        if connection is not None and (
            identity is None or connection.shown is identity
        ):
            self._send_quickly(connection)
            return
        self._take_steps(0)
        # A connection on the same machine is there at once, and then the request
        # leaves before anybody waits.
        self.wait(0)

    def wait(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        if self._steps is None and (self.ended or self._receive_quickly(until)):
            return True
        return wait_any([self], until - time.monotonic()) is not None

    def result(self) -> Answer:
        if not self.ended:
            self.wait(math.inf)
        if self._answer is None:
            raise self._failure or AssertionError("unreachable")
        return self._answer

    def give_up(self) -> None:
        if not self.ended:
            self._fail(failures.given_up(sent=self.sent))

    def cancel(self) -> None:
        with self._pool.lock:
            self._cancelled = True
            if self._waiting is not None:
                wake(self._waiting.sock)

    def showed(self, identity: Identity) -> None:
        if self._connection is not None:
            self._connection.shown = identity

    def waiting(self) -> Waiting | None:
        if self._steps is None and not self.ended:
            self._take_steps(len(self._payload))
        return self._waiting

    def advance(self, *, late: bool = False) -> None:
        steps = self._steps
        if steps is None:
            raise AssertionError("unreachable")
        try:
            self._note_waiting(None)
            self._note_waiting(steps.throw(TimeoutError()) if late else next(steps))
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

    def _answer_of(self, reader: Reader) -> Answer:
        return Answer(reader.status, reader.headers, reader.body(), self._pool.endpoint)

    # --- without steps

    def _send_quickly(self, connection: Connection) -> None:
        """Send what can be sent now, which is nearly always all of it."""
        sent = 0
        try:
            sent = connection.send(self._payload)
        except BLOCKED:
            pass
        except OSError as error:
            self.sent = connection.tls
            self._fail(failures.of_socket(error, sent=self.sent), error)
            return
        except BaseException:  # a signal's: what has left is not known
            self.sent = True
            self.give_up()
            raise
        self.sent = sent > 0
        if sent < len(self._payload):
            self._take_steps(sent)

    def _receive_quickly(self, until: float) -> bool:
        """Read for as long as the kernel may wait; tell whether it has ended."""
        connection = self._connection
        if connection is None:
            return False
        # A hair less: who waits for just that long has lost a part of it already.
        latest = min(until, self._deadline) - 0.9 * KERNEL_PATIENCE
        try:
            # The kernel waits for too short a time to be interrupted.
            while time.monotonic() <= latest and not self._cancelled:
                try:
                    if self._reader.feed(connection.receive_soon()):
                        self._finish()
                        return True
                except BLOCKED:
                    pass
        except OSError as error:
            self._fail(failures.of_socket(error, sent=True), error)
        except EtcdMapError as error:
            self._fail(error)
        except BaseException:  # a signal's: this exchange can't go on
            self.give_up()
            raise
        return self.ended

    # --- steps

    def _take_steps(self, offset: int) -> None:
        self._steps = self._run(offset)
        self.advance()

    def _note_waiting(self, waiting: Waiting | None) -> None:
        """Keep what `cancel` must wake; raise if it was called already."""
        with self._pool.lock:
            self._waiting = waiting
            if self._cancelled:
                raise failures.given_up(sent=self.sent)

    def _run(self, offset: int) -> Steps[None]:
        connection = self._connection
        if connection is None:
            connection = yield from self._connect()
        if not offset:
            connection = yield from self._ask_first(connection)
        is_whole = yield from self._send(connection, offset)
        if not is_whole:
            yield from self._receive(connection, self._reader)

    def _connect(self) -> Steps[Connection]:
        connection = yield from self._pool.connect(self._deadline, self)
        self._connection = connection
        self._note_waiting(None)  # it may have been cancelled between two waits
        return connection

    def _ask_first(self, connection: Connection) -> Steps[Connection]:
        """Ask what must be asked before, if anything.

        Returns:
            The connection to go on with: a new one where an answer ended its own.
        """
        identity, opening = self._identity, self._pool.opening
        if identity is not None and connection.shown is not identity:
            answer = yield from self._exchange_before(connection, identity)
            shown = identity.read(answer)
        elif (
            connection.fresh
            and opening is not None
            and len(self._request.target) > opening.longest
        ):
            yield from self._exchange_before(connection, opening.request)
            shown = connection.shown
        else:
            return connection
        if connection.age is None:
            connection.close()
            connection = yield from self._connect()
        connection.fresh = False
        connection.shown = shown
        return connection

    def _exchange_before(
        self, connection: Connection, request: Request
    ) -> Steps[Answer]:
        """Send another request, and read its answer."""
        pool = self._pool
        reader = Reader(pool.endpoint, request.method, pool.limit)
        rest = memoryview(spell(request, pool.fields))
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BLOCKED as blocked:
                yield connection.waiting(blocked, WRITE, self._deadline)
        yield from self._receive(connection, reader)
        if not reader.reusable:
            connection.age = None  # never to be used again
        return self._answer_of(reader)

    def _send(self, connection: Connection, offset: int) -> Steps[bool]:
        """Send the rest of the request; tell whether the answer is whole already."""
        rest = memoryview(self._payload)[offset:]
        # TLS may have sent a part before it says that it can't go on.
        self.sent = self.sent or connection.tls
        while rest:
            try:
                sent = connection.send(rest)
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ | WRITE, self._deadline)
                # RFC 9112 section 9.3: once an answer comes, the rest is not sent.
                with contextlib.suppress(*BLOCKED):
                    data = connection.receive()
                    connection.age = None  # never to be used again
                    return self._reader.feed(data)
            except GONE:
                if not self.sent:
                    raise
                connection.age = None
                return False  # an early refusal may be there to read
            else:
                self.sent = True
                rest = rest[sent:]
        return False

    def _receive(self, connection: Connection, reader: Reader) -> Steps[None]:
        while True:
            try:
                data = connection.receive()
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ, self._deadline)
                continue
            if reader.feed(data):
                return
            # Whoever sends without a pause is never waited for.
            if time.monotonic() >= self._deadline:
                raise TimeoutError

    # --- the end

    def _finish(self) -> None:
        connection = self._connection
        if connection is None:
            raise AssertionError("unreachable")
        reader = self._reader
        self._answer = self._answer_of(reader)
        if reader.reusable:
            connection.fresh = False
            self._pool.give_back(connection)
        elif self._cancelled or self._pool.closed:
            # The end of the connection that ended the answer may be our own doing.
            self._answer = None
            self._fail(failures.given_up(sent=self.sent))
            return
        else:
            connection.close()
        self.ended = True

    def _fail(self, failure: EtcdMapError, cause: BaseException | None = None) -> None:
        if self._cancelled or self._pool.closed:
            failure = failures.given_up(sent=self.sent)
        failure.__cause__ = cause
        self._failure = failure
        self.ended = True
        if self._steps is not None:
            with self._pool.lock:  # so that `cancel` does not wake who comes after
                self._waiting = None
            self._steps.close()
        if self._connection is not None:
            self._connection.close()


def wait_any(exchanges: Iterable[Exchange], timeout: float) -> Exchange | None:
    """Wait until one of several exchanges has ended, and return it.

    Args:
        exchanges: of any kind of transport, in the order of preference.
        timeout: seconds to wait at most.

    Returns:
        One that has ended, be it well or not; None if the time is over.
    """
    exchanges = list(exchanges)
    until = time.monotonic() + timeout
    late = False
    while True:
        ended = next(filter(attrgetter("ended"), exchanges), None)
        if ended is not None or late:
            return ended
        under_way = [(e, waiting) for e in exchanges if (waiting := e.waiting())]
        if len(under_way) < len(exchanges):
            continue  # one found its answer there already
        due = min([until, *(waiting.due for _, waiting in under_way)])
        left = due - time.monotonic()
        found = ready([waiting for _, waiting in under_way], left)
        now = time.monotonic()
        for exchange, waiting in under_way:
            if waiting.sock in found:
                exchange.advance()
            elif now >= waiting.due:
                exchange.advance(late=True)
        late = now >= until and not found

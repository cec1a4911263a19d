"""One exchange on one connection: begin it, wait for it, give it up, or cancel it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from etcdmap.errors import EtcdMapError
from etcdmap.models import Answer, Request
from etcdmap.transport import failures
from etcdmap.transport.http1 import Reader
from etcdmap.transport.polling import READ, WRITE, Waiting, ready
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Exchange, Identity
from etcdmap.transport.sockets import (
    BLOCKED,
    GONE,
    KERNEL_PATIENCE,
    Connection,
    Steps,
)

#: Spells a request for an endpoint.
Spell = Callable[[str, Request[object]], bytes]


class WireExchange:
    """An `Exchange` on a socket.

    Nearly always there is a connection, and the request leaves at once; then the
    answer is read without more ado.  All else is in steps: a generator that yields
    what it waits for.

    Args:
        pool: where the connection comes from, and goes back to.
        request: what to send.
        spell: spells it.
        timeout: seconds that the whole of it may take.
        limit: for the body of the answer, bytes.
        opening: what a new connection must carry first; None for nothing.
        identity: what the connection must have shown before; None for nothing.

    Attributes:
        ended: whether there is an answer or a failure.
        sent: whether the request may have reached the server.
    """

    # On the class, so that an exchange that goes well does not set them.
    ended = False
    sent = False
    _answer: Answer | None = None
    _cancelled = False
    _failure: EtcdMapError | None = None
    #: Ends the wait of another thread; changed with the pool's lock held.
    _interrupt: Callable[[], object] | None = None
    _sent_whole = False
    _steps: Steps[None] | None = None
    _waiting: Waiting | None = None
    _whole = False

    def __init__(
        self,
        pool: Pool,
        request: Request[object],
        spell: Spell,
        timeout: float,
        limit: int,
        opening: Request[object] | None,
        identity: Identity | None,
    ) -> None:
        self._pool = pool
        self._payload = spell(pool.authority, request)
        self._reader = Reader(pool.endpoint, request.method, limit)
        self._spell = spell
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._limit = limit
        self._opening = opening
        self._identity = identity
        self._connection = self._used = connection = pool.borrow()
        # As `_asks_first`, spelt out: idle connections are not fresh.
        if connection is not None and (
            identity is None or connection.shown is identity.token
        ):
            self._send_quickly(connection)
            return
        self._take_steps(0)
        # A connection on the same machine is there at once, and then the request
        # leaves before anybody waits.
        self.wait(0)

    @property
    def endpoint(self) -> str:
        """Who is asked."""
        return self._pool.endpoint

    def waiting(self) -> Waiting:
        """Tell what it waits for: a socket, and until when."""
        if self._waiting is None:
            self._take_steps(len(self._payload))
        return self._waiting or Waiting(-1, READ, self._deadline)

    def wait(self, timeout: float) -> bool:
        """Wait some seconds for its end, and tell whether it has ended."""
        now = time.monotonic()
        until = now + timeout
        if self._steps is None and self._receive_quickly(now, until):
            return True
        while not self.ended:
            fd, events, due = self.waiting()
            if _has_ended(self):
                break  # there is nothing any more to wait for
            left = max(0.0, min(until, due) - time.monotonic())
            if self._is_ready(fd, events, left):
                self.advance()
            elif (now := time.monotonic()) >= due:
                self.overdue()
            elif now >= until:
                return False
        return True

    def result(self) -> Answer:
        """Wait for its end, and return the answer or raise the failure."""
        if not self.ended:
            self.wait(math.inf)
        if self._failure is not None:
            raise self._failure
        if self._answer is None:
            reader = self._reader  # the body goes: once is enough
            self._answer = Answer(
                reader.status, reader.headers, reader.body(), self._pool.endpoint
            )
        return self._answer

    def give_up(self) -> None:
        """Stop waiting; the connection is closed if there is no answer yet."""
        if not self.ended:
            self._fail(failures.given_up(sent=self.sent))

    def cancel(self) -> None:
        """Make it end now, from any thread: whoever waits for it is woken."""
        with self._pool.lock:
            self._cancelled = True
            if self._interrupt is not None:
                self._interrupt()

    def showed(self, token: object) -> None:
        """Note that its answer showed what an `Identity` asks for."""
        if self._used is not None:
            self._used.shown = token

    # --- for those who wait for several

    def advance(self) -> None:
        """Go on: what it waited for is there."""
        self._resume()

    def overdue(self) -> None:
        """Go on: the time is over."""
        self._resume(TimeoutError())

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
        else:
            self._sent_whole = True

    def _receive_quickly(self, now: float, until: float) -> bool:
        """Read for as long as the kernel may wait; tell whether it has ended."""
        connection = self._connection
        if connection is None:
            return self.ended
        # A hair less: who waits for just that long has lost a part of it already.
        latest = min(until, self._deadline) - 0.9 * KERNEL_PATIENCE
        try:
            # The kernel waits for too short a time to be interrupted.
            while now <= latest and not self._cancelled:
                try:
                    if self._reader.feed(connection.receive_soon()):
                        self._finish()
                        return True
                except BLOCKED:
                    pass
                now = time.monotonic()
        except OSError as error:
            self._fail(failures.of_socket(error, sent=True), error)
        except EtcdMapError as error:
            self._fail(error)
        except BaseException:  # a signal's: this exchange can't go on
            self.give_up()
            raise
        return self.ended

    # --- steps

    def _is_ready(self, fd: int, events: int, timeout: float) -> bool:
        if events == READ and self._connection is not None:
            return self._connection.readable(timeout)
        return bool(ready({fd: events}, timeout))

    def _take_steps(self, offset: int) -> None:
        self._steps = self._run(offset)
        self._resume()

    def _resume(self, error: TimeoutError | None = None) -> None:
        steps = self._steps
        if steps is None:
            raise AssertionError("unreachable")
        try:
            if self._cancelled:
                raise failures.given_up(sent=self.sent)
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
        connection = self._connection
        if connection is None:
            connection = yield from self._connect()
        else:
            self.interruptible(connection.shut_down)
        if not offset:
            first = self._asks_first(connection)
            if first is not None:
                connection = yield from self._ask_first(connection, first)
        if offset < len(self._payload):
            yield from self._send(connection, offset)
        self._sent_whole = self._sent_whole or offset == len(self._payload)
        yield from self._receive(connection, self._reader)

    def _connect(self) -> Steps[Connection]:
        connection = yield from self._pool.connect(self._deadline, self)
        self._connection = self._used = connection
        self.interruptible(connection.shut_down)
        return connection

    def interruptible(self, interrupt: Callable[[], object] | None) -> None:
        """Keep what ends its wait, for `cancel`."""
        with self._pool.lock:
            self._interrupt = interrupt
            if self._cancelled and interrupt is not None:
                raise failures.given_up(sent=self.sent)

    def _asks_first(self, connection: Connection) -> Request[object] | None:
        """Return what must be asked on a connection before, if anything."""
        identity = self._identity
        if identity is not None and connection.shown is not identity.token:
            return identity.request
        return self._opening if connection.fresh else None

    def _ask_first(
        self, connection: Connection, request: Request[object]
    ) -> Steps[Connection]:
        """Send another request before, and go on if its answer is as it must be.

        Returns:
            The connection to go on with: a new one where each answer ends its own.
        """
        reader = Reader(self._pool.endpoint, request.method, self._limit)
        rest = memoryview(self._spell(self._pool.authority, request))
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BLOCKED as blocked:
                yield connection.waiting(blocked, WRITE, self._deadline)
        yield from self._receive(connection, reader)
        request.read(
            Answer(reader.status, reader.headers, reader.body(), self._pool.endpoint)
        )
        if not reader.reusable:
            connection.close()
            connection = yield from self._connect()
        self._whole = connection.fresh = False
        if self._identity is not None:
            connection.shown = self._identity.token
        return connection

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

    def _receive(self, connection: Connection, reader: Reader) -> Steps[None]:
        while not self._whole:
            if not connection.pending():
                yield Waiting(connection.sock.fileno(), READ, self._deadline)
            try:
                data = connection.receive()
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ, self._deadline)
                continue
            self._whole = reader.feed(data)
            # Whoever sends without a pause is never waited for.
            if time.monotonic() >= self._deadline and not self._whole:
                raise TimeoutError

    def _finish(self) -> None:
        if (self._cancelled or self._pool.closed) and not self._reader.reusable:
            # The end of the connection that ended the answer may be our own doing.
            self._fail(failures.given_up(sent=self.sent))
            return
        connection = self._let_go()
        if connection is None:
            raise AssertionError("unreachable")
        if self._reader.reusable and self._sent_whole:
            connection.fresh = False
            self._pool.give_back(connection)
        else:
            connection.close()

    def _fail(self, failure: EtcdMapError, cause: BaseException | None = None) -> None:
        if self._cancelled or self._pool.closed:
            failure = failures.given_up(sent=self.sent)
        failure.__cause__ = cause
        self._failure = failure
        if self._steps is not None:
            self._steps.close()
        connection = self._let_go()
        if connection is not None:
            connection.close()

    def _let_go(self) -> Connection | None:
        """End, so that `cancel` reaches no connection that others may use."""
        self.ended = True
        if self._interrupt is not None:
            with self._pool.lock:
                self._interrupt = None
        connection, self._connection = self._connection, None
        return connection


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
    while (ended := next(filter(_has_ended, exchanges), None)) is None:
        waiting = [(exchange, exchange.waiting()) for exchange in exchanges]
        if any(map(_has_ended, exchanges)):
            continue  # one found its answer there already
        due = min([until, *(each.due for _, each in waiting)])
        left = max(0.0, due - time.monotonic())
        found = ready({each.fd: each.events for _, each in waiting}, left)
        now = time.monotonic()
        for exchange, each in waiting:
            if each.fd in found:
                exchange.advance()
            elif now >= each.due:
                exchange.overdue()
        if now >= until:
            return next(filter(_has_ended, exchanges), None)
    return ended


def _has_ended(exchange: Exchange) -> bool:
    return exchange.ended

"""One exchange on one connection: begin it, wait for it, give it up, or cancel it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable

from etcdmap.errors import EtcdMapError
from etcdmap.transport import failures
from etcdmap.transport.head import spell
from etcdmap.transport.http1 import Reader
from etcdmap.transport.polling import READ, WRITE, Waiting, ready, wake
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Answer, Exchange, Identity, Request
from etcdmap.transport.sockets import BLOCKED, GONE, KERNEL_PATIENCE, Connection, Steps


class WireExchange:
    """An `Exchange` on a connection of a pool; `Transport.begin` has the arguments.

    Nearly always a connection is idle, the request leaves at once, and `wait` reads the
    answer.  All else is in steps: a generator that yields what it waits for.
    """

    # On the class, which is quicker: most exchanges set none but the first.
    _answer: Answer | None = None
    _failure: EtcdMapError | None = None
    _steps: Steps[Connection] | None = None
    _cancelled = False
    #: What `cancel` has to wake; changed with the pool's lock held.
    _waiting: Waiting | None = None

    def __init__(
        self, pool: Pool, request: Request, timeout: float, identity: Identity | None
    ) -> None:
        self.ended = self.sent = False
        self._pool = pool
        self._request = request
        self._payload = spell(request, pool.fields)
        self._reader = Reader(pool.endpoint, request, pool.limit)
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._identity = identity
        self._connection = connection = pool.borrow()
        # This is when `_ask_first` asks nothing: idle connections are not fresh.
        if connection is not None and (
            identity is None or connection.shown is identity
        ):
            self._send_quickly(connection)
            return
        self._take_steps(0)
        # On the same machine it is connected at once: without this, the request would
        # not leave before somebody waits.
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
        except StopIteration as end:
            self._finish(end.value)
        except BaseException as problem:
            self._stop(problem)

    # --- without steps

    def _send_quickly(self, connection: Connection) -> None:
        """Send what can be sent now, which is nearly always all of it."""
        sent = 0
        try:
            sent = connection.send(self._payload)
        except BLOCKED:
            pass
        except BaseException as problem:
            # TLS may have sent a part before it failed, and a signal comes at any time.
            self.sent = connection.tls or not isinstance(problem, OSError)
            self._stop(problem)
            return
        self.sent = sent > 0
        if sent < len(self._payload):
            self._take_steps(sent)

    def _receive_quickly(self, until: float) -> bool:
        """Read while the kernel does the waiting; return whether it has ended."""
        connection = self._connection
        if connection is None:
            return False
        # Not the whole patience, or a timeout of just that would be too short for it.
        latest = min(until, self._deadline) - 0.9 * KERNEL_PATIENCE
        try:
            # `cancel` does not wake it here, but is seen after `KERNEL_PATIENCE`.
            while time.monotonic() <= latest and not self._cancelled:
                try:
                    if self._reader.feed(connection.receive_soon()):
                        self._finish(connection)
                        return True
                except BLOCKED:
                    pass
        except BaseException as problem:
            self._stop(problem)
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

    def _run(self, offset: int) -> Steps[Connection]:
        connection = self._connection
        if connection is None:
            connection = yield from self._connect()
        if not offset:
            connection = yield from self._ask_first(connection)
        is_whole = yield from self._send(connection, offset)
        if not is_whole:
            yield from self._receive(connection, self._reader)
        return connection

    def _connect(self) -> Steps[Connection]:
        connection = yield from self._pool.connect(self._deadline, self)
        self._connection = connection
        self._note_waiting(None)  # it may have been cancelled between two waits
        return connection

    def _ask_first(self, connection: Connection) -> Steps[Connection]:
        """Send what must come before; return the connection to go on with."""
        identity, opening = self._identity, self._pool.opening
        target = self._request.target
        if identity is not None and connection.shown is not identity:
            reader = yield from self._ask(connection, identity)
            shown = identity.read(reader.answer())
        elif connection.fresh and opening is not None and len(target) > opening.longest:
            reader = yield from self._ask(connection, opening.request)
            shown = connection.shown
        else:
            return connection
        if not reader.reusable:
            connection.close()
            connection = yield from self._connect()
        connection.fresh = False
        connection.shown = shown
        return connection

    def _ask(self, connection: Connection, request: Request) -> Steps[Reader]:
        reader = Reader(self._pool.endpoint, request, self._pool.limit)
        payload = spell(request, self._pool.fields)
        yield from connection.send_all(payload, self._deadline)
        yield from self._receive(connection, reader)
        return reader

    def _send(self, connection: Connection, offset: int) -> Steps[bool]:
        """Send the rest of the request; return whether the answer is whole already."""
        rest = memoryview(self._payload)[offset:]
        # TLS may have sent a part before it says that it can't go on.
        self.sent = self.sent or connection.tls
        while rest:
            try:
                sent = connection.send(rest)
            except BLOCKED as blocked:
                yield connection.waiting(blocked, READ | WRITE, self._deadline)
                # RFC 9112 section 9.5: once an answer comes, the rest is not sent.
                with contextlib.suppress(*BLOCKED):
                    data = connection.receive()
                    connection.age = None  # never to be used again
                    return self._reader.feed(data)
            except GONE:
                if not self.sent:
                    raise
                connection.age = None
                return False  # there may be an answer that says why
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
            # A server that sends without a pause never makes it wait.
            if time.monotonic() >= self._deadline:
                raise TimeoutError

    # --- the end

    def _finish(self, connection: Connection) -> None:
        reader = self._reader
        if reader.reusable:
            self._answer = reader.answer()
            # Not after `give_back`: should a signal come there, `give_up` would close a
            # connection that is another's by then.
            self.ended = True
            connection.fresh = False
            self._pool.give_back(connection)
        elif self._cancelled or self._pool.closed:
            # `cancel` and `close` end the connection: the answer may be cut off.
            self._fail(failures.given_up(sent=self.sent))
        else:
            self._answer = reader.answer()
            self.ended = True
            connection.close()

    def _stop(self, problem: BaseException) -> None:
        """End without an answer, because of an exception."""
        if isinstance(problem, EtcdMapError):
            self._fail(problem)
        elif isinstance(problem, TimeoutError) and self._steps is not None:
            self._fail(failures.timed_out(self._timeout, sent=self.sent))
        elif isinstance(problem, OSError):
            self._fail(failures.of_socket(problem, sent=self.sent), problem)
        else:  # a signal's: how far it has come is not known
            self.give_up()
            raise problem

    def _fail(self, failure: EtcdMapError, cause: BaseException | None = None) -> None:
        if self._cancelled or self._pool.closed:
            failure = failures.given_up(sent=self.sent)
        failure.__cause__ = cause
        self._failure = failure
        self._reader.drop()
        self.ended = True
        if self._steps is not None:
            with self._pool.lock:
                # Once closed, its number may be another's, which `cancel` would end.
                self._waiting = None
            self._steps.close()
        if self._connection is not None:
            self._connection.close()


def wait_any(exchanges: Iterable[Exchange], timeout: float) -> Exchange | None:
    """Wait some seconds until one of several exchanges has ended, well or not.

    Return the first that has, or None; they may be of any kind of transport.
    """
    exchanges = list(exchanges)
    until = time.monotonic() + timeout
    late = False
    while True:
        ended = next((each for each in exchanges if each.ended), None)
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

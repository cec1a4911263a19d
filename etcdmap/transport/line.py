"""A connection of its own for answers that are late by design.

An exchange ends with its answer, and gives its connection back.  On a line several
requests are under way at once, whose answers come in their order (RFC 9112 section
9.3.2); the head of an answer can be read long before its body comes; and a line can
say that nothing more will be asked, upon which a server may end what it holds open.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeVar

from etcdmap.errors import EtcdMapError, ExchangeFailed
from etcdmap.transport import failures
from etcdmap.transport.head import spell
from etcdmap.transport.http1 import Reader
from etcdmap.transport.polling import Waiting, end_sending, ready, wake
from etcdmap.transport.pool import Pool
from etcdmap.transport.protocol import Answer, Request
from etcdmap.transport.sockets import BLOCKED, Connection, Steps

T = TypeVar("T")


class Line:
    """Requests on one connection, in their order; not connected before the first.

    One thread uses it; only `cancel` and `end_sending` may come from others.  Times are
    on `time.monotonic`.  After an error there is nothing to do with it but to close it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._waiting: Waiting | None = None
        self._cancelled = False
        #: One for each answer that is not whole yet.
        self._readers: deque[Reader] = deque()
        self._answers: list[Answer] = []
        #: How many of the first answers are to nobody's question.
        self._answers_to_skip = 0

    def send(self, requests: Sequence[Request], until: float) -> None:
        """Send requests, all at once; connect before, if this is the first time.

        Raises:
            ExchangeFailed: they did not leave in time, or it was cancelled.
        """
        try:
            connection = self._connection or self._drive(self._connect(until))
            pool, opening = self._pool, self._pool.opening
            longest = max(len(request.target) for request in requests)
            if connection.fresh and opening is not None and longest > opening.longest:
                requests = [opening.request, *requests]
                self._answers_to_skip = 1
            connection.fresh = False
            for request in requests:
                self._readers.append(Reader(pool.endpoint, request, pool.limit))
            data = b"".join(spell(request, pool.fields) for request in requests)
            try:
                sent = connection.send(data)  # all of it, nearly always
            except BLOCKED:
                sent = 0
            if sent < len(data):
                self._drive(connection.send_all(data[sent:], until))
        except (OSError, EtcdMapError) as error:
            raise self._failure(error) from error

    def receive(self, until: float) -> Answer | None:
        """Return the next whole answer; None if it did not come by that time.

        Raises:
            ExchangeFailed: the connection ended, or was cancelled.
            InvalidResponse: this is not HTTP, or larger than the limit.
        """
        while not self._answers:
            if not self._read(until):
                return None
        return self._answers.pop(0)

    def receive_all(self, until: float) -> Sequence[Answer]:
        """Return the next answer and those that came with it; none, as `receive`."""
        while not self._answers:
            if not self._read(until):
                return ()
        answers, self._answers = self._answers, []
        return answers

    def head(self, until: float) -> tuple[int, Mapping[str, str]] | None:
        """Return status and fields of the next answer, even if its body is to come.

        None, and errors, as `receive`.
        """
        while not self._answers:
            reader = self._readers[0]
            if reader.status and not self._answers_to_skip:
                return reader.status, reader.headers
            if not self._read(until):
                return None
        return self._answers[0].status, self._answers[0].headers

    def end_sending(self) -> None:
        """Tell the server, from any thread, that no more requests will come."""
        with self._pool.lock:
            if self._connection is not None:
                end_sending(self._connection.sock)

    def cancel(self) -> None:
        """End it, from any thread: whoever waits for it is woken, and gets an error."""
        with self._pool.lock:
            self._cancelled = True
            if self._waiting is not None:
                wake(self._waiting.sock)
            elif self._connection is not None:
                wake(self._connection.sock)

    def close(self) -> None:
        """Close the connection."""
        with self._pool.lock:
            # Once closed, its number may be another's, which `cancel` would end.
            connection, self._connection = self._connection, None
            self._cancelled = True
        if connection is not None:
            connection.close()

    # --- steps

    def _drive(self, steps: Steps[T]) -> T:
        try:
            waiting = next(steps)
            while True:
                self._note_waiting(waiting)
                found = ready([waiting], waiting.due - time.monotonic())
                self._note_waiting(None)
                waiting = next(steps) if found else steps.throw(TimeoutError())
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            with self._pool.lock:
                self._waiting = None
            steps.close()

    def _note_waiting(self, waiting: Waiting | None) -> None:
        """Keep what `cancel` must wake; raise if it was called already."""
        with self._pool.lock:
            self._waiting = waiting
            if self._cancelled:
                raise failures.given_up(sent=bool(self._readers))

    def _connect(self, until: float) -> Steps[Connection]:
        connection = yield from self._pool.connect(until, self)
        with self._pool.lock:
            self._connection = connection
        self._note_waiting(None)  # it may have been cancelled between two waits
        return connection

    # --- answers

    def _read(self, until: float) -> bool:
        """Read what comes; return False if nothing did by that time."""
        connection = self._connection
        if connection is None:
            raise failures.given_up(sent=True)
        while True:
            left = until - time.monotonic()
            try:
                # `cancel` ends it, too.
                if left > 0:
                    data = connection.receive_within(left)
                else:
                    data = connection.receive()
                self._take(data)
                return True
            except BLOCKED:
                if left <= 0:
                    return False
            except (OSError, EtcdMapError) as error:
                raise self._failure(error) from error

    def _take(self, data: bytes) -> None:
        readers = self._readers
        while readers:
            reader = readers[0]
            if not reader.feed(data):
                return
            readers.popleft()
            if self._answers_to_skip:
                self._answers_to_skip -= 1
            else:
                self._answers.append(reader.answer())
            data = reader.rest
            if not data:
                return
        what = "bytes that nobody asked for" if data else failures.CLOSED
        raise ExchangeFailed(what, sent=True)

    def _failure(self, error: Exception) -> Exception:
        """Return what an exception of a socket, or of a reader, means."""
        sent = bool(self._readers)
        if self._cancelled or self._pool.closed:
            return failures.given_up(sent=sent)
        if isinstance(error, TimeoutError):
            return ExchangeFailed("no connection in time", sent=sent, timed_out=True)
        if isinstance(error, OSError):
            return failures.of_socket(error, sent=sent)
        return error

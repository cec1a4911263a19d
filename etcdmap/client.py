"""The failover client: which endpoint a request goes to, and what then.

Knows endpoints, attempts and deadlines; nothing of keys.

Theory of operation
-------------------
One endpoint is *pinned*: every request goes there while it works, so that a
client needs few sockets and reads one member's history.  The endpoints were
shuffled once, so that many clients spread over the members.

A call makes *attempts*.  An attempt that gives no usable answer moves on to the
next endpoint in order; going through all of them twice is a *round*; rounds are
spaced by growing pauses, and only the call's deadline ends them.  The endpoint
that gave the first usable answer becomes the pinned one, so the next call
starts there and not at the one that just failed.

What is a usable answer is for the request's `read` to say: a result, or an
error that etcd decided on (`ServerError`).  An answer that is not etcd's, a 5xx
and a connection that failed are not; the next endpoint is asked.

Whether a request may go out again is written on it (`Resend`).  A write that
may have been received and got no usable answer is not sent again: the caller
gets `OutcomeUnknown` with every attempt made.

Threads share one client.  What they share is one immutable `_State`, replaced
under a lock that is never held during I/O; two threads that fail over at the
same time at worst pin one after the other.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from etcdmap import forking
from etcdmap.cache import ReadCache
from etcdmap.endpoints import clean_endpoints, positive_seconds
from etcdmap.errors import (
    Attempt,
    ClusterUnavailable,
    DeadlineExceeded,
    ExchangeFailed,
    InvalidResponse,
    OutcomeUnknown,
    RequestFailed,
    ServerError,
)
from etcdmap.models import Request, Resend
from etcdmap.transport import Transport

T = TypeVar("T")

#: A healthy cluster elects within 1 to 2 s; etcd gives up on a write after 7 s.
DEFAULT_TIMEOUT = 5.0
#: How long a read waits for one member while others could be asked; doubles
#: with each pass over the endpoints, so that a slow answer is not out of reach.
FIRST_PATIENCE = 1.0
#: Pauses between rounds, seconds: the first one, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5


class _State(NamedTuple):
    """What threads share; never changed, only replaced."""

    endpoints: tuple[str, ...]
    pinned: str

    def order(self) -> tuple[str, ...]:
        """Give the endpoints in the order to try them, the pinned one first."""
        at = self.endpoints.index(self.pinned)
        return self.endpoints[at:] + self.endpoints[:at]


class Client:
    """Sends requests to a cluster, over whichever of its endpoints works.

    Args:
        endpoints: client URLs of one or more members.
        transport: carries the exchanges; closed with the client.
        timeout: deadline of one call, seconds, all attempts included.
        shuffle: whether to spread clients over the endpoints by chance.
        cache: kept for the layers above, which share it; None for none.
        clock: gives the time in seconds; for tests.
        sleep: waits for some seconds; for tests.
        rng: the source of chance; for tests.
        recipe: how to make such a client again, as ``__reduce__`` gives it; None
            makes it impossible to pickle.

    Threads: share one client freely.  A forked child may go on using it.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        transport: Transport,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        shuffle: bool = True,
        cache: ReadCache | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        recipe: tuple[Any, ...] | None = None,
    ) -> None:
        self.timeout = positive_seconds("timeout", timeout)
        self._rng = rng or random.Random()
        known = clean_endpoints(endpoints)
        if shuffle:
            known = tuple(self._rng.sample(known, len(known)))
        self._state = _State(known, known[0])
        self.cache = cache
        self._recipe = recipe
        self._transport = transport
        self._clock = clock
        self._sleep = sleep
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Replace the lock: a thread that is not here may hold it."""
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints known, in the order in which they are tried."""
        return self._state.endpoints

    @property
    def pinned(self) -> str:
        """The endpoint that the next request goes to first."""
        return self._state.pinned

    def send(self, request: Request[T], *, timeout: float | None = None) -> T:
        """Send a request to the cluster and give what its `read` made of the answer.

        Args:
            request: what to send, and whether it may be sent again.
            timeout: deadline of this call in seconds, or None for the client's.

        Raises:
            ServerError: etcd's own refusal.
            InvalidResponse: all endpoints answer, none of them as etcd does.
            ClusterUnavailable: no endpoint answered; nothing was applied.
            DeadlineExceeded: the same, with an attempt still waiting.
            OutcomeUnknown: a write may have been received; see `attempts`.

        Cost: 1 request; more only when endpoints fail.
        """
        if timeout is None:
            timeout = self.timeout
        else:
            timeout = positive_seconds("timeout", timeout)
        result: T = _Call(self, self._state, request, timeout).run()
        return result

    def close(self) -> None:
        """Close the connections; using the client afterwards is an error."""
        self._transport.close()

    def __enter__(self) -> Client:
        """Give the client; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def __repr__(self) -> str:
        return f"<Client {list(self.endpoints)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._recipe is None:
            raise TypeError(
                "a client with a session or transport of your own can't be pickled; "
                "make the mapping in the process that uses it"
            )
        return self._recipe

    def _pin(self, endpoint: str) -> None:
        with self._lock:
            if endpoint in self._state.endpoints:
                self._state = self._state._replace(pinned=endpoint)


class _Call:
    """One call of `Client.send`: its attempts and its deadline."""

    __slots__ = ("_attempts", "_client", "_deadline", "_request", "_state", "_timeout")

    def __init__(
        self, client: Client, state: _State, request: Request[Any], timeout: float
    ) -> None:
        self._client = client
        self._state = state
        self._request = request
        self._timeout = timeout
        self._deadline = client._clock() + timeout
        self._attempts: list[Attempt] = []

    def run(self) -> Any:
        pause = FIRST_PAUSE
        patience = FIRST_PATIENCE
        while True:
            for _ in range(2):
                for endpoint in self._state.order():
                    self._check_time()
                    try:
                        return self._attempt(endpoint, patience)
                    except (ExchangeFailed, InvalidResponse, ServerError) as error:
                        self._note(endpoint, error)
                self._give_up_if_hopeless()
                patience *= 2
            self._wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, endpoint: str, patience: float) -> Any:
        client = self._client
        request = self._request
        left = self._deadline - client._clock()
        # A write that went out can't go elsewhere, and with one endpoint there
        # is nowhere to go: then the call waits as long as it may.
        many = len(self._state.endpoints) > 1
        if many and request.resend is Resend.ALWAYS and not request.patient:
            left = min(left, patience)
        try:
            result = request.read(client._transport.exchange(endpoint, request, left))
        except ServerError as error:
            if not error.transient:
                self._pin(endpoint)
            raise
        self._pin(endpoint)
        return result

    def _pin(self, endpoint: str) -> None:
        if endpoint != self._state.pinned:
            self._client._pin(endpoint)

    def _note(self, endpoint: str, error: Exception) -> None:
        """Keep a failed attempt; raise if the call can't go on after it."""
        if isinstance(error, ServerError) and not error.transient:
            raise error
        attempt = Attempt(endpoint, error, _may_be_applied(error))
        self._attempts.append(attempt)
        if attempt.sent and self._request.resend is not Resend.ALWAYS:
            raise OutcomeUnknown(
                f"{self._what()}: sent, but not properly answered; it may have been "
                "applied, now or later. Read the key before writing it again",
                self._attempts,
            ) from error

    def _give_up_if_hopeless(self) -> None:
        """End early if every endpoint answers in a way that will not change."""
        last = self._attempts[-len(self._state.endpoints) :]
        errors = [attempt.error for attempt in last]
        if not all(_is_lasting(error) for error in errors):
            return
        if all(isinstance(error, InvalidResponse) for error in errors):
            raise errors[0]
        raise self._unavailable(ClusterUnavailable, "no endpoint can be used")

    def _check_time(self) -> None:
        if self._client._clock() < self._deadline:
            return
        last = self._attempts[-1].error if self._attempts else None
        if isinstance(last, ExchangeFailed) and last.timed_out:
            raise self._unavailable(
                DeadlineExceeded, f"no answer within {self._timeout:g} s"
            )
        raise self._unavailable(
            ClusterUnavailable,
            f"no endpoint could be used for {self._timeout:g} s; check that etcd runs "
            "and that the endpoints are right",
        )

    def _unavailable(self, kind: type[RequestFailed], why: str) -> RequestFailed:
        error = kind(f"{self._what()}: {why}", self._attempts)
        if self._attempts:
            error.__cause__ = self._attempts[-1].error
        return error

    def _what(self) -> str:
        request = self._request
        return f"{request.method} {request.key or request.target.partition('?')[0]}"

    def _wait(self, pause: float) -> None:
        client = self._client
        # Jitter, so that many clients do not come back in step.
        pause *= client._rng.uniform(0.5, 1.0)
        left = self._deadline - client._clock()
        if left > 0:
            client._sleep(min(pause, left))
        self._state = client._state


def _may_be_applied(error: Exception) -> bool:
    if isinstance(error, ExchangeFailed):
        return error.sent
    if isinstance(error, InvalidResponse):
        return not error.refused
    return True  # a 5xx of etcd: the proposal may still commit


def _is_lasting(error: Exception) -> bool:
    if isinstance(error, InvalidResponse):
        return error.refused or error.status < 500  # not a gateway's bad moment
    return isinstance(error, ExchangeFailed) and error.lasting

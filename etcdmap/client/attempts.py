"""The half of a call that deals with single answers.

May an answer be used, what does it tell of its endpoint and of the cluster, and which
failures end the call?  When a request is sent, and to whom, is decided in `call`.

No write leaves on a connection that has not shown the right cluster (see `Freshness`),
and nothing is learnt from an answer before it was understood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import Any, NamedTuple, Protocol

from etcdmap.client import outcomes
from etcdmap.client.endpoint_health import Health, Policy
from etcdmap.client.freshness import Freshness, StaleAnswer
from etcdmap.client.request import API, Request, Resend
from etcdmap.errors import (
    Attempt,
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
    ServerError,
    Unauthorized,
    forget_frames,
)
from etcdmap.transport import Answer, Exchange, Transport

#: Seconds before a member that lags behind is asked again.  Raft's followers apply an
#: entry within a few milliseconds of the leader.
_CATCH_UP = 0.005
#: Bytes; to read more may take longer than the time left.
_LONG = 1024 * 1024
#: The limit of Go's HTTP client.
_MOST_REDIRECTS = 10

#: In place of a result: there is no usable answer yet.
PENDING: Any = object()


class _Owner(Protocol):
    """What a call needs of its client; see `Client`."""

    transport: Transport
    health: Health
    policy: Policy
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    rng: Random

    @property
    def state(self) -> tuple[tuple[str, ...], str]: ...
    def freshness(self, api: API) -> Freshness: ...
    def order(self) -> tuple[str, ...]: ...
    def pin(self, endpoint: str) -> None: ...


class Copy(NamedTuple):
    """A copy of the request that one endpoint has not answered yet."""

    endpoint: str
    exchange: Exchange
    began: float
    quorum: bool

    def as_attempt(self, after: float) -> Attempt:
        """Return it as an attempt that ran out of time, `after` seconds of its call."""
        sent = self.exchange.sent
        error = ExchangeFailed("no answer in time", sent=sent, timed_out=True)
        return Attempt(self.endpoint, error, sent, after)


class Attempts:
    """The copies of one call's request, and what came of them."""

    # On the class, so that a call that goes well need not set them.
    _redirects = 0
    _launches = 0
    _quorum = False
    #: No answer with an index below may be used.
    _floor = 0

    def __init__(self, client: _Owner, request: Request[Any], deadline: float) -> None:
        self._client = client
        self._request = self._plain = request
        self._deadline = deadline
        self._began = client.clock()
        self._attempts: list[Attempt] = []
        self._running: list[Copy] = []
        self._freshness = client.freshness(request.api)
        self._endpoints, self._first = client.state
        self._writes = request.resend is not Resend.ALWAYS
        self._once = request.resend is Resend.IF_NOT_SENT

    @cached_property
    def _queue(self) -> deque[str]:
        """The endpoints to ask next; a call that goes well needs none."""
        return deque()

    def _take(self, copy: Copy) -> Any:
        """Return the result of a copy that has ended, or PENDING if it is of no use."""
        try:
            answer = copy.exchange.result()
            if answer.status == 307:
                self._redirect(answer)
                return PENDING
            return self._read(answer, copy)
        except (ExchangeFailed, InvalidResponse) as error:
            self._note(copy.endpoint, error, sent=copy.exchange.sent)
            return PENDING

    def _read(self, answer: Answer, copy: Copy) -> Any:
        if len(answer.body) > _LONG:
            answer.seconds = self._deadline - self._client.clock()
        try:
            result = self._request.read(answer)
        except (InvalidResponse, ExchangeFailed):
            raise
        except ServerError as error:
            if error.transient:
                # Without a cluster id it may be a proxy's own refusal.
                if self._request.api.cluster_of(answer):
                    self._freshness.check_cluster(answer)
                self._note(copy.endpoint, error, sent=True)
                return PENDING
            self._believe(answer, copy)
            error.unanswered = self._has_unanswered()
            raise
        except EtcdMapError:  # for example a text that the codec can't read
            self._believe(answer, copy)
            raise
        self._believe(answer, copy)
        return result

    def _believe(self, answer: Answer, copy: Copy) -> None:
        """Learn from an answer that was understood; raise if it must not be used."""
        freshness = self._freshness
        endpoint, exchange, began, quorum = copy
        index, identity = freshness.take(answer, self._floor, quorum=quorum)
        if identity is not None:
            exchange.showed(identity)
        kind = self._request.kind
        self._client.health.answered(endpoint, kind, began)
        # Without an index, the request was refused before the members agreed on
        # anything (a bad form, a missing right), which proves no contact.
        if (quorum or kind == "write") and index:
            freshness.proved(began)
        if self._launches > 1:
            self._leave_the_slow(endpoint)

    def _leave_the_slow(self, winner: str) -> None:
        """Pin the endpoint that answered, if the pinned one should be left."""
        client = self._client
        slow = client.state[1]
        if winner == slow:
            return
        silent = any(copy.endpoint == slow for copy in self._running)
        # Another thread may have pinned one that this call has not tried: it stays.
        tried = silent or any(attempt.endpoint == slow for attempt in self._attempts)
        if slow != self._first and not tried:
            return
        # One slow answer may be chance; a failed attempt, or silence to a quorum read,
        # is reason enough.
        if not silent or self._quorum or client.health.overtaken(slow):
            if silent:
                self._leave(slow)
            client.pin(winner)

    def _redirect(self, answer: Answer) -> None:
        """Follow a 307 to another endpoint that is known, method and body kept."""
        self._redirects += 1
        location = answer.redirects_to or ""
        to = location.removesuffix(self._request.target)
        known = to != location and to in self._client.state[0]
        if not known or self._redirects > _MOST_REDIRECTS:
            raise InvalidResponse(
                f"{answer.endpoint} redirects (307) to a URL that is no endpoint of "
                "this client, or in a loop",
                endpoint=answer.endpoint,
                status=307,
            )
        self._queue.appendleft(to)

    # --- what went wrong

    def _took(self) -> float:
        return self._client.clock() - self._began

    def _note(self, endpoint: str, error: Exception, *, sent: bool = False) -> None:
        """Keep a failed attempt; raise if it ends the call."""
        forget_frames(error)
        sent = sent and not isinstance(error, Unauthorized)
        if isinstance(error, ExchangeFailed):
            sent = sent and error.sent
        self._attempts.append(Attempt(endpoint, error, sent, self._took()))
        if isinstance(error, StaleAnswer):
            self._ask_once_more(endpoint)
        elif isinstance(error, Unauthorized):
            self._raise_if_agreed(error)
        elif not self._is_no_failure(error):
            self._leave(endpoint)
        if sent and self._once:
            if outcomes.is_refused(error):
                # Refused, but not sent again: if this answers another request, the
                # write may have been carried out.
                raise error
            raise outcomes.unknown(self._request, self._attempts)

    def _is_no_failure(self, error: Exception) -> bool:
        if self._request.patient:  # a watch is silent while nothing changes
            return getattr(error, "timed_out", False)
        # A user who may not list the members, or a proxy, serves keys all the same.
        return self._request.kind == "members" and isinstance(error, InvalidResponse)

    def _leave(self, endpoint: str) -> None:
        """Count a failure against an endpoint, and have the next call go elsewhere."""
        client = self._client
        client.health.failed(endpoint)
        # Its other connections may be dead as well, or bring nonsense.
        client.transport.distrust(endpoint)
        self._freshness.failed()
        if client.state[1] == endpoint:
            client.pin(client.order()[0])

    def _ask_once_more(self, endpoint: str) -> None:
        """Give a member that lags behind a moment to catch up."""
        stale = [a for a in self._attempts if isinstance(a.error, StaleAnswer)]
        if len(stale) == 1:
            self._client.sleep(_CATCH_UP)
            self._queue.appendleft(endpoint)
        elif len(stale) > len(self._endpoints):
            self._queue.clear()  # end the round: a quorum read follows

    def _has_unanswered(self) -> bool:
        """Tell whether a copy may have been, or may yet be, carried out."""
        return any(attempt.sent for attempt in self._attempts) or any(
            copy.exchange.sent for copy in self._running
        )

    def _raise_if_agreed(self, error: Unauthorized) -> None:
        """Raise a 401 on which most endpoints agree.

        A member that is cut off does not know new users, and its answer does not show
        that it is cut off.  Of a majority one member is in touch.
        """
        tried = self._attempts
        agreed = {a.endpoint for a in tried if isinstance(a.error, Unauthorized)}
        # A user who may only write gets 401 to every contact read: one is enough.
        contact = self._request.kind == "contact"
        if contact or 2 * len(agreed) > len(self._endpoints):
            error.unanswered = self._has_unanswered()
            raise error

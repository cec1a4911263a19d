"""One call of the client: its attempts, its copies, its deadline.

Theory of operation
-------------------
A call asks the pinned endpoint.  While no usable answer has come it *launches*
the same request at the next endpoint:

* at once, when an attempt has failed;
* after an adaptive delay, when the attempt is just silent and the request may be
  carried out twice at the same time (a read, or a fenced write: `Resend`).  The
  earlier attempts go on being listened to, and the first usable answer wins.

Going through all endpoints twice is a *round*.  After a round without an answer
there is a pause, which grows; the deadline alone ends the call.

A request that may not be carried out twice is never sent again once it may have
been received: its call waits for the answer, or ends as `OutcomeUnknown`.  So it is
not risked after something has failed: first a read that needs all (a quorum's)
finds an endpoint that is in touch with the others.

No write leaves on a connection that has not shown the right cluster, see
`Freshness`, and nothing is learnt from an answer before it was understood.

Session reads: see `etcdmap.client.freshness`.  An answer that is too old is asked for
once more after a moment, at the same endpoint; then the others are asked; then
with a quorum.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, Protocol

from etcdmap.client import outcomes
from etcdmap.client.endpoint_health import Health, Policy
from etcdmap.client.freshness import Freshness, Need, StaleAnswer
from etcdmap.client.request import API, Request, Resend
from etcdmap.errors import (
    Attempt,
    ClientClosed,
    DeadlineExceeded,
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
    RequestFailed,
    ServerError,
    Unauthorized,
)
from etcdmap.transport import Answer, Exchange, Transport, wait_any

#: How long a member that lags behind is given before it is asked again; raft's
#: followers apply an entry within a few milliseconds of the leader.
_CATCH_UP = 0.005
#: As in Go's HTTP client.
_MOST_REDIRECTS = 10

_PENDING: Any = object()


class Owner(Protocol):
    """What a call needs of its client."""

    transport: Transport
    health: Health
    policy: Policy
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    rng: Random

    @property
    def state(self) -> tuple[tuple[str, ...], str]:
        """The endpoints known, and the one in use."""

    def freshness(self, api: API) -> Freshness:
        """Return what was seen of the cluster through an API."""

    def order(self) -> tuple[str, ...]:
        """Return the endpoints in the order to try them now."""

    def pin(self, endpoint: str) -> None:
        """Have the next requests go to this endpoint first."""


class _Copy(NamedTuple):
    """A copy of the request under way to one endpoint."""

    endpoint: str
    exchange: Exchange
    began: float
    #: Whether the cluster is to agree on the answer.
    quorum: bool

    def as_attempt(self) -> Attempt:
        """Give it as an attempt that nothing came of."""
        sent = self.exchange.sent
        error = ExchangeFailed("no answer in time", sent=sent, timed_out=True)
        return Attempt(self.endpoint, error, sent)


class Call:
    """One call of `Client.send`."""

    # On the class, so that a call that goes well does not set them.
    #: Whether a plain read may take over if the quorum read is slow.
    _plain_will_do = False
    _redirects = 0

    def __init__(self, client: Owner, request: Request[Any], deadline: float) -> None:
        self._client = client
        self._request = self._plain = request
        self._deadline = deadline
        self._began = client.clock()
        self._quorum = False
        self._floor = self._launches = 0
        self._attempts: list[Attempt] = []
        self._running: list[_Copy] = []
        self._freshness = client.freshness(request.api)
        self._endpoints, self._first = client.state
        self._writes = request.resend is not Resend.ALWAYS
        self._once = request.resend is Resend.IF_NOT_SENT
        self._queue: deque[str] = deque()
        if request.consistency != "any":
            self._promise()

    def _promise(self) -> None:
        """Ask so that the answer is what this kind of read promises."""
        freshness = self._freshness
        if self._request.consistency == "linearizable":
            self._quorum = True
        elif (need := freshness.needs_proof()) is not Need.NO:
            self._ask_quorum()
            self._plain_will_do = need is Need.BETTER
        # After the look at the proof: what it proved is not above this index.
        self._floor = freshness.index

    def run(self) -> Any:
        """Return what the request's `read` makes of the first usable answer."""
        client = self._client
        client.health.count_request()
        now = self._began
        if now >= self._deadline:
            raise self._failed(
                DeadlineExceeded,
                "the time for the whole call was over before this request, which was "
                "not sent: give it a longer timeout",
            )
        if self._once and self._freshness.in_doubt():
            self._make_contact()
            now = client.clock()
        try:
            self._launch(self._first, now)
            # Nearly always there is an answer before anything else is worth a look.
            running = self._running
            if running and running[0].exchange.wait(client.health.least_delay):
                result = self._take(running.pop())
                if result is not _PENDING:
                    return result
            return self._go_on()
        finally:
            for copy in self._running:
                copy.exchange.give_up()

    def _make_contact(self) -> None:
        """Find an endpoint that is in touch with the others, before a lone write."""
        client = self._client
        try:
            Call(client, self._request.contact(), self._deadline).run()
        except Unauthorized:
            pass  # a user who may only write can't make this read: go on without
        except RequestFailed as error:
            self._attempts += error.attempts
            raise self._failed(
                type(error),
                "nothing was sent: after a failure, a member that is in touch with the "
                "others is looked for first, and none was found",
            ) from error
        self._first = client.state[1]

    def _go_on(self) -> Any:
        pause = self._client.policy.first_pause
        others = tuple(e for e in self._client.order() if e != self._first)
        self._queue.extend((*others, self._first, *others))
        while (result := self._listen()) is _PENDING:
            self._check_time()
            if self._queue:
                if self._launches % len(self._endpoints) == 0:  # another pass
                    self._give_up_if_hopeless()
                self._launch(self._queue.popleft(), self._client.clock())
            elif (result := self._end_round(pause)) is _PENDING:
                pause = min(2 * pause, self._client.policy.longest_pause)
            else:
                break
        return result

    def _end_round(self, pause: float) -> Any:
        """Pause after a round, unless a quorum read can settle it; begin another."""
        self._give_up_if_hopeless()
        client = self._client
        result = _PENDING
        last = self._attempts[-len(self._endpoints) :]
        saw_stale = any(isinstance(attempt.error, StaleAnswer) for attempt in last)
        if self._request.consistency == "session" and saw_stale:
            self._ask_quorum()
        else:
            # Jitter, so that many clients do not come back in step.
            pause *= client.rng.uniform(0.5, 1.0)
            pause = min(pause, max(self._deadline - client.clock(), 0.0))
            if self._running:
                result = self._wait(pause)
            elif pause:
                client.sleep(pause)
        order = client.order()
        self._queue.extend(order + order)
        return result

    def _ask_quorum(self) -> None:
        """Go on with a quorum read: its answer is the truth."""
        if self._quorum:
            return
        self._quorum = True
        self._request = self._request.with_quorum()

    # --- attempts

    def _launch(self, endpoint: str, now: float) -> None:
        client = self._client
        left = self._deadline - now
        if left <= 0:
            return  # whoever called looks at the time next
        self._launches += 1
        must_show = self._freshness.identity if self._writes else None
        try:
            begun = client.transport.begin(endpoint, self._request, left, must_show)
        except ExchangeFailed as error:
            self._note(endpoint, error)
            return
        except ClientClosed as error:  # by another thread, after a copy had left
            if self._writes and self._has_unanswered():
                raise self._unknown() from error
            raise
        if self._running:
            self._drop_oldest(endpoint)
        self._running.append(_Copy(endpoint, begun, now, self._quorum))

    def _drop_oldest(self, endpoint: str) -> None:
        """Keep at most two copies of a request at one endpoint waiting."""
        here = [copy for copy in self._running if copy.endpoint == endpoint]
        if len(here) > 1:
            self._running.remove(here[0])
            here[0].exchange.give_up()
            self._attempts.append(here[0].as_attempt())

    def _listen(self) -> Any:
        """Wait for what is under way, until another endpoint should be asked."""
        if not self._running:
            return _PENDING
        delay = self._delay()
        if self._once or self._request.patient or len(self._endpoints) == 1:
            return self._wait_alone(delay)
        result = self._wait(delay)
        if result is not _PENDING or not self._running or self._attempts:
            return result
        if self._plain_will_do:
            # Read without a quorum, at the same endpoint first.
            self._plain_will_do = self._quorum = False
            self._request = self._plain
            self._queue.appendleft(self._first)
            return _PENDING
        # While nothing has failed, extra copies come out of a budget.
        if self._client.health.may_hedge(self._request.kind):
            return _PENDING
        return self._wait(max(4 * delay, self._client.policy.first_delay))

    def _delay(self) -> float:
        """Return the seconds to wait until another endpoint should be asked."""
        again = self._client.policy.again
        delay = self._client.health.delay(self._request.kind)
        if self._request.kind == "contact":
            # Something fails: what was sent before an election may be lost.
            return min(delay, again)
        if self._launches == 1:
            return delay - (self._client.clock() - self._running[0].began)
        silent = {copy.endpoint for copy in self._running}
        # Once all were asked, more copies won't hurry them.
        return max(2 * delay, again) if len(silent) == len(self._endpoints) else delay

    def _wait_alone(self, delay: float) -> Any:
        """Wait for the one copy there is; leave an endpoint that can't be reached."""
        if self._once and len(self._endpoints) > 1:
            result = self._wait(delay)
            if result is not _PENDING or not self._running:
                return result
            (copy,) = self._running
            if not copy.exchange.sent:
                copy.exchange.give_up()  # from now on it can't be sent any more
            if not copy.exchange.sent:
                self._running.clear()
                failure = ExchangeFailed("no connection in time", sent=False)
                self._note(copy.endpoint, failure)
                return _PENDING
        return self._wait(math.inf)

    def _wait(self, seconds: float) -> Any:
        """Wait some seconds for one of the exchanges under way to be of use."""
        clock = self._client.clock
        running = self._running
        now = clock()
        until = min(now + seconds, self._deadline)
        while running:
            left = until - now if until > now else 0.0
            if len(running) > 1:
                ended = wait_any([copy.exchange for copy in running], left)
                copy = next((c for c in running if c.exchange is ended), None)
            else:  # nearly always
                copy = running[0] if running[0].exchange.wait(left) else None
            if copy is None:
                return _PENDING
            running.remove(copy)
            result = self._take(copy)
            if result is not _PENDING:
                return result
            if self._queue:
                return _PENDING  # it failed: ask the next one at once
            now = clock()
        return _PENDING

    def _take(self, copy: _Copy) -> Any:
        """Make the result of a copy that has ended, if it can be used."""
        try:
            answer = copy.exchange.result()
            if answer.status == 307:
                self._redirect(answer)
                return _PENDING
            return self._read(answer, copy)
        except (ExchangeFailed, InvalidResponse) as error:
            self._note(copy.endpoint, error, sent=copy.exchange.sent)
            return _PENDING

    def _read(self, answer: Answer, copy: _Copy) -> Any:
        try:
            result = self._request.read(answer)
        except InvalidResponse:
            raise
        except ServerError as error:
            if error.transient:
                if self._request.api.cluster_of(answer):  # not a proxy's word
                    self._freshness.check_cluster(answer)
                self._note(copy.endpoint, error, sent=True)
                return _PENDING
            self._believe(answer, copy)
            error.unanswered = self._has_unanswered()
            raise
        except EtcdMapError:  # a text that the codec can't read, say
            self._believe(answer, copy)
            raise
        self._believe(answer, copy)
        return result

    def _believe(self, answer: Answer, copy: _Copy) -> None:
        """Learn from an answer that was understood, unless it is not to be used."""
        client, freshness = self._client, self._freshness
        kind = self._request.kind
        identity = freshness.identity  # first: if the cluster changes, so does this
        index = freshness.take(answer, self._floor, quorum=copy.quorum)
        if freshness.cluster_id is not None:
            copy.exchange.showed(identity)
        client.health.answered(copy.endpoint, kind, copy.began)
        # What was not even proposed to the others (a form that etcd refuses, a
        # right that is missing) shows no index, and proves nothing.
        if (copy.quorum or kind == "write") and index:
            freshness.proved(copy.began)
        if self._launches > 1:
            self._leave_the_slow(copy.endpoint)

    def _leave_the_slow(self, winner: str) -> None:
        """Pin the endpoint that answered, if the pinned one should be left."""
        client = self._client
        slow = client.state[1]
        if winner == slow:
            return
        silent = any(copy.endpoint == slow for copy in self._running)
        # What another thread has found meanwhile stays, if it was not tried here.
        tried = silent or any(attempt.endpoint == slow for attempt in self._attempts)
        if slow != self._first and not tried:
            return
        # A failed attempt and a quorum read that is not answered say enough; one
        # slow answer may be chance.
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
                f"{answer.endpoint} redirects (307) to what is no endpoint of this "
                "client, or in a loop",
                endpoint=answer.endpoint,
                status=307,
            )
        self._queue.appendleft(to)

    # --- what went wrong

    def _note(self, endpoint: str, error: Exception, *, sent: bool = False) -> None:
        """Keep a failed attempt; raise if the call can't go on after it."""
        sent = sent and not isinstance(error, Unauthorized)
        if isinstance(error, ExchangeFailed):
            sent = sent and error.sent
        self._attempts.append(Attempt(endpoint, error, sent))
        if isinstance(error, StaleAnswer):
            self._ask_once_more(endpoint)
        elif isinstance(error, Unauthorized):
            self._raise_if_agreed(error)
        elif not self._is_no_failure(error):
            self._leave(endpoint)
        if sent and self._once:
            if outcomes.is_refused(error):
                # Not sent again all the same: it may be another request's answer.
                raise error
            raise self._unknown() from error

    def _is_no_failure(self, error: Exception) -> bool:
        """Tell whether an endpoint serves all else, whatever this request met."""
        if self._request.patient:  # quiet by design
            return getattr(error, "timed_out", False)
        # Who may not list the members, or is a proxy.
        return self._request.kind == "members" and isinstance(error, InvalidResponse)

    def _leave(self, endpoint: str) -> None:
        """Count a failure against an endpoint, and have the next call go elsewhere."""
        client = self._client
        client.health.failed(endpoint)
        # Where one connection is dead, or brought nonsense, the others may be, too.
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
            self._queue.clear()  # enough: end the round

    def _has_unanswered(self) -> bool:
        """Tell whether a copy may have been, or may yet be, carried out."""
        return any(attempt.sent for attempt in self._attempts) or any(
            copy.exchange.sent for copy in self._running
        )

    def _give_up_if_hopeless(self) -> None:
        """End early if every endpoint answers in a way that will not change."""
        if not self._running:
            outcomes.raise_if_hopeless(
                self._request,
                self._attempts,
                len(self._endpoints),
                is_write=self._writes,
                may_repeat=self._launches < 2 * len(self._endpoints),
            )

    def _raise_if_agreed(self, error: Unauthorized) -> None:
        """Raise a 401 that most endpoints agree on.

        A member that is out of touch does not know a user who is new, and nothing in
        its answer shows that it is; but one of most of them is in touch.
        """
        tried = self._attempts
        agreed = {a.endpoint for a in tried if isinstance(a.error, Unauthorized)}
        # Who may only write gets 401 to the look for contact: one is enough.
        look = self._request.kind == "contact"
        if look or 2 * len(agreed) > len(self._endpoints):
            error.unanswered = self._has_unanswered()
            raise error

    def _check_time(self) -> None:
        if self._client.clock() < self._deadline:
            return
        for copy in self._running:
            self._attempts.append(copy.as_attempt())
            if not self._request.patient:
                self._leave(copy.endpoint)
        if self._writes and self._has_unanswered():
            raise self._unknown()
        took = self._deadline - self._began
        raise outcomes.out_of_time(
            self._request, self._attempts, took, quorum=self._quorum
        )

    def _unknown(self) -> RequestFailed:
        return outcomes.unknown(self._request, self._attempts)

    def _failed(self, kind: type[RequestFailed], why: str) -> RequestFailed:
        return outcomes.failed(kind, self._request, self._attempts, why)

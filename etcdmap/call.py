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
been received: its call waits for the answer, or ends as `OutcomeUnknown`.

Session reads: see `etcdmap.session`.  An answer that is too old is asked for
once more after a moment, at the same endpoint; then the others are asked; then
with a quorum.

A transport that only has `exchange` can't be waited for beside others.  Its
attempts end after the policy's `patience`, if there is another endpoint to ask.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from etcdmap.models import Answer, Request, Resend
from etcdmap.session import Need, Session, StaleAnswer
from etcdmap.transport import Exchange, wait_any

if TYPE_CHECKING:
    from etcdmap.client import Client

#: How long a member that lags behind is given before it is asked again; raft's
#: followers apply an entry within a few milliseconds of the leader.
_CATCH_UP = 0.005
#: As in Go's HTTP client.
_MOST_REDIRECTS = 10

_PENDING: Any = object()


class _Copy:
    """A copy of the request under way to one endpoint."""

    __slots__ = ("began", "endpoint", "exchange", "quorum")

    def __init__(self, exchange: Exchange, began: float, quorum: bool) -> None:
        self.exchange = exchange
        self.endpoint = exchange.endpoint
        self.began = began
        self.quorum = quorum

    def as_attempt(self) -> Attempt:
        """Give it as an attempt that nothing came of."""
        sent = self.exchange.sent
        error = ExchangeFailed("no answer in time", sent=sent, timed_out=True)
        return Attempt(self.endpoint, error, sent)


class Call:
    """One call of `Client.send`."""

    # On the class, so that a call that goes well does not set them.
    _quorum = False
    #: Whether a plain read may take over if the quorum read is slow.
    _plain_will_do = False
    _floor = 0
    _launches = 0
    _redirects = 0

    def __init__(self, client: Client, request: Request[Any], timeout: float) -> None:
        self._client = client
        self._request = self._plain = request
        self._timeout = timeout
        self._deadline = client.clock() + timeout
        self._attempts: list[Attempt] = []
        self._running: list[_Copy] = []
        self._endpoints, self._first = client.state
        #: Whether it may be under way to two endpoints at the same time.
        self._hedged = (
            len(self._endpoints) > 1
            and request.resend is not Resend.IF_NOT_SENT
            and not request.patient
        )
        self._queue: deque[str] = deque()
        self._patience = client.policy.patience
        if request.consistency != "any":
            self._promise(client.session, request.consistency)

    def _promise(self, session: Session, consistency: str) -> None:
        """Ask so that the answer is what this kind of read promises."""
        if consistency == "linearizable":
            self._quorum = True
        else:
            need = session.needs_proof()
            if need is not Need.NO:
                self._ask_quorum()
                self._plain_will_do = need is Need.BETTER
        # After the look at the proof: what it proved is not above this index.
        self._floor = session.index

    def run(self) -> Any:
        """Give what the request's `read` makes of the first usable answer."""
        self._client.health.count_request()
        try:
            result = self._launch(self._first)
            return self._go_on() if result is _PENDING else result
        finally:
            for copy in self._running:
                copy.exchange.give_up()

    def _go_on(self) -> Any:
        pause = self._client.policy.first_pause
        others = tuple(e for e in self._client.order() if e != self._first)
        self._queue.extend((*others, self._first, *others))
        while True:
            result = self._listen()
            if result is not _PENDING:
                return result
            self._check_time()
            if self._queue:
                if self._launches % len(self._endpoints) == 0:  # another pass
                    self._give_up_if_hopeless()
                    self._patience *= 2
                result = self._launch(self._queue.popleft())
            else:
                result = self._end_round(pause)
                pause = min(2 * pause, self._client.policy.longest_pause)
            if result is not _PENDING:
                return result

    def _end_round(self, pause: float) -> Any:
        """Pause after a round, unless a quorum read can settle it; begin another."""
        self._give_up_if_hopeless()
        client = self._client
        result = _PENDING
        if self._request.consistency == "session" and self._saw_stale():
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

    def _saw_stale(self) -> bool:
        last = self._attempts[-len(self._endpoints) :]
        return any(isinstance(attempt.error, StaleAnswer) for attempt in last)

    def _ask_quorum(self) -> None:
        """Go on with a quorum read: its answer is the truth."""
        if self._quorum:
            return
        self._quorum = True
        request = self._request
        mark = "&" if "?" in request.target else "?"
        self._request = replace(
            request,
            # HEAD ignores the parameter.
            method="GET",
            target=f"{request.target}{mark}quorum=true",
            kind="quorum",
        )

    # --- attempts

    def _launch(self, endpoint: str) -> Any:
        """Ask an endpoint; give the result if it came at once."""
        client = self._client
        request = self._request
        now = client.clock()
        left = self._deadline - now
        if left <= 0:
            return _PENDING  # whoever called looks at the time next
        self._launches += 1
        begun: Answer | Exchange
        try:
            if not self._hedged:
                begun = client.transport.exchange(endpoint, request, left)
            elif client.begin is None:
                left = min(left, self._patience)
                begun = client.transport.exchange(endpoint, request, left)
            else:
                begun = client.begin(endpoint, request, left)
        except (ExchangeFailed, InvalidResponse) as error:
            self._note(endpoint, error)
            return _PENDING
        if isinstance(begun, Answer):
            return self._read(begun, now, self._quorum)
        self._drop_oldest(endpoint)
        self._running.append(_Copy(begun, now, self._quorum))
        return _PENDING

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
        policy = self._client.policy
        delay = self._client.health.delay(self._request.kind)
        if self._launches == 1:
            delay -= self._client.clock() - self._running[0].began
        elif len({copy.endpoint for copy in self._running}) == len(self._endpoints):
            # All of them are silent: more copies won't hurry them.
            delay = max(2 * delay, policy.again)
        result = self._wait(delay)
        if result is not _PENDING or not self._running or self._attempts:
            return result
        if self._plain_will_do:
            self._go_on_plainly()
            return _PENDING
        # While nothing has failed, extra copies come out of a budget.
        if self._client.health.may_hedge(self._request.kind):
            return _PENDING
        return self._wait(max(4 * delay, policy.first_delay))

    def _go_on_plainly(self) -> None:
        """Read without a quorum, at the same endpoint first."""
        self._plain_will_do = False
        self._quorum = False
        self._request = self._plain
        self._queue.appendleft(self._first)

    def _wait(self, seconds: float) -> Any:
        """Wait some seconds for one of the exchanges under way to be of use."""
        clock = self._client.clock
        until = min(clock() + seconds, self._deadline)
        while self._running:
            left = max(until - clock(), 0.0)
            ended = wait_any([copy.exchange for copy in self._running], left)
            if ended is None:
                return _PENDING
            result = self._take(ended)
            if result is not _PENDING:
                return result
            if self._queue:
                return _PENDING  # it failed: ask the next one at once
        return _PENDING

    def _take(self, ended: Exchange) -> Any:
        copy = next(copy for copy in self._running if copy.exchange is ended)
        self._running.remove(copy)
        try:
            answer = ended.result()
        except (ExchangeFailed, InvalidResponse) as error:
            self._note(ended.endpoint, error)
            return _PENDING
        return self._read(answer, copy.began, copy.quorum)

    def _read(self, answer: Answer, began: float, quorum: bool) -> Any:
        """Make the result of an answer, if it can be used."""
        client = self._client
        endpoint = answer.endpoint
        index = 0
        try:
            if answer.status == 307:
                return self._redirect(answer)
            index = client.session.check(answer, self._floor, quorum)
            result = self._request.read(answer)
        except (ExchangeFailed, InvalidResponse) as error:
            # Well-framed, so the transport has kept the connection.  (The kinds of
            # InvalidResponse, and who may not list members, are understood.)
            if type(error) is InvalidResponse and self._request.kind != "members":
                client.distrust(endpoint)
            self._note(endpoint, error)
            return _PENDING
        except ServerError as error:
            if error.transient:
                self._note(endpoint, error)
                return _PENDING
            client.session.learn(index, self._floor)
            self._succeed(answer, began, quorum)
            error.unanswered = self._has_unanswered()
            raise
        client.session.learn(index, self._floor)
        self._succeed(answer, began, quorum or self._request.kind == "write")
        return result

    def _succeed(self, answer: Answer, began: float, proof: bool) -> None:
        client = self._client
        kind = self._request.kind
        client.health.answered(answer.endpoint, kind, client.clock() - began)
        # What was not even proposed to the others (a form that etcd refuses, a
        # right that is missing) shows no index, and proves nothing.
        if proof and answer.headers.get("x-etcd-index", "0") != "0":
            client.session.proved(began)
        if self._launches > 1:
            self._leave_the_slow(answer.endpoint)

    def _leave_the_slow(self, winner: str) -> None:
        """Pin the endpoint that answered, if the pinned one should be left."""
        client = self._client
        slow = self._first
        if winner == slow or client.pinned != slow:
            return
        silent = any(copy.endpoint == slow for copy in self._running)
        # A failed attempt and a quorum read that is not answered say enough; one
        # slow answer may be chance.
        if not silent or self._quorum or self._client.health.overtaken(slow):
            if silent:
                self._client.health.failed(slow)
            client.pin(winner)

    def _redirect(self, answer: Answer) -> Any:
        """Follow a 307 to another endpoint that is known, method and body kept."""
        self._redirects += 1
        location = answer.headers.get("location", "")
        to = location.removesuffix(self._request.target)
        known = to != location and to in self._client.endpoints
        if not known or self._redirects > _MOST_REDIRECTS:
            raise InvalidResponse(
                f"{answer.endpoint} redirects (307) to what is no endpoint of this "
                "client, or in a loop",
                endpoint=answer.endpoint,
                status=307,
            )
        self._queue.appendleft(to)
        return _PENDING

    # --- what went wrong

    def _note(self, endpoint: str, error: Exception) -> None:
        """Keep a failed attempt; raise if the call can't go on after it."""
        attempt = Attempt(endpoint, error, _may_be_applied(error))
        self._attempts.append(attempt)
        if attempt.sent and self._request.resend is Resend.IF_NOT_SENT:
            raise self._unknown() from error
        if isinstance(error, StaleAnswer):
            self._ask_once_more(endpoint)
        else:
            self._client.health.failed(endpoint)

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
        if any(attempt.sent for attempt in self._attempts):
            return True
        return any(copy.exchange.sent for copy in self._running)

    def _give_up_if_hopeless(self) -> None:
        """End early if every endpoint answers in a way that will not change."""
        last = self._attempts[-len(self._endpoints) :]
        errors = [attempt.error for attempt in last]
        if self._running or len(errors) < len(self._endpoints):
            return
        if not all(map(_is_lasting, errors)):
            return
        if self._is_write() and any(attempt.sent for attempt in self._attempts):
            raise self._unknown()
        if all(isinstance(error, InvalidResponse) for error in errors):
            raise errors[0]
        raise self._failed(ClusterUnavailable, "no endpoint can be used")

    def _is_write(self) -> bool:
        return self._request.resend is not Resend.ALWAYS

    def _check_time(self) -> None:
        if self._client.clock() < self._deadline:
            return
        self._attempts += [copy.as_attempt() for copy in self._running]
        if self._is_write() and self._has_unanswered():
            raise self._unknown()
        last = self._attempts[-1].error if self._attempts else None
        if isinstance(last, ExchangeFailed) and last.timed_out:
            why = f"no answer within {self._timeout:g} s{self._advice()}"
            raise self._failed(DeadlineExceeded, why)
        raise self._failed(
            ClusterUnavailable,
            f"no endpoint could be used for {self._timeout:g} s; check that etcd runs "
            f"and that the endpoints are right{self._advice()}",
        )

    def _advice(self) -> str:
        if self._quorum and self._request.consistency == "session":
            return (
                "; no member could prove that it is in touch with the others: "
                "using(consistency='any') reads what one of them has"
            )
        return ""

    def _unknown(self) -> RequestFailed:
        return self._failed(
            OutcomeUnknown,
            "sent, but not properly answered; it may have been applied, now or later. "
            "Read the key before writing it again",
        )

    def _failed(self, kind: type[RequestFailed], why: str) -> RequestFailed:
        request = self._request
        what = request.key or request.target.partition("?")[0]
        error = kind(f"{request.method} {what}: {why}", self._attempts)
        if self._attempts:
            error.__cause__ = self._attempts[-1].error
        return error


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

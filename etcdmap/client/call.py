"""One call of the client: when its request is sent, to whom, and when it gives up.

Theory of operation
-------------------
A call asks the pinned endpoint.  While there is no usable answer it *launches* the same
request at the next endpoint:

* at once, when an attempt has failed;
* after an adaptive delay, when the attempt is just silent and the request may be
  carried out twice at the same time (a read, or a fenced write: `Resend`).  The
  earlier attempts go on being listened to, and the first usable answer wins.

Going through all endpoints twice is a *round*.  After a round without an answer
there is a pause, which grows; the deadline alone ends the call.

A request that may not be carried out twice is never sent again once it may have been
received: its call waits for the answer, or ends as `OutcomeUnknown`.  To keep that
rare, after a failure such a write first looks for an endpoint that is in touch with the
others, by a quorum read.

Session reads: see `etcdmap.client.freshness`.  An answer that is too old is asked for
once more after a moment, at the same endpoint; then the others are asked; then
with a quorum.
"""

from __future__ import annotations

import math
from typing import Any

from etcdmap.client import outcomes
from etcdmap.client.attempts import PENDING, Attempts, Copy
from etcdmap.client.freshness import Need, StaleAnswer
from etcdmap.errors import (
    ClientClosed,
    DeadlineExceeded,
    ExchangeFailed,
    RequestFailed,
    Unauthorized,
)
from etcdmap.transport import wait_any


class Call(Attempts):
    """One call of `Client.send`.  Used by one thread, once."""

    #: Whether a plain read may take over if the quorum read is slow.
    _plain_will_do = False

    def _promise(self) -> None:
        """Ask so that the answer is what this kind of read promises."""
        freshness = self._freshness
        if self._request.consistency == "linearizable":
            self._quorum = True
        elif (need := freshness.needs_proof()) is not Need.NO:
            self._ask_quorum()
            self._plain_will_do = need is Need.BETTER
        # Read last: if another thread renewed the proof in between, an index from
        # before that would let answers pass that are older than the proof.
        self._floor = freshness.index

    def _ask_quorum(self) -> None:
        if not self._quorum:
            self._quorum = True
            self._request = self._request.with_quorum()

    def run(self) -> Any:
        """Return what the request's `read` makes of the first usable answer."""
        client = self._client
        if self._request.consistency != "any":
            self._promise()
        client.health.count_request()
        now = self._began
        if now >= self._deadline:
            raise outcomes.failed(
                DeadlineExceeded,
                self._request,
                self._attempts,
                "the time for the whole call was over before this request, which was "
                "not sent: give the call a longer timeout",
            )
        if self._once and self._freshness.in_doubt():
            self._make_contact()
            now = client.clock()
        try:
            self._launch(self._first, now)
            # Nearly always the answer comes before there is anything else to do.
            running = self._running
            if running and running[0].exchange.wait(client.health.least_delay):
                result = self._take(running.pop())
                if result is not PENDING:
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
            raise outcomes.failed(
                type(error),
                self._request,
                self._attempts,
                "nothing was sent: after a failure, the client first looks for a "
                "member that is in touch with the others, and it found none",
            ) from None
        self._first = client.state[1]

    def _go_on(self) -> Any:
        pause = self._client.policy.first_pause
        others = tuple(e for e in self._client.order() if e != self._first)
        self._queue.extend((*others, self._first, *others))
        while (result := self._listen()) is PENDING:
            self._check_time()
            if self._queue:
                if self._launches % len(self._endpoints) == 0:  # all were asked
                    self._give_up_if_hopeless()
                self._launch(self._queue.popleft(), self._client.clock())
            elif (result := self._end_round(pause)) is PENDING:
                pause = min(2 * pause, self._client.policy.longest_pause)
            else:
                break
        return result

    def _end_round(self, pause: float) -> Any:
        """Pause, or turn to a quorum read if answers were too old; fill the queue."""
        self._give_up_if_hopeless()
        client = self._client
        result = PENDING
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

    # --- sending

    def _launch(self, endpoint: str, now: float) -> None:
        client = self._client
        left = self._deadline - now
        if left <= 0:
            return  # the caller checks the time next
        self._launches += 1
        must_show = self._freshness.identity if self._writes else None
        try:
            begun = client.transport.begin(endpoint, self._request, left, must_show)
        except ExchangeFailed as error:
            self._note(endpoint, error)
            return
        except ClientClosed:  # by another thread, after a copy had left
            if self._writes and self._has_unanswered():
                raise outcomes.unknown(self._request, self._attempts) from None
            raise
        if self._running:
            self._drop_oldest(endpoint)
        self._running.append(Copy(endpoint, begun, now, self._quorum))

    def _drop_oldest(self, endpoint: str) -> None:
        """Keep at most two copies of a request at one endpoint waiting."""
        here = [copy for copy in self._running if copy.endpoint == endpoint]
        if len(here) > 1:
            self._running.remove(here[0])
            here[0].exchange.give_up()
            self._attempts.append(here[0].as_attempt(self._took()))

    # --- waiting

    def _listen(self) -> Any:
        """Wait for what is under way, until another endpoint should be asked."""
        if not self._running:
            return PENDING
        delay = self._delay()
        if self._once or self._request.patient or len(self._endpoints) == 1:
            return self._wait_alone(delay)
        result = self._wait(delay)
        if result is not PENDING or not self._running or self._attempts:
            return result
        if self._plain_will_do:
            # Read without a quorum, at the same endpoint first.
            self._plain_will_do = self._quorum = False
            self._request = self._plain
            self._queue.appendleft(self._first)
            return PENDING
        # While nothing has failed, extra copies come out of a budget.
        if self._client.health.may_hedge(self._request.kind):
            return PENDING
        return self._wait(max(4 * delay, self._client.policy.first_delay))

    def _delay(self) -> float:
        """Return the seconds to wait until another endpoint should be asked."""
        again = self._client.policy.again
        delay = self._client.health.delay(self._request.kind)
        if self._request.kind == "contact":
            # Something has failed, and what was sent before an election may be lost.
            return min(delay, again)
        if self._launches == 1:
            return delay - (self._client.clock() - self._running[0].began)
        silent = {copy.endpoint for copy in self._running}
        # If all were asked, copies sent faster would not hurry them.
        return max(2 * delay, again) if len(silent) == len(self._endpoints) else delay

    def _wait_alone(self, delay: float) -> Any:
        """Wait for the only copy; take it back if the endpoint can't be reached."""
        if self._once and len(self._endpoints) > 1:
            result = self._wait(delay)
            if result is not PENDING or not self._running:
                return result
            (copy,) = self._running
            if not copy.exchange.sent:
                copy.exchange.give_up()
            # Looked at again: it may have been sent just before it was given up.
            if not copy.exchange.sent:
                self._running.clear()
                failure = ExchangeFailed(
                    "no connection in time", sent=False, nobody=True
                )
                self._note(copy.endpoint, failure)
                return PENDING
        return self._wait(math.inf)

    def _wait(self, seconds: float) -> Any:
        """Wait some seconds for a usable answer, or until the next should be asked."""
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
                return PENDING
            running.remove(copy)
            result = self._take(copy)
            if result is not PENDING:
                return result
            if self._queue:
                return PENDING  # it failed: ask the next one at once
            now = clock()
        return PENDING

    # --- giving up

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

    def _check_time(self) -> None:
        if self._client.clock() < self._deadline:
            return
        took = self._took()
        for copy in self._running:
            self._attempts.append(copy.as_attempt(took))
            if not self._request.patient:
                self._leave(copy.endpoint)
        if self._writes and self._has_unanswered():
            raise outcomes.unknown(self._request, self._attempts)
        asked = self._deadline - self._began
        raise outcomes.out_of_time(
            self._request,
            self._attempts,
            asked,
            quorum=self._quorum,
            alone=len(self._endpoints) == 1,
        )

"""Follow a node and all below it, over one client, and prove that nothing was missed.

Theory of operation
-------------------
etcd's v2 API has long polls: the answer to one is the first event at `waitIndex` or
after, out of the history of the last 1,000 events, or live.  They go over a `Line` to
one member, the *followed* one.  `_next` is the index of the first change that is not
known, and where polls begin.  It moves by an event, by a poll that was silent for long,
or by a reading of the tree, never by a guess:

* An event that history gave (its index is not above the poll's `X-Etcd-Index`) is the
  first one.  One that came live need not be: a write of a hidden node makes visible
  directories, and no live watch is told.  If it leaves a gap, it is not used and the
  same is asked again: history gives what was hidden.
* A poll is answered from history at once.  One that was silent for `_LONG_SILENCE`,
  while the member answered other requests, says that nothing happened up to its
  `X-Etcd-Index`.
* A *barrier* says so sooner: when a poll is silent, and this side says that it will
  send no more, the member ends the answer; if it ends empty, nothing happened.  But a
  poll that has just begun may swallow an event: hence `_SILENCE`.  It is no guarantee
  where the member gets no processor for longer.  So `_next` does not move: a barrier is
  of a second poll, and the first one, which nobody ends, tells what was swallowed.

A poll to a member that is stopped, cut off, or behind a middlebox that has forgotten
the connection is silent for ever and looks healthy.  So every `_LOOK_EVERY` seconds the
member is asked whether it has a leader, which costs the cluster nothing; and once per
`max_stale` a quorum read, at this very member, tells the index of the store.  If that
is covered, nothing was missed.  If not, what is missing has not come yet, or is of no
concern here: a new poll and a barrier, on connections of their own, tell.

A new connection starts at the last event that is known, not behind it: if another one
is there, or none, the cluster was built anew, which its index need not show.

While polls are answered from history, several are under way: that is as quick as
batches would be.  Where they bring the same event twice, there is one again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from etcdmap.errors import (
    ClientClosed,
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
    Unauthorized,
    V2NotEnabled,
    WatchExpired,
    WrongCluster,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.transport import Answer, Line
from etcdmap.tree import Change, Reading
from etcdmap.v2.followed import Followed, PollEvent
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.request import look
from etcdmap.v2.responses import index_of

#: Seconds for which members may be electing a leader, which is no outage yet.
_ELECTION = 2.0
#: Seconds between two looks at the followed member.
_LOOK_EVERY = 2.0
#: Seconds for the member to answer what needs no other member, and what does.  More
#: where it is far away: as many times as long as an answer took.
_PATIENCE, _QUORUM_PATIENCE, _TIMES = 1.0, 1.5, 4
#: The same, for the first question to a member, which is repeated, or put to another.
_CONTACT_PATIENCE = 0.3
#: Seconds that a poll must have been silent before a barrier: in the first 0.2 ms etcd
#: swallows an event in 4 to 13 of 100 cases, later in none of 4,440.
_SILENCE = 0.005
#: From when on silence is a proof by itself.
_LONG_SILENCE = 0.5
#: The least seconds for an event to come by itself; more where answers take long.
_MOMENT = 0.01
#: Changes elsewhere in `max_stale`, from which the poll is renewed with each look: half
#: of what history holds.
_BUSY = 500
#: Polls under way at once.
_DEPTH = 256
#: With more of them open than this, connect anew rather than read what is known.
_VAIN = 8
#: Changes behind from which reading the tree is quicker, and surer, than draining.
_FAR = 700
#: Part of `max_stale` after which the next proof is due.
_RENEW_AFTER = 0.75
#: Seconds over which replicas spread that read the tree for the same reason.
_SPREAD = 0.05
#: Seconds of pause when no member can be followed: the first one, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_NEVER = float("inf")


class _Missed(Exception):
    """Changes may have been missed."""


class V2Follower:
    """A `Follower` on one client."""

    trouble: EtcdMapError | None = None
    lasting = False
    #: The last answer; how far it is behind is found out when nobody waits for it.
    _latest: Answer | None = None
    #: When the first of the failures in a row was.
    _failing_since = 0.0
    #: When the latest attempt began.
    _tried_at = 0.0

    def __init__(
        self,
        keys: KeysAPI,
        path: str,
        *,
        of_directory: bool,
        after: int | None,
        max_stale: float,
        heals: bool,
        timeout: float,
    ) -> None:
        self._client = client = keys.client
        self._member = Followed(keys, path, of_directory=of_directory)
        self.max_stale = max_stale
        self._heals = heals
        self._timeout = timeout
        self.proved = float("-inf")
        #: Held while it is followed.
        self._using = threading.Lock()
        self._line: Line | None = None
        #: `waitIndex` of the polls under way on it.
        self._polls: deque[int] = deque()
        self._width, self._already_known = 1, False
        self._next = 1 if after is None else after + 1
        #: Whether an event came live and left a gap; what was asked for again for that.
        self._has_gap, self._asked_again_for = False, 0
        #: The last event that was told, to know the history by.
        self._last: PollEvent | None = None
        #: Whether a new line goes on with the cluster that is known, for certain.
        self._seamless = after is not None
        self._news: list[Change | Reading] = []
        self._expired: WatchExpired | None = None
        #: The index up to which a barrier said that nothing happened.
        self._barrier_index = 0
        #: When the poll on the line was seen to have begun; the store's index then.
        self._begun, self._store_index = _NEVER, 0
        #: Whether so much happens elsewhere that history may be gone at the next proof;
        #: the indexes of the store at two times tell.
        self._busy = True
        self._rated, self._rated_at = 0, float("-inf")
        #: The line whose poll this side has ended.
        self._ended: Line | None = None
        #: Since when somebody waits for an answer to a poll.
        self._silent_since = _NEVER
        self._patience = _PATIENCE
        #: Seconds for an event to come by itself before a barrier asks for it.
        self._moment = _MOMENT
        #: The highest index that was seen of a cluster which is no more.
        self._obsolete = 0
        #: How often in a row something failed, for good, or in time; track was lost;
        #: a proof did not come about.
        self._failures = self._slow = self._times_lost = self._unproved = 0
        #: The members that refuse for good.
        self._refusing: set[str] = set()
        self._look_due = client.clock()
        self._put_proof_off()

    @property
    def settled(self) -> int:
        return self._next - 1

    @property
    def covered(self) -> int:
        known, passed = self._next - 1, self._barrier_index
        return known if known > passed else passed

    @property
    def seen(self) -> int:
        seen = self._member.seen
        return seen if seen > self._obsolete else 0

    # --- for other threads

    def prove(self) -> None:
        self._proof_due = 0.0
        line = self._line
        if (
            line is not None
            and self._client.clock() - self._silent_since > self._moment
        ):
            # It ends.  One that is not silent brings something by itself.
            self._ended = line
            line.end_sending()

    def close(self) -> None:
        self._member.cancel()
        self._end()

    def _end(self) -> None:
        """Close the connections, unless somebody uses them, who will do it then."""
        if self._using.acquire(blocking=False):
            self._drop()
            self._using.release()

    # --- the tree

    def read(self) -> Reading:
        """Read through the client, which finds a member that works."""
        began, client = self._client.clock(), self._client
        reading = client.send_by(client.deadline(self._timeout), self._member.whole())
        self._member.endpoint = client.pinned
        self._start_at(reading, began)
        return reading

    def _read_again(self) -> None:
        # What members agree on may get lost while there is no leader, and an answer to
        # that is waited for in vain: so first comes what is answered at once, or again.
        patience = _CONTACT_PATIENCE / _PATIENCE * self._patience
        self._member.ask(self._member.index(), patience)
        began, seen = self._client.clock(), self._member.seen
        reading = self._member.ask(self._member.whole(), self._timeout)
        if reading.index < seen:  # though the members agreed on it
            self._obsolete = seen
        self._start_at(reading, began)
        self._news.append(reading)

    def _start_at(self, reading: Reading, began: float) -> None:
        self._next, self._last, self._seamless = reading.index + 1, None, True
        self._barrier_index = 0
        self._has_proof(began)

    def _has_proof(self, since: float) -> None:
        self.proved = max(self.proved, since)
        self._put_proof_off()

    def _put_proof_off(self) -> None:
        # Jitter, so that many replicas do not ask in step.
        wait = self.max_stale * _RENEW_AFTER * self._client.rng.uniform(0.8, 1.0)
        self._proof_due = self._client.clock() + wait

    # --- following

    def follow(self, until: float) -> Sequence[Change | Reading]:
        with self._using:
            if self._expired is None and not self._member.closing.is_set():
                self._try(until)
        if self._member.closing.is_set():
            self._end()
        news, self._news = self._news, []
        if self._expired is not None and not news:
            raise self._expired
        return news

    def _try(self, until: float) -> None:
        self._tried_at = self._client.clock()
        try:
            self._go_on(until)
        except _Missed as error:
            self._lost_track(error)
        except EtcdMapError as error:
            self._failed(error, until)

    def _go_on(self, until: float) -> None:
        if self._line is None:
            if self._heals and self._last is None and not self._seamless:
                self._read_again()  # there is nothing to know the history by
                return
            self._open()
        self._listen(until)

    def _open(self) -> None:
        """Connect to the followed member, and begin to poll there."""
        self._member.failed = True
        line = self._line = self._member.new_line()
        self._polls.clear()
        self._width = 1
        if self._last is not None and not self._seamless:
            self._polls.append(self._last.index)
        self._polls.append(self._next)
        clock = self._client.clock
        began = clock()
        by = began + self._patience
        line.send([self._member.poll(index) for index in self._polls], by)
        store_index = self._member.begun(line, by)
        took = clock() - began
        self._slow, self._moment = 0, max(_MOMENT, 2 * took)
        self._patience = self._bounded(_TIMES * took)
        if store_index:
            self._member.failed = self._seamless = self.lasting = False
            self._refusing.clear()
            self.trouble = None
            self._begun, self._store_index = clock(), store_index
            self._note_traffic(store_index)
            if store_index < self.covered:  # it lags behind, or was built anew
                self._proof_due = clock()
        if self._look_due <= clock():
            self._look_due = clock() + _LOOK_EVERY * self._client.rng.random()

    def _bounded(self, patience: float) -> float:
        return min(max(_PATIENCE, patience), max(_PATIENCE, self._timeout))

    def _listen(self, until: float) -> None:
        line, clock = self._line, self._client.clock
        if line is None:
            raise AssertionError("unreachable")
        if not self._polls:
            # Polled only now, so that the caller has handled the last event first.
            self._poll_on(line)
        self._silent_since = clock()
        answer = line.receive(min(until, self._look_due, self._proof_due))
        self._silent_since = _NEVER
        if answer is not None:
            self._take(answer)
            while line.answered and self._line is line:  # what came with it
                answer = line.receive(0.0)
                if answer is not None:
                    self._take(answer)
        elif clock() >= self._look_due:
            self._look()
        if clock() >= self._proof_due:
            self._prove()

    def _take(self, answer: Answer) -> None:
        """Use the answer to a poll, and poll on."""
        asked_for = self._polls.popleft()
        if not answer.body and answer.status == 200:
            if self._ended is not self._line:  # it was a proxy, or a member that stops
                raise ExchangeFailed("a poll was ended without an event", sent=True)
            self._reopen()
            return
        event = self._event(answer, asked_for)
        if event is None:
            return
        self._latest = answer
        self._use(event, asked_for, answer)
        in_vain = self._already_known and len(self._polls) > _VAIN
        if self._polls and (event.index >= self._next or in_vain):
            # The polls behind it may be silent, and hold up the one that is needed; or
            # bring the same, which with a password takes etcd 60 ms each.
            self._reopen()

    def _event(self, answer: Answer, asked_for: int) -> PollEvent | None:
        """Read an event; None if the poll for it is not needed any more."""
        last = self._last
        is_check = last is not None and asked_for == last.index
        try:
            event = self._member.event(answer)
        except WatchExpired as error:
            if is_check and not self._heals and self._next > asked_for + 1:
                self._reopen()  # a barrier went further: that may still be known
                return None
            raise _Missed("the history asked for is gone") from error
        if event.index < asked_for:
            raise InvalidResponse("an event from before what was asked for")
        if last is not None and is_check and not event.is_same(last):
            raise _Missed("the last event is not in the cluster's history")
        return event

    def _use(self, event: PollEvent, asked_for: int, answer: Answer) -> None:
        """Take an event for news, if it is the next one."""
        index, change, _, _ = event
        wanted = self._next
        self._already_known = not asked_for <= wanted <= index  # it was known
        if self._already_known:
            return
        if index > wanted and index > (store_index := index_of(answer)):
            # It came live, so history had nothing when the poll began.
            self._next = max(wanted, store_index + 1)
            if index > self._next:
                # There is a gap since then: history tells what is in it.
                if self._asked_again_for == self._next:
                    raise InvalidResponse("an event that the history does not have")
                self._has_gap = True
                return
        self._next = index + 1
        if change is not None:
            self._news.append(change)
            if not change.implied:  # else a live watch may not be told of it
                self._last = event
        self._failures = self._times_lost = 0

    def _poll_on(self, line: Line) -> None:
        latest, self._latest = self._latest, None
        behind = 0 if latest is None else index_of(latest) - self._next + 1
        if behind > _FAR and self._width == _DEPTH and self._heals:
            raise _Missed("far behind")
        if self._already_known:
            self._width = 1
        elif behind > 0:
            self._width = min(_DEPTH, 2 * self._width)
        else:  # not 1 at once: where many write, it will soon be behind again
            self._width = max(1, self._width // 2)
        self._asked_again_for = self._next if self._has_gap else 0
        self._has_gap = False
        count = max(1, min(self._width, behind))
        self._polls.extend(range(self._next, self._next + count))
        by = self._client.clock() + self._patience
        line.send([self._member.poll(index) for index in self._polls], by)
        self._begun = _NEVER

    # --- proofs

    def _look(self) -> None:
        """Ask the followed member whether it is in touch with the others."""
        rng = self._client.rng
        self._look_due = self._client.clock() + _LOOK_EVERY * rng.uniform(0.9, 1.0)
        self._member.ask(look(), self._patience)
        self._failures = 0
        self._use_silence()

    def _use_silence(self) -> None:
        """Move `_next` if the poll was silent for long; renew the poll if need be."""
        line, now = self._line, self._client.clock()
        if line is None or not self._polls:
            return
        if self._begun == _NEVER:
            self._store_index = self._member.begun_already(line)
            if self._store_index:
                self._begun = now
        elif now - self._begun >= _LONG_SILENCE:
            answer = line.receive(now)
            if answer is not None:
                self._take(answer)
                return
            self._next = max(self._next, self._store_index + 1)
            if self._busy:  # nearer to the present, before history is gone
                self._reopen()

    def _note_traffic(self, store_index: int) -> None:
        """Note how much happens in the store."""
        now = self._client.clock()
        took, changes = now - self._rated_at, store_index - self._rated
        if took >= 1.0:
            self._busy = not self._rated or changes * self.max_stale > _BUSY * took
            self._rated, self._rated_at = store_index, now

    def _prove(self) -> None:
        """Find out whether anything was missed, at the followed member."""
        clock = self._client.clock
        began = clock()
        patience = _QUORUM_PATIENCE / _PATIENCE * self._patience
        store_index = self._member.ask(self._member.index(), patience)
        if store_index < self.covered:
            raise _Missed("the cluster's index went back")
        self._note_traffic(store_index)
        while self.covered < store_index and self._line is not None:
            if not self._polls:
                self._poll_on(self._line)
            answer = self._line.receive(clock() + self._moment)
            if answer is None:
                break
            self._take(answer)
        if self.covered < store_index:
            self._reopen()
            self._open()
            self._pass(self._barrier())
        if self.covered >= store_index:
            self._failures = self._times_lost = self._unproved = 0
            self._has_proof(began)
        else:
            self._unproved += 1
            self._proof_due = clock() + _backoff(self._moment, self._unproved - 1)

    def _pass(self, store_index: int) -> None:
        """Take for covered what a barrier says, if the poll has nothing to tell."""
        line = self._line
        answer = None if line is None else line.receive(self._client.clock())
        if answer is None:
            self._barrier_index = max(self._barrier_index, store_index)
        else:
            self._take(answer)

    def _barrier(self) -> int:
        """Have the member end a second poll when it is silent.

        Return the index up to which nothing happened; 0 if something did.
        """
        clock, line = self._client.clock, self._member.new_line()
        by = clock() + self._patience
        try:
            line.send([self._member.poll(self._next)], by)
            store_index = self._member.begun(line, by)
            answer = line.receive(clock() + max(_SILENCE, self._moment / 2))
            if answer is None:
                line.end_sending()
                answer = line.receive(by)
            if answer is None:
                raise ExchangeFailed("no answer in time", sent=True, timed_out=True)
        except EtcdMapError:
            self._member.failed = True
            raise
        finally:
            self._member.end(line)
        # An event, or a refusal, comes on the other line as well.
        return store_index if answer.status == 200 and not answer.body else 0

    # --- what goes wrong

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._member.end(line)

    def _reopen(self) -> None:
        """Have it poll on a new connection, to the same member as ever."""
        self._drop()
        self._seamless = True

    def _lost_track(self, error: _Missed) -> None:
        self._drop()
        self._last, self._seamless = None, False
        if self._heals:
            # Not all replicas of a cluster that was wiped at once; and ever less often
            # where the history is gone before anybody can ask for it.
            pause = _backoff(_SPREAD, self._times_lost) * self._client.rng.random()
            self._times_lost += 1
            self._member.closing.wait(pause)
        else:
            self._expired = WatchExpired(
                f"{error} ({self.covered} was the last index seen); read anew, and "
                "watch from there",
                key=self._member.path,
            )

    def _failed(self, error: EtcdMapError, until: float) -> None:
        """Turn to another member, or try again what has worked."""
        self._drop()
        if self._member.closing.is_set():
            return
        self._seamless = False
        endpoints, now = self._client.endpoints, self._client.clock()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        rounds = self._failures // len(endpoints)
        # Else another member may do, or a proxy or a restart ended what had worked; or
        # they are electing a leader.
        for_long = _will_last(error) or now - self._failing_since >= _ELECTION
        if rounds and for_long and (self._member.failed or self._failures > 1):
            self.trouble = error
        # A member that is cut off does not know new users: most must agree.
        refusing, endpoint = self._refusing, self._member.endpoint
        (refusing.add if _will_last(error) else refusing.discard)(endpoint)
        self.lasting = 2 * len(refusing.intersection(endpoints)) > len(endpoints)
        if self._member.failed:
            self._member.move_on(endpoints)
            if isinstance(error, ExchangeFailed) and error.timed_out:
                self._slow += 1  # is none of them there, or are all far away?
                slow = max(0, self._slow // len(endpoints) - 1)
                self._patience = self._bounded(_PATIENCE * 2 ** min(slow, 10))
        if self._failures > len(endpoints):
            pause = _backoff(_FIRST_PAUSE, rounds) * self._client.rng.uniform(0.5, 1.0)
            pause -= now - self._tried_at  # who has waited for an answer need not again
            self._member.closing.wait(max(0.0, min(pause, until - now)))


def _backoff(first: float, times: int) -> float:
    pause: float = first * 2 ** min(times, 10)
    return min(pause, _LONGEST_PAUSE)


def _will_last(error: EtcdMapError) -> bool:
    if isinstance(error, ExchangeFailed):
        return error.lasting
    return isinstance(error, (ClientClosed, Unauthorized, V2NotEnabled, WrongCluster))

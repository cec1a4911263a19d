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
  directories, and no live watch is told.  It says only that nothing happened up to its
  `X-Etcd-Index`.  If there is a gap behind that, the event is not used, and polling
  goes on at the gap: history gives what was hidden.
* A poll is answered from history at once.  One that was silent for `_LONG_SILENCE`,
  while the member answered other requests, says that nothing happened up to its
  `X-Etcd-Index`.
* A *barrier* says so sooner: when a poll is silent, and this side says that it will
  send no more, the member ends the answer; if it ends empty, nothing happened.  But a
  poll that has just begun may swallow an event: hence `_SILENCE`.  It is no guarantee
  where the member gets no processor for longer.  So only `covered` moves, not `_next`:
  a barrier is of a second poll, and the first one, which nobody ends, tells what was
  swallowed.

A poll to a member that is stopped, cut off, or behind a middlebox that has forgotten
the connection is silent for ever and looks healthy.  So every `_LOOK_EVERY` seconds the
member is asked whether it has a leader, which costs the cluster nothing; and once per
`max_stale` a quorum read, at this very member, tells the index of the store.  If that
is covered, nothing was missed.  If not, what is missing has not come yet, or is of no
concern here: a new poll and a barrier, on connections of their own, tell.

After a failure, a new connection starts at the last event that is known, not behind it:
if another one is there, or none, the cluster was built anew, which its index need not
show.

While polls are answered from history, several are under way: that is as quick as
batches would be.  Where they bring the same event twice, there is one again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from etcdmap.errors import (
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
    WatchExpired,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.transport import Answer, Line
from etcdmap.tree import Change, Reading
from etcdmap.v2.followed import Followed, PollEvent
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.request import look
from etcdmap.v2.responses import index_of
from etcdmap.v2.setbacks import Setbacks

#: Seconds between two looks at the followed member.
_LOOK_EVERY = 2.0
#: Times `Setbacks.patience`, for what needs the other members; and for the first
#: question to a member, which is repeated, or put to another.
_QUORUM_PATIENCE, _CONTACT_PATIENCE = 1.5, 0.3
#: Seconds that a poll must have been silent before a barrier: in the first 0.2 ms etcd
#: swallows an event in 4 to 13 of 100 cases, later in none of 4,440.
_SILENCE = 0.005
#: From when on silence is a proof by itself.
_LONG_SILENCE = 0.5
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
_NEVER = float("inf")


class _Missed(Exception):
    """Changes may have been missed."""


class V2Follower:
    """A `Follower` on one client."""

    trouble: EtcdMapError | None = None
    #: The last answer; how far it is behind is found out when nobody waits for it.
    _latest: Answer | None = None

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
        self.covered = after or 0
        self._next = self.covered + 1
        #: Whether an event came live and left a gap; what was asked for again for that.
        self._has_gap, self._asked_again_for = False, 0
        #: The last event that was told, to know the history by.
        self._last: PollEvent | None = None
        #: Whether a new line goes on with the cluster that is known, for certain.
        self._seamless = after is not None
        self._news: list[Change | Reading] = []
        self._expired: WatchExpired | None = None
        #: When the poll on the line was seen to have begun; the store's index then.
        self._begun, self._store_index = _NEVER, 0
        self._traffic = _Traffic()
        #: The line whose poll this side has ended.
        self._ended: Line | None = None
        #: Since when somebody waits for an answer to a poll.
        self._silent_since = _NEVER
        self._setbacks = Setbacks(client, timeout)
        self._look_due = client.clock()
        self._put_proof_off()

    @property
    def settled(self) -> int:
        return self._next - 1

    @property
    def seen(self) -> int:
        return self._member.seen

    @property
    def lasting(self) -> bool:
        return self._setbacks.most_refuse

    # --- for other threads

    def prove(self) -> None:
        self._proof_due = 0.0
        line, silent_for = self._line, self._client.clock() - self._silent_since
        if line is not None and silent_for > self._setbacks.moment:
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
        patience = _CONTACT_PATIENCE * self._setbacks.patience
        self._member.ask(self._member.index(), patience)
        began, seen = self._client.clock(), self._member.seen
        reading = self._member.ask(self._member.whole(), self._timeout)
        if reading.index < seen:  # though the members agreed on it
            self._member.obsolete = seen
        self._start_at(reading, began)
        self._news.append(reading)

    def _start_at(self, reading: Reading, began: float) -> None:
        self.covered, self._next = reading.index, reading.index + 1
        self._last, self._seamless = None, True
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
            if self._expired is None and not self._member.closed:
                self._try(until)
        if self._member.closed:
            self._end()
        news, self._news = self._news, []
        if self._expired is not None and not news:
            raise self._expired
        return news

    def _try(self, until: float) -> None:
        began = self._client.clock()
        try:
            self._go_on(until)
        except _Missed as error:
            self._lost_track(error)
        except EtcdMapError as error:
            self._failed(error, began, until)

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
        by = began + self._setbacks.patience
        line.send([self._member.poll(index) for index in self._polls], by)
        store_index = self._member.begun(line, by)
        self._setbacks.note_speed(clock() - began)
        if store_index:
            self._member.failed = self._seamless = False
            self._setbacks.refusing.clear()
            self.trouble = None
            self._begun, self._store_index = clock(), store_index
            self._traffic.note(store_index, self._begun, self.max_stale)
            if store_index < self.covered:  # it lags behind, or was built anew
                self._proof_due = clock()
        if self._look_due <= clock():
            self._look_due = clock() + _LOOK_EVERY * self._client.rng.random()

    def _listen(self, until: float) -> None:
        line, clock = self._line, self._client.clock
        if line is None:
            raise AssertionError("unreachable")
        if not self._polls:
            # Polled only now, so that the caller has handled the last event first.
            self._poll_on(line)
        self._silent_since = clock()
        answers = line.receive_all(min(until, self._look_due, self._proof_due))
        self._silent_since = _NEVER
        for answer in answers:
            if self._line is line:  # else all behind it is asked for again
                self._take(answer)
        if not answers and clock() >= self._look_due:
            self._look()
        if clock() >= self._proof_due:
            self._prove()

    def _take(self, answer: Answer) -> None:
        """Use the answer to a poll."""
        asked_for = self._polls.popleft()
        if not answer.body and answer.status == 200:
            self._poll_has_ended()
            return
        try:
            event = self._member.event(answer)
        except WatchExpired as error:
            self._history_is_gone(asked_for, error)
            return
        index, change, _, _ = event
        if index < asked_for or asked_for < self._next:  # else it can only be new
            self._check_event(event, asked_for)
        self._latest = answer
        wanted = self._next
        self._already_known = known = not asked_for <= wanted <= index
        if index == wanted or not (known or self._note_gap(index, answer)):
            self.covered, self._next = max(index, self.covered), index + 1
            if change is not None:
                self._news.append(change)
                if not change.implied:  # else a live watch may not be told of it
                    self._last = event
            self._setbacks.failures = self._setbacks.losses = 0
        if self._polls:
            self._give_up_polls_behind(index)

    def _poll_has_ended(self) -> None:
        if self._ended is not self._line:  # it was a proxy, or a member that stops
            raise ExchangeFailed("a poll was ended without an event", sent=True)
        self._reopen()

    def _check_event(self, event: PollEvent, asked_for: int) -> None:
        last = self._last
        if event.index < asked_for:
            raise InvalidResponse("an event from before what was asked for")
        if last is not None and asked_for == last.index and not event.is_same(last):
            raise _Missed("the last event is not in the cluster's history")

    def _note_gap(self, index: int, answer: Answer) -> bool:
        """Pass what history did not have; return whether that leaves a gap.

        What is in the gap is asked for again.
        """
        store_index = index_of(answer)
        if index <= store_index:
            return False
        self._pass(store_index)  # history had nothing when the poll began
        if index == self._next:
            return False
        # There is a gap since then: history tells what is in it.
        if self._asked_again_for == self._next:
            raise InvalidResponse("an event that the history does not have")
        self._has_gap = True
        return True

    def _give_up_polls_behind(self, index: int) -> None:
        """Give up the polls behind an event if it is better not to wait for them."""
        in_vain = self._already_known and len(self._polls) > _VAIN
        if in_vain or index >= self._next:
            # They may be silent, and hold up the one that is needed; or bring the same,
            # which with a password takes etcd 60 ms each.
            self._reopen()

    def _history_is_gone(self, asked_for: int, error: WatchExpired) -> None:
        is_check = self._last is not None and asked_for == self._last.index
        if not is_check or self._heals or self._next <= asked_for + 1:
            raise _Missed("the history asked for is gone") from error
        # Silence, or what is implied, went further: that may still be known.
        self._reopen()

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
        by = self._client.clock() + self._setbacks.patience
        line.send([self._member.poll(index) for index in self._polls], by)
        self._begun = _NEVER

    # --- proofs

    def _look(self) -> None:
        """Ask the followed member whether it is in touch with the others."""
        rng = self._client.rng
        self._look_due = self._client.clock() + _LOOK_EVERY * rng.uniform(0.9, 1.0)
        self._member.ask(look(), self._setbacks.patience)
        self._setbacks.failures = 0
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
            self._pass(self._store_index)
            if self._traffic.is_heavy:  # nearer to the present, before history is gone
                self._reopen()

    def _prove(self) -> None:
        """Find out whether anything was missed, at the followed member."""
        clock, setbacks = self._client.clock, self._setbacks
        began = clock()
        patience = _QUORUM_PATIENCE * setbacks.patience
        store_index = self._member.ask(self._member.index(), patience)
        if store_index < self.covered:
            raise _Missed("the cluster's index went back")
        self._traffic.note(store_index, clock(), self.max_stale)
        while self.covered < store_index and self._line is not None:
            if not self._polls:
                self._poll_on(self._line)
            answer = self._line.receive(clock() + setbacks.moment)
            if answer is None:
                break
            self._take(answer)
        if self.covered < store_index:
            self._reopen()
            self._open()
            self._cover(self._barrier())
        if self.covered >= store_index:
            setbacks.note_proof()
            self._has_proof(began)
        else:
            self._proof_due = clock() + setbacks.before_next_proof()

    def _pass(self, store_index: int) -> None:
        """Go on behind an index, up to which nothing happened."""
        self.covered = max(self.covered, store_index)
        self._next = max(self._next, store_index + 1)

    def _cover(self, store_index: int) -> None:
        """Take for covered what a barrier says, if the poll has nothing to tell."""
        line = self._line
        answer = None if line is None else line.receive(self._client.clock())
        if answer is None:
            self.covered = max(self.covered, store_index)
        else:
            self._take(answer)

    def _barrier(self) -> int:
        """Have the member end a second poll when it is silent.

        Return the index up to which nothing happened; 0 if something did.
        """
        clock, line = self._client.clock, self._member.new_line()
        setbacks = self._setbacks
        by = clock() + setbacks.patience
        try:
            line.send([self._member.poll(self._next)], by)
            store_index = self._member.begun(line, by)
            answer = line.receive(clock() + max(_SILENCE, setbacks.moment / 2))
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
            self._member.pause(self._setbacks.before_next_reading())
        else:
            self._expired = WatchExpired(
                f"{error} ({self.covered} was the last index seen); read anew, and "
                "watch from there",
                key=self._member.path,
            )

    def _failed(self, error: EtcdMapError, began: float, until: float) -> None:
        """Turn to another member, or try again what has worked."""
        self._drop()
        member, setbacks = self._member, self._setbacks
        if member.closed:
            return
        self._seamless = False
        if setbacks.note_failure(error, member.endpoint, of_member=member.failed):
            self.trouble = error
        if member.failed:
            member.move_on(self._client.endpoints)
        # Whoever has waited for an answer need not wait again.
        due = min(began + setbacks.before_next_attempt(), until)
        member.pause(max(0.0, due - self._client.clock()))


class _Traffic:
    """How much happens in a store, by its index at two times."""

    #: Whether so much that history may be gone at the next proof.
    is_heavy = True

    def __init__(self) -> None:
        self._index, self._noted_at = 0, float("-inf")

    def note(self, store_index: int, now: float, max_stale: float) -> None:
        """Note an index of the store."""
        took, changes = now - self._noted_at, store_index - self._index
        if took >= 1.0:
            self.is_heavy = not self._index or changes * max_stale > _BUSY * took
            self._index, self._noted_at = store_index, now

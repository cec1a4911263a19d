"""What keeps a live replica up to date: one feed for a directory and client.

Theory of operation
-------------------
Readers look at `Feed.now`, one pointer to a `Moment`, which is replaced and, but for
what was decoded from it, never edited.  They take no lock.

Two threads swap two roles.  One *follows*: it waits for news and makes the next moment.
If somebody wants to be told, it lets go of this role and calls them itself, which is
quicker than a queue between two threads.  Whatever comes while a callback runs is
queued by the thread that follows then.  So user code delays following by `_GLANCE` at
most; no lock is held while it runs, nor while anything is sent.

To wake the other thread takes longer than most callbacks do.  So it is not woken while
events come in a row, but looks every `_GLANCE` seconds whether nobody follows.

A queue that gets long is dropped for what it comes to: the differences between the
state that was told last and the present one.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from etcdmap import forking
from etcdmap.errors import ClientClosed, EtcdMapError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.replica import State, after
from etcdmap.mapping.subscription import STATE, Moment, Subscription
from etcdmap.tree import Event, Follower, Reading, WatchableStore

log = logging.getLogger("etcdmap")

#: Seconds that `wait` leaves an event to come by itself before it asks for a proof; the
#: pause before the next proof, doubled each time; and the longest one.
_PATIENCE, _AGAIN, _LONGEST = 0.02, 0.1, 1.0
#: Seconds that the first read in a forked child waits for the present state.
_CATCH_UP = 1.0
#: Seconds that `close` waits for the threads in all: a callback may take any time.
_PARTING = 0.01
#: Seconds before it is tried again after what should not happen.
_AFTER_A_FAULT = 0.5
#: Seconds between two looks of the thread that has nothing to do, and since the last
#: event was told, after which it waits until it is woken.
_GLANCE, _CALM = 0.01, 0.1
_FOR_EVER, _NEVER = 3600.0, float("inf")


#: What to tell: to a subscriber, the events, and what these lead to; or, to those who
#: want to know, what the feed's condition became.
_Job = tuple["Subscription | None", "State | None", "Sequence[Any]"]


class Feed:
    """A directory that is followed, for all who read it and want to be told."""

    now: Moment
    #: What one of the threads is telling, and how many events of it are done.
    _job: _Job | None = None
    _done = 0

    def __init__(self, store: WatchableStore, path: str, max_stale: float) -> None:
        self.path = path
        self.max_stale = max_stale
        #: Those who have not closed it yet, and the `max_stale` of each.
        self.users: dict[object, float] = {}
        self.closed = False
        self._store = store
        self._clock = store.client.clock
        self._subscriptions: list[Subscription] = []
        #: Those of them that are called, and do not come for the events themselves.
        self._called: list[Subscription] = []
        #: Who is told of the feed's own state, and for which user.
        self._state_calls: dict[Callable[[str], object], object] = {}
        self._reported = "starting"
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start anew in a forked child, which has neither threads nor connections."""
        self._make_locks()
        self._waiting = 0
        self._follower: Follower | None = None
        self._threads: list[threading.Thread] = []
        self._follows = False
        #: When the thread that has nothing to do looks again by itself.
        self._idle_until = _NEVER
        #: When a subscriber was last told something.
        self._told_at = float("-inf")
        #: When nothing newer was there than what is shown, on the client's clock.
        self.proved = float("-inf")
        #: What its state became, the latest two: a callback may take any time.
        self._to_report: deque[str] = deque(maxlen=2)
        if hasattr(self, "now"):  # no hit, so that the first read starts it
            self.now = {STATE: self.now[STATE]}
        # What a thread of the parent was about to tell, or to queue, is told from here.
        # The events one by one, and again the one that was being told: it may count, or
        # not, for whoever was called, so that no difference to a state would do.
        if self._job is not None:
            subscription, told, events = self._job
            if subscription is not None and told is not None:
                subscription.tell_again(events[self._done :], told)
        self._job, self._done = None, 0
        for each in self._subscriptions:
            each.catch_up(self._clock())

    def _make_locks(self) -> None:
        #: Held briefly: never while something is sent, or in a caller's function.
        self._lock = threading.Lock()
        #: Told when there is a new moment, if somebody waits; with that lock.
        self.changed = threading.Condition(self._lock)
        #: Released to wake the thread that has nothing to do.
        self._baton = threading.Lock()
        self._starting = threading.Lock()

    def _renew_locks(self) -> None:
        """Use gevent's locks if it has replaced Python's since the fork.

        As in gunicorn's workers; whoever waits for one of Python's stops all greenlets.
        """
        if type(self._lock) is not type(threading.Lock()):
            self._make_locks()

    # --- begin and end

    def start(self) -> None:
        """Read the tree and begin to follow it, unless this was done already."""
        if self._follower is not None:
            return
        self._renew_locks()
        # Not with the lock held: in an outage one would wait for the other's timeout.
        follower = self._new_follower()
        reading = follower.read()
        with self._starting:
            if self._follower is None and not self.closed:
                self._begin_with(follower, reading)
                self._run(follower)
                return
        follower.close()
        if not hasattr(self, "now"):
            raise ClientClosed

    def _begin_with(self, follower: Follower, reading: Reading) -> None:
        self._reported = "following"
        with self._lock:
            if hasattr(self, "now"):  # in a forked child: who subscribed is told
                state, events = after(self.now[STATE], [reading])
                self._show(follower, state, events)
            else:
                self.now = {STATE: State(self.path, reading.root, reading.index)}
                self.proved = follower.proved

    def _new_follower(self) -> Follower:
        return self._store.follower(
            self.path, of_directory=True, max_stale=self.max_stale, heals=True
        )

    def _run(self, follower: Follower) -> None:
        self._follower = follower
        with self.changed:  # none works before both are there
            try:
                for number in (1, 2):
                    name = f"etcdmap-live-{number}"
                    thread = threading.Thread(target=self._work, name=name, daemon=True)
                    self._threads.append(thread)
                    thread.start()
            except BaseException:  # the system has no thread left
                self._threads, self._follower = [], None
                raise

    def _go_on(self) -> None:
        """Follow again, in a forked child; wait a little for the present state."""
        self._renew_locks()
        with self._starting:
            if self._follower is not None or self.closed:
                return
            self._run(self._new_follower())
        with self._lock:
            self.wait_for(lambda: self._has_begun or self.closed, _CATCH_UP)

    def keep_pace(self) -> bool:
        """Prove as often as all users want; return whether that is more than before."""
        before, self.max_stale = self.max_stale, min(self.users.values())
        if self._follower is not None:
            self._follower.max_stale = self.max_stale
        return self.max_stale < before

    def close(self) -> None:
        """End it; the last moment stays."""
        with self._lock:
            self.closed = True
            self._state_calls.clear()
            self._end(self._subscriptions)
        self._wake()
        if self._follower is not None:
            self._follower.close()
        until = self._clock() + _PARTING
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - self._clock()))

    # --- for readers

    def moment(self) -> Moment:
        """Return the present moment; in a forked child see to it that there is one."""
        if self._follower is None and not self.closed:
            self._go_on()
        return self.now

    def state(self) -> State:
        """Return the present state."""
        state: State = self.moment()[STATE]
        return state

    @property
    def follower(self) -> Follower:
        """What tells the news."""
        self.moment()
        if self._follower is None:
            raise EtcdMapError("this live replica was closed before it had begun")
        return self._follower

    @property
    def trouble(self) -> EtcdMapError | None:
        """Why nothing can be followed at the moment; None if it can."""
        follower = self._follower
        return None if follower is None else follower.trouble

    @property
    def _has_begun(self) -> bool:
        """Whether the tree was read; in a forked child, since the fork."""
        return self.proved > float("-inf")

    @property
    def condition(self) -> str:
        """How it is: `Live.state`."""
        follower = self._follower
        if self.closed:
            return "closed"
        if follower is None or not self._has_begun:
            return "starting"
        if follower.trouble is None:
            return "following"
        return "failed" if follower.lasting else "suspended"

    def wait(self, index: int | None, timeout: float) -> bool:
        """Wait until all changes up to an index are shown; tell whether they are."""
        follower = self.follower
        wanted = follower.seen if index is None else index
        until = self._clock() + timeout
        patience, again = _PATIENCE, _AGAIN
        while not self._is_shown(wanted, min(until, self._clock() + patience)):
            if self._clock() >= until or self.closed:
                return False
            follower.prove()
            patience, again = again, min(2 * again, _LONGEST)
        return True

    def _is_shown(self, index: int, until: float) -> bool:
        def shown() -> bool:
            covered: int = self.now[STATE].index
            return covered >= index

        with self._lock:
            self.wait_for(
                lambda: shown() or self.closed, max(0.0, until - self._clock())
            )
            return shown()

    def wait_for(
        self, found: Callable[[], object], seconds: float | None = None
    ) -> None:
        """Wait until something is so, with the lock held, which is let go of then."""
        self._waiting += 1
        try:
            self.changed.wait_for(found, seconds)
        finally:
            self._waiting -= 1

    # --- for subscribers

    def subscribe(
        self,
        ticket: object,
        path: str,
        call: Callable[[Event], object] | None = None,
        *,
        initial: bool = False,
        quiet: float | None = None,
        wake: Callable[[], object] | None = None,
    ) -> Subscription:
        """Have somebody told from now on, with `initial` of what is there as well.

        It ends with the user who has this ticket, if not sooner.  With `wake` in place
        of `call`, called with the lock held, they take the events themselves.
        """
        self.moment()
        with self._lock:
            state = self.now[STATE]
            told = state._replace(root=None) if initial else state
            subscription = Subscription(ticket, path, call, told, quiet, wake=wake)
            if self.closed or ticket not in self.users:
                subscription.ended = True
            else:
                self._set_subscriptions([*self._subscriptions, subscription])
            if initial:
                subscription.catch_up(self._clock())
        self._wake()
        return subscription

    def end(self, subscription: Subscription) -> None:
        """Have somebody not told any more."""
        with self._lock:
            self._end([subscription])

    def end_all(self, ticket: object) -> None:
        """Have nobody told any more for a user, who has been taken from `users`."""
        with self._lock:
            for call, owner in list(self._state_calls.items()):
                if owner is ticket:
                    del self._state_calls[call]
            self._end([each for each in self._subscriptions if each.ticket is ticket])

    def _end(self, subscriptions: list[Subscription]) -> None:
        for each in subscriptions:
            each.ended = True
            if each.wake is not None:
                each.wake()
        self._set_subscriptions([s for s in self._subscriptions if not s.ended])
        self.changed.notify_all()

    def _set_subscriptions(self, subscriptions: list[Subscription]) -> None:
        self._subscriptions = subscriptions
        self._called = [each for each in subscriptions if each.wake is None]

    def on_state(self, ticket: object, call: Callable[[str], object]) -> None:
        """Have somebody told what `condition` becomes, until the user ends."""
        with self._lock:
            if not self.closed and ticket in self.users:
                self._state_calls[call] = ticket

    def off_state(self, call: Callable[[str], object]) -> None:
        """Have somebody not told of that any more."""
        with self._lock:
            self._state_calls.pop(call, None)

    # --- the threads

    def _work(self) -> None:
        me, has_told = threading.current_thread(), False
        while not self.closed:
            with self._lock:
                if me not in self._threads:
                    return
                if has_told:  # not sooner: whoever is due comes before new events
                    self._job, self._done = None, 0
                role, wait = self._next_role()
            has_told = role is not None
            if role is not None:
                role()
            else:
                self._baton.acquire(timeout=wait)

    def _next_role(self) -> tuple[Callable[[], None] | None, float]:
        """Return what to do, or for how long to wait; with the lock held."""
        job = self._next_job()
        if job is not None:
            return functools.partial(self._tell, job), 0.0
        if not self._follows:
            self._follows = True
            return self._follow, 0.0
        now = self._clock()
        calm = now - self._told_at > _CALM
        wait = _FOR_EVER if calm else _GLANCE
        self._idle_until = min(self._due(), now + wait)
        return None, max(0.0, self._idle_until - now)

    def _wake(self) -> None:
        """Wake the thread that waits; without the lock, which it needs at once."""
        if self._baton.locked():  # else it is awake, or will not wait
            try:
                self._baton.release()
            except RuntimeError:  # somebody else was quicker
                return

    def _due(self) -> float:
        """Return when somebody has to be told, unless the other thread does it."""
        if self._job is not None:
            return _NEVER
        return min([each.due for each in self._called], default=_NEVER)

    def _follow(self) -> None:
        follower = self._follower
        if follower is None:
            raise AssertionError("unreachable")
        job: _Job | None = None
        while job is None and not self.closed:
            try:
                news = follower.follow(self._clock() + _FOR_EVER)
                state, events = after(self.now[STATE], news, follower.covered)
            except Exception:  # the thread must go on, whatever is wrong
                _log_fault("following %s failed, and starts again", self.path)
                follower = self._follow_anew(follower)
                continue
            with self._lock:
                # Now, or the thread that is woken would hold this one up.
                free = self._job is None and not self._to_report
                job = self._show(follower, state, events, at_once=free)
                job = job or self._next_job()
                self._follows = job is None
                needed = self._due() if job is None else self._told_at + 2 * _GLANCE
                wake = needed < self._idle_until
            if wake:
                self._wake()
        if job is not None:
            self._tell(job)

    def _follow_anew(self, broken: Follower) -> Follower:
        broken.close()
        with self.changed:
            if not self.closed:
                self.changed.wait(_AFTER_A_FAULT)
                self._follower = broken = self._new_follower()
        return broken

    def _show(
        self,
        follower: Follower,
        state: State,
        events: list[Event],
        *,
        at_once: bool = False,
    ) -> _Job | None:
        """Show a state, and have it told; with the lock held.

        Return what this thread is to tell `at_once`, if it may.
        """
        job: _Job | None = None
        if events or state.root is not self.now[STATE].root:
            self.now = {STATE: state}
            now = self._clock()
            for each in self._subscriptions:
                mine = each.add(state, events, now, at_once=at_once)
                if mine:
                    at_once, self._told_at = False, now
                    job = self._job = each, state, mine
                    # What `settle` does; not before, or a fork would lose them.
                    each.told = each.queued = state
        elif state is not self.now[STATE]:
            self.now = {**self.now, STATE: state}
        # Not before: what it proves is that nothing newer was there than this state.
        if follower.proved > self.proved:
            self.proved = follower.proved
        if follower.trouble is not None or self._reported != "following":
            self._note_condition()
        if self._waiting:
            self.changed.notify_all()
        return job

    def _note_condition(self) -> None:
        condition = self.condition
        if condition != self._reported and condition != "closed":
            self._reported = condition
            self._to_report.append(condition)

    def _tell(self, job: _Job) -> None:
        """Call whoever has to be told."""
        subscription, _, events = job
        tell = self._report if subscription is None else subscription.call
        for event in events:
            if subscription is not None and subscription.ended:
                break
            self._call(tell, event)
            self._done += 1  # not before: it would be lost in a fork

    def _call(self, call: Callable[[Any], object], argument: Any) -> None:
        try:
            call(argument)
        except BaseException:  # SystemExit would end the thread
            _log_fault("a callback for %s raised an exception", self.path)

    def _next_job(self) -> _Job | None:
        """Return what this thread is to tell now, and to whom; with the lock held."""
        if self._job is not None:
            return None
        if self._to_report:
            self._job = None, None, [self._to_report.popleft()]
            return self._job
        now, first = self._clock(), None
        for each in self._called:
            if each.due <= now and (first is None or each.due < first.due):
                first = each
        if first is None:
            return None
        events, told = first.waiting(self.now[STATE])
        self._told_at, self._job = now, (first, told, events)
        first.settle(told)  # not before: a fork would lose them
        return self._job

    def _report(self, condition: str) -> None:
        trouble = self.trouble
        if trouble is None:
            _log(logging.INFO, "live replica of %s: %s", self.path, condition)
        else:
            what = "live replica of %s: %s: %s"
            _log(logging.WARNING, what, self.path, condition, trouble)
        for call in list(self._state_calls):
            if call in self._state_calls:  # one before it may have ended it
                self._call(call, condition)


def _log_fault(what: str, path: str) -> None:
    _log(logging.ERROR, what, path, exc_info=True)


def _log(level: int, what: str, path: str, *more: object, **options: Any) -> None:
    # What an application's handler raises would end the thread.
    with contextlib.suppress(Exception):
        log.log(level, f"etcdmap: {what}", path or "/", *more, **options)

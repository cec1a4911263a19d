"""What keeps a live replica up to date: one feed for a directory and client.

Theory of operation
-------------------
Readers look at `Feed.now`, one pointer to a `Moment`, which is replaced and, but for
what was decoded from it, never edited.  They take no lock.

Two threads swap two roles.  One *follows*: it waits for news and makes the next moment.
If somebody wants to be told, it hands this role to the other one and calls them itself,
which is quicker than a queue between two threads.  Whatever comes while a callback runs
is queued by the thread that follows then.  So user code never delays following; nor is
a lock held while it runs, nor while anything is sent.

A queue that gets long is dropped for what it comes to: the differences between the
state that was told last and the present one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from etcdmap import forking
from etcdmap.errors import EtcdMapError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.replica import State, after
from etcdmap.mapping.subscription import Moment, Subscription
from etcdmap.tree import Change, Event, Follower, Reading, WatchableStore

log = logging.getLogger("etcdmap")

#: Seconds to wait for an event to come by itself, before it is found out whether one
#: is missing; until that is tried again, twice as many each time; and the most.
_PATIENCE, _AGAIN, _LONGEST = 0.02, 0.1, 1.0
#: Seconds that the first read in a forked child waits for the present state.
_CATCH_UP = 1.0
#: Seconds to wait for the threads to end: a callback may take any time.
_PARTING = 0.01
#: Seconds before it is tried again after what should not happen.
_AFTER_A_FAULT = 0.5
_FOR_EVER, _NEVER = 3600.0, float("inf")


#: A state, and the events that tell how it came about.
_Step = tuple[State, list[Event]]
#: What to tell: a condition of the feed, or events to a subscriber.
_Job = tuple["str | None", "Subscription | None", list[Event]]


class Feed:
    """A directory that is followed, for all who read it and want to be told."""

    now: Moment

    def __init__(self, store: WatchableStore, path: str, max_stale: float) -> None:
        self.path = path
        self.max_stale = max_stale
        #: Those who have not closed it yet, and the `max_stale` of each.
        self.users: dict[object, float] = {}
        self.closed = False
        self._store = store
        self._clock = store.client.clock
        self._subscriptions: list[Subscription] = []
        #: Who is told of the feed's own state.
        self._state_calls: list[Callable[[str], object]] = []
        self._reported = "starting"
        self.after_fork()
        forking.register(self)

    def after_fork(self) -> None:
        """Start anew in a forked child, which has neither threads nor connections."""
        #: Held for moments; told when there is a new one.
        self.changed = threading.Condition(threading.Lock())
        #: Released to wake the thread that has nothing to do.
        self._baton = threading.Lock()
        self._starting = threading.Lock()
        self._follower: Follower | None = None
        self._threads: list[threading.Thread] = []
        self._follows = self._tells = False
        self._readings = 0
        #: When nothing newer was there than what is shown, on the client's clock.
        self.proved = float("-inf")
        self._to_report: deque[str] = deque()
        now = getattr(self, "now", None)
        if now is not None:  # no hit, so that the first read starts it
            self.now = Moment(now.state)

    # --- begin and end

    def start(self) -> None:
        """Read the tree and begin to follow it, unless this was done already."""
        with self._starting:
            if self._follower is None and not self.closed:
                follower = self._new_follower()
                reading = follower.read()
                self._show(State(self.path, reading.root, reading.index))
                self.proved, self._readings = follower.proved, 1
                self._run(follower)

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
        with self._starting:
            if self._follower is not None or self.closed:
                return
            self._run(self._new_follower())
        with self.changed:
            self.changed.wait_for(lambda: self._readings or self.closed, _CATCH_UP)

    def keep_pace(self) -> bool:
        """Prove as often as all users want; return whether that is more than before."""
        before, self.max_stale = self.max_stale, min(self.users.values())
        if self._follower is not None:
            self._follower.max_stale = self.max_stale
        return self.max_stale < before

    def close(self) -> None:
        """End it; the last moment stays."""
        with self.changed:
            self.closed = True
            for subscription in self._subscriptions:
                subscription.ended = True
                if subscription.wake is not None:
                    subscription.wake()
            self._subscriptions = []
            self.changed.notify_all()
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
        return self.moment().state

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
    def condition(self) -> str:
        """How it is: `Live.state`."""
        follower = self._follower
        if self.closed:
            return "closed"
        if follower is None or not self._readings:
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
            return self.now.state.index >= index

        with self.changed:
            wait = max(0.0, until - self._clock())
            self.changed.wait_for(lambda: shown() or self.closed, wait)
            return shown()

    # --- for subscribers

    def subscribe(
        self,
        path: str,
        call: Callable[[Event], object],
        *,
        initial: bool = False,
        quiet: float | None = None,
        wake: Callable[[], object] | None = None,
    ) -> Subscription:
        """Have somebody told from now on, with `initial` of what is there as well.

        With `wake`, called with the lock held, they take the events themselves.
        """
        self.moment()
        with self.changed:
            state = self.now.state
            told = state._replace(root=None) if initial else state
            subscription = Subscription(path, call, told, quiet, wake=wake)
            if self.closed:
                subscription.ended = True
            else:
                self._subscriptions = [*self._subscriptions, subscription]
            if initial:
                subscription.catch_up(self._clock())
        self._wake()
        return subscription

    def end(self, subscription: Subscription) -> None:
        """Have somebody not told any more."""
        with self.changed:
            subscription.ended = True
            if subscription.wake is not None:
                subscription.wake()
            self._subscriptions = [s for s in self._subscriptions if not s.ended]
            self.changed.notify_all()

    def on_state(self, call: Callable[[str], object]) -> None:
        """Have somebody told what `condition` becomes."""
        with self.changed:
            self._state_calls = [*self._state_calls, call]

    def off_state(self, calls: Sequence[Callable[[str], object]]) -> None:
        """Have some not told of that any more."""
        with self.changed:
            left = [call for call in self._state_calls if call not in calls]
            self._state_calls = left

    # --- the threads

    def _work(self) -> None:
        me = threading.current_thread()
        while not self.closed:
            with self.changed:
                if me not in self._threads:
                    return
                role, wait = self._next_role()
            if role is not None:
                role()
            else:
                self._baton.acquire(timeout=wait)

    def _next_role(self) -> tuple[Callable[[], None] | None, float]:
        """Return what to do, or for how long to wait; with the lock held."""
        now, due = self._clock(), self._due()
        if due <= now:
            self._tells = True
            return self._tell, 0.0
        if not self._follows:
            self._follows = True
            return self._follow, 0.0
        return None, min(due - now, _FOR_EVER)

    def _wake(self) -> None:
        """Wake the thread that waits; not with the lock held, which it takes next."""
        if self._baton.locked():  # else it is awake, or will not wait
            with contextlib.suppress(RuntimeError):  # somebody else was quicker
                self._baton.release()

    def _due(self) -> float:
        """Return when somebody has to be told, unless the other thread does it."""
        if self._tells:
            return _NEVER
        if self._to_report:
            return 0.0
        pushed = [each.due for each in self._subscriptions if each.wake is None]
        return min(pushed, default=_NEVER)

    def _follow(self) -> None:
        follower = self._follower
        if follower is None:
            raise AssertionError("unreachable")
        job: _Job | None = None
        while job is None and not self.closed:
            try:
                news = follower.follow(self._clock() + _FOR_EVER)
                steps = self._steps_of(news)
            except Exception:  # the thread must go on, whatever is wrong
                _log_fault("following %s failed", self.path)
                follower = self._follow_anew(follower)
                continue
            with self.changed:
                due = self._show_all(follower, steps)
                if due <= self._clock():
                    # Now, or the thread that is woken would hold this one up.
                    job = self._next_job()
                    self._follows = False
            if due < _NEVER:
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

    def _steps_of(self, news: Sequence[Change | Reading]) -> list[_Step]:
        state, steps = self.now.state, []
        for each in news:
            covered = state.index
            state, events = after(state, each)
            if covered > state.index and isinstance(each, Change):
                state = state._replace(index=covered)  # it was said too soon
            steps.append((state, events))
            self._readings += isinstance(each, Reading)
        return steps

    def _show_all(self, follower: Follower, steps: list[_Step]) -> float:
        """Show some states, with the lock held; return when somebody is to be told."""
        now = self._clock()
        for state, events in steps:
            self._show(state)
            for subscription in self._subscriptions:
                subscription.add(state, events, now)
        covered, shown = follower.covered, self.now
        if covered > shown.state.index:  # nothing more has changed up to there
            self.now = Moment(shown.state._replace(index=covered), shown)
        # Not before: what it proves is that nothing newer was there than these states.
        self.proved = max(self.proved, follower.proved)
        condition = self.condition
        if condition != self._reported and condition != "closed":
            self._reported = condition
            self._to_report.append(condition)
        self.changed.notify_all()
        return self._due()

    def _show(self, state: State) -> None:
        self.now = Moment(state)

    def _tell(self, job: _Job | None = None) -> None:
        """Call whoever has to be told, until nobody has."""
        while True:
            if job is None:
                with self.changed:
                    self._tells = False
                    if self.closed or self._due() > self._clock():
                        return
                    job = self._next_job()
            condition, told, events = job
            if condition is not None:
                self._report(condition)
            for event in events:
                if told is not None and not told.ended:
                    self._call(told.call, event)
            job = None

    def _next_job(self) -> _Job:
        """Return what is to be told next, and to whom; with the lock held."""
        self._tells = True
        if self._to_report:
            return self._to_report.popleft(), None, []
        pushed = [each for each in self._subscriptions if each.wake is None]
        first = min(pushed, key=lambda each: each.due)
        return None, first, first.take(self.now.state)

    def _report(self, condition: str) -> None:
        trouble = self.trouble
        if trouble is None:
            _log(logging.INFO, "live replica of %s: %s", self.path, condition)
        else:
            what = "live replica of %s: %s: %s"
            _log(logging.WARNING, what, self.path, condition, trouble)
        for call in self._state_calls:
            self._call(call, condition)

    def _call(self, call: Callable[[Any], object], argument: Any) -> None:
        try:
            call(argument)
        except BaseException:  # SystemExit would end the thread
            _log_fault("a callback for %s raised", self.path)


def _log_fault(what: str, path: str) -> None:
    _log(logging.ERROR, what, path, exc_info=True)


def _log(level: int, what: str, path: str, *more: object, **options: Any) -> None:
    # What an application's handler raises would end the thread.
    with contextlib.suppress(Exception):
        log.log(level, f"etcdmap: {what}", path or "/", *more, **options)

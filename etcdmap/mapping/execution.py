"""Carry out a plan: send its steps, many at a time, and report how far that came."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeAlias

from etcdmap.errors import (
    ClusterUnavailable,
    DeadlineExceeded,
    EtcdMapError,
    KeyNotFound,
    NotAFile,
    OutcomeUnknown,
    PartialWrite,
    forget_frames,
)
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping.plan import MakeDirectory, Plan, Put, Step
from etcdmap.tree import Present, Store

Progress: TypeAlias = "Callable[[int, int], object]"
Outcome: TypeAlias = "tuple[Step, Exception | None]"

#: Connections at a time.  etcd writes requests that come together to its disk in one
#: go, so more connections are quicker; above 16 little is gained.  See benchmarks/.
MOST_CONNECTIONS = 16
#: With fewer steps for each thread, starting the thread takes longer than it saves.
_STEPS_PER_THREAD = 4
#: How often the caller's thread collects what the other threads have done, in seconds.
_GLANCE = 0.05


def carry_out(store: Store, plan: Plan, progress: Progress | None = None) -> None:
    """Send the steps of a plan, phase by phase.

    If a step fails, the other steps are still tried.  But if no member can be reached,
    or no member has answered for a whole deadline, the rest is not tried, because each
    step would take as long again.

    If a plan has one step only, the store's deadline applies, and the step raises its
    own error.  If it has several, each step has a deadline of its own, and if some of
    them fail, PartialWrite says which.  `progress` is called on the caller's thread.
    """
    steps = plan.steps
    if len(steps) == 1:
        send(store, steps[0])
        if progress is not None:
            progress(1, 1)
        return
    store = store.using()
    tally = _Tally(steps)
    for tried, (step, error) in enumerate(_send_phases(store, plan), start=1):
        tally.count(step, error)
        if progress is not None:
            progress(tried, len(steps))
    if tally.failed:
        raise tally.partial_write()


class _Tally:
    """Counts what became of each path; a path may take two steps: delete and write."""

    def __init__(self, steps: list[Step]) -> None:
        self._left = Counter(step.path for step in steps)
        self._written: dict[str, None] = {}  # a set that keeps the order
        self.failed: dict[str, Exception] = {}

    def count(self, step: Step, error: Exception | None) -> None:
        path = step.path
        self._left[path] -= 1
        if error is not None:
            self.failed.setdefault(path, error)
        elif not self._left[path] and path not in self.failed:
            # A path is written only when its last step is done.
            self._written[path] = None

    def partial_write(self) -> PartialWrite:
        pending = [
            path
            for path in self._left
            if path not in self._written and path not in self.failed
        ]
        return PartialWrite(written=self._written, failed=self.failed, pending=pending)


def _send_phases(store: Store, plan: Plan) -> Iterator[Outcome]:
    outage = _Outage(store)
    for phase in plan.phases:
        # If the outcome of a delete is unknown, etcd may carry it out later, and would
        # then delete what a later phase has written.  So end here.
        makes_room = phase is plan.room or phase is plan.top
        lost = False
        for step, error in _send_all(store, phase, outage):
            lost = lost or (makes_room and isinstance(error, OutcomeUnknown))
            yield step, error
        if outage.is_there or lost:
            return


def _send_all(store: Store, steps: list[Step], outage: _Outage) -> Iterator[Outcome]:
    """Send steps that don't depend on each other; yield each with its error, if any."""
    threads = min(MOST_CONNECTIONS, len(steps) // _STEPS_PER_THREAD)
    if threads > 1:
        yield from _Crew(store, steps, threads, outage).outcomes()
        return
    for step in steps:
        yield step, _try(store, step, outage)
        if outage.is_there:
            return


def _try(store: Store, step: Step, outage: _Outage) -> Exception | None:
    problem = None
    try:
        send(store, step)
    except EtcdMapError as error:
        forget_frames(error)
        problem = error
    outage.note(problem)
    return problem


class _Outage:
    """Finds out whether members still answer; each thread reports its steps here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._until = store.until  # a whole deadline from the last answer on
        self.is_there = False

    def note(self, error: Exception | None) -> None:
        if isinstance(error, (ClusterUnavailable, DeadlineExceeded)):
            self.is_there = True
        elif isinstance(error, OutcomeUnknown):
            # One lost answer is no outage, nor is one lost answer of each thread.
            waits = self._store.call(self._until).pause(0)
            self.is_there = self.is_there or not waits
        else:
            self._until = self._store.until


class _Crew:
    """Threads that send steps until no step is left, or no member answers.

    They don't wake the caller's thread after each step, because it would then take the
    interpreter away from them.  It collects their results every `_GLANCE` seconds.
    """

    def __init__(
        self, store: Store, steps: list[Step], threads: int, outage: _Outage
    ) -> None:
        self._store = store
        self._outage = outage
        # All threads use these deques, each operation of which is atomic.
        self._steps = deque(steps)
        self._outcomes: deque[Outcome | BaseException] = deque()
        self._stop = False
        self._threads = [
            threading.Thread(target=self._work, name="etcdmap-write", daemon=True)
            for _ in range(threads)
        ]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcomes as they come; at the end, all threads have ended."""
        try:
            with suppress(RuntimeError):  # start as many as the system allows
                for thread in self._threads:
                    thread.start()
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(_GLANCE)
                    yield from self._drain()
            yield from self._drain()
            # If the system allows no thread, all steps are sent here.
            yield from self._send()
        finally:
            self._stop = True
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()  # each ends by the deadline of its request
        yield from self._drain()

    def _drain(self) -> Iterator[Outcome]:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def _send(self) -> Iterator[Outcome]:
        """Send the steps that no thread has taken yet, one after the other."""
        while self._steps and not (self._stop or self._outage.is_there):
            try:
                step = self._steps.popleft()
            except IndexError:  # another thread took the last one
                return
            yield step, _try(self._store, step, self._outage)

    def _work(self) -> None:
        try:
            for outcome in self._send():
                self._outcomes.append(outcome)
        except BaseException as problem:  # a bug of ours: the caller's thread raises it
            self._outcomes.append(problem)
            self._stop = True


def send(store: Store, step: Step) -> None:
    """Send one step."""
    if isinstance(step, Put):
        store.put(step.path, step.text, ttl=step.ttl, known=step.known)
    elif isinstance(step, MakeDirectory):
        try:
            store.make_directory(step.path, ttl=step.ttl, over_file=True)
        except NotAFile:
            # Another client has made the directory in the meantime.  That is as good,
            # unless it needs a ttl.
            if step.ttl is not None:
                raise
    else:
        with suppress(KeyNotFound):  # it is gone already, as it should be
            if step.is_directory:
                store.delete_directory(step.path)
            else:  # but not a directory that another client has put there meanwhile
                store.delete(step.path, known=step.known, expect=Present())

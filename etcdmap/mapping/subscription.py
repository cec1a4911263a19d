"""A moment of a live replica, and what its subscribers have still to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from etcdmap.mapping.replica import State, differences
from etcdmap.tree import Event

#: Readers whose values are kept: whoever calls `using` for each read makes a new one.
_MOST_READERS = 10_000
#: Events that wait for a callback, before they are put together.
_LONG = 1000

#: A state, under `STATE`, and the values that were decoded from it: by reader, then by
#: key.  Each read looks into it: in any other class that would take a fifth longer.
Moment = dict[str, Any]
STATE = ""


def memo(moment: Moment, reader: str) -> dict[str, Any]:
    """Return what was decoded from a moment for a reader, to be added to."""
    if len(moment) > _MOST_READERS:
        for name in list(moment):
            if name != STATE:  # which others look for without a lock
                moment.pop(name, None)
    found: dict[str, Any] = moment.setdefault(reader, {})
    return found


class Subscription:
    """What somebody has still to be told; its fields are changed under the feed's lock.

    `call` gets the events one by one, and may raise; without it, `wake` is called, and
    who waits takes them.
    """

    def __init__(
        self,
        ticket: object,
        path: str,
        call: Callable[[Event], object] | None,
        told: State,
        quiet: float | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        #: Which user of the feed it is for.
        self.ticket = ticket
        self.path = path
        self._below = f"{path}/"
        self._of_all = path == told.path
        self.call: Any = call  # None with `wake`: nobody calls it
        self.wake = wake
        self.ended = False
        #: When the next events are to be told.
        self.due = float("inf")
        #: What the events that were taken lead to.
        self.told = told
        self._quiet = quiet
        #: Where it is `_behind`, what comes before the difference, and leads to `told`.
        self._queue: list[Event] = []
        #: What the queue leads to; of those in between none is kept: each may be large.
        self.queued = told
        #: Whether the queue was dropped, so that only the difference is known.
        self._behind = quiet is not None

    def add(
        self, state: State, events: list[Event], now: float, *, at_once: bool
    ) -> list[Event]:
        """Have it told of the events that lead to a state.

        With `at_once`, return those that the caller is to tell, if none wait before.
        """
        mine = events if self._of_all else self._mine_of(events)
        if not mine or (
            at_once and self.wake is None and not (self._behind or self._queue)
        ):
            return mine
        if not self._behind:
            self._queue += mine
            self.queued = state
            if len(self._queue) > _LONG:
                self.catch_up(now)
        # If it has its turn already, it keeps that: else one whose events never cease
        # would always be called in place of the next one.
        self.due = min(self.due, now) if self._quiet is None else now + self._quiet
        if self.wake is not None:
            self.wake()
        return []

    def catch_up(self, now: float) -> None:
        """Have it told of the difference to the present state."""
        if not self._behind:
            self._queue = []
        self.queued = self.told
        self._behind, self.due = True, min(self.due, now)

    def tell_again(self, events: Iterable[Event], told: State) -> None:
        """Have it told of events that lead to a state, and of what follows on that."""
        self._queue, self._behind, self.told = [*events], True, told

    def waiting(self, present: State) -> tuple[list[Event], State]:
        """Return what to tell now, and the state that this leads to."""
        if not self._behind:
            return self._queue, self.queued
        after = self._mine_of(differences(self.told, present))
        return [*self._queue, *after], present

    def settle(self, told: State) -> None:
        """Take all up to a state for told."""
        self._queue, self.told, self.queued = [], told, told
        self._behind, self.due = self._quiet is not None, float("inf")

    def _mine_of(self, events: Iterable[Event]) -> list[Event]:
        path, below = self.path, self._below
        return [e for e in events if e.key == path or e.key.startswith(below)]

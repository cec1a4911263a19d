"""A moment of a live replica, and what its subscribers have still to be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etcdmap.mapping.replica import State, differences
from etcdmap.tree import Event

#: Readers whose values are kept: whoever calls `using` for each read makes a new one.
_MOST_READERS = 10_000
#: Events that wait for a callback, before they are put together.
_LONG = 1000


class Moment(dict[str, dict[str, Any]]):
    """A state, and the values that were decoded from it: by reader, then by key."""

    # A dict itself, as each read looks into it.
    __slots__ = ("state",)

    def __init__(self, state: State, memos: dict[str, dict[str, Any]] | None = None):
        super().__init__(memos or {})
        self.state = state

    def memo(self, reader: str) -> dict[str, Any]:
        """Return what was decoded for a reader."""
        if len(self) > _MOST_READERS:
            self.clear()
        return self.setdefault(reader, {})


class Subscription:
    """What somebody has still to be told; its fields are changed under the feed's lock.

    `call` gets the events one by one; with `wake`, it is who waits that takes them.
    """

    def __init__(
        self,
        path: str,
        call: Callable[[Event], object],
        told: State,
        quiet: float | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.path = path
        self._below = f"{path}/"
        self.call = call
        self.wake = wake
        self.ended = False
        #: When the next events are to be told.
        self.due = float("inf")
        self._told = told
        self._quiet = quiet
        self._queue: list[Event] = []
        #: What the queue leads to; of those in between none is kept: each may be large.
        self._queued = told
        #: Whether the queue was dropped, so that only the difference is known.
        self._behind = quiet is not None

    def add(self, state: State, events: list[Event], now: float) -> None:
        """Have it told of the events that lead to a state."""
        mine = [event for event in events if self._is_mine(event)]
        if not mine:
            return
        if not self._behind:
            self._queue += mine
            self._queued = state
            if len(self._queue) > _LONG:
                self.catch_up(now)
        self.due = now + (self._quiet or 0.0)
        if self.wake is not None:
            self.wake()

    def catch_up(self, now: float) -> None:
        """Have it told of the difference to the present state."""
        self._queue, self._queued = [], self._told
        self._behind, self.due = True, now

    def take(self, present: State) -> list[Event]:
        """Return what to tell now."""
        if self._behind:
            events = [e for e in differences(self._told, present) if self._is_mine(e)]
            self._told, self._behind = present, self._quiet is not None
        else:
            events, self._queue, self._told = self._queue, [], self._queued
        self._queued, self.due = self._told, float("inf")
        return events

    def _is_mine(self, event: Event) -> bool:
        return event.key == self.path or event.key.startswith(self._below)

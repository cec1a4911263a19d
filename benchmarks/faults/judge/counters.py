"""What went wrong, in the words of an operator: lost, twice, old value back, stale.

With the cluster's own events the counts are exact: the order of all values is known,
and so is how often each was written.  Without, they say what can be told from the
times and the reads alone, and a read that goes back counts as an old value come back.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.history import Op


@dataclasses.dataclass
class Counters:
    """How often what must not happen did; all zero is good.

    Attributes:
        lost: acknowledged writes that never took effect, or are missing at the end
            though nothing can have replaced them.
        twice: writes that took effect more than once.
        old_value_back: writes that took effect after a newer one, which began when
            they had ended, was acknowledged.
        stale_own_read: reads that missed an own acknowledged write.
        backwards: reads older than an earlier read of the same session.
        wrong_value: reads of what was never written, not yet written, or said to
            have failed.
    """

    lost: int = 0
    twice: int = 0
    old_value_back: int = 0
    stale_own_read: int = 0
    backwards: int = 0
    wrong_value: int = 0

    def add(self, other: Counters) -> None:
        """Add the counts of another key or run."""
        for name, count in dataclasses.asdict(other).items():
            setattr(self, name, getattr(self, name) + count)

    @property
    def clean(self) -> bool:
        """Whether all are zero."""
        return not any(dataclasses.asdict(self).values())


class KeyCounter:
    """Counts for one key.

    Args:
        ops: all operations on the key, in the order in which they began.
        initial: its value before them.
        events: its events; None if nobody watched.
        examples: where to put a sentence about each find.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        initial: str | None,
        events: EventLog | None,
        examples: list[str],
    ) -> None:
        self._ops = ops
        self._initial = initial
        self._examples = examples
        self._events = events
        self._writes: dict[str | None, Op] = {
            op.value: op for op in ops if op.writes and op.value is not None
        }
        self._failed = {
            op.value for op in ops if op.kind != "get" and op.outcome == "failed"
        }
        self._deletes = [op for op in ops if op.writes and op.value is None]
        self._first, self._last = _positions(events.events if events else ())
        self._effect = self._latest_effects()
        self.counters = Counters()

    def count(self, final: Mapping[str, str | None]) -> Counters:
        """Count everything.

        Args:
            final: the value at the end, by key; empty if nobody looked.
        """
        if self._events is not None:
            self._count_events(self._events)
        if self._ops and self._ops[0].key in final:
            self._check_final(final[self._ops[0].key])
        for op in self._ops:
            if op.reads and op.judged and self._is_wrong(op):
                self._note("wrong_value", f"read of a wrong value: {op}")
        sessions: dict[str, list[Op]] = defaultdict(list)
        for op in self._ops:
            if op.judged and (op.acknowledged or (op.reads and op.level != "any")):
                sessions[op.client].append(op)
        back: set[str | None] = set()
        for session in sessions.values():
            self._check_session(session, back)
        return self.counters

    # --- the cluster's own story

    def _count_events(self, log: EventLog) -> None:
        seen = Counter(event.value for event in log.events if event.value is not None)
        for value, count in seen.items():
            op = self._writes.get(value)
            if op is not None and op.judged and count > 1:
                self._note("twice", f"took effect {count} times: {op}")
            if value in self._failed:
                self._note("wrong_value", f"said to have failed, but written: {value}")
        for op in self._writes.values() if log.complete else ():
            if op.acknowledged and op.judged and op.value not in seen:
                self._note("lost", f"acknowledged, but never took effect: {op}")
        self._count_late(log)

    def _count_late(self, log: EventLog) -> None:
        newest = float("-inf")
        for op in (self._writes.get(event.value) for event in log.events):
            if op is not None and op.judged and op.end < newest:
                self._note("old_value_back", f"passed over a newer one: {op}")
            if op is not None and op.acknowledged:
                newest = max(newest, op.start)

    def _check_final(self, final: str | None) -> None:
        """Look whether the value at the end leaves out an acknowledged write."""
        acknowledged = [op for op in self._writes.values() if op.acknowledged]
        if self._events is not None and self._events.complete:
            last = self._value_at(self._events.final_index)
            if last != final:
                self._note("lost", f"the last event has {last!r}, the key {final!r}")
        elif final is None and self._deletes:
            return  # which of them it was can't be told
        elif acknowledged:
            newest = max(acknowledged, key=lambda op: op.start)
            if newest.judged and final != newest.value and self._older(final, newest):
                self._note("lost", f"{final!r} is there at the end, not {newest}")

    def _value_at(self, index: int | None) -> str | None:
        """Tell the value that the events lead to."""
        value = self._initial
        for event in self._events.events if self._events else ():
            # A late write may have come after the final read.
            if index is None or event.index <= index:
                value = event.value
        return value

    # --- reads

    def _is_wrong(self, read: Op) -> bool:
        if read.value == self._initial or (read.value is None and self._deletes):
            return False
        write = self._writes.get(read.value)
        return write is None or read.end < write.start

    def _check_session(self, ops: Iterable[Op], back: set[str | None]) -> None:
        by_end = sorted(ops, key=lambda op: op.end, reverse=True)
        newest: dict[tuple[str, int], Op] = {}
        for read in sorted(by_end, key=lambda op: op.start):
            while by_end and by_end[-1].end <= read.start:
                self._remember(newest, by_end.pop())
            if read.reads:
                self._check_read(read, newest, back)

    def _remember(self, newest: dict[tuple[str, int], Op], op: Op) -> None:
        """Keep the newest values seen and written, by event and by time."""
        source = "seen" if op.kind == "get" else "own"
        write = self._writes.get(op.value)
        if write is None:
            return
        places = (self._first.get(write.value, -1), write.start)
        for at, place in enumerate(places):
            known = newest.get((source, at))
            if (
                known is None
                or place >= (self._first.get(known.value, -1), known.start)[at]
            ):
                newest[source, at] = write

    def _check_read(
        self, read: Op, newest: dict[tuple[str, int], Op], back: set[str | None]
    ) -> None:
        missed = {
            source: op
            for (source, _), op in newest.items()
            if self._goes_back(read.value, op)
        }
        own, seen = missed.get("own"), missed.get("seen")
        if self._events is None and (
            seen is not None or (own and not self._older(read.value, own))
        ):
            if read.value not in back:
                back.add(read.value)
                self._note("old_value_back", f"an old value came back: {read}")
        elif own is not None:
            self._note("stale_own_read", f"{read} misses the own {own}")
        elif seen is not None:
            self._note("backwards", f"went back in time: {read}")

    def _goes_back(self, value: str | None, newer: Op) -> bool:
        """Tell whether reading a value after having seen `newer` goes back."""
        if value == newer.value:
            return False
        if self._older(value, newer):
            return True
        write = self._writes.get(value)
        # A late effect of an older write, or a stale read: without events, who knows.
        return (
            self._events is None
            and write is not None
            and newer.acknowledged
            and write.end < newer.start
        )

    def _older(self, value: str | None, newer: Op) -> bool:
        """Tell whether a value was surely replaced when `newer` took effect."""
        if value is None and self._deletes:
            return False
        if value in self._last and newer.value in self._first:
            return self._last[value] < self._first[newer.value]
        if value == self._initial:
            return True
        return self._effect.get(value, float("inf")) < newer.start

    def _latest_effects(self) -> dict[str | None, float]:
        """Tell by when each value had taken effect, from the times alone."""
        effects: dict[str | None, float] = {}
        for op in self._ops:
            if (op.acknowledged or op.reads) and op.value is not None:
                effects[op.value] = min(op.end, effects.get(op.value, float("inf")))
        return effects

    def _note(self, name: str, example: str) -> None:
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        self._examples.append(f"{name}: {example}")


def _positions(
    events: Sequence[Event],
) -> tuple[dict[str | None, int], dict[str | None, int]]:
    first: dict[str | None, int] = {}
    last: dict[str | None, int] = {}
    for event in events:
        if event.value is not None:
            first.setdefault(event.value, event.index)
            last[event.value] = event.index
    return first, last

"""What those who follow were told, beside what the cluster itself says it did."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from benchmarks.faults.judge.events import EventLog
from benchmarks.faults.judge.history import Op

#: Seconds by which two looks at the clock may be apart.
_APART = 0.001
_SHOWN = 10
#: Stands for "what follows is all that was there": a watch that was begun anew.
ANEW = "anew"


class Told(NamedTuple):
    """An event, as somebody was told of it, and when."""

    time: float
    action: str
    key: str
    value: str | None
    previous: str | None
    index: int  # type: ignore[assignment]  # in place of tuple's method
    coalesced: bool


class Sample(NamedTuple):
    """What a replica showed at a time, and how old it said that may be."""

    time: float
    stale_for: float
    shown: Mapping[str, str]


class Notes(NamedTuple):
    """What a process that follows has written down."""

    live: Sequence[Told]
    watch: Sequence[Told]
    samples: Sequence[Sample]
    #: What was read at the end, and whether the replica got there.
    final: Mapping[str, str]
    arrived: bool


@dataclasses.dataclass
class Followed:
    """What came of it.

    Attributes:
        late: seconds from each acknowledgement to when the replica showed the write.
        lost: changes that were not told, of a replica and of a watch.
        twice: changes that were told again, or out of their order.
        wrong: events that do not say what happened, or do not fit what was told
            before; differences that do not lead to a state that was there.
        lies: how often `stale_for` was less than the age of a write that was missing.
        coalesced: how many changes were told as differences.
        expired: how often the watch had to begin anew.
        examples: sentences about the first finds.
    """

    late: list[float]
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    lies: int = 0
    coalesced: int = 0
    expired: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def later_than(self, share: float) -> float:
        """Return the seconds that a share of the writes at most was later than."""
        ordered = sorted(self.late)
        return ordered[int((1 - share) * (len(ordered) - 1))] if ordered else 0.0

    def note(self, name: str, example: object, count: int = 1) -> None:
        """Count a find."""
        setattr(self, name, getattr(self, name) + count)
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{name}: {example}")


def sum_up_following(
    notes: Notes, ops: Iterable[Op], logs: Sequence[EventLog], wiped: float = math.inf
) -> Followed:
    """Judge what a replica and a watch were told.

    Args:
        notes: theirs.
        ops: of clients that write a key each, and count in it.
        logs: what the cluster did; one more if it was wiped.
        wiped: when that was.
    """
    found = Followed([])
    for told in (notes.live, notes.watch):
        teller = _Judge(found, logs)
        for batch in _batches(told):
            teller.take(batch)
        teller.end(notes.final)
    first = notes.live[0].index if notes.live else 0  # of what was there already
    gaps = (each for each in notes.live if each.coalesced and each.index != first)
    found.coalesced = sum(1 for _ in gaps)
    found.expired = sum(each.action == ANEW for each in notes.watch) - 1
    if not notes.arrived:
        found.note("lost", "the replica did not get to the end")
    eras = [_Acknowledged(ops, log) for log in logs]
    begin = notes.live[0].time if notes.live else 0.0
    found.late = list(eras[-1].lateness(notes.live, begin))
    for sample in notes.samples:
        missing = eras[0 if sample.time < wiped else -1].missing_since(sample.shown)
        if missing < sample.time - sample.stale_for - _APART:
            age = sample.time - missing
            what = f"{sample.stale_for:.3f} s said, a change of {age:.3f} s was missing"
            found.note("lies", what)
    return found


def _batches(told: Sequence[Told]) -> Iterator[list[Told]]:
    """Put together the differences to one state; all else comes alone."""
    numbered = enumerate(told)
    for _, group in groupby(
        numbered, lambda pair: pair[1].index if pair[1].coalesced else -pair[0] - 1
    ):
        yield [each for _, each in group]


class _Judge:
    """Compares what one was told with what there was to tell."""

    def __init__(self, found: Followed, logs: Sequence[EventLog]) -> None:
        self._found = found
        self._logs = list(logs)
        self._content: dict[str, str] = {}
        #: The index up to which everything was told.
        self._at = 0

    def take(self, batch: list[Told]) -> None:
        for told in batch:
            if told.action == ANEW:
                self._content.clear()
                self._find(told)  # an empty directory, unless more comes
                return
            self._apply(told)
        if batch[0].coalesced:
            self._place(batch[0])
        elif batch[0].key:
            self._follow(batch[0])

    def _apply(self, told: Told) -> None:
        before = self._content.get(told.key)
        if told.previous != before:
            self._found.note("wrong", f"{told} where there was {before!r}")
        if told.value is not None:
            self._content[told.key] = told.value
        else:
            self._content.pop(told.key, None)

    def _place(self, told: Told) -> None:
        if not self._find(told):
            self._found.note("wrong", f"no such state: {told}, {self._content}")

    def _find(self, told: Told) -> bool:
        for number, log in enumerate(self._logs):
            here = number > 0 or told.index >= self._at
            if here and _state_at(log, told.index) == self._content:
                del self._logs[:number]
                self._at = told.index
                return True
        return False

    def _follow(self, told: Told) -> None:
        events, last = self._logs[0].events, len(self._logs) == 1
        if not last and (not events or told.index > events[-1].index):
            return  # it came while the cluster went, when nobody else looked
        following = bisect_right(events, self._at, key=lambda event: event.index)
        there = bisect_left(events, told.index, key=lambda event: event.index)
        if told.index <= self._at:
            self._found.note("twice", told)
        elif there > following:
            self._found.note("lost", f"before {told}", there - following)
        same = events[there : there + 1]
        wanted = [(told.index, told.key, told.value)]
        if [(each.index, each.key, each.value) for each in same] != wanted:
            self._found.note("wrong", f"{told}, not {same}")
        self._at = told.index

    def end(self, final: Mapping[str, str]) -> None:
        if self._content != final:
            self._found.note("lost", f"{self._content} at the end, not {final}")


def _state_at(log: EventLog, index: int) -> dict[str, str]:
    state: dict[str, str] = {}
    for event in log.events:
        if event.index > index:
            break
        if event.value is not None:
            state[event.key] = event.value
        else:
            state.pop(event.key, None)
    return state


class _Acknowledged:
    """When which number was acknowledged, by key."""

    def __init__(self, ops: Iterable[Op], log: EventLog) -> None:
        there = {event.value for event in log.events}
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._times: dict[str, list[float]] = defaultdict(list)
        for op in sorted(ops, key=lambda op: op.end):
            if op.acknowledged and op.value in there:
                self._numbers[op.key].append(number_in(op.value))
                self._times[op.key].append(op.end)

    def lateness(self, told: Sequence[Told], begin: float) -> Iterator[float]:
        """Yield the seconds from each acknowledgement to when it was told."""
        for key, numbers in self._numbers.items():
            sets = [each for each in told if each.key == key and each.value is not None]
            shown = [number_in(each.value) for each in sets]
            for number, time in zip(numbers, self._times[key], strict=True):
                at = bisect_left(shown, number)
                if time >= begin and at < len(sets):
                    yield max(0.0, sets[at].time - time)

    def missing_since(self, shown: Mapping[str, str]) -> float:
        """Return when the first of the writes that are missing was acknowledged."""
        first = math.inf
        for key, numbers in self._numbers.items():
            number = number_in(shown[key]) if key in shown else -1
            at = bisect_right(numbers, number)
            if at < len(numbers):
                first = min(first, self._times[key][at])
        return first


def number_in(value: str | None) -> int:
    """Return the number at the end of a value."""
    return int((value or "").rpartition(".")[2])

"""Judges a history: three independent looks at the same operations.

- `linearize`: the writes, and the reads that promised it, fit one order;
- `session`: reads never go back, and see their client's own writes;
- `counters`: what went wrong, in words, exact if the cluster was watched.

What makes a new name each time is no register, and `once` looks at it.  All need that
every value is written once in a run.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.faults.judge.counters import Counters, KeyCounter
from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.history import Op
from benchmarks.faults.judge.linearize import MAX_STEPS, linearize
from benchmarks.faults.judge.once import count_once
from benchmarks.faults.judge.session import broken

_SHOWN = 20
_OF_REGISTERS = ("get", "set", "create", "cas", "delete")


@dataclasses.dataclass
class Report:
    """What the checker found.

    Attributes:
        counters: what went wrong, counted.
        not_linearizable: keys whose history fits no order.
        undecided: keys on which the search was given up.
        broken_sessions: contradictions between reads.
        errors: types of the exceptions that the judged clients got, counted, by
            the kind of operation.
        oldest_read: how long, at most, a value that a judged session read had been
            replaced when the read began, in seconds; of watched keys only.
        examples: sentences about the first finds.
    """

    counters: Counters
    not_linearizable: list[str]
    undecided: list[str]
    broken_sessions: list[str]
    errors: dict[str, dict[str, int]]
    oldest_read: float
    examples: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong; errors are for others to judge."""
        bad = (self.not_linearizable, self.undecided, self.broken_sessions)
        return self.counters.clean and not any(bad)

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON can take it."""
        return dataclasses.asdict(self)


def check(
    ops: Iterable[Op],
    *,
    events: EventLog | None = None,
    initial: Mapping[str, str] | None = None,
    final: Mapping[str, str | None] | None = None,
    max_steps: int = MAX_STEPS,
) -> Report:
    """Judge a history.

    Args:
        ops: all operations of all clients.
        events: what the cluster did meanwhile; None if nobody watched.
        initial: values before the first operation; other keys were absent.
        final: values after the last one, as a quorum read gave them; None for keys
            that are absent; of directories as `events.read_all` gives them.
        max_steps: when to give up looking for an order.

    Raises:
        ValueError: a value was written twice: nothing can be decided.
    """
    by_key: dict[str, list[Op]] = defaultdict(list)
    ops = sorted(ops, key=lambda op: op.start)
    for op in ops:
        if op.kind in _OF_REGISTERS:
            by_key[op.key].append(op)
    logs = None if events is None else _by_key(events)
    report = Report(Counters(), [], [], [], _errors(ops), 0.0, [])
    for key, of_key in by_key.items():
        _refuse_repeated(of_key)
        before = (initial or {}).get(key)
        _check_order(report, key, of_key, before, final, max_steps)
        mine = None
        if events is not None and logs is not None:
            mine = events._replace(events=tuple(logs[key]))
        counter = KeyCounter(of_key, before, mine, report.examples)
        report.counters.add(counter.count(final or {}))
        if mine is not None:
            oldest = oldest_read(of_key, mine)
            report.oldest_read = max(report.oldest_read, oldest)
    if final is not None:
        report.counters.add(count_once(ops, final, report.examples))
    del report.examples[_SHOWN:]
    return report


def _check_order(
    report: Report,
    key: str,
    ops: list[Op],
    initial: str | None,
    final: Mapping[str, str | None] | None,
    max_steps: int,
) -> None:
    """Search one key for an order, with its last value as one more read."""
    strict = [op for op in ops if not op.reads or op.level == "linearizable"]
    if final is not None and key in final:
        strict.append(Op("final", "get", key, math.inf, math.inf, value=final[key]))
    verdict = linearize(strict, initial, max_steps=max_steps)
    if verdict.ok is not True:
        target = report.undecided if verdict.ok is None else report.not_linearizable
        target.append(key)
        stuck = "; ".join(map(str, verdict.stuck[:3]))
        report.examples.append(f"no order of the operations on {key} fits: {stuck}")
    for sentence in broken(ops, initial):
        report.broken_sessions.append(f"{key}: {sentence}")


def oldest_read(ops: Sequence[Op], events: EventLog) -> float:
    """Tell how old the oldest value was that a judged session read.

    Args:
        ops: all of one key.
        events: of the same key.

    Returns:
        Seconds between the end of the acknowledged write that surely replaced the
        value, and the start of the read; 0 if all were current.
    """
    ends: dict[str | None, float] = {
        op.value: op.end for op in ops if op.acknowledged and op.value is not None
    }
    values = [event.value for event in events.events]
    # By when, at the latest, the events from each one on had begun to be visible.
    replaced = [math.inf] * (len(values) + 1)
    for at in range(len(values) - 1, -1, -1):
        replaced[at] = min(replaced[at + 1], ends.get(values[at], math.inf))
    last = {value: at for at, value in enumerate(values)}
    ages = [
        op.start - replaced[last.get(op.value, -1) + 1]
        for op in ops
        if op.reads and op.judged and op.level != "any"
        # Absent is what it was before the first event, and after each delete.
        if op.value in last or (op.value is None and None not in last)
    ]
    return max(0.0, *ages) if ages else 0.0


def longest_gap(ops: Iterable[Op], begin: float, until: float) -> float:
    """Tell the longest time without a success, seconds.

    Args:
        ops: the operations that count; those of each thread of each client are
            looked at apart, so that one that hangs is not hidden by the others.
        begin: when to begin to look; the last success before it counts, too.
        until: when to stop.
    """
    threads: dict[tuple[str, int], list[Op]] = defaultdict(list)
    for op in ops:
        threads[op.client, op.thread].append(op)
    gaps = [0.0]
    for own in threads.values():
        ends = sorted(op.end for op in own if op.outcome in ("ok", "refused"))
        if max(op.end for op in own) >= begin:  # else it had nothing to do any more
            gaps.append(_gap(ends, begin, until))
    return max(gaps)


def _gap(ends: list[float], begin: float, until: float) -> float:
    first = max(bisect_right(ends, begin) - 1, 0)
    moments = [*(end for end in ends[first:] if end <= until), until]
    if moments[0] > begin:
        moments.insert(0, begin)
    return max(later - e for e, later in pairwise(moments))


def _errors(ops: Iterable[Op]) -> dict[str, dict[str, int]]:
    errors: dict[str, dict[str, int]] = {}
    for op in ops:
        if op.error and op.judged and op.outcome in ("unknown", "failed"):
            of_kind = errors.setdefault(op.kind, {})
            of_kind[op.error] = of_kind.get(op.error, 0) + 1
    return errors


def _by_key(log: EventLog) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in log.events:
        found[event.key].append(event)
    return found


def _refuse_repeated(ops: Iterable[Op]) -> None:
    values = Counter(
        op.value for op in ops if op.kind in ("set", "create", "cas") and op.value
    )
    value, count = next(iter(values.most_common(1)), ("", 0))
    if count > 1:
        raise ValueError(f"{value!r} was written {count} times: values must be unique")

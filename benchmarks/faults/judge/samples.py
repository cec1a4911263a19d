"""Short words for writing histories down in tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.events import Event, EventLog
from benchmarks.faults.judge.history import Op


def op(kind: str, value: str | None, start: float, end: float, **rest: Any) -> Op:
    """Make an operation of client "a" on key "k" whose reads promise everything."""
    fields = {"client": "a", "key": "k", "level": "linearizable", **rest}
    return Op(kind=kind, value=value, start=start, end=end, **fields)  # type: ignore[arg-type]


def write(value: str, start: float, end: float, **rest: Any) -> Op:
    """Make a set."""
    return op("set", value, start, end, **rest)


def read(value: str | None, start: float, end: float, **rest: Any) -> Op:
    """Make a get."""
    return op("get", value, start, end, **rest)


def events(*values: str | None) -> EventLog:
    """Make the events of key "k"."""
    numbered = enumerate(values, start=10)
    return EventLog(tuple(Event(n, "k", "set", value) for n, value in numbered))


def counts(*ops: Op, **context: Any) -> dict[str, int]:
    """Check a history and give the counters that are not zero."""
    counters = dataclasses.asdict(check(ops, **context).counters)
    return {name: count for name, count in counters.items() if count}


#: What a write has that was not properly answered.
LATE: dict[str, Any] = {"outcome": "unknown", "error": "OutcomeUnknown"}


def session(*ops: Op) -> list[Op]:
    """Make the reads of a history promise a session only."""
    return [dataclasses.replace(one, level="session") for one in ops]

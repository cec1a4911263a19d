"""What a fault costs the caller: calls that fail, bulk writes that take longer."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.faults.judge.events import EventLog
from benchmarks.faults.judge.history import NOT_TRIED, Op


def most_failed(ops: Iterable[Op], begin: float) -> int:
    """Tell how many writes of one thread failed: of the one that met most.

    Args:
        ops: of all threads.
        begin: those that ended before do not count.
    """
    failed = Counter(
        (op.client, op.thread)
        for op in ops
        if op.kind != "get" and op.outcome in ("unknown", "failed") and op.end >= begin
    )
    return max(failed.values(), default=0)


def count_expired(log: EventLog, keys: Iterable[str]) -> int:
    """Tell how often one of some keys expired, as a second client saw it."""
    wanted = set(keys)
    return sum(event.action == "expire" and event.key in wanted for event in log.events)


@dataclasses.dataclass(frozen=True)
class Bulk:
    """What came of the bulk writes that a fault met.

    Attributes:
        usual: how long one took before the fault and after it, the median, seconds;
            None if it met all of them.
        longest: how long the longest of those that the fault met took.
        within: the longest time that one of them went on while the fault lasted.
        written: keys that were written for certain, of all that the fault met.
        failed: keys at which there was an error.
        pending: keys that were not tried.
    """

    usual: float | None
    longest: float
    within: float
    written: int
    failed: int
    pending: int

    @property
    def delay(self) -> float:
        """How much longer than usual the longest took, seconds."""
        return self.longest - (self.usual or 0.0)


def sum_up_bulk(ops: Sequence[Op], begin: float, end: float) -> Bulk:
    """Sum up the bulk writes of one client.

    Args:
        ops: one for each key; those of one call began at the same moment.
        begin: when the fault began.
        end: when it was over.
    """
    calls: dict[float, list[Op]] = defaultdict(list)
    for op in ops:
        calls[op.start].append(op)
    took = {start: call[0].end - start for start, call in calls.items()}
    met = [s for s, call in calls.items() if s <= end and call[0].end >= begin]
    # A first small one is there to warm up.
    most = max(map(len, calls.values()), default=0)
    others = [took[s] for s in calls.keys() - set(met) if len(calls[s]) == most]
    hit = [op for start in met for op in calls[start]]
    return Bulk(
        usual=statistics.median(others) if others else None,
        longest=max((took[start] for start in met), default=0.0),
        within=max(
            (min(start + took[start], end) - max(start, begin) for start in met),
            default=0.0,
        ),
        written=sum(op.outcome == "ok" for op in hit),
        failed=sum(op.outcome != "ok" and op.error != NOT_TRIED for op in hit),
        pending=sum(op.error == NOT_TRIED for op in hit),
    )

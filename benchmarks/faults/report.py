"""Tables: a line for each row, the median of its runs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.faults import actions
from benchmarks.faults.judge.counters import Counters
from benchmarks.faults.judge.following import Followed
from benchmarks.faults.measure import Run
from benchmarks.faults.row import Row

#: Of the first column.
NAME_WIDTH = 32

HEADER = (
    f"{'row':<{NAME_WIDTH}}{'runs':>4}  {'write gap':>9} {'read gap':>9} {'reader':>7} "
    f"{'slowest':>7} {'oldest':>7}  {'lost':>4} {'twice':>5} {'old':>4} {'stale':>5} "
    f"{'back':>4} {'wrong':>5} {'order':>5} {'unexp':>5}  remarks"
)

#: More requests to other members than this, for each operation, is too much.
_MOST_ELSEWHERE = 0.05
_RESUME = 1.0


@dataclasses.dataclass
class Result:
    """All runs of one row, of one client."""

    row: Row
    runs: list[Run]
    #: Runs that were not the ones wanted, and what went wrong otherwise.
    troubles: list[str]
    #: The client that did the same beside the one under test; "" for that one.
    beside: str = ""

    def median(self, name: str) -> float | None:
        """Give the median over the runs of one of their times."""
        values = [getattr(run, name) for run in self.runs]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    @property
    def oldest_read(self) -> float:
        """The age of the oldest read of all runs."""
        ages = [report.oldest_read for run in self.runs for report in run.reports]
        return max(ages, default=0.0)

    @property
    def counters(self) -> Counters:
        """What went wrong in all runs."""
        total = Counters()
        for run in self.runs:
            for report in run.reports:
                total.add(report.counters)
        return total

    @property
    def errors(self) -> Counter[tuple[str, str]]:
        """The errors of all runs, by the kind of operation and the type."""
        return sum((run.errors for run in self.runs), Counter())

    @property
    def disorder(self) -> int:
        """In how many histories of a key the reads fit no order."""
        return sum(
            len(report.not_linearizable) + len(report.broken_sessions)
            for run in self.runs
            for report in run.reports
        )

    @property
    def undecided(self) -> int:
        """On how many keys the search was given up."""
        return sum(len(r.undecided) for run in self.runs for r in run.reports)

    def complaints(self, max_timeout: float) -> list[str]:
        """Tell what is not as good as it should be."""
        found = [*self.troubles]
        counts = self._counts().items()
        found += [f"{n}: {c}" for n, c in counts if c and n not in self.row.tolerated]
        for name in ("write_gap", "read_gap", "reader_gap"):
            limit, value = getattr(self.row, name), self.median(name)
            if limit is not None and value is not None and value > limit:
                found.append(f"{name} over {limit:g} s")
        limit = self.row.oldest_read
        if limit is not None and self.oldest_read > limit:
            found.append(f"oldest read over {limit:g} s")
        timeout = self.row.timeout or max_timeout
        if any(run.slowest > timeout + 0.5 and not run.bulk for run in self.runs):
            found.append("a call took longer than its timeout")
        found += self._failures()
        found += [said for run in self.runs for said in self._about_bulk(run, timeout)]
        found += [said for run in self.runs for said in self._about_followed(run)]
        if (self.median("resumed") or 0.0) > _RESUME:
            found.append(f"resumed later than {_RESUME:g} s")
        if (self.median("elsewhere") or 0.0) > _MOST_ELSEWHERE:
            found.append("too many requests to other members")
        if not self.row.outage and self.errors.keys() - self.row.honest:
            found.append("errors where there need be none")
        return found

    def _failures(self) -> Iterable[str]:
        limit = self.row.failures
        if limit is not None and any(run.failed > limit for run in self.runs):
            yield f"failed calls in a thread: more than {limit}"
        if any(run.expired for run in self.runs):
            yield "a key expired in spite of its heartbeat"

    def _about_bulk(self, run: Run, timeout: float) -> Iterable[str]:
        if run.bulk is None:
            return
        if self.row.delay is not None and run.bulk.delay > self.row.delay:
            yield f"a bulk write took over {self.row.delay:g} s longer than usual"
        most = self.row.deadlines
        if most is not None and run.bulk.within > most * timeout + 0.5:
            yield f"a bulk write went on for over {most:g} deadlines without an answer"

    def _about_followed(self, run: Run) -> Iterable[str]:
        found, limit = run.followed, self.row.late
        if found is None:
            return
        for name in ("lost", "twice", "wrong", "lies"):
            if getattr(found, name):
                yield f"of those who follow, {name}: {getattr(found, name)}"
        if limit is not None and _latest(self.row, found) > limit:
            yield f"shown later than {limit:g} s"
        if (found.coalesced or found.expired) and not self.row.gaps:
            yield "a gap, though history was there"

    def _counts(self) -> dict[str, int]:
        return {
            **dataclasses.asdict(self.counters),
            "no order": self.disorder,
            "undecided": self.undecided,
            "unexpected errors": sum(run.unexpected for run in self.runs),
        }

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON can take it."""
        return {
            "row": self.row.name,
            "client beside": self.beside,
            "title": self.row.title,
            "runs": [run.to_dict() for run in self.runs],
            "troubles": self.troubles,
        }


def _latest(row: Row, found: Followed) -> float:
    # Where nothing is wrong, whatever else runs here delays a few.
    return found.later_than(0.01 if row.fault is actions.calm else 0.0)


def format_result(result: Result) -> str:
    """Give the line of a row."""
    counters = result.counters
    counts = [
        f"{counters.lost:>4} {counters.twice:>5} {counters.old_value_back:>4}",
        f"{counters.stale_own_read:>5} {counters.backwards:>4}",
        f"{counters.wrong_value:>5}",
        f"{result.disorder:>5} {sum(run.unexpected for run in result.runs):>5}",
    ]
    name = f"  {result.beside}" if result.beside else result.row.name
    return (
        f"{name:<{NAME_WIDTH}}{len(result.runs):>4}  "
        f"{_seconds(result.median('write_gap')):>9} "
        f"{_seconds(result.median('read_gap')):>9} "
        f"{_seconds(result.median('reader_gap')):>7} "
        f"{_seconds(result.median('slowest')):>7} {_seconds(result.oldest_read):>7}  "
        f"{' '.join(counts)}  {'; '.join(_remarks(result))}"
    )


def _remarks(result: Result) -> Iterable[str]:
    yield from _costs(result)
    if result.errors:
        found = result.errors.most_common()
        yield ", ".join(f"{count} {name} ({kind})" for (kind, name), count in found)
    resumed, elsewhere = result.median("resumed"), result.median("elsewhere")
    if resumed is not None:
        yield f"resumed after {resumed:.2f} s"
    if elsewhere is not None:
        left = sum(run.left for run in result.runs)
        yield f"{elsewhere:.1%} of requests elsewhere, member left {left} times"
    warnings = [len(run.warnings) for run in result.runs]
    if any(warnings):
        yield f"warnings: {', '.join(map(str, warnings))}"
    if result.undecided:
        yield f"{result.undecided} keys undecided"
    yield from result.troubles


def _costs(result: Result) -> Iterable[str]:
    failed = max((run.failed for run in result.runs), default=0)
    if failed and result.row.failures is not None:
        yield f"failed calls in a thread: {failed}"
    expired = sum(run.expired or 0 for run in result.runs)
    if expired:
        yield f"expired: {expired}"
    for followed in (run.followed for run in result.runs if run.followed is not None):
        yield (
            f"shown after {followed.later_than(0.5) * 1000:.1f} ms, "
            f"{followed.later_than(0.01):.3f} s, {followed.later_than(0.0):.3f} s; "
            f"{followed.lost} lost, {followed.twice} twice, {followed.wrong} wrong, "
            f"{followed.lies} lies, {followed.coalesced} coalesced, "
            f"{followed.expired} expired"
        )
    for bulk in (run.bulk for run in result.runs if run.bulk is not None):
        usual = f", usually {bulk.usual:.1f} s" if bulk.usual is not None else ""
        ended = math.isfinite(bulk.longest)
        yield (
            f"{f'{bulk.longest:.1f} s' if ended else 'not ended'}{usual}, "
            f"{bulk.within:.1f} s in the fault: {bulk.written} written, "
            f"{bulk.failed} failed, {bulk.pending} pending"
        )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def examples(results: Sequence[Result]) -> Iterable[str]:
    """Give what the checker said about the first finds of each row."""
    for result in results:
        for run in result.runs:
            for report in run.reports:
                for line in (*report.examples, *report.broken_sessions[:5]):
                    yield f"{result.row.name}: {line}"
            for line in run.followed.examples if run.followed is not None else ():
                yield f"{result.row.name}: {line}"

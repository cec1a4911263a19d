"""What is measured, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.speed.clients import OURS, PYTHON_ETCD, Subject, subjects
from benchmarks.speed.measure import Samples, ratio


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    operations: int = 120
    threads: int = 8
    thread_operations: int = 120
    bulk: int = 5000
    #: Keys at each of the four levels of the tree.
    fan: int = 10
    directories: tuple[int, ...] = (10, 100, 1000, 10_000, 100_000)
    values: tuple[int, ...] = (16, 256, 4096, 65_536, 1 << 20)
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    depths: tuple[int, ...] = (1, 10, 30, 100)

    @property
    def listing(self) -> int:
        """Keys of the flat directory: as many as in the tree."""
        return self.fan**4


QUICK = Sizes(5, 2, 5, 40, 3, (10, 30), (16, 256), (1, 2), (1, 3))


@dataclass(frozen=True)
class World:
    """An etcd, and how much to ask of it."""

    endpoint: str
    rounds: int
    sizes: Sizes

    def connect(self, prefix: str, ca: str | None = None) -> dict[str, Subject]:
        """Connect every client."""
        return subjects(self.endpoint, prefix, ca)


class Check(NamedTuple):
    """One figure with its limits."""

    what: str
    measured: float
    limit: float
    aim: float | None = None
    #: Whether more is better; else less is.
    higher: bool = False
    unit: str = "x"

    def reaches(self, limit: float) -> bool:
        return self.measured >= limit if self.higher else self.measured <= limit

    @property
    def verdict(self) -> str:
        if self.aim is not None and self.reaches(self.aim):
            return "aim"
        return "limit" if self.reaches(self.limit) else "MISSED"


@dataclass
class Work:
    """One workload and what each client needed for it."""

    name: str
    samples: Samples
    #: The metric that its ratios are of.
    metric: str = "p50"
    reference: str = PYTHON_ETCD
    checks: list[Check] = field(default_factory=list)

    def ratio(self, client: str, metric: str | None = None) -> float | None:
        """Give a client's ratio to the reference, if that was measured."""
        samples, reference = self.samples, self.samples.get(self.reference)
        if reference is None or client not in samples:
            return None
        return ratio(samples[client], reference, metric or self.metric)

    def limit(
        self, what: str, limit: float, aim: float | None, metric: str | None = None
    ) -> None:
        """Check our ratio to the reference against limits."""
        measured = self.ratio(OURS, metric)
        if measured is not None:
            self.checks.append(Check(f"{self.name}: {what}", measured, limit, aim))

    def limit_speed(self, limit: float, aim: float | None) -> None:
        """Check how many times more we do in a second than the reference."""
        measured = self.ratio(OURS, "mean")
        if measured is not None:
            check = Check(f"{self.name}: speed", 1 / measured, limit, aim, higher=True)
            self.checks.append(check)


@dataclass
class Curve:
    """How the time of some operations grows: size -> microseconds, by name."""

    name: str
    axis: str
    lines: dict[str, dict[int, float]]
    checks: list[Check] = field(default_factory=list)


@dataclass
class Report:
    """All that was measured."""

    about: dict[str, str]
    works: list[Work] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def all_checks(self) -> list[Check]:
        """Give the checks of everything, in order."""
        parts: list[Work | Curve] = [*self.works, *self.curves]
        return [check for part in parts for check in part.checks] + self.checks

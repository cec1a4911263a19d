"""What the precautions against faults cost while there are none: run it with -m.

::

    python -m benchmarks.steady [--rounds N]

On a healthy cluster of three members on this machine, it compares session reads with
reads that promise nothing (``consistency="any"``), and fenced writes with writes that
are not fenced (``fence=False``).  The two take turns within a round.  The ratios of the
median time and of the CPU time are medians of the rounds.  The ratio of the mean time
is that of all rounds together, so that it includes the quorum read that a client sends
every 1.5 s.  The limit is for the median time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

VALUE = "x" * 64
KEYS = 50

Call = Callable[[int], object]


class Row(NamedTuple):
    """One comparison; a call gets the number of the operation.

    Attributes:
        calm: what is asked about, for each member in use.
        plain: what it is compared with, for each member in use.
        limit: the ratio should not be above it.
    """

    name: str
    calm: list[Call]
    plain: list[Call]
    limit: float


def main(arguments: list[str] | None = None) -> int:
    """Start a cluster, measure, print; gives 1 if a limit was passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steady",
        description="Measure what the precautions against faults cost while there is "
        "no fault: quorum reads and fenced writes, on three members on this machine.",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=30,
        metavar="N",
        help="how often each pair of operations is compared; default: %(default)s",
    )
    parser.add_argument(
        "--operations",
        type=int,
        default=400,
        metavar="N",
        help="how often each operation is done in a round; default: %(default)s",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="measure only a few operations, to see that the command runs",
    )
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error("--rounds must be at least 2, because quartiles are shown")
    if given.quick:
        given.rounds, given.operations = 3, 5
    with LocalCluster(members=3) as cluster, contextlib.ExitStack() as stack:
        print(f"etcd {cluster.version}, three members on this machine")
        names = ("median", "quartiles", "mean", "CPU", "limit")
        print(" " * 24 + "{:>7}{:>14}{:>7}{:>7}{:>7}  microseconds".format(*names))
        good = True
        for row in _rows(cluster, stack):
            good = _measure(row, given.rounds, given.operations) and good
    return int(not good and not given.quick)


def _measure(row: Row, rounds: int, operations: int) -> bool:
    numbers = itertools.count()
    times: list[tuple[float, float]] = []
    means: list[tuple[float, float]] = []
    ratios, cpu_ratios = [], []
    # Each member in its turn: one of them is the leader.
    for calm, plain in itertools.islice(
        itertools.cycle(zip(row.calm, row.plain, strict=True)), 3 + rounds
    ):
        took = _side_by_side(calm, plain, numbers, operations)
        times.append((took[0].p50, took[1].p50))
        ratios.append(took[0].p50 / took[1].p50)
        means.append((took[0].mean, took[1].mean))
        cpu_ratios.append(took[0].cpu / took[1].cpu)
    for each in (times, means, ratios, cpu_ratios):
        del each[:3]  # the warming up
    low, middle, high = statistics.quantiles(ratios, n=4)
    calm_time, plain_time = (
        1e6 * statistics.median(t) for t in zip(*times, strict=True)
    )
    calm_mean, plain_mean = (sum(t) for t in zip(*means, strict=True))
    print(
        f"{row.name:24}{middle:7.3f}{low:8.3f}-{high:.3f}"
        f"{calm_mean / plain_mean:7.3f}"
        f"{statistics.median(cpu_ratios):7.3f}{row.limit:7.2f}  "
        f"{calm_time:.0f} to {plain_time:.0f}",
        flush=True,
    )
    return middle <= row.limit


class Took(NamedTuple):
    """Seconds of an operation."""

    p50: float
    mean: float
    cpu: float


def _side_by_side(
    calm: Call, plain: Call, numbers: Iterator[int], operations: int
) -> tuple[Took, Took]:
    """Call one and the other in turn: both meet the same moments of the machine."""
    wall: tuple[list[float], list[float]] = ([], [])
    cpu = [0.0, 0.0]
    calls = (calm, plain)
    for number in itertools.islice(numbers, operations):
        for which in (number % 2, 1 - number % 2):
            call = calls[which]
            busy, start = time.thread_time(), time.perf_counter()
            call(number)
            wall[which].append(time.perf_counter() - start)
            cpu[which] += time.thread_time() - busy
    a, b = (
        Took(statistics.median(each), statistics.mean(each), used / operations)
        for each, used in zip(wall, cpu, strict=True)
    )
    return a, b


def _rows(cluster: LocalCluster, stack: contextlib.ExitStack) -> Iterator[Row]:
    # Keys of their own: nobody's memory of them is out of date.
    keys = [f"k{n}" for n in range(KEYS)]

    def connect(**options: Any) -> list[EtcdMapping]:
        return [
            stack.enter_context(
                EtcdMapping(
                    cluster.endpoints[n:] + cluster.endpoints[:n],
                    prefix=f"/steady/{n}-{len(options)}",
                    codec="text",
                    shuffle=False,
                    **options,
                )
            )
            for n in range(3)
        ]

    def reads(mappings: list[EtcdMapping]) -> list[Call]:
        return [lambda n, m=m: m[keys[n % KEYS]] for m in mappings]  # type: ignore[misc]

    def writes(mappings: list[EtcdMapping], names: list[str]) -> list[Call]:
        def write(mapping: EtcdMapping, number: int) -> None:
            mapping[names[number % len(names)]] = VALUE

        return [functools.partial(write, m) for m in mappings]

    calm, plain = connect(), connect(fence=False)
    careless = [mapping.using(consistency="any") for mapping in calm]
    for mapping in (*calm, *plain):
        mapping.update(dict.fromkeys(keys, VALUE))
    yield Row("m[k]", reads(calm), reads(careless), 1.05)
    yield Row("m[k] = v, again", writes(calm, keys), writes(plain, keys), 1.05)
    new = [f"new{n}" for n in range(1_000_000)]
    yield Row("m[k] = v, a new key", writes(calm, new), writes(plain, new), 1.25)


if __name__ == "__main__":
    sys.exit(main())

"""Rounds: in each of them every client does the same work, in an order of chance."""

from __future__ import annotations

import gc
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: What one client needed in one round, microseconds for each operation: "p50",
#: "p99", "mean" and "cpu", of which the first two may be missing.
Sample = dict[str, float]
Job = Callable[[], Sample]
Samples = dict[str, list[Sample]]


def one_by_one(call: Callable[..., Any], *arguments: Iterable[Any]) -> Job:
    """Make the job of calling something once for each argument, each timed."""
    todo = list(zip(*arguments, strict=True))

    def job() -> Sample:
        clock = time.perf_counter
        times = []
        cpu = time.process_time()
        for each in todo:
            start = clock()
            call(*each)
            times.append(clock() - start)
        cpu = time.process_time() - cpu
        times.sort()
        count = len(times)
        return {
            "p50": 1e6 * times[count // 2],
            "p99": 1e6 * times[min(count - 1, int(count * 0.99))],
            "mean": 1e6 * sum(times) / count,
            "cpu": 1e6 * cpu / count,
        }

    return job


def at_once(call: Callable[[], Any], operations: int = 1) -> Job:
    """Make the job of calling something that counts as some operations."""

    def job() -> Sample:
        cpu, start = time.process_time(), time.perf_counter()
        result = call()
        taken = time.perf_counter() - start
        cpu = time.process_time() - cpu
        del result
        return {"mean": 1e6 * taken / operations, "cpu": 1e6 * cpu / operations}

    return job


def in_threads(calls: list[Callable[[int], Any]], count: int) -> Job:
    """Make the job of running some calls in threads of their own, `count` times.

    Time and CPU are those for each operation of all threads.
    """

    def job() -> Sample:
        barrier = threading.Barrier(len(calls) + 1)

        def work(call: Callable[[int], Any]) -> None:
            barrier.wait()
            for n in range(count):
                call(n)

        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        cpu, start = time.process_time(), time.perf_counter()
        barrier.wait()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - start
        cpu = time.process_time() - cpu
        operations = count * len(calls)
        return {"mean": 1e6 * taken / operations, "cpu": 1e6 * cpu / operations}

    return job


def run_rounds(jobs: Mapping[str, Job], rounds: int, warm: bool = True) -> Samples:
    """Run all jobs in every round, shuffled; the first time is not counted."""
    samples: Samples = {name: [] for name in jobs}
    order = list(jobs)
    if warm:
        for job in jobs.values():
            job()
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            gc.collect()  # nobody pays for the garbage of another
            samples[name].append(jobs[name]())
    return samples


def median(samples: list[Sample], metric: str) -> float:
    """Give the median of the rounds."""
    return statistics.median(sample[metric] for sample in samples)


def ratio(of: list[Sample], to: list[Sample], metric: str) -> float:
    """Give the median of the ratios within each round."""
    pairs = zip(of, to, strict=True)
    return statistics.median(a[metric] / b[metric] for a, b in pairs)


def spread(of: list[Sample], to: list[Sample], metric: str) -> tuple[float, float]:
    """Give the lower and the upper quartile of those ratios."""
    ratios = sorted(a[metric] / b[metric] for a, b in zip(of, to, strict=True))
    if len(ratios) < 2:
        return ratios[0], ratios[0]
    low, _, high = statistics.quantiles(ratios, n=4)
    return low, high

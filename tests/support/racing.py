"""Racing callers: threads, and what the processes of a race do.

Child processes import this module, so it must not need pytest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from etcdmap import EtcdMapping

T = TypeVar("T")

#: Seconds after which a race that does not end is given up.
PATIENCE = 20.0
ROUNDS = 10

_barrier: Any = None


def race_threads(tasks: list[Callable[[], T]]) -> list[T]:
    """Run tasks at the same time, each in a thread; give what they give."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(run, task) for task in tasks]
        return [future.result(PATIENCE) for future in futures]


def join_race(barrier: Any) -> None:
    """Tell a child process where to meet the others; runs first in each."""
    global _barrier
    _barrier = barrier


def run_child(
    task: Callable[[EtcdMapping, int], T], endpoints: list[str], prefix: str, who: int
) -> T:
    """Run a task in a child process, once all the others are ready."""
    with EtcdMapping(endpoints, prefix=prefix, timeout=PATIENCE) as mapping:
        len(mapping)  # connects
        _barrier.wait(PATIENCE)
        return task(mapping, who)


# --- what racing callers do ---------------------------------------------------


def set_defaults(mapping: EtcdMapping, who: int) -> list[Any]:
    """Offer a value of one's own for each key; give what was stored."""
    return [mapping.setdefault(f"k{n}", who) for n in range(ROUNDS)]


def set_default_mappings(mapping: EtcdMapping, who: int) -> list[str]:
    """Offer a mapping of one's own for each key; give the prefixes of what came."""
    mine = {"a": who, "b": {"c": who}}
    return [mapping.setdefault(f"k{n}", mine).prefix for n in range(ROUNDS)]


def pop_all(mapping: EtcdMapping, who: int) -> list[Any]:
    """Pop every key; give the values that one got."""
    popped = [mapping.pop(f"k{n}", None) for n in range(ROUNDS)]
    return [value for value in popped if value is not None]


def pop_items(mapping: EtcdMapping, who: int) -> list[tuple[str, Any]]:
    """Pop until there is nothing; give the pairs that one got."""
    popped = []
    while True:
        try:
            popped.append(mapping.popitem())
        except KeyError:
            return popped


def produce(mapping: EtcdMapping, who: int) -> list[str]:
    """Put values into one slot, each when it is free; give them."""
    values = [f"{who}-{n}" for n in range(ROUNDS)]
    deadline = time.monotonic() + PATIENCE
    for value in values:
        while mapping.setdefault("slot", value) != value:
            assert time.monotonic() < deadline, "the slot was never free"
    return values


def consume(mapping: EtcdMapping, count: int) -> list[str]:
    """Take so many values out of the slot; give them."""
    taken: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while len(taken) < count:
        value = mapping.pop("slot", None)
        if value is not None:
            taken.append(value)
        assert time.monotonic() < deadline, "values were lost"
    return taken


def hand_over(mapping: EtcdMapping, who: int) -> list[str]:
    """Be a producer (even numbers) or a consumer (odd ones) of the slot."""
    return consume(mapping, ROUNDS) if who % 2 else produce(mapping, who)

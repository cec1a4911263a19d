"""What racing callers of `transform` and `append` do.

Child processes import this module, so it must not need pytest.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from etcdmap import CompareFailed, EtcdMapping

from support.racing import PATIENCE

#: Calls of each racer.
TURNS = 6


def count_up(mapping: EtcdMapping, who: int) -> list[int]:
    """Add 1 to a counter, again and again; give what came out each time."""
    return [mapping.transform("n", lambda n: n + 1, default=0) for _ in range(TURNS)]


def count_up_below(mapping: EtcdMapping, who: int) -> list[int]:
    """The same for a key in directories that are not there at first."""
    return [
        mapping.transform("a/b/n", lambda n: n + 1, default=0) for _ in range(TURNS)
    ]


def add(item: list[int], items: list[list[int]]) -> list[list[int]]:
    """Make a list with one item more."""
    return [*items, item]


def extend_list(mapping: EtcdMapping, who: int) -> list[list[int]]:
    """Put items at the end of one list; give them."""
    mine = [[who, n] for n in range(TURNS)]
    for item in mine:
        mapping.transform("l", partial(add, item), default=[])
    return mine


def swap_up(mapping: EtcdMapping, who: int) -> int:
    """Add to a number by compare-and-swap or by `transform`; give how much."""
    for _ in range(TURNS):
        if who % 2:
            mapping.transform("total", lambda n: n + 5, default=0)
        else:
            swap(mapping)
    return 5 * TURNS


def swap(mapping: EtcdMapping) -> None:
    """Add 5 by compare-and-swap."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before = mapping.setdefault("total", 0)
        try:
            mapping.compare_and_swap("total", before, before + 5)
        except CompareFailed:
            continue
        return
    raise AssertionError("another one was quicker, each time")


def append_all(mapping: EtcdMapping, who: int) -> list[tuple[str, list[int]]]:
    """Append items; give their keys."""
    items = [[who, n] for n in range(TURNS)]
    return [(mapping.append(item), item) for item in items]


def work_queue(mapping: EtcdMapping, who: int) -> tuple[list[Any], list[Any]]:
    """Append items to a queue and take as many out; give both."""
    put, taken = [], []
    for n in range(TURNS):
        put.append([who, n])
        mapping.append(put[-1])
        if who % 2:
            taken.append(mapping.popitem()[1])
        else:
            taken.append(take_first(mapping))
    return put, taken


def take_first(mapping: EtcdMapping) -> Any:
    """Take the oldest item out of a queue that others take from as well."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for key in mapping:
            item = mapping.pop(key, None)
            if item is not None:
                return item
    raise AssertionError("there was no item left for everyone")

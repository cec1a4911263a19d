"""What a read of a live replica costs, beside one of a dict; and memory."""

from __future__ import annotations

import statistics
import timeit
import tracemalloc
from collections.abc import Iterator
from typing import Any

from benchmarks.speed.model import Check
from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster


def reads(rounds: int) -> Iterator[Check]:
    """Measure lookups, in turn with those of a dict, and memory."""
    with (
        LocalCluster(fsync=False) as cluster,
        EtcdMapping(cluster.endpoints, "/reads") as mapping,
    ):
        yield Check("memory, all keys read, to to_dict()", _memory(mapping), 1.8)
        mapping["a/b"] = 1
        with mapping.live() as live:
            plain = {"a/b": 1, "a": {"b": 1}}
            for code, most in (('m["a/b"]', 3.5), ('m["a"]["b"]', 7.0)):
                ratio = _to_a_lookup(code, live, plain, rounds)
                yield Check(f"{code}, to a dict's lookup", ratio, most)


def _memory(mapping: EtcdMapping, keys: int = 10_000) -> float:
    mapping.update({f"key-{n:05}": f"value-{n}" for n in range(keys)})
    tracemalloc.start()
    plain: Any = mapping.to_dict()
    size, _ = tracemalloc.get_traced_memory()
    with mapping.live() as live:
        for key in plain:
            live[key]
        both, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (both - size) / size


def _to_a_lookup(code: str, live: Any, plain: Any, rounds: int) -> float:
    ratios = []
    for _ in range(rounds):
        base = _best('m["a/b"]', plain)
        ratios.append(_best(code, live) / base)
    return statistics.median(ratios)


def _best(code: str, m: Any) -> float:
    return min(timeit.repeat(code, globals={"m": m}, number=20_000, repeat=5))

"""What a live replica's reads and callbacks cost.

``python -m benchmarks.live``.  How late it is in faults, and that it loses nothing, is
for ``python -m benchmarks.faults --rows 'live-*'``.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
import timeit
import tracemalloc
from pathlib import Path
from typing import Any

from etcdmap import EtcdMapping, Event, Live

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.isolation import SplitCluster


def reads(cluster: SplitCluster) -> None:
    """Print what a read costs, beside that of a dict; and memory."""
    with EtcdMapping(cluster.endpoints, "/reads") as mapping:
        mapping.update({f"key-{n:05}": f"value-{n}" for n in range(10_000)})
        tracemalloc.start()
        plain: Any = mapping.to_dict()
        size, _ = tracemalloc.get_traced_memory()
        live = mapping.live()
        for key in plain:
            live[key]
        both, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"memory, all keys read: {(both - size) / size:.2f} of to_dict()")
        mapping["a/b"] = 1
        live.wait()
        nested = {"a/b": 1, "a": {"b": 1}}
        base = best('m["a/b"]', nested)
        for code in ('m["a/b"]', 'm["a"]["b"]'):
            print(f"{code}: {best(code, live) / base:.1f} times a dict's lookup")
        callbacks(mapping, live)
        live.close()


def best(code: str, m: Any) -> float:
    """Return the shortest time of some code."""
    return min(timeit.repeat(code, globals={"m": m}, number=50_000, repeat=9))


def callbacks(mapping: EtcdMapping, live: Live, count: int = 500) -> None:
    """Print how long it takes from a write's return to a callback, in one process."""
    late: list[float] = []
    told = threading.Event()
    returned = 0.0

    def note(event: Event) -> None:
        late.append(time.perf_counter() - returned)
        told.set()

    with live.subscribe(note, "told"):
        for number in range(count):
            told.clear()
            mapping["told"] = number
            returned = time.perf_counter()
            told.wait(5)
    print(f"from set to callback: {statistics.median(late) * 1e6:.0f} us, the median")


def main() -> None:
    """Print it all."""
    with SplitCluster(3, fsync=False) as cluster:
        reads(cluster)


if __name__ == "__main__":
    main()

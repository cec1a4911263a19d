"""How late a live replica is when members fail, and what its reads cost.

``python -m benchmarks.live``; takes about two minutes.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
import timeit
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etcdmap import EtcdMapping, Event, Live
from etcdmap.local import Member

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.isolation import SplitCluster
from support.tcp_proxy import TcpProxy

MAX_STALE = 10.0


def followed(cluster: SplitCluster, live: Live) -> Member:
    """Return the member that a replica follows."""
    follower: Any = live._feed.follower
    return cluster.member(follower._member.endpoint)


def seen_after(live: Live, writer: EtcdMapping) -> float:
    """Return the seconds from the acknowledgement of a write to when it is seen."""
    key = f"seen-{time.monotonic_ns()}"
    writer[key] = 1
    acknowledged = time.monotonic()
    while key not in live:
        time.sleep(0.0002)
    return time.monotonic() - acknowledged


def after_fault(cluster: SplitCluster, fault: Callable[[Member], None]) -> float:
    """Do something to the member that is followed, and measure."""
    with (
        EtcdMapping(cluster.endpoints, "/live") as reader,
        reader.live(MAX_STALE) as live,
    ):
        member = followed(cluster, live)
        others = [m.endpoint for m in cluster.members if m is not member]
        with EtcdMapping(others, "/live", timeout=10) as writer:
            writer["warm"] = 1
            fault(member)
            late = seen_after(live, writer)
    cluster.links.heal()
    if member.paused:
        member.resume()
    if not member.running:
        member.start()
    cluster.wait_healthy()
    return late


def forgotten(cluster: SplitCluster) -> float:
    """Let a middlebox forget the connection, and measure."""
    with (
        TcpProxy(cluster.endpoints[0]) as proxy,
        EtcdMapping(proxy.endpoint, "/live") as reader,
        EtcdMapping(cluster.endpoints, "/live") as writer,
        reader.live(MAX_STALE) as live,
    ):
        proxy.forget()
        return seen_after(live, writer)


def lateness(cluster: SplitCluster) -> None:
    """Print how late a replica is in each fault."""
    faults: dict[str, Callable[[Member], object]] = {
        "nothing": lambda member: None,
        "killed": lambda member: member.kill(),
        "stopped": lambda member: member.pause(),
        "cut off": cluster.isolate,
    }
    for name, fault in faults.items():
        found = [after_fault(cluster, fault) for _ in range(5)]  # type: ignore[arg-type]
        print(f"{name:30} worst {max(found):.3f} s, median {sorted(found)[2]:.3f} s")
    found = [forgotten(cluster) for _ in range(3)]
    print(f"{'its connection forgotten':30} worst {max(found):.3f} s")


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
    """Print it all; with ``--quick`` only what the reads cost."""
    with SplitCluster(3, fsync=False) as cluster:
        reads(cluster)
        if "--quick" not in sys.argv:
            lateness(cluster)


if __name__ == "__main__":
    main()

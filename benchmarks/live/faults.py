"""How late a live replica is when the member that it follows fails."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.model import Check
from etcdmap import EtcdMapping, Live
from etcdmap.local import Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

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


def after_fault(cluster: SplitCluster, fault: Callable[[Member], object]) -> float:
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


def lateness() -> Iterator[Check]:
    """Measure how late a replica is in each fault."""
    faults: dict[str, tuple[Callable[[Member], object], float]] = {
        "nothing": (lambda member: None, 0.1),
        "killed": (lambda member: member.kill(), 1.0),
        "stopped": (lambda member: member.pause(), 4.0),
    }
    with SplitCluster(3, fsync=False) as cluster:
        faults["cut off"] = cluster.isolate, 4.0
        for name, (fault, most) in faults.items():
            found = [after_fault(cluster, fault) for _ in range(5)]
            yield Check(f"{name}: seen after, the worst", max(found), most, unit=" s")
        found = [forgotten(cluster) for _ in range(3)]
        what = "its connection forgotten: seen after, the worst"
        yield Check(what, max(found), MAX_STALE, unit=" s")

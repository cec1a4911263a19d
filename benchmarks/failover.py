"""Each call of three clients while the leader of a cluster is killed, or stopped.

    python -m benchmarks.failover --env ~/.cache/etcdmap-benchmark

The clients meet the same cluster and the same fault, each in a process of its own; one
thread of each writes and another one reads, each with a client of its own.  It is
written to ``docs/pictures/failover.json``, and ``docs/pictures/draw.py`` draws that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.compare import INSIDE, ROOT, run_inside
from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster, Member

CLIENTS = ("etcdmap", "python-etcd", "k3etcd")
#: What happens to the leader, by the method of `etcdmap.local.Member`.
FAULTS = {"killed": Member.kill, "stopped": Member.pause}
#: Calls a second of one thread, and seconds: before the fault, in all, and of one call.
RATE, BEFORE, LENGTH, TIMEOUT = 10, 2.0, 10.0, 5

Call = Callable[[], object]


def main() -> int:
    """Run it where the other clients are installed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover",
        description="Record each call of etcdmap, python-etcd and k3etcd while the "
        "leader of a cluster is killed, and while it is stopped.",
    )
    parser.add_argument(
        "--env",
        type=Path,
        metavar="DIR",
        help="make the virtual environment with all clients here, or use the one that "
        "benchmarks.compare made here; default: use this Python",
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=ROOT / "docs/pictures/failover.json",
        metavar="FILE",
        help="write the calls to this file; default: docs/pictures/failover.json",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="record only etcdmap, for a short time, to see that the command runs",
    )
    given = parser.parse_args()
    if given.env and os.environ.get(INSIDE) is None:
        return run_inside(given.env, "benchmarks.failover", None)
    clients, length = (CLIENTS[:1], BEFORE + 0.5) if given.quick else (CLIENTS, LENGTH)
    found = {
        fault: measure(harm, clients, length=length) for fault, harm in FAULTS.items()
    }
    text = json.dumps({"fault at": BEFORE, "timeout": TIMEOUT, **found})
    text = text.replace("], [", "],\n[")  # a line for each call
    given.to.write_text(text + "\n")
    return 0


def measure(
    harm: Callable[[Member], None], clients: tuple[str, ...], length: float
) -> dict[str, Any]:
    """Give, for each client and kind of call, [start, seconds, failed] of each."""
    with LocalCluster(members=3) as cluster:
        leader = cluster.leader()
        urls = sorted(cluster.endpoints, key=leader.endpoint.__ne__)
        began = time.monotonic() + 2.0  # when all processes have started
        with multiprocessing.get_context("spawn").Pool(len(clients)) as pool:
            jobs: list[AsyncResult[Any]] = [
                pool.apply_async(run_client, (name, urls, began, began + length))
                for name in clients
            ]
            time.sleep(began + BEFORE - time.monotonic())
            harm(leader)
            return {name: job.get() for name, job in zip(clients, jobs, strict=True)}


def run_client(
    name: str, urls: list[str], began: float, end: float
) -> dict[str, list[Any]]:
    """Write and read; the target of a process."""
    found: dict[str, list[Any]] = {"writes": [], "reads": []}
    calls = {kind: connect(name, urls, kind) for kind in found}
    threads = [
        threading.Thread(target=repeat, args=(calls[kind], began, end, found[kind]))
        for kind in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def connect(name: str, urls: list[str], kind: str) -> Call:
    """Make a client that begins at the first member; give the call that it repeats."""
    if name == "etcdmap":
        cfg = EtcdMapping(urls, prefix="/", timeout=TIMEOUT, shuffle=False)
        calls: dict[str, Call] = {
            "writes": lambda: cfg.__setitem__(name, "value"),
            "reads": lambda: cfg[name],
        }
    else:
        if name == "python-etcd":
            import etcd as module
        else:
            import k3etcd as module
        places = tuple((urlsplit(u).hostname, urlsplit(u).port) for u in urls)
        client = module.Client(host=places, allow_reconnect=True, read_timeout=TIMEOUT)
        calls = {
            "writes": lambda: client.write(f"/{name}", "value"),
            "reads": lambda: client.read(f"/{name}"),
        }
    calls["writes"]()
    return calls[kind]


def repeat(call: Call, began: float, until: float, found: list[Any]) -> None:
    """Call at a steady rate; what was missed is not made up for."""
    following = began
    while following < until:
        time.sleep(max(0.0, following - time.monotonic()))
        start = time.monotonic()
        failed = 0
        try:
            call()
        except Exception:
            failed = 1
        end = time.monotonic()
        found.append([round(start - began, 3), round(end - start, 4), failed])
        following = max(following + 1 / RATE, end)


if __name__ == "__main__":
    sys.exit(main())

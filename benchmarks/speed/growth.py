"""How the cost grows: with the directory, the value, the threads, the depth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.speed.clients import OURS, PYTHON_ETCD, EtcdMap, Subject
from benchmarks.speed.measure import (
    Job,
    Samples,
    at_once,
    in_threads,
    median,
    one_by_one,
    run_rounds,
)
from benchmarks.speed.model import Check, Curve, Report, World
from benchmarks.speed.workloads import NAMES, VALUE, names_for
from etcdmap.local import LocalCluster

_WRITERS = 5_000


def directories(world: World, report: Report) -> None:
    """More keys beside the one that is read, and in the directory that is listed."""
    sizes = world.sizes.directories
    gets: dict[int, Job] = {}
    lists: dict[int, Job] = {}
    clients = []
    for size in sizes:
        client = EtcdMap(world.endpoint, f"/growth/{size}")
        names = [f"key{n:06}" for n in range(size)]
        for at in range(0, size, _WRITERS):
            client.update(dict.fromkeys(names[at : at + _WRITERS], VALUE))
        step = max(1, size // world.sizes.operations)
        some = (names[::step] * world.sizes.operations)[: world.sizes.operations]
        gets[size] = one_by_one(client.get, some)
        lists[size] = at_once(client.tree)
        clients.append(client)
    get = _by_size(world, gets, "p50")
    listing = _by_size(world, lists, "mean")
    for client in clients:
        client.close()
    least, most = sizes[0], sizes[-1]
    # Below a thousand keys the exchange itself is most of it.
    from_size = next((n for n in sizes if n >= 1000), least)
    per_key = (listing[most] / most) / (listing[from_size] / from_size)
    report.curves.append(
        Curve(
            "Directory size",
            "keys",
            {"m[k]": get, "to_dict": listing},
            [
                Check(
                    f"m[k] in a directory of {most:,} keys, compared with one of "
                    f"{least}",
                    get[most] / get[least],
                    1.3,
                ),
                Check(
                    f"to_dict: time per key, {most:,} keys compared with {from_size:,}",
                    per_key,
                    1.5,
                ),
            ],
        )
    )


def _by_size(world: World, jobs: dict[int, Job], metric: str) -> dict[int, float]:
    samples = run_rounds({str(size): job for size, job in jobs.items()}, _few(world))
    return {size: median(samples[str(size)], metric) for size in jobs}


def _few(world: World) -> int:
    return max(1, world.rounds // 2)


def _both(
    world: World,
    report: Report,
    name: str,
    axis: str,
    sizes: tuple[int, ...],
    make: Callable[[Subject, str, int], Job],
    metric: str = "p50",
) -> None:
    """Measure m[k] and m[k] = v over some sizes, for us and for python-etcd."""
    clients = world.connect("/growth")
    ours, other = clients[OURS], clients.get(PYTHON_ETCD)
    measured = {"": ours} if other is None else {"": ours, f", {PYTHON_ETCD}": other}
    jobs: dict[str, Job] = {}
    for size in sizes:
        for suffix, client in measured.items():
            jobs[f"m[k] = v{suffix}|{size}"] = make(client, "set", size)
        for suffix, client in measured.items():
            jobs[f"m[k]{suffix}|{size}"] = make(client, "get", size)
    samples = run_rounds(jobs, _few(world))
    for client in clients.values():
        client.close()
    report.curves.append(Curve(name, axis, _lines(samples, metric)))


def _lines(samples: Samples, metric: str) -> dict[str, dict[int, float]]:
    lines: dict[str, dict[int, float]] = {}
    for job, some in samples.items():
        line, _, size = job.rpartition("|")
        lines.setdefault(line, {})[int(size)] = median(some, metric)
    return dict(sorted(lines.items()))


def values(world: World, report: Report) -> None:
    """Larger values."""
    count = max(1, world.sizes.operations // 6)

    def make(client: Subject, what: str, size: int) -> Job:
        names = [f"value{size}"] * count
        if what == "get":
            return one_by_one(client.get, names)
        return one_by_one(client.set, names, ["v" * size] * count)

    _both(world, report, "Value size", "bytes", world.sizes.values, make)


def depths(world: World, report: Report) -> None:
    """Keys further down."""
    count = world.sizes.operations // 2 or 1

    def make(client: Subject, what: str, size: int) -> Job:
        names = [f"depth{size}/" + "/".join(["d"] * size)] * count
        if what == "get":
            return one_by_one(client.get, names)
        return one_by_one(client.set, names, [VALUE] * count)

    _both(world, report, "Depth", "levels", world.sizes.depths, make)


def counts(world: World, report: Report) -> None:
    """More threads on one client; the time is that for each operation of all."""
    each = world.sizes.thread_operations

    def make(client: Subject, what: str, size: int) -> Job:
        calls: list[Callable[[int], Any]] = [
            (lambda n: client.get(NAMES[n % len(NAMES)]))
            if what == "get"
            else (lambda n: client.set(NAMES[n % len(NAMES)], VALUE))
        ] * size
        return in_threads(calls, max(1, each // size))

    _both(world, report, "Threads", "threads", world.sizes.counts, make, "mean")


def endpoints(world: World, report: Report) -> None:
    """One endpoint of a cluster, or all three: what failover costs in good times."""
    count = world.sizes.operations
    names, texts = names_for(count), [VALUE] * count
    with LocalCluster(members=3) as cluster, contextlib.ExitStack() as stack:
        leader = cluster.leader().endpoint
        others = [each for each in cluster.endpoints if each != leader]
        jobs: dict[str, Job] = {}
        for number, given in ((1, [leader]), (3, [leader, *others])):
            client = EtcdMap(given, "/endpoints", shuffle=False)
            stack.callback(client.close)
            jobs[f"m[k] = v|{number}"] = one_by_one(client.set, names, texts)
            jobs[f"m[k]|{number}"] = one_by_one(client.get, names)
        # Reads need what the writes make.
        samples = run_rounds(jobs, _few(world))
    report.curves.append(Curve("Endpoints", "endpoints", _lines(samples, "p50")))


def all_curves() -> Iterator[Callable[[World, Report], None]]:
    """Give all of them."""
    yield from (directories, values, counts, depths, endpoints)

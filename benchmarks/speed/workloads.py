"""The workloads that all clients do, and their limits."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from benchmarks.speed.clients import (
    K3ETCD,
    OURS,
    OURS_AUTO,
    PYTHON_ETCD,
    RAW,
    EtcdMap,
    PythonEtcd,
    Raw,
    Subject,
    store_counts,
)
from benchmarks.speed.measure import Job, at_once, in_threads, one_by_one, run_rounds
from benchmarks.speed.model import Check, Report, Work, World
from benchmarks.speed.servers import http_and_https

VALUE = "v" * 64
NAMES = [f"k{n}" for n in range(20)]


@contextlib.contextmanager
def connected(world: World, prefix: str) -> Iterator[dict[str, Subject]]:
    """Connect every client to a directory that has `NAMES`."""
    clients = world.connect(prefix)
    for name in NAMES:
        clients[OURS].set(name, VALUE)
    try:
        yield clients
    finally:
        for client in clients.values():
            client.close()


def names_for(operations: int) -> list[str]:
    """Give the names for some operations, in turn."""
    return [NAMES[n % len(NAMES)] for n in range(operations)]


def single(world: World, report: Report) -> None:
    """One key at a time, on one connection."""
    count = world.sizes.operations
    names, values = names_for(count), [VALUE] * count
    with connected(world, "/single") as clients:
        clients[OURS_AUTO] = EtcdMap(world.endpoint, "/single", codec="auto")
        get = _work(world, "m[k]", clients, lambda c: one_by_one(c.get, names))
        put = _work(
            world, "m[k] = v", clients, lambda c: one_by_one(c.set, names, values)
        )
        absent = [f"absent{n}" for n in range(count)]
        miss = _work(
            world, "missing key", clients, lambda c: one_by_one(c.missing, absent)
        )
    get.limit("p50", 0.55, 0.42)
    get.limit("CPU", 0.40, 0.30, "cpu")
    get.limit("p99", 1.0, 0.7, "p99")
    put.limit("p50", 0.72, 0.62)
    put.limit("CPU", 0.45, 0.36, "cpu")
    miss.limit("p50", 0.55, 0.45)
    report.works += [get, put, miss]


def _work(
    world: World, name: str, clients: dict[str, Subject], make: Callable[[Any], Job]
) -> Work:
    jobs = {client: make(subject) for client, subject in clients.items()}
    return Work(name, run_rounds(jobs, world.rounds))


def threads(world: World, report: Report) -> None:
    """Several threads that share one client, and a socket for each of them."""
    count, each = world.sizes.threads, world.sizes.thread_operations
    with connected(world, "/threads") as clients:
        many = {
            name: [c.for_thread() for _ in range(count)] for name, c in clients.items()
        }
        for what, limit, aim in (("get", 3.5, 5.0), ("set", 1.7, 2.2)):
            jobs = {
                name: in_threads([_call(c, what, n) for n, c in enumerate(some)], each)
                for name, some in many.items()
            }
            work = Work(
                f"{count} threads, {what}", run_rounds(jobs, world.rounds), "mean"
            )
            work.limit_speed(limit, aim)
            report.works.append(work)
        for own in many.get(RAW, []):
            own.close()


def _call(client: Subject, what: str, thread: int) -> Callable[[int], Any]:
    total = len(NAMES)
    if what == "get":
        return lambda n: client.get(NAMES[(thread + n) % total])
    return lambda n: client.set(NAMES[(thread + n) % total], VALUE)


def bulk(world: World, report: Report) -> None:
    """Many keys into one directory: `update` against a loop."""
    count = world.sizes.bulk
    values = {f"key{n:06}": VALUE for n in range(count)}
    with contextlib.ExitStack() as stack:
        jobs = {}
        # A directory each, so that all of them write what is there already.
        for at, name in enumerate(world.connect("/bulk")):
            client = world.connect(f"/bulk/{at}")[name]
            stack.callback(client.close)
            jobs[name] = at_once(functools.partial(client.update, values), count)
        samples = run_rounds(jobs, world.rounds)
    work = Work(f"update of {count:,} keys", samples, "mean")
    work.limit_speed(4.0, 8.0)
    report.works.append(work)


def listing(world: World, report: Report) -> None:
    """A whole directory at once: flat, as a tree, and with numbers in it."""
    sizes = world.sizes
    count = sizes.listing
    flat = {f"key{n:06}": VALUE for n in range(count)}
    digits = [f"d{n}" for n in range(sizes.fan)]
    tree = {"/".join(path): VALUE for path in product(digits, repeat=4)}
    for shape, values in (("flat", flat), ("tree", tree)):
        prefix = f"/listing/{shape}"
        clients = world.connect(prefix)
        clients[OURS].update(values)
        jobs = {name: at_once(c.tree) for name, c in clients.items()}
        name = f"to_dict of {count:,} keys, {shape}"
        work = Work(name, run_rounds(jobs, world.rounds), "mean")
        work.limit("wall", 0.72, 0.62)
        work.limit("CPU", 0.60, 0.50, "cpu")
        requests = _count_requests(world, clients[OURS])
        work.checks.append(Check(f"{name}: requests", requests, 1, 1, unit=""))
        report.works.append(work)
        for client in clients.values():
            client.close()
    _listing_of_numbers(world, report)


def _count_requests(world: World, client: Subject) -> int:
    """Ask etcd how often it was read from."""
    # Not "getsFail": for every request etcd itself looks whether auth is on.
    before = store_counts(world.endpoint)["getsSuccess"]
    client.tree()
    return store_counts(world.endpoint)["getsSuccess"] - before


def _listing_of_numbers(world: World, report: Report) -> None:
    count = world.sizes.listing
    as_text = EtcdMap(world.endpoint, "/listing/ints")
    as_auto = EtcdMap(world.endpoint, "/listing/ints", codec="auto")
    as_auto.mapping.update({f"key{n:06}": n * 7919 for n in range(count)})
    jobs = {OURS: at_once(as_text.tree), OURS_AUTO: at_once(as_auto.tree)}
    work = Work(
        f"to_dict of {count:,} ints", run_rounds(jobs, world.rounds), "mean", OURS
    )
    measured = work.ratio(OURS_AUTO)
    assert measured is not None
    what = f"{work.name}: codec auto, compared with text"
    work.checks.append(Check(what, measured, float("inf"), 1.3))
    report.works.append(work)
    as_text.close()
    as_auto.close()


def https(world: World, report: Report) -> None:
    """The same over TLS, on one etcd that speaks both."""
    count = world.sizes.operations
    names, values = names_for(count), [VALUE] * count
    with http_and_https() as ways:
        if ways is None:
            return
        clients: dict[str, Subject] = {
            "etcdmap, http": EtcdMap(ways.http, "/tls"),
            OURS: EtcdMap(ways.https, "/tls", ways.ca),
            RAW: Raw(ways.https, "/tls", ways.ca),
        }
        with contextlib.suppress(ImportError):
            clients[PYTHON_ETCD] = PythonEtcd(ways.https, "/tls", ways.ca)
        for name in NAMES:
            clients[OURS].set(name, VALUE)
        get = _work(world, "https, m[k]", clients, lambda c: one_by_one(c.get, names))
        put = _work(
            world,
            "https, m[k] = v",
            clients,
            lambda c: one_by_one(c.set, names, values),
        )
        for client in clients.values():
            client.close()
    get.limit("p50", 0.55, 0.40)
    put.limit("p50", 0.72, 0.60)
    for work in (get, put):
        own = Work(work.name, work.samples, reference="etcdmap, http")
        own.limit("p50, compared with etcdmap over http", 1.3, 1.2)
        work.checks += own.checks
    report.works += [get, put]


#: In the order of a report.
CLIENTS = (OURS, OURS_AUTO, "etcdmap, http", PYTHON_ETCD, K3ETCD, RAW)

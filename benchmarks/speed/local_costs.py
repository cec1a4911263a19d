"""What costs no request: memory, the cache, the import."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import tempfile
import timeit
import tracemalloc

from benchmarks.speed.clients import OURS, PYTHON_ETCD, EtcdMap
from benchmarks.speed.measure import Sample, median, ratio, run_rounds
from benchmarks.speed.model import Check, Report, Work, World
from benchmarks.speed.workloads import VALUE

_TIME_IMPORT = (
    "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
)


def memory(world: World, report: Report) -> None:
    """The memory of what `to_dict` returns, and the most that it uses meanwhile."""
    count = world.sizes.listing
    clients = world.connect("/memory")
    clients[OURS].update({f"key{n:06}": VALUE for n in range(count)})
    figures = {}
    for name in (OURS, PYTHON_ETCD):
        if name not in clients:
            continue
        clients[name].tree()  # what is kept for ever is there already
        gc.collect()
        tracemalloc.start()
        kept = clients[name].tree()
        measured = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del kept
        figures[name] = measured[0] / 2**20, measured[1] / 2**20
        report.about[f"memory, {name}"] = (
            f"{figures[name][0]:.2f} MiB live, {figures[name][1]:.2f} MiB at most"
        )
    live, peak = figures[OURS]
    name = f"memory of {count:,} keys"
    report.checks += [
        Check(f"{name}: what to_dict returns", live, 2.9, 2.3, unit=" MiB"),
        Check(f"{name}: the most that to_dict uses", peak, 6.0, 6.0, unit=" MiB"),
    ]
    for client in clients.values():
        client.close()


def cached(world: World, report: Report) -> None:
    """A hit of the cache, compared with a lookup in a dict."""
    plain = {f"k{n}": VALUE for n in range(100)}
    number = 1000 * world.sizes.operations
    ours = EtcdMap(world.endpoint, "/cached", cache_ttl=3600.0)
    ours.update(plain)
    ours.get("k50")

    def timed(statement: str) -> Sample:
        names = {"d": plain, "m": ours.mapping}
        taken = timeit.timeit(statement, globals=names, number=number)
        return {"mean": 1e6 * taken / number, "cpu": 1e6 * taken / number}

    jobs = {"dict": lambda: timed("d['k50']"), OURS: lambda: timed("m['k50']")}
    samples = run_rounds(jobs, world.rounds)
    report.works.append(Work("cached m[k]", samples, "mean", "dict"))
    measured = ratio(samples[OURS], samples["dict"], "mean")
    report.checks.append(
        Check("cached m[k], compared with a dict", measured, 25.0, 12.0)
    )
    ours.close()


def imports(world: World, report: Report) -> None:
    """Importing all of etcdmap, compared with requests, each in a new process."""
    with tempfile.TemporaryDirectory(prefix="etcdmap-pycache-") as cache:
        # Compiled before, as installed packages are; the warm-up does that.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def timed(statement: str) -> Sample:
            output = subprocess.run(
                [sys.executable, "-c", _TIME_IMPORT.format(statement)],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            ).stdout
            taken = 1e6 * float(output)
            return {"mean": taken, "cpu": taken}

        statements = {
            "requests": "import requests",
            # `import etcdmap` alone would load nothing yet.
            "etcdmap": "from etcdmap import EtcdMapping",
        }
        jobs = {name: functools.partial(timed, s) for name, s in statements.items()}
        samples = run_rounds(jobs, world.rounds)
    work = Work("import", samples, "mean", "requests")
    measured = ratio(samples["etcdmap"], samples["requests"], "mean")
    work.checks.append(
        Check(
            "from etcdmap import EtcdMapping, compared with import requests",
            measured,
            1.2,
        )
    )
    report.about["import"] = (
        f"etcdmap {median(samples['etcdmap'], 'mean') / 1000:.0f} ms, "
        f"requests {median(samples['requests'], 'mean') / 1000:.0f} ms"
    )
    report.works.append(work)

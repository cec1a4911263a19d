"""Run the workloads and show what came of them."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable

from benchmarks.speed import growth, local_costs, workloads
from benchmarks.speed.model import QUICK, Report, Sizes, World
from benchmarks.speed.report import as_json, as_markdown, as_text
from etcdmap.local import LocalCluster

WORKLOADS: dict[str, Callable[[World, Report], None]] = {
    "single": workloads.single,
    "threads": workloads.threads,
    "bulk": workloads.bulk,
    "listing": workloads.listing,
    "https": workloads.https,
    "memory": local_costs.memory,
    "cached": local_costs.cached,
    "import": local_costs.imports,
    **{f"growth-{curve.__name__}": curve for curve in growth.all_curves()},
}


def run(given: argparse.Namespace) -> int:
    """Measure what was asked for; gives 1 if a limit is missed and that counts."""
    only = tuple(given.only) or ("",)
    rounds, sizes = (1, QUICK) if given.quick else (given.rounds, Sizes())
    with LocalCluster() as cluster:
        report = Report(_about(cluster.version, rounds))
        world = World(cluster.endpoints[0], rounds, sizes)
        for name, workload in WORKLOADS.items():
            if name.startswith(only):
                print(f"{name} ...", file=sys.stderr, flush=True)
                workload(world, report)
    print(as_text(report))
    for path, make in ((given.json, as_json), (given.markdown, as_markdown)):
        if path is not None:
            path.write_text(make(report), encoding="utf-8")
    missed = [c for c in report.all_checks() if c.verdict == "MISSED"]
    return int(bool(missed and given.check))


def _about(etcd: str, rounds: int) -> dict[str, str]:
    names = ("requests", "urllib3", "cachetools", "python-etcd", "k3etcd")
    found = {name: _version(name) for name in names}
    versions = ", ".join(f"{name} {found[name]}" for name in names if found[name])
    return {
        "etcd": f"{etcd}, one member on this machine, 64 B values",
        "Python": f"{platform.python_version()}, {os.cpu_count()} CPUs",
        "packages": versions,
        "rounds": str(rounds),
        "load at the start": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""

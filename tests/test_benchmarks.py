"""The benchmarks run; what they measure here means nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.servers import binaries

ROOT = Path(__file__).resolve().parent.parent


ETCD = next(iter(binaries().values()), None)  # one is enough

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.skipif(ETCD is None, reason="no etcd found"),
    pytest.mark.skipif(
        not (ROOT / "benchmarks").exists(),
        reason="benchmarks are in the repository only",
    ),
]


def run(*arguments: str) -> str:
    """Run a benchmark and give what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "ETCDMAP_ETCD": str(ETCD)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_compare_runs_every_workload_and_writes_what_it_found(tmp_path: Path) -> None:
    """The quick form of the command ends well, with a table, a plot and JSON."""
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.svg"
    files = ["--json", str(figures), "--plot", str(plot)]
    printed = run("benchmarks.compare", "--quick", *files)
    found = json.loads(figures.read_text())
    assert {"m[k]", "m[k] = v", "missing key", "cached m[k]"} < set(found["workloads"])
    assert "Directory size" in found["growth"]
    assert all(
        check["reached"] in ("goal", "must")
        for check in found["checks"]
        if check["what"].endswith(": requests")
    )
    assert "m[k] = v, us for each operation" in printed
    assert plot.read_text().startswith("<svg ")


def test_steady_compares_reads_and_writes() -> None:
    """Its rows are there; whether a limit holds is nothing for a busy machine."""
    printed = run("benchmarks.steady", "--quick")
    for row in ("m[k] ", "m[k] = v, again", "m[k] = v, a new key"):
        assert f"\n{row}" in printed


def test_faults_runs_a_row_and_writes_what_it_found(tmp_path: Path) -> None:
    """The shortest one: a member is killed, and the client goes on."""
    figures = tmp_path / "figures.json"
    row = "heartbeat-kill-follower"
    printed = run("benchmarks.faults", "--rows", row, "--alone", "--json", str(figures))
    (found,) = json.loads(figures.read_text())
    assert f"\n{row} " in printed
    assert found["row"] == row
    assert found["runs"][0]["operations"] > 0


def test_memory_stays_within_the_bound_for_the_worst_answers() -> None:
    """SECURITY.md's multiple of max_response holds; this is measured, not timed."""
    printed = run("benchmarks.memory", "--limit=4", "--timeout=3")
    assert printed.count("\n") == 14


def test_live_measures_what_a_replica_costs() -> None:
    """It ends well, and memory stays within its bound."""
    printed = run("benchmarks.live")
    share = float(printed.partition("all keys read: ")[2].split()[0])
    assert share < 1.8
    assert 'm["a"]["b"]:' in printed

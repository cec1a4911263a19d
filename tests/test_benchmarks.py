"""The benchmarks run; what they measure here means nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    """The quick form of the command ends well, with a table and JSON."""
    figures = tmp_path / "figures.json"
    printed = run("benchmarks.compare", "--quick", "--json", str(figures))
    found = json.loads(figures.read_text())
    assert {"m[k]", "m[k] = v", "missing key", "cached m[k]"} < set(found["workloads"])
    assert "Directory size" in found["growth"]
    assert all(
        check["reached"] in ("aim", "limit")
        for check in found["checks"]
        if check["what"].endswith(": requests")
    )
    assert "m[k] = v, us for each operation" in printed


def test_steady_compares_reads_and_writes() -> None:
    """Its rows are there; whether a limit holds is nothing for a busy machine."""
    printed = run("benchmarks.steady", "--quick")
    for row in ("m[k] ", "m[k] = v, again", "m[k] = v, a new key"):
        assert f"\n{row}" in printed


def run_row(row: str, figures: Path) -> Any:
    """Run a row of the faults, a short one; give what was found."""
    command = ["benchmarks.faults", "--rows", row, "--alone", "--quick"]
    printed = run(*command, "--json", str(figures))
    assert f"\n{row} " in printed
    (found,) = json.loads(figures.read_text())
    assert found["row"] == row
    (one,) = found["runs"]
    assert one["operations"] > 0
    return one


def test_faults_runs_a_row_and_writes_what_it_found(tmp_path: Path) -> None:
    """A member is killed, and the client goes on."""
    assert run_row("heartbeat-kill-follower", tmp_path / "figures.json")["reports"]


def test_faults_runs_a_row_of_those_who_follow(tmp_path: Path) -> None:
    """The member that is followed is killed, and no change is lost."""
    followed = run_row("live-kill-follower", tmp_path / "figures.json")["followed"]
    assert followed["late"]
    assert followed["examples"] == []


def test_failover_writes_what_the_picture_is_drawn_from(tmp_path: Path) -> None:
    """Each call of etcdmap's threads is there; the leader was killed, then stopped."""
    calls = tmp_path / "failover.json"
    run("benchmarks.failover", "--quick", "--to", str(calls))
    found = json.loads(calls.read_text())
    for fault in ("killed", "stopped"):
        threads = found[fault]["etcdmap"]
        assert set(threads) == {"writes", "reads"}
        for start, seconds, failed in threads["writes"] + threads["reads"]:
            assert start >= 0
            assert seconds > 0
            assert failed in (0, 1)


def test_memory_stays_within_the_bound_for_the_worst_answers() -> None:
    """SECURITY.md's multiple of max_response holds; this is measured, not timed."""
    printed = run("benchmarks.memory", "--limit=4", "--timeout=3")
    assert printed.count("\n") == 14


def test_live_measures_what_a_replica_costs() -> None:
    """The quick form ends well; memory stays within its bound, and no event is lost."""
    printed = run("benchmarks.live", "--quick")
    checks = dict(re.findall(r"^ +(\S.*?) {2,}([\d.]+)", printed, re.M))
    assert float(checks["memory, all keys read, to to_dict()"]) < 1.8
    assert any(what.startswith('m["a"]["b"]') for what in checks)
    for how in ("16 writers", "beside a busy thread"):
        assert checks[f"{how}: not told one by one"] == "0"


def test_live_measures_a_part() -> None:
    """`--only` leaves out all else."""
    printed = run("benchmarks.live", "--quick", "--only", "reads", "--rounds", "2")
    assert "to a dict's lookup" in printed
    assert "writers" not in printed

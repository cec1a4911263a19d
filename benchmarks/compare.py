"""How fast etcdmap is, compared with the other clients of v2 and a bare socket.

    python -m benchmarks.compare --help

from a checkout.  The first run makes an environment of its own with the other
clients; ``--env`` keeps it for the next one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The other clients, as their packages are called.
PEERS = ("python-etcd", "k3etcd")

#: Set where the environment was made, and its Python runs this again.
INSIDE = "ETCDMAP_BENCHMARK_INSIDE"


def main(arguments: list[str] | None = None) -> int:
    """Make the environment and measure in it; `--quick` measures right here."""
    given = _parse(arguments)
    if given.quick or os.environ.get(INSIDE):
        # Only here: the environment may be what brings its dependencies.
        from benchmarks.speed.run import run

        return run(given)
    return run_inside(given.env, "benchmarks.compare", arguments)


def run_inside(directory: Path | None, module: str, arguments: list[str] | None) -> int:
    """Run a benchmark in an environment with all clients; give its exit status.

    Without a directory the environment is a temporary one.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with tempfile.TemporaryDirectory(prefix="etcdmap-benchmark-") as temporary:
        python = make_environment(directory or Path(temporary) / "env")
        command = [python, "-m", module, *given]
        environment = {**os.environ, INSIDE: "1"}
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


def make_environment(directory: Path) -> str:
    """Make a virtual environment with all clients, or take the one that is there."""
    directory = directory.absolute()
    python = directory / "bin" / "python"
    if not python.exists():
        print(f"making a virtual environment in {directory}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    wanted = [*PEERS, "--editable", f"{ROOT}[server]"]
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *wanted], check=True)
    return str(python)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Measure etcdmap, python-etcd, k3etcd and a bare socket on one "
        "etcd on this machine.  In every round, each of them does the same work, in "
        "random order.  A ratio is computed for each round; the median is shown.",
    )
    parser.add_argument(
        "--env",
        type=Path,
        metavar="DIR",
        help="make the virtual environment with all clients here, and keep it for the "
        "next run; default: a temporary directory",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=12,
        metavar="N",
        help="how often each workload is measured; default: %(default)s",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the workloads whose names begin with NAME; may be given "
        "several times",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="measure only a few operations, with the clients that this Python has, to "
        "see that the command runs",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the numbers of every round to this file",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to this file"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with status 1 if a limit is missed",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

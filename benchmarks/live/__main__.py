"""How quick a live replica is, beside python-etcd's watch loop and a dict.

    python -m benchmarks.live --help

from a checkout.  The first run makes an environment of its own with python-etcd;
``--env`` keeps it for the next one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.compare import INSIDE, run_inside

#: What is measured, and what that is.
PARTS = {
    "reads": "reads beside those of a dict, and memory",
    "told": "from the return of a write to a callback",
    "rate": "many writers: what gets lost, and CPU for each event",
    "busy": "1,000 events a second, with a thread that computes beside them",
}


def main(arguments: list[str] | None = None) -> int:
    """Make the environment and measure in it; `--quick` measures right here."""
    given = _parse(arguments)
    if given.quick or os.environ.get(INSIDE):
        return _measure(given)
    with tempfile.TemporaryDirectory(prefix="etcdmap-benchmark-") as temporary:
        directory = given.env or Path(temporary) / "env"
        return run_inside(directory, "benchmarks.live", arguments)


def _measure(given: argparse.Namespace) -> int:
    # Only here: the environment may be what brings their dependencies.
    from benchmarks.live import events, reads
    from benchmarks.speed.model import Check, Report
    from benchmarks.speed.report import as_text

    rounds = 2 if given.quick else given.rounds
    parts: dict[str, Callable[[], Iterator[Check]]] = {
        "reads": lambda: reads.reads(rounds),
        "told": lambda: events.told(rounds, count=10 if given.quick else 150),
        "rate": lambda: events.rate(count=400 if given.quick else 20_000),
        "busy": lambda: events.busy(seconds=0.2 if given.quick else 5.0),
    }
    chosen = given.only or list(PARTS)
    checks = [check for name in PARTS if name in chosen for check in parts[name]()]
    print(as_text(Report({}, checks=checks)))
    missed = any(check.verdict == "MISSED" for check in checks)
    return int(given.check and missed)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live",
        description="Measure a live replica on an etcd on this machine, python-etcd in "
        "the same rounds.",
        epilog="; ".join(f"{name}: {what}" for name, what in PARTS.items()),
    )
    parser.add_argument(
        "--env",
        type=Path,
        help="directory of the environment, kept; default: a temporary one",
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds of each kind; %(default)s"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(PARTS),
        help="only this part; may be given again",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="little of each, in this environment: to see that it runs",
    )
    parser.add_argument(
        "--check", action="store_true", help="end with 1 if a limit is not met"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

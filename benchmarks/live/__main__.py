"""How quick a live replica is, beside python-etcd's watch loop and a dict.

    python -m benchmarks.live --help

from a checkout.  The first run makes an environment of its own with python-etcd;
``--env`` keeps it for the next one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.compare import INSIDE, run_inside

if TYPE_CHECKING:
    from benchmarks.speed.model import Check

# What they need is imported within: the environment may be what brings it.


def _reads(rounds: int, quick: bool) -> Iterator[Check]:
    from benchmarks.live.reads import reads

    return reads(rounds)


def _told(rounds: int, quick: bool) -> Iterator[Check]:
    from benchmarks.live.events import told

    return told(rounds, count=10 if quick else 300)


def _rate(rounds: int, quick: bool) -> Iterator[Check]:
    from benchmarks.live.events import rate

    return rate(count=400 if quick else 20_000)


def _busy(rounds: int, quick: bool) -> Iterator[Check]:
    from benchmarks.live.events import busy

    return busy(seconds=0.2 if quick else 5.0)


#: What can be measured: what that is, and what measures it.
PARTS: dict[str, tuple[str, Callable[[int, bool], Iterator[Check]]]] = {
    "reads": ("the time of reads, compared with a dict, and the memory", _reads),
    "told": ("the time from the return of a write to the callback", _told),
    "rate": (
        "what is lost while many writers write, and the CPU time for each event",
        _rate,
    ),
    "busy": (
        "1,000 events a second, while another thread computes",
        _busy,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Make the environment and measure in it; `--quick` measures right here."""
    given = _parse(arguments)
    if given.quick or os.environ.get(INSIDE):
        return _measure(given)
    return run_inside(given.env, "benchmarks.live", arguments)


def _measure(given: argparse.Namespace) -> int:
    from benchmarks.speed.model import Report
    from benchmarks.speed.report import as_text

    rounds = 2 if given.quick else given.rounds
    checks = [
        check
        for name, (_, measure) in PARTS.items()
        if not given.only or name in given.only
        for check in measure(rounds, given.quick)
    ]
    print(as_text(Report({}, checks=checks)))
    missed = any(check.verdict == "MISSED" for check in checks)
    return int(given.check and missed)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live",
        description="Measure a live replica with an etcd on this machine, and compare "
        "it with python-etcd in the same rounds.",
        epilog="; ".join(f"{name}: {what}" for name, (what, _) in PARTS.items()),
    )
    parser.add_argument(
        "--env",
        type=Path,
        metavar="DIR",
        help="make the virtual environment with python-etcd here, and keep it for the "
        "next run; default: a temporary directory",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=15,
        metavar="N",
        help="how many rounds of the parts reads and told are measured; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(PARTS),
        help="run only this part (see below); may be given several times",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="measure only a little, with the clients that this Python has, to see "
        "that the command runs",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with status 1 if a limit is missed",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

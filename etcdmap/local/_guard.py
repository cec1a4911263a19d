"""The guard: a process that owns the etcd processes of one LocalCluster.

Run as a script, with the standard library only, and never imported by the
package.  Its standard input is a socket to the process that made the cluster
(the owner).  Requests and answers are lines of JSON: ``[number, what to do,
*arguments]`` and ``[number, error or null, result]``.

Why a process of its own: when the owner dies, by whatever means, the socket
ends and the owner's process id is no longer the parent's; a running Python
process is then still there to kill the members and to remove the files.

When the guard itself is killed, Linux kills the members (PR_SET_PDEATHSIG);
elsewhere they stay, so there the guard must not be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

#: Seconds between looks at the parent's process id and for ended members.
#: The socket tells at once that the owner died, unless a child of the owner
#: (fork without exec, in an extension module) holds a copy of it.
TICK = 0.2

PR_SET_PDEATHSIG = 1


class Guard:
    """Answers the requests of one owner; ``close`` ends everything."""

    def __init__(self, owner: int, *inherited: int) -> None:
        self.owner = owner
        self.inherited = inherited  # descriptors that the members get, too
        self.run_dir = ""
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: list[socket.socket] = []

    # --- requests: each takes JSON values and returns one ------------------

    def do_open(self, run_dir: str, ports: int) -> list[int]:
        """Make the directory to run in, and take free ports."""
        os.mkdir(run_dir, 0o700)
        self.run_dir = run_dir
        os.chdir(run_dir)  # where the members' sockets are
        self.ports = [_reserve_port() for _ in range(ports)]
        numbers = [sock.getsockname()[1] for sock in self.ports]
        while self.ports and sys.platform != "linux":  # nobody else could bind them
            self.ports.pop().close()
        return numbers

    def do_spawn(self, name: str, argv: list[str], log: str) -> None:
        """Start a member."""
        with open(log, "ab") as output:
            self.members[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.inherited,
                # Safe: this process has one thread.
                preexec_fn=_dies_with(os.getpid()),
            )

    def do_signal(self, name: str, number: int) -> bool:
        """Signal a member; tells whether it was running.

        After SIGSTOP and SIGKILL, the member has stopped or ended.
        """
        process = self.members.get(name)
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
        elif number == signal.SIGSTOP and hasattr(os, "waitid"):
            # It has to reach all threads.  (macOS has this from Python 3.13 on.)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return True

    def do_status(self) -> dict[str, tuple[int, int | None]]:
        """Tell (process id, exit status or None) of each member."""
        return {name: (p.pid, p.poll()) for name, p in self.members.items()}

    def do_serves(self, name: str) -> bool:
        """Tell whether a member answers other members already."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            # It listens for a while before it answers.
            sock.settimeout(0.05)
            # A relative name, as a socket's path may have about 100 characters only.
            # etcd wants a "port" in it, and takes it as a part of the name.
            sock.connect(f"{name}:1")
            sock.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return sock.recv(1) != b""
        return False

    # --- the loop ----------------------------------------------------------

    def serve(self, sock: socket.socket) -> None:
        """Answer requests until the owner is gone or closes the line."""
        buffer = b""
        while True:
            ready, _, _ = select.select([sock], [], [], TICK)
            self.do_status()  # reaps the members that have ended
            if ready:
                data = sock.recv(65536)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    sock.sendall(self.answer(line))
            elif os.getppid() != self.owner:
                return

    def answer(self, line: bytes) -> bytes:
        """Carry out one request; gives its result, or what went wrong."""
        number, do, *arguments = json.loads(line)
        error = result = None
        try:
            result = getattr(self, f"do_{do}")(*arguments)
        except (OSError, subprocess.SubprocessError) as exc:
            error = str(exc)
        return json.dumps([number, error, result]).encode() + b"\n"

    def close(self) -> None:
        """Kill all members and remove the directory they ran in."""
        for process in self.members.values():
            process.kill()  # a stopped process dies of it, too
        for process in self.members.values():
            process.wait()
        if self.run_dir:
            shutil.rmtree(self.run_dir, ignore_errors=True)


def _reserve_port() -> socket.socket:
    """Take a free port, so that nobody but a member gets it.

    Linux: bound without SO_REUSEADDR the port is exclusively ours; with the
    option set afterwards, a process that sets it too (Go does) can listen
    there as long as we don't.  Nothing else is given the port meanwhile, not
    even while the member is down; connecting to it is refused as usual.
    """
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def _dies_with(guard: int) -> Callable[[], None] | None:
    """Make the hook that ties a member's life to the guard's, on Linux."""
    try:
        # Loaded before the fork: little may be done after it.
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # no ctypes, or not Linux
        return None

    def hook() -> None:  # pragma: no cover - runs between fork and exec
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before the call
            os._exit(1)

    return hook


def main() -> None:
    """Serve the owner at standard input, then clean up."""
    # Whoever signals all processes (a terminal, a service manager) means the
    # owner.  Handlers, not SIG_IGN, which the members would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    guard = Guard(*map(int, sys.argv[1:]))
    with socket.socket(fileno=0) as sock:
        try:
            with contextlib.suppress(ConnectionError):
                guard.serve(sock)
        finally:
            guard.close()


if __name__ == "__main__":  # pragma: no cover - isolated from coverage's hook, too
    main()

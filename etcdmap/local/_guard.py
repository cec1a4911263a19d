"""The guard: a process that owns the etcd processes of one LocalCluster.

Run as a script, with the standard library only, and never imported by the
package.  Its standard input is a socket to the process that made the cluster
(the owner).  Requests and answers are lines of JSON.

Why a process of its own: when the owner dies, by whatever means, the socket
ends and the owner's process id is no longer the parent's; a running Python
process is then still there to kill the members and to remove the files.

When the guard itself is killed, Linux kills the members (PR_SET_PDEATHSIG);
elsewhere they stay, so there the guard must not be killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds between looks at the parent's process id and for ended members.
#: The socket tells at once that the owner died, unless a child of the owner
#: (fork without exec, in an extension module) holds a copy of it.
TICK = 0.2

#: A killed owner's guard needs a moment to let go of the directory.
LOCK_WAIT = 2.0

PR_SET_PDEATHSIG = 1


class GuardError(Exception):
    """A request failed in a way that the owner should be told."""


class Guard:
    """Answers the requests of one owner; ``close`` ends everything."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.run_dir = ""
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: list[socket.socket] = []
        self.lock_fd = -1

    # --- requests: each takes JSON values and returns one ------------------

    def do_lock(self, path: str) -> bool:
        """Lock a directory against other clusters; tell whether it was made."""
        deadline = time.monotonic() + LOCK_WAIT
        created = False
        while self.lock_fd < 0:
            created |= _make_dir(path)
            self.lock_fd = _try_lock(os.path.join(path, "lock"), deadline)
        # For the message to whoever comes second.
        os.ftruncate(self.lock_fd, 0)
        os.write(self.lock_fd, str(self.owner).encode())
        return created

    def do_open(self, temp_dir: str, ports: int) -> dict[str, Any]:
        """Make the directory to run in, and take free ports."""
        self.run_dir = tempfile.mkdtemp(prefix="etcdmap-", dir=temp_dir)
        os.chdir(self.run_dir)  # where the members' sockets are
        self.ports = [_reserve_port() for _ in range(ports)]
        numbers = [sock.getsockname()[1] for sock in self.ports]
        if sys.platform != "linux":
            self._release_ports()  # nobody else could bind them
        return {"run_dir": self.run_dir, "ports": numbers}

    def do_spawn(self, name: str, argv: list[str], log: str) -> int:
        """Start a member; returns its process id."""
        with open(log, "ab") as output:
            self.members[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # The directory stays locked as long as any process uses it.
                pass_fds=[self.lock_fd] if self.lock_fd >= 0 else [],
                # Safe: this process has one thread.
                preexec_fn=_dies_with(os.getpid()),
            )
        return self.members[name].pid

    def do_signal(self, name: str, number: int) -> bool:
        """Signal a member; tells whether it was running."""
        process = self.members.get(name)
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        if number == signal.SIGSTOP:
            _wait_stopped(process.pid)
        elif number == signal.SIGKILL:
            process.wait()
        return True

    def do_status(self) -> dict[str, tuple[int, int | None]]:
        """Tell (process id, exit status or None) of each member."""
        return {name: (p.pid, p.poll()) for name, p in self.members.items()}

    def do_serves(self, name: str) -> bool:
        """Tell whether a member answers other members already."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            # It listens for a while before it answers.
            sock.settimeout(0.05)
            sock.connect(peer_socket(name))
            sock.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return sock.recv(1) != b""
        return False

    def do_close(self, remove: list[str]) -> None:
        """Kill all members and remove what was made, and ``remove``."""
        running = [p for p in self.members.values() if p.poll() is None]
        for process in running:
            process.kill()  # a stopped process dies of it, too
        for process in running:
            process.wait()
        for path in filter(None, [self.run_dir, *remove]):
            _remove(path)
        self._release_ports()

    # --- the loop ----------------------------------------------------------

    def serve(self, sock: socket.socket) -> None:
        """Answer requests until the owner is gone or says ``close``."""
        for line in self._lines(sock):
            request = json.loads(line)
            self.answer(sock, request)
            if request["do"] == "close":
                return

    def _lines(self, sock: socket.socket) -> Iterator[bytes]:
        buffer = b""
        while True:
            ready, _, _ = select.select([sock], [], [], TICK)
            self.do_status()  # reaps the members that have ended
            if ready:
                data = sock.recv(65536)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                yield from lines
            elif os.getppid() != self.owner:
                return

    def answer(self, sock: socket.socket, request: dict[str, Any]) -> None:
        """Carry out one request and send its result, or what went wrong."""
        reply: dict[str, Any] = {"id": request["id"]}
        method: Callable[..., Any] = getattr(self, "do_" + request["do"])
        try:
            reply["result"] = method(**request.get("arguments", {}))
        except (GuardError, OSError, subprocess.SubprocessError) as exc:
            reply["error"] = str(exc)
        sock.sendall(json.dumps(reply).encode() + b"\n")

    def _release_ports(self) -> None:
        for sock in self.ports:
            sock.close()
        self.ports.clear()


def peer_socket(name: str) -> str:
    """Name the socket at which a member hears others, in the run directory.

    A relative name, since a socket's path may have about 100 characters only.
    etcd wants a "port" in it, and takes it as a part of the name.
    """
    return f"{name}:1"


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


def _make_dir(path: str) -> bool:
    try:
        os.makedirs(path, mode=0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise GuardError(f"data_dir {path} is not a directory") from None
        return False
    return True


def _try_lock(path: str, deadline: float) -> int:
    """Lock a file: a descriptor, or -1 to try again."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:  # removed by a cluster that failed to start
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one that held the lock may have removed the file.
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.EACCES):
            os.close(fd)
            raise
        if time.monotonic() >= deadline:
            user = os.read(fd, 20).decode(errors="replace")
            os.close(fd)
            raise GuardError(
                f"data_dir {os.path.dirname(path)} is in use by another "
                f"LocalCluster, of process {user}: close that, or take another "
                "data_dir"
            ) from exc
        time.sleep(0.02)
    os.close(fd)
    return -1


def _dies_with(guard: int) -> Callable[[], None] | None:
    """Make the hook that ties a member's life to the guard's, on Linux."""
    if sys.platform != "linux":
        return None
    try:
        # Loaded before the fork: little may be done after it.
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):  # built without it
        return None

    def hook() -> None:  # pragma: no cover - runs between fork and exec
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it died before the call
            os._exit(1)

    return hook


def _wait_stopped(pid: int) -> None:
    """Wait until SIGSTOP has reached all threads of a child, or it ended."""
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def main() -> None:
    """Serve the owner at standard input, then clean up."""
    # Whoever signals all processes (a terminal, a service manager) means the
    # owner.  Handlers, not SIG_IGN, which the members would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    guard = Guard(int(sys.argv[1]))
    with socket.socket(fileno=0) as sock:
        try:
            with contextlib.suppress(ConnectionError):
                guard.serve(sock)
        finally:
            guard.do_close([])


if __name__ == "__main__":  # pragma: no cover - isolated from coverage's hook, too
    main()

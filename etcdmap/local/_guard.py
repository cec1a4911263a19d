"""The guard: a process that owns the etcd processes and files of one LocalCluster.

Run as a script, with the standard library only.  Its standard input is a socket
to the process that made the cluster, the owner.  Requests and answers are lines of
JSON: ``[number, what to do, *arguments]`` and ``[number, error or null, result]``.

Why a process of its own: it outlives the owner, however that ends, and then kills
the members and removes their files.  When the guard itself is killed, Linux kills
the members (PR_SET_PDEATHSIG); on other systems they go on running.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

#: Seconds between looks at the parent's process id, which tells that the owner died
#: even if a child that it forked holds a copy of the socket, which then does not end.
TICK = 0.2

PR_SET_PDEATHSIG = 1

# What a data directory holds besides the members' own files.
MANIFEST = "cluster.json"
DRAFT = "cluster.json.new"
LOCK = "lock"

#: Tries to lock a data directory, a ``TICK`` apart: the guard of an owner that was
#: killed needs a moment to let go of it.
LOCK_TRIES = 10

#: Where ports come from that a data directory keeps.  The system gives those above to
#: any connection, and one of these may have them at the next start.
LASTING_PORTS = range(20_000, 30_000)


class Guard:
    """Serves one owner.  Each ``do_`` method is a request: JSON values in, one out."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.run_dir = ""
        self.locks: list[int] = []
        self.unkept: list[str] = []  # removed in the end, as run_dir is
        self.new_dir = ""  # also removed, if nobody else has put anything into it
        self.data_dir = ""
        self.manifest: dict[str, Any] = {}  # what the data directory says of itself
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: list[socket.socket] = []

    def do_open(self, run_dir: str, ports: int, first: int | None = None) -> list[int]:
        """Make the directory to run in, and take ports: as many, or from one on.

        Else those that the data directory had before, or free ones.
        """
        os.mkdir(run_dir, 0o700)
        self.run_dir = run_dir
        os.chdir(run_dir)  # where the members' sockets are
        named = range(first, first + ports) if first else self.manifest.get("ports", ())
        if named:
            self.ports = [_reserve_named_port(number) for number in named]
        else:
            reserve = _reserve_lasting_port if self.data_dir else _reserve_port
            self.ports = [reserve() for _ in range(ports)]
        numbers = [sock.getsockname()[1] for sock in self.ports]
        self.manifest["ports"] = numbers
        while self.ports and sys.platform != "linux":  # else no member could bind them
            self.ports.pop().close()
        return numbers

    def do_hold(self, path: str, names: list[str], token: str) -> str:
        """Lock a data directory, and return the token of the cluster in it.

        If there is none, a new cluster gets the token given, and all its files are
        removed in the end unless ``do_keep`` is called.
        """
        made = not os.path.exists(path)
        try:
            _refuse_foreign(path)
            self.locks.append(_lock(path, self.owner))
            self.data_dir = path
            self.manifest = _read_manifest(path, len(names))
            if not self.manifest:
                logs = [f"{name}.log" for name in names]
                own = [*names, *logs, MANIFEST, DRAFT, LOCK]
                self.unkept = [os.path.join(path, name) for name in own]
                self.new_dir = path if made else ""
                self.manifest = {"members": len(names), "token": token}
                _write_manifest(path, self.manifest)
        except OSError as exc:
            raise OSError(f"data_dir {path} can't be used: {exc}") from exc
        return str(self.manifest["token"])

    def do_keep(self) -> None:
        """Keep the files of a new cluster, and its ports: it has started."""
        if self.data_dir:
            _write_manifest(self.data_dir, self.manifest)
        self.unkept, self.new_dir = [], ""

    def do_spawn(self, name: str, argv: list[str], log: str) -> int:
        """Start a member, and return the size that its log had before."""
        with open(log, "ab") as output:
            start = output.tell()
            self.members[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.locks,  # whoever can write there holds them
                # Safe: this process has one thread.
                preexec_fn=_dies_with(os.getpid()),
            )
            return start

    def do_signal(self, name: str, number: int) -> bool:
        """Signal a member, and return whether it was running.

        After SIGSTOP and SIGKILL, the member has stopped or ended on return.
        """
        process = self.members.get(name)
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
        elif number == signal.SIGSTOP and hasattr(os, "waitid"):
            # Threads that it has not reached yet would still answer.  (macOS has
            # waitid from Python 3.13 on.)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return True

    def do_status(self, name: str) -> tuple[int | None, int | None]:
        """Return a member's process id while it runs, and its exit status after."""
        process = self.members.get(name)
        if process is None:
            return None, None
        code = process.poll()
        return (process.pid if code is None else None), code

    def do_serves(self, name: str) -> bool:
        """Return whether a member answers other members already."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.05)  # it listens for a while before it answers
            # Relative, since longer paths than about 100 characters are refused.
            # etcd demands a "port", and takes it for a part of the name.
            sock.connect(f"{name}:1")
            sock.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return sock.recv(1) != b""
        return False

    def serve(self, sock: socket.socket) -> None:
        """Answer requests until the owner is gone or closes the line."""
        buffer = b""
        while True:
            ready, _, _ = select.select([sock], [], [], TICK)
            for process in self.members.values():
                process.poll()  # else one that has ended stays a zombie
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
        """Carry out a request, and return its answer."""
        number, do, *arguments = json.loads(line)
        error = result = None
        try:
            result = getattr(self, f"do_{do}")(*arguments)
        except (OSError, subprocess.SubprocessError) as exc:
            error = str(exc)
        return json.dumps([number, error, result]).encode() + b"\n"

    def close(self) -> None:
        """Kill all members, and remove their files."""
        for process in self.members.values():
            process.kill()  # a stopped process dies of it, too
        for process in self.members.values():
            process.wait()
        for path in (self.run_dir, *self.unkept):
            shutil.rmtree(path, ignore_errors=True)  # not files, not links
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.new_dir)


def _refuse_foreign(path: str) -> None:
    found = set(os.listdir(path)) if os.path.exists(path) else set()
    if MANIFEST not in found and not found <= {LOCK, DRAFT}:
        raise OSError(
            "it is not empty, and holds no cluster that LocalCluster has made: "
            "take another data_dir"
        )


def _lock(path: str, owner: int) -> int:
    """Make a directory, if there is none, and return the descriptor of its lock."""
    name, user = os.path.join(path, LOCK), ""
    for _ in range(LOCK_TRIES):
        os.makedirs(path, 0o700, exist_ok=True)
        # Another cluster may fail to start now, and remove its lock.
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(name)):
                    os.ftruncate(fd, 0)
                    os.write(fd, b"%d" % owner)  # for the message below
                    return fd
            except (BlockingIOError, PermissionError):  # the latter on SMB
                user = os.read(fd, 20).decode(errors="replace")
            os.close(fd)
        time.sleep(TICK)
    raise OSError(
        f"it is in use by another cluster, of process {user}: "
        "close that, or take another data_dir"
    )


def _read_manifest(path: str, members: int) -> dict[str, Any]:
    """Return what a directory says of the cluster in it; empty if there is none."""
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            found = json.load(file)
        count, token = int(found["members"]), str(found["token"])
        ports = [int(number) for number in found.get("ports", ())]
        if len(ports) not in (0, count):
            raise ValueError(f"{len(ports)} ports for {count} members")
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        raise OSError(f"{MANIFEST} can't be read: {exc!r}") from exc
    if count != members:
        raise OSError(
            f"it holds a cluster of {count}, not of {members}: "
            f"pass members={count}, or take another data_dir"
        )
    return {"members": count, "token": token, "ports": ports}


def _write_manifest(path: str, manifest: dict[str, Any]) -> None:
    draft = os.path.join(path, DRAFT)
    with open(draft, "w") as file:
        json.dump(manifest, file)
    # Whole or not at all, even if this process is killed.
    os.replace(draft, os.path.join(path, MANIFEST))


def _reserve_port(number: int = 0, *, again: bool = False) -> socket.socket:
    """Take a port, or any free one, so that nobody but a member gets it.

    On Linux a port bound without SO_REUSEADDR is ours alone.  With the option set
    afterwards, who sets it too (Go does) can listen there as long as we don't; the
    system gives the port to nobody else, even while the member is down.

    A port that was in use a moment ago is not free without the option: connections
    that have ended keep it for a minute.
    """
    sock = socket.socket()
    try:
        if again:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", number))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _reserve_named_port(number: int) -> socket.socket:
    try:
        return _reserve_port(number, again=True)
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", exc)
        raise OSError(
            f"port {number} can't be used ({why}): free it, or pass another with port="
        ) from exc


def _reserve_lasting_port() -> socket.socket:
    """Take a free port that is likely to be free at the next start too."""
    for number in random.sample(LASTING_PORTS, len(LASTING_PORTS)):
        with contextlib.suppress(OSError):
            return _reserve_port(number)
    return _reserve_port()


def _dies_with(guard: int) -> Callable[[], None] | None:
    """Return a hook by which a member ends with the guard; only on Linux."""
    try:
        import ctypes  # before the fork: little may be done after it

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
    # A terminal or a service manager may signal every process; whether the cluster
    # ends of it is for the owner to say.  The members would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    guard = Guard(owner=int(sys.argv[1]))
    with socket.socket(fileno=0) as sock:
        try:
            with contextlib.suppress(ConnectionError):
                guard.serve(sock)
        finally:
            guard.close()


if __name__ == "__main__":  # pragma: no cover - isolated from coverage's hook, too
    main()

"""The owner's side of the guard process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, Any

from etcdmap.errors import LocalClusterError
from etcdmap.local.binary import clean_environment

#: Longest wait for an answer, and for the end.  All answers are quick; the end
#: takes longer, since the members' data is removed.
_ANSWER_TIMEOUT = 30.0


class Guardian:
    """A running guard process, and the line to it.

    Threads: any thread may ask.  Forked children may not: the cluster belongs
    to the process that started it.

    Args:
        lock: the open lock of a data directory, for the guard and the members
            to hold as well; the caller closes it.

    Attributes:
        run_dir: the temporary directory in which the members run; made by
            ``ask("open", ...)``, and removed when the guard ends.
    """

    def __init__(self, lock: IO[str] | None = None) -> None:
        if not sys.executable:
            raise LocalClusterError("sys.executable is needed to run a guard process")
        self.run_dir = Path(tempfile.gettempdir(), f"etcdmap-{secrets.token_hex(8)}")
        self._data_lock = lock
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._asked = 0
        self._buffer = b""
        self._closed = False
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(theirs, [lock.fileno()] if lock else [])
        except OSError as exc:
            self._socket.close()
            raise LocalClusterError(f"the guard process can't start: {exc}") from exc
        self._socket.settimeout(_ANSWER_TIMEOUT)
        _alive.add(self)

    def status(self, name: str) -> tuple[int | None, int | None]:
        """Tell a member's (process id, exit status); None where there's none."""
        if self._closed and os.getpid() == self._owner:
            return None, None
        pid, code = self.ask("status").get(name, (None, None))
        return (pid if code is None else None), code

    def ask(self, do: str, *arguments: Any) -> Any:
        """Have the guard do something, and wait for its answer."""
        if os.getpid() != self._owner:
            raise LocalClusterError(
                f"this cluster belongs to process {self._owner}, which started it; "
                "a forked child can use its endpoints only"
            )
        if self._closed:
            raise LocalClusterError("the cluster is closed")
        with self._lock:
            try:
                error, result = self._exchange(do, arguments)
            except OSError as exc:
                raise LocalClusterError(
                    f"the guard process {self._process.pid} of the cluster does "
                    f"not answer ({exc}); the members are gone with it"
                ) from exc
        if error is not None:
            raise LocalClusterError(error)
        return result

    def close(self) -> None:
        """Kill the members and remove the directory they ran in; idempotent."""
        if os.getpid() != self._owner or self._closed:
            return
        with self._lock:
            with contextlib.suppress(OSError):  # the guard may be gone
                # That ends it, even if something else holds a copy of the socket.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._closed = True
        try:
            self._process.wait(timeout=_ANSWER_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Still there if the guard was killed.
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def _exchange(self, do: str, arguments: tuple[Any, ...]) -> tuple[str | None, Any]:
        self._asked += 1
        request = json.dumps([self._asked, do, *arguments])
        self._socket.sendall(request.encode() + b"\n")
        while True:
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("it has ended")
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            number, error, result = json.loads(line)
            # Ctrl-C may have left an earlier answer unread.
            if number == self._asked:
                return error, result

    def _forget(self) -> None:
        """Let go of the guard in a forked child."""
        self._closed = True
        # A copy of the socket would hide the owner's death, one of the lock the
        # end of the cluster.
        self._socket.close()
        if self._data_lock is not None:
            self._data_lock.close()
        # Not a child of this process: keeps Popen from looking for it.
        self._process.returncode = 0


def _spawn(stdin: socket.socket, inherited: list[int]) -> subprocess.Popen[bytes]:
    script = str(Path(__file__).with_name("_guard.py"))
    return subprocess.Popen(
        # Isolated: neither site packages nor PYTHON* variables matter to it.
        [sys.executable, "-I", "-S", script, *map(str, [os.getpid(), *inherited])],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
        cwd="/",
        pass_fds=inherited,
        # Ctrl-C in a terminal must reach neither it nor the members.
        start_new_session=True,
    )


_alive: weakref.WeakSet[Guardian] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for guardian in list(_alive):
        guardian._forget()


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=_after_fork_in_child)

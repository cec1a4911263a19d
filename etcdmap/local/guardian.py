"""The owner's side of the guard process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from etcdmap.errors import LocalClusterError
from etcdmap.local.binary import clean_environment

#: Longest wait for an answer.  All are quick but the one to ``close``, which
#: removes the members' data.
_ANSWER_TIMEOUT = 30.0


class Guardian:
    """A running guard process, and the line to it.

    Threads: any thread may ask.  Forked children may not: the cluster belongs
    to the process that started it.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise LocalClusterError("sys.executable is needed to run a guard process")
        self._run_dir: Path | None = None
        self._remove: tuple[Path, ...] = ()
        self._made: Path | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._asked = 0
        self._buffer = b""
        self._closed = False
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(theirs)
        except OSError as exc:
            self._socket.close()
            raise LocalClusterError(f"the guard process can't start: {exc}") from exc
        self._socket.settimeout(_ANSWER_TIMEOUT)
        _alive.add(self)

    @property
    def run_dir(self) -> Path:
        """The temporary directory in which the members run."""
        assert self._run_dir is not None, "open() first"  # noqa: S101 - a bug here
        return self._run_dir

    def open(self, ports: int) -> list[int]:
        """Make the directory to run in, and take free ports."""
        answer = self.ask("open", temp_dir=tempfile.gettempdir(), ports=ports)
        self._run_dir = Path(answer["run_dir"])
        return list(answer["ports"])

    def lock(self, path: Path) -> None:
        """Lock a data directory, made if need be, against other clusters."""
        if self.ask("lock", path=str(path)):
            self._made = path

    def remove_on_close(self, files: tuple[Path, ...]) -> None:
        """Have ``close`` remove these, too."""
        self._remove = files

    def keep_files(self) -> None:
        """Have ``close`` leave the data directory alone."""
        self._remove, self._made = (), None

    def spawn(self, name: str, argv: list[str], log: Path) -> None:
        """Start a member."""
        self.ask("spawn", name=name, argv=argv, log=str(log))

    def serves(self, name: str) -> bool:
        """Tell whether a member answers other members already."""
        return bool(self.ask("serves", name=name))

    def signal(self, name: str, number: int) -> bool:
        """Signal a member; tells whether it was running.

        After SIGSTOP and SIGKILL, the member has stopped or ended.
        """
        return bool(self.ask("signal", name=name, number=number))

    def status(self, name: str) -> tuple[int | None, int | None]:
        """Tell a member's (process id, exit status); None where there's none."""
        if self._closed and os.getpid() == self._owner:
            return None, None
        pid, code = self.ask("status").get(name, (None, None))
        return (pid if code is None else None), code

    def ask(self, do: str, **arguments: Any) -> Any:
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
                answer = self._exchange({"do": do, "arguments": arguments})
            except OSError as exc:
                raise LocalClusterError(
                    f"the guard process {self._process.pid} of the cluster does "
                    f"not answer ({exc}); the members are gone with it"
                ) from exc
        if "error" in answer:
            raise LocalClusterError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Kill the members and remove their files; idempotent."""
        if os.getpid() != self._owner or self._closed:
            return
        # A guard that is gone is as good as one that obeys.
        with contextlib.suppress(LocalClusterError):
            self.ask("close", remove=[str(path) for path in self._remove])
        self._closed = True
        self._socket.close()
        try:
            self._process.wait(timeout=_ANSWER_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._remove_rest()

    def _remove_rest(self) -> None:
        if self._run_dir is not None:  # still there if the guard was killed
            shutil.rmtree(self._run_dir, ignore_errors=True)
        if self._made is not None:
            # Only if empty: another cluster may have come in.
            with contextlib.suppress(OSError):
                self._made.rmdir()

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        # Numbered, as Ctrl-C may have left an answer unread.
        self._asked += 1
        line = json.dumps({"id": self._asked, **request}).encode() + b"\n"
        self._socket.sendall(line)
        while True:
            answer: dict[str, Any] = json.loads(self._read_line())
            if answer["id"] == self._asked:
                return answer

    def _read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("it has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _forget(self) -> None:
        """Let go of the guard in a forked child."""
        self._closed = True
        self._socket.close()
        # Not a child of this process: keeps Popen from looking for it.
        self._process.returncode = 0


def _spawn(stdin: socket.socket) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("_guard.py")
    return subprocess.Popen(
        # Isolated: neither site packages nor PYTHON* variables matter to it.
        [sys.executable, "-I", "-S", str(script), str(os.getpid())],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
        cwd="/",
        # Ctrl-C in a terminal must reach neither it nor the members.
        start_new_session=True,
    )


_alive: weakref.WeakSet[Guardian] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # A copy of the socket in a child would hide the owner's death.
    for guardian in list(_alive):
        guardian._forget()
    _alive.clear()


if hasattr(os, "register_at_fork"):  # POSIX
    os.register_at_fork(after_in_child=_after_fork_in_child)

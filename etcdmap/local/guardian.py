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
from pathlib import Path
from typing import Any

from etcdmap.errors import LocalClusterError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.local.binary import clean_environment

#: Longest wait for an answer, and for the guard's end.  Answers take 2 s at most; the
#: end may take longer, since the members' data is removed.
_ANSWER_TIMEOUT = 30.0


class Guardian:
    """A running guard process, and the line to it.

    Its members run in ``run_dir``, which ``ask("open", ...)`` makes and the guard
    removes when it ends.

    Threads: any thread may ask.  Forked children may not: the cluster belongs
    to the process that started it.
    """

    def __init__(self) -> None:
        name = f"etcdmap-{secrets.token_urlsafe(6)}"
        self.run_dir = Path(tempfile.gettempdir(), name)
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._asked = 0
        self._buffer = b""
        self._closed = False
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_TIMEOUT)
        try:
            with theirs:
                self._process = _spawn(theirs)
        except OSError as exc:
            self._socket.close()
            raise LocalClusterError(
                f"the guard process can't start ({exc}): "
                f"sys.executable must be a Python, not {sys.executable!r}"
            ) from exc

    def status(self, name: str) -> tuple[int | None, int | None]:
        """Return a member's process id while it runs, and its exit status after."""
        if self._closed:
            return None, None
        pid, code = self.ask("status", name)
        return pid, code

    def ask(self, do: str, *arguments: Any) -> Any:
        """Have the guard do something, and return its answer."""
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
        """End the guard, which kills the members and removes their files.

        A forked child only lets go of its copy of the line.
        """
        if os.getpid() != self._owner:
            self._socket.close()
            self._process.returncode = 0  # else Popen warns that it still runs
            return
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):  # the guard may be gone
                # That ends it, even if a forked child holds a copy of the socket.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
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
        number = error = result = None
        # Ctrl-C may have left the answer to an earlier request unread.
        while number != self._asked:
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("it has ended")
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            number, error, result = json.loads(line)
        return error, result


def _spawn(stdin: socket.socket) -> subprocess.Popen[bytes]:
    script = str(Path(__file__).with_name("_guard.py"))
    return subprocess.Popen(
        # Isolated: neither site packages nor PYTHON* variables matter to it.
        [sys.executable or "", "-I", "-S", script, str(os.getpid())],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
        cwd="/",
        # Ctrl-C in a terminal must reach neither it nor the members.
        start_new_session=True,
    )

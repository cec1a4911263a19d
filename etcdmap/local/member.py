"""One etcd process of a local cluster."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from pathlib import Path

from etcdmap.errors import LocalClusterError
from etcdmap.local import probe
from etcdmap.local.guardian import Guardian

#: Generous: a busy machine starts etcd slowly.
START_TIMEOUT = 30.0

_FIRST_LINES = 3
_LAST_LINES = 12
_LINE_WIDTH = 500


class Member:
    """One etcd process; made by ``LocalCluster``.

    A member that is started again has the same ports and data as before.

    Attributes:
        name: "m0", "m1" and so on.
        endpoint: its client URL, ``http://127.0.0.1:port``.
        peer_url: where the other members reach it: a Unix domain socket.
        data_dir: etcd's own directory.
        log_path: what etcd writes, over all its starts.

    Threads: all methods may be called from any thread, but not from a forked
    child.
    """

    def __init__(
        self,
        guardian: Guardian,
        *,
        name: str,
        endpoint: str,
        peer_url: str,
        home: Path,
        argv: list[str],
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.peer_url = peer_url
        self.data_dir = home / name
        self.log_path = home / f"{name}.log"
        self._guardian = guardian
        # Those that differ between members; the rest is given.
        self._argv = [
            *argv[:1],
            f"--name={name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={endpoint}",
            f"--advertise-client-urls={endpoint}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            *argv[1:],
        ]
        self._log_start = 0
        self._wanted = False
        self._paused = False

    def __repr__(self) -> str:
        return f"<Member {self.name} {self.endpoint}>"

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        return self._guardian.status(self.name)[0]

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self.pid is not None

    @property
    def paused(self) -> bool:
        """Whether the process is there and paused."""
        return self._paused and self.running

    @property
    def expected(self) -> bool:
        """Whether it should be healthy: started, and not paused."""
        return self._wanted and not self._paused

    def start(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Start the member, if it does not run.

        Args:
            wait: until it is healthy.  That needs a majority of the members:
                to start several, wait for the last only, or pass False and
                call ``LocalCluster.wait_healthy``.
            timeout: in seconds.

        Raises:
            LocalClusterError: it ended, or was not healthy in time.
        """
        if not self.running:
            self._launch()
        if wait:
            self.wait_healthy(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """Shut the member down (SIGTERM), if it runs; one paused is resumed.

        Args:
            timeout: seconds after which it is killed.
        """
        self._wanted = False
        self._signal(signal.SIGTERM)
        # Nothing else reaches a process that is paused.
        self._signal(signal.SIGCONT)
        self._paused = False
        for _ in probe.moments(timeout):
            if not self.running:
                return
        self.kill()

    def kill(self) -> None:
        """Kill the member (SIGKILL), if it runs; it has ended on return."""
        self._wanted = self._paused = False
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the member (SIGSTOP): it accepts, and answers nothing.

        Raises:
            LocalClusterError: it does not run.
        """
        self._paused = True
        if not self._signal(signal.SIGSTOP):
            self._paused = False
            raise LocalClusterError(f"{self.name} does not run: start it first")

    def resume(self) -> None:
        """Let a paused member go on (SIGCONT).

        Raises:
            LocalClusterError: it does not run.
        """
        if not self._signal(signal.SIGCONT):
            raise LocalClusterError(f"{self.name} does not run: start it first")
        self._paused = False

    def restart(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Stop the member, and start it as ``start`` does."""
        self.stop()
        self.start(wait=wait, timeout=timeout)

    def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the member is healthy: it serves, and there is a leader.

        Args:
            timeout: in seconds.

        Raises:
            LocalClusterError: it ended, or was not healthy in time.
        """
        trouble = ""
        for _ in probe.moments(timeout):
            self.check_running()
            trouble = probe.health(self.endpoint)
            if not trouble:
                return
        raise LocalClusterError(
            f"{self.name} at {self.endpoint} was not healthy within {timeout:g} s "
            f"({trouble}){self.log_tail()}"
        )

    def wait_serving(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the member answers other members; it may be alone still.

        Args:
            timeout: in seconds.

        Raises:
            LocalClusterError: it ended, or did not answer in time.
        """
        for _ in probe.moments(timeout):
            self.check_running()
            if self._guardian.serves(self.name):
                return
        raise LocalClusterError(
            f"{self.name} did not serve within {timeout:g} s{self.log_tail()}"
        )

    def check_running(self) -> None:
        """Raise an error with the end of the log, unless the member runs.

        Raises:
            LocalClusterError: it does not run.
        """
        pid, code = self._guardian.status(self.name)
        if pid is not None:
            return
        if not self._wanted:
            raise LocalClusterError(f"{self.name} does not run: start it first")
        raise LocalClusterError(
            f"{self.name} ended with exit status {code}{self.log_tail()}"
        )

    def log_tail(self) -> str:
        """Give what was logged since the last start, shortened in the middle."""
        first: list[str] = []
        last: deque[str] = deque(maxlen=_LAST_LINES)
        with (
            contextlib.suppress(OSError),
            self.log_path.open(encoding="utf-8", errors="replace") as log,
        ):
            log.seek(self._log_start)
            for line in log:
                # A flag that is refused is followed by pages of help.
                target = first if len(first) < _FIRST_LINES else last
                target.append(line.rstrip()[:_LINE_WIDTH])
        if len(last) == _LAST_LINES:
            last[0] = "..."
        lines = [*first, *last] or ["(empty)"]
        return "\n  ".join([f"; from {self.log_path}:", *lines])

    def _launch(self) -> None:
        try:
            self._log_start = self.log_path.stat().st_size
        except FileNotFoundError:
            self._log_start = 0
        self._wanted, self._paused = True, False
        self._guardian.spawn(self.name, self._argv, self.log_path)

    def _signal(self, number: int) -> bool:
        return self._guardian.signal(self.name, number)

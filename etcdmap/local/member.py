"""One etcd process of a local cluster."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from etcdmap.errors import LocalClusterError
from etcdmap.local import probe
from etcdmap.local.guardian import Guardian

#: Generous: a busy machine starts etcd slowly.
START_TIMEOUT = 30.0

_FIRST_LINES = 3
_LAST_LINES = 11
_LINE_WIDTH = 500


class Member:
    """One etcd process; made by ``LocalCluster``.

    A member that is started again has the same ports and data as before.
    Timeouts are in seconds.  ``LocalClusterError`` says that a member does not
    run where it has to, or that it ended or was not ready in time; then with the
    end of its log.

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
        name: str,
        peer_url: str,
        port: int,
        home: Path,
        argv: list[str],
    ) -> None:
        self.name = name
        self.endpoint = f"http://127.0.0.1:{port}"
        self.peer_url = peer_url
        self.data_dir = home / name
        self.log_path = home / f"{name}.log"
        self._guardian = guardian
        self._argv = [
            *argv[:1],
            f"--name={name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            *argv[1:],  # the user's are among these, and override what is here
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
            timeout: how long to wait.
        """
        if not self.running:
            self._log_start = 0
            with contextlib.suppress(FileNotFoundError):
                self._log_start = self.log_path.stat().st_size
            self._wanted, self._paused = True, False
            self._guardian.ask("spawn", self.name, self._argv, str(self.log_path))
        if wait:
            self.wait_healthy(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """Shut the member down (SIGTERM), if it runs; one paused is resumed.

        After the timeout it is killed.
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
        """Freeze the member (SIGSTOP): it accepts, and answers nothing."""
        self._paused = True
        if not self._signal(signal.SIGSTOP):
            self._paused = False
            raise LocalClusterError(f"{self.name} does not run: start it first")

    def resume(self) -> None:
        """Let a paused member go on (SIGCONT)."""
        if not self._signal(signal.SIGCONT):
            raise LocalClusterError(f"{self.name} does not run: start it first")
        self._paused = False

    def restart(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Stop the member, and start it as ``start`` does."""
        self.stop()
        self.start(wait=wait, timeout=timeout)

    def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the member is healthy: it serves, and there is a leader."""
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
        """Wait until the member answers other members; it may be alone still."""
        for _ in probe.moments(timeout):
            self.check_running()
            if self._guardian.ask("serves", self.name):
                return
        raise LocalClusterError(
            f"{self.name} did not serve within {timeout:g} s{self.log_tail()}"
        )

    def check_running(self) -> None:
        """Raise an error unless the member runs."""
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
        lines = []
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        # A flag that is refused is followed by pages of help.
        if len(lines) > _FIRST_LINES + _LAST_LINES:
            lines[_FIRST_LINES:-_LAST_LINES] = ["..."]
        shown = [line.rstrip()[:_LINE_WIDTH] for line in lines or ["(empty)"]]
        return "\n  ".join([f"; from {self.log_path}:", *shown])

    def _signal(self, number: int) -> bool:
        return bool(self._guardian.ask("signal", self.name, number))

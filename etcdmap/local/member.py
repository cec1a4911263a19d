"""One etcd process of a local cluster."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from etcdmap.errors import LocalClusterError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.local import probe
from etcdmap.local.guardian import Guardian

#: This is generous, because a busy machine starts etcd slowly.
START_TIMEOUT = 30.0

# How much of a log an error shows.
_FIRST_LINES = 3
_LAST_LINES = 11
_LINE_WIDTH = 500


def peer_url(name: str) -> str:
    """Return the address of a member for the other members: a Unix domain socket."""
    return f"unix://{name}:1"  # for the reason, see ``_guard.Guard.do_serves``


class Member:
    """One etcd process of a cluster; ``LocalCluster`` makes it.

    A member that is started again has the same port and data as before.  Timeouts are
    in seconds.  If a member does not run although it should, or is not ready in time,
    ``LocalClusterError`` is raised.  The error shows the member's log.

    Attributes:
        name: "m0", "m1" and so on.
        endpoint: the member's client URL, ``http://127.0.0.1:port``.
        data_dir: the directory in which etcd keeps its data.
        log_path: the file to which etcd logs; a restart appends to it.
        expected: whether the member should be healthy.  This is true if the methods of
            this object have started it, and have not paused, stopped or killed it
            since.

    Threads: any thread may call the methods, but a forked child may not.
    """

    def __init__(
        self, guardian: Guardian, name: str, port: int, home: Path, command: list[str]
    ) -> None:
        self.name = name
        self.endpoint = f"http://127.0.0.1:{port}"
        self.data_dir = home / name
        self.log_path = home / f"{name}.log"
        self.expected = False
        self._guardian = guardian
        self._argv = [
            *command[:1],
            f"--name={name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer_url(name)}",
            f"--initial-advertise-peer-urls={peer_url(name)}",
            *command[1:],  # last, so that the user's arguments override these
        ]
        self._log_start = 0

    def __repr__(self) -> str:
        return f"<Member {self.name} {self.endpoint}>"

    @property
    def pid(self) -> int | None:
        """The process id, or None if the member does not run."""
        return self._guardian.status(self.name)[0]

    @property
    def running(self) -> bool:
        """Whether the process exists; the process of a paused member does exist."""
        return self.pid is not None

    @property
    def paused(self) -> bool:
        """Whether the process exists and is paused."""
        return not self.expected and self.running

    def start(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Start the member, if it does not run.

        Args:
            wait: whether to wait until the member is healthy.  A member is healthy only
                while a majority of the members runs.  So if you start several members,
                wait only for the last of them, or pass False for all of them and call
                ``LocalCluster.wait_healthy``.
            timeout: how long to wait.
        """
        if not self.running:
            self.expected = True
            self._log_start = self._guardian.ask(
                "spawn", self.name, self._argv, str(self.log_path)
            )
        if wait:
            self.wait_healthy(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """Shut the member down (SIGTERM), if it runs; kill it after the timeout."""
        self.expected = False
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # while paused it would not notice SIGTERM
        for _ in probe.moments(timeout):
            if not self.running:
                return
        self.kill()

    def kill(self) -> None:
        """Kill the member (SIGKILL), if it runs, and wait until it has ended."""
        self.expected = False
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the member (SIGSTOP): it accepts connections, but never answers."""
        self._signal(signal.SIGSTOP, must_run=True)
        self.expected = False

    def resume(self) -> None:
        """Let a paused member continue (SIGCONT)."""
        self._signal(signal.SIGCONT, must_run=True)
        self.expected = True

    def restart(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Stop the member, and start it again as ``start`` does."""
        self.stop()
        self.start(wait=wait, timeout=timeout)

    def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the member is healthy: it serves clients and knows a leader."""
        probe.wait_for(self.check_healthy, timeout, "the member was not healthy")

    def wait_serving(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the member can answer other members, even if none runs yet."""
        probe.wait_for(self._check_serving, timeout, f"{self.name} did not serve")

    def check_running(self) -> None:
        """Raise an error unless the member runs."""
        pid, code = self._guardian.status(self.name)
        if pid is not None:
            return
        if not self.expected:
            raise LocalClusterError(f"{self.name} does not run: start it first")
        raise LocalClusterError(
            f"{self.name} ended with exit status {code}{self._log_tail()}"
        )

    def check_healthy(self) -> None:
        """Raise an error unless the member is healthy."""
        self.check_running()
        try:
            probe.check_health(self.endpoint)
        except probe.NotYet as exc:
            trouble = f"{self.name} at {self.endpoint}: {exc}"
            raise probe.NotYet(trouble + self._log_tail()) from exc

    def _check_serving(self) -> None:
        self.check_running()
        if not self._guardian.ask("serves", self.name):
            raise probe.NotYet(f"no answer{self._log_tail()}")

    def _log_tail(self) -> str:
        """Return what was logged since the last start, shortened in the middle."""
        lines = []
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        # A flag that is refused is followed by pages of help.
        if len(lines) > _FIRST_LINES + _LAST_LINES:
            lines[_FIRST_LINES:-_LAST_LINES] = ["..."]
        shown = [line.rstrip()[:_LINE_WIDTH] for line in lines or ["(empty)"]]
        return "\n  ".join([f"; from {self.log_path}:", *shown])

    def _signal(self, number: int, *, must_run: bool = False) -> None:
        if not self._guardian.ask("signal", self.name, number) and must_run:
            raise LocalClusterError(f"{self.name} does not run: start it first")

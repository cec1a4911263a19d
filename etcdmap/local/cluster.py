"""A cluster of real etcd processes on this machine.

How nothing is left behind: a guard process per cluster owns the members and
their temporary directory, and ends both when this process closes the cluster,
exits, or dies (see ``_guard.py``).

How a data directory outlives its ports: members reach each other through Unix
domain sockets, named relative to the directory they run in.  So the addresses
that etcd keeps in its data ("unix://m0:1") are true wherever and whenever the
cluster starts; only the client ports are new, and etcd announces those itself.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

from etcdmap.errors import LocalClusterError
from etcdmap.local import probe, store
from etcdmap.local.binary import find_binary, read_version
from etcdmap.local.guardian import Guardian
from etcdmap.local.member import START_TIMEOUT, Member

#: Where a port can't be kept free for a member (see ``_guard._reserve_port``),
#: another process is not expected to win this race five times running.
_START_ATTEMPTS = 5
_PORT_TAKEN = "address already in use"

#: An election takes one to two times its timeout, seldom twice that.
_LEADER_TIMEOUT = 10.0


class LocalCluster:
    """Real etcd processes with the v2 API, on free ports of 127.0.0.1.

    A context manager: starts on entry, closes on exit.  It also closes when it
    is garbage-collected and when the process ends, however that happens.  (What
    kills the guard process and this one at once ends the members, on Linux, but
    leaves the temporary directory.)  A forked child can use the endpoints, but
    neither control nor end the cluster.

    Every user of this machine can reach the endpoints; nobody else can.

    Args:
        members: how many etcd processes; 3 survive the loss of one.
        data_dir: where the data lasts, to be found again by a cluster of as
            many members; None for a temporary directory.  It must be empty, or
            from an earlier cluster, and one cluster may use it at a time.
        binary: the etcd to run; None to search as ``find_binary`` does.
        election_timeout: seconds without a leader before members elect another;
            None means 1.0, or 0.1 for a single member, which starts faster so.
        heartbeat: seconds between the leader's signs of life, at most a fifth
            of ``election_timeout``; None means a tenth of it.
        fsync: False trades the data's safety when the *machine* stops for
            speed (etcd's ``--unsafe-no-fsync``).
        extra_args: more arguments for every member; they come last, so they
            override those given here.
        start_timeout: seconds within which all members must be healthy; other
            timeouts are in seconds, too.

    Raises:
        ValueError: an argument is out of range.
        LocalClusterError: this is not a POSIX system.

    Threads: ``start`` and ``close`` belong to one thread; the rest may be
    called from any.
    """

    def __init__(
        self,
        members: int = 1,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        binary: str | os.PathLike[str] | None = None,
        election_timeout: float | None = None,
        heartbeat: float | None = None,
        fsync: bool = True,
        extra_args: tuple[str, ...] = (),
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        if os.name != "posix":
            raise LocalClusterError(
                "LocalCluster needs a POSIX system (Linux, macOS): on Windows, "
                "run it in WSL, or start etcd by other means"
            )
        if members < 1:
            raise ValueError(f"members must be at least 1, not {members}")
        self._count = members
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._binary = binary
        self._options = _timing(members, election_timeout, heartbeat)
        self._options += [] if fsync else ["--unsafe-no-fsync"]
        self._options += extra_args
        self._start_timeout = start_timeout
        self._version = ""
        self._members: tuple[Member, ...] = ()
        self._close: weakref.finalize[[], LocalCluster] | None = None

    def __enter__(self) -> LocalCluster:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self._running() else "not running"
        return f"<LocalCluster of {self._count}, {state}>"

    # --- lifetime ----------------------------------------------------------

    def start(self) -> LocalCluster:
        """Start all members and wait until they are healthy.

        A closed cluster may be started again, on new ports.

        Returns:
            The cluster itself.

        Raises:
            LocalClusterError: no etcd was found, a member did not start (the
                end of its log is shown), or ``data_dir`` can't be used.  No
                process and no file is left then.
        """
        if self._running():
            raise LocalClusterError("this cluster has been started already")
        binary = find_binary(self._binary)
        self._version = read_version(binary)
        for left in reversed(range(_START_ATTEMPTS)):
            try:
                self._start_once(binary)
                return self
            except LocalClusterError as exc:
                # The message shows the log.
                if not left or _PORT_TAKEN not in str(exc):
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Kill all members and remove their files, but for a ``data_dir``.

        May be called more than once.  etcd keeps every acknowledged write on
        disk, so killing it loses nothing.
        """
        if self._close is not None:
            self._close()

    def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until all members are healthy that should be.

        That is, those not stopped, killed or paused by the methods of
        ``Member``; and until these know each other's endpoints.

        Raises:
            LocalClusterError: a member ended by itself, none should be
                healthy, or not all were in time.
        """
        members = self._expected()
        trouble = ""
        for _ in probe.moments(timeout):
            for member in members:
                member.check_running()
            trouble = self._trouble(members)
            if not trouble:
                return
        raise LocalClusterError(
            f"the cluster was not healthy within {timeout:g} s: {trouble}"
        )

    # --- what there is -----------------------------------------------------

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, running or not; still there after ``close``."""
        if not self._members:
            raise LocalClusterError("this cluster has not been started")
        return self._members

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of all members, running or not."""
        return tuple(member.endpoint for member in self.members)

    @property
    def version(self) -> str:
        """The version of etcd, such as "3.5.1"."""
        if not self._version:
            raise LocalClusterError("this cluster has not been started")
        return self._version

    def member(self, endpoint: str) -> Member:
        """Find a member by its client URL, or by its name.

        Raises:
            LocalClusterError: there is none.
        """
        for member in self.members:
            if endpoint.rstrip("/") in (member.endpoint, member.name):
                return member
        raise LocalClusterError(
            f"no member at {endpoint}; there are {', '.join(self.endpoints)}"
        )

    def leader(self, timeout: float = _LEADER_TIMEOUT) -> Member:
        """Find the leader: it answers, and a majority of all members names it.

        Waits for an election that is going on.

        Raises:
            LocalClusterError: no member runs, or there was no leader in time.
        """
        self._expected()
        for _ in probe.moments(timeout):
            leader = self._look_for_leader()
            if leader is not None:
                return leader
        raise LocalClusterError(
            f"no leader within {timeout:g} s; a majority of {self._count} is needed, "
            f"running: {', '.join(member.name for member in self._expected())}"
        )

    # --- inside ------------------------------------------------------------

    def _running(self) -> bool:
        return self._close is not None and self._close.alive

    def _start_once(self, binary: Path) -> None:
        with contextlib.ExitStack() as stack:
            token, lock = store.new_token(), None
            if self._data_dir is not None:
                held = store.hold(self._data_dir, self._count)
                token, lock = stack.enter_context(held)
            guardian = Guardian(lock)
            self._close = weakref.finalize(self, guardian.close)
            try:
                self._members = self._make_members(guardian, str(binary), token)
                self._launch()
                self.wait_healthy(self._start_timeout)
            except BaseException:
                self._members = ()
                self._close()
                raise

    def _make_members(
        self, guardian: Guardian, binary: str, token: str
    ) -> tuple[Member, ...]:
        ports = guardian.ask("open", str(guardian.run_dir), self._count)
        home = self._data_dir or guardian.run_dir
        # The sockets' names, see ``_guard.Guard.do_serves``.
        peers = {name: f"unix://{name}:1" for name in store.member_names(self._count)}
        shared = [
            "--initial-cluster=" + ",".join(map("=".join, peers.items())),
            f"--initial-cluster-token={token}",
            *_ALWAYS,
            *self._options,
        ]
        return tuple(
            Member(guardian, name, url, port, home, [binary, *shared])
            for (name, url), port in zip(peers.items(), ports, strict=True)
        )

    def _launch(self) -> None:
        """Start all members: at the same time, unless they are new.

        A new member first asks the others whether they have a cluster already.
        One that has just begun to start leaves the question open, until after
        2 s the asker goes on; one that is not there, or serves, costs nothing.
        """
        for member in self._members:
            new = not member.data_dir.exists()
            member.start(wait=False)
            if new:
                member.wait_serving(self._start_timeout)

    def _expected(self) -> list[Member]:
        """List the members that should be healthy."""
        members = [member for member in self.members if member.expected]
        if not members:
            raise LocalClusterError("no member runs: start one first")
        return members

    def _trouble(self, members: list[Member]) -> str:
        """Tell what keeps members from being healthy; "" if nothing does."""
        for member in members:
            trouble = probe.health(member.endpoint)
            if trouble:
                return f"{member.name}: {trouble}{member.log_tail()}"
        # A member hears of another's endpoint with a heartbeat's delay.
        endpoints = {member.endpoint for member in members}
        for member in members:
            if not endpoints <= probe.known_endpoints(member.endpoint):
                return f"{member.name} does not know all other members yet"
        return ""

    def _look_for_leader(self) -> Member | None:
        """Find a member that answers, and that a majority calls the leader.

        A majority, since a member that was paused while it led takes itself
        for the leader until it hears of the election.
        """
        answers = {member: probe.raft(member.endpoint) for member in self._expected()}
        votes = [leader for _, leader in answers.values()]
        for member, (own, _) in answers.items():
            if own and votes.count(own) * 2 > self._count:
                return member
        return None


#: Quiet, and to standard error, which is a file: so in etcd 3.4 and 3.5.
_ALWAYS = (
    "--initial-cluster-state=new",
    "--enable-v2=true",
    "--logger=zap",
    "--log-outputs=stderr",
    "--log-level=warn",
)


def _timing(
    members: int, election_timeout: float | None, heartbeat: float | None
) -> list[str]:
    if election_timeout is None:
        election_timeout = 1.0 if members > 1 else 0.1
    if heartbeat is None:
        heartbeat = election_timeout / 10
    # etcd's own limits; it would say the same in its log.
    if not 0.001 <= heartbeat <= election_timeout / 5 <= 10.0:
        raise ValueError(
            "heartbeat must be at least 0.001 s and at most a fifth of "
            "election_timeout, and that at most 50 s; not "
            f"{heartbeat:g} and {election_timeout:g}"
        )
    return [
        f"--heartbeat-interval={round(heartbeat * 1000)}",
        f"--election-timeout={round(election_timeout * 1000)}",
    ]

"""A cluster of real etcd processes on this machine.

How nothing is left behind: each cluster has a guard process, which owns the members and
their files.  When this process closes the cluster, exits, or dies, the guard ends the
members and removes the files (see ``_guard.py``).

How a data directory can be used again with other ports: members reach each other
through Unix domain sockets, whose names are relative to the directory in which the
members run.  So the addresses that etcd keeps in its data ("unix://m0:1") stay right
wherever and whenever the cluster starts.  Only the client ports may change, and etcd
announces those itself.  The directory remembers them, so that they only change when the
caller asks for other ones.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import weakref
from pathlib import Path
from urllib.parse import quote

from etcdmap.errors import LocalClusterError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.local import probe
from etcdmap.local.binary import find_binary, read_version
from etcdmap.local.guardian import Guardian
from etcdmap.local.member import START_TIMEOUT, Member, peer_url

#: How often to try to start.  On some systems a port can't be reserved for a member
#: (see ``_guard._reserve_port``), and another process may take it first; that will
#: hardly happen five times in a row.
_START_ATTEMPTS = 5
_PORT_TAKEN = "address already in use"

#: An election takes one to two times its timeout, and seldom twice that time.
_LEADER_TIMEOUT = 10.0

_LAST_PORT = 65535


class LocalCluster:
    """A cluster of real etcd processes with the v2 API, on ports of 127.0.0.1.

    It is a context manager that starts the cluster on entry and closes it on exit.  The
    cluster is also closed when this object is garbage-collected, and when the process
    ends for whatever reason.  For this, a guard process runs beside the members.  If
    the guard and this process are killed together, temporary files are left behind, and
    on macOS the members also go on running.  A forked child can use the endpoints, but
    it can't control the cluster.

    Every user of this machine can reach the endpoints; nobody else can.

    Args:
        members: how many etcd processes to run; a cluster of 3 survives the loss of
            one.
        data_dir: a directory that keeps the data; None for a temporary directory.  The
            directory must be empty, or come from an earlier cluster with the same
            number of members.  Only one cluster at a time may use it.
        port: the client port of the first member; the second member gets the next
            higher port, and so on.  With None, the members get the ports that were used
            with ``data_dir`` before, or free ports if there were none.
        binary: the etcd to run; None to search for one as ``find_binary`` does.
        election_timeout: seconds without a leader after which the members elect a new
            leader.  None means 1.0 for several members, and 0.1 for a single member,
            which then starts faster.
        heartbeat: seconds between the messages by which the leader shows that it is
            alive; at most a fifth of ``election_timeout``.  None means a tenth of
            ``election_timeout``.
        fsync: whether etcd waits until each write is on the disk.  False makes writes
            faster, but loses data if the *machine* stops (this is etcd's option
            ``--unsafe-no-fsync``).
        extra_args: more arguments for every etcd process; they override the arguments
            that come from the options above.
        start_timeout: seconds within which all members must be healthy.  The timeouts
            of the methods are in seconds, too.

    Raises:
        ValueError: an argument is out of range.
        LocalClusterError: this is not a POSIX system.  The methods raise this error if
            a member has ended unexpectedly, if no member runs, or if a timeout is over.

    Threads: call ``start`` and ``close`` from one thread only; any thread may call the
    other methods.
    """

    def __init__(
        self,
        members: int = 1,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        port: int | None = None,
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
        if port is not None and not 1 <= port <= _LAST_PORT + 1 - members:
            raise ValueError(
                f"port must be from 1 to {_LAST_PORT + 1 - members} "
                f"with members={members}, not {port}"
            )
        self._names = [f"m{number}" for number in range(members)]
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._port = port
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
        return f"<LocalCluster of {len(self._names)}, {state}>"

    def start(self) -> LocalCluster:
        """Start all members, wait until they are healthy, and return the cluster.

        A closed cluster may be started again.  Without ``port`` and ``data_dir``, it
        gets new ports each time.

        Raises:
            LocalClusterError: no etcd was found, a member did not start, or
                ``data_dir`` or a port can't be used.  Even in this case, no process and
                no file is left behind.
        """
        if self._running():
            raise LocalClusterError("this cluster has been started already")
        binary = find_binary(self._binary)
        self._version = read_version(binary)
        for _ in range(_START_ATTEMPTS - 1):
            try:
                return self._start_once(binary)
            except LocalClusterError as exc:
                if _PORT_TAKEN not in str(exc):  # the text contains etcd's log
                    raise
        return self._start_once(binary)

    def close(self) -> None:
        """Kill all members and remove their files, except in a ``data_dir``.

        You may call this more than once.  etcd keeps every acknowledged write on disk,
        so no data is lost when a member is killed.
        """
        if self._close is not None:
            self._close()

    def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the members are healthy and know each other's endpoints.

        Members that the methods of ``Member`` have stopped, killed or paused don't
        count.
        """
        members = self._expected()
        probe.wait_for(
            lambda: _check_healthy(members), timeout, "the cluster was not healthy"
        )

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, whether they run or not; also available after ``close``."""
        if not self._members:
            raise LocalClusterError("this cluster has not been started")
        return self._members

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of all members, whether they run or not."""
        return tuple(member.endpoint for member in self.members)

    def url(self, prefix: str = "/") -> str:
        """Return the URL of a directory, for ``ETCDMAP_URL`` and ``from_url``.

        >>> cluster.url("/app")
        'etcd://127.0.0.1:2379/app'
        """
        hosts = ",".join(url.removeprefix("http://") for url in self.endpoints)
        return f"etcd://{hosts}/{quote(prefix.lstrip('/'))}"

    @property
    def version(self) -> str:
        """The version of the etcd that runs, such as "3.5.1"."""
        if not self._version:
            raise LocalClusterError("this cluster has not been started")
        return self._version

    def member(self, endpoint: str) -> Member:
        """Return the member with this client URL or this name, such as "m0"."""
        for member in self.members:
            if endpoint.rstrip("/") in (member.endpoint, member.name):
                return member
        raise LocalClusterError(
            f"no member at {endpoint}; there are {', '.join(self.endpoints)}"
        )

    def leader(self, timeout: float = _LEADER_TIMEOUT) -> Member:
        """Return the leader; if an election is going on, wait for its result."""
        return probe.wait_for(self._find_leader, timeout, "no leader")

    def _running(self) -> bool:
        return self._close is not None and self._close.alive

    def _start_once(self, binary: Path) -> LocalCluster:
        guardian = Guardian()
        self._close = weakref.finalize(self, guardian.close)
        # Two clusters that are made here must not look like one cluster to a client.
        token = secrets.token_hex(8)
        try:
            if self._data_dir is not None:
                token = guardian.ask("hold", str(self._data_dir), self._names, token)
            self._members = self._make_members(guardian, str(binary), token)
            for member in self._members:
                member.start(wait=False)
                # A new member asks the others whether they have a cluster already,
                # and waits 2 s for one that has only begun to start.
                member.wait_serving(self._start_timeout)
            self.wait_healthy(self._start_timeout)
            guardian.ask("keep")
        except BaseException:
            self._members = ()
            self._close()
            raise
        return self

    def _make_members(
        self, guardian: Guardian, binary: str, token: str
    ) -> tuple[Member, ...]:
        run_dir, count = str(guardian.run_dir), len(self._names)
        ports = guardian.ask("open", run_dir, count, self._port)
        home = self._data_dir or guardian.run_dir
        peers = ",".join(f"{name}={peer_url(name)}" for name in self._names)
        command = [
            binary,
            f"--initial-cluster={peers}",
            f"--initial-cluster-token={token}",
            "--initial-cluster-state=new",
            "--enable-v2=true",
            # Log little, and to standard error, which is a file, in etcd 3.4 and 3.5.
            "--logger=zap",
            "--log-outputs=stderr",
            "--log-level=warn",
            *self._options,
        ]
        return tuple(
            Member(guardian, name, port, home, command)
            for name, port in zip(self._names, ports, strict=True)
        )

    def _expected(self) -> list[Member]:
        members = [member for member in self.members if member.expected]
        if not members:
            raise LocalClusterError("no member runs: start one first")
        return members

    def _find_leader(self) -> Member:
        answers = {}
        for member in self._expected():
            with contextlib.suppress(probe.NotYet):
                answers[member] = probe.raft(member.endpoint)
        count = len(self._names)
        votes = [leader for _, leader in answers.values()]
        for member, (own, _) in answers.items():
            # A majority is needed: a member that was paused while it was the leader
            # still believes so until it hears of the election.
            if votes.count(own) * 2 > count:
                return member
        running = ", ".join(member.name for member in self._expected())
        raise probe.NotYet(
            f"an election takes a majority of {count} members; running: {running}"
        )


def _check_healthy(members: list[Member]) -> None:
    endpoints = {member.endpoint for member in members}
    for member in members:
        member.check_running()  # for all members first, as its errors say more
    for member in members:
        member.check_healthy()
        # A member learns the endpoints of the others one heartbeat later.
        if not endpoints <= probe.known_endpoints(member.endpoint):
            raise probe.NotYet(f"{member.name} does not know all other members yet")


def _timing(
    members: int, election_timeout: float | None, heartbeat: float | None
) -> list[str]:
    if election_timeout is None:
        election_timeout = 1.0 if members > 1 else 0.1
    if heartbeat is None:
        heartbeat = election_timeout / 10
    # These are etcd's own limits; it would report the same in its log.
    if not 0.001 <= heartbeat <= election_timeout / 5 <= 10.0:
        raise ValueError(
            "heartbeat must be at least 0.001 s and at most a fifth of "
            "election_timeout, and election_timeout must be at most 50 s; got "
            f"heartbeat={heartbeat:g} and election_timeout={election_timeout:g}"
        )
    return [
        f"--heartbeat-interval={round(heartbeat * 1000)}",
        f"--election-timeout={round(election_timeout * 1000)}",
    ]

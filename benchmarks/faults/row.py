"""What a row of the table is: a fault, who is hit by it, and how good is good."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from benchmarks.faults import actions
from benchmarks.faults.actions import Fault

#: Of a call, seconds: the client's default.
TIMEOUT = 5.0


class Row(NamedTuple):
    """One fault.

    Attributes:
        name: for the command line.
        title: for the table.
        fault: what is done.
        workload: what the clients do meanwhile; see `worker.WORKLOADS`.
        in_use: what the member that the client uses must be when the fault begins.
        split: whether members must be able to lose each other.
        outage: whether there is a time in which nothing can succeed, so that calls may
            fail, with an error that says so.
        honest: errors that need no outage, as pairs of a kind of operation and the
            name of a type.
        auth: whether users are checked.
        clients: how many processes use clients of their own.
        write_gap: most seconds without a successful write, or None.
        read_gap: the same for reads, by the threads that write as well.
        reader_gap: the same for a thread that only reads.
        oldest_read: most seconds that a value read may have been replaced, or None.
        lasts: how long the fault lasts, seconds, if not as long as usual.
        timeout: of a call, seconds, if not the command line's.
        beside: whether python-etcd does the same beside the client.
        watched: whether the cluster's events are followed, which is one request each.
        failures: most calls of one thread that may fail since the fault began, or
            keys of its bulk writes; None where none may, or where nothing can succeed.
        tolerated: counters that need not be zero.
        delay: most seconds that a bulk write may take longer than without a fault.
        deadlines: most timeouts that a bulk write may go on during the fault.
        options: further ones of the client under test.
        tail: how long it goes on after the fault, seconds: long enough for what a
            frozen member wakes up with.
        whole: how long the fault and its tail last at least, seconds.
        followed: whether a live replica and a watch follow what is written.
        proxied: whether they do so through a proxy, before the member in use.
        max_stale: of the replica, seconds.
        late: most seconds from when a write is acknowledged to when it is shown; of
            99 in 100 where there is no fault, as other programs are one for a few.
        gaps: whether history may be too short, so that differences are told.
    """

    name: str
    title: str
    fault: Fault
    workload: str = "mixed"
    in_use: Literal["leader", "follower"] = "follower"
    split: bool = False
    outage: bool = False
    honest: frozenset[tuple[str, str]] = frozenset()
    auth: bool = False
    clients: int = 1
    write_gap: float | None = None
    read_gap: float | None = None
    reader_gap: float | None = None
    oldest_read: float | None = None
    lasts: float | None = None
    timeout: float | None = None
    beside: bool = False
    watched: bool = True
    failures: int | None = None
    tolerated: frozenset[str] = frozenset()
    delay: float | None = None
    deadlines: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    tail: float = 4.0
    whole: float = 0.0
    followed: bool = False
    proxied: bool = False
    max_stale: float = 10.0
    late: float | None = None
    gaps: bool = False

    def quick(self) -> Row:
        """Make the fault as short as can be: only to see that the row runs."""
        return self._replace(lasts=1.0, tail=0.5, whole=0.0)


class Hit(NamedTuple):
    """A fault of one member, for the rows of each kind of writes."""

    name: str
    title: str
    fault: Fault
    in_use: Literal["leader", "follower"] = "follower"
    split: bool = False

    @property
    def kills(self) -> bool:
        """Whether connections end at once."""
        return self.name.startswith("kill")

    @property
    def elects(self) -> bool:
        """Whether a leader must be elected."""
        return "leader" in self.name


#: Something happens to the member that the client uses.
HITS = (
    Hit("kill-follower", "SIGKILL of a follower, in use", actions.kill_in_use),
    Hit("kill-leader", "SIGKILL of the leader, in use", actions.kill_leader, "leader"),
    Hit("stop-follower", "SIGSTOP of a follower, in use", actions.stop_in_use),
    Hit("stop-leader", "SIGSTOP of the leader, in use", actions.stop_leader, "leader"),
    Hit("cut-follower", "a follower, in use, cut off", actions.cut_in_use, split=True),
    Hit(
        "cut-leader", "the leader, in use, cut off", actions.cut_leader, "leader", True
    ),
)
#: The client uses a follower, and something happens to the leader.
AWAY = (
    Hit(
        "kill-leader-elsewhere", "SIGKILL of another one, it leads", actions.kill_leader
    ),
    Hit(
        "stop-leader-elsewhere", "SIGSTOP of another one, it leads", actions.stop_leader
    ),
    Hit(
        "cut-leader-elsewhere",
        "another one cut off, it leads",
        actions.cut_leader,
        split=True,
    ),
)

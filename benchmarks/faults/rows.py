"""The rows of the table: a fault, who is hit by it, and how good is good."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from benchmarks.faults import actions
from benchmarks.faults.actions import Fault

#: Of a call, seconds: the client's default.
TIMEOUT = 5.0
#: An election: 1 to 2 s without the leader's heartbeat, and a vote.
ELECTION = 2.2
#: Longest age of a session read, seconds, and what measuring it may add.
MAX_AGE = 2.0 + 1.0


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
        whole: how long the fault and what comes after it last at least, seconds.
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
    whole: float = 0.0
    followed: bool = False
    proxied: bool = False
    max_stale: float = 10.0
    late: float | None = None
    gaps: bool = False


def _contend(name: str, title: str, fault: Fault, *, split: bool = False) -> Row:
    return Row(
        f"contend-{name}",
        f"3 processes write the same keys, {title}",
        fault,
        workload="contend",
        # Never sent twice: what a leader that dies has seen, nobody can tell.
        honest=frozenset({("create", "OutcomeUnknown"), ("cas", "OutcomeUnknown")}),
        split=split,
        clients=3,
    )


class _Hit(NamedTuple):
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


_HITS = (
    _Hit("kill-follower", "SIGKILL of a follower, in use", actions.kill_in_use),
    _Hit("kill-leader", "SIGKILL of the leader, in use", actions.kill_leader, "leader"),
    _Hit("stop-follower", "SIGSTOP of a follower, in use", actions.stop_in_use),
    _Hit("stop-leader", "SIGSTOP of the leader, in use", actions.stop_leader, "leader"),
    _Hit("cut-follower", "a follower, in use, cut off", actions.cut_in_use, split=True),
    _Hit(
        "cut-leader", "the leader, in use, cut off", actions.cut_leader, "leader", True
    ),
)
_AWAY = (
    _Hit(
        "kill-leader-elsewhere", "SIGKILL of another one, it leads", actions.kill_leader
    ),
    _Hit(
        "stop-leader-elsewhere", "SIGSTOP of another one, it leads", actions.stop_leader
    ),
    _Hit(
        "cut-leader-elsewhere",
        "another one cut off, it leads",
        actions.cut_leader,
        split=True,
    ),
)


def _honest(*kinds: str) -> frozenset[tuple[str, str]]:
    return frozenset((kind, "OutcomeUnknown") for kind in kinds)


def _unfenced(hit: _Hit) -> Row:
    # What is sent once waits for its answer as long as it may.
    waits = hit.elects or not hit.kills
    return Row(
        f"unfenced-{hit.name}",
        f"writes that are sent once, {hit.title}",
        hit.fault,
        "unfenced",
        hit.in_use,
        split=hit.split,
        honest=_honest("append", "create", "mkdir", "cas", "set"),
        write_gap=TIMEOUT + 0.5 if waits else 0.3,
        # Longer than three calls that wait for their answers in vain.
        lasts=None if hit.kills else 3 * TIMEOUT + 1.0,
        beside=True,
        failures=1,
        # A set without a fence may come late; whoever uses it is told so.
        tolerated=frozenset({"old_value_back"}),
    )


def _heartbeat(hit: _Hit) -> Row:
    return Row(
        f"heartbeat-{hit.name}",
        f"a ttl of 4 s renewed every 0.5 s, {hit.title}",
        hit.fault,
        "heartbeat",
        hit.in_use,
        split=hit.split,
        honest=_honest("refresh"),
        # A beat, a call that fails, and what is left of an election.
        write_gap=0.5 + 2.0 + 0.5,
        lasts=None if hit.kills else 10.0,
        timeout=2.0,  # or the first call that fails lets the key expire
        beside=True,
        failures=1,
    )


def _bulk(hit: _Hit) -> Row:
    return Row(
        f"bulk-{hit.name}",
        f"2,000 keys in one call, {hit.title}",
        hit.fault,
        "bulk",
        hit.in_use,
        split=hit.split,
        lasts=None if hit.kills else 10.0,
        beside=True,
        watched=False,
        # What was in flight, if etcd's history went past it before it was looked up.
        honest=_honest("set"),
        failures=16,
        delay=1.5 + (ELECTION if hit.elects else 0.0),
    )


def _silent(name: str, title: str, *options: tuple[str, Any]) -> Row:
    return Row(
        name,
        f"10,000 keys in one call, {title}",
        actions.stop_all,
        "bulk-large",
        outage=True,
        lasts=4 * TIMEOUT,
        beside=True,
        watched=False,
        deadlines=2.0,
        options=options,
    )


def _live(name: str, title: str, fault: Fault, late: float | None, **more: Any) -> Row:
    return Row(
        f"live-{name}",
        f"a live replica and a watch, {title}",
        fault,
        "count",
        clients=4,
        whole=26.0,
        followed=True,
        late=late,
        **more,
    )


def _live_hit(hit: _Hit) -> Row:
    return _live(
        hit.name,
        hit.title.replace("in use", "followed"),
        hit.fault,
        # Silence is noticed by the looks at the member, each 2 s.
        0.5 if hit.kills else 4.0,
        in_use=hit.in_use,
        split=hit.split,
        # 4 s are nearly all that history holds, at 220 changes a second.
        gaps=not hit.kills,
    )


ROWS: tuple[Row, ...] = (
    Row(
        "kill-follower",
        "SIGKILL of the member in use, a follower",
        actions.kill_in_use,
        write_gap=0.15,
        read_gap=0.15,
    ),
    Row(
        "kill-leader",
        "SIGKILL of the leader, in use",
        actions.kill_leader,
        "mixed+reader",
        "leader",
        write_gap=ELECTION,
        reader_gap=0.15,
    ),
    Row(
        "kill-leader-elsewhere",
        "SIGKILL of the leader, client on a follower",
        actions.kill_leader,
        "mixed+reader",
        write_gap=ELECTION,
        reader_gap=0.15,
    ),
    Row(
        "stop-follower",
        "SIGSTOP of the member in use, a follower",
        actions.stop_in_use,
        write_gap=0.3,
        read_gap=0.15,
    ),
    Row(
        "stop-follower-reader",
        "the same, a reading thread beside it",
        actions.stop_in_use,
        "mixed+reader",
        write_gap=0.3,
        reader_gap=0.15,
    ),
    Row(
        "stop-leader",
        "SIGSTOP of the leader, in use",
        actions.stop_leader,
        "mixed+reader",
        "leader",
        write_gap=2.5,
        reader_gap=0.15,
    ),
    Row(
        "stop-leader-elsewhere",
        "SIGSTOP of the leader, client on a follower",
        actions.stop_leader,
        "mixed+reader",
        write_gap=2.5,
        reader_gap=0.15,
    ),
    Row(
        "cut-follower",
        "member in use cut off from its peers, a follower",
        actions.cut_in_use,
        split=True,
        write_gap=1.5,
        read_gap=1.5,
    ),
    Row(
        "cut-leader",
        "member in use cut off from its peers, the leader",
        actions.cut_in_use,
        "mixed",
        "leader",
        split=True,
        write_gap=2.5,
        read_gap=2.5,  # the one thread waits for the election
    ),
    Row(
        "cut-follower-reads",
        "a follower cut off, the client only reads",
        actions.cut_in_use,
        "read",
        split=True,
        read_gap=1.5,
        oldest_read=MAX_AGE,
    ),
    Row(
        "cut-leader-reads",
        "the leader cut off, the client only reads",
        actions.cut_in_use,
        "read",
        "leader",
        split=True,
        read_gap=1.5,
        oldest_read=MAX_AGE,
    ),
    Row(
        "rolling",
        "rolling restart of all members",
        actions.rolling_restart,
        write_gap=0.2 + ELECTION,
    ),
    Row(
        "two-killed",
        "2 of 3 killed for 5 s, one of them in use",
        actions.kill_two,
        "mixed+any",
        outage=True,
        reader_gap=0.15,
    ),
    Row(
        "all-killed",
        "all 3 killed, back after 3 s",
        actions.kill_all,
        outage=True,
    ),
    Row(
        "rebuilt",
        "cluster wiped and rebuilt on the same ports",
        actions.rebuild,
        outage=True,
    ),
    Row(
        "threads-kill",
        "8 threads, SIGKILL of the member in use",
        actions.kill_in_use,
        "threads",
        write_gap=0.15,
        read_gap=0.15,
    ),
    Row(
        "forks-kill",
        "4 forked children, SIGKILL of the member in use",
        actions.kill_in_use,
        "forks",
        write_gap=0.15,
        read_gap=0.15,
    ),
    Row("auth", "auth on, 8 threads, no fault", actions.calm, "threads", auth=True),
    _contend("kill-leader", "SIGKILL of the leader", actions.kill_leader),
    _contend("stop-follower", "SIGSTOP of a follower", actions.stop_in_use),
    _contend("stop-leader", "SIGSTOP of the leader", actions.stop_leader),
    _contend("cut-follower", "a follower cut off", actions.cut_in_use, split=True),
    _contend("cut-leader", "the leader cut off", actions.cut_leader, split=True),
    *map(_unfenced, (*_HITS, *_AWAY)),
    *map(_heartbeat, (*_HITS, *_AWAY)),
    *map(_bulk, _HITS),
    _silent("bulk-stop-all", "SIGSTOP of all members"),
    _silent("bulk-stop-all-unfenced", "the same with fence=False", ("fence", False)),
    _live("calm", "no fault", actions.calm, 0.005),
    *map(_live_hit, _HITS),
    _live("rolling", "rolling restart of all members", actions.rolling_restart, 0.5),
    _live(
        "all-killed", "all 3 killed, back after 3 s", actions.kill_all, 6.0, outage=True
    ),
    _live(
        "rebuilt",
        "cluster wiped and rebuilt",
        actions.rebuild,
        None,
        outage=True,
        gaps=True,
    ),
    _live(
        "rebuilt-past",
        "the same, and its index is past the old one",
        actions.rebuild_past,
        None,
        outage=True,
        proxied=True,
        gaps=True,
    ),
    _live(
        "outrun",
        "2,000 changes elsewhere while nothing gets through",
        actions.outrun,
        None,
        proxied=True,
        gaps=True,
    ),
    _live(
        "dropped",
        "all connections ended every 2 s",
        actions.drop_often,
        0.5,
        proxied=True,
    ),
    _live(
        "forgotten",
        "a middlebox forgets the poll",
        actions.forget_polls,
        3.0 + 1.0,
        proxied=True,
        max_stale=3.0,
        gaps=True,
    ),
    _live(
        "late",
        "answers come late",
        actions.answer_late,
        4.0,
        proxied=True,
        gaps=True,
    ),
)

"""All rows of the table."""

from __future__ import annotations

from typing import Any

from benchmarks.faults import actions
from benchmarks.faults.actions import Fault
from benchmarks.faults.row import AWAY, HITS, TIMEOUT, Hit, Row
from benchmarks.faults.rows_live import LIVE

#: An election: 1 to 2 s without the leader's heartbeat, and a vote.
ELECTION = 2.2
#: Longest age of a session read, seconds, and what measuring it may add.
MAX_AGE = 2.0 + 1.0


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


def _honest(*kinds: str) -> frozenset[tuple[str, str]]:
    return frozenset((kind, "OutcomeUnknown") for kind in kinds)


def _unfenced(hit: Hit) -> Row:
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


def _heartbeat(hit: Hit) -> Row:
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


def _bulk(hit: Hit) -> Row:
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
    *map(_unfenced, (*HITS, *AWAY)),
    *map(_heartbeat, (*HITS, *AWAY)),
    *map(_bulk, HITS),
    _silent("bulk-stop-all", "SIGSTOP of all members"),
    _silent("bulk-stop-all-unfenced", "the same with fence=False", ("fence", False)),
    *LIVE,
)

"""Faults: what is done to a cluster while clients use it, and undone again."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator

from benchmarks.faults.judge.events import Line
from etcdmap.local import LocalCluster, Member

from support.isolation import SplitCluster
from support.tcp_proxy import TcpProxy

#: How long faults last, seconds.
LASTS, ISOLATION_LASTS, OUTAGE_LASTS = 5.0, 12.0, 3.0
_CALM = 10.0
_STEP = 3.0
#: Between two ends, or losses, of connections; how late answers are, where they are.
_DROP_EVERY, _FORGET_EVERY, _LATE = 2.0, 6.0, 0.15
#: Changes elsewhere, twice as many as etcd's history holds.
_ELSEWHERE = 2_000


@dataclasses.dataclass
class Stage:
    """What a fault works on, and what it tells about itself.

    Attributes:
        cluster: of three members.
        in_use: the member that the (first) client uses when the fault begins.
        leader: the leader then.
        lasts: how long it lasts, seconds, where that is not `LASTS` and its like.
        began: when it began, as `time.monotonic` has it.
        ended: when it was over.
        wiped: from when to when the cluster lost its data.
        healthy: when a member first was healthy again after an outage.
        before_wipe: called just before the data is lost.
        after_wipe: called when the cluster is there again.
        proxy: what those who follow go through, in some rows.
    """

    cluster: LocalCluster
    in_use: Member
    leader: Member
    lasts: float | None = None
    began: float = 0.0
    ended: float = 0.0
    wiped: tuple[float, float] | None = None
    healthy: float | None = None
    before_wipe: Callable[[], None] = lambda: None
    after_wipe: Callable[[], None] = lambda: None
    proxy: TcpProxy | None = None


Fault = Callable[[Stage], None]


def calm(stage: Stage) -> None:
    """No fault."""
    time.sleep(_CALM)


def kill_in_use(stage: Stage) -> None:
    """Kill the member in use, and start it again."""
    _kill(stage, stage.in_use)


def kill_leader(stage: Stage) -> None:
    """Kill the leader, and start it again."""
    _kill(stage, stage.leader)


def _kill(stage: Stage, member: Member) -> None:
    member.kill()
    time.sleep(stage.lasts or LASTS)
    member.start()


def stop_in_use(stage: Stage) -> None:
    """Freeze the member in use for a while."""
    _stop(stage, stage.in_use)


def stop_leader(stage: Stage) -> None:
    """Freeze the leader for a while."""
    _stop(stage, stage.leader)


def stop_all(stage: Stage) -> None:
    """Freeze all members: they take connections and data, and say nothing."""
    _stop(stage, *stage.cluster.members)


def _stop(stage: Stage, *members: Member) -> None:
    for member in members:
        member.pause()
    time.sleep(stage.lasts or LASTS)
    for member in members:
        member.resume()


def cut_in_use(stage: Stage) -> None:
    """Cut the member in use off from the others, not from its clients."""
    _isolate(stage, stage.in_use)


def cut_leader(stage: Stage) -> None:
    """Cut the leader off from the others, not from its clients."""
    _isolate(stage, stage.leader)


def _isolate(stage: Stage, member: Member) -> None:
    cluster = stage.cluster
    assert isinstance(cluster, SplitCluster)
    cluster.isolate(member)
    time.sleep(stage.lasts or ISOLATION_LASTS)
    cluster.links.heal()


def rolling_restart(stage: Stage) -> None:
    """Restart one member after the other, as an upgrade does."""
    for member in stage.cluster.members:
        began = time.monotonic()
        member.restart()
        time.sleep(max(0.0, began + _STEP - time.monotonic()))


def kill_two(stage: Stage) -> None:
    """Kill the member in use and another one: no quorum is left."""
    others = [member for member in stage.cluster.members if member is not stage.in_use]
    _kill_some(stage, [stage.in_use, others[0]], LASTS)


def kill_all(stage: Stage) -> None:
    """Kill all members, and start them again with their data."""
    _kill_some(stage, list(stage.cluster.members), OUTAGE_LASTS)


def _kill_some(stage: Stage, members: list[Member], lasts: float) -> None:
    for member in members:
        member.kill()
    time.sleep(lasts)
    for member in members:
        member.start(wait=False)
    _wait_healthy(stage)


def rebuild(stage: Stage) -> None:
    """Kill all members, remove their data, and start them on the same ports."""
    members = stage.cluster.members
    stage.before_wipe()
    gone = time.monotonic()
    for member in members:
        member.kill()
    stage.wiped = (gone, time.monotonic())
    for member in members:
        shutil.rmtree(member.data_dir)
    time.sleep(OUTAGE_LASTS)
    for member in members:
        member.start(wait=False)
        member.wait_serving()  # else the next one waits for it
    _wait_healthy(stage)
    stage.after_wipe()


def _wait_healthy(stage: Stage) -> None:
    stage.cluster.leader()
    stage.healthy = time.monotonic()
    stage.cluster.wait_healthy()


# --- what happens to those who follow only


def forget_polls(stage: Stage) -> None:
    """Let nothing through any more on the connections that long polls use."""
    for _ in range(4):
        _proxy(stage).forget_polls()
        time.sleep(_FORGET_EVERY)


def drop_often(stage: Stage) -> None:
    """End all connections every now and then."""
    for _ in range(10):
        _proxy(stage).drop()
        time.sleep(_DROP_EVERY)


def answer_late(stage: Stage) -> None:
    """Have all answers come late."""
    _proxy(stage).delay = _LATE
    time.sleep(stage.lasts or LASTS)
    _proxy(stage).delay = 0.0


def outrun(stage: Stage) -> None:
    """Let nothing through while more happens elsewhere than history holds."""
    with _silent(stage):
        _write_elsewhere(stage)


def rebuild_past(stage: Stage) -> None:
    """Rebuild the cluster; its index is past the old one when anybody looks again."""
    index = _write_elsewhere(stage, 1)
    with _silent(stage):
        rebuild(stage)
        while _write_elsewhere(stage, 100) < index + _ELSEWHERE:
            pass


@contextlib.contextmanager
def _silent(stage: Stage) -> Iterator[None]:
    proxy = _proxy(stage)
    proxy.hold()
    yield
    proxy.let_go()


def _proxy(stage: Stage) -> TcpProxy:
    assert stage.proxy is not None, "this row is not proxied"
    return stage.proxy


def _write_elsewhere(stage: Stage, count: int = _ELSEWHERE) -> int:
    """Write to another directory; return the index of the last write."""
    line = Line(stage.in_use.endpoint, 10.0)
    index = 0
    with contextlib.closing(line):
        for number in range(count):
            answer = line.ask("PUT", "/v2/keys/elsewhere", f"value={number}")
            index = answer.body["node"]["modifiedIndex"]
    return index

"""Faults: what is done to a cluster while clients use it, and undone again."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable

from etcdmap.local import LocalCluster, Member

from support.isolation import SplitCluster

#: How long faults last, seconds.
LASTS, ISOLATION_LASTS, OUTAGE_LASTS = 5.0, 12.0, 3.0
_CALM = 10.0
_STEP = 3.0


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

"""Members that are cut off from each other for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from etcdmap.local import Member

from support.isolation import SplitCluster
from support.links import CutMode
from support.raw_http import ask
from support.servers import binaries
from support.waiting import soon


@pytest.fixture(scope="module")
def cluster(etcd_version: str) -> Iterator[SplitCluster]:
    """Give a cluster whose links can be cut; they are whole before each test."""
    with SplitCluster(3, binary=binaries()[etcd_version]) as split:
        yield split


@pytest.fixture(autouse=True)
def whole_links(cluster: SplitCluster) -> Iterator[None]:
    """Mend the links after a test, and wait until all members agree."""
    yield
    cluster.links.heal()
    assert soon(lambda: len({value_at(member) for member in cluster.members}) == 1)
    cluster.wait_healthy()


def put(member: Member, value: str) -> None:
    """Store a value through a member."""
    assert ask(member.endpoint, "PUT", "/v2/keys/k", f"value={value}").status < 300


def value_at(member: Member) -> str | None:
    """Read what a member holds, right or not."""
    node = ask(member.endpoint, "GET", "/v2/keys/k").json.get("node", {})
    value: str | None = node.get("value")
    return value


def answers_quorum_read(member: Member) -> bool:
    """Whether a member gives what all agree on; it would need milliseconds."""
    target = "/v2/keys/k?quorum=true"
    try:
        return ask(member.endpoint, "GET", target, timeout=1.5).status == 200
    except TimeoutError:
        return False  # after 7 s it would say 500


def leader_of(member: Member) -> str | None:
    """Tell whom a member takes for the leader; None: it knows of none."""
    answer = ask(member.endpoint, "GET", "/v2/members/leader")
    return str(answer.json["id"]) if answer.status == 200 else None


@pytest.mark.parametrize("mode", ["hang", "reset"])
def test_isolated_follower_serves_stale_reads_only(
    cluster: SplitCluster, mode: CutMode
) -> None:
    """A follower cut off answers plain reads with old values, and no quorum read."""
    leader = cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    put(leader, "old")
    assert soon(lambda: value_at(follower) == "old")
    cluster.isolate(follower, mode=mode)
    put(leader, "new")
    assert value_at(follower) == "old"
    assert not answers_quorum_read(follower)
    assert value_at(follower) == "old"
    cluster.links.heal()
    assert soon(lambda: value_at(follower) == "new")


def test_isolated_leader_steps_down(cluster: SplitCluster) -> None:
    """The others elect a new leader, and the old one notices."""
    leader = cluster.leader()
    others = [member for member in cluster.members if member is not leader]
    before = leader_of(leader)
    put(leader, "old")
    cluster.isolate(leader)
    assert soon(lambda: leader_of(leader) is None)
    assert soon(lambda: leader_of(others[0]) not in (None, before))
    put(others[0], "new")
    assert value_at(leader) == "old"
    cluster.links.heal()
    assert soon(lambda: value_at(leader) == "new")


def test_cut_between_followers_hurts_nobody(cluster: SplitCluster) -> None:
    """Only the link that was cut is."""
    leader = cluster.leader()
    one, other = (member for member in cluster.members if member is not leader)
    cluster.links.cut(one.name, other.name)
    put(one, "1")
    assert soon(lambda: value_at(other) == "1")
    assert cluster.leader() is leader


def test_cut_one_way_lets_the_other_way_pass(cluster: SplitCluster) -> None:
    """A follower that can't be heard still hears the leader."""
    leader = cluster.leader()
    deaf, heard = (member for member in cluster.members if member is not leader)
    cluster.links.cut(heard.name, leader.name, one_way=True)
    put(leader, "1")
    assert soon(lambda: value_at(heard) == "1")
    assert soon(lambda: value_at(deaf) == "1")


def test_restarted_member_is_known_again(cluster: SplitCluster) -> None:
    """A member's new process is the same member to the proxies."""
    leader = cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    follower.restart()
    cluster.isolate(follower)
    put(cluster.leader(), "missed")
    assert value_at(follower) != "missed"

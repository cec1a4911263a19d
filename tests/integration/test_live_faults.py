"""A live replica and a watch through faults: nothing lost, nothing twice, in order.

What is seen late is bounded, and `stale_for` never says less than the truth.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from etcdmap import EtcdMapping, Live, WatchExpired
from etcdmap.local import Member

from support.chain import Chain, Counters
from support.isolation import SplitCluster
from support.servers import newest
from support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.etcd

MAX_STALE = 2.0


@pytest.fixture(scope="module")
def split() -> Iterator[SplitCluster]:
    """Give three members of the newest etcd at hand, whose links can be cut."""
    with SplitCluster(3, binary=newest(), fsync=False) as cluster:
        yield cluster


@pytest.fixture
def cluster(split: SplitCluster) -> Iterator[SplitCluster]:
    """Give the three members, all well before and after the test."""
    yield split
    split.links.heal()
    for member in split.members:
        with contextlib.suppress(Exception):
            member.resume()
        if not member.running:
            member.start(wait=False)
    split.wait_healthy()


@pytest.fixture
def opened(cluster: SplitCluster, prefix: str) -> Iterator[Callable[..., EtcdMapping]]:
    """Give what makes mappings on the test's own directory."""
    with ExitStack() as stack:

        def make(endpoints: Any = cluster.endpoints, **options: Any) -> EtcdMapping:
            return stack.enter_context(EtcdMapping(endpoints, prefix, **options))

        yield make


def followed(cluster: SplitCluster, live: Live) -> Member:
    """Return the member that a replica follows."""
    follower: Any = live._feed.follower
    return cluster.member(follower._member.endpoint)


Fault = Callable[[SplitCluster, Live], None]


def kill_followed(cluster: SplitCluster, live: Live) -> None:
    """Kill it, and start it again."""
    member = followed(cluster, live)
    member.kill()
    time.sleep(1)
    member.start()


def stop_followed(cluster: SplitCluster, live: Live) -> None:
    """Stop it for longer than it takes to notice."""
    member = followed(cluster, live)
    member.pause()
    time.sleep(4)
    member.resume()


def cut_followed(cluster: SplitCluster, live: Live) -> None:
    """Cut it off for longer than it takes to notice."""
    cluster.isolate(followed(cluster, live))
    time.sleep(4)
    cluster.links.heal()


def restart_all(cluster: SplitCluster, live: Live) -> None:
    """Restart one by one."""
    for member in cluster.members:
        member.kill()
        member.start()


def all_down(cluster: SplitCluster, live: Live) -> None:
    """End all for two seconds."""
    for member in cluster.members:
        member.kill()
    time.sleep(2)
    for member in cluster.members:
        member.start(wait=False)
    cluster.wait_healthy()


def test_live_is_not_suspended_while_another_member_can_be_followed(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """A follower that dies is no outage: nobody is warned."""
    leader = cluster.leader()
    followers = [m.endpoint for m in cluster.members if m is not leader]
    reader = opened([*followers, leader.endpoint], shuffle=False)
    with reader.live() as live:
        states: list[str] = []
        live.subscribe_state(states.append)
        # Not the leader: an election may take longer than a replica waits to say so.
        assert followed(cluster, live) is not leader
        followed(cluster, live).kill()
        writer = opened()
        writer["k"] = 1
        assert live.wait(writer.index(), 10)
        assert (states, live.state, live.error) == ([], "following", None)


def test_live_of_an_idle_directory_goes_on_once_there_is_a_new_leader(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """What is asked of a member that still believes in the dead one is lost."""
    leader = cluster.leader()
    others = [m.endpoint for m in cluster.members if m is not leader]
    writer = opened(others, timeout=10)
    writer["k"] = 1
    reader = opened([leader.endpoint, *others], shuffle=False, timeout=10)
    with reader.live() as live:
        assert followed(cluster, live) is leader
        leader.kill()
        writer["k"] = 2
        acknowledged = time.monotonic()
        while live["k"] != 2:
            time.sleep(0.001)
        assert time.monotonic() - acknowledged < 3


@pytest.mark.parametrize(
    "fault", [kill_followed, stop_followed, cut_followed, restart_all, all_down]
)
def test_live_through_a_fault_loses_nothing(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping], fault: Fault
) -> None:
    """Each change is told once and in order, and the end is what etcd has.

    By a replica and by a watch.
    """
    reader, writer = opened(), opened()
    with reader.live(MAX_STALE) as live, reader.watch() as watch:
        chain = Chain(live.flat.to_dict())
        live.subscribe(chain)
        watched = Chain(live.flat.to_dict())

        def tell() -> None:
            for event in watch:
                watched(event)

        loop = threading.Thread(target=tell)
        loop.start()
        # Slow enough for what a silent member hides to be in etcd's history still.
        with Counters(writer, pause=0.02) as counters:
            time.sleep(0.3)
            fault(cluster, live)
            time.sleep(0.3)
        assert live.wait(writer.index(), 15)
        for key, last in counters.last.items():
            assert chain.wait(key, writer[key], 5)
            assert chain.content[key] >= last
            assert watched.wait(key, writer[key], 10)
        watch.close()
        loop.join(5)
        assert chain.faults == watched.faults == []
        assert watched.coalesced == 0
        assert chain.count > 5
        assert live == writer.to_dict()
        assert live.state == "following"


def seen_after(live: Live, writer: EtcdMapping, limit: float) -> float:
    """Write, and return the seconds from the acknowledgement to when it is seen.

    `stale_for` must not say less than that in between.
    """
    index = writer.set("seen", "yes")
    acknowledged = time.monotonic()
    while "seen" not in live:
        late = time.monotonic() - acknowledged
        assert live.stale_for > late - 0.05 or "seen" in live
        assert late < limit, (live.state, live.error)
        time.sleep(0.0005)
    assert live.wait(index, 10)
    return time.monotonic() - acknowledged


def others(cluster: SplitCluster, member: Member) -> list[str]:
    """Return the endpoints of all other members."""
    return [each.endpoint for each in cluster.members if each is not member]


def test_live_healthy_shows_a_change_at_once(
    opened: Callable[..., EtcdMapping],
) -> None:
    """What was acknowledged elsewhere is seen long before any look or proof."""
    writer = opened()
    with opened().live() as live:
        late = []
        for _ in range(20):
            late.append(seen_after(live, writer, 5))
            del writer["seen"]
            assert live.wait(writer.index())
        assert sorted(late)[10] < 0.25


@pytest.mark.parametrize(
    ("how", "limit"), [("kill", 4.0), ("pause", 6.0), ("cut", 6.0)]
)
def test_live_silence_of_the_followed_member_is_bounded(
    cluster: SplitCluster,
    opened: Callable[..., EtcdMapping],
    how: str,
    limit: float,
) -> None:
    """A change is seen in time, whatever became of the member that is followed."""
    with opened().live() as live:  # the proof is not what finds it
        leader = cluster.leader()
        if followed(cluster, live) is leader:
            follower: Any = live._feed.follower
            follower._member.endpoint = others(cluster, leader)[0]
            follower.prove()
        member = followed(cluster, live)
        writer = opened(others(cluster, member))
        writer["warm"] = 1
        if how == "cut":
            cluster.isolate(member)
        else:
            getattr(member, how)()
        assert seen_after(live, writer, limit) < limit


@contextlib.contextmanager
def behind_proxy(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> Iterator[tuple[TcpProxy, Live, Chain]]:
    """Give a proxy before a member, a replica over it, and who is told its events."""
    with (
        TcpProxy(cluster.endpoints[0]) as proxy,
        opened(proxy.endpoint).live(MAX_STALE) as live,
    ):
        chain = Chain(live.flat.to_dict())
        live.subscribe(chain)
        yield proxy, live, chain


def is_whole(live: Live, writer: EtcdMapping, chain: Chain) -> None:
    """Check that all is there after `Counters`, and nothing was lost on the way."""
    assert live == writer.to_dict()
    assert chain.wait("counter-0", writer["counter-0"], 5)
    assert chain.faults == []


def test_live_on_a_forgotten_connection_is_bounded(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """A middlebox that lets nothing through, and says nothing, is found out."""
    writer = opened()
    with (
        TcpProxy(cluster.endpoints[0]) as proxy,
        opened(proxy.endpoint).live(MAX_STALE) as live,
    ):
        assert live.wait(writer.set("before", 1))
        proxy.forget()
        assert seen_after(live, writer, MAX_STALE + 3) < MAX_STALE + 3


def test_live_through_dropped_connections_loses_nothing(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """A proxy that ends all connections again and again costs nothing but time."""
    writer = opened()
    with behind_proxy(cluster, opened) as (proxy, live, chain):
        with Counters(writer):
            for _ in range(10):
                time.sleep(0.2)
                proxy.drop()
        assert live.wait(writer.index(), 10)
        is_whole(live, writer, chain)
        assert chain.coalesced == 0


def test_live_whose_answers_come_late_loses_nothing(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """What is late is put together, and in order."""
    writer = opened()
    with behind_proxy(cluster, opened) as (proxy, live, chain):
        proxy.delay = 0.15
        with Counters(writer):
            time.sleep(2)
        assert live.wait(writer.index(), 15)
        is_whole(live, writer, chain)


def test_live_of_members_far_away_follows_them(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """What takes longer than it may at first is waited for longer."""
    writer = opened()
    with TcpProxy(cluster.endpoints[0]) as proxy:
        proxy.delay = 1.1
        with opened(proxy.endpoint, timeout=20).live() as live:
            end = time.monotonic() + 20
            while live.state != "following":
                assert time.monotonic() < end, live.error
                time.sleep(0.01)
            before = proxy.opened
            for number in range(3):
                assert live.wait(writer.set("k", number), 10)
            assert live.state == "following"
            assert proxy.opened - before < 10


def test_live_when_history_is_gone_tells_the_differences(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """`coalesced` events lead exactly from what was known to what is there."""
    writer = opened()
    writer.update({"stays": "s", "goes": "g", "changes": "old", "d": {"x": 1}})
    elsewhere = opened().keys_api
    with behind_proxy(cluster, opened) as (proxy, live, chain):
        proxy.delay = 3600
        proxy.forget()
        writer.update({"changes": "new", "comes": "c"})
        del writer["goes"], writer["d"]
        for number in range(1100):
            elsewhere.set("/elsewhere", str(number))
        proxy.delay = 0
        proxy.drop()
        assert live.wait(writer.index(), 10)
        assert live == writer.to_dict()
        assert chain.wait("comes", "c", 5)
        assert chain.content == writer.flat.to_dict()
        assert chain.faults == []
        assert chain.coalesced == chain.count == 5


@pytest.mark.parametrize("past_ours", [False, True], ids=["below", "past ours"])
def test_live_on_a_cluster_built_anew_shows_the_new_one(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping], past_ours: bool
) -> None:
    """Whatever the new index is, what the old cluster held is told to have gone."""
    writer = opened()
    for number in range(10):
        writer["old"] = number
    with opened().live(MAX_STALE) as live:
        chain = Chain(live.flat.to_dict())
        live.subscribe(chain)
        index = writer.set("last", 1)
        assert live.wait(index)
        for member in cluster.members:
            member.kill()
        for member in cluster.members:
            shutil.rmtree(member.data_dir)
        for member in cluster.members:
            member.start(wait=False)
            member.wait_serving()
        cluster.wait_healthy()
        anew = opened()
        anew["new"] = "n"
        if past_ours:
            while (anew.set("many", 1) or 0) < (index or 0) + 20:
                pass
        assert chain.wait("new", "n", 10)
        assert chain.wait("old", None, 5)
        assert live.wait(anew.index(), 5)
        assert live == anew.to_dict()
        assert chain.faults == []


def test_watch_after_the_history_says_so(opened: Callable[..., EtcdMapping]) -> None:
    """A watch never heals a gap in silence."""
    mapping = opened()
    index = mapping.set("k", 1)
    for number in range(1100):
        mapping.keys_api.set("/elsewhere", str(number))
    with mapping.watch(after=index, timeout=5) as watch:
        with pytest.raises(WatchExpired):
            next(watch)
        assert watch.index == index


def test_watch_resumed_elsewhere_loses_nothing(
    cluster: SplitCluster, opened: Callable[..., EtcdMapping]
) -> None:
    """`index` is where another watch goes on, on another member too."""
    mapping = opened()
    mapping["n"] = 0
    after = mapping.index()
    seen: list[int] = []
    for number in range(1, 31):
        mapping["n"] = number
        if number % 10 == 0:
            endpoint = cluster.endpoints[number // 10 - 1]
            with opened(endpoint).watch(after=after, timeout=1) as watch:
                seen += [event.value for event in watch]
                after = watch.index
    assert seen == list(range(1, 31))

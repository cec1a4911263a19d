"""A member that hangs is left after one call, also by what may not be sent twice."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from operator import setitem
from typing import Any

import pytest

from etcdmap import (
    EtcdMapError,
    EtcdMapping,
    KeyNotFound,
    KeysAPI,
    NotAFile,
    OutcomeUnknown,
)
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster, Member
from etcdmap.transport import make_transport
from etcdmap.v2 import Memory

from support.punctual import Punctual
from support.servers import newest
from support.transports import CountingTransport

pytestmark = pytest.mark.etcd

TIMEOUT = 0.6
#: More than an election takes.
LONG = 2.0


@pytest.fixture(scope="module")
def running() -> Iterator[LocalCluster]:
    """Give three members of the newest etcd at hand; for these tests to stop."""
    with LocalCluster(3, binary=newest(), election_timeout=0.5, fsync=False) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: LocalCluster) -> Iterator[LocalCluster]:
    """Give three members that are well; they are resumed afterwards."""
    yield running
    for member in running.members:
        if member.paused:
            member.resume()
    running.wait_healthy()


def in_order(cluster: LocalCluster, *, leader_first: bool) -> list[str]:
    """Give the endpoints, the leader first or last."""
    leader = cluster.leader()
    ordered = sorted(cluster.members, key=lambda m: (m is leader) != leader_first)
    return [member.endpoint for member in ordered]


_numbers = itertools.count()


def fresh() -> str:
    """Give a key that was not used."""
    return f"n{next(_numbers)}"


LONE: list[Any] = [
    pytest.param(lambda m: m.append("new"), None, id="append"),
    pytest.param(lambda m: m.create(fresh(), "new"), None, id="create"),
    pytest.param(lambda m: m.compare_and_swap("k", "v", "v"), None, id="cas"),
    pytest.param(lambda m: m.refresh("ttl", 500), None, id="refresh"),
    pytest.param(lambda m: m.refresh("ttl", 500), False, id="refresh-unfenced"),
    pytest.param(lambda m: setitem(m, fresh(), "new"), False, id="setitem-unfenced"),
    pytest.param(
        lambda m: m.keys_api.set(f"{m.prefix}/{fresh()}", "new"), None, id="keys.set"
    ),
]


def failures(write: Callable[[EtcdMapping], object], mapping: EtcdMapping) -> list[int]:
    """Write five times; give which of them failed, each in its time."""
    failed = []
    for number in range(5):
        with Punctual(mapping.client.timeout):
            try:
                write(mapping)
            except EtcdMapError:
                failed.append(number)
    return failed


@contextlib.contextmanager
def prepared(
    endpoints: list[str], prefix: str, **options: Any
) -> Iterator[EtcdMapping]:
    """Give a mapping with a key, and one with a ttl; it has written before."""
    with EtcdMapping(endpoints, prefix, shuffle=False, **options) as mapping:
        mapping["k"] = "v"
        mapping.set("ttl", "v", ttl=500)
        mapping.append("first")
        yield mapping


@pytest.mark.parametrize(("write", "fence"), LONE)
def test_follower_that_hangs_costs_one_call_at_most(
    cluster: LocalCluster,
    prefix: str,
    write: Callable[[EtcdMapping], object],
    fence: bool | None,
) -> None:
    """The next call starts elsewhere, and stays there."""
    endpoints = in_order(cluster, leader_first=False)
    with prepared(endpoints, prefix, timeout=TIMEOUT, fence=fence) as mapping:
        cluster.member(endpoints[0]).pause()
        assert failures(write, mapping) in ([], [0])
        assert mapping.client.pinned != endpoints[0]


@pytest.mark.parametrize(
    ("write", "fence"), [w for w in LONE if w.id in ("append", "refresh", "keys.set")]
)
def test_leader_that_hangs_costs_one_call_at_most(
    cluster: LocalCluster,
    prefix: str,
    write: Callable[[EtcdMapping], object],
    fence: bool | None,
) -> None:
    """An election takes less than a call may."""
    endpoints = in_order(cluster, leader_first=True)
    with prepared(endpoints, prefix, timeout=LONG, fence=fence) as mapping:
        cluster.member(endpoints[0]).pause()
        assert failures(write, mapping) in ([], [0])


def test_leader_behind_a_follower_that_hangs_costs_one_call_at_most(
    cluster: LocalCluster, prefix: str
) -> None:
    """The member in use takes the write, and can't get it agreed on."""
    endpoints = in_order(cluster, leader_first=False)
    with prepared(endpoints, prefix, timeout=LONG) as mapping:
        cluster.member(endpoints[-1]).pause()
        assert failures(lambda m: m.append("new"), mapping) in ([], [0])


def test_failed_call_is_in_doubt_and_its_write_is_sent_once(
    cluster: LocalCluster, prefix: str
) -> None:
    """What the member that hangs was sent is carried out when it wakes, once."""
    endpoints = in_order(cluster, leader_first=False)
    with prepared(endpoints, prefix, timeout=TIMEOUT) as mapping:
        hung = cluster.member(endpoints[0])
        hung.pause()
        with contextlib.suppress(OutcomeUnknown):
            mapping.append("once")
        mapping.append("twice")
        hung.resume()
        cluster.wait_healthy()
        texts = list(mapping.using(consistency="linearizable").to_dict().values())
        assert texts.count("once") <= 1
        assert texts.count("twice") == 1


# --- refresh --------------------------------------------------------------------------


@pytest.fixture
def counted(
    cluster: LocalCluster, prefix: str
) -> Iterator[tuple[EtcdMapping, CountingTransport]]:
    """Give a mapping on all members, and its transport; a follower is asked first."""
    transport = CountingTransport(make_transport())
    endpoints = in_order(cluster, leader_first=False)
    with make_client(endpoints, transport, shuffle=False, timeout=3.0) as client:
        yield EtcdMapping(client=client, prefix=prefix), transport


def sent_by(
    transport: CountingTransport, call: Callable[[], object]
) -> list[tuple[str, str]]:
    """Give the requests of a call: method and query."""
    before = len(transport.requests)
    call()
    return [
        (request.method, request.target.partition("?")[2])
        for request in transport.requests[before:]
    ]


def test_refresh_of_a_known_key_is_one_request_that_names_its_index(
    counted: tuple[EtcdMapping, CountingTransport],
) -> None:
    """A heartbeat costs what it always did; each one remembers the next one's fence."""
    mapping, transport = counted
    index = mapping.set("k", "v", ttl=100)
    assert index is not None
    for _ in range(3):
        ((method, query),) = sent_by(transport, lambda: mapping.refresh("k", 500))
        assert method == "PUT"
        assert f"prevIndex={index}" in query
        known = Memory.of(mapping.client).states.get(f"{mapping.prefix}/k")
        assert known is not None
        assert known > index
        index = known
    assert 400 < (mapping.ttl("k") or 0) <= 500
    assert mapping["k"] == "v"


def test_refresh_of_an_unknown_key_is_one_request_and_remembers(
    counted: tuple[EtcdMapping, CountingTransport],
) -> None:
    """The first one can't name a state; the second one does."""
    mapping, transport = counted
    mapping.set("k", "v", ttl=100)
    Memory.of(mapping.client).states.clear()
    ((_, first),) = sent_by(transport, lambda: mapping.refresh("k", 500))
    ((_, second),) = sent_by(transport, lambda: mapping.refresh("k", 500))
    assert "prevIndex" not in first
    assert "prevIndex" in second
    mapping["k"] = "new"  # by the index that the refresh made
    assert mapping["k"] == "new"


def test_refresh_past_a_member_that_hangs_is_sent_again(
    cluster: LocalCluster, counted: tuple[EtcdMapping, CountingTransport]
) -> None:
    """It may be, since it names the state: no call fails."""
    mapping, _ = counted
    mapping.set("k", "v", ttl=100)
    cluster.member(mapping.client.pinned).pause()
    for _ in range(3):
        mapping.refresh("k", 500)
    assert 400 < (mapping.ttl("k") or 0) <= 500
    assert mapping["k"] == "v"


def test_refresh_after_another_writer_goes_on_from_theirs(
    cluster: LocalCluster, counted: tuple[EtcdMapping, CountingTransport], prefix: str
) -> None:
    """The index that was known is no longer true; the value is left as it is."""
    mapping, _ = counted
    mapping.set("k", "v", ttl=100)
    with EtcdMapping(cluster.endpoints, prefix) as other:
        other.set("k", "theirs", ttl=100)
    mapping.refresh("k", 500)
    assert mapping.using(consistency="linearizable")["k"] == "theirs"
    assert 400 < (mapping.ttl("k") or 0) <= 500


def test_refresh_of_a_key_that_others_deleted_is_key_not_found(
    cluster: LocalCluster, counted: tuple[EtcdMapping, CountingTransport], prefix: str
) -> None:
    """Also where it was there a moment ago; it is not made."""
    mapping, _ = counted
    mapping.set("k", "v", ttl=100)
    with EtcdMapping(cluster.endpoints, prefix) as other:
        del other["k"]
    with pytest.raises(KeyNotFound) as caught:
        mapping.refresh("k", 500)
    assert caught.value.args == ("k",)
    assert "k" not in mapping.using(consistency="linearizable")


def test_refresh_of_a_file_that_became_a_directory_is_refused(
    cluster: LocalCluster, counted: tuple[EtcdMapping, CountingTransport], prefix: str
) -> None:
    """A directory's ttl is given when it is made, and never changed."""
    mapping, _ = counted
    mapping["d"] = "file"
    with EtcdMapping(cluster.endpoints, prefix) as other:
        del other["d"]
        other["d"] = {"x": 1}
    with pytest.raises(NotAFile):
        mapping.refresh("d", 500)
    assert mapping.to_dict() == {"d": {"x": 1}}


# --- a fence learnt late -------------------------------------------------------------


def sync(mapping: EtcdMapping) -> None:
    """Learn the members."""
    mapping.client.sync()


def read_some(mapping: EtcdMapping) -> None:
    """Have them learnt in passing."""
    assert "k" not in mapping


@pytest.mark.parametrize(
    ("options", "learn", "view"),
    [
        pytest.param({"auto_sync": 60.0}, read_some, lambda m: m, id="auto_sync"),
        pytest.param({}, sync, lambda m: m.using(timeout=2.9), id="using"),
        pytest.param({}, sync, lambda m: m.sub("d"), id="sub"),
        pytest.param({}, sync, lambda m: m.flat, id="flat"),
    ],
)
def test_mapping_made_with_one_endpoint_is_fenced_once_more_are_known(
    cluster: LocalCluster,
    prefix: str,
    options: dict[str, Any],
    learn: Callable[[EtcdMapping], None],
    view: Callable[[EtcdMapping], Any],
) -> None:
    """Also through what was made before; and an old value never comes back."""
    leader = cluster.leader()
    first: Member = next(m for m in cluster.members if m is not leader)
    with EtcdMapping(first.endpoint, prefix, timeout=3, **options) as mapping:
        made = view(mapping)
        assert not Memory.of(mapping.client).fences_writes
        learn(mapping)
        assert set(mapping.client.endpoints) == set(cluster.endpoints)
        assert Memory.of(mapping.client).fences_writes
        made["k"] = "before"
        mapping.client.pin(first.endpoint)
        first.pause()
        with Punctual(3):
            made["k"] = "old"  # two other members are well
        others = [e for e in cluster.endpoints if e != first.endpoint]
        with make_client(others, make_transport()) as client:
            keys = KeysAPI(client)
            path = f"{made.prefix}/k" if hasattr(made, "prefix") else f"{prefix}/k"
            newer = keys.set(path, "newer").etcd_index
            first.resume()
            cluster.wait_healthy()
            # What it still held has been proposed before this, and refused.
            with EtcdMapping(first.endpoint, prefix) as woken:
                woken["woken"] = "yes"
            node = keys.get(path, quorum=True).node
        assert node is not None
        assert (node.value, node.modified_index) == ("newer", newer)


@pytest.mark.parametrize("fence", [True, False])
def test_fence_that_was_chosen_stays(
    cluster: LocalCluster, prefix: str, fence: bool
) -> None:
    """However many endpoints are known."""
    with EtcdMapping(cluster.endpoints[0], prefix, fence=fence) as mapping:
        assert Memory.of(mapping.client).fences_writes is fence
        mapping.client.sync()
        assert Memory.of(mapping.client).fences_writes is fence

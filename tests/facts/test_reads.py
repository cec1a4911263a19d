"""What etcd promises to reads, and what the mapping adds."""

from __future__ import annotations

import threading

import pytest

from etcdmap import EtcdMapping, KeysAPI, connect
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import make_transport

from support.raw_http import Raw, ask
from support.transports import CountingTransport

#: As etcd sorts them, byte by byte.
SORTED = ["10", "9", "B", "a", "a.b", "b", "z", "é", "日"]


def names(raw: Raw, query: str = "") -> list[str]:
    """List the directory as it comes."""
    nodes = raw.node(f"/{query}")["nodes"]
    return [node["key"].rpartition("/")[2] for node in nodes]


# --- the order of listings ----------------------------------------------------


def test_listing_comes_in_an_order_of_chance(raw: Raw) -> None:
    """Unless it is asked for sorted, and sorted means byte by byte."""
    for name in SORTED:
        raw("PUT", "/" + "".join(f"%{byte:02x}" for byte in name.encode()), "value=x")
    assert len({tuple(names(raw)) for _ in range(50)}) > 1
    assert names(raw, "?sorted=true") == SORTED


def test_mapping_lists_in_the_order_of_the_keys(mapping: EtcdMapping) -> None:
    """On every level, in every kind of read."""
    mapping["d"] = dict.fromkeys(reversed(SORTED), 1)
    for _ in range(5):
        assert list(mapping["d"]) == list(mapping.to_dict()["d"]) == SORTED
        assert list(mapping.flat) == [f"d/{name}" for name in SORTED]


def test_get_ignores_whether_a_directory_is_asked_for(raw: Raw) -> None:
    """`dir=true` on a GET of a file gives the file."""
    raw("PUT", "/k", "value=x")
    assert raw.node("/k?dir=true")["value"] == "x"


# --- one moment's state -------------------------------------------------------


def test_recursive_read_is_one_moment_of_the_store(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """No read sees a later write without an earlier one, or one from beyond its index.

    Two keys count up in turn, `a` first.
    """
    stop = threading.Event()
    mapping.update({"a": 0, "b": 0})

    def count() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            for name in ("a", "b"):
                raw("PUT", f"/{name}", f"value={n}")

    writer = threading.Thread(target=count)
    writer.start()
    try:
        for _ in range(100):
            answer = raw("GET", "/?recursive=true")
            nodes = answer.json["node"]["nodes"]
            assert max(node["modifiedIndex"] for node in nodes) <= answer.index
            content, index = mapping.snapshot()
            assert content["a"] - content["b"] in (0, 1)
            assert index >= answer.index
    finally:
        stop.set()
        writer.join()


def test_snapshot_index_is_where_to_watch_from(
    mapping: EtcdMapping, keys_api: KeysAPI
) -> None:
    """The first change after it is the next one that is made."""
    mapping["k"] = 1
    index = mapping.snapshot().index
    mapping["k"] = 2
    result = keys_api.watch(mapping.prefix, after_index=index, recursive=True)
    assert result.node is not None
    assert result.node.value == "2"


# --- HEAD ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"), [("/k", 200), ("/d", 200), ("/no", 404), ("/k/below", 400)]
)
def test_head_has_a_status_and_an_index_but_no_body(
    raw: Raw, path: str, status: int
) -> None:
    """It does not tell a file from a directory."""
    raw("PUT", "/k", "value=x")
    raw("PUT", "/d?dir=true")
    answer = raw("HEAD", path)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.index > 0


def test_head_can_not_wait(raw: Raw) -> None:
    """A watch by HEAD is refused."""
    raw("PUT", "/k", "value=x")
    assert raw("HEAD", "/k?wait=true").status == 400


def test_contains_asks_by_head_and_once_more_below_a_file(
    etcd: LocalCluster, prefix: str
) -> None:
    """What a status can't tell is asked again, with a body."""
    transport = CountingTransport(make_transport())
    with make_client(etcd.endpoints, transport, max_stale=3600) as client:
        mapping = EtcdMapping(client=client, prefix=prefix)
        mapping["k"] = "x"
        assert "k" in mapping
        assert "no" not in mapping
        assert "k/below" not in mapping
    assert transport.methods == ["PUT", "HEAD", "HEAD", "HEAD", "GET"]


def test_linearizable_contains_does_not_ask_by_head(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """HEAD ignores `quorum`, so a read that must be agreed on is a GET."""
    mapping["k"] = "x"
    assert "k" in mapping.using(consistency="linearizable")
    request = transport.requests[-1]
    assert (request.method, "quorum=true" in request.target) == ("GET", True)


# --- followers, and quorum ----------------------------------------------------


def follower_of(cluster: LocalCluster) -> str:
    """Give the endpoint of a member that does not lead."""
    leader = cluster.leader()
    return next(m.endpoint for m in cluster.members if m.name != leader.name)


def test_plain_read_of_another_member_may_be_old(
    etcd3: LocalCluster, prefix: str
) -> None:
    """Now and then a follower has not heard yet of what the leader just did."""
    leader, follower = etcd3.leader().endpoint, follower_of(etcd3)
    with connect(leader) as one, connect(follower) as other:
        writer = EtcdMapping(client=one, prefix=prefix)
        reader = EtcdMapping(client=other, prefix=prefix)
        for n in range(5000):
            writer["k"] = n
            if reader.get("k") != n:
                return
    raise AssertionError("no read was old; the docs may promise more")


def test_linearizable_read_of_another_member_is_never_old(
    etcd3: LocalCluster, prefix: str
) -> None:
    """The cluster agrees on each of them, wherever it is asked."""
    leader, follower = etcd3.leader().endpoint, follower_of(etcd3)
    with connect(leader) as one, connect(follower) as other:
        writer = EtcdMapping(client=one, prefix=prefix)
        reader = EtcdMapping(client=other, prefix=prefix, consistency="linearizable")
        for n in range(100):
            writer["d/k"] = n
            assert reader["d/k"] == n
            assert reader.to_dict() == {"d": {"k": n}}


def test_follower_refuses_what_only_the_leader_can_tell(
    etcd3: LocalCluster,
) -> None:
    """It says so in a message, without an errorCode."""
    answer = ask(follower_of(etcd3), "GET", "/v2/stats/leader")
    assert answer.status == 403
    assert answer.json == {"message": "not current leader"}


def test_two_clients_of_one_member_see_each_others_writes_at_once(
    etcd3: LocalCluster, prefix: str
) -> None:
    """That is why a client stays with one member."""
    endpoint = follower_of(etcd3)
    with connect(endpoint) as one, connect(endpoint) as other:
        writer = EtcdMapping(client=one, prefix=prefix)
        reader = EtcdMapping(client=other, prefix=prefix)
        for n in range(100):
            writer["k"] = n
            assert reader["k"] == n

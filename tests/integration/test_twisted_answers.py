"""An answer to something else is never a value, an acknowledgement, or learnt from.

Each operation meets each answer that is not one to what it asked: a late one on a kept
connection, another client's behind a muddled proxy, another cluster's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from operator import delitem, setitem
from typing import Any, NamedTuple

import pytest

from etcdmap import (
    Client,
    EtcdMapError,
    EtcdMapping,
    KeysAPI,
    OutcomeUnknown,
    PartialWrite,
)
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import make_transport
from etcdmap.v2 import V2_API

from support import twisted
from support.mapping_kit import write_tree
from support.servers import newest
from support.twisted import Notes, Twist, TwistedTransport, twisted_client

pytestmark = pytest.mark.etcd

CONTENT = {"a": "1", "d": {"x": "2", "y": "3"}, "k": "v"}


class World(NamedTuple):
    """A mapping and a keys interface on one client, below a prefix."""

    mapping: EtcdMapping
    keys: KeysAPI
    prefix: str
    client: Client
    transport: TwistedTransport

    def at(self, key: str) -> str:
        """Give an absolute path."""
        return f"{self.prefix}/{key}"


class Deed(NamedTuple):
    """Something that can be done, and what the answers to it show."""

    do: Callable[[World], object]
    #: "b" a node; "h" only a head; "n" only an action and an index; "l" children;
    #: "w" is for the write when reads come before it.
    shows: str


def reads(do: Callable[[World], object], shows: str = "b", *, id: str) -> Any:
    """Name a read."""
    return pytest.param(Deed(do, shows), id=id)


writes = reads

READS = [
    reads(lambda w: w.mapping["k"], id="getitem"),
    reads(lambda w: w.mapping["d"], id="getitem-directory"),
    reads(lambda w: w.mapping.get("k"), id="get"),
    reads(lambda w: w.mapping.get("absent", 5), id="get-absent"),
    reads(lambda w: "k" in w.mapping, "h", id="contains"),
    reads(lambda w: "absent" in w.mapping, "h", id="contains-absent"),
    reads(lambda w: len(w.mapping), "l", id="len"),
    reads(lambda w: list(w.mapping), "l", id="iter"),
    reads(lambda w: dict(w.mapping.items()), "l", id="items"),
    reads(lambda w: list(w.mapping.values()), "l", id="values"),
    reads(lambda w: w.mapping.to_dict(), "l", id="to_dict"),
    reads(lambda w: w.mapping == {}, "l", id="eq"),
    reads(lambda w: w.mapping | {}, "l", id="or"),
    reads(lambda w: w.mapping.snapshot(), "l", id="snapshot"),
    reads(lambda w: w.mapping.index(), id="index"),
    reads(lambda w: w.mapping.ttl("k"), id="ttl"),
    reads(lambda w: w.mapping.flat["d/x"], id="flat"),
    reads(lambda w: list(w.mapping.flat), "l", id="flat-iter"),
    reads(lambda w: w.mapping.assign({"k": "v"}, dry_run=True), "l", id="dry-run"),
    reads(lambda w: w.mapping.using(consistency="any")["k"], id="any"),
    reads(lambda w: w.mapping.using(consistency="linearizable")["k"], id="quorum"),
    reads(lambda w: w.keys.get(w.at("k")), id="keys.get"),
    reads(lambda w: w.keys.get(w.prefix, recursive=True), "l", id="keys.get-tree"),
    reads(lambda w: w.keys.get(w.at("k"), quorum=True), id="keys.get-quorum"),
    reads(lambda w: w.keys.exists(w.at("k")), "h", id="keys.exists"),
    reads(
        lambda w: w.keys.watch(
            w.at("k"), after_index=w.client.freshness(V2_API).index - 1
        ),
        id="keys.watch",
    ),
]

#: The first request is a write, or what is read before is not of importance.
WRITES = [
    writes(lambda w: setitem(w.mapping, "k", "new"), "n", id="setitem"),
    writes(lambda w: setitem(w.mapping, "fresh", "new"), "n", id="setitem-new"),
    writes(lambda w: w.mapping.set("k", "new", ttl=500), "n", id="set"),
    writes(lambda w: w.mapping.create("fresh", "new"), "n", id="create"),
    writes(lambda w: w.mapping.replace("k", "new"), "n", id="replace"),
    writes(lambda w: w.mapping.compare_and_swap("k", "v", "new"), "n", id="cas"),
    writes(lambda w: w.mapping.append("new"), id="append"),
    writes(lambda w: w.mapping.mkdir("made"), id="mkdir"),
    writes(lambda w: w.mapping.refresh("k", 500), "n", id="refresh"),
    writes(lambda w: delitem(w.mapping, "k"), id="del"),
    writes(lambda w: delitem(w.mapping, "d"), id="del-directory"),
    writes(lambda w: setitem(w.mapping.flat, "d/x", "new"), "n", id="flat-setitem"),
    writes(lambda w: delitem(w.mapping.flat, "d/x"), id="flat-del"),
    writes(lambda w: w.keys.set(w.at("k"), "new"), id="keys.set"),
    writes(
        lambda w: w.keys.set(w.at("k"), "new", no_value_on_success=True),
        "n",
        id="keys.set-no-value",
    ),
    writes(lambda w: w.keys.set(w.at("made"), dir=True), id="keys.set-dir"),
    writes(lambda w: w.keys.create(w.at("fresh"), "new"), id="keys.create"),
    writes(lambda w: w.keys.update(w.at("k"), "new"), id="keys.update"),
    writes(
        lambda w: w.keys.compare_and_swap(w.at("k"), "new", prev_value="v"),
        id="keys.cas",
    ),
    writes(lambda w: w.keys.create_in_order(w.at("d"), "new"), id="keys.post"),
    writes(lambda w: w.keys.make_directory(w.at("made")), id="keys.mkdir"),
    writes(lambda w: w.keys.refresh(w.at("k"), 500), id="keys.refresh"),
    writes(lambda w: w.keys.delete(w.at("k")), id="keys.delete"),
    writes(lambda w: w.keys.delete(w.at("d"), recursive=True), id="keys.delete-tree"),
    writes(
        lambda w: w.keys.compare_and_delete(w.at("k"), prev_value="v"), id="keys.cad"
    ),
]

#: What is read first decides what is written.
READ_AND_WRITE = [
    writes(lambda w: w.mapping.pop("k"), id="pop"),
    writes(lambda w: w.mapping.pop("d"), id="pop-directory"),
    writes(lambda w: w.mapping.popitem(), id="popitem"),
    writes(lambda w: w.mapping.transform("k", lambda v: v + "!"), "n", id="transform"),
    writes(lambda w: w.mapping.compare_and_delete("k", "v"), id="cad"),
    writes(lambda w: setitem(w.mapping, "d", {"x": "new"}), "n", id="setitem-mapping"),
    writes(lambda w: w.mapping.update(k="new", fresh="new"), "n", id="update"),
    writes(lambda w: w.mapping.merge({"d": {"z": "new"}}), "n", id="merge"),
    writes(lambda w: w.mapping.assign({"k": "new"}), "", id="assign"),
    writes(lambda w: w.mapping.clear(), id="clear"),
]

#: After a lost answer it takes what it reads, so it fails where that read does.
READ_BACK = [
    writes(lambda w: w.mapping.setdefault("fresh", "new"), "n", id="setdefault"),
]

TWISTS = {
    "another-key": (twisted.another_key, "bln"),
    "another-action": (twisted.another_action, "bln"),
    "no-action": (twisted.no_action, "bln"),
    "no-node": (twisted.no_node, "bl"),
    "odd-children": (twisted.odd_children, "l"),
    "old-index": (twisted.old_index, "n"),
    "another-cluster": (twisted.another_cluster, "blnh"),
    "no-cluster": (twisted.no_cluster, "blnh"),
    "empty-cluster": (twisted.empty_cluster, "blnh"),
}


def cases(deeds: list[Any]) -> list[Any]:
    """Give each deed with each twist that its answers can have."""
    return [
        pytest.param(deed.values[0], twist, id=f"{deed.id}-{name}")
        for deed in deeds
        for name, (twist, shows) in TWISTS.items()
        if deed.values[0].shows == "" or deed.values[0].shows in shows
        if not (deed.id == "get-absent" and "cluster" not in name)
        if not (deed.id == "assign" and name in ("odd-children", "old-index"))
        if not (deed.id == "setdefault" and name == "old-index")
    ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give one member of the newest etcd at hand."""
    with LocalCluster(binary=newest(), fsync=False) as running:
        yield running


@pytest.fixture
def somebody(cluster: LocalCluster) -> Iterator[KeysAPI]:
    """Give another client, whose answers are its own."""
    with make_client(cluster.endpoints, make_transport()) as client:
        yield KeysAPI(client)


@contextlib.contextmanager
def world_of(
    cluster: LocalCluster, somebody: KeysAPI, prefix: str, **options: Any
) -> Iterator[World]:
    """Give a world whose client has seen its cluster, and nothing odd yet."""
    write_tree(somebody, prefix, CONTENT)
    transport = TwistedTransport()
    with twisted_client(cluster.endpoints, transport, **options) as client:
        mapping = EtcdMapping(client=client, prefix=prefix)
        assert mapping["k"] == "v"
        yield World(mapping, KeysAPI(client), prefix, client, transport)


@pytest.fixture
def unfenced(cluster: LocalCluster, somebody: KeysAPI, prefix: str) -> Iterator[World]:
    """Give a world without fences."""
    with world_of(cluster, somebody, prefix) as world:
        yield world


def assert_unknown(error: EtcdMapError) -> None:
    """Check that an error says that a write may have been carried out."""
    if isinstance(error, PartialWrite):
        assert error.failed
        assert all(isinstance(e, OutcomeUnknown) for e in error.failed.values())
    else:
        assert isinstance(error, OutcomeUnknown)


@pytest.mark.parametrize(
    ("deed", "twist"), cases([*READS, *WRITES, *READ_AND_WRITE, *READ_BACK])
)
@pytest.mark.parametrize("fence", [None, True], ids=["", "fenced"])
def test_answer_to_something_else_is_none(
    cluster: LocalCluster,
    somebody: KeysAPI,
    prefix: str,
    deed: Deed,
    twist: Twist,
    fence: bool | None,
) -> None:
    """It is an error, never "absent"; a write is in doubt; and nothing is learnt."""
    if fence and twist is twisted.old_index:
        return  # history is asked, and tells: see below
    with world_of(cluster, somebody, prefix, fence=fence) as world:
        notes = Notes(world.client)
        world.transport.twist = twist
        with pytest.raises(EtcdMapError) as caught:
            deed.do(world)
    assert world.transport.twisted
    assert not isinstance(caught.value, KeyError)
    if world.transport.written:
        assert_unknown(caught.value)
    session = world.client.freshness(V2_API)
    assert session.cluster_id == notes.before.cluster_id
    if not world.transport.passed:  # else there was something to learn
        assert notes.now() == notes.before
        assert notes.answers == 0


@pytest.mark.parametrize(("deed", "twist"), cases([*WRITES, *READ_AND_WRITE]))
def test_answer_to_something_else_acknowledges_no_write(
    unfenced: World, deed: Deed, twist: Twist
) -> None:
    """Where the reads before it were answered properly, it is unknown."""
    unfenced.transport.twist = twist
    unfenced.transport.writes_only = True
    with pytest.raises(EtcdMapError) as caught:
        deed.do(unfenced)
    assert unfenced.transport.written
    assert_unknown(caught.value)


@pytest.mark.parametrize(
    ("deed", "twist"), cases([*WRITES[:12], *READ_AND_WRITE, *READ_BACK])
)
def test_answer_to_something_else_settles_no_fenced_write(
    cluster: LocalCluster, somebody: KeysAPI, prefix: str, deed: Deed, twist: Twist
) -> None:
    """A fenced write may ask history instead: then it was done, and once."""
    with world_of(cluster, somebody, prefix, fence=True) as world:
        world.transport.twist = twist
        world.transport.writes_only = True
        try:
            deed.do(world)
        except EtcdMapError as error:
            assert_unknown(error)
        else:
            assert world.transport.twisted
            assert somebody.get(prefix, recursive=True).etcd_index >= (
                world.client.freshness(V2_API).index
            )


def test_next_answer_that_is_proper_is_a_value(unfenced: World) -> None:
    """Nothing has to be repaired after answers that were not."""
    for twist, _ in TWISTS.values():
        unfenced.transport.twist = twist
        for deed in READS:
            if "absent" not in deed.id:
                with contextlib.suppress(EtcdMapError):
                    deed.values[0].do(unfenced)
    unfenced.transport.twist = None
    assert unfenced.mapping.to_dict() == CONTENT
    unfenced.mapping["k"] = "new"
    assert unfenced.mapping["k"] == "new"

"""Nothing is ever written to a cluster that the client knows is another one.

Two real clusters hold the same directory, written at the same indexes, so that no
condition tells them apart: only the cluster's id does.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from operator import delitem, setitem
from typing import Any, NamedTuple

import pytest
import requests

from etcdmap import (
    EtcdMapError,
    EtcdMapping,
    OutcomeUnknown,
    PartialWrite,
    WrongCluster,
)
from etcdmap.local import LocalCluster

from support.raw_http import ask
from support.servers import newest

pytestmark = pytest.mark.etcd

KEYS = {"k": "v", "d/x": "1", "d/y": "2"}


def fill(cluster: LocalCluster, prefix: str) -> None:
    """Write what both clusters hold, in the same order."""
    for key, text in KEYS.items():
        path = f"/v2/keys{prefix}/{key}"
        assert ask(cluster.endpoints[0], "PUT", path, f"value={text}").status == 201


def index_of(cluster: LocalCluster) -> int:
    """Give the index of a cluster's store: any write moves it."""
    answer = ask(cluster.endpoints[0], "GET", "/v2/keys/")
    return int(answer.headers["x-etcd-index"])


def even(ours: LocalCluster, theirs: LocalCluster) -> None:
    """Bring both clusters to the same index."""
    for behind, ahead in ((ours, theirs), (theirs, ours)):
        while index_of(behind) < index_of(ahead):
            ask(behind.endpoints[0], "PUT", "/v2/keys/even", "value=")


class Pair(NamedTuple):
    """The right cluster, another one, and a directory that looks alike in both."""

    ours: LocalCluster
    theirs: LocalCluster
    prefix: str


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[LocalCluster, LocalCluster]]:
    """Give two clusters of one member each."""
    with (
        LocalCluster(binary=newest(), fsync=False) as ours,
        LocalCluster(binary=newest(), fsync=False) as theirs,
    ):
        yield ours, theirs


@pytest.fixture
def pair(both: tuple[LocalCluster, LocalCluster], prefix: str) -> Iterator[Pair]:
    """Give both, with the same directory at the same indexes; repaired afterwards."""
    ours, theirs = both
    even(ours, theirs)
    fill(ours, prefix)
    fill(theirs, prefix)
    yield Pair(ours, theirs, prefix)
    ours.members[0].start()


WRITES: list[Any] = [
    pytest.param(lambda m: setitem(m, "k", "new"), id="setitem"),
    pytest.param(lambda m: setitem(m, "fresh", "new"), id="setitem-new"),
    pytest.param(lambda m: setitem(m, "d", {"x": "new"}), id="setitem-mapping"),
    pytest.param(lambda m: m.append("new"), id="append"),
    pytest.param(lambda m: m.create("fresh", "new"), id="create"),
    pytest.param(lambda m: m.setdefault("fresh", "new"), id="setdefault"),
    pytest.param(lambda m: m.mkdir("made"), id="mkdir"),
    pytest.param(lambda m: m.compare_and_swap("k", "v", "new"), id="cas"),
    pytest.param(lambda m: m.transform("k", str.upper), id="transform"),
    pytest.param(lambda m: m.refresh("k", 500), id="refresh"),
    pytest.param(lambda m: delitem(m, "k"), id="del"),
    pytest.param(lambda m: delitem(m, "d"), id="del-directory"),
    pytest.param(lambda m: m.popitem(), id="popitem"),
    pytest.param(lambda m: m.update({f"n{n}": n for n in range(40)}), id="update"),
    pytest.param(lambda m: m.clear(), id="clear"),
    pytest.param(lambda m: m.keys_api.set(f"{m.prefix}/k", "new"), id="keys.set"),
]
FEW = [
    write
    for write in WRITES
    if write.id in ("setitem", "append", "create", "refresh", "keys.set", "update")
]
#: A few writes with and without fences, and on requests' own path.
CASES = [
    pytest.param(write.values[0], fence, path, id=f"{write.id}-fence={fence}-{path}")
    for path, fences in (("sockets", (None, True, False)), ("requests", (None,)))
    for write in FEW
    for fence in fences
]
OTHERS = [
    pytest.param(write.values[0], None, "sockets", id=write.id)
    for write in WRITES
    if write not in FEW
]

Write = Callable[[EtcdMapping], object]


@contextlib.contextmanager
def opened(path: str, *arguments: Any, **options: Any) -> Iterator[EtcdMapping]:
    """Give a mapping on our sockets, or on requests' own path."""
    with contextlib.ExitStack() as stack:
        if path == "requests":
            options["session"] = stack.enter_context(requests.Session())
        yield stack.enter_context(EtcdMapping(*arguments, **options))


BOTH_PATHS = pytest.mark.parametrize("path", ["sockets", "requests"])


def assert_wrong(error: EtcdMapError) -> None:
    """Check that an error says that this is another cluster."""
    if isinstance(error, PartialWrite):
        assert error.written == ()
        for inner in error.failed.values():
            assert isinstance(inner, WrongCluster)
    else:
        assert isinstance(error, WrongCluster)


@pytest.mark.parametrize(("write", "fence", "path"), [*CASES, *OTHERS])
def test_endpoint_given_by_mistake_gets_no_write(
    pair: Pair, write: Write, fence: bool | None, path: str
) -> None:
    """The right cluster is gone: every write is refused, and none is carried out."""
    endpoints = [*pair.ours.endpoints, *pair.theirs.endpoints]
    with opened(
        path, endpoints, pair.prefix, shuffle=False, timeout=0.4, fence=fence
    ) as mapping:
        assert mapping["k"] == "v"
        pair.ours.members[0].kill()
        before = index_of(pair.theirs)
        with pytest.raises(EtcdMapError) as caught:
            write(mapping)
        assert index_of(pair.theirs) == before
        assert_wrong(caught.value)
        # What was found out is not forgotten by the next one.
        with pytest.raises(EtcdMapError):
            mapping.append("again")
        assert index_of(pair.theirs) == before


@pytest.mark.parametrize(("write", "fence", "path"), CASES)
def test_endpoint_given_by_mistake_is_passed_over(
    pair: Pair, write: Write, fence: bool | None, path: str
) -> None:
    """The right cluster is there: every write goes to it, whoever is asked first."""
    endpoints = [*pair.ours.endpoints, *pair.theirs.endpoints]
    with opened(path, endpoints, pair.prefix, shuffle=False, fence=fence) as mapping:
        assert mapping["k"] == "v"
        mapping.client.pin(pair.theirs.endpoints[0])
        before, ours = index_of(pair.theirs), index_of(pair.ours)
        write(mapping)
        assert index_of(pair.theirs) == before
        assert index_of(pair.ours) > ours


@pytest.mark.parametrize("write", FEW[:2])
def test_endpoint_learnt_by_sync_gets_no_write(
    pair: Pair, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members tell addresses that may be another cluster's by now."""
    learnt = (*pair.ours.endpoints, *pair.theirs.endpoints)
    with EtcdMapping(pair.ours.endpoints, pair.prefix, timeout=0.4) as m:
        monkeypatch.setattr("etcdmap.client.client._with_learnt", lambda *_: learnt)
        assert m.client.sync() == learnt
        assert m["k"] == "v"
        pair.ours.members[0].kill()
        before = index_of(pair.theirs)
        with pytest.raises(EtcdMapError) as caught:
            write(m)
        assert_wrong(caught.value)
        assert index_of(pair.theirs) == before


@BOTH_PATHS
def test_sync_at_another_cluster_learns_nothing(pair: Pair, path: str) -> None:
    """Its members are nobody's business, and would be sent our password."""
    endpoints = [*pair.ours.endpoints, *pair.theirs.endpoints]
    with opened(path, endpoints, pair.prefix, shuffle=False, timeout=0.4) as mapping:
        assert mapping["k"] == "v"
        pair.ours.members[0].kill()
        with pytest.raises(WrongCluster):
            mapping.client.sync()
        assert mapping.client.endpoints == tuple(endpoints)


@BOTH_PATHS
@pytest.mark.parametrize("write", FEW[:2])
def test_client_that_only_wrote_knows_its_cluster(
    pair: Pair, path: str, write: Write
) -> None:
    """The first endpoint that a write went to says which cluster it is."""
    endpoints = [*pair.ours.endpoints, *pair.theirs.endpoints]
    with opened(
        path, endpoints, pair.prefix, shuffle=False, timeout=0.4, fence=False
    ) as mapping:
        mapping.append("ours")
        pair.ours.members[0].kill()
        before = index_of(pair.theirs)
        with pytest.raises(EtcdMapError) as caught:
            write(mapping)
        assert_wrong(caught.value)
        assert index_of(pair.theirs) == before


@BOTH_PATHS
def test_forget_cluster_lets_the_other_one_through(pair: Pair, path: str) -> None:
    """It was replaced on purpose."""
    endpoints = [*pair.ours.endpoints, *pair.theirs.endpoints]
    with opened(path, endpoints, pair.prefix, shuffle=False, timeout=0.4) as mapping:
        assert mapping["k"] == "v"
        pair.ours.members[0].kill()
        with pytest.raises(WrongCluster):
            mapping.append("refused")
        mapping.client.forget_cluster()
        before = index_of(pair.theirs)
        name = mapping.append("let in")
        assert index_of(pair.theirs) == before + 1
        assert mapping[name] == "let in"
        pair.ours.members[0].start()
        mapping.client.pin(pair.ours.endpoints[0])
        ours = index_of(pair.ours)
        mapping["k"] = "new"
        assert index_of(pair.ours) == ours


# --- replaced at the same address ---------------------------------------------------


def replace(cluster: LocalCluster) -> None:
    """End the member of a cluster, and start another cluster at its address."""
    (member,) = cluster.members
    member.kill()
    shutil.rmtree(member.data_dir)
    member._argv.append(f"--initial-cluster-token=another-{member.pid}-{next(_tokens)}")
    member.start()


_tokens = itertools.count()


@pytest.fixture(scope="module")
def old() -> Iterator[LocalCluster]:
    """Give a cluster of one member, which tests replace by another."""
    with LocalCluster(binary=newest(), fsync=False) as running:
        yield running


@pytest.mark.parametrize("fence", [None, True])
@pytest.mark.parametrize("write", FEW)
def test_cluster_replaced_at_its_address_gets_no_write(
    old: LocalCluster, prefix: str, fence: bool | None, write: Write
) -> None:
    """One endpoint, and it is another cluster now, with the same indexes."""
    replace(old)
    fill(old, prefix)
    with EtcdMapping(old.endpoints, prefix, timeout=0.4, fence=fence) as mapping:
        assert mapping["k"] == "v"
        seen = index_of(old)
        replace(old)
        fill(old, prefix)
        # A member writes a node or two of its own when it starts.
        while (index := index_of(old)) < seen:
            ask(old.endpoints[0], "PUT", "/v2/keys/even", "value=")
        with pytest.raises(EtcdMapError) as caught:
            write(mapping)
        assert index_of(old) == index
        assert_wrong(caught.value)
        mapping.client.forget_cluster()
        write(mapping)
        assert index_of(old) > index


@pytest.mark.parametrize("fence", [None, True])
def test_cluster_replaced_over_a_session_is_noticed_by_its_first_answer(
    old: LocalCluster, prefix: str, fence: bool | None
) -> None:
    """No request failed in between, so one write gets there, and is in doubt."""
    with opened("requests", old.endpoints, prefix, timeout=0.4, fence=fence) as mapping:
        for write in (lambda: mapping.append("new"), lambda: mapping.create("k", "v")):
            mapping.client.forget_cluster()
            assert mapping.get("absent") is None
            replace(old)
            before = index_of(old)
            with pytest.raises(OutcomeUnknown):
                write()
            assert index_of(old) == before + 1
            for again in (write, lambda: mapping.append("again"), mapping.to_dict):
                with pytest.raises(WrongCluster):
                    again()
            assert index_of(old) == before + 1


def test_cluster_replaced_over_a_session_is_noticed_by_a_read(
    old: LocalCluster, prefix: str
) -> None:
    """A read comes first: then no write gets there."""
    with opened("requests", old.endpoints, prefix, timeout=0.4) as mapping:
        assert mapping.get("absent") is None
        replace(old)
        before = index_of(old)
        with pytest.raises(WrongCluster):
            mapping.to_dict()
        with pytest.raises(WrongCluster):
            mapping.append("new")
        assert index_of(old) == before

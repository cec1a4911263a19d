"""A cluster that is wiped at its address: the same id, and indexes that start anew."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from operator import setitem
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapping, OutcomeUnknown
from etcdmap.client.freshness import ClusterRebuilt
from etcdmap.local import LocalCluster

from support.servers import newest

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Give a cluster of one member, for these tests to wipe."""
    with LocalCluster(binary=newest(), fsync=False) as running:
        yield running


def wipe(cluster: LocalCluster) -> None:
    """End the member, and start it again with nothing."""
    (member,) = cluster.members
    member.kill()
    shutil.rmtree(member.data_dir)
    member.start()


@pytest.fixture(params=["sockets", "requests"])
def opened(
    request: pytest.FixtureRequest, cluster: LocalCluster, prefix: str
) -> Iterator[Callable[..., EtcdMapping]]:
    """Give what makes a mapping that has seen an index which is lost at once."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> EtcdMapping:
            if request.param == "requests":
                options["session"] = stack.enter_context(requests.Session())
            mapping = stack.enter_context(
                EtcdMapping(cluster.endpoints, prefix, timeout=3, **options)
            )
            for number in range(20):
                mapping["k"] = number
            wipe(cluster)
            return mapping

        yield make


@pytest.mark.parametrize("cache_ttl", [None, 60.0], ids=["", "cached"])
def test_wiped_cluster_is_warned_of_once_and_read_as_it_is(
    opened: Callable[..., EtcdMapping], cluster: LocalCluster, cache_ttl: float | None
) -> None:
    """What was known of it is forgotten, the cache too."""
    mapping = opened(cache_ttl=cache_ttl, max_stale=0.001)
    with EtcdMapping(cluster.endpoints, mapping.prefix) as other:
        other["k"] = "anew"
    with pytest.warns(ClusterRebuilt):
        assert mapping.to_dict() == {"k": "anew"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mapping["k"] == "anew"
        mapping["k"] = "newer"
        assert mapping["k"] == "newer"


def test_wiped_cluster_is_written_to_by_fenced_writes(
    opened: Callable[..., EtcdMapping],
) -> None:
    """A state that is named is not there, so the client looks, and finds out."""
    mapping = opened(fence=True)
    with pytest.warns(ClusterRebuilt):
        mapping["k"] = "anew"
    assert mapping.to_dict() == {"k": "anew"}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: setitem(m, "k", "anew"), id="setitem"),
        pytest.param(lambda m: m.set("k", "anew", ttl=500), id="set"),
    ],
)
def test_wiped_cluster_leaves_an_unfenced_write_in_doubt_until_a_read_told(
    opened: Callable[..., EtcdMapping], write: Callable[[EtcdMapping], object]
) -> None:
    """Its answer has an index from before it was sent: it may be another's."""
    mapping = opened(max_stale=0.001)
    with pytest.raises(OutcomeUnknown):
        write(mapping)
    with pytest.warns(ClusterRebuilt):
        assert mapping["k"] == "anew"
    write(mapping)
    assert mapping["k"] == "anew"

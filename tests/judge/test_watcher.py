"""The watcher of fault runs, on a cluster with a fault."""

from __future__ import annotations

import pytest

from benchmarks.faults.judge.events import Watcher, read_all

from support.isolation import SplitCluster
from support.raw_http import ask
from support.servers import newest

pytestmark = pytest.mark.etcd


def test_watcher_follows_through_an_isolation() -> None:
    """No event is missed when the member that is watched is cut off."""
    with SplitCluster(3, binary=newest(), fsync=False) as cluster:
        leader = cluster.leader()
        follower = next(member for member in cluster.members if member is not leader)
        rest = [member.endpoint for member in cluster.members if member is not follower]

        def put(value: str) -> None:
            answer = ask(leader.endpoint, "PUT", "/v2/keys/k", f"value={value}")
            assert answer.status < 300

        _, index = read_all(cluster.endpoints, "/k")
        watcher = Watcher([follower.endpoint, *rest], "/", index)
        put("w0")
        cluster.isolate(follower)
        for number in range(1, 5):
            put(f"w{number}")
        _, index = read_all([leader.endpoint], "/k")
        log = watcher.stop(index)
    assert [event.value for event in log.events] == ["w0", "w1", "w2", "w3", "w4"]
    assert log.complete

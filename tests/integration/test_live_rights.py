"""A live replica whose right, or whose API, is taken away, and comes back."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from etcdmap import EtcdMapping, Unauthorized, V2NotEnabled
from etcdmap.local import LocalCluster

from support.raw_http import ask
from support.servers import newest
from support.waiting import soon

pytestmark = pytest.mark.etcd

ROOT: Any = {"username": "root", "password": "rootpw"}
APP: Any = {"username": "app", "password": "pw"}
RIGHTS = {"kv": {"read": ["/app/*"], "write": ["/app/*"]}}


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Give a cluster of one member, for one test."""
    with LocalCluster(binary=newest(), fsync=False) as running:
        yield running


def manage(cluster: LocalCluster, path: str, body: dict[str, Any] | None) -> None:
    """Change users or roles."""
    token = base64.b64encode(b"root:rootpw").decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    text = None if body is None else json.dumps(body)
    answer = ask(cluster.endpoints[0], "PUT", f"/v2/auth/{path}", text, headers)
    assert answer.status in (200, 201), answer.body


def protect(cluster: LocalCluster) -> None:
    """Turn auth on, with a user who may read and write /app/*."""
    manage(cluster, "users/root", {"user": "root", "password": "rootpw"})
    manage(cluster, "roles/app", {"role": "app", "permissions": RIGHTS})
    manage(cluster, "users/app", {"user": "app", "password": "pw", "roles": ["app"]})
    manage(cluster, "enable", None)
    everything = {"kv": {"read": ["/*"], "write": ["/*"]}}
    manage(cluster, "roles/guest", {"role": "guest", "revoke": everything})


def test_live_whose_role_is_revoked_is_told_and_goes_on_when_it_may(
    cluster: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A role for /app/* is enough; without it the last state stays."""
    protect(cluster)
    caplog.set_level(logging.WARNING, "etcdmap")
    with (
        EtcdMapping(cluster.endpoints, "/app", **ROOT) as root,
        EtcdMapping(cluster.endpoints, "/app", **APP) as mapping,
        mapping.live(max_stale=1.0) as live,
    ):
        states: list[str] = []
        live.subscribe_state(states.append)
        assert live.wait(root.set("k", 1))
        assert live["k"] == 1
        manage(cluster, "users/app", {"user": "app", "revoke": ["app"]})
        assert soon(lambda: live.state == "failed")
        assert isinstance(live.error, Unauthorized)
        assert live["k"] == 1
        root["k"] = 2
        manage(cluster, "users/app", {"user": "app", "grant": ["app"]})
        assert soon(lambda: live.get("k") == 2)
        assert soon(lambda: live.state == "following")
        assert soon(lambda: states[-1] == "following")
        assert "failed" in states
        assert "live replica of /app: failed: The request requires" in caplog.text
        assert "pw" not in caplog.text


def test_watch_whose_role_is_revoked_raises(cluster: LocalCluster) -> None:
    """After the change that was told before the next request."""
    protect(cluster)
    with (
        EtcdMapping(cluster.endpoints, "/app", **ROOT) as root,
        EtcdMapping(cluster.endpoints, "/app", **APP) as mapping,
        mapping.watch(timeout=20) as watch,
    ):
        root["k"] = 1
        assert next(event for event in watch if event.key == "k").value == 1
        manage(cluster, "users/app", {"user": "app", "revoke": ["app"]})
        root["k"] = 2
        with pytest.raises(Unauthorized):
            next(event for event in watch if event.value == 3)


def test_live_of_a_member_without_the_api_is_told_and_goes_on(
    cluster: LocalCluster,
) -> None:
    """The API switched off by a restart, and on again by the next."""
    (member,) = cluster.members
    with (
        EtcdMapping(cluster.endpoints, "/app") as mapping,
        mapping.live(max_stale=1.0) as live,
    ):
        assert live.wait(mapping.set("k", 1))
        member.kill()
        member._argv.append("--enable-v2=false")
        member.start(wait=False)
        assert soon(lambda: live.state == "failed")
        assert isinstance(live.error, V2NotEnabled)
        assert live["k"] == 1
        member.kill()
        member._argv.pop()
        member.start()
        assert soon(lambda: live.state == "following")
        assert live.wait(mapping.set("k", 2))

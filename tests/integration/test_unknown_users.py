"""Members that are out of touch say 401 to users whom they do not know yet."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from operator import setitem
from typing import Any

import pytest

from etcdmap import EtcdMapping, KeysAPI, Unauthorized
from etcdmap.connecting import make_client
from etcdmap.local import Member
from etcdmap.transport import make_transport

from support.fault_server import Stopwatch
from support.isolation import SplitCluster
from support.raw_http import ask
from support.servers import newest
from support.transports import CountingTransport

pytestmark = pytest.mark.etcd

ROOT = "root:rootpw"


def manage(endpoint: str, path: str, body: dict[str, Any] | None, user: str) -> None:
    """Change users or roles."""
    token = base64.b64encode(user.encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    text = None if body is None else json.dumps(body)
    answer = ask(endpoint, "PUT", f"/v2/auth/{path}", text, headers)
    assert answer.status in (200, 201), answer.body


class Cut:
    """A cluster with a user whom one member does not know.

    Attributes:
        cut: that member.
        others: the endpoints of the others.
    """

    def __init__(self, cluster: SplitCluster) -> None:
        leader = cluster.leader()
        self.cluster = cluster
        self.cut: Member = next(m for m in cluster.members if m is not leader)
        self.others = [e for e in cluster.endpoints if e != self.cut.endpoint]

    @property
    def endpoints(self) -> list[str]:
        """The member that is out of touch, and the others."""
        return [self.cut.endpoint, *self.others]


@pytest.fixture(scope="module")
def cut() -> Iterator[Cut]:
    """Isolate a member, and make a user while it is."""
    with SplitCluster(3, binary=newest(), fsync=False) as cluster:
        leader = cluster.leader().endpoint
        permissions = {"kv": {"read": ["/app/*"], "write": ["/app/*"]}}
        everything = {"kv": {"read": ["/*"], "write": ["/*"]}}
        role = {"role": "app", "permissions": permissions}
        manage(leader, "users/root", {"user": "root", "password": "rootpw"}, ROOT)
        manage(leader, "roles/app", role, ROOT)
        user = {"user": "early", "password": "pw", "roles": ["app"]}
        manage(leader, "users/early", user, ROOT)
        manage(leader, "enable", None, ROOT)
        revoke = {"role": "guest", "revoke": everything}
        manage(leader, "roles/guest", revoke, ROOT)
        found = Cut(cluster)
        with EtcdMapping(
            found.endpoints, "/app", username="early", password="pw", shuffle=False
        ) as early:  # the member to be cut off knows this user: quorum reads say so
            early.using(consistency="linearizable").to_dict()
            early["k"] = "v"
        cluster.isolate(found.cut)
        user = {"user": "late", "password": "pw", "roles": ["app"]}
        manage(found.others[0], "users/late", user, ROOT)
        yield found
        cluster.links.heal()


def mapping_of(cut: Cut, user: str, password: str, **options: Any) -> EtcdMapping:
    """Give a mapping that asks the member out of touch first."""
    options = {"endpoints": cut.endpoints, "timeout": 8, **options}
    return EtcdMapping(
        prefix="/app", username=user, password=password, shuffle=False, **options
    )


CALLS = [
    pytest.param(lambda m: m["k"], id="getitem"),
    pytest.param(lambda m: "k" in m, id="contains"),
    pytest.param(lambda m: m.to_dict(), id="to_dict"),
    pytest.param(lambda m: setitem(m, "k", "v"), id="setitem"),
    pytest.param(lambda m: m.append("new"), id="append"),
    pytest.param(lambda m: m.mkdir(m.append("d") + "d"), id="mkdir"),
    pytest.param(lambda m: m.using(consistency="any")["k"], id="any"),
    pytest.param(lambda m: m.keys_api.get("/app/k"), id="keys.get"),
    pytest.param(lambda m: m.keys_api.set("/app/k", "v"), id="keys.set"),
]


@pytest.mark.parametrize("call", CALLS)
def test_member_that_does_not_know_the_user_is_passed_over(cut: Cut, call: Any) -> None:
    """The others do: a 401 of one of three is believed by nobody."""
    with mapping_of(cut, "late", "pw") as mapping:
        call(mapping)


@pytest.mark.parametrize("call", CALLS)
def test_wrong_password_is_told_at_once(cut: Cut, call: Any) -> None:
    """Two of three are asked, and nothing is waited for."""
    with (
        mapping_of(cut, "late", "wrong") as mapping,
        Stopwatch() as watch,
        pytest.raises(Unauthorized) as caught,
    ):
        call(mapping)
    assert watch.seconds < 4
    assert not caught.value.unanswered


def test_wrong_password_asks_two_of_three(cut: Cut) -> None:
    """More would tell nothing new."""
    transport = CountingTransport(make_transport(username="late", password="wrong"))
    with (
        make_client(cut.endpoints, transport, shuffle=False) as client,
        pytest.raises(Unauthorized),
    ):
        KeysAPI(client).get("/app/k")
    assert len(transport.requests) == 2


def test_only_endpoint_that_says_401_is_believed(cut: Cut) -> None:
    """There is nobody else to ask."""
    with (
        mapping_of(cut, "late", "pw", endpoints=[cut.cut.endpoint]) as mapping,
        pytest.raises(Unauthorized),
    ):
        mapping.using(consistency="any")["k"]

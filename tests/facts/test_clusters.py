"""etcd without its v2 API, without a quorum, with roles, and wiped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etcdmap import (
    DeadlineExceeded,
    EtcdMapping,
    KeysAPI,
    OutcomeUnknown,
    RequestFailed,
    Unauthorized,
    V2NotEnabled,
    connect,
)
from etcdmap.local import LocalCluster
from etcdmap.local.probe import moments

from support.fault_server import READ, FaultServer, response
from support.raw_etcd import raw_etcd
from support.raw_http import Raw, RawAnswer, ask
from support.servers import binaries

# --- v2 off -------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_v2(
    etcd_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Run an etcd as it is by default, with v2 off, and give its endpoint."""
    directory = tmp_path_factory.mktemp("without-v2")
    with raw_etcd(binaries()[etcd_version], directory) as endpoint:
        yield endpoint


def test_server_without_v2_says_a_plain_404(without_v2: str) -> None:
    """It is no JSON, and `/version` works as ever."""
    answer = Raw(without_v2)("GET", "/k")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body == b"404 page not found\n"
    assert ask(without_v2, "GET", "/version").status == 200


def test_mapping_on_a_server_without_v2_is_no_empty_dict(without_v2: str) -> None:
    """Nothing is absent there: every operation says how to turn v2 on."""
    with EtcdMapping(without_v2, "/app") as mapping:
        for use in (
            lambda: mapping["k"],
            lambda: mapping.get("k"),
            lambda: "k" in mapping,
            lambda: mapping.to_dict(),
            lambda: mapping.set("k", 1),
            lambda: mapping.pop("k", None),
        ):
            with pytest.raises(V2NotEnabled, match="--enable-v2") as caught:
                use()
            assert not isinstance(caught.value, KeyError)


# --- without a quorum ---------------------------------------------------------


@pytest.fixture(scope="module")
def survivor(etcd_version: str) -> Iterator[str]:
    """Give the endpoint of the last of three members; key `/app/k` holds 1."""
    with LocalCluster(members=3, binary=binaries()[etcd_version]) as cluster:
        left = next(m for m in cluster.members if m.name != cluster.leader().name)
        with EtcdMapping(left.endpoint, "/app") as mapping:
            mapping["k"] = 1
        for member in cluster.members:
            if member.name != left.name:
                member.kill()
        for _ in moments(20):
            # It calls the dead one its leader until an election was due.
            if ask(left.endpoint, "GET", "/v2/members/leader").status == 503:
                break
        yield left.endpoint


def test_member_without_a_leader_says_503(survivor: str) -> None:
    """In a message without an errorCode, of who leads."""
    answer = ask(survivor, "GET", "/v2/members/leader")
    assert answer.status == 503
    assert "errorCode" not in answer.json


def test_member_without_a_quorum_answers_plain_reads_only(survivor: str) -> None:
    """It gives up on the rest after 7 s, with a 500."""
    raw = Raw(survivor, "/app")
    assert raw.node("/k")["value"] == "1"
    with ThreadPoolExecutor() as pool:
        read = pool.submit(raw, "GET", "/k?quorum=true")
        write = pool.submit(raw, "PUT", "/k", "value=2")
        for answer in (read.result(), write.result()):
            assert answer.error == (500, 300)


def test_mapping_without_a_quorum_reads_but_agrees_on_nothing(survivor: str) -> None:
    """A linearizable read ends by the deadline, and is never a KeyError."""
    with EtcdMapping(survivor, "/app", timeout=0.5) as mapping:
        assert mapping.using(consistency="any")["k"] in (1, 2)
        with pytest.raises(DeadlineExceeded):
            mapping.using(consistency="linearizable")["k"]


def test_write_let_in_without_a_quorum_has_an_unknown_outcome(survivor: str) -> None:
    """It may be carried out once there is a quorum again."""
    with (
        EtcdMapping(survivor, "/app", timeout=0.5) as mapping,
        pytest.raises(OutcomeUnknown),
    ):
        mapping["other"] = 1


# --- roles --------------------------------------------------------------------

ROOT, USER = ("root", "rootpw"), ("app", "apppw")


def basic(user: tuple[str, str]) -> dict[str, str]:
    """Give the header of HTTP's basic auth."""
    return {"Authorization": "Basic " + b64encode(":".join(user).encode()).decode()}


def command(endpoint: str, method: str, path: str, content: object) -> RawAnswer:
    """Send a command to the auth interface."""
    headers = {"Content-Type": "application/json", **basic(ROOT)}
    answer = ask(endpoint, method, f"/v2/auth{path}", json.dumps(content), headers)
    assert answer.status in (200, 201), answer
    return answer


@pytest.fixture(scope="module")
def guarded(
    etcd_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Run an etcd on which the user `app` may do all below `/app/`, nobody else."""
    directory = tmp_path_factory.mktemp("auth")
    binary = binaries()[etcd_version]
    with raw_etcd(binary, directory, "--enable-v2=true") as endpoint:
        rights = {"read": ["/app/*"], "write": ["/app/*"]}
        name, password = USER
        command(endpoint, "PUT", "/users/root", {"user": ROOT[0], "password": ROOT[1]})
        role = {"role": "r", "permissions": {"kv": rights}}
        command(endpoint, "PUT", "/roles/r", role)
        user = {"user": name, "password": password, "roles": ["r"]}
        command(endpoint, "PUT", f"/users/{name}", user)
        command(endpoint, "PUT", "/enable", {})
        kv = {"read": ["/*"], "write": ["/*"]}
        guest = {"role": "guest", "revoke": {"kv": kv}}
        command(endpoint, "PUT", "/roles/guest", guest)
        Raw(endpoint)("PUT", "/app?dir=true", None, basic(ROOT))
        yield endpoint


def test_role_for_a_directory_may_list_it_with_a_trailing_slash_only(
    guarded: str,
) -> None:
    """To v2 auth the two are different keys."""
    raw = Raw(guarded)
    assert raw("GET", "/app", None, basic(USER)).error == (401, 110)
    assert raw("GET", "/app/", None, basic(USER)).status == 200


def test_mapping_works_with_a_role_for_its_directory(guarded: str) -> None:
    """Reads, loops, writes of one key and of many need no right above it."""
    name, password = USER
    with EtcdMapping(guarded, "/app", username=name, password=password) as mapping:
        mapping["d"] = {"k": 1, "e": {}}
        mapping.update(a=1)
        mapping.merge({"d": {"l": 2}})
        assert mapping.to_dict() == {"a": 1, "d": {"e": {}, "k": 1, "l": 2}}
        assert list(mapping) == ["a", "d"]
        assert mapping["d"]["k"] == 1
        assert mapping[mapping.append("x")] == "x"
        assert len(mapping.flat) == 4
        assert mapping.index() > 0
        mapping.assign({"b": 2})
        mapping.clear()
        assert not mapping


def test_mapping_without_the_right_raises_and_finds_nothing_absent(
    guarded: str,
) -> None:
    """A denied read is no missing key."""
    name, password = USER
    with EtcdMapping(guarded, "/other", username=name, password=password) as mapping:
        with pytest.raises(Unauthorized):
            mapping.get("k")
        with pytest.raises(Unauthorized):
            mapping["k"] = 1
        assert password not in repr(mapping)


# --- the environment of the process ---------------------------------------------


def test_client_takes_no_credentials_from_netrc(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another program are not ours to send."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {ROOT[0]} password {ROOT[1]}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with EtcdMapping(guarded, "/app") as mapping, pytest.raises(Unauthorized):
        mapping.get("k")


def test_client_takes_no_proxy_from_the_environment(
    mapping: EtcdMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables meant for the web would lead to where no etcd is."""
    with FaultServer([READ, response("proxy", 502)]) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with EtcdMapping(mapping.client.endpoints, mapping.prefix) as fresh:
            fresh["k"] = 1
        assert proxy.connections == 0


# --- wiped --------------------------------------------------------------------


def test_wiped_cluster_has_the_same_id_and_counts_anew(
    etcd_version: str, tmp_path: Path
) -> None:
    """The id comes from the flags, so it does not tell the two apart."""
    ids: list[str | None] = []
    indexes: list[int] = []
    for round_ in ("first", "second"):
        directory = tmp_path / round_
        directory.mkdir()
        binary = binaries()[etcd_version]
        with (
            raw_etcd(binary, directory, "--enable-v2=true") as endpoint,
            connect(endpoint) as client,
        ):
            keys = KeysAPI(client)
            for _ in range(2 if not ids else 0):
                keys.set("/k", "x")
            result = keys.set("/k", "x")
            ids.append(result.cluster_id)
            indexes.append(result.etcd_index)
    assert ids[0] == ids[1] is not None
    assert indexes[1] < indexes[0]


def test_outage_says_what_each_endpoint_did(survivor: str) -> None:
    """The error of a lost quorum has its attempts."""
    with (
        EtcdMapping(survivor, "/app", timeout=0.3) as mapping,
        pytest.raises(RequestFailed) as caught,
    ):
        mapping.using(consistency="linearizable").to_dict()
    assert survivor in str(caught.value)

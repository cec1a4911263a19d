"""etcd without its v2 API, without a quorum, with roles, and wiped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from operator import delitem, setitem
from pathlib import Path
from typing import Any

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
    """Run an etcd on which the user `app` may do all below `/app/`.

    `writer` may write there and not read, and `exact` may do all to `/app/k` only.
    """
    directory = tmp_path_factory.mktemp("auth")
    binary = binaries()[etcd_version]
    with raw_etcd(binary, directory, "--enable-v2=true") as endpoint:
        command(endpoint, "PUT", "/users/root", {"user": ROOT[0], "password": ROOT[1]})
        for name, read, write in (
            (USER[0], ["/app/*"], ["/app/*"]),
            ("writer", [], ["/app/*"]),
            ("exact", ["/app/k"], ["/app/k"]),
        ):
            rights = {"kv": {"read": read, "write": write}}
            role = {"role": name, "permissions": rights}
            command(endpoint, "PUT", f"/roles/{name}", role)
            user = {"user": name, "password": USER[1], "roles": [name]}
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


@pytest.fixture
def mapping_of(guarded: str) -> Iterator[Callable[..., EtcdMapping]]:
    """Give a function from a user to a mapping that holds `k`."""
    with ExitStack() as stack:

        def mapping_of(name: str, **options: Any) -> EtcdMapping:
            options |= {"username": name, "password": USER[1]}
            return stack.enter_context(EtcdMapping(guarded, "/app", **options))

        app = mapping_of(USER[0])
        app.clear()
        app.set("k", 1, ttl=100)
        yield mapping_of


#: What names the state that it replaces, with fences.
FENCED = [
    pytest.param(lambda m: setitem(m, "k", 2), id="setitem"),
    pytest.param(lambda m: m.set("k", 2, ttl=50), id="set"),
    pytest.param(lambda m: m.replace("k", 2), id="replace"),
    pytest.param(lambda m: delitem(m, "k"), id="del"),
    pytest.param(lambda m: setitem(m.flat, "k", 2), id="flat-setitem"),
    pytest.param(lambda m: delitem(m.flat, "k"), id="flat-del"),
]
UNREAD = [
    pytest.param(lambda m: m.compare_and_swap("k", 1, 2), id="cas"),
    pytest.param(lambda m: m.refresh("k", 50), id="refresh"),
    pytest.param(lambda m: m.create("new", 1), id="create"),
    pytest.param(lambda m: m.append(1), id="append"),
    pytest.param(lambda m: m.mkdir("d"), id="mkdir"),
]


@pytest.mark.parametrize("write", [*FENCED, *UNREAD])
def test_role_that_may_not_read_is_enough_to_write_without_fences(
    mapping_of: Callable[..., EtcdMapping], write: Callable[[EtcdMapping], Any]
) -> None:
    """As long as there is one endpoint, or with `fence=False`."""
    write(mapping_of("writer"))


@pytest.mark.parametrize("write", FENCED)
def test_role_that_may_not_read_is_told_of_fences(
    mapping_of: Callable[..., EtcdMapping], write: Callable[[EtcdMapping], Any]
) -> None:
    """The error says what is read, and what to do; nothing was written."""
    with pytest.raises(Unauthorized, match=r"replaces.*grant reading.*fence=False"):
        write(mapping_of("writer", fence=True))
    assert mapping_of(USER[0])["k"] == 1


@pytest.mark.parametrize("write", UNREAD)
def test_role_that_may_not_read_is_enough_where_nothing_is_read(
    mapping_of: Callable[..., EtcdMapping], write: Callable[[EtcdMapping], Any]
) -> None:
    """Conditions that the write brings along, and new keys, need no look."""
    write(mapping_of("writer", fence=True))


def test_role_that_may_not_read_is_told_of_fences_by_a_refresh(
    mapping_of: Callable[..., EtcdMapping],
) -> None:
    """One after a write of somebody else's looks what is there now."""
    writer = mapping_of("writer", fence=True)
    writer.refresh("k", 50)
    mapping_of(USER[0])["k"] = 2
    with pytest.raises(Unauthorized, match="fence=False"):
        writer.refresh("k", 50)


@pytest.mark.parametrize("fence", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda m: m["k"], id="getitem"),
        pytest.param(lambda m: "k" in m, id="contains"),
        pytest.param(lambda m: m.ttl("k"), id="ttl"),
        pytest.param(lambda m: setitem(m, "k", 2), id="setitem"),
        pytest.param(lambda m: m.set("k", 2, keep_ttl=True), id="keep-ttl"),
        pytest.param(lambda m: m.transform("k", lambda v: v + 1), id="transform"),
        pytest.param(lambda m: m.compare_and_delete("k", 1), id="cad"),
        pytest.param(lambda m: m.setdefault("k", 2), id="setdefault"),
        pytest.param(lambda m: m.refresh("k", 50), id="refresh"),
        pytest.param(lambda m: m.flat.pop("k"), id="flat-pop"),
        pytest.param(lambda m: delitem(m.flat, "k"), id="flat-del"),
        pytest.param(lambda m: m.flat.update(k=2), id="flat-update"),
    ],
)
def test_role_for_one_key_is_enough_for_that_key(
    mapping_of: Callable[..., EtcdMapping],
    use: Callable[[EtcdMapping], Any],
    fence: bool,
) -> None:
    """What takes a value only asks of nothing else."""
    use(mapping_of("exact", fence=fence))


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda m: delitem(m, "k"), id="del"),
        pytest.param(lambda m: m.pop("k"), id="pop"),
        pytest.param(lambda m: m.update(k=2), id="update"),
        pytest.param(list, id="iter"),
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
    ],
)
def test_role_for_one_key_is_too_little_where_it_may_be_a_directory(
    mapping_of: Callable[..., EtcdMapping], use: Callable[[EtcdMapping], Any]
) -> None:
    """etcd then asks for the right to all below the key, or to its directory."""
    with pytest.raises(Unauthorized):
        use(mapping_of("exact"))
    assert mapping_of(USER[0])["k"] == 1


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

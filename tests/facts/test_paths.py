"""How etcd reads paths, and why ours never reach another node."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests

from etcdmap import (
    Client,
    EtcdMapping,
    InvalidKey,
    InvalidResponse,
    KeysAPI,
    LimitExceeded,
    RootReadOnly,
    UnreadableName,
    connect,
)
from etcdmap.local import LocalCluster
from etcdmap.paths import MAX_DEPTH
from etcdmap.v2.responses import guarded, result_of

from support.raw_http import Raw
from support.requests import Asked, Request
from support.transports import CountingTransport

Cost = Callable[[Callable[[], object]], list[str]]

UNCLEAN = [
    pytest.param("//b", id="empty-segment"),
    pytest.param("/./b", id="dot"),
    pytest.param("/%2E/b", id="quoted-dot"),
    pytest.param("/x/../b", id="dots"),
    pytest.param("/x/%2e%2e/b", id="quoted-dots"),
]

#: Names that are ordinary, though a URL or a tree would give them a meaning.
NAMES = [
    "a b?c#d;e",
    "a+b",
    "a&b=c",
    "...",
    ".hid",
    "%",
    "a%2Fb",
    "%2E%2E",
    "100%",
    "é",
    "日本",
    "\N{PILE OF POO}",
    "a\\b",
    "*",
    "a:b@c",
    "-",
    "[x]",
]


@pytest.fixture(params=["sockets", "requests"])
def any_client(request: pytest.FixtureRequest, etcd: LocalCluster) -> Iterator[Client]:
    """Give a client over our own sockets, and one over a session of requests."""
    session = requests.Session() if request.param == "requests" else None
    with connect(etcd.endpoints, session=session) as client:
        yield client
    if session is not None:
        session.close()


# --- unclean paths ------------------------------------------------------------


@pytest.mark.parametrize("path", UNCLEAN)
def test_server_answers_an_unclean_path_with_a_redirect(raw: Raw, path: str) -> None:
    """etcd redirects, and has done nothing yet."""
    answer = raw("PUT", path, "value=hello")
    assert answer.status == 301
    assert answer.headers["location"] == f"/v2/keys{raw.prefix}/b"
    assert raw("GET", "/b").error == (404, 100)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_client_never_follows_the_redirect_of_a_write(
    any_client: Client, raw: Raw, method: str
) -> None:
    """What is stored at the clean path is neither blanked nor deleted."""
    raw("PUT", "/b", "value=before")
    target = f"/v2/keys{raw.prefix}//b"
    read = partial(guarded, result_of, Asked(f"{raw.prefix}//b"))
    with pytest.raises(InvalidResponse, match="redirect"):
        any_client.send(Request(method, target, read))
    assert raw.node("/b")["value"] == "before"


def test_keys_api_tells_a_redirect_from_an_answer(
    any_client: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect that slipped through all checks is an error, never a success."""
    monkeypatch.setattr("etcdmap.v2.spelling.check_path", lambda path: None)
    with pytest.raises(InvalidResponse, match="redirect"):
        KeysAPI(any_client).set(f"{raw.prefix}//b", "x")


def test_server_resolves_quoted_dots_up_to_the_parent(raw: Raw) -> None:
    """A quoted `..` leads out of the directory, so it must never be sent."""
    answer = raw("DELETE", "/y/z/%2e%2e/%2e%2e?recursive=true")
    assert answer.status == 301
    assert answer.headers["location"].startswith(f"/v2/keys{raw.prefix}?")


@pytest.mark.parametrize("key", ["..", ".", "", "/", "a//b", "a/../..", "a/", "/a"])
def test_mapping_refuses_an_unclean_key_without_a_request(
    mapping: EtcdMapping, cost: Cost, key: str
) -> None:
    """A write raises, a read finds nothing, and etcd is not asked."""

    def use() -> None:
        with pytest.raises(InvalidKey):
            mapping[key] = 1
        with pytest.raises(KeyError):
            del mapping[key]
        assert key not in mapping

    assert cost(use) == []


@pytest.mark.parametrize("path", ["//b", "/a/./b", "/a/../b", "b", "", "/a//"])
def test_keys_api_refuses_an_unclean_path_without_a_request(
    keys_api: KeysAPI, cost: Cost, path: str
) -> None:
    """The low-level interface does not let one through either."""

    def use() -> None:
        with pytest.raises(InvalidKey):
            keys_api.set(path, "x")
        with pytest.raises(InvalidKey):
            keys_api.delete(path, recursive=True)

    assert cost(use) == []


# --- quoting ------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["?", "#"])
def test_unquoted_mark_reaches_the_parent_and_ours_does_not(
    mapping: EtcdMapping, raw: Raw, mark: str
) -> None:
    """`?` and `#` would cut the URL short; quoted they are part of the name."""
    raw("PUT", "/dir/k", "value=stays")
    mapping.sub("dir")[f"{mark}x"] = "new"
    assert mapping.to_dict() == {"dir": {"k": "stays", f"{mark}x": "new"}}
    if mark == "?":
        assert raw("GET", "/dir/?x").json["node"]["key"] == f"{raw.prefix}/dir"


def test_server_takes_a_quoted_slash_for_a_slash(raw: Raw) -> None:
    """`a%2Fb` and `a/b` are the same node."""
    raw("PUT", "/a%2Fb", "value=x")
    assert raw.node("/a/b")["key"] == f"{raw.prefix}/a/b"


@pytest.mark.parametrize("name", NAMES)
def test_name_of_any_characters_survives_a_round_trip(
    any_client: Client, raw: Raw, name: str
) -> None:
    """It is stored, listed, read and deleted under that very name."""
    mapping = EtcdMapping(client=any_client, prefix=raw.prefix)
    mapping[name] = "v"
    (node,) = raw.node("/")["nodes"]
    assert node["key"] == f"{raw.prefix}/{name}"
    assert list(mapping) == [name]
    assert mapping[name] == "v"
    del mapping[name]
    assert not mapping


def test_composed_and_decomposed_letters_are_two_names(mapping: EtcdMapping) -> None:
    """Neither etcd nor the mapping normalises."""
    composed, decomposed = (unicodedata.normalize(f, "é") for f in ("NFC", "NFD"))
    mapping.update({composed: 1, decomposed: 2})
    assert mapping.to_dict() == {composed: 1, decomposed: 2}


@pytest.mark.parametrize("name", ["a\0b", "a\tb", "\x7f"])
def test_control_character_is_taken_by_the_server_and_read_by_the_mapping(
    mapping: EtcdMapping, raw: Raw, name: str
) -> None:
    """etcd stores and lists it; the mapping reads it and makes no new one."""
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    assert raw("PUT", f"/{quoted}", "value=v").status == 201
    assert list(mapping) == [name]
    assert mapping[name] == "v"
    with pytest.raises(InvalidKey, match="control character"):
        mapping[name] = "w"


def test_name_that_is_no_utf8_is_left_out_of_listings(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """etcd lists such a name as U+FFFD, under which it can't be found."""
    raw("PUT", "/%ff", "value=v")
    raw("PUT", "/ok", "value=v")
    listed = {node["key"] for node in raw.node("/")["nodes"]}
    assert f"{raw.prefix}/\ufffd" in listed
    assert raw("GET", "/%EF%BF%BD").error == (404, 100)
    with pytest.warns(UnreadableName):
        assert list(mapping) == ["ok"]
    assert "\ufffd" not in mapping


# --- the trailing slash, and the root -----------------------------------------


def test_trailing_slash_is_ignored_by_the_store(raw: Raw) -> None:
    """A path with one names the same node."""
    raw("PUT", "/a/b/", "value=x")
    assert raw.node("/a/b")["key"] == f"{raw.prefix}/a/b"


def test_mapping_lists_with_a_trailing_slash_and_reads_leaves_without(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """Roles of v2 auth tell the two apart, though the store does not."""
    mapping["k"] = 1
    len(mapping)
    assert mapping["k"] == 1
    put, listing, read = (request.target for request in transport.requests)
    assert put.partition("?")[0] == read == f"/v2/keys{mapping.prefix}/k"
    assert listing == f"/v2/keys{mapping.prefix}/"


def test_root_node_has_no_key_and_no_index(own_etcd: LocalCluster) -> None:
    """Whoever reads a node by its key would trip over the root."""
    raw = Raw(own_etcd.endpoints[0])
    raw("PUT", "/k", "value=1")
    node = raw.node("/")
    assert sorted(node) == ["dir", "nodes"]
    with connect(own_etcd.endpoints) as client:
        result = KeysAPI(client).get("/")
        assert result.node is not None
        assert (result.node.key, result.node.modified_index) == ("/", 0)
        assert "k" in EtcdMapping(client=client, prefix="/").to_dict()


@pytest.mark.parametrize(
    ("method", "query", "form"),
    [
        pytest.param("PUT", "", "value=x", id="put"),
        pytest.param("PUT", "?dir=true", None, id="put-dir"),
        pytest.param("DELETE", "", None, id="delete"),
        pytest.param("DELETE", "?recursive=true", None, id="delete-recursive"),
    ],
)
def test_root_is_read_only(
    own_etcd: LocalCluster, method: str, query: str, form: str | None
) -> None:
    """No flag makes etcd write or delete the root itself."""
    answer = Raw(own_etcd.endpoints[0])(method, f"/{query}", form)
    assert answer.error == (400, 107)


def test_root_with_a_condition_is_no_file(own_etcd: LocalCluster) -> None:
    """A conditional delete of the root meets 102, not 107."""
    raw = Raw(own_etcd.endpoints[0])
    assert raw("DELETE", "/?prevIndex=1").error == (403, 102)


def test_root_takes_nodes_in_order(own_etcd: LocalCluster) -> None:
    """POST on the root makes a node, and so does `append` of a mapping on it."""
    assert Raw(own_etcd.endpoints[0])("POST", "/", "value=x").status == 201
    with EtcdMapping(own_etcd.endpoints, prefix="/") as root:
        assert root[root.append("y")] == "y"


def test_root_mapping_is_cleared_child_by_child(own_etcd: LocalCluster) -> None:
    """The root can't be deleted, so `clear` deletes what it holds."""
    with EtcdMapping(own_etcd.endpoints, prefix="/") as root:
        root.update({"a": 1, "b": {"c": 2}})
        root.clear()
        assert root.to_dict() == {}
        with pytest.raises(RootReadOnly):
            root.keys_api.delete("/", recursive=True)


# --- limits -------------------------------------------------------------------


def test_url_above_a_mebibyte_gets_no_proper_answer(raw: Raw) -> None:
    """etcd hangs up or answers 431; a client would take it for a dead member."""
    assert raw("PUT", "/" + "a" * 1_040_000, "value=x", warm=True).status == 201
    raw("DELETE", "/" + "a" * 1_040_000, warm=True)
    try:
        status = raw("PUT", "/" + "a" * 1_100_000, "value=x", warm=True).status
    except ConnectionError:
        return
    assert status == 431


def test_request_line_above_four_kibibytes_may_not_come_first(raw: Raw) -> None:
    """etcd looks for the protocol in the first 4,096 bytes of a connection."""
    room = 4096 - len(f"GET /v2/keys{raw.prefix}/ HTTP/1.1\r\n")
    assert raw("GET", "/" + "a" * room).error == (404, 100)
    assert raw("GET", "/" + "a" * (room + 1), warm=True).error == (404, 100)
    with pytest.raises(ConnectionError):
        raw("GET", "/" + "a" * (room + 1))


def test_mapping_long_key_on_a_new_connection_is_stored_or_refused(
    etcd: LocalCluster, prefix: str
) -> None:
    """What etcd hangs up on must not look like a member that failed."""
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        try:
            mapping["a" * 5000] = 1
        except LimitExceeded:
            assert "a" * 5000 not in mapping
        else:
            assert list(mapping) == ["a" * 5000]


def test_compare_and_delete_of_a_long_value_works_on_a_new_connection(
    mapping: EtcdMapping, etcd: LocalCluster
) -> None:
    """The condition of a DELETE stands in its URL, where there may be no room."""
    mapping["k"] = "v" * 5000
    with EtcdMapping(etcd.endpoints, prefix=mapping.prefix) as fresh:
        fresh.compare_and_delete("k", "v" * 5000)
    assert "k" not in mapping


def test_mapping_refuses_a_long_key_without_a_request(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """The limit is checked before anything is sent, as it is spelt in the URL."""

    def use() -> None:
        with pytest.raises(LimitExceeded, match="limit is 1000000"):
            mapping["é" * 200_000] = 1
        assert "é" * 200_000 not in mapping

    assert cost(use) == []


def test_mapping_stores_at_the_depth_limit_and_refuses_below(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """The deepest key that is allowed works; one level more is never sent."""
    deepest = "/".join("d" * (MAX_DEPTH - 1))
    mapping[deepest] = 1
    assert mapping[deepest] == 1
    found = mapping.to_dict()
    for _ in range(MAX_DEPTH - 2):
        found = found["d"]
    assert found == {"d": 1}

    def use() -> None:
        with pytest.raises(LimitExceeded, match=f"limit is {MAX_DEPTH}"):
            mapping[f"{deepest}/d"] = 1

    assert cost(use) == []


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
        pytest.param(lambda m: m.pop("d"), id="pop"),
        pytest.param(lambda m: dict(m.flat), id="flat"),
        pytest.param(lambda m: m.keys_api.get(m.prefix, recursive=True), id="keys_api"),
    ],
)
def test_tree_deeper_than_python_reads_is_told_as_such(
    mapping: EtcdMapping, raw: Raw, read: Callable[[EtcdMapping], Any]
) -> None:
    """A tree that somebody else made too deep ends as our error, and stays."""
    raw("PUT", "/d" * 1000, "value=x")
    with pytest.raises(InvalidResponse, match=r"too deeply.*read a part of it"):
        read(mapping)
    assert list(mapping) == ["d"]
    raw("DELETE", "/d?recursive=true")


def test_tab_in_a_key_is_listed(mapping: EtcdMapping, raw: Raw) -> None:
    """A foreign key with a tab is seen by loops, lookups and whole reads alike."""
    raw("PUT", "/a%09b", "value=1")
    assert raw.node("/")["nodes"][0]["key"] == f"{raw.prefix}/a\tb"
    assert mapping.to_dict() == dict(mapping.items()) == {"a\tb": 1}

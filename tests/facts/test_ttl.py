"""How etcd lets keys expire, and what of that the mapping lets through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etcdmap import CompareFailed, EtcdMapping, KeyNotFound, KeysAPI, NotAFile
from etcdmap.client import Client
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import make_transport
from etcdmap.v2.spelling import MAX_TTL

from support.raw_http import Raw
from support.transports import CountingTransport

Cost = Callable[[Callable[[], object]], list[str]]

#: The last ttl that etcd 3.5 reckons with; above it time overflows.
LARGE, TOO_LARGE = 7_400_000_000, 7_500_000_000


def moments(seconds: float) -> Iterator[None]:
    """Give moments to look at something, until the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)


def wait_gone(raw: Raw, path: str) -> None:
    """Wait until a node has expired."""
    for _ in moments(10):
        if raw("GET", path).status == 404:
            return
    raise AssertionError(f"{path} never expired")


def make_expired(raw: Raw, path: str, value: str) -> dict[str, Any]:
    """Make a node that has expired and is still seen; give it."""
    for _ in moments(10):
        raw("PUT", path, f"value={value}&ttl=0")
        answer = raw("GET", path)
        if answer.status == 200:
            node: dict[str, Any] = answer.json["node"]
            return node
    raise AssertionError("expired nodes are never seen")


# --- which ttl is taken -------------------------------------------------------


@pytest.mark.parametrize("ttl", ["-1", "1.5", "x", str(2**64)])
def test_ttl_that_is_no_whole_number_is_refused(raw: Raw, ttl: str) -> None:
    """etcd reads 64 bits without a sign, and nothing else."""
    assert raw("PUT", "/k", f"value=x&ttl={ttl}").error == (400, 202)


def test_ttl_that_is_empty_means_none(raw: Raw) -> None:
    """An empty parameter is no ttl."""
    raw("PUT", "/k", "value=x&ttl=")
    assert "ttl" not in raw.node("/k")


def test_ttl_of_zero_is_gone_with_the_next_sweep(raw: Raw) -> None:
    """The key has expired when it is made."""
    raw("PUT", "/k", "value=x&ttl=0")
    wait_gone(raw, "/k")


def test_ttl_far_too_large_is_silently_for_ever(raw: Raw) -> None:
    """One that is only large still ends, in the 23rd century."""
    raw("PUT", "/k", f"value=x&ttl={LARGE}")
    assert raw.node("/k")["expiration"].startswith("22")
    raw("PUT", "/k", f"value=x&ttl={TOO_LARGE}")
    assert "expiration" not in raw.node("/k")


def test_ttl_far_too_large_on_an_update_ends_the_key(raw: Raw) -> None:
    """There the same number overflows into the past."""
    raw("PUT", "/k", "value=x")
    raw("PUT", "/k?prevExist=true", f"value=y&ttl={10**10}")
    wait_gone(raw, "/k")


@pytest.mark.parametrize(
    "ttl", [0, -1, TOO_LARGE, LARGE, 2**64, float("inf"), float("nan")]
)
def test_mapping_refuses_a_ttl_that_etcd_gets_wrong(
    mapping: EtcdMapping, cost: Cost, ttl: float
) -> None:
    """From above 0 to 10 years; all else is refused before any request."""

    def use() -> None:
        for call in (
            lambda: mapping.set("k", 1, ttl=ttl),
            lambda: mapping.create("k", 1, ttl=ttl),
            lambda: mapping.replace("k", 1, ttl=ttl),
            lambda: mapping.compare_and_swap("k", 1, 2, ttl=ttl),
            lambda: mapping.append(1, ttl=ttl),
            lambda: mapping.refresh("k", ttl),
            lambda: mapping.mkdir("d", ttl=ttl),
            lambda: mapping.merge({"k": 1}, ttl=ttl),
        ):
            with pytest.raises(ValueError, match="ttl"):
                call()

    assert cost(use) == []


@pytest.mark.parametrize(("given", "sent"), [(1, 1), (0.2, 1), (59.1, 60), (60.0, 60)])
def test_mapping_rounds_a_ttl_up(mapping: EtcdMapping, given: float, sent: int) -> None:
    """Whole seconds are all that etcd takes; none ends too early."""
    mapping.set("k", 1, ttl=given)
    assert mapping.ttl("k") == sent


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: m.transform("k", lambda v: v + 1), id="transform"),
        pytest.param(lambda m: m.set("k", 6, keep_ttl=True), id="keep-ttl"),
    ],
)
def test_mapping_keeps_of_a_longer_ttl_what_it_may_write(
    mapping: EtcdMapping, raw: Raw, write: Callable[[EtcdMapping], Any]
) -> None:
    """Another program may have written one of 12 years."""
    raw("PUT", "/k", "value=5&ttl=400000000")
    write(mapping)
    assert mapping["k"] == 6
    ttl = mapping.ttl("k")
    assert ttl is not None
    assert MAX_TTL - 60 < ttl <= MAX_TTL


# --- what keeps and drops a ttl -----------------------------------------------


@pytest.mark.parametrize("query", ["", "?prevExist=true", "?prevValue=x"])
def test_write_without_a_ttl_drops_it(raw: Raw, query: str) -> None:
    """Set, update and swap alike make the key stay for ever."""
    raw("PUT", "/k", "value=x&ttl=100")
    raw("PUT", f"/k{query}", "value=x")
    assert "ttl" not in raw.node("/k")


def test_children_of_a_directory_with_a_ttl_show_none(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """They end with it, but neither their ttl nor `ttl()` says so."""
    mapping.mkdir("d", ttl=100)["k"] = 1
    assert "ttl" not in raw.node("/d/k")
    assert mapping.ttl("d/k") is None
    ttl = mapping.ttl("d")
    assert ttl is not None
    assert ttl > 90


# --- a directory's ttl, later -------------------------------------------


@pytest.mark.parametrize("refresh", [False, True], ids=["update", "refresh"])
def test_ttl_of_a_directory_can_be_changed_in_3_4_only(
    raw: Raw, etcd_version: str, refresh: bool
) -> None:
    """etcd 3.5 answers 500 to what its documentation names."""
    raw("PUT", "/d?dir=true", "ttl=100")
    form = "ttl=60&refresh=true" if refresh else "ttl=60"
    answer = raw("PUT", "/d?dir=true&prevExist=true", form)
    if etcd_version.startswith("3.4."):
        assert answer.status == 200
        assert 50 < raw.node("/d")["ttl"] <= 60
    else:
        assert answer.error == (500, 300)
        assert "Not a file" in answer.json["cause"]


def test_refusal_that_all_members_share_is_asked_once(
    etcd3: LocalCluster, etcd_version: str, prefix: str
) -> None:
    """A 500 that is no trouble of one member is not tried at the others."""
    transport = CountingTransport(make_transport())
    with make_client(etcd3.endpoints, transport) as client:
        keys = KeysAPI(client)
        keys.make_directory(f"{prefix}/d", ttl=100)
        before = len(transport.requests)
        if etcd_version.startswith("3.4."):
            keys.refresh(f"{prefix}/d", 60)
        else:
            with pytest.raises(NotAFile) as caught:
                keys.refresh(f"{prefix}/d", 60)
            assert caught.value.code == 300
        assert len(transport.requests) == before + 1


# --- refresh ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param("refresh=true&prevExist=true", (400, 212), id="without-ttl"),
        pytest.param("refresh=true&value=y&ttl=5", (400, 211), id="with-a-value"),
    ],
)
def test_refresh_that_makes_no_sense_is_refused(
    raw: Raw, form: str, expected: tuple[int, int]
) -> None:
    """It takes a ttl, and nothing else."""
    raw("PUT", "/k", "value=x&ttl=100")
    assert raw("PUT", "/k", form).error == expected


def test_refresh_of_an_absent_key_may_create_it_empty(raw: Raw) -> None:
    """Unless the request says that it must be there."""
    assert raw("PUT", "/k", "refresh=true&ttl=9&prevExist=true").error == (404, 100)
    assert raw("PUT", "/k", "refresh=true&ttl=9&prevExist=false").status == 201
    assert raw.node("/k")["value"] == ""


def test_mapping_refresh_of_an_absent_key_creates_nothing(mapping: EtcdMapping) -> None:
    """It is a KeyError, with the caller's own key."""
    with pytest.raises(KeyError) as caught:
        mapping.refresh("k", 60)
    assert caught.value.args == ("k",)
    assert "k" not in mapping


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
def test_mapping_refresh_of_a_directory_is_refused_in_plain_words(
    etcd3: LocalCluster, etcd_version: str, prefix: str, known: bool
) -> None:
    """Where etcd can do it, in 3.4, it may be done."""
    with EtcdMapping(etcd3.endpoints, prefix) as mapping:
        if known:
            mapping["k"] = "was a value"
        with EtcdMapping(etcd3.endpoints, prefix) as other:
            other["k"] = {"a": 1}
        if etcd_version.startswith("3.4.") and not known:
            mapping.refresh("k", 60)
            return
        with pytest.raises(NotAFile) as caught:
            mapping.refresh("k", 60)
    assert "a directory is there, and etcd can't change its ttl" in str(caught.value)
    assert "Raft" not in str(caught.value)


def test_refresh_without_a_condition_makes_the_key_new(raw: Raw) -> None:
    """Its createdIndex starts again; with `prevExist=true` it stays."""
    created = raw("PUT", "/k", "value=x&ttl=100").json["node"]["createdIndex"]
    raw("PUT", "/k", "refresh=true&ttl=90&prevExist=true")
    assert raw.node("/k")["createdIndex"] == created
    raw("PUT", "/k", "refresh=true&ttl=90")
    assert raw.node("/k")["createdIndex"] > created
    assert raw.node("/k")["value"] == "x"


def test_mapping_refresh_keeps_value_and_creation(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """Only the ttl and the modified index change."""
    mapping.set("k", "x", ttl=10)
    before = raw.node("/k")
    mapping.refresh("k", 100)
    after = raw.node("/k")
    assert (after["value"], after["createdIndex"]) == ("x", before["createdIndex"])
    assert after["modifiedIndex"] > before["modifiedIndex"]
    assert after["ttl"] > 90


def test_refresh_emits_no_event(raw: Raw) -> None:
    """Neither live nor from the history, though it moves the index."""
    index = raw("PUT", "/k", "value=x&ttl=100").index
    assert raw("PUT", "/k", "refresh=true&ttl=90&prevExist=true").index == index + 1
    raw("PUT", "/k?prevExist=true", "value=y")
    event = raw("GET", f"/k?wait=true&waitIndex={index + 1}").json
    assert event["action"] == "update"


def test_swap_by_an_index_from_before_a_refresh_fails(
    mapping: EtcdMapping, keys_api: KeysAPI, raw: Raw
) -> None:
    """By value it works, which is how the mapping compares."""
    mapping.set("k", "x", ttl=100)
    index = raw.node("/k")["modifiedIndex"]
    mapping.refresh("k", 90)
    with pytest.raises(CompareFailed):
        keys_api.compare_and_swap(f"{mapping.prefix}/k", "y", prev_index=index)
    mapping.compare_and_swap("k", "x", "y")
    assert mapping["k"] == "y"


# --- the end ------------------------------------------------------------------


def test_ttl_left_is_rounded_up(raw: Raw) -> None:
    """A second that has begun counts whole."""
    raw("PUT", "/k", "value=x&ttl=100")
    assert raw.node("/k")["ttl"] == 100


def test_expired_key_is_seen_for_a_moment_without_a_ttl(raw: Raw) -> None:
    """Its ttl is missing or negative then, and only `expiration` tells."""
    node = make_expired(raw, "/k", "x")
    assert node.get("ttl", 0) <= 0
    assert "expiration" in node


def test_expired_key_is_not_taken_for_a_lasting_one(
    mapping: EtcdMapping, raw: Raw
) -> None:
    """`ttl` gives 0: None would mean for ever, and nothing has less than no time."""
    for _ in moments(10):
        make_expired(raw, "/k", "x")
        try:
            assert mapping.ttl("k") == 0
        except KeyNotFound:
            continue  # it went between the two reads
        return
    raise AssertionError("expired nodes are never seen")


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: m.assign({"k": "x"}), id="assign"),
        pytest.param(lambda m: m.merge({"k": "x"}), id="merge"),
    ],
)
def test_equal_value_that_has_expired_is_written_again(
    mapping: EtcdMapping, raw: Raw, write: Callable[[EtcdMapping], Any]
) -> None:
    """That it is about to go is a difference, however it is shown."""
    make_expired(raw, "/k", "x")
    write(mapping)
    index = raw.node("/k")["modifiedIndex"]
    raw("PUT", "/later", "value=x&ttl=0")
    wait_gone(raw, "/later")
    assert raw.node("/k")["modifiedIndex"] == index


def test_expired_directory_makes_one_event(raw: Raw) -> None:
    """What was in it goes without one of its own."""
    raw("PUT", "/d?dir=true", "ttl=1")
    raw("PUT", "/d/a", "value=x")
    index = raw("PUT", "/d/b", "value=x").index
    event = raw("GET", f"/?wait=true&recursive=true&waitIndex={index + 1}").json
    assert (event["action"], event["node"]["key"]) == ("expire", f"{raw.prefix}/d")
    gone = event["node"]["modifiedIndex"]
    last = raw("PUT", "/after", "value=x").index
    event = raw("GET", f"/?wait=true&recursive=true&waitIndex={gone + 1}").json
    assert (event["action"], event["node"]["modifiedIndex"]) == ("set", last)


def test_mapping_of_an_expired_directory_is_empty(
    mapping: EtcdMapping, raw: Raw, client: Client
) -> None:
    """It ends for the mapping on it as for everybody."""
    inner = mapping.mkdir("d", ttl=1)
    inner["k"] = 1
    wait_gone(raw, "/d")
    assert inner.to_dict() == {}
    assert "d" not in mapping


def test_index_of_a_directory_never_changes(raw: Raw) -> None:
    """So a listing can't be told from an older one by it."""
    before = raw("PUT", "/d?dir=true").json["node"]
    raw("PUT", "/d/k", "value=x")
    raw("DELETE", "/d/k")
    after = raw.node("/d")
    assert after["modifiedIndex"] == before["modifiedIndex"]
    assert after["createdIndex"] == before["createdIndex"]

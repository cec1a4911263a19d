"""What an EtcdMapping does beyond a dict: paths, ttls, files in the way, codecs."""

from __future__ import annotations

import http.client
import json
import socket
import warnings
from collections.abc import Callable, Iterator
from operator import delitem, setitem
from typing import Any
from urllib.parse import urlsplit

import pytest

from etcdmap import (
    Client,
    ClientClosed,
    ClusterUnavailable,
    DecodeError,
    EtcdMapError,
    EtcdMapping,
    InvalidKey,
    KeyNotFound,
    LimitExceeded,
    NotADirectory,
    PartialWrite,
    PrefixRequired,
    ReadOnly,
    Unauthorized,
)
from etcdmap.local import LocalCluster
from etcdmap.transport import Answer
from etcdmap.transport import Request as HTTPRequest

from support.mapping_kit import read_tree, write_tree
from support.transports import Between, CountingTransport, answer
from support.values import same_value
from support.waiting import soon

Cost = Callable[[Callable[[], object]], list[str]]
Call = Callable[[EtcdMapping], object]

#: Above etcd's limit for a form, which is 10 MiB.
TOO_LARGE = "x" * (10 * 1024 * 1024)


@pytest.fixture
def stored(mapping: EtcdMapping) -> Callable[[], Any]:
    """Give a function that tells what is stored below the mapping's prefix."""
    return lambda: read_tree(mapping.keys_api, mapping.prefix)


def fill(mapping: EtcdMapping, content: dict[str, Any]) -> None:
    """Store the first content of a mapping, behind its back."""
    write_tree(mapping.keys_api, mapping.prefix, content)


# --- path keys ---------------------------------------------------------------


def test_path_key_written_makes_the_directories(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """Directories on the way are made."""
    mapping["a/b/c"] = 1
    assert stored() == {"a": {"b": {"c": 1}}}


def test_path_key_written_keeps_its_neighbours(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A path changes one node only, alone or in an update."""
    fill(mapping, {"a": {"b": 1, "c": 2}})
    mapping["a/b"] = 3
    mapping.update({"a/d": 4, "e/f": 5})
    assert stored() == {"a": {"b": 3, "c": 2, "d": 4}, "e": {"f": 5}}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m: m["a/b/c"], 1, id="getitem"),
        pytest.param(lambda m: m["a"]["b/c"], 1, id="getitem-in-steps"),
        pytest.param(lambda m: m["a/b"].to_dict(), {"c": 1}, id="getitem-directory"),
        pytest.param(lambda m: m.get("a/b/c"), 1, id="get"),
        pytest.param(lambda m: m.get("a/x", 5), 5, id="get-absent"),
        pytest.param(lambda m: "a/b/c" in m, True, id="contains"),
        pytest.param(lambda m: "a/b/x" in m, False, id="contains-absent"),
        pytest.param(lambda m: m.pop("a/b/c"), 1, id="pop"),
        pytest.param(lambda m: m.setdefault("a/b/c", 2), 1, id="setdefault"),
        pytest.param(lambda m: m.setdefault("x/y", 2), 2, id="setdefault-absent"),
        pytest.param(lambda m: m.ttl("a/b/c"), None, id="ttl"),
        pytest.param(lambda m: m.sub("a/b")["c"], 1, id="sub"),
        pytest.param(lambda m: m.sub("a").sub("b")["c"], 1, id="sub-in-steps"),
    ],
)
def test_path_key_reads_the_same_tree(
    mapping: EtcdMapping, call: Call, expected: object
) -> None:
    """Every method takes paths."""
    fill(mapping, {"a": {"b": {"c": 1}}})
    assert call(mapping) == expected


def test_path_key_deleted_leaves_the_directory(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """Deleting the last key of a directory leaves it empty."""
    fill(mapping, {"a": {"b": 1}})
    del mapping["a/b"]
    assert stored() == {"a": {}}


def test_path_key_with_mapping_replaces_that_directory(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A mapping can be assigned to a path."""
    fill(mapping, {"a": {"b": {"old": 1}, "c": 2}})
    mapping["a/b"] = {"new": {"x": 1}}
    assert stored() == {"a": {"b": {"new": {"x": 1}}, "c": 2}}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m["a/x/y"], id="getitem"),
        pytest.param(lambda m: m.pop("a/x/y"), id="pop"),
        pytest.param(lambda m: delitem(m, "a/x/y"), id="del"),
        pytest.param(lambda m: m.ttl("a/x/y"), id="ttl"),
    ],
)
def test_path_key_absent_is_named_whole(mapping: EtcdMapping, call: Call) -> None:
    """The KeyError holds the path as the caller gave it, and is one of ours."""
    fill(mapping, {"a": {"b": 1}})
    with pytest.raises(KeyError) as caught:
        call(mapping)
    assert caught.value.args == ("a/x/y",)
    assert isinstance(caught.value, KeyNotFound)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"a": 1, "a/b": 2}, id="value-and-below"),
        pytest.param({"a/b/c": 1, "a": {"b": 2}}, id="mapping-and-below"),
        pytest.param({"x": 1, "a/b/c/d": 2, "a/b": 3}, id="levels-apart"),
    ],
)
def test_path_key_below_another_of_the_update_is_refused(
    mapping: EtcdMapping, cost: Cost, other: dict[str, Any]
) -> None:
    """An update that names a node and one below it is refused whole."""

    def update() -> None:
        with pytest.raises(InvalidKey):
            mapping.update(other)

    assert cost(update) == []


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: setitem(m, "a", {"b/c": 1}), id="setitem"),
        pytest.param(lambda m: setitem(m, "a", {"x": {"b/c": 1}}), id="setitem-deep"),
        pytest.param(lambda m: m.update(a={"b/c": 1}), id="update"),
        pytest.param(lambda m: m.setdefault("a", {"b/c": 1}), id="setdefault"),
    ],
)
def test_path_key_inside_a_mapping_value_is_refused(
    mapping: EtcdMapping, cost: Cost, call: Call
) -> None:
    """Inside a mapping value every key is one segment; the error names its path."""

    def write() -> None:
        with pytest.raises(InvalidKey, match=f"{mapping.prefix}/a/(x/)?b/c"):
            call(mapping)

    assert cost(write) == []


# --- sub-mappings ------------------------------------------------------------


def test_sub_gives_a_mapping_on_the_subdirectory(mapping: EtcdMapping) -> None:
    """`sub` shares the client and stands on the subdirectory."""
    sub = mapping.sub("a/b")
    assert type(sub) is EtcdMapping
    assert sub.prefix == f"{mapping.prefix}/a/b"
    assert sub.client is mapping.client


def test_sub_of_absent_directory_is_empty_until_written(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A subdirectory need not exist; the first write makes it."""
    sub = mapping.sub("a")
    assert sub == {}
    sub["b"] = 1
    assert stored() == {"a": {"b": 1}}


def test_sub_sees_what_others_write(mapping: EtcdMapping, client: Client) -> None:
    """Sub-mappings and views are live."""
    mapping["a"] = {"b": 1}
    held, items = mapping["a"], mapping["a"].items()
    other = EtcdMapping(client=client, prefix=mapping.prefix)
    other["a/b"] = 2
    other["a/c"] = 3
    assert held["b"] == 2
    assert list(items) == [("b", 2), ("c", 3)]


def test_sub_of_a_subclass_is_one_of_it(client: Client, prefix: str) -> None:
    """A subclass stays one on the way down, whatever its constructor takes."""

    class Config(EtcdMapping):
        def __init__(self, name: str) -> None:
            super().__init__(client=client, prefix=prefix)
            self.name = name

    config = Config("mine")
    config["a"] = {"b": {"c": 1}}
    below = config["a"]["b"]
    assert type(below) is Config
    assert below["c"] == 1
    assert type(config.sub("x")) is Config


def test_sub_of_deleted_directory_is_empty_and_comes_back(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A mapping outlives its directory, and a write makes it again."""
    mapping["a"] = {"b": 1}
    held = mapping["a"]
    del mapping["a"]
    assert dict(held) == {}
    held["c"] = 2
    assert stored() == {"a": {"c": 2}}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(len, 0, id="len"),
        pytest.param(bool, False, id="bool"),
        pytest.param(list, [], id="iter"),
        pytest.param(lambda m: list(reversed(m)), [], id="reversed"),
        pytest.param(lambda m: list(m.values()), [], id="values"),
        pytest.param(lambda m: m.to_dict(), {}, id="to_dict"),
        pytest.param(lambda m: m == {}, True, id="eq"),
        pytest.param(lambda m: m | {"a": 1}, {"a": 1}, id="or"),
        pytest.param(lambda m: m.get("a", 5), 5, id="get"),
        pytest.param(lambda m: "a" in m, False, id="contains"),
        pytest.param(lambda m: m.pop("a", 5), 5, id="pop"),
        pytest.param(lambda m: m.clear(), None, id="clear"),
        pytest.param(lambda m: m.update(), None, id="update-nothing"),
    ],
)
def test_absent_directory_reads_as_empty(
    mapping: EtcdMapping, stored: Callable[[], Any], call: Call, expected: object
) -> None:
    """A mapping whose directory is absent is empty, and reading does not make it."""
    assert call(mapping) == expected
    assert stored() is None


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: setitem(m, "a", 1), id="setitem"),
        pytest.param(lambda m: m.set("a", 1), id="set"),
        pytest.param(lambda m: m.set("a", 1, keep_ttl=True), id="set-keep-ttl"),
        pytest.param(lambda m: m.setdefault("a", 1), id="setdefault"),
        pytest.param(lambda m: m.update(a=1), id="update"),
    ],
)
def test_absent_directory_is_made_by_a_write(
    mapping: EtcdMapping, stored: Callable[[], Any], call: Call
) -> None:
    """Any write makes the directory."""
    call(mapping)
    assert stored() == {"a": 1}


def test_clear_keeps_the_directory_itself(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """The directory that the mapping stands on stays, empty."""
    fill(mapping, {"a": 1, "b": {"c": 2}})
    mapping.clear()
    assert stored() == {}


# --- a file in the way -------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(len, id="len"),
        pytest.param(bool, id="bool"),
        pytest.param(iter, id="iter"),
        pytest.param(reversed, id="reversed"),
        pytest.param(lambda m: list(m.keys()), id="keys"),
        pytest.param(lambda m: list(m.values()), id="values"),
        pytest.param(lambda m: list(m.items()), id="items"),
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
        pytest.param(lambda m: m.copy(), id="copy"),
        pytest.param(lambda m: m == {}, id="eq"),
        pytest.param(lambda m: m | {}, id="or"),
        pytest.param(lambda m: m.popitem(), id="popitem"),
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: setitem(m, "k", 1), id="setitem"),
        pytest.param(lambda m: setitem(m, "k/l", 1), id="setitem-path"),
        pytest.param(lambda m: setitem(m, "k", {"l": 1}), id="setitem-mapping"),
        pytest.param(lambda m: setitem(m, "k", {}), id="setitem-empty-mapping"),
        pytest.param(lambda m: m.set("k", 1, ttl=60), id="set-ttl"),
        pytest.param(lambda m: m.set("k", 1, keep_ttl=True), id="set-keep-ttl"),
        pytest.param(lambda m: m.setdefault("k", 1), id="setdefault"),
        pytest.param(lambda m: m.setdefault("k", {}), id="setdefault-mapping"),
        pytest.param(lambda m: m.update(k=1, l=2), id="update"),
    ],
)
def test_file_in_place_of_the_directory_raises_notadirectory(
    mapping: EtcdMapping, stored: Callable[[], Any], call: Call
) -> None:
    """A whole read or a write of a mapping that is a file now says so, no KeyError."""
    fill(mapping, {"f": 1})
    with pytest.raises(NotADirectory) as caught:
        call(mapping.sub("f"))
    assert not isinstance(caught.value, KeyError)
    assert stored() == {"f": 1}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: setitem(m, "f/k", 1), id="setitem"),
        pytest.param(lambda m: setitem(m, "f/k/l", {"x": 1}), id="setitem-mapping"),
        pytest.param(lambda m: m.set("f/k", 1, keep_ttl=True), id="set-keep-ttl"),
        pytest.param(lambda m: m.setdefault("f/k", 1), id="setdefault"),
        pytest.param(lambda m: m.update({"a": 1, "f/k": 1}), id="update"),
        pytest.param(lambda m: m.update({"a": 1, "f/k/l": {}}), id="update-mapping"),
    ],
)
def test_file_on_the_way_of_a_write_raises_notadirectory(
    mapping: EtcdMapping, stored: Callable[[], Any], call: Call
) -> None:
    """Nothing is written below a file, nor beside it in the same update."""
    fill(mapping, {"f": 1})
    with pytest.raises(NotADirectory):
        call(mapping)
    assert stored() == {"f": 1}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, key: m.get(key, 5), 5, id="get"),
        pytest.param(lambda m, key: key in m, False, id="contains"),
        pytest.param(lambda m, key: key in m.keys(), False, id="keys"),  # noqa: SIM118
        pytest.param(lambda m, key: (key, 1) in m.items(), False, id="items"),
        pytest.param(lambda m, key: m.pop(key, 5), 5, id="pop"),
    ],
)
def test_file_on_the_way_of_a_read_means_absent(
    mapping: EtcdMapping, call: Callable[[Any, str], object], expected: object
) -> None:
    """A key below a file is absent, by path and through a sub-mapping."""
    fill(mapping, {"f": 1})
    assert call(mapping, "f/k") == expected
    assert call(mapping, "f/k/l") == expected
    assert call(mapping.sub("f"), "k") == expected


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m, key: m[key], id="getitem"),
        pytest.param(lambda m, key: m.pop(key), id="pop"),
        pytest.param(lambda m, key: delitem(m, key), id="del"),
        pytest.param(lambda m, key: m.ttl(key), id="ttl"),
    ],
)
def test_file_on_the_way_of_a_read_raises_keyerror(
    mapping: EtcdMapping,
    stored: Callable[[], Any],
    call: Callable[[Any, str], object],
) -> None:
    """A key below a file is a KeyError with the caller's key."""
    fill(mapping, {"f": 1})
    for m, key in ((mapping, "f/k"), (mapping, "f/k/l"), (mapping.sub("f"), "k")):
        with pytest.raises(KeyError) as caught:
            call(m, key)
        assert caught.value.args == (key,)
    assert stored() == {"f": 1}


# --- time to live ------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        pytest.param(100, 100, id="int"),
        pytest.param(99.01, 100, id="float-rounds-up"),
        pytest.param(1, 1, id="least"),
        pytest.param(0.01, 1, id="fraction"),
        pytest.param(10 * 365 * 24 * 3600, 10 * 365 * 24 * 3600, id="ten-years"),
    ],
)
def test_set_ttl_is_whole_seconds_rounded_up(
    mapping: EtcdMapping, ttl: float, expected: int
) -> None:
    """A ttl is rounded up to whole seconds."""
    mapping.set("k", "v", ttl=ttl)
    left = mapping.ttl("k")
    assert left is not None
    assert expected - 2 < left <= expected


def test_set_ttl_over_a_directory_replaces_it(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A value with a ttl takes the place of a directory as well."""
    fill(mapping, {"k": {"a": 1}})
    mapping.set("k", "v", ttl=100)
    assert stored() == {"k": "v"}
    assert mapping.ttl("k") in (99, 100)


def test_set_ttl_passed_the_key_is_absent(mapping: EtcdMapping) -> None:
    """When the ttl is over, the key is gone."""
    mapping.set("k", "v", ttl=1)
    assert mapping["k"] == "v"
    assert soon(lambda: "k" not in mapping)
    assert mapping.get("k", "default") == "default"


def test_set_without_ttl_gives_the_index_of_the_write(mapping: EtcdMapping) -> None:
    """`set` returns the index of its own write, and the key stays for ever."""
    first, second = mapping.set("k", 1), mapping.set("k", 2)
    node = mapping.keys_api.get(f"{mapping.prefix}/k").node
    assert node is not None
    assert node.modified_index == second
    assert first is not None
    assert second is not None
    assert first < second
    assert mapping.ttl("k") is None


def test_set_mapping_gives_none(mapping: EtcdMapping) -> None:
    """A mapping is many writes, so there is no one index."""
    assert mapping.set("k", {"a": 1}) is None


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: setitem(m, "k", "v"), id="setitem"),
        pytest.param(lambda m: m.set("k", "v"), id="set"),
        pytest.param(lambda m: m.update(k="v"), id="update"),
        pytest.param(lambda m: setitem(m, "k", "w"), id="other-value"),
    ],
)
def test_write_without_ttl_drops_it(mapping: EtcdMapping, call: Call) -> None:
    """A plain write, even of the same value, makes the key stay for ever."""
    mapping.set("k", "v", ttl=100)
    call(mapping)
    assert mapping.ttl("k") is None


def test_write_of_an_equal_mapping_drops_the_ttl_inside(mapping: EtcdMapping) -> None:
    """What is assigned stays: a ttl inside is a difference."""
    mapping["d"] = {"a": 1, "b": {"c": 2}}
    mapping.set("d/a", 1, ttl=100)
    mapping.set("d/b", {"c": 2}, ttl=100)
    mapping["d"] = {"a": 1, "b": {"c": 2}}
    assert mapping.ttl("d/a") is None
    assert mapping.ttl("d/b") is None
    assert mapping == {"d": {"a": 1, "b": {"c": 2}}}


def test_set_keep_ttl_keeps_what_is_left(mapping: EtcdMapping) -> None:
    """`keep_ttl` changes the value only."""
    mapping.set("k", "v", ttl=100)
    mapping.set("k", "w", keep_ttl=True)
    assert mapping["k"] == "w"
    assert mapping.ttl("k") in (98, 99, 100)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="absent"),
        pytest.param({"k": 1}, id="without-ttl"),
        pytest.param({"k": {"a": 1}}, id="directory"),
    ],
)
def test_set_keep_ttl_without_one_stores_for_ever(
    mapping: EtcdMapping, content: dict[str, Any]
) -> None:
    """Where there is no ttl to keep, `keep_ttl` just stores."""
    fill(mapping, content)
    index = mapping.set("k", "w", keep_ttl=True)
    assert (mapping["k"], mapping.ttl("k")) == ("w", None)
    assert type(index) is int


def test_set_keep_ttl_never_overwrites_a_newer_write(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """A write that comes in between is seen, and its ttl kept."""
    mapping.set("k", "v", ttl=100)
    inner = transport.inner

    class Interfering(Between):
        def exchange(
            self, endpoint: str, request: HTTPRequest, timeout: float
        ) -> Answer:
            given = super().exchange(endpoint, request, timeout)
            if request.method == "GET":
                transport.inner = inner
                mapping.set("k", "theirs", ttl=1000)
            return given

    transport.inner = Interfering(inner)
    mapping.set("k", "ours", keep_ttl=True)
    left = mapping.ttl("k")
    assert mapping["k"] == "ours"
    assert left is not None
    assert left > 900


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"ttl": 0}, ValueError, id="zero"),
        pytest.param({"ttl": -1}, ValueError, id="negative"),
        pytest.param({"ttl": float("nan")}, ValueError, id="nan"),
        pytest.param({"ttl": float("inf")}, ValueError, id="infinite"),
        pytest.param({"ttl": 7.5e9}, ValueError, id="overflowing"),
        pytest.param({"ttl": True}, TypeError, id="bool"),
        pytest.param({"ttl": "60"}, TypeError, id="str"),
        pytest.param({"ttl": 60, "keep_ttl": True}, ValueError, id="both"),
    ],
)
@pytest.mark.parametrize(
    "value", [pytest.param(1, id="value"), pytest.param({"b": 2}, id="mapping")]
)
def test_set_with_impossible_ttl_changes_nothing(
    mapping: EtcdMapping,
    stored: Callable[[], Any],
    cost: Cost,
    value: object,
    arguments: dict[str, Any],
    error: type[Exception],
) -> None:
    """A ttl that etcd would misread is refused before any request."""
    fill(mapping, {"k": {"a": 1}})

    def write() -> None:
        with pytest.raises(error):
            mapping.set("k", value, **arguments)

    assert cost(write) == []
    assert stored() == {"k": {"a": 1}}


def test_ttl_of_a_directory_is_given_at_creation(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A mapping set with a ttl is a directory that expires with all in it."""
    mapping.set("d", {"a": 1, "b": {"c": 2}}, ttl=100)
    assert stored() == {"d": {"a": 1, "b": {"c": 2}}}
    assert mapping.ttl("d") in (99, 100)
    assert mapping.ttl("d/a") is None


@pytest.mark.parametrize(
    "before",
    [
        pytest.param({"d": 1}, id="over-a-file"),
        pytest.param({"d": {"old": 1, "a": 1}}, id="over-a-directory"),
    ],
)
def test_ttl_of_a_directory_makes_it_anew(
    mapping: EtcdMapping, stored: Callable[[], Any], before: dict[str, Any]
) -> None:
    """etcd takes a directory's ttl at its creation only, so it is made anew."""
    fill(mapping, before)
    mapping.set("d", {"a": 2}, ttl=100)
    assert stored() == {"d": {"a": 2}}
    assert mapping.ttl("d") in (99, 100)


def test_ttl_of_a_directory_stays_on_writes_below(mapping: EtcdMapping) -> None:
    """Writing below a directory leaves its ttl."""
    mapping.set("d", {"a": 1}, ttl=100)
    mapping["d/b"] = 2
    mapping["d"]["c"] = 3
    assert mapping.ttl("d") in (98, 99, 100)


def test_ttl_of_a_directory_passed_takes_all_with_it(mapping: EtcdMapping) -> None:
    """When a directory's ttl is over, a mapping held on it is empty."""
    mapping.set("d", {"a": 1}, ttl=1)
    held = mapping["d"]
    assert held == {"a": 1}
    assert soon(lambda: "d" not in mapping)
    assert held == {}


@pytest.mark.parametrize("key", ["absent", "", "_h", 5])
def test_ttl_of_absent_key_raises_keyerror(mapping: EtcdMapping, key: Any) -> None:
    """`ttl` of a key that is not there is a KeyError with it."""
    with pytest.raises(KeyError) as caught:
        mapping.ttl(key)
    assert caught.value.args == (key,)


# --- read-only ---------------------------------------------------------------

WRITES = [
    pytest.param(lambda m: setitem(m, "a", 1), id="setitem"),
    pytest.param(lambda m: setitem(m, "d", {"a": 1}), id="setitem-mapping"),
    pytest.param(lambda m: m.set("a", 1), id="set"),
    pytest.param(lambda m: m.set("a", 1, ttl=9), id="set-ttl"),
    pytest.param(lambda m: m.set("a", 1, keep_ttl=True), id="set-keep-ttl"),
    pytest.param(lambda m: delitem(m, "a"), id="del"),
    pytest.param(lambda m: delitem(m, "absent"), id="del-absent"),
    pytest.param(lambda m: m.pop("a"), id="pop"),
    pytest.param(lambda m: m.pop("absent", 1), id="pop-default"),
    pytest.param(lambda m: m.popitem(), id="popitem"),
    pytest.param(lambda m: m.setdefault("a", 1), id="setdefault"),
    pytest.param(lambda m: m.update(a=1), id="update"),
    pytest.param(lambda m: m.__ior__({"a": 1}), id="ior"),
    pytest.param(lambda m: m.clear(), id="clear"),
]


@pytest.mark.parametrize("call", WRITES)
def test_readonly_write_raises_before_any_request(
    mapping: EtcdMapping, cost: Cost, call: Call
) -> None:
    """Every write on a read-only mapping, and on what it gives, is refused."""
    mapping.update({"a": 1, "d": {"a": 1}})
    readonly = EtcdMapping(client=mapping.client, prefix=mapping.prefix, readonly=True)
    targets = [readonly, readonly.sub("d"), readonly["d"], dict(readonly.items())["d"]]

    def write() -> None:
        for target in targets:
            with pytest.raises(ReadOnly) as caught:
                call(target)
            assert isinstance(caught.value, TypeError)

    assert cost(write) == []


def test_readonly_reads_as_any_other(mapping: EtcdMapping) -> None:
    """A read-only mapping reads, and says what it is."""
    mapping.update(a=1, d={"b": 2})
    readonly = EtcdMapping(client=mapping.client, prefix=mapping.prefix, readonly=True)
    assert readonly == {"a": 1, "d": {"b": 2}}
    assert readonly["d"]["b"] == 2
    assert (readonly.readonly, readonly["d"].readonly) == (True, True)
    assert mapping.readonly is False


# --- closing -----------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.get("a", 1), id="get"),
        pytest.param(lambda m: "a" in m, id="contains"),
        pytest.param(lambda m: m.pop("a", 1), id="pop"),
        pytest.param(lambda m: setitem(m, "a", 1), id="setitem"),
        pytest.param(lambda m: m.sub("d").to_dict(), id="sub"),
    ],
)
def test_close_own_client_ends_its_use(
    etcd: LocalCluster, prefix: str, call: Call
) -> None:
    """A mapping that made its client closes it; using it then is an error."""
    mapping = EtcdMapping(etcd.endpoints, prefix=prefix)
    mapping["x"] = 1
    mapping.close()
    mapping.close()
    with pytest.raises(ClientClosed):
        call(mapping)


def test_close_shared_client_leaves_it_open(client: Client, prefix: str) -> None:
    """A client that was given stays open."""
    with EtcdMapping(client=client, prefix=prefix) as mapping:
        mapping["a"] = 1
    assert mapping["a"] == 1


def test_close_sub_mapping_leaves_the_client_open(
    etcd: LocalCluster, prefix: str
) -> None:
    """Only the mapping that made the client closes it, not what it gave away."""
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        mapping["d"] = {"a": 1}
        mapping["d"].close()
        with mapping.sub("d") as sub:
            assert sub["a"] == 1
        assert mapping["d/a"] == 1


def test_with_gives_the_mapping_and_closes_it(etcd: LocalCluster, prefix: str) -> None:
    """`with` gives the mapping itself, and closes it at the end."""
    mapping = EtcdMapping(etcd.endpoints, prefix=prefix)
    with mapping as same:
        assert same is mapping
        same["a"] = 1
    with pytest.raises(ClientClosed):
        len(mapping)


def test_with_closes_the_mapping_by_error_too(etcd: LocalCluster, prefix: str) -> None:
    """An error in the block gets out, and the mapping is closed."""
    mapping = EtcdMapping(etcd.endpoints, prefix=prefix)
    with pytest.raises(KeyError), mapping:
        mapping["absent"]
    with pytest.raises(ClientClosed):
        len(mapping)


# --- keys that can't exist ---------------------------------------------------

NEVER = [
    pytest.param("", id="empty"),
    pytest.param("/", id="slash"),
    pytest.param("//", id="slashes"),
    pytest.param("/a", id="leading-slash"),
    pytest.param("a/", id="trailing-slash"),
    pytest.param("a//b", id="empty-segment"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="dot-dot"),
    pytest.param("a/./b", id="dot-inside"),
    pytest.param("a/../b", id="dot-dot-inside"),
    pytest.param("a/..", id="dot-dot-at-the-end"),
    pytest.param("_a", id="hidden"),
    pytest.param("a/_b", id="hidden-inside"),
    pytest.param("\ud800", id="surrogate"),
    pytest.param("a\udfff/b", id="surrogate-inside"),
    pytest.param("/".join("a" * 300), id="too-deep"),
    pytest.param("a" * 1_000_001, id="too-long"),
]
CONTROL = [
    pytest.param("\x00", id="nul"),
    pytest.param("a\x00b", id="nul-inside"),
    pytest.param("a\tb", id="tab"),
    pytest.param("a/b\n", id="newline"),
    pytest.param("\r", id="carriage-return"),
    pytest.param("\x1b[1m", id="escape"),
    pytest.param("\x7f", id="delete"),
    pytest.param("\x85", id="c1"),
]
NO_STR = [
    pytest.param(1, id="int"),
    pytest.param(None, id="none"),
    pytest.param(True, id="bool"),
    pytest.param(1.5, id="float"),
    pytest.param(b"a", id="bytes"),
    pytest.param(("a", "b"), id="tuple"),
    pytest.param(["a"], id="unhashable"),
]


@pytest.mark.parametrize("key", [*NEVER, *NO_STR])
def test_impossible_key_reads_as_absent_without_a_request(
    mapping: EtcdMapping, cost: Cost, key: Any
) -> None:
    """A key that can't exist is absent, and etcd is not asked."""
    mapping["a"] = {"b": 1}

    def read() -> None:
        assert mapping.get(key, 5) == 5
        assert key not in mapping
        assert key not in mapping.keys()  # noqa: SIM118
        assert (key, 1) not in mapping.items()
        assert mapping.pop(key, 5) == 5
        for call in (
            mapping.__getitem__,
            mapping.__delitem__,
            mapping.pop,
            mapping.ttl,
        ):
            with pytest.raises(KeyError) as caught:
                call(key)
            assert caught.value.args == (key,)

    assert cost(read) == []


@pytest.mark.parametrize("key", [*NEVER, *CONTROL, *NO_STR])
def test_impossible_key_written_is_refused_before_any_request(
    mapping: EtcdMapping, cost: Cost, key: Any
) -> None:
    """Writing such a key is an error of its kind, and nothing is written at all."""
    expected = (InvalidKey, LimitExceeded) if isinstance(key, str) else TypeError
    writes: list[Call] = [
        lambda m: setitem(m, key, 1),
        lambda m: setitem(m, key, {"a": 1}),
        lambda m: m.set(key, 1, keep_ttl=True),
        lambda m: m.setdefault(key, 1),
        lambda m: m.sub(key),
        lambda m: m.update([("ok", 1), *pairs(key)]),
        lambda m: m.update(ok={"x": {"y": dict(pairs(key))}}),
        lambda m: setitem(m, "ok", {"x": 1, **dict(pairs(key))}),
    ]

    def write() -> None:
        for call in writes:
            with pytest.raises(expected):
                call(mapping)

    assert cost(write) == []


def pairs(key: Any) -> list[tuple[Any, int]]:
    """Give a pair for `dict`; an unhashable key is made a hashable one."""
    return [(tuple(key) if isinstance(key, list) else key, 2)]


@pytest.mark.parametrize("key", CONTROL)
def test_control_character_in_existing_key_can_be_read(
    mapping: EtcdMapping, key: str
) -> None:
    """What others stored under such a key can be read, listed and deleted."""
    mapping.keys_api.set(f"{mapping.prefix}/{key}", "v")
    assert (mapping[key], key in mapping) == ("v", True)
    assert mapping.to_dict() == (
        {key: "v"} if "/" not in key else {"a": {key.partition("/")[2]: "v"}}
    )
    del mapping[key]
    assert key not in mapping


def test_hidden_node_of_others_is_not_seen(mapping: EtcdMapping) -> None:
    """Nodes whose name starts with "_" belong to no listing and no lookup."""
    fill(mapping, {"a": 1})
    mapping.keys_api.set(f"{mapping.prefix}/_h", "secret")
    assert mapping == {"a": 1}
    assert (len(mapping), "_h" in mapping, mapping.get("_h")) == (1, False, None)


@pytest.fixture
def raw_name(mapping: EtcdMapping, etcd: LocalCluster) -> Iterator[str]:
    """Store a node whose name is no UTF-8 beside "ok"; give the path shown of it."""
    fill(mapping, {"ok": 1})
    connection = http.client.HTTPConnection(
        urlsplit(etcd.endpoints[0]).netloc, timeout=5
    )
    target = f"/v2/keys{mapping.prefix}/a%ff"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("PUT", target, "value=x", form)
    assert connection.getresponse().status == 201
    connection.close()
    yield f"{mapping.prefix}/a\ufffd"
    mapping.keys_api.delete(mapping.prefix, recursive=True)


def test_name_that_cannot_be_addressed_is_left_out_with_one_warning(
    mapping: EtcdMapping, raw_name: str
) -> None:
    """A name of raw bytes that no str spells is left out, and said once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert list(mapping) == ["ok"]
        assert len(mapping) == 1
        assert mapping.to_dict() == {"ok": 1}
        assert list(mapping.items()) == [("ok", 1)]
    assert len(caught) == 1
    assert raw_name in str(caught[0].message)


def test_invalid_key_error_names_the_path(mapping: EtcdMapping) -> None:
    """The error shows the whole path of the key refused."""
    with pytest.raises(InvalidKey, match=f"{mapping.prefix}/a/b/_c"):
        mapping["a"] = {"b": {"_c": 1}}


# --- values that are refused -------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param((1, 2), TypeError, id="tuple"),
        pytest.param({1}, TypeError, id="set"),
        pytest.param(b"x", TypeError, id="bytes"),
        pytest.param(object(), TypeError, id="object"),
        pytest.param(float("nan"), ValueError, id="nan"),
        pytest.param("\ud800", ValueError, id="surrogate"),
        pytest.param([{1: 2}], TypeError, id="int-key-in-a-list"),
        pytest.param(TOO_LARGE, LimitExceeded, id="too-large"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m, value: setitem(m, "d", value), id="setitem"),
        pytest.param(
            lambda m, value: setitem(m, "d", {"x": 1, "y": {"z": value}}),
            id="in-a-mapping",
        ),
        pytest.param(lambda m, value: m.update(a=2, z=value), id="update"),
        pytest.param(lambda m, value: m.setdefault("new", value), id="setdefault"),
        pytest.param(
            lambda m, value: m.set("d", {"x": value}, ttl=60), id="set-mapping-ttl"
        ),
    ],
)
def test_refused_value_changes_nothing(
    mapping: EtcdMapping,
    stored: Callable[[], Any],
    cost: Cost,
    value: object,
    error: type[Exception],
    call: Callable[[Any, object], object],
) -> None:
    """A value that can't be stored is refused, with all around it, before a request."""
    fill(mapping, {"a": 1, "d": {"b": 2}})

    def write() -> None:
        with pytest.raises(error):
            call(mapping, value)

    assert cost(write) == []
    assert stored() == {"a": 1, "d": {"b": 2}}


def test_mapping_that_holds_itself_is_refused(mapping: EtcdMapping, cost: Cost) -> None:
    """An endless mapping ends at the limit of depth, before any request."""
    endless: dict[str, Any] = {"a": 1}
    endless["again"] = endless

    def write() -> None:
        with pytest.raises(LimitExceeded):
            mapping["k"] = endless

    assert cost(write) == []


# --- one mapping assigned to another -----------------------------------------


def test_assign_etcd_mapping_copies_it(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """Another mapping is stored as a copy that goes its own way."""
    fill(mapping, {"a": {"b": 1, "c": {"d": [2]}, "e": {}}})
    mapping["x"] = mapping["a"]
    mapping["a/b"] = 9
    assert stored()["x"] == {"b": 1, "c": {"d": [2]}, "e": {}}


def test_assign_etcd_mapping_inside_a_dict_reads_it_once(
    mapping: EtcdMapping, stored: Callable[[], Any], cost: Cost
) -> None:
    """A mapping within an assigned dict is read in one request too."""
    fill(mapping, {"a": {"b": {"c": {"d": 1}}}})
    held = mapping.sub("a")
    assert cost(lambda: setitem(mapping, "x", {"y": held})) == ["GET", "GET", "PUT"]
    assert stored()["x"] == {"y": {"b": {"c": {"d": 1}}}}


def test_assign_etcd_mapping_to_a_key_of_itself(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A mapping can be stored in itself: it is read first."""
    fill(mapping, {"a": 1})
    mapping["b"] = mapping
    assert stored() == {"a": 1, "b": {"a": 1}}


def test_assign_etcd_mapping_over_its_own_parent(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A directory can be put in the place of the one that holds it."""
    fill(mapping, {"a": {"b": {"c": 1}, "d": 2}})
    mapping["a"] = mapping["a/b"]
    assert stored() == {"a": {"c": 1}}


def test_assign_etcd_mapping_of_another_codec_converts(
    mapping: EtcdMapping, client: Client
) -> None:
    """Values pass from one codec to another, not texts."""
    source = EtcdMapping(client=client, prefix=f"{mapping.prefix}/s", codec="json")
    source.update(a="x", b="8080", c=[1])
    target = EtcdMapping(client=client, prefix=f"{mapping.prefix}/t")
    target["copy"] = source
    texts = read_tree(mapping.keys_api, f"{mapping.prefix}/t/copy", text=True)
    assert texts == {"a": "x", "b": '"8080"', "c": "[1]"}


# --- codecs ------------------------------------------------------------------


class Reversing:
    """A codec of the user's."""

    def encode(self, value: Any) -> str:
        """Turn it round."""
        return str(value)[::-1]

    def decode(self, text: str) -> Any:
        """Turn it round again."""
        return text[::-1]


class Bytes(Reversing):
    """A codec that gives the wrong type."""

    def encode(self, value: Any) -> Any:
        """Give bytes, which etcd can't store."""
        return b"bytes"


class Broken:
    """A codec that can't read."""

    def encode(self, value: Any) -> str:
        """Write anything."""
        return str(value)

    def decode(self, text: str) -> Any:
        """Fail like a dict, which would read as "absent"."""
        raise KeyError(text)


@pytest.mark.parametrize(
    ("codec", "value", "text"),
    [
        pytest.param("auto", "x", "x", id="auto-str"),
        pytest.param("auto", "8080", '"8080"', id="auto-digits"),
        pytest.param("auto", 8080, "8080", id="auto-int"),
        pytest.param("json", "x", '"x"', id="json-str"),
        pytest.param("json", [1, None], "[1,null]", id="json-list"),
        pytest.param("text", "8080", "8080", id="text-digits"),
        pytest.param(Reversing(), "abc", "cba", id="object"),
    ],
)
def test_codec_of_the_mapping_decides_the_text(
    client: Client, prefix: str, codec: Any, value: Any, text: str
) -> None:
    """Each mapping has its codec, which its sub-mappings and dicts share."""
    mapping = EtcdMapping(client=client, prefix=prefix, codec=codec)
    mapping["a"] = value
    mapping["b"] = {"c": value}
    mapping.sub("d")["e"] = value
    mapping.update(f=value)
    expected = {"a": text, "b": {"c": text}, "d": {"e": text}, "f": text}
    assert read_tree(mapping.keys_api, prefix, text=True) == expected
    assert same_value(mapping["b"]["c"], value)
    assert same_value(
        mapping.to_dict(),
        {"a": value, "b": {"c": value}, "d": {"e": value}, "f": value},
    )


@pytest.mark.parametrize(
    ("codec", "error"),
    [
        pytest.param("yaml", ValueError, id="unknown-name"),
        pytest.param(5, TypeError, id="int"),
        pytest.param(Reversing, TypeError, id="class"),
    ],
)
def test_codec_that_is_none_is_refused_at_once(
    client: Client, prefix: str, codec: Any, error: type[Exception]
) -> None:
    """A codec is checked when the mapping is made."""
    with pytest.raises(error):
        EtcdMapping(client=client, prefix=prefix, codec=codec)


def test_codec_that_gives_no_text_is_refused_before_any_request(
    client: Client, prefix: str, cost: Cost
) -> None:
    """What a codec encodes must be a str."""
    mapping = EtcdMapping(client=client, prefix=prefix, codec=Bytes())

    def write() -> None:
        with pytest.raises(TypeError):
            mapping["a"] = 1

    assert cost(write) == []


@pytest.fixture(params=["json", "broken"])
def unreadable(
    client: Client, prefix: str, request: pytest.FixtureRequest
) -> EtcdMapping:
    """Give a mapping whose codec can't read what is stored under "k"."""
    client_mapping = EtcdMapping(client=client, prefix=prefix, codec="text")
    client_mapping["k"] = "{not json"
    codec: Any = "json" if request.param == "json" else Broken()
    return EtcdMapping(client=client, prefix=prefix, codec=codec)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m["k"], id="getitem"),
        pytest.param(lambda m: m.get("k", 1), id="get"),
        pytest.param(lambda m: list(m.values()), id="values"),
        pytest.param(lambda m: list(m.items()), id="items"),
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
        pytest.param(lambda m: m == {}, id="eq"),
        pytest.param(lambda m: m.pop("k"), id="pop"),
        pytest.param(lambda m: m.pop("k", 1), id="pop-default"),
        pytest.param(lambda m: m.popitem(), id="popitem"),
        pytest.param(lambda m: m.setdefault("k", 1), id="setdefault"),
    ],
)
def test_unreadable_text_raises_decodeerror_and_stays(
    unreadable: EtcdMapping, call: Call
) -> None:
    """A text that the codec can't read is no absent key, and is not removed."""
    with pytest.raises(DecodeError, match=f"{unreadable.prefix}/k") as caught:
        call(unreadable)
    assert not isinstance(caught.value, KeyError)
    assert read_tree(unreadable.keys_api, unreadable.prefix, text=True) == {
        "k": "{not json"
    }


def test_unreadable_text_can_be_listed_replaced_and_deleted(
    client: Client, prefix: str
) -> None:
    """What needs no value works on a text that can't be read."""
    EtcdMapping(client=client, prefix=prefix, codec="text").update(k="{", l="{")
    mapping = EtcdMapping(client=client, prefix=prefix, codec="json")
    assert (list(mapping), len(mapping), "k" in mapping) == (["k", "l"], 2, True)
    mapping["k"] = "good"
    del mapping["l"]
    assert mapping == {"k": "good"}


# --- the whole cluster, construction, repr -----------------------------------


def test_root_mapping_reaches_every_prefix(
    mapping: EtcdMapping, client: Client
) -> None:
    """Without a prefix a mapping stands on the root."""
    mapping["a"] = 1
    name = mapping.prefix.removeprefix("/")
    root = EtcdMapping(client=client)
    assert root.prefix == "/"
    assert name in root
    assert name in list(root)
    assert root[name]["a"] == 1
    del root[name]["a"]
    root[f"{name}/b"] = 2
    assert mapping == {"b": 2}


def test_root_mapping_refuses_to_clear(client: Client, cost: Cost) -> None:
    """`clear` without a prefix would be the whole cluster: refused."""
    root = EtcdMapping(client=client)

    def clear() -> None:
        with pytest.raises(PrefixRequired):
            root.clear()

    assert cost(clear) == []


def test_root_mapping_lets_its_subs_clear(
    mapping: EtcdMapping, client: Client, stored: Callable[[], Any]
) -> None:
    """A sub-mapping has a prefix, so it can be cleared."""
    fill(mapping, {"a": 1})
    EtcdMapping(client=client)[mapping.prefix.removeprefix("/")].clear()
    assert stored() == {}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        pytest.param("/a/b", "/a/b", id="absolute"),
        pytest.param("a/b", "/a/b", id="relative"),
        pytest.param("/a/b/", "/a/b", id="trailing-slash"),
        pytest.param("/", "/", id="root"),
        pytest.param("", "/", id="empty"),
        pytest.param(None, "/", id="none"),
        pytest.param("/_a", "/_a", id="hidden"),
    ],
)
def test_prefix_is_an_absolute_path(
    client: Client, prefix: str | None, expected: str
) -> None:
    """A prefix is shown in one form."""
    assert EtcdMapping(client=client, prefix=prefix).prefix == expected


@pytest.mark.parametrize("prefix", ["//", "/a//b", "/a/../b", ".", "/a\x00", "/\ud800"])
def test_prefix_that_cannot_exist_is_refused(client: Client, prefix: str) -> None:
    """A prefix is checked like a key."""
    with pytest.raises(InvalidKey):
        EtcdMapping(client=client, prefix=prefix)


def test_prefix_that_is_hidden_works_as_any_other(client: Client, prefix: str) -> None:
    """A hidden directory can be a prefix; its content is listed as usual."""
    mapping = EtcdMapping(client=client, prefix=f"{prefix}/_h")
    mapping["a"] = {"b": 1}
    assert mapping == {"a": {"b": 1}}
    assert EtcdMapping(client=client, prefix=prefix) == {}


def test_construction_with_client_and_endpoints_is_refused(client: Client) -> None:
    """A mapping has one client."""
    with pytest.raises(TypeError):
        EtcdMapping("http://127.0.0.1:1", client=client)


def test_repr_shows_prefix_and_endpoints(
    mapping: EtcdMapping, etcd: LocalCluster
) -> None:
    """`repr` shows where a mapping stands."""
    shown = f"EtcdMapping({list(etcd.endpoints)!r}, prefix="
    assert repr(mapping) == f"{shown}{mapping.prefix!r})"
    assert repr(mapping.sub("a/b")) == f"{shown}{mapping.prefix + '/a/b'!r})"
    whole = EtcdMapping(client=mapping.client, prefix="/")
    assert repr(whole) == f"{shown}'/')"
    without = EtcdMapping(client=mapping.client, prefix="")
    assert repr(without) == f"{shown.removesuffix(', prefix=')})"


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(repr, id="mapping"),
        pytest.param(lambda m: repr(m.sub("a")), id="sub"),
        pytest.param(lambda m: repr(m.items()), id="view"),
        pytest.param(lambda m: repr(m.client), id="client"),
        pytest.param(lambda m: repr(m.keys_api), id="keys_api"),
        pytest.param(str, id="str"),
    ],
)
def test_repr_shows_no_credentials(
    etcd: LocalCluster, prefix: str, shown: Callable[[Any], str]
) -> None:
    """No form of a mapping shows who logs in, nor how."""
    with EtcdMapping(
        etcd.endpoints, prefix=prefix, username="alice", password="hunter2"
    ) as mapping:
        assert not {"alice", "hunter2"} & set(shown(mapping).replace("'", " ").split())
        assert "hunter2" not in shown(mapping)
        assert "alice" not in shown(mapping)


# --- outages, and writes that end half-way -----------------------------------


@pytest.fixture
def dead() -> Iterator[EtcdMapping]:
    """Give a mapping on an endpoint where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with EtcdMapping(endpoint, prefix="/x", timeout=0.05) as mapping:
            yield mapping


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m["a"], id="getitem"),
        pytest.param(lambda m: m.get("a", 1), id="get"),
        pytest.param(lambda m: "a" in m, id="contains"),
        pytest.param(lambda m: m.pop("a", 1), id="pop"),
        pytest.param(lambda m: m.popitem(), id="popitem"),
        pytest.param(lambda m: m.setdefault("a", 1), id="setdefault"),
        pytest.param(lambda m: setitem(m, "a", 1), id="setitem"),
        pytest.param(lambda m: delitem(m, "a"), id="del"),
        pytest.param(lambda m: m.update(a=1, b=2), id="update"),
        pytest.param(list, id="iter"),
        pytest.param(lambda m: m == {}, id="eq"),
        pytest.param(lambda m: m | {}, id="or"),
        pytest.param(lambda m: ("a", 1) in m.items(), id="items"),
    ],
)
def test_outage_is_never_an_absent_key(dead: EtcdMapping, call: Call) -> None:
    """An outage is an error of its own, whatever the method."""
    with pytest.raises(ClusterUnavailable) as caught:
        call(dead)
    assert not isinstance(caught.value, KeyError)


class Guarded(Between):
    """A transport to an etcd whose auth refuses writes of some keys."""

    def __init__(self, inner: Any, forbidden: str) -> None:
        super().__init__(inner)
        self.forbidden = forbidden

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        """Refuse, or pass on."""
        if request.method != "GET" and self.forbidden in request.target:
            body = json.dumps({"errorCode": 110, "message": "no", "index": 0})
            return answer(body, 401, endpoint=endpoint)
        return super().exchange(endpoint, request, timeout)


@pytest.mark.parametrize(
    ("call", "written", "failed", "left"),
    [
        pytest.param(
            lambda m: m.update(a=2, bad=2, c=2),
            {"a", "c"},
            {"bad"},
            {"a": 2, "bad": 1, "c": 2},
            id="update",
        ),
        pytest.param(lambda m: m.clear(), {"a"}, {"bad"}, {"bad": 1}, id="clear"),
        pytest.param(
            lambda m: setitem(m, "d", {"x": 1, "bad": {"y": 1}, "z": 1}),
            {"d/x", "d/z"},
            {"d/bad/y"},
            {"a": 1, "bad": 1, "d": {"x": 1, "z": 1}},
            id="setitem-mapping",
        ),
    ],
)
def test_partial_write_says_what_is_done(
    mapping: EtcdMapping,
    transport: CountingTransport,
    stored: Callable[[], Any],
    call: Call,
    written: set[str],
    failed: set[str],
    left: dict[str, Any],
) -> None:
    """A write of many keys of which some fail does the others, and tells."""
    fill(mapping, {"a": 1, "bad": 1})
    transport.inner = Guarded(transport.inner, f"{mapping.prefix}/bad")
    if "d/x" in written:
        transport.inner.forbidden = f"{mapping.prefix}/d/bad"
    with pytest.raises(PartialWrite) as caught:
        call(mapping)
    error = caught.value
    assert set(error.written) == {f"{mapping.prefix}/{key}" for key in written}
    assert set(error.failed) == {f"{mapping.prefix}/{key}" for key in failed}
    assert {type(cause) for cause in error.failed.values()} == {Unauthorized}
    assert error.pending == ()
    assert stored() == left


def test_partial_write_accounts_for_every_key(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """When etcd goes away half-way, each key is written, failed or not tried."""
    content = {f"k{n}": n for n in range(10)}
    mapping["x"] = 1
    inner = transport.inner

    class Dying(Between):
        left = 5

        def exchange(
            self, endpoint: str, request: HTTPRequest, timeout: float
        ) -> Answer:
            self.left -= 1
            if self.left < 0:
                return answer("", 502, endpoint=endpoint)  # a gateway's
            return super().exchange(endpoint, request, timeout)

    transport.inner = Dying(inner)
    with pytest.raises(PartialWrite) as caught:
        mapping.update(content)
    transport.inner = inner
    error = caught.value
    parts = [*error.written, *error.failed, *error.pending]
    assert sorted(parts) == sorted(f"{mapping.prefix}/{key}" for key in content)
    assert all(isinstance(cause, EtcdMapError) for cause in error.failed.values())
    assert mapping.to_dict() == {
        "x": 1,
        **{path.rpartition("/")[2]: int(path[-1]) for path in error.written},
    }

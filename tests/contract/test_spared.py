"""What a view does not show it does not delete; what is gone can't be stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from operator import delitem, ior, setitem
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    Client,
    DirectoryGone,
    DirectoryNotEmpty,
    EtcdMapping,
    UnreadableName,
)
from etcdmap.cache import ReadCache
from etcdmap.connecting import make_client
from etcdmap.mapping.views import plain_mapping
from etcdmap.v2 import Memory

from support.mapping_kit import read_tree, write_tree
from support.transports import CountingTransport

Call: TypeAlias = "Callable[[Any], object]"
Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"

LEFT_OUT = "ignore::etcdmap.UnreadableName"


@pytest.fixture(
    params=[
        pytest.param((True, "50%"), id="escaping"),
        pytest.param((True, "\ufffd"), id="escaping-unreadable"),
        pytest.param((False, "a\ufffd"), id="plain"),
    ]
)
def unshown(
    request: pytest.FixtureRequest, client: Client, prefix: str
) -> tuple[EtcdMapping, str]:
    """Give a mapping, and a name that it does not show."""
    escape, name = request.param
    mapping = EtcdMapping(client=client, prefix=prefix, escape_keys=escape)
    content = {name: 0, "a": 1, "d": {name: 0, "b": 2, "e": {"x": {name: 0, "y": 3}}}}
    write_tree(client_keys(mapping), prefix, content)
    return mapping, name


def client_keys(mapping: EtcdMapping) -> Any:
    """Give the way to a mapping's tree that knows nothing of keys."""
    return mapping.keys_api


def tree_of(mapping: EtcdMapping) -> Any:
    """Give what is stored, whatever its name."""
    return read_tree(mapping.keys_api, mapping.prefix)


# --- names that a view leaves out -------------------------------------------------


@pytest.mark.filterwarnings(LEFT_OUT)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.assign(m.to_dict()), id="assign-itself"),
        pytest.param(lambda m: m.assign(m), id="assign-mapping"),
        pytest.param(lambda m: setitem(m, "d", m["d"]), id="setitem-itself"),
        pytest.param(lambda m: m.update(m), id="update-itself"),
        pytest.param(lambda m: m.merge(m), id="merge-itself"),
        pytest.param(lambda m: setitem(m["d/e"], "x", {"y": 3}), id="setitem-deep"),
        pytest.param(lambda m: m.replace("d", m["d"].to_dict()), id="replace"),
    ],
)
def test_unshown_name_stays_where_nothing_changes(
    unshown: tuple[EtcdMapping, str], cost: Cost, call: Call
) -> None:
    """`e["d"] = e["d"]` changes nothing, as with a dict."""
    mapping, _ = unshown
    if mapping._view.naming.key("d/e") is None:
        call_of = call

        def call(m: Any) -> object:
            return call_of(Nested(m))

    before = tree_of(mapping)
    call(mapping)
    assert tree_of(mapping) == before


class Nested:
    """A mapping whose path keys work with `escape_keys`, too."""

    def __init__(self, mapping: EtcdMapping) -> None:
        self._mapping = mapping

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mapping, name)

    def __getitem__(self, key: str) -> Any:
        found: Any = self._mapping
        for part in key.split("/"):
            found = found[part]
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self._mapping[key] = value


@pytest.mark.filterwarnings(LEFT_OUT)
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            lambda m, n: m.assign({"d": {"e": {"x": {}}}}),
            lambda n: {n: 0, "d": {n: 0, "e": {"x": {n: 0}}}},
            id="assign",
        ),
        pytest.param(
            lambda m, n: setitem(m["d"]["e"], "x", {}),
            lambda n: {n: 0, "a": 1, "d": {n: 0, "b": 2, "e": {"x": {n: 0}}}},
            id="setitem",
        ),
        pytest.param(
            lambda m, n: m["d"]["e"]["x"].clear(),
            lambda n: {n: 0, "a": 1, "d": {n: 0, "b": 2, "e": {"x": {n: 0}}}},
            id="clear",
        ),
    ],
)
def test_unshown_name_stays_where_all_else_goes(
    unshown: tuple[EtcdMapping, str],
    call: Callable[[Any, str], object],
    expected: Callable[[str], Any],
) -> None:
    """Whoever does not see a name can't mean to delete it."""
    mapping, name = unshown
    call(mapping, name)
    assert tree_of(mapping) == expected(name)


@pytest.mark.filterwarnings(LEFT_OUT)
def test_unshown_name_stays_when_a_flat_view_is_cleared(mapping: EtcdMapping) -> None:
    """It deletes the files that it shows, and no directory."""
    name = "a\ufffd"
    write_tree(mapping.keys_api, mapping.prefix, {name: 0, "d": {name: 0, "b": 2}})
    mapping.flat.clear()
    assert tree_of(mapping) == {name: 0, "d": {name: 0}}


@pytest.mark.filterwarnings(LEFT_OUT)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: m.assign({}), id="assign"),
        pytest.param(lambda m: m.assign({"d": 1}), id="assign-value"),
        pytest.param(lambda m: m.assign({"d": {"e": 5}}), id="assign-value-deep"),
        pytest.param(lambda m: m.assign({"d": {}}, dry_run=True), id="dry-run"),
        pytest.param(lambda m: setitem(m, "d", {}), id="setitem"),
        pytest.param(lambda m: setitem(m, "d", {"e": "v"}), id="setitem-value"),
        pytest.param(lambda m: m.set("d", {"b": 2}, ttl=60), id="set-ttl"),
        pytest.param(lambda m: m.replace("d", {}), id="replace"),
        pytest.param(lambda m: m.merge({"n": 1, "d": 1}), id="merge"),
        pytest.param(lambda m: m.merge({"d": {"e": {"x": 1}}}), id="merge-deep"),
        pytest.param(lambda m: m.update({"n": 1, "d": {"e": 1}}), id="update"),
        pytest.param(lambda m: ior(m, {"d": {}}), id="ior"),
    ],
)
def test_unshown_name_keeps_its_directory(
    unshown: tuple[EtcdMapping, str], cost: Cost, call: Call
) -> None:
    """A directory that would go with it is a refusal, before the first write."""
    mapping, name = unshown
    before = tree_of(mapping)

    def attempt() -> None:
        with pytest.raises(DirectoryNotEmpty) as caught:
            call(mapping)
        assert repr(f"/{name}")[1:-1] in str(caught.value)

    assert set(cost(attempt)) == {"GET"}
    assert tree_of(mapping) == before


@pytest.mark.filterwarnings(LEFT_OUT)
def test_unshown_name_keeps_a_directory_that_has_a_ttl(
    unshown: tuple[EtcdMapping, str],
) -> None:
    """Assigned to, such a directory would be made anew."""
    mapping, name = unshown
    keys = mapping.keys_api
    keys.make_directory(f"{mapping.prefix}/t", ttl=60)
    keys.set(f"{mapping.prefix}/t/{name}", "0")
    with pytest.raises(DirectoryNotEmpty):
        mapping["t"] = {"b": 1}


@pytest.mark.filterwarnings(LEFT_OUT)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: delitem(m, "d"), id="del"),
        pytest.param(lambda m: m.pop("d"), id="pop"),
        pytest.param(lambda m: m.popitem(), id="popitem"),
        pytest.param(lambda m: setitem(m, "d", 1), id="setitem-value"),
        pytest.param(lambda m: m.set("d", 1, keep_ttl=True), id="keep-ttl"),
        pytest.param(lambda m: m.replace("d", 1), id="replace-value"),
        pytest.param(lambda m: m.update(d=1), id="update-value"),
    ],
)
def test_unshown_name_goes_with_a_directory_that_is_named(
    unshown: tuple[EtcdMapping, str], call: Call
) -> None:
    """`del`, `pop` and a value in its place mean all of it."""
    mapping, name = unshown
    call(mapping)
    after = tree_of(mapping)
    assert after.pop("d", 1) == 1
    assert after == {name: 0, "a": 1}


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(list, id="list"),
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
        pytest.param(lambda m: m.items() & set(), id="items"),
        pytest.param(lambda m: m.assign(m), id="assign"),
        pytest.param(lambda m: m.pop("d"), id="pop"),
    ],
)
def test_unshown_name_is_warned_of_once(
    unshown: tuple[EtcdMapping, str], look: Call
) -> None:
    """Once for each path, whichever way it is met, saying how to reach it."""
    mapping, name = unshown
    with pytest.warns(UnreadableName) as caught:
        look(mapping)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == len(set(texts))
    assert all(name in text and "keys_api" in text for text in texts)
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        list(mapping), mapping.to_dict()
    assert not {str(warning.message) for warning in again} & set(texts)


@pytest.fixture
def caching(
    client: Client, transport: CountingTransport, prefix: str
) -> Iterator[EtcdMapping]:
    """Give a mapping whose client has a cache."""
    with make_client(client.endpoints, transport, cache=ReadCache(60)) as cached:
        yield EtcdMapping(client=cached, prefix=prefix)


@pytest.mark.filterwarnings(LEFT_OUT)
@pytest.mark.parametrize("name", ["\ufffd", "x\ufffd/y"])
@pytest.mark.parametrize(
    "look", [list, lambda m: m.pop("no", None), lambda m: m.flat.to_dict(), dict]
)
def test_unreadable_name_never_comes_out_of_the_cache(
    caching: EtcdMapping, name: str, look: Call
) -> None:
    """A key that can't exist is absent, whatever a listing brought along."""
    caching.keys_api.set(f"{caching.prefix}/{name}", "1")
    below = EtcdMapping(client=caching.client, prefix=f"{caching.prefix}/x\ufffd")
    look(caching)
    look(below)
    below.get("y")
    assert caching.get(name) is None
    assert name not in caching
    cache = Memory.of(caching.client).cache
    assert cache is not None
    assert not [path for path in cache.hot if "\ufffd" in path]


# --- mappings without a directory --------------------------------------------------


@pytest.fixture
def gone(mapping: EtcdMapping) -> EtcdMapping:
    """Give a mapping whose directory was deleted, beside others."""
    mapping.assign({"k": {"x": 1}, "old": {"y": 2}})
    held: EtcdMapping = mapping["old"]
    del mapping["old"]
    return held


VALUES = [
    pytest.param(lambda gone: gone, id="mapping"),
    pytest.param(lambda gone: gone.sub("deeper"), id="below"),
    pytest.param(lambda gone: gone.flat, id="flat"),
    pytest.param(lambda gone: gone.using(consistency="any"), id="using"),
    pytest.param(lambda gone: {"n": gone}, id="inside"),
    pytest.param(lambda gone: {"n": {"o": {"p": gone}}}, id="deep-inside"),
]
TAKING = [
    pytest.param(lambda m, v: setitem(m, "k", v), id="setitem"),
    pytest.param(lambda m, v: setitem(m, "new", v), id="setitem-new"),
    pytest.param(lambda m, v: m.set("k", v, ttl=60), id="set"),
    pytest.param(lambda m, v: m.create("new", v), id="create"),
    pytest.param(lambda m, v: m.replace("k", v), id="replace"),
    pytest.param(lambda m, v: m.setdefault("new", v), id="setdefault"),
    pytest.param(lambda m, v: m.update({"k": 1, "new": v}), id="update-value"),
    pytest.param(lambda m, v: m.update([("k", 1), ("new", v)]), id="update-pairs"),
    pytest.param(lambda m, v: m.update(k=1, new=v), id="update-keywords"),
    pytest.param(lambda m, v: m.merge({"k": {"x": v}}), id="merge-value"),
    pytest.param(lambda m, v: m.assign({"k": v}), id="assign-value"),
    pytest.param(lambda m, v: m.update(v), id="update"),
    pytest.param(ior, id="ior"),
    pytest.param(lambda m, v: m.merge(v), id="merge"),
    pytest.param(lambda m, v: m.assign(v), id="assign"),
    pytest.param(lambda m, v: m.assign(v, dry_run=True), id="assign-dry-run"),
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("call", TAKING)
def test_gone_mapping_is_no_value(
    mapping: EtcdMapping, gone: EtcdMapping, cost: Cost, call: Any, value: Any
) -> None:
    """It holds nothing, and would be stored as nothing: refused before any write."""

    def attempt() -> None:
        with pytest.raises(DirectoryGone, match=f"{gone.prefix}.*to_dict"):
            call(mapping, value(gone))

    assert set(cost(attempt)) == {"GET"}
    assert tree_of(mapping) == {"k": {"x": 1}}


def test_gone_mapping_is_no_argument_of_a_flat_view(
    mapping: EtcdMapping, gone: EtcdMapping
) -> None:
    """Neither as it is nor flat."""
    for value in (gone, gone.flat):
        with pytest.raises(DirectoryGone):
            mapping.flat.update(value)
        with pytest.raises(DirectoryGone):
            ior(mapping.flat, value)
    assert tree_of(mapping) == {"k": {"x": 1}}


def test_gone_mapping_is_empty_to_whoever_looks(
    mapping: EtcdMapping, gone: EtcdMapping
) -> None:
    """Only as a value it is refused."""
    for held in (gone, gone.flat):
        assert held == {}
        assert held == gone
        assert held.to_dict() == held.copy() == {}
        assert held | {"a": 1} == {"a": 1}
        assert {"a": 1} | held == {"a": 1}
        assert mapping | held == mapping.to_dict()


def test_gone_mapping_is_a_value_again_when_it_is_back(
    mapping: EtcdMapping, gone: EtcdMapping
) -> None:
    """An empty directory will do."""
    mapping.mkdir("old")
    mapping["k"] = {"n": gone}
    assert tree_of(mapping) == {"k": {"n": {}}, "old": {}}


@pytest.mark.filterwarnings(LEFT_OUT)
def test_root_is_never_gone(client: Client) -> None:
    """It is there even when nothing is in it."""
    root = EtcdMapping(client=client, prefix="/")
    for value in (root, root.flat):
        assert isinstance(plain_mapping(value, client.clock() + 30, stored=True), dict)


@pytest.mark.parametrize(
    "habit",
    [
        pytest.param(
            lambda m: [
                (delitem(m, k), setitem(m, k.lower(), v)) for k, v in list(m.items())
            ],
            id="rename",
        ),
        pytest.param(
            lambda m: [setitem(m, "new", (m["D"], delitem(m, "D"))[0])], id="move"
        ),
    ],
)
def test_gone_mapping_in_a_loop_is_told_at_the_first_one(
    mapping: EtcdMapping, habit: Call
) -> None:
    """No sub-dict becomes empty without a word."""
    mapping.assign({"D": {"x": 1}, "E": {"y": 2}})
    with pytest.raises(DirectoryGone):
        habit(mapping)
    assert tree_of(mapping) == {"E": {"y": 2}}


def test_gone_mapping_is_avoided_by_pop(mapping: EtcdMapping) -> None:
    """What is told to do instead works."""
    mapping.assign({"D": {"x": 1}, "E": {"y": 2}})
    for key in list(mapping):
        mapping[key.lower()] = mapping.pop(key)
    backup = mapping.to_dict()
    mapping.clear()
    mapping.update(backup)
    assert tree_of(mapping) == {"d": {"x": 1}, "e": {"y": 2}}

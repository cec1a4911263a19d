"""What each operation costs: the very requests it makes, in order.

Costs are part of the contract.  They are those of one endpoint that works, with the
cache off.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from operator import contains, delitem, eq, setitem
from typing import Any

import pytest

from etcdmap import Client, EtcdMapping

from support.mapping_kit import EtcdKit

Cost = Callable[[Callable[[], object]], list[str]]
Call = Callable[[Any, Any], object]

#: What the mapping holds at first.
CONTENT: dict[str, Any] = {
    "dir": {"a": 1, "b": "x", "sub": {"c": None}},
    "empty": {},
    "file": 1,
}
#: What a second mapping holds at first.
OTHER: dict[str, Any] = {"file": 2, "new": {"d": 3, "e": 4}}


def loop(iterable: Any) -> None:
    """Loop over something as `for` does, without asking for its length first."""
    for _ in iterable:
        pass


def ignoring(error: type[Exception], call: Call) -> Call:
    """Wrap a call so that an error, which must come, is not in the way."""

    def wrapped(m: Any, other: Any) -> None:
        with pytest.raises(error):
            call(m, other)

    return wrapped


def keywords(**kwargs: Any) -> None:
    """Take keyword arguments."""


@pytest.fixture
def pair(client: Client, prefix: str) -> tuple[Any, Any]:
    """Give two mappings, filled behind their back."""
    kit = EtcdKit(client, prefix)
    return kit.make(CONTENT), kit.make(OTHER)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: m["file"], ["GET"], id="getitem-file"),
        pytest.param(lambda m, _: m["dir"], ["GET"], id="getitem-directory"),
        pytest.param(lambda m, _: m["dir/sub/c"], ["GET"], id="getitem-path"),
        pytest.param(lambda m, _: m["dir"]["sub"]["c"], ["GET"] * 3, id="getitem-deep"),
        pytest.param(
            ignoring(KeyError, lambda m, _: m["no"]), ["GET"], id="getitem-absent"
        ),
        pytest.param(
            ignoring(KeyError, lambda m, _: m["file/below"]),
            ["GET"],
            id="getitem-below-a-file",
        ),
        pytest.param(
            ignoring(KeyError, lambda m, _: m[".."]), [], id="getitem-impossible"
        ),
        pytest.param(lambda m, _: m.get("file"), ["GET"], id="get"),
        pytest.param(lambda m, _: m.get("no", 1), ["GET"], id="get-absent"),
        pytest.param(lambda m, _: m.get("a//b"), [], id="get-impossible"),
        pytest.param(lambda m, _: "file" in m, ["HEAD"], id="contains"),
        pytest.param(lambda m, _: "dir" in m, ["HEAD"], id="contains-directory"),
        pytest.param(lambda m, _: "no" in m, ["HEAD"], id="contains-absent"),
        pytest.param(
            lambda m, _: "file/below" in m, ["HEAD", "GET"], id="contains-below-a-file"
        ),
        pytest.param(lambda m, _: 5 in m, [], id="contains-impossible"),
        pytest.param(lambda m, _: m.ttl("file"), ["GET"], id="ttl"),
        pytest.param(lambda m, _: m.sub("dir"), [], id="sub"),
        pytest.param(lambda m, _: m.sub("no/such"), [], id="sub-absent"),
    ],
)
def test_cost_reading_one_key_is_one_request(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """One key costs one request to read, and none if it can't exist."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: iter(m), ["GET"], id="iter"),
        pytest.param(lambda m, _: loop(m), ["GET"], id="loop"),
        pytest.param(lambda m, _: loop(reversed(m)), ["GET"], id="reversed"),
        pytest.param(lambda m, _: len(m), ["GET"], id="len"),
        pytest.param(lambda m, _: bool(m), ["GET"], id="bool"),
        pytest.param(lambda m, _: loop(m.keys()), ["GET"], id="keys"),
        pytest.param(lambda m, _: loop(m.values()), ["GET"], id="values"),
        pytest.param(lambda m, _: loop(m.items()), ["GET"], id="items"),
        pytest.param(
            lambda m, _: loop(reversed(m.keys())), ["GET"], id="keys-reversed"
        ),
        pytest.param(
            lambda m, _: loop(reversed(m.values())), ["GET"], id="values-reversed"
        ),
        pytest.param(
            lambda m, _: loop(reversed(m.items())), ["GET"], id="items-reversed"
        ),
        pytest.param(lambda m, _: dict(m.items()), ["GET"], id="dict-of-items"),
        pytest.param(lambda m, _: set(m), ["GET"], id="set"),
        pytest.param(
            lambda m, _: (m.keys(), m.values(), m.items()), [], id="views-made"
        ),
        pytest.param(lambda m, _: len(m.items()), ["GET"], id="items-len"),
        pytest.param(lambda m, _: contains(m.keys(), "file"), ["HEAD"], id="keys-in"),
        pytest.param(lambda m, _: 1 in m.values(), ["GET"], id="values-contain"),
        pytest.param(
            lambda m, _: ("file", 1) in m.items(), ["GET"], id="items-contain"
        ),
        pytest.param(lambda m, _: list(m), ["GET"] * 2, id="list-asks-len-too"),
        pytest.param(lambda m, _: dict(m), ["GET"] * 4, id="dict-asks-every-key"),
        pytest.param(lambda m, _: {**m}, ["GET"] * 4, id="unpacking-asks-every-key"),
        pytest.param(
            lambda m, _: keywords(**m), ["GET"] * 4, id="keywords-ask-every-key"
        ),
    ],
)
def test_cost_reading_the_directory_is_one_listing(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """One look at the directory is one listing, however many keys it has."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda view, some: view & some, id="and"),
        pytest.param(lambda view, some: view | some, id="or"),
        pytest.param(lambda view, some: view - some, id="sub"),
        pytest.param(lambda view, some: view ^ some, id="xor"),
        pytest.param(lambda view, some: some & view, id="and-right"),
        pytest.param(lambda view, some: some | view, id="or-right"),
        pytest.param(lambda view, some: some - view, id="sub-right"),
        pytest.param(lambda view, some: some ^ view, id="xor-right"),
        pytest.param(lambda view, some: view.isdisjoint(some), id="isdisjoint"),
        pytest.param(lambda view, some: view == some, id="eq"),
        pytest.param(lambda view, some: view != some, id="ne"),
        pytest.param(lambda view, some: view <= some, id="le"),
        pytest.param(lambda view, some: view < some, id="lt"),
        pytest.param(lambda view, some: view >= some, id="ge"),
        pytest.param(lambda view, some: view > some, id="gt"),
    ],
)
@pytest.mark.parametrize("kind", ["keys", "items"])
def test_cost_set_operation_of_a_view_is_one_listing(
    mapping: EtcdMapping, cost: Cost, operation: Call, kind: str
) -> None:
    """A view in a set operation is listed once, and not asked for each element."""
    mapping.update(a=1, b=2, c=3)
    view = getattr(mapping, kind)()
    # As large as the view, and equal to it but for one element.
    some = {("a", 1), ("b", 2), ("x", 3)} if kind == "items" else {"a", "b", "x"}
    assert cost(lambda: operation(view, some)) == ["GET"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: m.to_dict(), ["GET"], id="to_dict"),
        pytest.param(lambda m, _: m.copy(), ["GET"], id="copy"),
        pytest.param(lambda m, _: copy.copy(m), ["GET"], id="copy.copy"),
        pytest.param(lambda m, _: copy.deepcopy(m), ["GET"], id="copy.deepcopy"),
        pytest.param(lambda m, _: m == CONTENT, ["GET"], id="eq-dict"),
        pytest.param(lambda m, _: eq(CONTENT, m), ["GET"], id="eq-dict-on-the-left"),
        pytest.param(lambda m, _: m != CONTENT, ["GET"], id="ne-dict"),
        pytest.param(lambda m, other: m == other, ["GET"] * 2, id="eq-mapping"),
        pytest.param(lambda m, _: m == 5, [], id="eq-no-mapping"),
        pytest.param(lambda m, _: m | {"x": 1}, ["GET"], id="or-dict"),
        pytest.param(lambda m, _: {"x": 1} | m, ["GET"], id="or-dict-on-the-left"),
        pytest.param(lambda m, other: m | other, ["GET"] * 2, id="or-mapping"),
    ],
)
def test_cost_reading_the_subtree_is_one_request(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """A whole subtree costs one request, whatever its size."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: setitem(m, "new", 1), ["PUT"], id="new"),
        pytest.param(lambda m, _: setitem(m, "file", 2), ["PUT"], id="replace"),
        pytest.param(lambda m, _: setitem(m, "file", 1), ["PUT"], id="same-value"),
        pytest.param(lambda m, _: setitem(m, "x/y/z", 1), ["PUT"], id="new-path"),
        pytest.param(lambda m, _: setitem(m.sub("x"), "y", 1), ["PUT"], id="below-sub"),
        pytest.param(
            lambda m, _: setitem(m, "dir", 1),
            ["PUT", "DELETE", "PUT"],
            id="over-a-directory",
        ),
        pytest.param(lambda m, _: m.set("file", 2), ["PUT"], id="set"),
        pytest.param(lambda m, _: m.set("file", 2, ttl=60), ["PUT"], id="set-ttl"),
        pytest.param(
            lambda m, _: m.set("file", 2, keep_ttl=True),
            ["GET", "PUT"],
            id="set-keep-ttl",
        ),
        pytest.param(
            lambda m, _: m.set("new", 2, keep_ttl=True),
            ["GET", "PUT"],
            id="set-keep-ttl-new",
        ),
        pytest.param(
            ignoring(ValueError, lambda m, _: setitem(m, "..", 1)), [], id="impossible"
        ),
        pytest.param(
            ignoring(TypeError, lambda m, _: setitem(m, "new", {1, 2})),
            [],
            id="value-refused",
        ),
    ],
)
def test_cost_writing_a_value_is_one_put(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """A value costs one PUT; two requests more where a directory must go first."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        pytest.param("dir", CONTENT["dir"], ["GET"], id="same"),
        pytest.param("empty", {}, ["GET"], id="same-empty"),
        pytest.param(
            "dir", {"a": 2, "b": "x", "sub": {"c": None}}, ["GET", "PUT"], id="changed"
        ),
        pytest.param(
            "dir", {"a": True, "b": "x", "sub": {"c": None}}, ["GET", "PUT"], id="type"
        ),
        pytest.param(
            "dir",
            {"a": 1, "b": "x", "sub": {"c": None}, "n": 1},
            ["GET", "PUT"],
            id="key-more",
        ),
        pytest.param(
            "dir",
            {"a": 1, "b": "x", "sub": {"c": None}, "n": {"p": {"q": 1}}},
            ["GET", "PUT"],
            id="key-more-deep",
        ),
        pytest.param(
            "dir", {"a": 1, "sub": {"c": None}}, ["GET", "DELETE"], id="key-less"
        ),
        pytest.param("dir", {"a": 1, "b": "x"}, ["GET", "DELETE"], id="directory-less"),
        pytest.param(
            "dir", {"a": 1, "b": "x", "sub": {}}, ["GET", "DELETE"], id="emptied-inside"
        ),
        pytest.param("dir", {}, ["GET", "DELETE", "DELETE", "DELETE"], id="emptied"),
        pytest.param("new", {"a": 1, "b": {"c": 2}}, ["GET", "PUT", "PUT"], id="new"),
        pytest.param("new", {}, ["GET", "PUT"], id="new-empty"),
        pytest.param(
            "new", {"a": {}, "b": {}}, ["GET", "PUT", "PUT"], id="new-empties"
        ),
        pytest.param("file", {"a": 1}, ["GET", "PUT", "PUT"], id="over-a-file"),
        pytest.param("file", {}, ["GET", "PUT"], id="empty-over-a-file"),
    ],
)
def test_cost_writing_a_mapping_is_a_listing_and_the_differences(
    pair: tuple[Any, Any],
    cost: Cost,
    key: str,
    value: dict[str, Any],
    expected: list[str],
) -> None:
    """A mapping costs one GET and a request for each thing that differs."""
    m, _ = pair
    assert cost(lambda: setitem(m, key, value)) == expected


def test_cost_writing_a_mapping_counts_a_ttl_as_a_difference(
    pair: tuple[Any, Any], cost: Cost
) -> None:
    """An equal value that would expire is written again."""
    m, _ = pair
    m.set("dir/a", 1, ttl=100)
    assert cost(lambda: setitem(m, "dir", CONTENT["dir"])) == ["GET", "PUT"]


def test_cost_writing_another_mapping_reads_it_once(
    pair: tuple[Any, Any], cost: Cost
) -> None:
    """A mapping on etcd that is assigned costs one GET more."""
    m, other = pair
    assert cost(lambda: setitem(m, "x", other)) == ["GET", "GET", *["PUT"] * 3]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: delitem(m, "file"), ["DELETE"], id="del-file"),
        pytest.param(lambda m, _: delitem(m, "dir"), ["DELETE"], id="del-directory"),
        pytest.param(lambda m, _: delitem(m, "dir/a"), ["DELETE"], id="del-path"),
        pytest.param(
            ignoring(KeyError, lambda m, _: delitem(m, "no")),
            ["DELETE"],
            id="del-absent",
        ),
        pytest.param(
            ignoring(KeyError, lambda m, _: delitem(m, "..")), [], id="del-impossible"
        ),
        pytest.param(lambda m, _: m.pop("file"), ["GET", "DELETE"], id="pop-file"),
        pytest.param(lambda m, _: m.pop("dir"), ["GET", "DELETE"], id="pop-directory"),
        pytest.param(lambda m, _: m.pop("no", 1), ["GET"], id="pop-absent"),
        pytest.param(lambda m, _: m.pop("..", 1), [], id="pop-impossible"),
        pytest.param(lambda m, _: m.popitem(), ["GET", "DELETE"], id="popitem"),
        pytest.param(
            ignoring(KeyError, lambda m, _: m.sub("empty").popitem()),
            ["GET"],
            id="popitem-empty",
        ),
        pytest.param(lambda m, _: m.clear(), ["GET", *["DELETE"] * 3], id="clear"),
        pytest.param(lambda m, _: m.sub("empty").clear(), ["GET"], id="clear-empty"),
        pytest.param(lambda m, _: m.sub("no").clear(), ["GET"], id="clear-absent"),
    ],
)
def test_cost_removing_is_one_delete_for_each_key(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """Removing costs one DELETE for each key, after one GET where a value is given."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            lambda m, _: m.setdefault("new", 1), ["GET", "PUT"], id="setdefault-absent"
        ),
        pytest.param(
            lambda m, _: m.setdefault("file", 9), ["GET"], id="setdefault-present"
        ),
        pytest.param(
            lambda m, _: m.setdefault("dir", 9), ["GET"], id="setdefault-directory"
        ),
        pytest.param(
            lambda m, _: m.setdefault("new", {}),
            ["GET", "PUT"],
            id="setdefault-empty-mapping",
        ),
        pytest.param(
            lambda m, _: m.setdefault("new", {"a": 1, "b": {"c": 2}}),
            ["GET", *["PUT"] * 3],
            id="setdefault-mapping",
        ),
        pytest.param(
            lambda m, _: m.setdefault("dir", {"a": 9}),
            ["GET"],
            id="setdefault-mapping-present",
        ),
    ],
)
def test_cost_setdefault_is_a_get_and_what_it_stores(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """`setdefault` costs one GET, and what it stores if the key was absent."""
    assert cost(lambda: call(*pair)) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m, _: m.update(), [], id="nothing"),
        pytest.param(lambda m, _: m.update({}), [], id="empty"),
        pytest.param(lambda m, _: m.update(file=2), ["GET", "PUT"], id="one-key"),
        pytest.param(
            lambda m, _: m.update({"file": 1, "new": 2}, more=3),
            ["GET", *["PUT"] * 3],
            id="three-keys",
        ),
        pytest.param(
            lambda m, _: m.update([("new", 1), ("new", 2)]),
            ["GET", "PUT"],
            id="repeated-key",
        ),
        pytest.param(
            lambda m, _: m.update({"dir": CONTENT["dir"]}), ["GET"], id="same-mapping"
        ),
        pytest.param(
            lambda m, _: m.update({"dir": {"a": 2}, "new": {"x": 1, "y": 2}}),
            ["GET", *["PUT"] * 3, *["DELETE"] * 2],
            id="mappings",
        ),
        pytest.param(
            lambda m, _: m.update({"x/y/z": 1, "x/y/w": 2}),
            ["GET", *["PUT"] * 2],
            id="paths",
        ),
        pytest.param(
            lambda m, other: m.update(other),
            ["GET", "GET", *["PUT"] * 3],
            id="from-a-mapping",
        ),
        pytest.param(lambda m, _: m.__ior__({"file": 2}), ["GET", "PUT"], id="ior"),
        pytest.param(
            ignoring(ValueError, lambda m, _: m.update({"ok": 1, "..": 2})),
            [],
            id="impossible-key",
        ),
        pytest.param(
            ignoring(TypeError, lambda m, _: m.update({"ok": 1, "no": {"x": {1}}})),
            [],
            id="value-refused",
        ),
    ],
)
def test_cost_update_is_a_listing_and_a_request_for_each_key(
    pair: tuple[Any, Any], cost: Cost, call: Call, expected: list[str]
) -> None:
    """`update` costs one listing and one request for each key; a mapping, its own."""
    listings = expected.count("GET")
    made = cost(lambda: call(*pair))
    # Writes go out many at a time, so their order is no part of the contract.
    assert made[:listings] == expected[:listings]
    assert sorted(made[listings:]) == sorted(expected[listings:])


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m, _: repr(m), id="repr"),
        pytest.param(lambda m, _: repr(m.keys()), id="repr-keys"),
        pytest.param(lambda m, _: repr(m.items()), id="repr-items"),
        pytest.param(lambda m, _: m.prefix, id="prefix"),
        pytest.param(lambda m, _: m.readonly, id="readonly"),
        pytest.param(lambda m, _: m.client, id="client"),
        pytest.param(lambda m, _: m.keys_api, id="keys_api"),
        pytest.param(lambda m, _: m.close(), id="close"),
        pytest.param(
            lambda m, _: EtcdMapping(client=m.client, prefix="/x"), id="construction"
        ),
    ],
)
def test_cost_what_needs_no_answer_is_nothing(
    pair: tuple[Any, Any], cost: Cost, call: Call
) -> None:
    """What can be told without etcd makes no request."""
    assert cost(lambda: call(*pair)) == []


def test_cost_absent_directory_is_the_same(mapping: EtcdMapping, cost: Cost) -> None:
    """A mapping whose directory does not exist costs what an empty one does."""
    assert cost(lambda: loop(mapping)) == ["GET"]
    assert cost(lambda: mapping.to_dict()) == ["GET"]
    assert cost(lambda: setitem(mapping, "k", 1)) == ["PUT"]

"""What a mapping does beyond a dict: conditions, order, time to live, snapshots."""

from __future__ import annotations

from collections.abc import Callable
from operator import delitem, setitem
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    CompareFailed,
    EtcdMapping,
    InvalidKey,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
)
from etcdmap.transport import Answer
from etcdmap.transport import Request as HTTPRequest
from etcdmap.tree import File

from support.mapping_kit import StoreKit
from support.transports import Between, CountingTransport
from support.values import same_value

Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"
Call: TypeAlias = "Callable[[EtcdMapping], Any]"

CONTENT: dict[str, Any] = {"f": 1, "e": "", "d": {"x": 1}}

#: Each has a little of everything; None stands for what needs a key of its own.
VALUES = ["text", "", "8080", 8080, 0, True, None, 1.5, [1, "1"], {"a": {"b": 1}}, {}]


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give an empty mapping."""
    return kit.make()


@pytest.fixture
def filled(kit: StoreKit, mapping: EtcdMapping) -> EtcdMapping:
    """Give it with content."""
    kit.fill(mapping.prefix, CONTENT)
    return mapping


def rising(call: Callable[[], object], error: type[Exception]) -> Callable[[], None]:
    """Make a call that must raise."""

    def attempt() -> None:
        with pytest.raises(error):
            call()

    return attempt


# --- create and replace


@pytest.mark.parametrize("value", VALUES)
def test_create_of_absent_key_stores(
    filled: EtcdMapping, stored: Callable[[], Any], value: Any
) -> None:
    """Values and mappings alike."""
    filled.create("new", value)
    assert same_value(stored()["new"], value)


@pytest.mark.parametrize("value", [5, {"y": 5}, {}])
@pytest.mark.parametrize("key", ["f", "d", "d/x", "e"])
def test_create_of_present_key_raises(
    filled: EtcdMapping, stored: Callable[[], Any], key: str, value: Any
) -> None:
    """Whatever is there stays as it is."""
    with pytest.raises(KeyExists):
        filled.create(key, value)
    assert stored() == CONTENT


def test_create_with_ttl_expires(mapping: EtcdMapping) -> None:
    """A value, or a directory with all that is in it."""
    mapping.create("v", 1, ttl=99.5)
    mapping.create("m", {"x": 1}, ttl=99.5)
    assert (mapping.ttl("v"), mapping.ttl("m"), mapping.ttl("m/x")) == (100, 100, None)


def test_create_costs_one_request(mapping: EtcdMapping, cost: Cost) -> None:
    """A mapping costs one, and one for each key."""
    assert cost(lambda: mapping.create("v", 1)) == ["PUT"]
    made = cost(lambda: mapping.create("m", {"x": 1, "y": {"z": 2}}))
    assert made == ["PUT"] * 3
    assert cost(lambda: mapping.create("n", {})) == ["PUT"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["f", "d"])
def test_replace_of_present_key_stores(
    filled: EtcdMapping, stored: Callable[[], Any], key: str, value: Any
) -> None:
    """A value or a mapping in the place of either."""
    filled.replace(key, value)
    assert same_value(stored()[key], value)


@pytest.mark.parametrize("value", [5, {"y": 5}, {}])
def test_replace_of_absent_key_raises(
    filled: EtcdMapping, stored: Callable[[], Any], value: Any
) -> None:
    """A KeyError with the caller's key; nothing is stored."""
    with pytest.raises(KeyNotFound) as caught:
        filled.replace("d/new", value)
    assert caught.value.args == ("d/new",)
    assert stored() == CONTENT


def test_replace_with_and_without_ttl(filled: EtcdMapping) -> None:
    """A ttl given counts; none drops an earlier one, as every write does."""
    filled.replace("f", 2, ttl=50)
    filled.replace("d", {"x": 1}, ttl=50)
    assert (filled.ttl("f"), filled.ttl("d")) == (50, 50)
    filled.replace("f", 2)
    filled.replace("d", {"x": 1})
    assert (filled.ttl("f"), filled.ttl("d")) == (None, None)


def test_replace_costs_one_request(filled: EtcdMapping, cost: Cost) -> None:
    """For a value over a value."""
    assert cost(lambda: filled.replace("f", 2)) == ["PUT"]
    assert cost(rising(lambda: filled.replace("no", 2), KeyError)) == ["PUT"]


# --- compare and swap, compare and delete

PAIRS = [
    pytest.param("", "x", id="empty"),
    pytest.param("x", "", id="to-empty"),
    pytest.param("", "", id="empty-to-empty"),
    pytest.param(1, 2, id="int"),
    pytest.param(None, False, id="none"),
    pytest.param("a b+c&d=e%20", "ü ", id="to-be-quoted"),
    pytest.param([1, "1"], "1", id="list"),
    pytest.param("8080", 8080, id="quoted"),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_compare_and_swap_of_what_is_there_stores(
    mapping: EtcdMapping, old: Any, new: Any
) -> None:
    """It gives the index of the write."""
    mapping["k"] = old
    index = mapping.compare_and_swap("k", old, new)
    assert same_value(mapping["k"], new)
    node = mapping._view.store.get(f"{mapping.prefix}/k")
    assert isinstance(node, File)
    assert node.modified_index == index


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        pytest.param(1, 2, id="another"),
        pytest.param(1, True, id="bool"),
        pytest.param(1, 1.0, id="float"),
        pytest.param(1, "1", id="str"),
        pytest.param("x", "", id="empty-expected"),
        pytest.param("", "x", id="empty-there"),
        pytest.param("", None, id="none-expected"),
        # etcd's refusal quotes the value that is there, however long.
        pytest.param('"' * 200_000, "x", id="long"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m, v: m.compare_and_swap("k", v, 5), id="swap"),
        pytest.param(lambda m, v: m.compare_and_delete("k", v), id="delete"),
    ],
)
def test_compare_with_another_value_raises(
    mapping: EtcdMapping, call: Any, old: Any, expected: Any
) -> None:
    """Compared are texts; the message holds neither value."""
    mapping["k"] = old
    with pytest.raises(CompareFailed) as caught:
        call(mapping, expected)
    assert "!=" not in str(caught.value)
    assert same_value(mapping["k"], old)


COMPARE = [
    pytest.param(lambda m, k: m.compare_and_swap(k, 1, 2), id="swap"),
    pytest.param(lambda m, k: m.compare_and_swap(k, "", 2), id="swap-empty"),
    pytest.param(lambda m, k: m.compare_and_delete(k, 1), id="delete"),
    pytest.param(lambda m, k: m.compare_and_delete(k, ""), id="delete-empty"),
]


@pytest.mark.parametrize("call", COMPARE)
def test_compare_with_an_absent_key_raises(filled: EtcdMapping, call: Any) -> None:
    """A KeyError with the caller's key."""
    with pytest.raises(KeyNotFound) as caught:
        call(filled, "d/no")
    assert caught.value.args == ("d/no",)


@pytest.mark.parametrize("call", COMPARE)
def test_compare_with_a_directory_raises(
    filled: EtcdMapping, stored: Callable[[], Any], call: Any
) -> None:
    """A directory has no value to compare with."""
    with pytest.raises(NotAFile):
        call(filled, "d")
    assert stored() == CONTENT


@pytest.mark.parametrize("value", ["x", "", 1, None, [1]])
def test_compare_and_delete_of_what_is_there_deletes(
    mapping: EtcdMapping, value: Any
) -> None:
    """Also the empty text, which etcd itself can't compare with."""
    mapping["k"] = value
    mapping.compare_and_delete("k", value)
    assert "k" not in mapping


def test_compare_and_swap_sets_or_drops_the_ttl(mapping: EtcdMapping) -> None:
    """As every write does."""
    mapping["k"] = 1
    mapping.compare_and_swap("k", 1, 1, ttl=30)
    assert mapping.ttl("k") == 30
    mapping.compare_and_swap("k", 1, 1)
    assert mapping.ttl("k") is None


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.compare_and_swap("f", 1, {1}), id="new"),
        pytest.param(lambda m: m.compare_and_swap("f", {1}, 1), id="expected"),
        pytest.param(lambda m: m.compare_and_swap("f", 1, {"a": 1}), id="mapping"),
        pytest.param(lambda m: m.compare_and_swap("f", 1, 2, ttl=0), id="ttl"),
        pytest.param(lambda m: m.compare_and_swap("..", 1, 2), id="key"),
        pytest.param(lambda m: m.compare_and_delete("f", {1}), id="delete-expected"),
        pytest.param(lambda m: m.compare_and_delete("..", 1), id="delete-key"),
        pytest.param(lambda m: m.create("x", 1, ttl=0), id="create-ttl"),
        pytest.param(lambda m: m.create("x", {"y": {1}}), id="create-value"),
        pytest.param(lambda m: m.replace("f", 1, ttl=-5), id="replace-ttl"),
        pytest.param(lambda m: m.replace("f", {"_h": 1}), id="replace-key"),
        pytest.param(lambda m: m.append({"a": 1}), id="append-mapping"),
        pytest.param(lambda m: m.append(1, ttl=0), id="append-ttl"),
        pytest.param(lambda m: m.refresh("f", 0), id="refresh-0"),
        pytest.param(lambda m: m.refresh("..", 5), id="refresh-key"),
        pytest.param(lambda m: m.mkdir("x", ttl=0), id="mkdir-ttl"),
        pytest.param(lambda m: m.mkdir("_h"), id="mkdir-key"),
        pytest.param(lambda m: m.transform("..", str), id="transform-key"),
    ],
)
def test_refused_argument_costs_no_request(
    filled: EtcdMapping, cost: Cost, call: Call
) -> None:
    """What can't be stored is told before anything is sent."""

    def attempt() -> None:
        with pytest.raises((TypeError, ValueError)):
            call(filled)

    assert cost(attempt) == []


# --- transform


def test_transform_replaces_the_value_and_gives_the_new_one(
    filled: EtcdMapping, cost: Cost
) -> None:
    """One read, one conditional write."""
    given: list[Any] = []
    assert cost(lambda: given.append(filled.transform("f", lambda n: n + 1))) == [
        "GET",
        "PUT",
    ]
    assert given == [2]
    assert filled["f"] == 2


def test_transform_of_absent_key_starts_from_the_default(filled: EtcdMapping) -> None:
    """None and an empty list are defaults as any other."""
    assert filled.transform("a/b", lambda v: [v], default=None) == [None]
    assert filled["a/b"] == [None]


def test_transform_of_absent_key_without_default_raises(
    filled: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """The function is not called."""
    calls: list[Any] = []
    with pytest.raises(KeyNotFound) as caught:
        filled.transform("no", calls.append)
    assert caught.value.args == ("no",)
    assert calls == []
    assert stored() == CONTENT


def test_transform_of_a_directory_raises(filled: EtcdMapping) -> None:
    """There is no value to change."""
    with pytest.raises(NotAFile):
        filled.transform("d", lambda value: value)


def test_transform_keeps_what_is_left_of_the_ttl(mapping: EtcdMapping) -> None:
    """Changing a value does not make it stay for ever."""
    mapping.set("k", 1, ttl=1000)
    mapping.transform("k", lambda n: n + 1)
    left = mapping.ttl("k")
    assert left is not None
    assert 900 < left <= 1000


@pytest.mark.parametrize(
    ("func", "error"),
    [
        pytest.param(lambda n: n / 0, ZeroDivisionError, id="raises"),
        pytest.param(lambda n: {n}, TypeError, id="no-value"),
        pytest.param(lambda n: {"a": n}, TypeError, id="mapping"),
    ],
)
def test_transform_that_fails_writes_nothing(
    filled: EtcdMapping, stored: Callable[[], Any], func: Any, error: type[Exception]
) -> None:
    """What the function raises or gives is told to the caller."""
    with pytest.raises(error):
        filled.transform("f", func)
    assert stored() == CONTENT


def test_transform_may_change_the_list_it_gets(mapping: EtcdMapping) -> None:
    """The value is its own copy: changing it in place and giving it is fine."""
    mapping["l"] = [1]

    def add(items: list[int]) -> list[int]:
        items.append(2)
        return items

    assert mapping.transform("l", add) == [1, 2]
    assert mapping["l"] == [1, 2]


class Meddling(Between):
    """A transport on which somebody else writes before each of some writes."""

    def __init__(self, transport: CountingTransport, *meddlers: Callable[[], object]):
        super().__init__(transport.inner)
        self._meddlers = list(meddlers)
        transport.inner = self

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        """Let the next one meddle, and pass it on."""
        if request.method == "PUT" and self._meddlers:
            self._meddlers.pop(0)()
        return super().exchange(endpoint, request, timeout)


@pytest.mark.parametrize(
    ("others", "seen", "left"),
    [
        pytest.param([lambda m: setitem(m, "k", 5)], [1, 5], {"k": [5]}, id="written"),
        pytest.param(
            [lambda m: setitem(m, "k", 1)], [1, 1], {"k": [1]}, id="written-equal"
        ),
        pytest.param([lambda m: delitem(m, "k")], [1, 0], {"k": [0]}, id="deleted"),
        pytest.param(
            [lambda m: setitem(m, "k", 5), lambda m: setitem(m, "k", 6)],
            [1, 5, 6],
            {"k": [6]},
            id="twice",
        ),
        pytest.param(
            [lambda m: delitem(m, "k"), lambda m: setitem(m, "k", 7)],
            [1, 0, 7],
            {"k": [7]},
            id="deleted-and-made",
        ),
    ],
)
def test_transform_sees_what_came_between(
    mapping: EtcdMapping,
    transport: CountingTransport,
    etcd: Any,
    others: list[Call],
    seen: list[Any],
    left: dict[str, Any],
) -> None:
    """The function is called again with the newer value: no update is lost."""
    mapping["k"] = 1
    calls: list[Any] = []

    def change(value: Any) -> Any:
        calls.append(value)
        return [value]

    with EtcdMapping(etcd.endpoints, mapping.prefix) as foreign:
        Meddling(transport, *(lambda call=call: call(foreign) for call in others))
        mapping.transform("k", change, default=0)
    assert calls == seen
    assert mapping == left


# --- append


def test_append_gives_keys_that_sort_in_their_order(mapping: EtcdMapping) -> None:
    """etcd's index in 20 digits."""
    keys = [mapping.append(n) for n in range(12)]
    assert keys == sorted(keys)
    assert all(len(key) == 20 and key.isdigit() for key in keys)
    assert list(mapping.items()) == [(key, n) for n, key in enumerate(keys)]


def test_append_costs_one_request_and_makes_the_directory(
    mapping: EtcdMapping, cost: Cost, stored: Callable[[], Any]
) -> None:
    """In one go, also where nothing was."""
    assert cost(lambda: mapping.sub("a/b").append("x")) == ["POST"]
    assert list(stored()["a"]["b"].values()) == ["x"]


def test_append_with_ttl_expires(mapping: EtcdMapping) -> None:
    """As a value that was set."""
    assert mapping.ttl(mapping.append(1, ttl=29.5)) == 30


@pytest.mark.parametrize("value", ["text", "", "8080", 8080, None, [1, "1"]])
def test_append_stores_as_the_codec_does(mapping: EtcdMapping, value: Any) -> None:
    """What is appended is read back with its type."""
    assert same_value(mapping[mapping.append(value)], value)


# --- refresh, mkdir


def test_refresh_renews_the_ttl_and_nothing_else(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """The value stays; fractions are rounded up."""
    mapping.set("k", "x", ttl=5)
    assert cost(lambda: mapping.refresh("k", 99.1)) == ["PUT"]
    assert (mapping["k"], mapping.ttl("k")) == ("x", 100)


def test_refresh_renews_whoever_holds_the_key(mapping: EtcdMapping) -> None:
    """It asks for no value: a lease that must be one's own needs a comparison."""
    mapping.set("leader", "me", ttl=50)
    mapping.set("leader", "you", ttl=50)
    mapping.refresh("leader", 100)
    assert (mapping["leader"], mapping.ttl("leader")) == ("you", 100)
    with pytest.raises(CompareFailed):
        mapping.compare_and_swap("leader", "me", "me", ttl=50)


@pytest.mark.usefixtures("client")  # a watch goes past the mapping, to etcd
def test_refresh_makes_no_event(mapping: EtcdMapping) -> None:
    """Watchers are told of the next real write only."""
    mapping.set("k", 1, ttl=50)
    index = mapping.index()
    mapping.refresh("k", 60)
    mapping["k"] = 2
    event = mapping.keys_api.watch(f"{mapping.prefix}/k", after_index=index)
    assert event.node is not None
    assert event.node.value == "2"


def test_refresh_of_absent_key_raises(mapping: EtcdMapping) -> None:
    """A KeyError with the caller's key; etcd would make an empty value."""
    with pytest.raises(KeyNotFound) as caught:
        mapping.refresh("a/no", 5)
    assert caught.value.args == ("a/no",)
    assert "a/no" not in mapping


def test_refresh_of_a_directory_leaves_its_content(
    filled: EtcdMapping, etcd_version: str, stored: Callable[[], Any]
) -> None:
    """etcd 3.5 can't and says so, where 3.4 does it."""
    if etcd_version.startswith("3.5."):
        with pytest.raises(NotAFile):
            filled.refresh("d", 500)
    else:
        filled.refresh("d", 500)
    assert stored() == CONTENT


def test_mkdir_makes_an_empty_directory(
    mapping: EtcdMapping, cost: Cost, stored: Callable[[], Any]
) -> None:
    """It gives the mapping on it, and makes the way to it."""
    made: list[EtcdMapping] = []
    assert cost(lambda: made.append(mapping.mkdir("a/b"))) == ["PUT"]
    assert stored() == {"a": {"b": {}}}
    made[0]["x"] = 1
    assert mapping["a/b/x"] == 1


@pytest.mark.parametrize("key", ["f", "d", "e"])
def test_mkdir_where_something_is_raises(
    filled: EtcdMapping, stored: Callable[[], Any], key: str
) -> None:
    """A file is not replaced, as etcd itself would do."""
    with pytest.raises(KeyExists):
        filled.mkdir(key)
    assert stored() == CONTENT


def test_mkdir_with_ttl_expires(mapping: EtcdMapping) -> None:
    """With all that is put into it."""
    mapping.mkdir("d", ttl=9.5)["x"] = 1
    assert (mapping.ttl("d"), mapping.ttl("d/x")) == (10, None)


# --- a file on the way


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.create("f/k", 1), id="create"),
        pytest.param(lambda m: m.create("f/k", {"x": 1}), id="create-mapping"),
        pytest.param(lambda m: m.replace("f/k", 1), id="replace"),
        pytest.param(lambda m: m.replace("f/k", {"x": 1}), id="replace-mapping"),
        pytest.param(lambda m: m.compare_and_swap("f/k", 1, 2), id="swap"),
        pytest.param(lambda m: m.compare_and_swap("f/k", "", 2), id="swap-empty"),
        pytest.param(lambda m: m.compare_and_delete("f/k", 1), id="delete"),
        pytest.param(lambda m: m.compare_and_delete("f/k", ""), id="delete-empty"),
        pytest.param(lambda m: m.transform("f/k", str), id="transform"),
        pytest.param(lambda m: m.transform("f/k", str, default=1), id="with-default"),
        pytest.param(lambda m: m.sub("f").append(1), id="append"),
        pytest.param(lambda m: m.sub("f/k").append(1), id="append-below"),
        pytest.param(lambda m: m.refresh("f/k", 5), id="refresh"),
        pytest.param(lambda m: m.mkdir("f/k"), id="mkdir"),
    ],
)
def test_file_on_the_way_raises_notadirectory(
    filled: EtcdMapping, stored: Callable[[], Any], call: Call
) -> None:
    """A write says what is in its way; it is no KeyError."""
    with pytest.raises(NotADirectory) as caught:
        call(filled)
    assert not isinstance(caught.value, KeyError)
    assert stored() == CONTENT


# --- snapshot, index


def test_snapshot_is_the_content_and_its_index(filled: EtcdMapping, cost: Cost) -> None:
    """One request; the index is that of the store at the moment."""
    given: list[Any] = []
    assert cost(lambda: given.append(filled.snapshot())) == ["GET"]
    content, index = given[0]
    assert content == CONTENT
    assert index == filled.index() == given[0].index


@pytest.mark.usefixtures("client")  # a watch goes past the mapping, to etcd
def test_snapshot_index_is_where_a_watch_goes_on(filled: EtcdMapping) -> None:
    """What is written next is the first change after it."""
    index = filled.snapshot().index
    written = filled.set("new", 1)
    event = filled.keys_api.watch(filled.prefix, after_index=index, recursive=True)
    assert event.node is not None
    assert event.node.modified_index == written


def test_snapshot_of_absent_directory_has_an_index(mapping: EtcdMapping) -> None:
    """Nothing is there, as of that moment."""
    content, index = mapping.snapshot()
    assert content == {}
    assert index == mapping.index() > 0


def test_index_grows_with_each_write(mapping: EtcdMapping, cost: Cost) -> None:
    """`set` gives the index that it made."""
    before = mapping.index()
    written = mapping.set("k", 1)
    assert written is not None
    assert before < written <= mapping.index()
    assert cost(lambda: mapping.index()) == ["GET"]


def test_index_of_a_file_is_told_as_well(filled: EtcdMapping) -> None:
    """It is the store's, so it matters little what is there."""
    assert filled.sub("f").index() >= filled.index() - 1
    assert filled.sub("f/k").index() > 0


# --- using


def test_using_leaves_the_mapping_as_it_was(mapping: EtcdMapping) -> None:
    """It gives another view."""
    mapping["k"] = 5
    view = mapping.using(codec="text", consistency="any", timeout=3)
    assert (view["k"], mapping["k"]) == ("5", 5)
    assert view.prefix == mapping.prefix
    assert view.client is mapping.client


def test_using_is_inherited_by_what_comes_of_the_view(mapping: EtcdMapping) -> None:
    """Sub-mappings, values of directories and the flat view."""
    mapping["d"] = {"e": {"k": 5}}
    view = mapping.using(codec="text")
    assert view["d"]["e"]["k"] == "5"
    assert view.sub("d/e")["k"] == "5"
    assert view.flat["d/e/k"] == "5"
    assert view["d"].to_dict() == {"e": {"k": "5"}}
    assert view.using(timeout=3)["d/e/k"] == "5"


def test_using_linearizable_asks_for_a_quorum(
    filled: EtcdMapping, transport: CountingTransport
) -> None:
    """On every read, of one key or of many; a HEAD could not."""
    view = filled.using(consistency="linearizable")
    before = len(transport.requests)
    _ = view["f"], "f" in view, view.to_dict(), list(view.items()), view.flat["f"]
    _ = view.ttl("f"), view.index(), view["d"]["x"]
    requests = transport.requests[before:]
    assert {request.method for request in requests} == {"GET"}
    assert all("quorum=true" in request.target for request in requests)


def test_using_any_never_asks_for_a_quorum(
    etcd: Any, transport: CountingTransport, mapping: EtcdMapping
) -> None:
    """Whatever the member in use says; also on the first read of a client."""
    view = mapping.using(consistency="any")
    _ = view.get("f"), view.to_dict(), "f" in view
    assert not any("quorum" in request.target for request in transport.requests)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"consistency": "strong"}, id="consistency"),
        pytest.param({"timeout": 0}, id="timeout-0"),
        pytest.param({"timeout": "5"}, id="timeout-str"),
        pytest.param({"timeout": float("nan")}, id="timeout-nan"),
        pytest.param({"codec": "yaml"}, id="codec"),
        pytest.param({"codec": object()}, id="codec-object"),
    ],
)
def test_using_what_there_is_not_is_refused_at_once(
    mapping: EtcdMapping, options: dict[str, Any]
) -> None:
    """Before any request."""
    with pytest.raises((TypeError, ValueError)):
        mapping.using(**options)


def test_using_timeout_bounds_each_request(
    mapping: EtcdMapping, transport: CountingTransport
) -> None:
    """The transport is given no more time than that."""
    given: list[float] = []

    class Noting(Between):
        def exchange(self, endpoint: str, request: Any, timeout: float) -> Answer:
            given.append(timeout)
            return super().exchange(endpoint, request, timeout)

    transport.inner = Noting(transport.inner)
    view = mapping.using(timeout=2.5)
    view["k"] = 1
    _ = view["k"], view.to_dict(), view.flat.to_dict(), view.append(1)
    view.sub("d").update(a=1, b=2)
    assert all(2.0 < timeout <= 2.5 for timeout in given)


# --- completion


def test_ipython_completes_keys(filled: EtcdMapping, cost: Cost) -> None:
    """Those of the directory, or all paths of the flat view; one request."""
    assert filled._ipython_key_completions_() == ["d", "e", "f"]
    assert filled.flat._ipython_key_completions_() == ["d/x", "e", "f"]
    assert cost(filled._ipython_key_completions_) == ["GET"]
    assert cost(filled.flat._ipython_key_completions_) == ["GET"]


def test_ipython_completion_of_impossible_sub_is_an_error_of_ours(
    mapping: EtcdMapping,
) -> None:
    """A typo in a sub-mapping's name is told as such."""
    with pytest.raises(InvalidKey):
        mapping.sub("a//b")

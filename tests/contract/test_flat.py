"""The flat view: a subtree as one mapping of relative path -> value."""

from __future__ import annotations

from collections.abc import Callable
from operator import contains, delitem, setitem
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    DecodeError,
    EtcdMapping,
    FlatView,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    PartialWrite,
    ReadOnly,
)

from support.mapping_kit import StoreKit

Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"
Call: TypeAlias = "Callable[[FlatView], Any]"

CONTENT: dict[str, Any] = {
    "a": {"b": 1, "c": {"d": [2]}},
    "a-b": 3,
    "e": {},
    "f": {"g": {}},
    "z": "",
}
FLAT = {"a-b": 3, "a/b": 1, "a/c/d": [2], "z": ""}


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give an empty mapping."""
    return kit.make()


@pytest.fixture
def filled(kit: StoreKit, mapping: EtcdMapping) -> EtcdMapping:
    """Give it with content."""
    kit.fill(mapping.prefix, CONTENT)
    return mapping


@pytest.fixture
def flat(filled: EtcdMapping) -> FlatView:
    """Give its flat view."""
    return filled.flat


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(list, list(FLAT), id="iter-sorted-by-path"),
        pytest.param(lambda f: list(reversed(f)), list(FLAT)[::-1], id="reversed"),
        pytest.param(len, 4, id="len"),
        pytest.param(bool, True, id="bool"),
        pytest.param(dict, FLAT, id="dict"),
        pytest.param(lambda f: f.to_dict(), FLAT, id="to_dict"),
        pytest.param(lambda f: f.copy(), FLAT, id="copy"),
        pytest.param(lambda f: f == FLAT, True, id="eq"),
        pytest.param(lambda f: f == {**FLAT, "z": 1}, False, id="eq-other"),
        pytest.param(lambda f: list(f.keys()), list(FLAT), id="keys"),
        pytest.param(lambda f: list(f.values()), list(FLAT.values()), id="values"),
        pytest.param(lambda f: list(f.items()), list(FLAT.items()), id="items"),
        pytest.param(lambda f: f["a/c/d"], [2], id="getitem"),
        pytest.param(lambda f: f.get("a/b"), 1, id="get"),
        pytest.param(lambda f: f.get("a", 9), 9, id="get-directory"),
        pytest.param(lambda f: f.get("a/b/x", 9), 9, id="get-below-a-file"),
        pytest.param(lambda f: f.get("..", 9), 9, id="get-impossible"),
        pytest.param(lambda f: f.get(5, 9), 9, id="get-int"),
        pytest.param(lambda f: "a/b" in f, True, id="in"),
        pytest.param(lambda f: "a" in f, False, id="directory-not-in"),
        pytest.param(lambda f: "e" in f, False, id="empty-directory-not-in"),
        pytest.param(lambda f: "a/b/x" in f, False, id="below-a-file-not-in"),
        pytest.param(lambda f: contains(f, 5), False, id="int-not-in"),
        pytest.param(lambda f: f | {"x": 1}, {**FLAT, "x": 1}, id="or"),
        pytest.param(lambda f: {"z": 1, "x": 1} | f, {"x": 1, **FLAT}, id="or-right"),
        pytest.param(lambda f: f.prefix[-1] != "/", True, id="prefix"),
    ],
)
def test_flat_reads_files_by_path(flat: FlatView, call: Call, expected: Any) -> None:
    """Directories are not in it, empty ones are invisible."""
    assert call(flat) == expected


@pytest.mark.parametrize("key", ["a", "e", "no", "a/no", "a/b/no", "..", "", 5])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda f, k: f[k], id="getitem"),
        pytest.param(delitem, id="del"),
        pytest.param(lambda f, k: f.pop(k), id="pop"),
    ],
)
def test_flat_key_that_is_no_file_raises_keyerror(
    flat: FlatView, stored: Callable[[], Any], call: Any, key: Any
) -> None:
    """With the caller's key; and nothing is deleted, least of all a directory."""
    with pytest.raises(KeyNotFound) as caught:
        call(flat, key)
    assert caught.value.args == (key,)
    assert stored() == CONTENT


@pytest.mark.parametrize(
    ("call", "key"),
    [
        pytest.param(lambda f: setitem(f, "a", 1), "a", id="setitem"),
        pytest.param(lambda f: setitem(f, "e", 1), "e", id="setitem-empty"),
        pytest.param(lambda f: f.setdefault("a", 1), "a", id="setdefault"),
        pytest.param(lambda f: f.update({"a": 1}), "a", id="update"),
    ],
)
def test_flat_write_over_a_directory_raises(
    flat: FlatView, stored: Callable[[], Any], call: Call, key: str
) -> None:
    """Nothing is deleted to make room."""
    with pytest.raises(NotAFile) as caught:
        call(flat)
    assert caught.value.key == f"{flat.prefix}/{key}"
    assert stored() == CONTENT


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda f: setitem(f, "z/x", 1), id="setitem"),
        pytest.param(lambda f: setitem(f, "z/x/y", 1), id="setitem-deep"),
        pytest.param(lambda f: f.setdefault("z/x", 1), id="setdefault"),
        pytest.param(lambda f: f.update({"z/x": 1}), id="update"),
    ],
)
def test_flat_write_below_a_file_raises(
    flat: FlatView, stored: Callable[[], Any], call: Call
) -> None:
    """As for the mapping."""
    with pytest.raises(NotADirectory):
        call(flat)
    assert stored() == CONTENT


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(list, id="list"),
        pytest.param(len, id="len"),
        pytest.param(lambda f: f.to_dict(), id="to_dict"),
        pytest.param(lambda f: f.popitem(), id="popitem"),
        pytest.param(lambda f: f.clear(), id="clear"),
        pytest.param(lambda f: setitem(f, "x", 1), id="setitem"),
    ],
)
@pytest.mark.parametrize("at", ["z", "z/x"])
def test_flat_of_a_file_raises_notadirectory(
    filled: EtcdMapping, call: Call, at: str
) -> None:
    """A file stands where the view's directory was, or on its way."""
    with pytest.raises(NotADirectory) as caught:
        call(filled.sub(at).flat)
    assert not isinstance(caught.value, KeyError)


def test_flat_setitem_makes_the_directories(
    flat: FlatView, cost: Cost, stored: Callable[[], Any]
) -> None:
    """One request."""
    assert cost(lambda: setitem(flat, "x/y/z", 1)) == ["PUT"]
    assert stored()["x"] == {"y": {"z": 1}}


@pytest.mark.parametrize("value", [{}, {"x": 1}])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda f, v: setitem(f, "x", v), id="setitem"),
        pytest.param(lambda f, v: f.setdefault("x", v), id="setdefault"),
        pytest.param(lambda f, v: f.update(x=v), id="update"),
    ],
)
def test_flat_mapping_as_value_is_refused(
    flat: FlatView, cost: Cost, call: Any, value: Any
) -> None:
    """It holds values only; what to do is told."""

    def attempt() -> None:
        with pytest.raises(TypeError, match="nested mapping"):
            call(flat, value)

    assert cost(attempt) == []


def test_flat_delitem_leaves_the_directory(
    flat: FlatView, stored: Callable[[], Any]
) -> None:
    """etcd keeps a directory whose last key went."""
    del flat["a/c/d"]
    assert stored()["a"] == {"b": 1, "c": {}}


def test_flat_pop_gives_the_value_and_removes_it(flat: FlatView, cost: Cost) -> None:
    """One read, one delete of just that."""
    given: list[Any] = []
    made = cost(lambda: given.append(flat.pop("a/c/d")))
    assert (given, made) == ([[2]], ["GET", "DELETE"])
    assert flat.pop("a/c/d", None) is None
    assert flat.pop("a", "directory") == "directory"


def test_flat_popitem_takes_the_last_until_nothing_is_left(
    flat: FlatView, stored: Callable[[], Any]
) -> None:
    """In the reverse order of the paths; directories stay."""
    popped = [flat.popitem() for _ in range(4)]
    assert popped == list(FLAT.items())[::-1]
    with pytest.raises(KeyError):
        flat.popitem()
    assert stored() == {"a": {"c": {}}, "e": {}, "f": {"g": {}}}


def test_flat_setdefault_stores_where_nothing_is(flat: FlatView) -> None:
    """And gives what is there."""
    assert flat.setdefault("a/b", 9) == 1
    assert flat.setdefault("a/n", 9) == 9
    assert flat["a/n"] == 9


def test_flat_update_is_a_request_for_each_key(
    flat: FlatView, cost: Cost, stored: Callable[[], Any]
) -> None:
    """Without a listing, since nothing has to make room."""
    made = cost(lambda: flat.update({"a/b": 2, "n/m": 3}, z=4))
    assert made == ["PUT"] * 3
    assert stored()["a"]["b"] == 2
    assert (stored()["n"], stored()["z"]) == ({"m": 3}, 4)


def test_flat_update_with_a_conflict_writes_the_others(
    flat: FlatView, stored: Callable[[], Any]
) -> None:
    """Each key is told."""
    with pytest.raises(PartialWrite) as caught:
        flat.update({"a": 1, "z/x": 2, "n": 3})
    error = caught.value
    assert error.written == (f"{flat.prefix}/n",)
    assert {path: type(cause) for path, cause in error.failed.items()} == {
        f"{flat.prefix}/a": NotAFile,
        f"{flat.prefix}/z/x": NotADirectory,
    }
    assert stored() == {**CONTENT, "n": 3}


def test_flat_ior_stores(flat: FlatView, stored: Callable[[], Any]) -> None:
    """`|=` is an update in place: the name stays bound to the view."""
    view = flat
    view |= {"a/b": 2}
    assert view is flat
    assert stored()["a"]["b"] == 2


def test_flat_clear_deletes_files_and_leaves_directories(
    flat: FlatView, stored: Callable[[], Any]
) -> None:
    """What is invisible in it is not its to delete."""
    flat.clear()
    assert stored() == {"a": {"c": {}}, "e": {}, "f": {"g": {}}}
    assert flat == {}


def test_flat_of_absent_directory_is_empty(mapping: EtcdMapping) -> None:
    """As the mapping is; a write makes it."""
    flat = mapping.sub("no/where").flat
    assert (list(flat), len(flat), flat.to_dict()) == ([], 0, {})
    flat.clear()
    flat["x"] = 1
    assert mapping["no/where/x"] == 1


def test_flat_of_a_sub_mapping_starts_there(filled: EtcdMapping) -> None:
    """Paths are relative to where it stands."""
    assert filled["a"].flat == {"b": 1, "c/d": [2]}
    assert filled.flat.sub("a") == {"b": 1, "c/d": [2]}


def test_flat_of_readonly_mapping_is_readonly(
    kit: StoreKit, filled: EtcdMapping, cost: Cost
) -> None:
    """Every write is refused before any request."""
    flat = kit.on(filled.prefix, readonly=True).flat
    writes: list[Call] = [
        lambda f: setitem(f, "x", 1),
        lambda f: delitem(f, "a/b"),
        lambda f: f.pop("a/b"),
        lambda f: f.popitem(),
        lambda f: f.setdefault("x", 1),
        lambda f: f.update(x=1),
        lambda f: f.clear(),
    ]

    def attempt() -> None:
        for write in writes:
            with pytest.raises(ReadOnly):
                write(flat)

    assert cost(attempt) == []


def test_flat_with_escaped_keys_shows_names_as_stored(kit: StoreKit) -> None:
    """Otherwise a "/" in a key could not be told from one between two."""
    mapping = kit.make(escape_keys=True)
    mapping["text/html"] = {"_x": 1}
    assert mapping.flat == {"text%2Fhtml/%5Fx": 1}
    assert mapping.flat["text%2Fhtml/%5Fx"] == 1


def test_flat_hides_what_is_hidden(kit: StoreKit, filled: EtcdMapping) -> None:
    """As every listing does."""
    kit.write(f"{filled.prefix}/a/_h", "x")
    assert filled.flat == FLAT


def test_flat_repr_shows_prefix_and_endpoints(flat: FlatView, cost: Cost) -> None:
    """Without a request."""
    assert cost(lambda: repr(flat)) == []
    assert repr(flat).startswith("FlatView([")
    assert flat.prefix in repr(flat)


@pytest.mark.parametrize("take", ["pop", "popitem"])
def test_flat_take_of_what_cannot_be_read_leaves_it(
    kit: StoreKit, mapping: EtcdMapping, take: str
) -> None:
    """What the codec can't read is refused before it is gone."""
    path = f"{mapping.prefix}/k"
    kit.write(path, "no JSON")
    flat = mapping.using(codec="json").flat
    with pytest.raises(DecodeError):
        flat.pop("k") if take == "pop" else flat.popitem()
    assert kit.read(path) is not None

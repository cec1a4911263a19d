"""A mapping reads from a store that has the reading half only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import pytest

from etcdmap import EtcdMapping, ReadOnly, View
from etcdmap.codecs import get_codec
from etcdmap.paths import PLAIN
from etcdmap.tree import ReadableStore, Store

from support.memory_store import MemoryStore, Tree

CONTENT = {"a": 1, "d": {"x": "y", "e": {}}, "n": [1, 2]}

HALF = {
    name
    for name, member in inspect.getmembers(ReadableStore)
    if not name.startswith("_")
    and (inspect.isfunction(member) or isinstance(member, property))
}


class ReadingHalf:
    """What a store has of `ReadableStore`, and nothing else."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in HALF:
            raise AssertionError(f"{name} is not of the reading half")
        found = getattr(self._store, name)
        if name in ("using", "call"):
            return lambda *args, **options: ReadingHalf(found(*args, **options))
        return found


@pytest.fixture
def reading() -> EtcdMapping:
    """Return a read-only mapping on the reading half of a store with content."""
    store = MemoryStore(Tree())
    whole = View(store, get_codec("auto"), PLAIN, "", False, whole_cluster=False)
    EtcdMapping._on(whole).update(CONTENT)
    half = cast("Store", ReadingHalf(store))
    view = View(half, get_codec("auto"), PLAIN, "", True, whole_cluster=False)
    return EtcdMapping._on(view)


def test_reading_half_is_enough_for_every_read(reading: EtcdMapping) -> None:
    """The nested mapping, its parts and its flat view."""
    assert reading == CONTENT
    assert reading["a"] == 1
    assert reading["d/x"] == reading["d"]["x"] == "y"
    assert reading.get("zz") is None
    assert "d" in reading
    assert len(reading["d"]) == 2
    assert list(reading) == list(reversed(list(reversed(reading)))) == ["a", "d", "n"]
    assert dict(reading.items()).keys() == reading.keys() == CONTENT.keys()
    assert reading.snapshot().value == CONTENT
    assert reading.snapshot().index == reading.index()
    assert reading.ttl("a") is None
    assert reading.flat.to_dict() == {"a": 1, "d/x": "y", "n": [1, 2]}
    assert reading.flat["d/x"] == "y"
    assert "d/x" in reading.flat
    assert reading.using(timeout=1)["a"] == 1
    assert reading.cache_info() is None


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: m.update(b=1), id="update"),
        pytest.param(lambda m: m.pop("a"), id="pop"),
        pytest.param(lambda m: m.popitem(), id="popitem"),
        pytest.param(lambda m: m.setdefault("b", 1), id="setdefault"),
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: m.set("b", 1, ttl=5), id="set"),
        pytest.param(lambda m: m.refresh("a", 5), id="refresh"),
        pytest.param(lambda m: m.append(1), id="append"),
        pytest.param(lambda m: m.mkdir("b", ttl=5), id="mkdir"),
        pytest.param(lambda m: m.transform("a", str), id="transform"),
        pytest.param(lambda m: m.compare_and_swap("a", 1, 2), id="swap"),
        pytest.param(lambda m: m.compare_and_delete("a", 1), id="compare-delete"),
        pytest.param(lambda m: m.assign({}), id="assign"),
        pytest.param(lambda m: m.merge({"b": 1}), id="merge"),
        pytest.param(lambda m: m.flat.update({"b": 1}), id="flat-update"),
    ],
)
def test_reading_half_refuses_every_write(
    reading: EtcdMapping, write: Callable[[EtcdMapping], object]
) -> None:
    """As read-only, before the store is asked for what it does not have."""
    with pytest.raises(ReadOnly):
        write(reading)

"""What `assign` and `merge` tell of what they change."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from etcdmap import ABSENT, Difference, Differences, EtcdMapping

from support.mapping_kit import StoreKit

Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"

BEFORE: dict[str, Any] = {
    "db": {"host": "localhost", "port": 5432, "old": {"user": None}},
    "debug": True,
    "name": "shop",
}
AFTER: dict[str, Any] = {
    "db": {"host": "db1", "port": 5432, "pool": [1, "2"], "old": "none"},
    "debug": {"level": 2},
    "logs": {},
}


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give a mapping with content."""
    return kit.make(BEFORE)


def test_assign_tells_old_and_new_values(mapping: EtcdMapping) -> None:
    """As the codec reads them; a directory that goes as a plain dict."""
    assert mapping.assign(AFTER) == [
        Difference("set", "db/host", "localhost", "db1"),
        Difference("delete", "db/old", {"user": None}, ABSENT),
        Difference("set", "db/old", ABSENT, "none"),
        Difference("set", "db/pool", ABSENT, [1, "2"]),
        Difference("make_directory", "debug", True, {}),
        Difference("set", "debug/level", ABSENT, 2),
        Difference("make_directory", "logs", ABSENT, {}),
        Difference("delete", "name", "shop", ABSENT),
    ]


def test_merge_tells_the_same_of_what_it_names(mapping: EtcdMapping) -> None:
    """What it does not name stays, and is no difference."""
    changes = mapping.merge({"db": {"host": "db1", "port": 5432}, "ssl/on": True})
    assert changes == [
        Difference("set", "db/host", "localhost", "db1"),
        Difference("set", "ssl/on", ABSENT, True),
    ]
    assert mapping.merge({"db": {"host": "db1"}}) == mapping.merge({}) == []


def test_merge_dry_run_tells_the_same_and_writes_nothing(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """One request, which is a read; the same changes as are then made."""
    planned = Differences()
    made = cost(lambda: planned.extend(mapping.merge(AFTER, dry_run=True)))
    assert made == ["GET"]
    assert mapping == BEFORE
    assert mapping.merge(AFTER) == planned
    assert planned


def test_differences_print_like_a_diff(mapping: EtcdMapping) -> None:
    """Sorted by key, with what goes before what comes."""
    assert str(mapping.assign(AFTER)) == (
        "- db/host: 'localhost'\n"
        "+ db/host: 'db1'\n"
        "- db/old: {'user': None}\n"
        "+ db/old: 'none'\n"
        "+ db/pool: [1, '2']\n"
        "- debug: True\n"
        "+ debug: {}\n"
        "+ debug/level: 2\n"
        "+ logs: {}\n"
        "- name: 'shop'"
    )
    assert str(mapping.assign(AFTER)) == "no differences"


def test_difference_of_the_ttl_only_says_so(mapping: EtcdMapping) -> None:
    """Its values are the same: two equal lines would say nothing."""
    mapping.set("name", "shop", ttl=1000)
    changes = mapping.merge({"name": "shop"})
    assert changes == [Difference("set", "name", "shop", "shop")]
    assert str(changes) == "  name: 'shop' (its ttl only)"


def test_difference_prints_what_is_long_or_no_text_on_one_line() -> None:
    """As in every message: a value may have many lines, and MiBs."""
    change = Difference("set", "a\tb", ABSENT, "line\n" + "x" * 1000)
    line = str(change)
    assert line.startswith(r"+ a\tb: 'line\nxxx")
    assert len(line) < 250
    assert line.isprintable()


def test_differences_with_escape_keys_have_the_callers_keys(kit: StoreKit) -> None:
    """Not as they are stored; one by one they lead to what changed."""
    mapping = kit.make(escape_keys=True)
    document = {"a/b": 1, "_c": {"/d": {"": 2}}, "e": {"/f": 3}}
    for change in mapping.assign(document):
        value: Any = mapping
        for key in change.keys:
            value = value[key]
        assert value == change.new
    del document["e"]
    changes = mapping.assign(document)
    assert changes == [Difference("delete", "e", {"/f": 3}, ABSENT)]
    assert [c.key for c in mapping.assign({})] == ["_c", "a/b"]
    assert mapping.merge({"x": {"/y": 1}})[0].key == "x//y"


@pytest.mark.parametrize("call", ["assign", "merge"])
def test_differences_of_a_text_that_the_codec_cant_read_show_the_text(
    kit: StoreKit, call: str
) -> None:
    """The call is what puts it right, so it must not fail for it."""
    mapping = kit.make(codec="json")
    kit.write(f"{mapping.prefix}/k", "no json")
    changes = getattr(mapping, call)({"k": [1]})
    assert changes == [Difference("set", "k", "no json", [1])]
    assert mapping["k"] == [1]


def test_difference_of_a_null_is_none_and_not_absent(mapping: EtcdMapping) -> None:
    """`None` is a value like others."""
    assert mapping.merge({"n": None}) == [Difference("set", "n", ABSENT, None)]
    assert mapping.merge({"n": 1}) == [Difference("set", "n", None, 1)]


def test_differences_are_the_same_after_a_copy_and_a_pickle() -> None:
    """Also ABSENT, which is compared by identity."""
    changes = Differences([Difference("set", "k", ABSENT, 1, ("k",))])
    pickled = pickle.loads(pickle.dumps(changes))  # noqa: S301
    for again in (copy.deepcopy(changes), pickled):
        assert again == changes
        assert again[0].old is ABSENT
        assert again[0].keys == ("k",)
    assert repr(changes) == "[Difference(action='set', key='k', old=ABSENT, new=1)]"


def test_clear_decodes_nothing(kit: StoreKit) -> None:
    """It tells of no difference, so a codec is not asked for any."""

    class Unread:
        def encode(self, value: Any, /) -> str:
            return str(value)

        def decode(self, text: str, /) -> Any:
            raise AssertionError("asked")

    mapping = kit.make({"a": 1}, codec=Unread())
    mapping.clear()
    assert kit.stored(mapping) == {}

"""Mappings with `escape_keys`: every str is one key, and comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from operator import delitem, setitem
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcdmap import EtcdMapping, InvalidKey

from support.mapping_kit import StoreKit

Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"

#: Every str that UTF-8 can express, with those that need care more often.
keys = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from("/%_.\x00\n\x7f\x85\ufffd?#"),
    max_size=20,
)
STRANGE = [
    *(
        "",
        "/",
        "//",
        ".",
        "..",
        "...",
        "_",
        "_h",
        "__",
        "%",
        "%2F",
        "%5F_",
        "%%",
        "50%",
    ),
    *(
        "text/html",
        "/a",
        "a/",
        "a//b",
        "../..",
        "a\x00b",
        "\n",
        "\x85",
        "\x7f",
        "\ufffd",
    ),
    *(" ", "?a=b", "#x", "a+b", "a;b", "ü", "u\u0308", "\u2028", "😀", "%ff", "%00"),
]


@pytest.fixture
def escaping(kit: StoreKit) -> EtcdMapping:
    """Give a mapping whose keys are escaped."""
    return kit.make(escape_keys=True)


@pytest.mark.parametrize("key", STRANGE)
def test_escaped_key_works_in_every_method(escaping: EtcdMapping, key: str) -> None:
    """It is one key: written, found, listed and removed under its own name."""
    escaping["other"] = 0
    escaping[key] = 1
    assert escaping[key] == 1
    assert key in escaping
    assert list(escaping) == sorted([key, "other"])
    assert escaping.to_dict() == {key: 1, "other": 0}
    assert dict(escaping.items()) == {key: 1, "other": 0}
    assert escaping.setdefault(key, 2) == 1
    escaping.update({key: 3})
    escaping.merge({key: {"x": 4}})
    assert escaping[key]["x"] == 4
    assert escaping.sub(key) == {"x": 4}
    assert escaping.pop(key) == {"x": 4}
    escaping.assign({key: {key: 5}})
    assert escaping.assign({key: {key: 5}}) == []
    assert escaping[key][key] == 5
    del escaping[key]
    assert escaping == {}


@settings(max_examples=20)  # for each kind
@example(dict.fromkeys(STRANGE, 1))
@example({"": {"": {"": 1}}})
@example({"a%2Fb": 1, "a/b": 2, "a": {"b": 3}})
@given(
    st.recursive(
        st.integers(0, 9), lambda inner: st.dictionaries(keys, inner, max_size=4)
    ).filter(lambda content: isinstance(content, dict))
)
def test_escaped_mapping_of_any_keys_is_read_back(
    escaping: EtcdMapping, content: dict[str, Any]
) -> None:
    """Whatever nested dict is assigned comes back equal, from the snapshot too."""
    escaping.assign(content)
    assert escaping == content
    assert escaping.snapshot().value == content
    assert escaping.assign(content, dry_run=True) == []


def test_escaped_ordinary_names_are_stored_as_they_are(
    kit: StoreKit, escaping: EtcdMapping
) -> None:
    """So that `etcdctl` and mappings without it read them."""
    content = {"a": 1, "b-c.d": {"ü e": 2}, "x_y": 3}
    escaping.assign(content)
    assert kit.stored(escaping) == content


def test_escaped_slash_does_not_walk_the_tree(escaping: EtcdMapping) -> None:
    """`m["a/b"]` is another key than `m["a"]["b"]`."""
    escaping["a/b"] = 1
    escaping["a"] = {"b": 2}
    assert escaping == {"a": {"b": 2}, "a/b": 1}
    assert (escaping["a/b"], escaping["a"]["b"]) == (1, 2)


@pytest.mark.filterwarnings("ignore::etcdmap.UnreadableName")
def test_escaped_names_that_others_stored_are_left_out(
    kit: StoreKit, escaping: EtcdMapping
) -> None:
    """A name that no key is spelt as can't be reached, so it is not shown."""
    escaping["a"] = 1
    for name in ("50%", "a%2fb", "%41", "%zz", "_h"):
        kit.write(f"{escaping.prefix}/{name}", "x")
    assert list(escaping) == ["a"]
    assert len(escaping) == 1
    assert escaping.to_dict() == {"a": 1}
    assert escaping.popitem() == ("a", 1)


def test_escaped_order_is_that_of_the_keys(escaping: EtcdMapping) -> None:
    """Not of the names that they are stored under."""
    content = dict.fromkeys(("_", "/", "%", "a", "A", "", "\n", "~", "é"), 1)
    escaping.assign(content)
    assert list(escaping) == sorted(content)
    assert list(escaping.to_dict()) == sorted(content)
    assert list(reversed(escaping)) == sorted(content, reverse=True)
    assert escaping.popitem()[0] == max(content)


@pytest.mark.parametrize("key", ["\ud800", "a\udfffb"])
def test_escaped_lone_surrogate_stays_impossible(
    escaping: EtcdMapping, cost: Cost, key: str
) -> None:
    """UTF-8 can't express it: absent on reads, refused on writes."""

    def attempt() -> None:
        assert key not in escaping
        assert escaping.get(key) is None
        for write in (setitem, lambda m, k, v: m.merge({"x": {k: v}})):
            with pytest.raises(InvalidKey):
                write(escaping, key, 1)

    assert cost(attempt) == []


@pytest.mark.parametrize("key", [5, None, b"a", ("a",)])
def test_escaped_key_that_is_no_str_is_what_it_ever_is(
    escaping: EtcdMapping, key: Any
) -> None:
    """TypeError on a write, absent on a read."""
    with pytest.raises(TypeError):
        escaping[key] = 1
    with pytest.raises(KeyError):
        delitem(escaping, key)
    assert key not in escaping


def test_escaped_append_gives_a_key_that_works(escaping: EtcdMapping) -> None:
    """As without."""
    key = escaping.append("x")
    assert escaping[key] == "x"
    assert list(escaping) == [key]

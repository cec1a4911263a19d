"""What a dict does, done by a dict and by an EtcdMapping of each kind.

One suite over all.  Of order only the sorted one is promised by etcd, so contents
are written down sorted where order shows.  What only etcd has is in
`test_mapping_etcd`.
"""

from __future__ import annotations

import copy
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from types import MappingProxyType
from typing import Any

import pytest

from etcdmap import EtcdMapping

from support.mapping_kit import DictKit, Kit, deep_sorted
from support.values import same_value

NESTED: dict[str, Any] = {"a": 1, "b": {"c": "x", "d": {"e": [1, 2]}}, "f": None}

#: Every scalar that is told apart by its type, and lists.
VALUES = [
    pytest.param("text", id="str"),
    pytest.param("", id="empty-str"),
    pytest.param("8080", id="str-of-digits"),
    pytest.param(8080, id="int"),
    pytest.param(0, id="zero"),
    pytest.param(1, id="one"),
    pytest.param(True, id="true"),
    pytest.param(False, id="false"),
    pytest.param(1.0, id="float"),
    pytest.param(None, id="none"),
    pytest.param([], id="empty-list"),
    pytest.param([1, "1", 1.0, True, None, [2]], id="list"),
]

#: Absent keys, among them some that a dict may hold and etcd can't.
STRANGE_KEYS = [
    pytest.param("absent", id="absent"),
    pytest.param(1, id="int"),
    pytest.param(None, id="none"),
    pytest.param(("a", "b"), id="tuple"),
    pytest.param(b"a", id="bytes"),
    pytest.param("", id="empty"),
    pytest.param("..", id="dots"),
    pytest.param("_a", id="hidden"),
    pytest.param("\ud800", id="surrogate"),
]


class KeysObject:
    """Neither a Mapping nor pairs: what `dict.update` takes for its `keys`."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def keys(self) -> Iterable[str]:
        """Give the keys."""
        return list(self._content)

    def __getitem__(self, key: str) -> Any:
        return self._content[key]


def call_with_keywords(mapping: Any) -> dict[str, Any]:
    """Unpack a mapping into keyword arguments."""

    def taken(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    return taken(**mapping)


class Contract:
    """The suite; a subclass says what it runs over, by its fixture `kit`."""

    # --- assignment

    @pytest.mark.parametrize("value", VALUES)
    def test_setitem_value_reads_back_equal(self, kit: Kit, value: Any) -> None:
        """A value that was assigned reads back with its type."""
        m = kit.make()
        m["k"] = value
        assert same_value(m["k"], value)

    def test_setitem_new_key_keeps_the_others(self, kit: Kit) -> None:
        """Assigning one key leaves the others alone."""
        m = kit.make({"a": 1, "c": 3})
        m["b"] = 2
        assert kit.stored(m) == {"a": 1, "b": 2, "c": 3}

    def test_setitem_present_key_replaces(self, kit: Kit) -> None:
        """Assigning a key again replaces its value."""
        m = kit.make({"a": 1})
        m["a"] = 2
        assert kit.stored(m) == {"a": 2}

    def test_setitem_nested_dict_stores_all_of_it(self, kit: Kit) -> None:
        """A nested dict is stored whole."""
        m = kit.make()
        m["n"] = NESTED
        assert kit.stored(m) == {"n": NESTED}

    def test_setitem_dict_over_dict_replaces_all_of_it(self, kit: Kit) -> None:
        """A dict assigned over another one leaves nothing of that."""
        m = kit.make({"n": {"same": 1, "old": 2, "changed": 3, "deep": {"old": 4}}})
        m["n"] = {"same": 1, "changed": 5, "deep": {"new": 6}}
        assert kit.stored(m) == {"n": {"same": 1, "changed": 5, "deep": {"new": 6}}}

    def test_setitem_value_over_dict_replaces_it(self, kit: Kit) -> None:
        """A value takes the place of a whole dict."""
        m = kit.make({"a": {"b": {"c": 1}}, "z": 1})
        m["a"] = 2
        assert kit.stored(m) == {"a": 2, "z": 1}

    def test_setitem_dict_over_value_replaces_it(self, kit: Kit) -> None:
        """A dict takes the place of a value."""
        m = kit.make({"a": 2, "z": 1})
        m["a"] = {"b": {"c": 1}}
        assert kit.stored(m) == {"a": {"b": {"c": 1}}, "z": 1}

    def test_setitem_dict_inside_swaps_values_and_dicts(self, kit: Kit) -> None:
        """Inside an assigned dict, values and dicts may take each other's place."""
        m = kit.make({"n": {"a": {"b": 1}, "c": 2}})
        m["n"] = {"a": 1, "c": {"d": 2}}
        assert kit.stored(m) == {"n": {"a": 1, "c": {"d": 2}}}

    def test_setitem_in_a_nested_dict_changes_only_that(self, kit: Kit) -> None:
        """Assigning below a key changes nothing else."""
        m = kit.make({"a": {"b": {"c": 1}, "d": 2}})
        m["a"]["b"]["e"] = 3
        assert kit.stored(m) == {"a": {"b": {"c": 1, "e": 3}, "d": 2}}

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param({}, id="over-nothing"),
            pytest.param({"a": 1}, id="over-a-value"),
            pytest.param({"a": {"b": 1}}, id="over-a-dict"),
            pytest.param({"a": {}}, id="over-an-empty-dict"),
        ],
    )
    def test_setitem_empty_dict_is_kept(self, kit: Kit, before: dict[str, Any]) -> None:
        """An empty dict is a key like any other."""
        m = kit.make(before)
        m["a"] = {}
        assert kit.stored(m) == {"a": {}}

    def test_setitem_empty_dict_inside_is_kept(self, kit: Kit) -> None:
        """Empty dicts inside an assigned one are stored as well."""
        m = kit.make()
        m["a"] = {"b": {}, "c": {"d": {}}}
        assert kit.stored(m) == {"a": {"b": {}, "c": {"d": {}}}}

    @pytest.mark.parametrize(
        "wrap",
        [
            pytest.param(OrderedDict, id="OrderedDict"),
            pytest.param(UserDict, id="UserDict"),
            pytest.param(MappingProxyType, id="MappingProxyType"),
            pytest.param(ChainMap, id="ChainMap"),
        ],
    )
    def test_setitem_other_mapping_reads_as_equal(
        self, kit: Kit, wrap: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> None:
        """Any Mapping can be assigned, on every level."""
        m = kit.make()
        m["a"] = wrap({"b": wrap({"c": 1})})
        assert kit.stored(m) == {"a": {"b": {"c": 1}}}

    def test_setitem_value_of_another_key_copies_it(self, kit: Kit) -> None:
        """A dict read from one key can be assigned to another."""
        m = kit.make({"a": NESTED})
        m["b"] = m["a"]
        assert kit.stored(m) == {"a": NESTED, "b": NESTED}

    def test_setitem_own_value_changes_nothing(self, kit: Kit) -> None:
        """Assigning to a key what it holds changes nothing."""
        m = kit.make({"a": NESTED, "b": "8080"})
        m["a"] = m["a"]
        m["b"] = m["b"]
        assert kit.stored(m) == {"a": NESTED, "b": "8080"}

    # --- reading one key

    def test_getitem_nested_reads_through(self, kit: Kit) -> None:
        """Subscripts walk down nested dicts."""
        m = kit.make(NESTED)
        assert m["b"]["d"]["e"] == [1, 2]

    def test_getitem_dict_equals_the_dict(self, kit: Kit) -> None:
        """A nested dict reads as something equal to it, from both sides."""
        m = kit.make(NESTED)
        assert m["b"] == NESTED["b"]
        assert NESTED["b"] == m["b"]

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_getitem_absent_key_raises_with_it(self, kit: Kit, key: Any) -> None:
        """The KeyError of an absent key holds the key that was asked for."""
        m = kit.make({"a": 1})
        with pytest.raises(KeyError) as caught:
            m[key]
        assert caught.value.args == (key,)

    def test_getitem_absent_key_in_nested_dict_raises_with_it(self, kit: Kit) -> None:
        """The KeyError of a nested dict holds the last key only."""
        m = kit.make({"a": {"b": 1}})
        with pytest.raises(KeyError) as caught:
            m["a"]["c"]
        assert caught.value.args == ("c",)

    def test_get_present_key_gives_its_value(self, kit: Kit) -> None:
        """`get` gives what is there, None and empty values too."""
        m = kit.make({"a": 1, "b": None, "c": "", "d": {}})
        assert [m.get(key, "default") for key in "abcd"] == [1, None, "", {}]

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_get_absent_key_gives_the_default(self, kit: Kit, key: Any) -> None:
        """`get` of an absent key gives the default, or None."""
        m = kit.make({"a": 1})
        default = object()
        assert m.get(key) is None
        assert m.get(key, default) is default

    @pytest.mark.parametrize("key", ["a", "b", "f"])
    def test_contains_present_key_is_true(self, kit: Kit, key: str) -> None:
        """`in` finds values, dicts and None."""
        assert key in kit.make(NESTED)

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_contains_absent_key_is_false(self, kit: Kit, key: Any) -> None:
        """`in` never raises for a hashable key."""
        assert key not in kit.make({"a": 1})

    def test_contains_nested_key_is_false(self, kit: Kit) -> None:
        """`in` looks at the mapping's own keys."""
        assert "c" not in kit.make(NESTED)

    # --- deletion

    def test_delitem_value_leaves_the_others(self, kit: Kit) -> None:
        """Deleting a value leaves the other keys alone."""
        m = kit.make({"a": 1, "ab": 2, "b": 3})
        del m["a"]
        assert kit.stored(m) == {"ab": 2, "b": 3}

    def test_delitem_dict_goes_with_all_of_it(self, kit: Kit) -> None:
        """Deleting a dict deletes what is in it."""
        m = kit.make(NESTED)
        del m["b"]
        assert kit.stored(m) == {"a": 1, "f": None}

    def test_delitem_last_key_of_nested_dict_leaves_it_empty(self, kit: Kit) -> None:
        """A nested dict stays when its last key goes."""
        m = kit.make({"a": {"b": 1}})
        del m["a"]["b"]
        assert kit.stored(m) == {"a": {}}

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_delitem_absent_key_raises_with_it(self, kit: Kit, key: Any) -> None:
        """Deleting an absent key is a KeyError that holds it."""
        m = kit.make({"a": 1})
        with pytest.raises(KeyError) as caught:
            del m[key]
        assert caught.value.args == (key,)
        assert kit.stored(m) == {"a": 1}

    # --- pop, popitem, clear

    @pytest.mark.parametrize("value", VALUES)
    def test_pop_value_gives_and_removes_it(self, kit: Kit, value: Any) -> None:
        """`pop` gives the value with its type and removes the key."""
        m = kit.make({"a": 1, "k": value})
        assert same_value(m.pop("k", "default"), value)
        assert kit.stored(m) == {"a": 1}

    def test_pop_dict_gives_a_plain_dict(self, kit: Kit) -> None:
        """A dict pops as a plain dict, on every level."""
        m = kit.make(NESTED)
        assert same_value(m.pop("b"), NESTED["b"])
        assert kit.stored(m) == {"a": 1, "f": None}

    def test_pop_empty_dict_gives_it(self, kit: Kit) -> None:
        """An empty dict pops as one."""
        m = kit.make({"a": {}})
        assert same_value(m.pop("a", "default"), {})
        assert kit.stored(m) == {}

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_pop_absent_key_raises_with_it(self, kit: Kit, key: Any) -> None:
        """Without a default, `pop` of an absent key is a KeyError that holds it."""
        m = kit.make({"a": 1})
        with pytest.raises(KeyError) as caught:
            m.pop(key)
        assert caught.value.args == (key,)

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_pop_absent_key_gives_the_default(self, kit: Kit, key: Any) -> None:
        """`pop` of an absent key gives the default itself, None too."""
        m = kit.make({"a": 1})
        default: dict[str, Any] = {"x": 1}
        assert m.pop(key, default) is default
        assert m.pop(key, None) is None
        assert kit.stored(m) == {"a": 1}

    def test_popitem_gives_the_last_pair(self, kit: Kit) -> None:
        """`popitem` gives the last pair and removes it."""
        m = kit.make({"a": 1, "b": 2, "c": 3})
        assert m.popitem() == ("c", 3)
        assert kit.stored(m) == {"a": 1, "b": 2}

    def test_popitem_dict_gives_a_plain_dict(self, kit: Kit) -> None:
        """`popitem` gives a dict as a plain one."""
        m = kit.make({"n": NESTED})
        key, value = m.popitem()
        assert key == "n"
        assert same_value(value, NESTED)

    def test_popitem_repeated_empties_the_mapping(self, kit: Kit) -> None:
        """Popping while there is something gives every pair once."""
        content = {"a": 1, "b": {}, "c": {"d": 1}, "e": None}
        m = kit.make(content)
        popped = []
        while m:
            popped.append(m.popitem())
        assert popped == list(reversed(content.items()))
        assert kit.stored(m) == {}

    def test_popitem_empty_raises_keyerror(self, kit: Kit) -> None:
        """`popitem` on an empty mapping is a KeyError."""
        m = kit.make({})
        with pytest.raises(KeyError):
            m.popitem()

    def test_clear_removes_everything(self, kit: Kit) -> None:
        """`clear` leaves an empty mapping that can be filled again."""
        m = kit.make(NESTED)
        m.clear()
        assert kit.stored(m) == {}
        m["a"] = 1
        assert kit.stored(m) == {"a": 1}

    def test_clear_empty_does_nothing(self, kit: Kit) -> None:
        """Clearing an empty mapping is fine."""
        m = kit.make()
        m.clear()
        assert kit.stored(m) == {}

    def test_clear_nested_dict_leaves_it_empty(self, kit: Kit) -> None:
        """Clearing a nested dict keeps it, empty."""
        m = kit.make(NESTED)
        m["b"].clear()
        assert kit.stored(m) == {"a": 1, "b": {}, "f": None}

    # --- setdefault

    @pytest.mark.parametrize("value", VALUES)
    def test_setdefault_absent_key_stores_and_gives_it(
        self, kit: Kit, value: Any
    ) -> None:
        """`setdefault` stores the default and gives it."""
        m = kit.make({"a": 1})
        assert same_value(m.setdefault("k", value), value)
        assert kit.stored(m) == {"a": 1, "k": value}

    @pytest.mark.parametrize("value", VALUES)
    def test_setdefault_present_key_gives_what_is_there(
        self, kit: Kit, value: Any
    ) -> None:
        """`setdefault` keeps what is there, None and empty values too."""
        m = kit.make({"k": value})
        assert same_value(m.setdefault("k", "default"), value)
        assert kit.stored(m) == {"k": value}

    def test_setdefault_without_default_stores_none(self, kit: Kit) -> None:
        """The default of `setdefault` is None."""
        m = kit.make()
        assert m.setdefault("k") is None
        assert kit.stored(m) == {"k": None}

    def test_setdefault_dict_gives_it_live(self, kit: Kit) -> None:
        """What `setdefault` gives for a dict writes through."""
        m = kit.make()
        m.setdefault("a", {"b": 1})["c"] = 2
        assert kit.stored(m) == {"a": {"b": 1, "c": 2}}

    def test_setdefault_empty_dict_gives_it_live(self, kit: Kit) -> None:
        """The idiom for grouping works."""
        m = kit.make()
        for key in ("a", "b", "a"):
            group = m.setdefault(key, {})
            group[str(len(group))] = key
        assert kit.stored(m) == {"a": {"0": "a", "1": "a"}, "b": {"0": "b"}}

    def test_setdefault_present_dict_gives_it_live(self, kit: Kit) -> None:
        """A dict that is there is given live, and not filled."""
        m = kit.make({"a": {"b": 1}})
        m.setdefault("a", {"x": 9})["c"] = 2
        assert kit.stored(m) == {"a": {"b": 1, "c": 2}}

    # --- update

    @pytest.mark.parametrize(
        ("args", "kwargs", "expected"),
        [
            pytest.param(({"a": 9, "c": 3},), {}, {"a": 9, "c": 3}, id="mapping"),
            pytest.param(
                (MappingProxyType({"a": 9}),), {}, {"a": 9}, id="other-mapping"
            ),
            pytest.param(([("a", 9), ("c", 3)],), {}, {"a": 9, "c": 3}, id="pairs"),
            pytest.param(([["a", 9]],), {}, {"a": 9}, id="pairs-as-lists"),
            pytest.param((["ax"],), {}, {"a": "x"}, id="pairs-as-texts"),
            pytest.param((KeysObject({"a": 9}),), {}, {"a": 9}, id="keys-object"),
            pytest.param((), {"a": 9, "c": 3}, {"a": 9, "c": 3}, id="keywords"),
            pytest.param(
                ({"a": 8, "c": 3},), {"a": 9}, {"a": 9, "c": 3}, id="keyword-wins"
            ),
            pytest.param(
                ([("a", 7), ("a", 8), ("a", 9)],), {}, {"a": 9}, id="last-pair-wins"
            ),
            pytest.param(
                ([("a", {"b": 1}), ("a", 9)],), {}, {"a": 9}, id="last-pair-wins-dict"
            ),
            pytest.param(
                (),
                dict.fromkeys(
                    ["self", "other", "ttl", "keep_ttl", "key", "value", "args"], 1
                ),
                dict.fromkeys(
                    ["self", "other", "ttl", "keep_ttl", "key", "value", "args"], 1
                ),
                id="keywords-that-look-like-options",
            ),
            pytest.param(({},), {}, {}, id="empty-mapping"),
            pytest.param(([],), {}, {}, id="no-pairs"),
            pytest.param((), {}, {}, id="nothing"),
        ],
    )
    def test_update_stores_what_it_is_given(
        self,
        kit: Kit,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        expected: dict[str, Any],
    ) -> None:
        """Every calling form of `dict.update` works, and other keys stay."""
        m = kit.make({"a": 1, "b": 2})
        m.update(*args, **kwargs)
        assert kit.stored(m) == deep_sorted({"a": 1, "b": 2, **expected})

    def test_update_iterator_of_pairs_is_taken_once(self, kit: Kit) -> None:
        """A generator of pairs is as good as a list of them."""
        m = kit.make()
        m.update((str(n), n) for n in range(3))
        assert kit.stored(m) == {"0": 0, "1": 1, "2": 2}

    def test_update_dict_replaces_the_dict_there(self, kit: Kit) -> None:
        """`update` replaces top-level keys; it does not go deep."""
        m = kit.make({"a": {"b": 1, "c": {"d": 2}}, "z": {"y": 1}})
        m.update({"a": {"b": 9}})
        assert kit.stored(m) == {"a": {"b": 9}, "z": {"y": 1}}

    def test_update_swaps_values_and_dicts(self, kit: Kit) -> None:
        """Values and dicts may take each other's place in one update."""
        m = kit.make({"a": {"b": 1}, "c": 2, "d": {}})
        m.update({"a": 1, "c": {"d": 2}, "d": "x", "e": {}})
        assert kit.stored(m) == {"a": 1, "c": {"d": 2}, "d": "x", "e": {}}

    def test_update_from_the_same_kind_copies_it(self, kit: Kit) -> None:
        """A mapping can be updated from another one of its kind."""
        m, other = kit.make({"a": 1}), kit.make(NESTED)
        m.update(other)
        assert kit.stored(m) == NESTED

    def test_update_from_itself_changes_nothing(self, kit: Kit) -> None:
        """A mapping can be updated from itself."""
        m = kit.make(NESTED)
        m.update(m)
        assert kit.stored(m) == NESTED

    def test_update_leaves_its_argument_alone(self, kit: Kit) -> None:
        """What is updated from stays as it was, keyword arguments or not."""
        given = {"a": {"b": 1}}
        kit.make({"z": 1}).update(given, c=3)
        assert given == {"a": {"b": 1}}

    def test_update_gives_none(self, kit: Kit) -> None:
        """`update` gives nothing back."""
        assert kit.make().update(a=1) is None

    @pytest.mark.parametrize(
        ("args", "error"),
        [
            pytest.param((5,), TypeError, id="int"),
            pytest.param((None,), TypeError, id="none"),
            pytest.param(({}, {}), TypeError, id="two-mappings"),
            pytest.param(([5],), TypeError, id="item-that-is-no-pair"),
            pytest.param(([("a", 1), ("b", 2, 3)],), ValueError, id="triple"),
            pytest.param((["a"],), ValueError, id="text-of-one-character"),
        ],
    )
    def test_update_with_nonsense_raises(
        self, kit: Kit, args: tuple[Any, ...], error: type[Exception]
    ) -> None:
        """What is neither a mapping nor pairs is refused as by a dict."""
        m = kit.make()
        with pytest.raises(error):
            m.update(*args)

    # --- | and |=

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"b": 9, "c": 3}, id="mapping"),
            pytest.param([("b", 9), ("c", 3)], id="pairs"),
            pytest.param(KeysObject({"b": 9, "c": 3}), id="keys-object"),
        ],
    )
    def test_ior_updates_in_place(self, kit: Kit, other: Any) -> None:
        """`|=` updates the mapping itself and leaves the name bound to it."""
        m = same = kit.make({"a": 1, "b": 2})
        m |= other
        assert m is same
        assert kit.stored(m) == {"a": 1, "b": 9, "c": 3}

    @pytest.mark.parametrize("other", [5, None, [5]], ids=["int", "none", "no-pairs"])
    def test_ior_with_nonsense_raises_typeerror(self, kit: Kit, other: Any) -> None:
        """`|=` refuses what `update` refuses."""
        m = kit.make()
        with pytest.raises(TypeError):
            m |= other

    def test_or_gives_a_plain_dict_of_both(self, kit: Kit) -> None:
        """`|` gives a new plain dict, the right side winning; the left one stays."""
        m = kit.make({"a": 1, "b": {"c": 2}})
        merged = m | {"a": 9, "z": {"y": 1}}
        assert same_value(deep_sorted(merged), {"a": 9, "b": {"c": 2}, "z": {"y": 1}})
        assert type(merged["b"]) is dict
        assert kit.stored(m) == {"a": 1, "b": {"c": 2}}

    def test_or_from_the_right_gives_a_plain_dict_of_both(self, kit: Kit) -> None:
        """A dict on the left works as well; the mapping wins."""
        merged = {"a": 9, "z": 0} | kit.make({"a": 1, "b": {"c": 2}})
        assert same_value(deep_sorted(merged), {"a": 1, "b": {"c": 2}, "z": 0})

    def test_or_of_the_same_kind_gives_a_plain_dict(self, kit: Kit) -> None:
        """Two mappings of a kind give a plain dict too."""
        merged = kit.make({"a": 1, "b": {"x": 1}}) | kit.make({"b": {"c": 2}})
        assert same_value(deep_sorted(merged), {"a": 1, "b": {"c": 2}})

    @pytest.mark.parametrize(
        "other", [5, None, [("a", 1)], "ab"], ids=["int", "none", "pairs", "str"]
    )
    def test_or_with_no_mapping_raises_typeerror(self, kit: Kit, other: Any) -> None:
        """`|` takes mappings only, on either side."""
        m = kit.make({"a": 1})
        with pytest.raises(TypeError):
            m | other
        with pytest.raises(TypeError):
            other | m

    # --- comparison

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(NESTED, id="dict"),
            pytest.param(dict(reversed(NESTED.items())), id="other-order"),
            pytest.param(OrderedDict(NESTED), id="OrderedDict"),
            pytest.param(UserDict(NESTED), id="UserDict"),
            pytest.param(MappingProxyType(NESTED), id="MappingProxyType"),
            pytest.param({**NESTED, "a": True}, id="equal-values-of-other-types"),
        ],
    )
    def test_eq_same_content_is_equal(self, kit: Kit, other: Mapping[str, Any]) -> None:
        """`==` compares content, from both sides, and `!=` is its opposite."""
        m = kit.make(NESTED)
        assert m == other
        assert other == m
        assert (m != other) is False
        assert (other != m) is False

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({}, id="empty"),
            pytest.param({"a": 1, "b": {}}, id="empty-inside"),
            pytest.param({"a": 1, "b": {"c": 2}, "d": 1}, id="key-more"),
            pytest.param({"a": 1, "b": {"c": 2, "d": 1}}, id="key-more-inside"),
            pytest.param({"a": 1}, id="key-less"),
            pytest.param({"a": "1", "b": {"c": 2}}, id="str-for-int"),
            pytest.param({"a": 1, "b": 2}, id="value-for-dict"),
            pytest.param([("a", 1), ("b", {"c": 2})], id="pairs"),
            pytest.param(["a", "b"], id="keys"),
            pytest.param(None, id="none"),
            pytest.param("ab", id="str"),
        ],
    )
    def test_eq_other_content_is_unequal(self, kit: Kit, other: Any) -> None:
        """What differs anywhere, or is no mapping, is unequal, from both sides."""
        m = kit.make({"a": 1, "b": {"c": 2}})
        assert m != other
        assert other != m
        assert (m == other) is False
        assert (other == m) is False

    def test_eq_same_kind_compares_content(self, kit: Kit) -> None:
        """Two mappings of a kind are equal if their contents are."""
        assert kit.make(NESTED) == kit.make(NESTED)
        assert kit.make(NESTED) != kit.make({**NESTED, "a": 2})

    def test_eq_empty_mappings_are_equal(self, kit: Kit) -> None:
        """An empty mapping equals an empty dict."""
        assert kit.make() == {}

    def test_hash_raises_typeerror(self, kit: Kit) -> None:
        """A mapping that can change has no hash."""
        with pytest.raises(TypeError):
            hash(kit.make())

    # --- size and order

    @pytest.mark.parametrize(
        ("content", "size"),
        [
            pytest.param({}, 0, id="empty"),
            pytest.param({"a": 1}, 1, id="one"),
            pytest.param({"a": {}}, 1, id="empty-dict"),
            pytest.param(NESTED, 3, id="nested"),
        ],
    )
    def test_len_and_bool_count_own_keys(
        self, kit: Kit, content: dict[str, Any], size: int
    ) -> None:
        """Only the mapping's own keys count, empty dicts among them."""
        m = kit.make(content)
        assert len(m) == size
        assert bool(m) is (size > 0)

    def test_iter_gives_the_keys_in_order(self, kit: Kit) -> None:
        """Iteration gives each key once, in order."""
        m = kit.make({"B": 1, "a": {"x": 1}, "a.b": 3, "é": 4})
        assert list(m) == ["B", "a", "a.b", "é"]

    def test_reversed_gives_the_keys_backwards(self, kit: Kit) -> None:
        """`reversed` gives the keys the other way round."""
        m = kit.make({"B": 1, "a": {"x": 1}, "a.b": 3, "é": 4})
        assert list(reversed(m)) == ["é", "a.b", "a", "B"]

    def test_iter_over_a_list_of_keys_allows_deletion(self, kit: Kit) -> None:
        """The idiom for deleting while looping works."""
        m = kit.make({"a": 1, "b": 2, "c": 3})
        for key in list(m):
            if m[key] != 2:
                del m[key]
        assert kit.stored(m) == {"b": 2}

    # --- views

    def test_views_give_keys_values_and_pairs_in_order(self, kit: Kit) -> None:
        """The three views list the same order."""
        m = kit.make({"a": 1, "b": {"c": 2}, "d": [3]})
        assert list(m.keys()) == ["a", "b", "d"]
        assert list(m.values()) == [1, {"c": 2}, [3]]
        assert list(m.items()) == [("a", 1), ("b", {"c": 2}), ("d", [3])]

    def test_views_reversed_run_backwards(self, kit: Kit) -> None:
        """The three views can be reversed."""
        m = kit.make({"a": 1, "b": {"c": 2}, "d": [3]})
        assert list(reversed(m.keys())) == ["d", "b", "a"]
        assert list(reversed(m.values())) == [[3], {"c": 2}, 1]
        assert list(reversed(m.items())) == [("d", [3]), ("b", {"c": 2}), ("a", 1)]

    def test_views_have_the_length_of_the_mapping(self, kit: Kit) -> None:
        """`len` of a view counts the keys."""
        m = kit.make(NESTED)
        assert [len(m.keys()), len(m.values()), len(m.items())] == [3, 3, 3]

    def test_views_show_later_changes(self, kit: Kit) -> None:
        """Views are live."""
        m = kit.make({"a": 1})
        keys, values, items = m.keys(), m.values(), m.items()
        m["b"] = 2
        del m["a"]
        assert [list(keys), list(values), list(items)] == [["b"], [2], [("b", 2)]]

    def test_views_can_be_looped_over_twice(self, kit: Kit) -> None:
        """A view is no iterator."""
        items = kit.make({"a": 1}).items()
        assert list(items) == list(items) == [("a", 1)]

    def test_views_are_of_the_abstract_types(self, kit: Kit) -> None:
        """The views are what `collections.abc` calls them."""
        m = kit.make()
        assert isinstance(m.keys(), KeysView)
        assert isinstance(m.values(), ValuesView)
        assert isinstance(m.items(), ItemsView)

    def test_views_items_give_live_dicts(self, kit: Kit) -> None:
        """A dict met in a loop writes through."""
        m = kit.make({"a": {}, "b": {"c": 1}})
        for key, value in m.items():
            value["name"] = key
        for value in m.values():
            value["seen"] = True
        assert kit.stored(m) == {
            "a": {"name": "a", "seen": True},
            "b": {"c": 1, "name": "b", "seen": True},
        }

    @pytest.mark.parametrize("key", STRANGE_KEYS)
    def test_keys_contains_absent_key_is_false(self, kit: Kit, key: Any) -> None:
        """`in` on the keys answers as on the mapping."""
        assert key not in kit.make({"a": 1}).keys()  # noqa: SIM118

    def test_keys_contains_present_key_is_true(self, kit: Kit) -> None:
        """`in` on the keys finds values and dicts."""
        keys = kit.make(NESTED).keys()
        assert "a" in keys
        assert "b" in keys

    def test_keys_set_operations_give_sets(self, kit: Kit) -> None:
        """Keys combine with sets and iterables, giving sets."""
        keys = kit.make({"a": 1, "b": {"x": 1}}).keys()
        assert keys & {"b", "c"} == {"b"}
        assert keys | {"c"} == {"a", "b", "c"}
        assert keys - ["a"] == {"b"}
        assert keys ^ {"a", "c"} == {"b", "c"}
        assert {"b", "c"} & keys == {"b"}
        assert {"c"} | keys == {"a", "b", "c"}
        assert {"a", "c"} - keys == {"c"}
        assert {"a", "c"} ^ keys == {"b", "c"}
        assert isinstance(keys & {"b"}, set)

    def test_keys_compare_as_sets(self, kit: Kit) -> None:
        """Keys compare with sets and with the keys of a dict."""
        keys = kit.make({"a": 1, "b": {"x": 1}}).keys()
        assert keys == {"a", "b"}
        assert keys == {"b": 1, "a": 1}.keys()
        assert keys != {"a"}
        assert keys > {"a"}
        assert keys <= {"a", "b", "c"}
        assert {"a"} < keys
        assert keys.isdisjoint({"x", "c"})
        assert not keys.isdisjoint({"b"})

    def test_values_contains_finds_values_and_dicts(self, kit: Kit) -> None:
        """`in` on the values compares by `==`."""
        values = kit.make(NESTED).values()
        assert 1 in values
        assert None in values
        assert {"c": "x", "d": {"e": [1, 2]}} in values
        assert 2 not in values
        assert "a" not in values

    @pytest.mark.parametrize(
        "item",
        [
            pytest.param(("a", 1), id="value"),
            pytest.param(("b", NESTED["b"]), id="dict"),
            pytest.param(("f", None), id="none"),
        ],
    )
    def test_items_contains_present_pair_is_true(
        self, kit: Kit, item: tuple[str, Any]
    ) -> None:
        """`in` on the items finds pairs by `==`."""
        assert item in kit.make(NESTED).items()

    @pytest.mark.parametrize(
        "item",
        [
            pytest.param(("a", 2), id="other-value"),
            pytest.param(("z", 1), id="other-key"),
            pytest.param(("z", None), id="none-is-not-absent"),
            pytest.param((1, 1), id="strange-key"),
            pytest.param(("a",), id="one-tuple"),
            pytest.param(("a", 1, 1), id="triple"),
            pytest.param("a", id="key"),
            pytest.param("kv", id="text-that-unpacks-as-a-pair"),
            pytest.param(["a", 1], id="list"),
            pytest.param(None, id="none"),
            pytest.param(5, id="int"),
        ],
    )
    def test_items_contains_anything_else_is_false(self, kit: Kit, item: Any) -> None:
        """`in` on the items never raises."""
        assert item not in kit.make({"a": 1, "k": "v"}).items()

    def test_items_set_operations_give_sets(self, kit: Kit) -> None:
        """Items whose values are hashable combine with sets."""
        items = kit.make({"a": 1, "b": "x"}).items()
        assert items & {("a", 1), ("b", "y")} == {("a", 1)}
        assert items | {("c", 3)} == {("a", 1), ("b", "x"), ("c", 3)}
        assert items - {("a", 1)} == {("b", "x")}
        assert items ^ {("a", 1)} == {("b", "x")}
        assert {("a", 1), ("z", 1)} & items == {("a", 1)}
        assert items.isdisjoint({("a", 2)})
        assert isinstance(items & {("a", 1)}, set)

    def test_items_compare_as_sets(self, kit: Kit) -> None:
        """Items compare with the items of a dict, nested ones too."""
        items = kit.make(NESTED).items()
        assert items == NESTED.items()
        assert NESTED.items() == items
        assert items <= {**NESTED, "z": 1}.items()
        assert items != {**NESTED, "a": 2}.items()

    # --- copies

    @pytest.mark.parametrize(
        "make_copy",
        [
            pytest.param(lambda m: m.copy(), id="method"),
            pytest.param(copy.copy, id="copy.copy"),
            pytest.param(copy.deepcopy, id="copy.deepcopy"),
        ],
    )
    def test_copy_gives_a_plain_dict(
        self, kit: Kit, make_copy: Callable[[Any], Any]
    ) -> None:
        """A copy is a plain nested dict, and changing it changes nothing else."""
        m = kit.make(NESTED)
        copied = make_copy(m)
        assert same_value(copied, NESTED)
        copied["a"] = copied["new"] = 9
        del copied["b"]
        assert kit.stored(m) == NESTED

    def test_copy_empty_gives_an_empty_dict(self, kit: Kit) -> None:
        """A copy of an empty mapping is an empty dict."""
        assert same_value(kit.make().copy(), {})

    def test_copy_does_not_follow_later_changes(self, kit: Kit) -> None:
        """A copy is of one moment."""
        m = kit.make({"a": 1})
        copied = m.copy()
        m["a"] = 2
        assert copied == {"a": 1}

    # --- where Python wants a mapping

    @pytest.mark.parametrize(
        "convert",
        [
            pytest.param(dict, id="dict(m)"),
            pytest.param(lambda m: {**m}, id="{**m}"),
            pytest.param(call_with_keywords, id="f(**m)"),
            pytest.param(lambda m: dict(m.items()), id="dict(m.items())"),
            pytest.param(lambda m: {k: m[k] for k in m}, id="comprehension"),
            pytest.param(lambda m: dict(ChainMap(m)), id="ChainMap"),
            pytest.param(lambda m: UserDict(m).data, id="UserDict"),
        ],
    )
    def test_conversion_to_a_dict_gives_an_equal_one(
        self, kit: Kit, convert: Callable[[Any], dict[str, Any]]
    ) -> None:
        """Whatever makes a dict of a mapping makes an equal one."""
        converted = convert(kit.make(NESTED))
        assert type(converted) is dict
        assert converted == NESTED

    def test_unpacking_gives_the_keys(self, kit: Kit) -> None:
        """A mapping unpacks into its keys."""
        first, *rest = kit.make(NESTED)
        assert (first, rest) == ("a", ["b", "f"])

    def test_match_mapping_pattern_binds_values(self, kit: Kit) -> None:
        """A mapping pattern matches nested mappings and binds what they hold."""
        made: Any = kit.make(NESTED)
        match made:
            case {"a": str()} | {"z": _}:
                found: Any = "the wrong case"
            case {"a": int(a), "b": {"d": {"e": [first, *_]}}, **rest}:
                found = (a, first, list(rest))
            case _:
                found = None
        assert found == (1, 1, ["f"])

    def test_match_mapping_pattern_needs_every_key(self, kit: Kit) -> None:
        """A mapping pattern does not match where a key is absent."""
        match kit.make({"a": None}):
            case {"a": None, "b": _}:
                found = "both"
            case {"a": None}:
                found = "a"
            case _:
                found = "nothing"
        assert found == "a"

    def test_chainmap_falls_back_and_writes_to_it(self, kit: Kit) -> None:
        """A ChainMap reads through a mapping to the defaults, and writes to it."""
        m = kit.make({"a": 1})
        chain = ChainMap(m, {"a": 0, "b": 2})
        assert (chain["a"], chain["b"], sorted(chain)) == (1, 2, ["a", "b"])
        chain["c"] = 3
        chain.pop("a")
        assert kit.stored(m) == {"c": 3}

    def test_isinstance_of_the_abstract_mappings(self, kit: Kit) -> None:
        """A mapping is one for `collections.abc`, and so are nested ones."""
        m = kit.make({"a": {}})
        assert isinstance(m, Mapping)
        assert isinstance(m, MutableMapping)
        assert isinstance(m["a"], MutableMapping)


class TestDict(Contract):
    """The model keeps the contract, so the contract is a dict's."""

    @pytest.fixture
    def kit(self) -> Kit:
        """Give the maker of dicts."""
        return DictKit()


class TestEtcdMapping(Contract):
    """A mapping keeps it as well, of each kind."""

    def test_kit_makes_what_is_tested(self, kit: Kit) -> None:
        """The suite above ran over what it should."""
        assert type(kit.make()) is EtcdMapping

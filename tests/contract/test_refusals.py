"""What can't be stored is told with its path, and a document's all at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from operator import setitem
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    EtcdMapping,
    FlatView,
    InvalidKey,
    KeyNotFound,
    LimitExceeded,
    Refusal,
)

from support.mapping_kit import StoreKit

Call: TypeAlias = "Callable[[Any, Any], object]"

BEFORE: dict[str, Any] = {"k": 1, "d": {"x": 1}}
NAN = float("nan")
DAY = date(2024, 1, 1)
NO_DATE = "datetime.date can't be stored; use value.isoformat()"
NO_NAN = "NaN and infinities can't be stored; use None or a str"
NO_TUPLE = "tuple can't be stored; use list(value)"


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give a mapping with content."""
    return kit.make(BEFORE)


# --- each call names the path


#: Calls that store a value, and the key at which they would.
STORE_A_VALUE: dict[str, tuple[Call, str]] = {
    "setitem": (lambda m, v: setitem(m, "k", v), "/k"),
    "set": (lambda m, v: m.set("k", v, ttl=60), "/k"),
    "update": (lambda m, v: m.update({"a": 1, "k": v}), "/k"),
    "update-kwargs": (lambda m, v: m.update(k=v), "/k"),
    "update-path": (lambda m, v: m.update({"d/y": v}), "/d/y"),
    "ior": (lambda m, v: m.__ior__({"k": v}), "/k"),
    "create": (lambda m, v: m.create("new", v), "/new"),
    "replace": (lambda m, v: m.replace("k", v), "/k"),
    "setdefault": (lambda m, v: m.setdefault("new", v), "/new"),
    "merge": (lambda m, v: m.merge({"k": v}), "/k"),
    "assign": (lambda m, v: m.assign({"k": v}), "/k"),
    "of-a-sub-mapping": (lambda m, v: setitem(m["d"], "x", v), "/d/x"),
}
#: And those that take no mapping for it.
STORE_A_LEAF: dict[str, tuple[Call, str]] = {
    **STORE_A_VALUE,
    "transform": (lambda m, v: m.transform("k", lambda _: v), "/k"),
    "append": (lambda m, v: m.append(v), ""),
    "swap-expected": (lambda m, v: m.compare_and_swap("k", v, 1), "/k"),
    "swap-new": (lambda m, v: m.compare_and_swap("k", 1, v), "/k"),
    "compare-and-delete": (lambda m, v: m.compare_and_delete("k", v), "/k"),
    "flat-setitem": (lambda m, v: setitem(m.flat, "k", v), "/k"),
    "flat-update": (lambda m, v: m.flat.update({"d/y": v}), "/d/y"),
    "flat-setdefault": (lambda m, v: m.flat.setdefault("new", v), "/new"),
}


@pytest.mark.parametrize("call", STORE_A_LEAF)
@pytest.mark.parametrize(
    ("value", "error", "found"),
    [
        pytest.param(DAY, TypeError, [("", NO_DATE)], id="date"),
        pytest.param(NAN, ValueError, [("", NO_NAN)], id="nan"),
        pytest.param(
            [0, {"hosts": [1, {"until": DAY}]}],
            TypeError,
            [("[1]/hosts[1]/until", NO_DATE)],
            id="in-a-list",
        ),
        pytest.param(
            [NAN, [()], {7: DAY}],
            ValueError,
            [
                ("[0]", NO_NAN),
                ("[1][0]", NO_TUPLE),
                ("[2]/7", "keys are str, not int; use str(key)"),
                ("[2]/7", NO_DATE),
            ],
            id="several",
        ),
    ],
)
def test_refused_leaf_is_named_with_its_path(
    kit: StoreKit,
    mapping: EtcdMapping,
    call: str,
    value: Any,
    error: type[Exception],
    found: list[tuple[str, str]],
) -> None:
    """Whatever call would have stored it, of whatever class the error is."""
    store, below = STORE_A_LEAF[call]
    path = mapping.prefix + below
    with pytest.raises(error) as caught:
        store(mapping, value)
    assert type(caught.value) is error
    expected = [Refusal(path + place, reason) for place, reason in found]
    assert refusals_of(caught.value) == expected
    for refusal in expected:
        assert f"{refusal.path}: {refusal.reason}" in str(caught.value)
    assert kit.stored(mapping) == BEFORE


#: Five levels deep, with faults of each kind; and what each is told to be.
DOCUMENT: dict[Any, Any] = {
    "a": {"b": {"c": {"d": {"until": DAY, "fine": 1}}}},
    "b": {"_hidden": {"x": NAN}, "x/y": 1},
    "c": [[NAN]],
    8080: "x",
    "d": {True: {None: 1}, "z\ud800": 1},
    "e": "\udfff",
}
FAULTS = [
    ("/a/b/c/d/until", NO_DATE),
    ("/b/_hidden", "can't be a key: a name that starts with '_' is hidden"),
    ("/b/_hidden/x", NO_NAN),
    ("/b/x/y", "can't be a key: inside a mapping value every key is one segment"),
    ("/c[0][0]", NO_NAN),
    ("/8080", "keys are str, not int; use str(key)"),
    ("/d/True", "keys are str, not bool; use str(key)"),
    ("/d/True/None", "keys are str, not NoneType; use str(key)"),
    ("/d/z\ud800", "can't be a key: it holds a lone surrogate"),
    ("/e", "a str with a lone surrogate has no UTF-8 form; replace it"),
]


@pytest.mark.parametrize("call", STORE_A_VALUE)
def test_document_is_refused_with_all_its_faults(
    kit: StoreKit, mapping: EtcdMapping, call: str
) -> None:
    """In the order of the document, what lies below a fault as well."""
    store, below = STORE_A_VALUE[call]
    with pytest.raises(TypeError) as caught:
        store(mapping, DOCUMENT)
    assert_faults(caught.value, mapping.prefix + below)
    assert kit.stored(mapping) == BEFORE


@pytest.mark.parametrize("call", ["assign", "merge", "update"])
def test_whole_mapping_is_refused_with_all_its_faults(
    kit: StoreKit, mapping: EtcdMapping, call: str
) -> None:
    """Its own keys count like those below."""
    document = {"new": DOCUMENT, **DOCUMENT}
    with pytest.raises(TypeError) as caught:
        getattr(mapping, call)(document)
    found = refusals_of(caught.value)
    assert_faults_are(found[: len(FAULTS)], mapping.prefix + "/new")
    assert_faults_are(found[len(FAULTS) :], mapping.prefix)
    assert kit.stored(mapping) == BEFORE


def refusals_of(error: Exception) -> list[Refusal]:
    """Give what an error refuses."""
    found: tuple[Refusal, ...] = vars(error)["refusals"]
    return list(found)


def assert_faults(error: Exception, path: str) -> None:
    """Assert that an error tells of all of `FAULTS` below a path, each on a line."""
    assert_faults_are(refusals_of(error), path)
    lines = str(error).splitlines()
    assert lines[0] == "10 keys or values can't be stored; nothing was written"
    assert lines[1:] == [f"  {refusal}" for refusal in refusals_of(error)]


def assert_faults_are(found: list[Refusal], path: str) -> None:
    """Assert that refusals are `FAULTS` below a path, in their order."""
    assert [refusal.path for refusal in found] == [path + below for below, _ in FAULTS]
    for refusal, (_, why) in zip(found, FAULTS, strict=True):
        assert refusal.reason.startswith(why)


# --- which error, and how it reads


@pytest.mark.parametrize(
    ("document", "error"),
    [
        pytest.param({"a": DAY, "b": NAN, "_c": 1}, TypeError, id="type"),
        pytest.param({"b": NAN, "a": DAY, "_c": 1}, ValueError, id="value"),
        pytest.param({"_c": 1, "b": NAN, "a": DAY}, InvalidKey, id="key"),
        pytest.param({"a": {"b" * 1_000_000: 1}, "c": DAY}, LimitExceeded, id="limit"),
    ],
)
def test_refused_document_has_the_class_of_its_first_fault(
    mapping: EtcdMapping, document: dict[str, Any], error: type[Exception]
) -> None:
    """First in the order of the document, whatever comes after it."""
    with pytest.raises(error) as caught:
        mapping.update(document)
    assert type(caught.value) is error
    assert len(refusals_of(caught.value)) == len(document)


def test_refused_document_shows_twenty_faults_and_counts_the_others(
    mapping: EtcdMapping,
) -> None:
    """A log is not filled; `.refusals` has all."""
    with pytest.raises(TypeError) as caught:
        mapping.assign({f"k{n:03}": {n} for n in range(1000)})
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("1000 keys or values can't be stored")
    assert (
        lines[20] == f"  {mapping.prefix}/k019: set can't be stored; use sorted(value)"
    )
    assert lines[21:] == ["  ... and 980 more in .refusals"]
    assert len(refusals_of(caught.value)) == 1000


def test_refused_paths_are_those_of_the_store_with_escape_keys(kit: StoreKit) -> None:
    """Absolute paths are; keys in a list are no part of one."""
    mapping = kit.make(escape_keys=True)
    with pytest.raises(TypeError) as caught:
        mapping["a/b"] = {"_c": [{"/d": DAY}]}
    path = f"{mapping.prefix}/a%2Fb/%5Fc[0]//d"
    assert refusals_of(caught.value) == [Refusal(path, NO_DATE)]


def test_refused_keys_below_others_are_told_with_the_rest(mapping: EtcdMapping) -> None:
    """They come last, as both keys must be known."""
    with pytest.raises(TypeError) as caught:
        mapping.update({"a/b": 1, "a": DAY})
    p = mapping.prefix
    assert refusals_of(caught.value) == [
        Refusal(f"{p}/a", NO_DATE),
        Refusal(f"{p}/a/b", f"it lies below '{p}/a': nest them instead"),
    ]


def test_refused_mapping_without_a_directory_is_named(mapping: EtcdMapping) -> None:
    """One fault among others."""
    with pytest.raises(TypeError) as caught:
        mapping["k"] = {"a": DAY, "b": {"c": mapping.sub("gone")}}
    path, reason = refusals_of(caught.value)[1]
    assert path == f"{mapping.prefix}/k/b/c"
    assert "does not exist" in reason


@pytest.mark.parametrize("key", ["again", 1, "_x", "a/b"])
def test_document_that_holds_itself_twice_is_refused_at_once(
    mapping: EtcdMapping, key: Any
) -> None:
    """Its paths are endless, and twice as many on each level: the first one ends it."""
    endless: dict[Any, Any] = {}
    endless[key] = endless["more"] = endless
    with pytest.raises((TypeError, ValueError)) as caught:
        mapping["k"] = endless
    assert len(refusals_of(caught.value)) <= 200


def test_list_that_holds_itself_twice_is_refused_at_once(mapping: EtcdMapping) -> None:
    """The same of a list."""
    endless: list[Any] = [1, NAN]
    endless += [endless, endless]
    with pytest.raises(ValueError, match="keys or values") as caught:
        mapping["k"] = {"l": endless}
    found = refusals_of(caught.value)
    assert "contain themselves" in found[-1].reason
    assert len(found) == 101


class OwnError(ValueError):
    """What a codec of the user raises."""


class Picky:
    """A codec that takes no numbers, and fails at the rest of what is no text."""

    def encode(self, value: Any, /) -> str:
        """Refuse all but text."""
        if isinstance(value, int):
            raise OwnError("no numbers")
        if not isinstance(value, str):
            raise LookupError("a defect")
        return value

    def decode(self, text: str, /) -> Any:
        """Give the text."""
        return text


def test_refusal_of_a_users_codec_keeps_its_class_and_gets_the_path(
    kit: StoreKit,
) -> None:
    """It is told with the others."""
    mapping = kit.make(codec=Picky())
    with pytest.raises(OwnError) as caught:
        mapping.assign({"d": {"a": 1, "b": 2}})
    assert str(caught.value).splitlines()[1:] == [
        f"  {mapping.prefix}/d/a: no numbers",
        f"  {mapping.prefix}/d/b: no numbers",
    ]


def test_refusal_with_a_text_of_its_own_has_the_path_in_refusals(
    kit: StoreKit,
) -> None:
    """Python writes the text of this class anew each time."""

    class Ascii(Picky):
        def encode(self, value: Any, /) -> str:
            return str(value).encode("ascii").decode()

    mapping = kit.make(codec=Ascii())
    with pytest.raises(UnicodeEncodeError) as caught:
        mapping["d"] = {"a": "ü"}
    (refusal,) = refusals_of(caught.value)
    assert refusal == Refusal(f"{mapping.prefix}/d/a", str(caught.value))


def test_other_error_of_a_users_codec_leaves_as_it_is(kit: StoreKit) -> None:
    """It is no refusal."""
    mapping = kit.make(codec=Picky())
    with pytest.raises(LookupError, match=r"^'?a defect'?$"):
        mapping.assign({"a": 1, "b": None})


# --- what is absent


ASK: dict[str, Callable[[Any, Any], object]] = {
    "getitem": lambda m, key: m[key],
    "del": lambda m, key: m.__delitem__(key),
    "pop": lambda m, key: m.pop(key),
}
ASK_OF_EACH: dict[str, Callable[[Any, Any], object]] = {
    **ASK,
    "ttl": lambda m, key: m.ttl(key),
    "transform": lambda m, key: m.transform(key, str),
    "compare_and_swap": lambda m, key: m.compare_and_swap(key, 1, 2),
    "compare_and_delete": lambda m, key: m.compare_and_delete(key, 1),
    "replace": lambda m, key: m.replace(key, 1),
    "replace-mapping": lambda m, key: m.replace(key, {"x": 1}),
    "refresh": lambda m, key: m.refresh(key, 60),
    "flat-getitem": lambda m, key: m.flat[key],
    "flat-del": lambda m, key: m.flat.__delitem__(key),
    "flat-pop": lambda m, key: m.flat.pop(key),
}


@pytest.mark.parametrize("call", ASK_OF_EACH)
@pytest.mark.parametrize("key", ["nope", "no/such/key"])
def test_absent_key_is_shown(mapping: EtcdMapping, call: str, key: str) -> None:
    """By its path in the text, and by itself as a dict's KeyError has it."""
    with pytest.raises(KeyNotFound) as caught:
        ASK_OF_EACH[call](mapping, key)
    assert_absent(caught.value, mapping, key, key)


@pytest.mark.parametrize("call", ASK)
@pytest.mark.parametrize("view", ["nested", "flat"])
@pytest.mark.parametrize(
    ("key", "shown", "why"),
    [
        pytest.param(1, "1", "keys are str, not int; use str(key)", id="int"),
        pytest.param(None, "None", "keys are str, not NoneType", id="none"),
        pytest.param(b"k", "b'k'", "not bytes; use key.decode()", id="bytes"),
        pytest.param(("k",), "(tuple)", "keys are str, not tuple", id="tuple"),
        pytest.param(10**9999, "(int)", "keys are str, not int", id="huge-int"),
        pytest.param("k/", "k/", "has an empty segment", id="slash"),
        pytest.param("", "", "because it is empty", id="empty"),
        pytest.param("..", "..", "'.' and '..' are not names", id="dots"),
        pytest.param("_x", "_x", "keys_api reaches it", id="hidden"),
        pytest.param("k/x", "k/x", "a file stands on the way", id="below-a-file"),
    ],
)
def test_key_that_no_node_has_is_shown_with_the_reason(
    mapping: EtcdMapping, call: str, view: str, key: object, shown: str, why: str
) -> None:
    """Of the wrong type or shape it is absent, and can't be anything else."""
    asked = mapping if view == "nested" else mapping.flat
    with pytest.raises(KeyNotFound) as caught:
        ASK[call](asked, key)
    assert why in str(caught.value)
    assert_absent(caught.value, asked, key, shown)


def test_directory_in_a_flat_view_is_absent_and_shown(mapping: EtcdMapping) -> None:
    """It is no value there."""
    for call in ASK.values():
        with pytest.raises(KeyNotFound, match="a directory is there") as caught:
            call(mapping.flat, "d")
        assert_absent(caught.value, mapping, "d", "d")


def assert_absent(
    error: KeyNotFound, mapping: EtcdMapping | FlatView, key: object, shown: str
) -> None:
    """Assert what every KeyNotFound of a key has."""
    path = f"{mapping.prefix}/{shown}"
    assert error.args == (key,)
    assert error.key == path
    assert path in str(error)


def test_transform_of_an_absent_key_names_default(mapping: EtcdMapping) -> None:
    """It is what the caller forgot."""
    with pytest.raises(KeyNotFound, match=r"no default= was given"):
        mapping.transform("nope", str)


# --- escape_keys is named where it helps

#: Keys that a mapping with `escape_keys` takes, and no other.
TAKEN = ["_x", "", "/x", ".", "..", "./x", "a//b", "a/", "a\tb", "a\x85", "a\ufffdb"]


@pytest.mark.parametrize("key", TAKEN, ids=ascii)
@pytest.mark.parametrize("deep", [False, True], ids=["key", "in-a-document"])
def test_invalid_key_names_escape_keys_if_that_takes_it(
    kit: StoreKit, mapping: EtcdMapping, key: str, deep: bool
) -> None:
    """And it does."""
    document = {"a": {key: 1}} if deep else {key: 1}
    with pytest.raises(InvalidKey, match="with escape_keys=True takes it"):
        mapping.update(document)
    escaping = kit.make(escape_keys=True)
    escaping.update(document)
    assert escaping == document


def test_invalid_path_in_a_document_names_escape_keys(mapping: EtcdMapping) -> None:
    """As a key of the mapping it walks; in a document it can't."""
    with pytest.raises(InvalidKey, match=r"nest a mapping.*escape_keys=True takes it"):
        mapping["doc"] = {"a/b": 1}


@pytest.mark.parametrize("key", ["a\ud800", "_\udfff"], ids=ascii)
def test_invalid_key_that_escape_keys_cant_take_does_not_name_it(
    kit: StoreKit, mapping: EtcdMapping, key: str
) -> None:
    """There as here, it is refused."""
    for made in (mapping, kit.make(escape_keys=True)):
        with pytest.raises(InvalidKey) as caught:
            made[key] = 1
        assert "escape_keys" not in str(caught.value)


@pytest.mark.parametrize("key", TAKEN, ids=ascii)
def test_invalid_key_of_a_flat_view_does_not_name_escape_keys(
    kit: StoreKit, key: str
) -> None:
    """The flat view of a mapping that has it takes paths all the same."""
    for mapping in (kit.make(), kit.make(escape_keys=True)):
        with pytest.raises(InvalidKey) as caught:
            mapping.flat[key] = 1
        assert "escape_keys" not in str(caught.value)

"""Odd keys and odd values: read back as written, or refused at once."""

from __future__ import annotations

from collections.abc import Callable
from operator import setitem
from typing import Any

import pytest

from etcdmap import EtcdMapping, InvalidKey, LimitExceeded
from etcdmap.local import LocalCluster

from support.mapping_kit import StoreKit
from support.values import same_value

Cost = Callable[[Callable[[], object]], list[str]]

#: Levels of a path, bytes of a path in a URL, bytes of a form: what etcd takes.
MAX_DEPTH, MAX_URL, MAX_FORM = 200, 1_000_000, 10 * 1024 * 1024

# --- keys -----------------------------------------------------------------------

ODD_KEYS = {
    "space": " ",
    "spaces": " a b ",
    "nfc": "\u00e9",
    "nfd": "e\u0301",
    "umlauts": "größe",
    "cyrillic": "ключ",
    "cjk": "鍵",
    "emoji": "\U0001f511",
    "emoji-joined": "\U0001f469\u200d\U0001f4bb",
    "right-to-left": "\u202eabc",
    "no-break-space": "\u00a0",
    "zero-width": "a\u200bb",
    "line-separator": "a\u2028b",
    "byte-order-mark": "\ufeff",
    "noncharacter": "\uffff",
    "last-code-point": "\U0010ffff",
    "wide-dots": "\uff0e\uff0e",
    "wide-slash": "a\uff0fb",
    "percent": "100%",
    "percent-2F": "a%2Fb",
    "percent-2f": "a%2fb",
    "percent-dots": "%2e%2e",
    "percent-00": "%00",
    "percent-ff": "%ff",
    "percent-25": "%25",
    "percent-nonsense": "%zz",
    "hash": "a#b",
    "hash-alone": "#",
    "question-mark": "a?b",
    "question-mark-alone": "?",
    "like-a-query": "k?recursive=true&dir=true",
    "plus": "a+b",
    "semicolon": "a;b",
    "ampersand": "a&b",
    "equals": "a=b",
    "three-dots": "...",
    "dot-first": ".hid",
    "dot-last": "a.",
    "dots-first": "..a",
    "underscore-last": "a_",
    "star": "*",
    "double-quote": '"',
    "single-quote": "'",
    "backslash": "a\\b",
    "backslash-dots": "..\\..",
    "angles": "<a>&amp;",
    "brackets": "[a]",
    "braces": "{a}",
    "bar-caret-backtick": "|^`",
    "unreserved": "-.~",
    "sub-delims": "!$'(),",
    "colon-at": "a:b@c",
    "like-a-port": "127.0.0.1:2379",
    "upper": "KEY",
    "lower": "key",
    "digits": "10",
    "null": "null",
    "like-an-index": "00000000000000000042",
    "long": "k" * 1_000,
    "long-unicode": "é" * 300,
}


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give an empty mapping."""
    return kit.make()


@pytest.mark.parametrize(
    "key", [pytest.param(key, id=name) for name, key in ODD_KEYS.items()]
)
def test_key_odd_is_stored_as_it_is_and_found_again(
    kit: StoreKit, mapping: EtcdMapping, key: str
) -> None:
    """An odd key names the node of just that name, as file, directory and inside."""
    mapping[key] = "value"
    assert kit.stored(mapping) == {key: "value"}
    assert (mapping[key], key in mapping, mapping.get(key)) == ("value", True, "value")
    assert (list(mapping), mapping.to_dict()) == ([key], {key: "value"})
    assert list(mapping.items()) == [(key, "value")]
    mapping[key] = {key: {key: 1}}
    assert mapping[key][f"{key}/{key}"] == 1
    assert mapping[f"{key}/{key}"].prefix == f"{mapping.prefix}/{key}/{key}"
    assert mapping.pop(key) == {key: {key: 1}}
    mapping.update({key: 2})
    assert mapping.setdefault(key, 3) == 2
    del mapping[key]
    assert key not in mapping
    assert mapping == {}


def test_key_odd_ones_live_side_by_side(mapping: EtcdMapping) -> None:
    """No two of them are the same node, and they are listed sorted."""
    content = {key: name for name, key in ODD_KEYS.items()}
    mapping["all"] = content
    held = mapping["all"]
    assert list(held) == sorted(content)
    assert held == content
    assert {key: held[key] for key in content} == content


def test_key_is_not_normalised(mapping: EtcdMapping) -> None:
    """The composed and the decomposed form of a letter are two keys."""
    mapping["\u00e9"] = "composed"
    assert "e\u0301" not in mapping
    mapping["e\u0301"] = "decomposed"
    assert mapping.to_dict() == {"e\u0301": "decomposed", "\u00e9": "composed"}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("\ud800", id="surrogate"),
        pytest.param("a\udcffb", id="surrogate-escape"),
        pytest.param("\ud83d\ude00", id="surrogate-pair"),
        pytest.param("\ufffd", id="replacement-character"),
    ],
)
def test_key_that_is_no_utf8_is_refused(
    mapping: EtcdMapping, cost: Cost, key: str
) -> None:
    """What UTF-8 can't tell apart is no key: absent on read, refused on write."""

    def use() -> None:
        assert key not in mapping
        assert mapping.get(key) is None
        with pytest.raises(InvalidKey):
            mapping[key] = 1
        with pytest.raises(InvalidKey):
            mapping["a"] = {"b": {key: 1}}

    assert cost(use) == []


def deep(levels: int) -> dict[str, Any]:
    """Give a nested dict that makes a path of so many levels."""
    content: dict[str, Any] = {"k": 1}
    for _ in range(levels - 1):
        content = {"k": content}
    return content


def test_key_of_200_levels_is_read_back(mapping: EtcdMapping) -> None:
    """The deepest path that is allowed works, by path and nested."""
    left = MAX_DEPTH - mapping.prefix.count("/")
    path = "/".join("k" * left)
    mapping[path] = 1
    assert mapping[path] == 1
    assert mapping == deep(left)
    del mapping["k"]
    mapping.update(deep(left))
    assert mapping[path] == 1


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m, n: setitem(m, "/".join("k" * n), 1), id="path"),
        pytest.param(lambda m, n: setitem(m, "k", deep(n - 1)), id="mapping"),
        pytest.param(lambda m, n: m.update(a=1, k=deep(n - 1)), id="update"),
        pytest.param(lambda m, n: m.setdefault("k", deep(n - 1)), id="setdefault"),
        pytest.param(lambda m, n: m.sub("/".join("k" * n)), id="sub"),
        pytest.param(
            lambda m, n: setitem(m.sub("/".join("k" * (n - 1))), "k", 1), id="below-sub"
        ),
    ],
)
def test_key_of_201_levels_is_refused_by_name(
    mapping: EtcdMapping, cost: Cost, write: Callable[[Any, int], object]
) -> None:
    """One level more is refused before any request; the error names the limit."""
    too_many = MAX_DEPTH - mapping.prefix.count("/") + 1

    def use() -> None:
        with pytest.raises(LimitExceeded, match=str(MAX_DEPTH)):
            write(mapping, too_many)

    assert cost(use) == []


@pytest.mark.parametrize("length", [3_000, 5_000, 100_000])
def test_key_long_works_as_the_first_request_of_a_connection(
    etcd: LocalCluster, prefix: str, length: int
) -> None:
    """A new connection takes a long path at once, for a read and for a write."""
    key = "k" * length
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        assert mapping.get(key) is None
    with EtcdMapping(etcd.endpoints, prefix=prefix) as mapping:
        mapping[key] = 1
        assert mapping[key] == 1


def test_key_of_the_longest_url_is_read_back(mapping: EtcdMapping) -> None:
    """The longest path that is allowed works."""
    key = "k" * (MAX_URL - len(mapping.prefix) - 1)
    mapping[key] = 1
    assert (mapping[key], key in mapping, list(mapping)) == (1, True, [key])
    del mapping[key]
    assert len(mapping) == 0


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda room: "k" * (room + 1), id="ascii"),
        pytest.param(lambda room: "é" * (room // 6 + 1), id="quoted"),
    ],
)
def test_key_beyond_the_longest_url_is_refused_by_name(
    mapping: EtcdMapping, cost: Cost, key: Callable[[int], str]
) -> None:
    """Counted as quoted in a URL; the error names the limit, and not all of the key."""
    too_long = key(MAX_URL - len(mapping.prefix) - 1)

    def use() -> None:
        assert too_long not in mapping
        with pytest.raises(LimitExceeded, match=str(MAX_URL)) as caught:
            mapping[too_long] = 1
        assert len(str(caught.value)) < 1_000
        with pytest.raises(LimitExceeded):
            mapping["a"] = {too_long: 1}

    assert cost(use) == []


# --- values ----------------------------------------------------------------------

ODD_TEXTS = {
    "empty": "",
    "null": "null",
    "true": "true",
    "version": "1.10",
    "leading-zero": "08",
    "digits": "8080",
    "minus-zero": "-0",
    "exponent": "1e5",
    "nan": "NaN",
    "infinity": "-Infinity",
    "array": "[]",
    "array-spaced": "[1, 2]",
    "array-open": "[1",
    "object": '{"a":1}',
    "object-spaced": '{"a": 1}',
    "quoted": '"quoted"',
    "quoted-digits": '"8080"',
    "quote": '"',
    "backslash": "\\",
    "escape-text": "\\u0000\\n",
    "nul": "\x00",
    "nul-inside": "a\x00b",
    "newline": "\n",
    "crlf": "a\r\nb\r\n",
    "carriage-return": "\r",
    "tab": "\t",
    "spaces": " a ",
    "controls": "\x01\x1b\x7f\x85",
    "form-pair": "a=b&c=d",
    "form-value": "x&value=y",
    "form-ttl": "x&ttl=1",
    "ampersand": "&",
    "equals": "=",
    "plus": "a+b c",
    "percent": "%",
    "percent-00": "%00",
    "percent-2B": "%2B",
    "percent-nonsense": "%zz",
    "semicolon": "a;b=c",
    "hash-question": "#?",
    "html": "<b>&amp;</b>",
    "html-escaped": "\\u003cb\\u003e",
    "umlauts": "größe",
    "nfd": "e\u0301",
    "line-separator": "a\u2028b\u2029",
    "byte-order-mark": "\ufeffa",
    "replacement-character": "\ufffd",
    "noncharacter": "\uffff",
    "emoji": "\U0001f600",
    "last-code-point": "\U0010ffff",
}
OTHER_VALUES: dict[str, Any] = {
    "zero": 0,
    "one": 1,
    "negative": -1,
    "int-64": 2**63,
    "int-big": 10**400,
    "int-negative-big": -(10**30),
    "float": 0.1,
    "float-whole": 1.0,
    "float-minus-zero": -0.0,
    "float-large": 1e300,
    "float-largest": 1.7976931348623157e308,
    "float-least": 5e-324,
    "true": True,
    "false": False,
    "none": None,
    "list-empty": [],
    "list-nested": [[], [[]]],
    "list-mixed": [1, 1.0, "1", True, None, -0.0, ""],
    "list-of-dicts": [{"b": 1, "a": {"c": [None]}}, {}],
    "list-of-odd-texts": ["\x00", "\u2028", "é", "a=b&c", "+", "%00", '"', "</x>"],
    "list-long": list(range(1_000)),
}


ODD_STRS = [pytest.param(value, id=f"str-{name}") for name, value in ODD_TEXTS.items()]
ODD_VALUES = [
    *ODD_STRS,
    *(pytest.param(value, id=name) for name, value in OTHER_VALUES.items()),
]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_value_odd_is_read_back_with_its_type(kit: StoreKit, value: Any) -> None:
    """A value is read back the same, however it was written or is read."""
    check_read_back(kit.make(), value)


@pytest.mark.usefixtures("client")  # codecs are above all stores
@pytest.mark.parametrize("value", ODD_VALUES)
def test_value_odd_is_read_back_as_json(kit: StoreKit, value: Any) -> None:
    """The same is true of the codec that writes nothing but JSON."""
    check_read_back(kit.make(codec="json"), value)


@pytest.mark.usefixtures("client")  # codecs are above all stores
@pytest.mark.parametrize("value", ODD_STRS)
def test_value_odd_is_read_back_as_text(kit: StoreKit, value: str) -> None:
    """The same is true of the codec that stores texts as they are."""
    check_read_back(kit.make(codec="text"), value)


def check_read_back(m: EtcdMapping, value: Any) -> None:
    """Check that a value is read back the same, however written and read."""
    m["a"] = value
    m["d"] = {"b": value}
    m.update(c=value)
    assert same_value(m.setdefault("e", value), value)
    assert all(same_value(m[key], value) for key in ("a", "d/b", "c", "e"))
    assert all(same_value(found, value) for found in m["d"].values())
    content = {"a": value, "c": value, "d": {"b": value}, "e": value}
    assert same_value(m.to_dict(), content)
    assert same_value(m.pop("a"), value)
    assert same_value(m.pop("d"), {"b": value})


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value in OTHER_VALUES.items()]
)
def test_value_that_is_no_text_is_refused_by_the_codec_for_texts(
    kit: StoreKit, cost: Cost, value: Any
) -> None:
    """It stores texts as they are, so it can't tell others apart from them."""
    check_refused(kit.make(codec="text"), cost, value, TypeError)


def check_refused(
    mapping: EtcdMapping, cost: Cost, value: Any, error: type[Exception]
) -> None:
    """Check that a value is refused in every way, before any request."""

    def use() -> None:
        for write in (
            lambda: setitem(mapping, "a", value),
            lambda: setitem(mapping, "d", {"b": value}),
            lambda: mapping.update(c=value),
            lambda: mapping.setdefault("e", value),
        ):
            with pytest.raises(error):
                write()

    assert cost(use) == []


@pytest.mark.usefixtures("client")  # what is large takes its time
@pytest.mark.parametrize("codec", ["auto", "json", "text"])
@pytest.mark.parametrize(
    "piece", [pytest.param("x", id="plain"), pytest.param("é\x00&", id="quoted")]
)
def test_value_of_1_mib_is_read_back(kit: StoreKit, codec: str, piece: str) -> None:
    """A large value is a value like any other."""
    mapping = kit.make(codec=codec)
    value = piece * (1024 * 1024 // len(piece.encode()))
    mapping["k"] = value
    assert mapping["k"] == value
    assert mapping.pop("k") == value


@pytest.mark.parametrize("codec", ["auto", "json", "text"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\ud800", id="surrogate"),
        pytest.param("a\udcff", id="surrogate-escape"),
        pytest.param("\ud83d\ude00", id="surrogate-pair"),
    ],
)
def test_value_with_a_surrogate_is_refused(
    kit: StoreKit, cost: Cost, codec: str, value: str
) -> None:
    """What has no UTF-8 form is refused by every codec, before any request."""
    mapping = kit.make(codec=codec)
    check_refused(mapping, cost, value, ValueError)


@pytest.mark.parametrize("codec", ["auto", "json"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param(float("nan"), ValueError, id="nan"),
        pytest.param(float("-inf"), ValueError, id="infinity"),
        pytest.param([1, [float("nan")]], ValueError, id="nan-in-a-list"),
        pytest.param(["\ud800"], ValueError, id="surrogate-in-a-list"),
        pytest.param(10**4300, ValueError, id="int-of-4301-digits"),
        pytest.param((1,), TypeError, id="tuple"),
        pytest.param([(1,)], TypeError, id="tuple-in-a-list"),
        pytest.param({1}, TypeError, id="set"),
        pytest.param(b"x", TypeError, id="bytes"),
        pytest.param(1j, TypeError, id="complex"),
        pytest.param([{1: 2}], TypeError, id="int-key-in-a-list"),
    ],
)
def test_value_without_a_form_is_refused(
    kit: StoreKit,
    cost: Cost,
    codec: str,
    value: Any,
    error: type[Exception],
) -> None:
    """What would not read back the same is refused, before any request."""
    mapping = kit.make(codec=codec)
    check_refused(mapping, cost, value, error)


@pytest.mark.parametrize(
    "text",
    [
        *("1.10", "08", "8080", "-0", "0.0", "1E5", " 1", "1 ", "+1", "1_000", ""),
        *("True", "null", "NaN", "-", '{"a": 1}', '{"a":1}', "[1, 2]", "[1,2]", '"x"'),
        *('"8080"', '"\\u00e9"', "[1e400]", "\x00", "9" * 5_000, "[" * 5_000),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_value_written_by_others_survives_being_assigned_to_itself(
    kit: StoreKit, mapping: EtcdMapping, text: str
) -> None:
    """With `auto` every text can be read, and what was read is written as it was."""
    kit.write(f"{mapping.prefix}/k", text)
    mapping["k"] = mapping["k"]
    mapping["d"] = mapping.to_dict()
    assert kit.stored(mapping, text=True) == {"k": text, "d": {"k": text}}


@pytest.mark.usefixtures("client")  # the limit is etcd's
def test_value_of_the_largest_form_is_read_back(mapping: EtcdMapping) -> None:
    """The largest value that is allowed is one that etcd takes."""
    value = "x" * (MAX_FORM - len("value="))
    mapping["k"] = value
    assert mapping["k"] == value
    del mapping["k"]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * (MAX_FORM - len("value=") + 1), id="plain"),
        pytest.param("é" * (MAX_FORM // 6), id="quoted"),
    ],
)
def test_value_beyond_the_largest_form_is_refused_by_name(
    mapping: EtcdMapping, cost: Cost, value: str
) -> None:
    """Counted as it is sent; the error names the limit, and shows no value."""

    def use() -> None:
        with pytest.raises(LimitExceeded, match=str(MAX_FORM)) as caught:
            mapping["k"] = value
        assert len(str(caught.value)) < 1_000

    assert cost(use) == []

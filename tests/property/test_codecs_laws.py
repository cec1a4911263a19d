"""The laws of the codecs, for values and texts that nobody thought of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcdmap.codecs import AutoCodec, Codec, JsonCodec, TextCodec
from etcdmap.errors import DecodeError

from support.values import same_value

AUTO, JSON, TEXT = AutoCodec(), JsonCodec(), TextCodec()

FRAGMENTS = [
    *('"', "\\", "\\\\", '\\"', "\\n", "\\u0041", "\\ud800", "\\udfff", "\\/", "\n"),
    *("0", "1", "8080", "-", "+", ".", "e", "E", "e+16", "e-07", ".0", "_", "400"),
    *("[", "]", "{", "}", ",", ":", " ", "true", "false", "null", "NaN", "Infinity"),
    *("a", "ü", "\u0661", "\ufeff", "\x00", "\u2028", '"a":', "9" * 310, "9" * 2200),
]
floats = st.floats(allow_nan=False, allow_infinity=False)
numbers_as_text = st.one_of(
    st.from_regex(
        r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
    ),
    floats.map(repr),
    st.integers().map(str),
)
odd_texts = st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join)
strings = st.text() | odd_texts | numbers_as_text
scalars = st.one_of(st.none(), st.booleans(), st.integers(), floats, strings)
nested = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(strings, inner)
)
values = scalars | st.lists(nested)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """Draw JSON, spelled in one of several ways, perhaps quoted as a str again."""
    text = json.dumps(
        draw(nested),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": ")])),
    )
    for _ in range(draw(st.integers(0, 3))):
        text = json.dumps(text, ensure_ascii=False)
    return text


@st.composite
def broken_json(draw: st.DrawFn) -> str:
    """Draw JSON in which one piece is replaced."""
    text = draw(json_texts())
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    return text[:start] + draw(st.sampled_from(["", *FRAGMENTS])) + text[end:]


texts = strings | json_texts() | broken_json()


@example(-0.0)
@example([-0.0, [0.0, 0, False, None]])
@example([1, 1.0, True, "1"])
@example(1e16)
@example(1e-7)
@example(5e-324)
@example("")
@example("8080")
@example('"8080"')
@example(r'"\"8080\""')
@example('"a"')
@example("-0.0")
@example("nan")
@example("-inf")
@example("[1,2]")
@example("[1, 2]")
@example([{"b": [], "a": {}, "": '"'}])
@example(10**4300 - 1)
@example(-(10**600))
@given(values)
def test_auto_what_is_written_reads_back(value: Any) -> None:
    """decode(encode(v)) is v, type by type."""
    assert same_value(AUTO.decode(AUTO.encode(value)), value)


@example("1.10")
@example("08")
@example("1e5")
@example("1e+16")
@example("1e400")
@example("-1e+400")
@example("-0")
@example("-0.0")
@example("-inf")
@example("nan")
@example("NaN")
@example("Infinity")
@example("[NaN]")
@example("[-0]")
@example("[1e5]")
@example("[1, 2]")
@example('[{"a":1,"a":1}]')
@example('["\\ud800"]')
@example('"\\ud800"')
@example('"\\u0038"')
@example('"8080"')
@example('"a"')
@example('"\\"8\\""')
@example('"\\"a\\""')
@example('"\\"\\\\u0038\\""')
@example("\ufeff1")
@example(" 1")
@example("1\n")
@example("\u0661")
@example("1\u0662")
@example("9" * 5000)
@example("-" + "9" * 4300)
@example("[" + "9" * 4301 + "]")
@example("[" * 100 + "]" * 100)
@example("[" * 101 + "]" * 101)
@example("[" * 100_000 + "]" * 100_000)
@given(texts)
def test_auto_what_is_read_writes_back(text: str) -> None:
    """encode(decode(t)) is t, whatever t is, so m[k] = m[k] changes nothing."""
    assert AUTO.encode(AUTO.decode(text)) == text


@example('"8"')
@example('"[8]"')
@example('"a"')
@given(texts)
def test_auto_text_is_read_as_json_or_as_itself(text: str) -> None:
    """A text means what JSON says, or nothing but itself."""
    value = AUTO.decode(text)
    assert value is text or same_value(value, json.loads(text))


@example(12)
@example("12")
@given(values)
def test_auto_writes_json_or_bare_text(value: Any) -> None:
    """Only a str is ever written otherwise than by the json codec."""
    text = AUTO.encode(value)
    assert text == JSON.encode(value) or text is value


@example(-0.0)
@example("\u2028")
@given(values)
def test_json_what_is_written_reads_back(value: Any) -> None:
    """decode(encode(v)) is v, and Python's json agrees on the text."""
    text = JSON.encode(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert same_value(JSON.decode(text), value)


@example('{"a":1,"a":1}')
@example("1e400")
@example('"\\ud800"')
@example("[" * 101 + "]" * 101)
@given(texts)
def test_json_reads_a_value_or_raises_decode_error(text: str) -> None:
    """What is read can be written and read again; all else is a DecodeError."""
    try:
        value = JSON.decode(text)
    except DecodeError:
        return
    again = JSON.encode([value])[1:-1]
    assert same_value(JSON.decode(again), value)


@given(json_texts())
def test_json_reads_what_json_reads(text: str) -> None:
    """Every JSON that another program may write is read as Python reads it."""
    assert same_value(JSON.decode(text), json.loads(text))


@given(texts)
def test_text_changes_nothing(text: str) -> None:
    """The text codec is the identity both ways."""
    assert TEXT.decode(TEXT.encode(text)) == text


@pytest.mark.parametrize("codec", [AUTO, JSON], ids=repr)
@given(value=values)
def test_writing_what_was_read_gives_the_same_text(codec: Codec, value: Any) -> None:
    """m[k] = m[k] leaves alone what the codec itself has written."""
    text = codec.encode(value)
    assert codec.encode(codec.decode(text)) == text

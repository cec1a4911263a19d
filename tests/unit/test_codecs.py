"""What each codec writes, reads and refuses."""

from __future__ import annotations

import datetime
import enum
import inspect
import pathlib
import pickle
import sys
import traceback
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from etcdmap.codecs import (
    MAX_INT_DIGITS,
    MAX_NESTING,
    AutoCodec,
    Codec,
    JsonCodec,
    TextCodec,
    encode_text,
    get_codec,
)
from etcdmap.errors import DecodeError

from support.values import same_value

AUTO, JSON, TEXT = AutoCodec(), JsonCodec(), TextCodec()
SECRET = "hunter2"
LONG_INT = int("123456789" * 400)  # 3,600 digits


class Colour(enum.IntEnum):
    """An int that would come back as a plain one."""

    RED = 7


class Name(str, enum.Enum):
    """A str that would come back as a plain one."""

    BOB = SECRET


class Words(str):
    """A str subclass."""

    __slots__ = ()


class Count(int):
    """An int subclass."""


class Ratio(float):
    """A float subclass."""


class Row(list[Any]):
    """A list subclass."""


def nested(levels: int) -> list[Any]:
    """Return lists within lists."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def holding_itself() -> list[Any]:
    """Return a list that is its own item."""
    value: list[Any] = [1]
    value.append(value)
    return value


# --- auto: value <-> text ---------------------------------------------------

PAIRS: list[tuple[Any, str]] = [
    ("localhost", "localhost"),
    ("", ""),
    (" 8080", " 8080"),
    ("größe", "größe"),
    ("8080", '"8080"'),
    ("-1.5", '"-1.5"'),
    ("true", '"true"'),
    ("[]", '"[]"'),
    ('["ü"]', r'"[\"ü\"]"'),
    ('"8080"', r'"\"8080\""'),
    (r'"\"8080\""', r'"\"\\\"8080\\\"\""'),
    ('"localhost"', '"localhost"'),
    ('{"a":1}', '{"a":1}'),
    (8080, "8080"),
    (-17, "-17"),
    (10**30, "1" + "0" * 30),
    (3.14, "3.14"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (1e16, "1e+16"),
    (1e-7, "1e-07"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (True, "true"),
    (None, "null"),
    ([], "[]"),
    ([1, 2.0, "3", None, True], '[1,2.0,"3",null,true]'),
    ([[], [[1]], {}], "[[],[[1]],{}]"),
    ([{"b": 1, "a": [{"ü": -0.0}]}], '[{"b":1,"a":[{"ü":-0.0}]}]'),
    (['"', "\n", "\\", "\x00", "\u2028"], '["\\"","\\n","\\\\","\\u0000","\u2028"]'),
    (["[" * 200], '["' + "[" * 200 + '"]'),
    ([{}] * 101, "[" + ",".join(["{}"] * 101) + "]"),
    (nested(MAX_NESTING), "[" * MAX_NESTING + "]" * MAX_NESTING),
]


@pytest.mark.parametrize(("value", "text"), PAIRS)
def test_auto_value_has_the_text_that_is_documented(value: Any, text: str) -> None:
    """Each value is written as one text, and read from it type by type."""
    assert AUTO.encode(value) == text
    assert same_value(AUTO.decode(text), value)


ONLY_TEXT = [
    *("1.10", "1.", ".5", "08", "00", "+1", "-", "--1", "-0", "1e5", "1E5", "1e+5"),
    *("1_000", "0x10", "10 ", " 10", "1\n", "\ufeff1", "\u0661\u0662", "1\u0662"),
    *("1e400", "-1e400", "1e+400", "0.1e+1", "1.0e+16", "-1.0e-0"),
    *("1.00000000000000001", "0.10000000000000000000", "123456789012345678901.5"),
    *("9" * 5000, "-" + "9" * 5000, "9" * 5000 + ".0", "1e+" + "9" * 5000),
    *("NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "None", "True", "TRUE"),
    *("true ", "truer", "t", "nul", "False", "f"),
    *('"', '""', '"a', 'a"', '"a"', '"8080" ', '"80\\u00380"', '"\\"a\\""', '"a" "b"'),
    *('"\\ud800"', '"[\\ud800]"', '"\\x"', '"\n"', '"1\t"'),
    *("[", "]", "[1, 2]", "[ ]", "[1,]", "[,]", "[1]x", "[1] ", "[01]", "[1.10]"),
    *("[-0]", "[1e5]", "[1e400]", "[-1e+400]", "[NaN]", "[Infinity]", "[tru]", "['a']"),
    *('["\\ud800"]', '["\\/"]', '["\\u0041"]', '[{"a":1,"a":2}]', '[{"a": 1}]'),
    *('[{"\\ud800":1}]', "[{1:2}]", "[::1]:2379", "[section]"),
    *("{}", '{"a":1}', '{"a":1,"a":2}', "[" + "9" * 4301 + "]"),
    *("[" * 101 + "]" * 101, "[" * 100_000, "[" * 100_000 + "]" * 100_000),
    *('[{"a":' * 51 + "1" + "}]" * 51, '["' + '\\"' * 50_000 + "[" * 101 + "]"),
]


@pytest.mark.parametrize("text", ONLY_TEXT, ids=lambda text: ascii(text[:25]))
def test_auto_any_other_text_is_read_as_itself(text: str) -> None:
    """A text that no value is written as stands for itself and is written so."""
    assert AUTO.decode(text) is text
    assert AUTO.encode(text) == text


# --- json and text ----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("localhost", '"localhost"'),
        ("8080", '"8080"'),
        ("ü\n", '"ü\\n"'),
        (8080, "8080"),
        (-0.0, "-0.0"),
        (None, "null"),
        ([1, {"a": "b"}], '[1,{"a":"b"}]'),
    ],
)
def test_json_value_round_trips_as_json(value: Any, text: str) -> None:
    """The json codec quotes every str and reads back what it wrote."""
    assert JSON.encode(value) == text
    assert same_value(JSON.decode(text), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' { "a" : [ 1 , 2 ] } \n', {"a": [1, 2]}),
        ("1e5", 100000.0),
        ("1.10", 1.1),
        ("-0", 0),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ('{"a":' * MAX_NESTING + "1" + "}" * MAX_NESTING, None),
        (
            r'[{"a":' * (MAX_NESTING // 2) + r'"\u00e9"' + "}]" * (MAX_NESTING // 2),
            None,
        ),
    ],
)
def test_json_reads_any_spelling_of_json(text: str, value: Any) -> None:
    """Spaces, objects, escapes and other spellings of a number are JSON too."""
    read = JSON.decode(text)
    assert value is None or same_value(read, value)


NOT_JSON = [
    *("", " ", "localhost", "08", "1.", ".5", "+1", "1_0", "tru", "None", "\ufeff1"),
    *("NaN", "Infinity", "-Infinity", "[NaN]", "1e400", "-1e400", "[1e400]"),
    *('{"a":1,"a":1}', '[{"a":1,"a":2}]', "{1:2}", "{'a':1}", '{"a":1,}', "[1,]"),
    *("1 2", "[1] x", '"a', '"\n"', '"\\x"', "\u0661", "\xa01"),
    *('"\\ud800"', '["\\ud800"]', '{"\\udfff":1}', '"\\ude00\\ud83d"', '"\ud800"'),
    *("9" * 4301, "-" + "9" * 4301, "[" + "9" * 4301 + "]"),
    *("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[" * 100_000),
]


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: ascii(text[:25]))
def test_json_refuses_what_is_not_strict_json(text: str) -> None:
    """What is no JSON, or could not be written again, is a DecodeError."""
    with pytest.raises(DecodeError, match="not strict JSON") as caught:
        JSON.decode(text)
    assert caught.value.key is None


@pytest.mark.parametrize(
    "text",
    [SECRET, f'["{SECRET}"', f'{{"{SECRET}":1,"{SECRET}":2}}', f'["{SECRET}\\ud800"]'],
)
def test_json_error_never_holds_the_text(text: str) -> None:
    """Neither the error nor one that it came from shows a stored text."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_text_stores_a_str_exactly() -> None:
    """The text codec changes nothing, whatever the text looks like."""
    for text in ["", "8080", '"a"', "true", "[1]", "größe", "\x00"]:
        assert TEXT.encode(text) is text
        assert TEXT.decode(text) is text


@pytest.mark.parametrize("value", [8080, b"a", Words("a")])
def test_text_refuses_all_but_str(value: Any) -> None:
    """The text codec takes exactly str and says what to do."""
    with pytest.raises(TypeError, match=r"use str\(value\)"):
        TEXT.encode(value)


# --- refusals ---------------------------------------------------------------

REFUSED: list[tuple[Any, type[Exception], str]] = [
    ((SECRET,), TypeError, r"tuple can't be stored; use list\(value\)"),
    ({SECRET}, TypeError, r"set can't be stored; use sorted\(value\)"),
    (frozenset({SECRET}), TypeError, r"frozenset .* use sorted\(value\)"),
    (deque([SECRET]), TypeError, r"collections.deque .* use list\(value\)"),
    (range(3), TypeError, r"range .* use list\(value\)"),
    (SECRET.encode(), TypeError, r"bytes .* use base64"),
    (datetime.date(2026, 1, 2), TypeError, r"use value.isoformat\(\)"),
    (datetime.datetime(2026, 1, 2), TypeError, r"use value.isoformat\(\)"),
    (datetime.time(1, 2), TypeError, r"use value.isoformat\(\)"),
    (datetime.timedelta(1), TypeError, r"use value.total_seconds\(\)"),
    (Decimal("1.5"), TypeError, r"decimal.Decimal .* use str\(value\)"),
    (Fraction(1, 3), TypeError, r"use float\(value\) or str\(value\)"),
    (uuid.UUID(int=1), TypeError, r"use str\(value\)"),
    (pathlib.PurePath(SECRET), TypeError, r"use str\(value\)"),
    (Colour.RED, TypeError, r"Colour can't be stored; use value.value"),
    (Name.BOB, TypeError, r"Name can't be stored; use value.value"),
    (Words(SECRET), TypeError, r"Words can't be stored; use str\(value\)"),
    (Count(7), TypeError, r"use int\(value\)"),
    (Ratio(7), TypeError, r"use float\(value\)"),
    (Row([SECRET]), TypeError, r"use list\(value\)"),
    (OrderedDict(a=SECRET), TypeError, r"use dict\(value\)"),
    (1j, TypeError, r"complex can't be stored; use a str, int"),
    (object(), TypeError, r"object can't be stored; use a str, int"),
    (float("nan"), ValueError, r"use None or a str"),
    (float("-inf"), ValueError, r"use None or a str"),
    (10**MAX_INT_DIGITS, ValueError, r"use hex\(value\)"),
    (-(10**MAX_INT_DIGITS), ValueError, r"use hex\(value\)"),
    (SECRET + "\ud800", ValueError, r"lone surrogate"),
    ([{"a\udfff": 1}], ValueError, r"lone surrogate"),
    ([{7: SECRET}], TypeError, r"/7: keys are str, not int; use str\(key\)"),
    ([{Words("a"): 1}], TypeError, r"/a: keys are str, not Words; use str\(key\)"),
    (nested(MAX_NESTING + 1), ValueError, r"can't be nested over 100 deep"),
    (holding_itself(), ValueError, r"over 100 deep, or contain themselves"),
]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    REFUSED,
    ids=[type(value).__name__ for value, _, _ in REFUSED],
)
def test_refused_value_says_what_to_do_and_shows_nothing(
    value: Any, error: type[Exception], message: str
) -> None:
    """A value that would not come back is refused, anywhere, without showing it.

    Of a list the place is shown, and so the keys on the way.
    """
    for codec, held in (
        (AUTO, value),
        (JSON, value),
        (AUTO, [[{"a": [SECRET], "key": value}]]),
    ):
        with pytest.raises(error, match=message) as caught:
            codec.encode(held)
        shown = "".join(traceback.format_exception_only(caught.value))
        assert SECRET not in shown
        assert caught.value.__context__ is None


@pytest.mark.parametrize("codec", [AUTO, JSON], ids=repr)
def test_dict_alone_is_refused_as_a_directory(codec: Codec) -> None:
    """A dict becomes a directory before it reaches a codec."""
    with pytest.raises(TypeError, match="stored as a directory"):
        codec.encode({"a": 1})


def test_text_refuses_lone_surrogates() -> None:
    """A str without a UTF-8 form can't be sent."""
    with pytest.raises(ValueError, match="lone surrogate"):
        TEXT.encode("\ud800")


# --- nothing depends on the surroundings ------------------------------------


@pytest.fixture(params=[640, 0], ids=["lowest", "none"])
def int_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Change the digits that this process converts between int and str."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(request.param)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("int_limit")
@pytest.mark.parametrize("codec", [AUTO, JSON], ids=repr)
@pytest.mark.parametrize("sign", [1, -1])
def test_long_int_round_trips_whatever_the_limit_of_the_process(
    codec: Codec, sign: int
) -> None:
    """Up to 4,300 digits are read and written, and 4,301 are not."""
    digits = "-" * (sign < 0) + "123456789" * 400
    longest = sign * (10**MAX_INT_DIGITS - 1)
    for value in (sign * 10**640, sign * 10**700, sign * LONG_INT, longest):
        assert codec.decode(codec.encode(value)) == value
        assert codec.decode(codec.encode([value])) == [value]
    assert codec.encode(sign * LONG_INT) == digits
    assert AUTO.decode(digits + "0" * 1000) == digits + "0" * 1000
    with pytest.raises(ValueError, match="4300 digits"):
        codec.encode(longest + sign)


@pytest.mark.parametrize("digits", [600, 601, 641])
def test_int_around_the_plain_length_is_exact(digits: int) -> None:
    """The two ways to convert an int agree."""
    for value in (10 ** (digits - 1), 10**digits - 1, -(10**digits - 1)):
        assert AUTO.encode(value) == str(value)
        assert same_value(AUTO.decode(str(value)), value)


def at_depth(frames: int, call: Callable[[], Any]) -> Any:
    """Call with that many frames more on the stack."""
    return call() if frames <= 0 else at_depth(frames - 1, call)


@pytest.mark.parametrize("codec", [AUTO, JSON], ids=repr)
@pytest.mark.parametrize("free", [40, 90, 140])
def test_deep_list_round_trips_near_the_end_of_the_stack(
    codec: Codec, free: int
) -> None:
    """How much of the stack is in use does not matter."""
    text = "[" * MAX_NESTING + "]" * MAX_NESTING
    frames = sys.getrecursionlimit() - len(inspect.stack(0)) - free
    value = at_depth(frames, lambda: codec.decode(text))
    assert value == nested(MAX_NESTING)
    assert at_depth(frames, lambda: codec.encode(value)) == text


# --- choosing a codec -------------------------------------------------------


class Upper:
    """A codec of a user's own."""

    def __init__(self, result: Any = None) -> None:
        self.result = result

    def encode(self, value: Any, /) -> Any:
        """Write in capitals, or return what the test asked for."""
        return value.upper() if self.result is None else self.result

    def decode(self, text: str, /) -> Any:
        """Read in small letters."""
        return text.lower()


@pytest.mark.parametrize(
    ("name", "kind"), [("auto", AutoCodec), ("json", JsonCodec), ("text", TextCodec)]
)
def test_get_codec_name_gives_builtin(name: str, kind: type) -> None:
    """Each name gives its codec, whose repr is that name."""
    codec = get_codec(name)
    assert type(codec) is kind
    assert repr(codec) == repr(name)


def test_get_codec_object_is_returned() -> None:
    """An object with both methods is a codec already."""
    codec = Upper()
    assert get_codec(codec) is codec


def test_get_codec_unknown_name_lists_names() -> None:
    """A misspelt name is a ValueError that says which there are."""
    with pytest.raises(
        ValueError, match=r"'yaml'.*'auto', 'json', 'text' or an object"
    ):
        get_codec("yaml")


@pytest.mark.parametrize("codec", [None, object()])
def test_get_codec_other_object_is_type_error(codec: Any) -> None:
    """An object without both methods is refused."""
    with pytest.raises(TypeError, match="'auto', 'json', 'text' or an object"):
        get_codec(codec)


def test_get_codec_class_asks_for_instance() -> None:
    """A class has the methods too, but not bound."""
    with pytest.raises(TypeError, match=r"use JsonCodec\(\)"):
        get_codec(JsonCodec)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("codec", [AUTO, JSON, TEXT], ids=repr)
def test_builtin_codec_survives_pickling(codec: Codec, protocol: int) -> None:
    """A pickled codec is equal to the first one, and to no other."""
    copy = pickle.loads(pickle.dumps(codec, protocol))  # noqa: S301
    assert copy == codec
    assert hash(copy) == hash(codec)
    assert [copy == other for other in (AUTO, JSON, TEXT)].count(True) == 1


@pytest.mark.parametrize(
    ("codec", "value", "text"),
    [
        (AUTO, "8080", '"8080"'),
        (JSON, "a", '"a"'),
        (TEXT, "1", "1"),
        (Upper(), "ä", "Ä"),
    ],
)
def test_encode_text_returns_what_the_codec_writes(
    codec: Codec, value: Any, text: str
) -> None:
    """A codec's good answer passes."""
    assert encode_text(codec, value) == text


@pytest.mark.parametrize("result", [b"a", Words("a")])
def test_encode_text_refuses_other_types(result: Any) -> None:
    """What is not exactly a str is a TypeError that names the codec."""
    with pytest.raises(TypeError, match=r"Upper\.encode must return a str, not"):
        encode_text(Upper(result), "a")


def test_encode_text_refuses_lone_surrogates() -> None:
    """A codec's text must have a UTF-8 form."""
    with pytest.raises(ValueError, match="lone surrogate"):
        encode_text(Upper("\ud800"), "a")

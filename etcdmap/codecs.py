"""Turn values into the text that etcd stores, and back: "auto", "json" and "text".

``auto`` keeps two laws.  *What is written reads back*: for every value that it accepts,
``decode(encode(v))`` is ``v`` again, with the same type.  *What is read writes back*:
``encode(decode(t)) == t`` for every text.  Both follow from one rule: a text stands for
a value only if writing that value gives exactly this text, and a str that would stand
for something else is written as a JSON string.

All processes read a text in the same way: the limits of nesting and of integers are
fixed here, and do not depend on the caller's stack or ``sys.set_int_max_str_digits``.

Values and stored texts may be secret, so no message shows them, and no error is raised
while an error that contains one (``JSONDecodeError.doc``) is being handled.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import repeat
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

from etcdmap.errors import DecodeError, InvalidResponse, Refusal
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.refusals import no_str, shown_key, tell

T = TypeVar("T")

#: How deep lists and dicts may be nested.
MAX_NESTING = 100
#: How many digits an int may have; the default of ``sys.set_int_max_str_digits``.
MAX_INT_DIGITS = 4300
#: So many digits ``int`` and ``str`` always take: no process can set a limit below 640.
_PLAIN_INT_DIGITS = 600


class Codec(Protocol):
    """An object that turns values into the text that etcd stores, and back."""

    def encode(self, value: Any, /) -> str:
        """Return the text to store; raise TypeError or ValueError to refuse a value."""

    def decode(self, text: str, /) -> Any:
        """Return the value of a stored text; raise DecodeError if it has no value."""


@dataclass(frozen=True, repr=False)
class _Builtin:
    """The base class of the three codecs; all instances of one of them are equal."""

    name: ClassVar[str]

    def __repr__(self) -> str:
        return repr(self.name)


class AutoCodec(_Builtin):
    """Writes a str as bare text if that is safe, and every other value as JSON."""

    name = "auto"

    def encode(self, value: Any, /) -> str:
        """Write a str as it is or as a JSON string, and other values as compact JSON.

        Raises:
            TypeError: the value has a type that would not be read back; the message
                says what to use instead.
            ValueError: the value is NaN or an infinity, contains a lone surrogate, or
                is beyond a limit.
        """
        if type(value) is not str:
            return _write_single(value)
        return checked(value) if _is_plain(value) else _write_str(value)

    def decode(self, text: str, /) -> Any:
        """Return the value that is written as this text, or the text; never raise."""
        reader = _READERS.get(text[:1])
        return text if reader is None else reader(text)


class JsonCodec(_Builtin):
    """Always writes JSON, for keys that are shared with programs that expect JSON."""

    name = "json"

    def encode(self, value: Any, /) -> str:
        """Write compact JSON; refuse the values that :class:`AutoCodec` refuses."""
        return _write_single(value)

    def decode(self, text: str, /) -> Any:
        """Read strict JSON; an object becomes a dict.

        Raises:
            DecodeError: the text is not JSON, or could not be written again: it
                contains NaN, 1e400, a repeated key or a lone surrogate, or its ints or
                its nesting are beyond the limits.
        """
        return _parse(text)


class TextCodec(_Builtin):
    """Takes text only, and stores it exactly as it is."""

    name = "text"

    def encode(self, value: Any, /) -> str:
        """Return ``value``; raise TypeError if it is not exactly a str."""
        if type(value) is str:
            return checked(value)
        kind = _type_name(value)
        raise TypeError(f"the codec 'text' can't store {kind}; use str(value)")

    def decode(self, text: str, /) -> str:
        """Return ``text``."""
        return text


#: The names of the codecs in `_CODECS`.
CodecName: TypeAlias = Literal["auto", "json", "text"]

_CODECS = {codec.name: codec for codec in (AutoCodec(), JsonCodec(), TextCodec())}
_ACCEPTED = "'auto', 'json', 'text' or an object with encode and decode"


def get_codec(codec: str | Codec) -> Codec:
    """Return the codec with this name, or the object that was given.

    Raises:
        ValueError: no codec has this name.
        TypeError: this is neither a name nor an object with ``encode`` and ``decode``;
            or it is a class, and not an instance.
    """
    if isinstance(codec, str):
        if codec in _CODECS:
            return _CODECS[codec]
        raise ValueError(f"no codec is named {codec!r}: use {_ACCEPTED}")
    if isinstance(codec, type):
        name = codec.__qualname__
        raise TypeError(f"a codec is an object, not a class: use {name}()")
    if not all(callable(getattr(codec, name, None)) for name in ("encode", "decode")):
        raise TypeError(f"{_type_name(codec)} is no codec: use {_ACCEPTED}")
    return codec


def encode_text(codec: Codec, value: Any) -> str:
    """Return ``codec.encode(value)``, checked: it is text that etcd can store.

    The codec's own errors pass through.  TypeError is raised if the codec did not
    return exactly a str, and ValueError for a lone surrogate.
    """
    text = codec.encode(value)
    if type(codec) in (AutoCodec, JsonCodec, TextCodec):  # these check it themselves
        return text
    if type(text) is str:
        return checked(text)
    name = _type_name(codec)
    raise TypeError(f"{name}.encode must return a str, not {_type_name(text)}")


# --- readers: each returns ``text`` itself if the text stands for no other value ---

#: An int as Python writes it, or (group 1) a text that may be a float.
_NUMBER = re.compile(
    rf"0|-?[1-9][0-9]{{0,{MAX_INT_DIGITS - 1}}}"
    r"|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:e[+-][0-9]+)?|e[+-][0-9]+))"
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def _read_number(text: str) -> Any:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if match.lastindex is None:
        return _to_int(text)
    # The longest repr of a float is that of -2.2250738585072014e-308.
    if len(text) > 24 or repr(number := float(text)) != text:
        return text
    return number


def _read_string(text: str) -> str:
    # Only a str that would be read as another value was quoted: '"8"' stands for "8",
    # while '"eight"' stands for itself.
    with suppress(ValueError):
        value: str = _DECODER.decode(text)
        if _quote(value) == text and not _is_plain(value):
            return value
    return text


def _read_array(text: str) -> Any:
    with suppress(ValueError):
        if text[-1] == "]" and _write(value := _parse(text)) == text:
            return value
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys("-0123456789", _read_number),
    **dict.fromkeys("tfn", lambda text: _WORDS.get(text, text)),
    '"': _read_string,
    "[": _read_array,
}


def _is_plain(text: str) -> bool:
    reader = _READERS.get(text[:1])
    return reader is None or reader(text) is text


# --- strict JSON -> value ---------------------------------------------------

#: The closing quote is optional to keep the search linear in broken texts.
_NO_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[^"\[\]{}]+', re.DOTALL)


def _parse(text: str) -> Any:
    try:
        _check_nesting(text)
        value = _decode(checked(text))
        if "\\u" in text:
            _write(value)  # refuses lone surrogates
        return value
    except json.JSONDecodeError as exc:
        reason = f"{exc.msg} at character {exc.pos}"
    except ValueError as exc:
        reason = str(exc)
    raise DecodeError(f"not strict JSON ({reason}): the codec 'text' can read it")


def _check_nesting(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return
    depth = 0
    for bracket in _NO_BRACKETS.sub("", text):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_NESTING:
            raise ValueError(f"nested deeper than {MAX_NESTING} levels")


def _decode(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except RecursionError:
        # Before Python 3.12, each level takes a frame, and the caller's thread may have
        # only a few frames left; a new thread has all of them.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_DECODER.decode, text).result()


def _to_int(digits: str) -> int:
    if len(digits) <= _PLAIN_INT_DIGITS:
        return int(digits)
    if len(digits.lstrip("-")) > MAX_INT_DIGITS:
        raise ValueError(f"an int of over {MAX_INT_DIGITS} digits")
    return int(Decimal(digits))  # the process's own limit does not apply to this


def _to_float(digits: str) -> float:
    number = float(digits)
    if math.isfinite(number):
        return number
    raise ValueError("NaN, an infinity or a number too large for a float")


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    raise ValueError("a key twice in an object")


_DECODER = json.JSONDecoder(
    parse_int=_to_int,
    parse_float=_to_float,
    parse_constant=_to_float,
    object_pairs_hook=_to_dict,
)

# --- value -> JSON ----------------------------------------------------------

_quote = json.JSONEncoder(ensure_ascii=False).encode
_TOO_DEEP = (
    f"lists can't be nested over {MAX_NESTING} deep, or contain themselves; use more "
    "keys"
)


def _write_single(value: Any) -> str:
    if type(value) is dict:
        raise TypeError("a dict is stored as a directory; assign it to a key")
    try:
        return _write(value)
    except (TypeError, ValueError) as error:
        tell(error, _find_refused(value))
        raise


def _write(root: Any) -> str:
    # Not recursive, so that it works however deep the caller's stack is.
    writer = _SCALARS.get(type(root))
    if writer is not None:
        return writer(root)
    stack = [_open(root)]
    while True:
        items, texts, brackets = stack[-1]
        for key, item in items:
            writer = _SCALARS.get(type(item))
            if writer is None:
                if len(stack) == MAX_NESTING:
                    raise ValueError(_TOO_DEEP)
                texts.append(key)
                stack.append(_open(item))
                break
            texts.append(key + writer(item))
        else:
            stack.pop()
            text = f"{brackets[0]}{','.join(texts)}{brackets[1]}"
            if not stack:
                return text
            stack[-1][1][-1] += text


def _open(value: Any) -> tuple[Iterator[tuple[str, Any]], list[str], str]:
    """Return the items of a list or dict, a list for their texts, and the brackets."""
    if type(value) is list:
        return zip(repeat(""), value, strict=False), [], "[]"
    if type(value) is dict:
        return zip(map(_write_key, value), value.values(), strict=True), [], "{}"
    raise TypeError(f"{_type_name(value)} can't be stored; use {_advice(value)}")


def _advice(value: Any) -> str:
    if not isinstance(value, (Enum, memoryview)):
        for name, use in _ADVICE_BY_ATTRIBUTE.items():
            if hasattr(type(value), name):
                return use
    return next(use for kinds, use in _ADVICE.items() if isinstance(value, kinds))


def _find_refused(root: Any) -> Iterator[Refusal]:
    """Yield every part of a value that `_write` refuses, in order, with its place."""
    todo: list[tuple[str, Any, Callable[[Any], str], int]] = [("", root, _write, 1)]
    while todo:
        place, value, write, depth = todo.pop()
        if type(value) not in (list, dict) or write is _write_key:
            if (reason := _why_not(write, value)) is not None:
                yield Refusal(place, reason)
        elif depth > MAX_NESTING:
            yield Refusal(place, _TOO_DEEP)
            return  # it may contain itself, in more than one place
        else:
            todo += [(*found, depth + 1) for found in reversed(_inside(place, value))]


def _inside(place: str, value: Any) -> list[tuple[str, Any, Callable[[Any], str]]]:
    """Return the place, the value and the writer of each part of a list or dict."""
    if type(value) is list:
        return [(f"{place}[{n}]", item, _write) for n, item in enumerate(value)]
    keys = [f"{place}/{shown_key(key)}" for key in value]
    pairs = zip(keys, value.items(), strict=True)
    return [
        entry
        for below, (key, item) in pairs
        for entry in ((below, key, _write_key), (below, item, _write))
    ]


def _why_not(write: Callable[[Any], str], value: Any) -> str | None:
    try:
        write(value)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _write_key(key: Any) -> str:
    if type(key) is str:
        return f"{_write_str(key)}:"
    raise TypeError(no_str(key))


def _write_str(value: str) -> str:
    return _quote(checked(value))


def checked(text: str) -> str:
    """Return the text if UTF-8 can express it; else raise ValueError, without it."""
    if text.isascii():
        return text
    with suppress(UnicodeEncodeError):
        text.encode()
        return text
    raise ValueError("a str with a lone surrogate has no UTF-8 form; replace it")


def _write_int(value: int) -> str:
    if value.bit_length() <= _PLAIN_INT_DIGITS * 3:  # 8 ** n < 10 ** n
        return repr(value)
    if abs(value) < 10**MAX_INT_DIGITS:
        return str(Decimal(value))  # the process's own limit does not apply to this
    raise ValueError(f"an int can't have over {MAX_INT_DIGITS} digits; use hex(value)")


def _write_float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    raise ValueError("NaN and infinities can't be stored; use None or a str")


_SCALARS: dict[type, Callable[[Any], str]] = {
    str: _write_str,
    int: _write_int,
    float: _write_float,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}

#: Foreign types are recognised by an attribute, so that they need not be imported.
_ADVICE_BY_ATTRIBUTE = {
    "model_dump": "value.model_dump()",  # pydantic
    "__dataclass_fields__": "dataclasses.asdict(value)",
    "__attrs_attrs__": "attrs.asdict(value)",
    "to_dict": "value.to_dict()",  # of an EtcdMapping dict() would hold mappings
    "tolist": "value.tolist()",  # numpy's scalars and arrays
}

#: The first type that fits counts: an IntEnum is an Enum before it is an int.
_ADVICE: dict[type | tuple[type, ...], str] = {
    Enum: "value.value",
    (str, Decimal, UUID, os.PathLike): "str(value)",
    (bytes, bytearray, memoryview): "base64.b64encode(value).decode()",
    Mapping: "dict(value)",
    numbers.Integral: "int(value)",
    numbers.Real: "float(value) or str(value)",
    (date, time): "value.isoformat()",
    timedelta: "value.total_seconds()",
    (set, frozenset): "sorted(value)",
    Iterable: "list(value)",
    object: "a str, int, float, bool, None or a list of these",
}


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def decode_node(path: str, text: str, decode: Callable[[str], T]) -> T:
    """Decode the text of a file; any error becomes a DecodeError that names the key.

    Otherwise a KeyError of a user's codec would look like an absent key.
    """
    if type(text) is not str:
        raise InvalidResponse("a file whose value is no text")
    try:
        return decode(text)
    except Exception as error:
        why = f"the codec failed with {type(error).__name__}"
        if isinstance(error, DecodeError):
            why = str(error.args[0])
        raise DecodeError(why, key=path) from error

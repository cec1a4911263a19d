"""Mistakes that people make in the first hour: what is said, and that it helps.

Each row is a mistake, what its error says (in parts, with ... between), and what somebody
does next who has read no more than that.
"""

# ruff: noqa: E501 - a table is read by its rows

from __future__ import annotations

import base64
import dataclasses
import enum
import os
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    DirectoryGone,
    EtcdMapping,
    InvalidKey,
    KeyNotFound,
    LimitExceeded,
    ReadOnly,
)

from support.mapping_kit import MemoryKit, StoreKit

#: Done to a mapping; the second one has `escape_keys`.
Do: TypeAlias = "Callable[[Any, Any], object]"

BEFORE: dict[str, Any] = {"n": 1, "s": "x", "d": {"x": 1}}


class Colour(enum.Enum):
    """Of a user."""

    RED = "red"


class Level(enum.IntEnum):
    """Of a user; an int as well."""

    HIGH = 3


class Words(str):
    """Of a user; a str as well."""


class Count(int):
    """Of a user; an int as well."""


@dataclasses.dataclass
class Db:
    """Of a user."""

    host: str = "localhost"


class Model:
    """What a model of pydantic has."""

    def __iter__(self) -> Any:
        return iter([("host", "localhost")])

    def model_dump(self) -> dict[str, Any]:
        """Return the fields."""
        return {"host": "localhost"}


class Scalar(float):
    """What a float of numpy has."""

    def tolist(self) -> float:
        """Return the plain number."""
        return float(self)


class Array:
    """What an array of numpy has."""

    def __iter__(self) -> Any:
        return map(Scalar, [1, 2])

    def tolist(self) -> list[float]:
        """Return the plain numbers."""
        return [1.0, 2.0]


def nested(levels: int) -> list[Any]:
    """Make lists within lists."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def endless() -> list[Any]:
    """Make a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def put(value: Any) -> Do:
    """Assign a document that holds a value, five levels deep."""

    def do(m: EtcdMapping, _: object) -> None:
        m["compose"] = {"services": {"web": {"deploy": {"x": value}}}}

    return do


def put_key(key: Any) -> Do:
    """Assign a document that holds a key."""
    return lambda m, _: m.assign({"services": {key: 1}})


def put_key_escaping(key: Any) -> Do:
    """Do it with `escape_keys`."""
    return lambda _, e: e.assign({"services": {key: 1}})


DEEP = "{p}/compose/services/web/deploy/x"

#: Value, class, what is said after the path, what to store instead.
VALUES: list[tuple[str, Any, type[Exception], str, Callable[[Any], Any]]] = [
    ("date", date(2024, 1, 1), TypeError, "datetime.date can't be stored; use value.isoformat()", date.isoformat),
    ("datetime", datetime(2024, 1, 1), TypeError, "use value.isoformat()", datetime.isoformat),
    ("time", time(1, 2), TypeError, "use value.isoformat()", time.isoformat),
    ("timedelta", timedelta(1), TypeError, "use value.total_seconds()", timedelta.total_seconds),
    ("set", {1, 2}, TypeError, "set can't be stored; use sorted(value)", sorted),
    ("frozenset", frozenset("ab"), TypeError, "use sorted(value)", sorted),
    ("tuple", (1, 2), TypeError, "tuple can't be stored; use list(value)", list),
    ("deque", deque([1]), TypeError, "use list(value)", list),
    ("range", range(3), TypeError, "use list(value)", list),
    ("generator", iter([1]), TypeError, "use list(value)", list),
    ("dict-keys", {"a": 1}.keys(), TypeError, "use list(value)", list),
    ("bytes", b"\x89", TypeError, "use base64.b64encode(value).decode()", lambda v: base64.b64encode(v).decode()),
    ("bytearray", bytearray(b"a"), TypeError, "use base64", lambda v: base64.b64encode(v).decode()),
    ("decimal", Decimal("1.5"), TypeError, "use str(value)", str),
    ("uuid", uuid.UUID(int=1), TypeError, "use str(value)", str),
    ("path", PurePosixPath("/a"), TypeError, "use str(value)", str),
    ("enum", Colour.RED, TypeError, "use value.value", lambda v: v.value),
    ("int-enum", Level.HIGH, TypeError, "use value.value", lambda v: v.value),
    ("str-subclass", Words("a"), TypeError, "use str(value)", str),
    ("int-subclass", Count(1), TypeError, "use int(value)", int),
    ("fraction", Fraction(1, 3), TypeError, "use float(value) or str(value)", float),
    ("complex", 1j, TypeError, "use a str, int, float", str),
    ("object", SimpleNamespace(a=1), TypeError, "SimpleNamespace can't be stored; use a str", lambda v: v.a),
    ("nan", float("nan"), ValueError, "use None or a str", lambda _: None),
    ("infinity", float("inf"), ValueError, "use None or a str", str),
    ("huge-int", 10**5000, ValueError, "use hex(value)", hex),
    ("surrogate", "a\ud800", ValueError, "no UTF-8 form; replace it", lambda v: v.encode(errors="replace").decode()),
    ("deep-lists", nested(101), ValueError, "use more keys", lambda v: {"more": v[0]}),
    ("endless-list", endless(), ValueError, "or contain themselves; use more keys", lambda _: []),
    ("oversize", "x" * 11_000_000, LimitExceeded, "a ", lambda v: v[:1000]),
    ("dataclass", Db(), TypeError, "use dataclasses.asdict(value)", dataclasses.asdict),
    ("model", Model(), TypeError, "use value.model_dump()", Model.model_dump),
    ("numpy-scalar", Scalar(1), TypeError, "use value.tolist()", Scalar.tolist),
    ("numpy-array", Array(), TypeError, "use value.tolist()", Array.tolist),
]  # fmt: skip

#: Key, class, what is said, what to use instead; None for `escape_keys`.
KEYS: list[tuple[str, Any, type[Exception], str, Any]] = [
    ("int", 8080, TypeError, "{p}/services/8080: keys are str, not int; use str(key)", "8080"),
    ("bool", True, TypeError, "{p}/services/True: keys are str, not bool", "True"),
    ("none", None, TypeError, "{p}/services/None: keys are str, not NoneType", "None"),
    ("float", 1.5, TypeError, "{p}/services/1.5: keys are str, not float", "1.5"),
    ("bytes", b"a", TypeError, "{p}/services/b'a': keys are str, not bytes; use key.decode()", "a"),
    ("tuple", ("a", 1), TypeError, "{p}/services/(tuple): keys are str, not tuple", "a 1"),
    ("date", date(2024, 1, 1), TypeError, "keys are str, not date; use str(key)", "2024-01-01"),
    ("hidden", "_comment", InvalidKey, "{p}/services/_comment: can't be a key: ", None),
    ("empty", "", InvalidKey, "{p}/services/: can't be a key: it is empty", None),
    ("leading-slash", "/pets", InvalidKey, "{p}/services//pets: can't be a key: ", None),
    ("trailing-slash", "pets/", InvalidKey, "or has an empty segment", None),
    ("dot", ".", InvalidKey, "{p}/services/.: can't be a key: '.' and '..'", None),
    ("dots", "..", InvalidKey, "{p}/services/..: can't be a key: '.' and '..'", None),
    ("relative", "./package.json", InvalidKey, "'.' and '..' are not names", None),
    ("slash", "text/html", InvalidKey, "{p}/services/text/html: can't be a key: ", None),
    ("tab", "a\tb", InvalidKey, r"{p}/services/a\tb: can't be a key: it holds a control", None),
    ("newline", "a\n", InvalidKey, "it holds a control character", None),
    ("unreadable", "a\ufffd", InvalidKey, "U+FFFD stands for bytes", None),
    ("surrogate", "a\ud800", InvalidKey, "it holds a lone surrogate", "a"),
    ("long", "x" * 1_000_001, LimitExceeded, "the limit is 1000000", "x"),
]  # fmt: skip

CALLS: list[tuple[str, Do, type[Exception], str, Do]] = [
    ("several", lambda m, _: m.assign({"a": (1,), "b": {2}}), TypeError, "2 keys or values can't be stored; nothing was written\n  {p}/a: ", lambda m, _: m.assign({"a": [1], "b": [2]})),
    ("in-a-list", lambda m, _: m.update(l=[1, {"a": [date(2024, 1, 1)]}]), TypeError, "{p}/l[1]/a[0]: datetime.date", lambda m, _: m.update(l=[1, {"a": ["2024-01-01"]}])),
    ("key-in-a-list", lambda m, _: m.update(l=[{1: 2}]), TypeError, "{p}/l[0]/1: keys are str, not int; use str(key)", lambda m, _: m.update(l=[{"1": 2}])),
    ("mapping-in-a-list", lambda m, _: m.update(l=[m["d"]]), TypeError, "{p}/l[0]: etcdmap.mapping.mapping.EtcdMapping can't be stored; use value.to_dict()", lambda m, _: m.update(l=[m["d"].to_dict()])),
    ("flat-in-a-list", lambda m, _: m.update(l=[m.flat]), TypeError, "use value.to_dict()", lambda m, _: m.update(l=[m.flat.to_dict()])),
    ("ordered-in-a-list", lambda m, _: m.update(l=[OrderedDict(a=1)]), TypeError, "{p}/l[0]: collections.OrderedDict can't be stored; use dict(value)", lambda m, _: m.update(l=[dict(OrderedDict(a=1))])),
    ("environ-in-a-list", lambda m, _: m.update(l=[os.environ]), TypeError, "use dict(value)", lambda m, _: m.update(l=[dict(os.environ)])),
    ("gone", lambda m, _: m.update(a=m.sub("gone")), DirectoryGone, "{p}/a: ", lambda m, _: m.update(a=m.sub("gone").to_dict())),
    ("key-below-a-key", lambda m, _: m.update({"a/b": 1, "a": {}}), InvalidKey, "{p}/a/b: it lies below '{p}/a': nest them instead", lambda m, _: m.update({"a": {"b": 1}})),
    ("set-int-key", lambda m, _: m.__setitem__(1, 2), TypeError, "{p}/1: keys are str, not int", lambda m, _: m.__setitem__("1", 2)),
    ("sub-int-key", lambda m, _: m.sub(1), TypeError, "{p}/1: keys are str, not int", lambda m, _: m.sub("1")),
    ("mkdir-of-nothing", lambda m, _: m.mkdir(""), InvalidKey, "{p}/: can't be a key: it is empty", lambda _, e: e.mkdir("")),
    ("absolute-key", lambda m, _: m.__setitem__("/a", 1), InvalidKey, "{p}//a: can't be a key: ", lambda m, _: m.__setitem__("a", 1)),
    ("flat-mapping", lambda m, _: m.flat.update(a={"b": 1}), TypeError, "{p}/a: a flat view holds values only; name the paths", lambda m, _: m.flat.update({"a/b": 1})),
    ("flat-overlap", lambda m, _: m.flat.update({"a": 1, "a/b": 1}), InvalidKey, "{p}/a/b: it lies below '{p}/a', which is a value", lambda m, _: m.flat.update({"a/b": 1})),
    ("text-codec", lambda m, _: m.using(codec="text").update(a=1), TypeError, "{p}/a: the codec 'text' can't store int; use str(value)", lambda m, _: m.using(codec="text").update(a="1")),
    ("append-mapping", lambda m, _: m.append({"a": 1}), TypeError, "{p}: a dict is stored as a directory; assign it to a key", lambda m, _: m.__setitem__("new", {"a": 1})),
    ("append-tuple", lambda m, _: m.append((1,)), TypeError, "{p}: tuple can't be stored", lambda m, _: m.append([1])),
    ("transform-to-set", lambda m, _: m.transform("n", lambda n: {n}), TypeError, "{p}/n: set can't be stored; use sorted(value)", lambda m, _: m.transform("n", lambda n: [n])),
    ("swap-tuple", lambda m, _: m.compare_and_swap("n", 1, (2,)), TypeError, "{p}/n: tuple can't be stored", lambda m, _: m.compare_and_swap("n", 1, [2])),
    ("get-absent", lambda m, _: m["nope"], KeyNotFound, "{p}/nope", lambda m, _: m.get("nope")),
    ("get-int", lambda m, _: m[1], KeyNotFound, "keys are str, not int; use str(key): {p}/1", lambda m, _: m.get("1")),
    ("get-slash", lambda m, _: m["d/"], KeyNotFound, "segment ('//', or '/' at an end): {p}/d/", lambda m, _: m["d"]),
    ("get-absolute", lambda m, _: m["/d"], KeyNotFound, "or has an empty segment ('//', or '/' at an end): {p}//d", lambda m, _: m["d"]),
    ("get-dots", lambda m, _: m["d/../n"], KeyNotFound, "because '.' and '..' are not names: {p}/d/../n", lambda m, _: m["n"]),
    ("get-below-a-value", lambda m, _: m["n/x"], KeyNotFound, "a file stands on the way to this key", lambda m, _: m["n"]),
    ("del-absent", lambda m, _: m.__delitem__("nope"), KeyNotFound, "{p}/nope", lambda m, _: m.pop("nope", None)),
    ("del-int", lambda m, _: m.__delitem__(1), KeyNotFound, "keys are str, not int; use str(key): {p}/1", lambda m, _: m.pop("1", None)),
    ("pop-absent", lambda m, _: m.pop("nope"), KeyNotFound, "{p}/nope", lambda m, _: m.pop("nope", None)),
    ("popitem-empty", lambda m, _: m.sub("e").popitem(), KeyNotFound, "the mapping is empty: {p}/e", lambda m, _: m.popitem()),
    ("transform-absent", lambda m, _: m.transform("nope", str), KeyNotFound, "the key is absent, and no default= was given: {p}/nope", lambda m, _: m.transform("nope", str, default=0)),
    ("replace-absent", lambda m, _: m.replace("nope", 1), KeyNotFound, "{p}/nope", lambda m, _: m.create("nope", 1)),
    ("swap-absent", lambda m, _: m.compare_and_swap("nope", 1, 2), KeyNotFound, "{p}/nope", lambda m, _: m.create("nope", 2)),
    ("compare-and-delete-absent", lambda m, _: m.compare_and_delete("nope", 1), KeyNotFound, "{p}/nope", lambda m, _: m.pop("nope", None)),
    ("refresh-absent", lambda m, _: m.refresh("nope", 60), KeyNotFound, "{p}/nope", lambda m, _: m.set("nope", 1, ttl=60)),
    ("flat-directory", lambda m, _: m.flat["d"], KeyNotFound, "a directory is there: {p}/d", lambda m, _: m["d"]),
    ("readonly", lambda m, _: readonly(m).update(a=1), ReadOnly, "this mapping is read-only; nothing was sent", lambda m, _: m.update(a=1)),
]  # fmt: skip


def readonly(mapping: EtcdMapping) -> EtcdMapping:
    """Return the same mapping, that may not be written."""
    view = dataclasses.replace(mapping._view, readonly=True)
    return mapping.with_view(view)


MISTAKES: list[Any] = [
    *(
        pytest.param(
            put(v), error, DEEP + where + text, put_instead, id=f"value-{name}"
        )
        for name, v, error, text, use in VALUES
        for where in ["[0]..." if type(v) is list else ": ..."]
        for put_instead in [lambda m, e, v=v, use=use: put(use(v))(m, e)]
    ),
    *(
        pytest.param(
            put_key(key),
            error,
            text,
            put_key_escaping(key) if use is None else put_key(use),
            id=f"key-{name}",
        )
        for name, key, error, text, use in KEYS
    ),
    *(pytest.param(*row, id=name) for name, *row in CALLS),
]


@pytest.mark.parametrize(("mistake", "error", "text", "instead"), MISTAKES)
def test_mistake_is_told_with_what_to_do(
    kit: StoreKit, mistake: Do, error: type[Exception], text: str, instead: Do
) -> None:
    """The class, the place and the reason; nothing is written; the advice works."""
    mapping, escaping = kit.make(BEFORE), kit.make(escape_keys=True)
    with pytest.raises(error) as caught:
        mistake(mapping, escaping)
    assert type(caught.value) is error
    said = str(caught.value)
    for part in text.replace("{p}", mapping.prefix).split("..."):
        assert part in said
    assert "<object" not in said
    assert kit.stored(mapping) == BEFORE
    instead(mapping, escaping)


def test_keys_that_escape_keys_takes_are_told_so(kit: StoreKit) -> None:
    """In all rows whose advice it is."""
    mapping = kit.make()
    for name, key, _, _, use in KEYS:
        with pytest.raises((TypeError, ValueError)) as caught:
            put_key(key)(mapping, None)
        assert ("escape_keys=True" in str(caught.value)) == (use is None), name


def test_mistakes_are_many() -> None:
    """A table that was cut short would pass."""
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("library", ["numpy", "pydantic", "attrs"])
def test_advice_for_the_objects_of_libraries_helps(prefix: str, library: str) -> None:
    """The real ones have what is looked for."""
    module = pytest.importorskip(library)
    instead: dict[str, tuple[Callable[[], Any], str, Callable[[Any], Any]]] = {
        "numpy": (lambda: module.ones(2), "value.tolist()", lambda v: v.tolist()),
        "pydantic": (
            lambda: module.create_model("M", x=(int, 1))(),
            "value.model_dump()",
            lambda v: v.model_dump(),
        ),
        "attrs": (
            lambda: module.make_class("A", ["x"])(1),
            "attrs.asdict(value)",
            lambda v: module.asdict(v),
        ),
    }
    make, advice, use = instead[library]
    mapping, value = MemoryKit(prefix).make(), make()
    for stored in (value, [value]):
        with pytest.raises(TypeError) as caught:
            mapping["k"] = stored
        assert str(caught.value).endswith(f"use {advice}")
    mapping["k"] = use(value)
    mapping["l"] = [use(value)]

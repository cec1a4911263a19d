"""Make one class of several parts, so that users see only this one."""

from __future__ import annotations

import sys
from abc import ABCMeta
from collections.abc import Mapping, MutableMapping
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

from etcdmap.errors import EtcdMapError, forget_frames
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

T = TypeVar("T")
V = TypeVar("V")

#: The names that users see, in this order: the operators of a dict, then the other
#: names in the order of docs/reference/api.md, with those of a live mapping in between.
READING_ORDER = (
    *("__getitem__", "__setitem__", "__contains__", "__len__", "__iter__"),
    *("__delitem__", "__reversed__", "__eq__", "__or__", "__ror__", "__ior__"),
    *("get", "ttl"),
    *("set", "pop", "popitem", "setdefault", "refresh"),
    *("create", "replace", "compare_and_swap", "compare_and_delete", "transform"),
    *("append", "keys", "values", "items", "to_dict", "copy", "snapshot", "view"),
    *("index", "wait", "state", "error", "stale_for"),
    *("subscribe", "subscribe_state", "changes"),
    *("update", "merge", "assign", "clear", "mkdir", "sub", "flat", "using"),
    *("with_view", "live", "watch", "from_url", "close"),
    *("prefix", "readonly", "client", "keys_api", "cache_info", "cache_clear"),
)

#: The methods that may send requests and are wrapped by `brief`.  Left out are
#: ``m[key]``, which must be fast and handles its errors itself, ``m[key] = value``,
#: which calls `set`, and `with_view`, which is called for each directory.
_SENDING = {*READING_ORDER, "_listed_items"} - {
    *("__getitem__", "__setitem__", "with_view")
}


def joined(cls: type[T]) -> type[T]:
    """Return a new class that defines itself what a class and its bases define.

    The code of a mapping is spread over several classes, one in each file.  Without
    this, `help`, reprs and Python's own errors would show the names of these classes:
    "Base.pop() missing 1 required ...".
    """
    parts = [part for part in cls.__mro__ if part.__module__.startswith("etcdmap.")]
    body: dict[str, Any] = {}
    for part in reversed(parts):
        body |= {name: _of(cls, value) for name, value in _written(part)}
    body |= {name: vars(cls)[name] for name in ("__module__", "__doc__")}
    body["_fields"] = _Fields()
    kind: Any = Mapping
    if issubclass(cls, MutableMapping):  # other classes send nothing
        kind = MutableMapping
        body |= {name: brief(body[name]) for name in _SENDING & body.keys()}
    one: Any = ABCMeta(cls.__name__, (kind,), body)
    for part in parts[1:]:
        if isinstance(part, ABCMeta):  # so that `isinstance` still accepts the parts
            part.register(one)
    return cast("type[T]", one)


def _written(part: type) -> list[tuple[str, Any]]:
    """Return the names in the body of a class, without those that Python adds."""
    return [
        (name, value)
        for name, value in vars(part).items()
        if isinstance(value, FunctionType | classmethod | property)
        or not name.startswith(("__", "_abc_"))
    ]


def _of(cls: type, value: Any) -> Any:
    """Return a copy of a method or property that names the class as its own."""
    if isinstance(value, classmethod):
        return classmethod(_of(cls, value.__func__))
    if isinstance(value, property):
        return property(_of(cls, value.fget))
    if not isinstance(value, FunctionType):
        return value
    copy = FunctionType(
        value.__code__,
        value.__globals__,
        value.__name__,
        value.__defaults__,
        value.__closure__,
    )
    copy.__dict__.update(value.__dict__)  # marks, `__wrapped__`
    copy.__kwdefaults__ = value.__kwdefaults__
    copy.__annotations__ = value.__annotations__
    copy.__qualname__ = f"{cls.__qualname__}.{value.__name__}"
    return copy


class _Fields:
    """An attribute that only `pydoc.sort_attributes` can find.

    `help` sorts by `_fields` if a class has it, and by the alphabet otherwise.  Nobody
    else may find it: `pydoc.visiblename` would then show private names as well, and
    other programs might take the class for a named tuple.
    """

    def __get__(self, instance: object, owner: type) -> tuple[str, ...]:
        if sys._getframe(1).f_code.co_name != "sort_attributes":
            raise AttributeError("_fields")
        return READING_ORDER


def brief(value: V) -> V:
    """Wrap a method so that the traceback of our own errors ends with its call.

    Below that call, there would be ten more frames, which tell the caller nothing: in
    IPython, the frames of an outage would fill two screens.
    """
    if not isinstance(value, FunctionType):
        return value

    @wraps(value)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return value(*args, **options)
        except EtcdMapError as error:
            _end(error)
            raise

    return cast("V", call)


def _end(error: EtcdMapError) -> None:
    """Drop all frames below the first, unless they lead to code of the caller."""
    first = frame = error.__traceback__
    while frame is not None:
        if not frame.tb_frame.f_globals["__name__"].startswith("etcdmap."):
            return
        frame = frame.tb_next
    if first is not None:
        first.tb_next = None
    if isinstance(error.__cause__, EtcdMapError):
        forget_frames(error.__cause__)

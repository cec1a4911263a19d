"""The clients that can be put under a fault.

A factory is any callable with the signature of `Factory`; ``--client`` takes
``etcdmap``, ``naive`` or ``package.module:factory``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from etcdmap import EtcdMapping
from etcdmap.errors import (
    ClusterUnavailable,
    CompareFailed,
    DeadlineExceeded,
    KeyExists,
    KeyNotFound,
    OutcomeUnknown,
    RequestFailed,
)

from support.faults.history import Level, Op, Outcome

T = TypeVar("T")


class Setup(NamedTuple):
    """What a client is made with; goes to another process."""

    endpoints: tuple[str, ...]
    prefix: str
    level: Level
    timeout: float
    username: str | None = None
    password: str | None = None
    #: Further options of the client, from the command line.
    options: tuple[tuple[str, Any], ...] = ()


class Subject(Protocol):
    """A client under test."""

    @property
    def pinned(self) -> str: ...
    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> str | None: ...
    def create(self, key: str, value: str) -> None: ...
    def cas(self, key: str, expected: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def using(self, level: Level) -> Subject: ...
    def outcome(self, op: Op, error: Exception) -> Outcome: ...
    def close(self) -> None: ...


class Factory(Protocol):
    """Makes a client for endpoints, the first of which should be used first."""

    def __call__(self, setup: Setup, /) -> Subject: ...


class EtcdMapSubject:
    """An EtcdMapping, used as its users would."""

    def __init__(self, setup: Setup, mapping: EtcdMapping | None = None) -> None:
        self._setup = setup
        self._mapping = _connect(setup) if mapping is None else mapping

    @property
    def pinned(self) -> str:
        return self._mapping.client.pinned

    def set(self, key: str, value: str) -> None:
        self._mapping[key] = value

    def get(self, key: str) -> str | None:
        # Not .get(): the counters must not depend on what that swallows.
        try:
            return str(self._mapping[key])
        except KeyError:
            return None

    def create(self, key: str, value: str) -> None:
        self._method("create")(self._name("create", key), value)

    def cas(self, key: str, expected: str, value: str) -> None:
        if hasattr(self._mapping, "compare_and_swap"):
            self._mapping.compare_and_swap(key, expected, value)
        else:
            path = self._name("compare_and_swap", key)
            self._mapping.keys_api.compare_and_swap(path, value, prev_value=expected)

    def delete(self, key: str) -> None:
        del self._mapping[key]

    def using(self, level: Level) -> EtcdMapSubject:
        if not hasattr(self._mapping, "using"):
            return self
        mapping = self._mapping.using(consistency=level)
        return EtcdMapSubject(self._setup._replace(level=level), mapping)

    def outcome(self, op: Op, error: Exception) -> Outcome:
        if isinstance(error, (KeyNotFound, KeyExists, CompareFailed)):
            return "refused"
        if isinstance(error, OutcomeUnknown):
            return "unknown"
        if isinstance(error, (ClusterUnavailable, DeadlineExceeded)):
            return "failed"
        # Not what the documentation says: anything may have happened.
        return "failed" if op.kind == "get" else "unknown"

    def close(self) -> None:
        self._mapping.close()

    def _method(self, name: str) -> Callable[..., Any]:
        """Find a method of the mapping, or what there is of it below."""
        found = getattr(self._mapping, name, None)
        method: Callable[..., Any] = found or getattr(self._mapping.keys_api, name)
        return method

    def _name(self, method: str, key: str) -> str:
        if hasattr(self._mapping, method):
            return key
        return f"{self._mapping.prefix}/{key}"


def _connect(setup: Setup) -> EtcdMapping:
    options: dict[str, Any] = {
        "codec": "text",
        "shuffle": False,
        "timeout": setup.timeout,
        "username": setup.username,
        "password": setup.password,
        **dict(setup.options),
    }
    if "consistency" in inspect.signature(EtcdMapping).parameters:
        options.setdefault("consistency", setup.level)
    return EtcdMapping(setup.endpoints, setup.prefix, **options)


def find_factory(name: str) -> Factory:
    """Find a factory by its short name, or as ``package.module:factory``.

    Raises:
        ValueError: there is none.
    """
    module, _, attribute = _SHORT.get(name, name).partition(":")
    with contextlib.suppress(ImportError, AttributeError):
        return cast(Factory, getattr(importlib.import_module(module), attribute))
    raise ValueError(f"no client {name!r}: give etcdmap, naive or module:factory")


_SHORT: Mapping[str, str] = {
    "etcdmap": "benchmarks.faults.clients:EtcdMapSubject",
    "naive": "benchmarks.faults.naive:NaiveSubject",
}

#: Errors that say what they should, where a fault leaves no other way out.
HONEST = frozenset(
    error.__name__
    for error in (OutcomeUnknown, ClusterUnavailable, DeadlineExceeded, RequestFailed)
)

"""The clients that can be put under a fault.

A factory is any callable with the signature of `Factory`; ``--client`` takes
``etcdmap``, ``naive`` or ``package.module:factory``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from benchmarks.faults.judge.history import NOT_TRIED, Level, Op, Outcome
from etcdmap import EtcdMapping
from etcdmap.errors import (
    ClusterUnavailable,
    CompareFailed,
    DeadlineExceeded,
    KeyExists,
    KeyNotFound,
    OutcomeUnknown,
    PartialWrite,
    RequestFailed,
)


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
    """A client under test.

    `put` sets a key as it is, without a look at what it replaces, where the client has
    such a call; `lease` sets one that expires.  `update` writes many keys and gives,
    for each that was not written, the error; None if it was not tried.
    """

    @property
    def pinned(self) -> str: ...
    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> str | None: ...
    def create(self, key: str, value: str) -> None: ...
    def cas(self, key: str, expected: str, value: str) -> None: ...
    def delete(self, key: str) -> None: ...
    def append(self, directory: str, value: str) -> str: ...
    def mkdir(self, key: str) -> None: ...
    def put(self, key: str, value: str) -> None: ...
    def lease(self, key: str, value: str, ttl: float) -> None: ...
    def refresh(self, key: str, ttl: float) -> None: ...
    def update(self, values: Mapping[str, str]) -> Mapping[str, Exception | None]: ...
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
        self._directories: dict[str, EtcdMapping] = {}

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
        self._mapping.create(key, value)

    def cas(self, key: str, expected: str, value: str) -> None:
        self._mapping.compare_and_swap(key, expected, value)

    def delete(self, key: str) -> None:
        del self._mapping[key]

    def append(self, directory: str, value: str) -> str:
        if directory not in self._directories:
            with contextlib.suppress(KeyExists):
                self._mapping.mkdir(directory)
            self._directories[directory] = self._mapping[directory]
        return self._directories[directory].append(value)

    def mkdir(self, key: str) -> None:
        self._mapping.mkdir(key)

    def put(self, key: str, value: str) -> None:
        self._mapping.keys_api.set(f"{self._mapping.prefix}/{key}", value)

    def lease(self, key: str, value: str, ttl: float) -> None:
        self._mapping.set(key, value, ttl=ttl)

    def refresh(self, key: str, ttl: float) -> None:
        self._mapping.refresh(key, ttl)

    def update(self, values: Mapping[str, str]) -> Mapping[str, Exception | None]:
        try:
            self._mapping.flat.update(values)
        except PartialWrite as exc:
            start = len(self._mapping.prefix) + 1
            missing: dict[str, Exception | None] = {
                path[start:]: error for path, error in exc.failed.items()
            }
            return missing | dict.fromkeys(path[start:] for path in exc.pending)
        return {}

    def using(self, level: Level) -> EtcdMapSubject:
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


def _connect(setup: Setup) -> EtcdMapping:
    options: dict[str, Any] = {
        "codec": "text",
        "shuffle": False,
        "timeout": setup.timeout,
        "username": setup.username,
        "password": setup.password,
        "consistency": setup.level,
        **dict(setup.options),
    }
    return EtcdMapping(setup.endpoints, setup.prefix, **options)


def update_one_by_one(
    subject: Subject, values: Mapping[str, str]
) -> Mapping[str, Exception | None]:
    """Write in a loop, which ends at the first error; see `Subject`."""
    waiting: dict[str, Exception | None] = dict.fromkeys(values)
    for key, value in values.items():
        try:
            subject.set(key, value)
        except Exception as exc:
            waiting[key] = exc
            break
        del waiting[key]
    return waiting


def find_factory(name: str) -> Factory:
    """Find a factory by its short name, or as ``package.module:factory``.

    Raises:
        ValueError: there is none.
    """
    module, _, attribute = _SHORT.get(name, name).partition(":")
    with contextlib.suppress(ImportError, AttributeError):
        return cast(Factory, getattr(importlib.import_module(module), attribute))
    short = ", ".join(_SHORT)
    raise ValueError(f"no client {name!r}: give module:factory, or one of {short}")


_SHORT: Mapping[str, str] = {
    "etcdmap": "benchmarks.faults.clients:EtcdMapSubject",
    "naive": "benchmarks.faults.naive:NaiveSubject",
    "python-etcd": "benchmarks.faults.python_etcd:PythonEtcdSubject",
}

#: Errors that say what they should, where a fault leaves no other way out.
HONEST = frozenset(
    error.__name__
    for error in (OutcomeUnknown, ClusterUnavailable, DeadlineExceeded, RequestFailed)
) | {NOT_TRIED, "EtcdConnectionFailed"}

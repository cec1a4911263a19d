"""python-etcd, used as its documentation says for a cluster.

A tuple of hosts and ``allow_reconnect=True``: a request that fails at one member is
sent again at the next one.  ``read_timeout`` is what every other client here has for a
call; its own default is 60 s.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

import etcd

from benchmarks.faults.clients import Setup, update_one_by_one
from benchmarks.faults.judge.history import Level, Op, Outcome

_REFUSED = (
    etcd.EtcdKeyNotFound,
    etcd.EtcdAlreadyExist,
    etcd.EtcdCompareFailed,
    etcd.EtcdNotFile,
)


class PythonEtcdSubject:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        # It logs whatever goes wrong, and what it has no handler for goes to stderr.
        logging.getLogger("etcd").addHandler(logging.NullHandler())
        logging.getLogger("urllib3").addHandler(logging.NullHandler())
        self._setup = setup
        places = [urlsplit(url) for url in setup.endpoints]
        options = {
            "read_timeout": setup.timeout,
            "username": setup.username,
            "password": setup.password,
            **dict(setup.options),
        }
        self._client = etcd.Client(
            host=tuple((place.hostname, place.port) for place in places),
            allow_reconnect=True,
            **options,
        )

    @property
    def pinned(self) -> str:
        return str(self._client.base_uri)

    def set(self, key: str, value: str) -> None:
        self._client.write(self._path(key), value)

    def get(self, key: str) -> str | None:
        quorum = self._setup.level == "linearizable"
        try:
            return str(self._client.read(self._path(key), quorum=quorum).value)
        except etcd.EtcdKeyNotFound:
            return None

    def create(self, key: str, value: str) -> None:
        self._client.write(self._path(key), value, prevExist=False)

    def cas(self, key: str, expected: str, value: str) -> None:
        self._client.write(self._path(key), value, prevValue=expected)

    def delete(self, key: str) -> None:
        self._client.delete(self._path(key))

    def append(self, directory: str, value: str) -> str:
        made = self._client.write(self._path(directory), value, append=True)
        return str(made.key).rpartition("/")[2]

    def mkdir(self, key: str) -> None:
        self._client.write(self._path(key), None, dir=True, prevExist=False)

    def put(self, key: str, value: str) -> None:
        self.set(key, value)

    def lease(self, key: str, value: str, ttl: float) -> None:
        self._client.write(self._path(key), value, ttl=round(ttl))

    def refresh(self, key: str, ttl: float) -> None:
        self._client.refresh(self._path(key), round(ttl))

    def update(self, values: Mapping[str, str]) -> Mapping[str, Exception | None]:
        return update_one_by_one(self, values)

    def using(self, level: Level) -> PythonEtcdSubject:
        return PythonEtcdSubject(self._setup._replace(level=level))

    def outcome(self, op: Op, error: Exception) -> Outcome:
        if isinstance(error, _REFUSED):
            return "refused"
        return "failed" if op.kind == "get" else "unknown"

    def close(self) -> None:
        self._client.http.clear()

    def _path(self, key: str) -> str:
        return f"{self._setup.prefix}/{key}"

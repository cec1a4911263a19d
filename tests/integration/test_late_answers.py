"""A server whose second answer comes late: after the next request has left."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapError, EtcdMapping
from etcdmap.v2.keys import KeysAPI

from support.certificates import make_certificate
from support.fault_server import FaultServer, Received, Repeat, Reply, response

ROUNDS = 200
ACTIONS = {"GET": "get", "PUT": "set", "POST": "create", "DELETE": "delete"}


class Echoes:
    """Answers each request rightly, after it has answered the one before once more.

    Attributes:
        late: how many answers came late.
    """

    def __init__(self) -> None:
        self.late = 0
        self._index = 7
        self._last: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Received) -> bytes:
        """Make what is sent for a request."""
        with self._lock:
            self._index += 1
            own = self._answer(request)
            before = self._last.get(request.connection, b"")
            self._last[request.connection] = own
            self.late += bool(before)
            return before + own

    def _answer(self, request: Received) -> bytes:
        method = request.line.partition(" ")[0]
        key = request.key.rstrip("/")
        if method == "POST":
            key = f"{key}/{self._index:020}"
        index = self._index
        node: dict[str, Any] = {"key": key, "modifiedIndex": index}
        node["createdIndex"] = index
        if method != "DELETE":
            node["value"] = value_of(key)
        payload: dict[str, Any] = {"action": ACTIONS[method], "node": node}
        if method == "DELETE":
            payload["prevNode"] = {**node, "value": value_of(key)}
        status = 201 if method in ("PUT", "POST") else 200
        return response(json.dumps(payload), status, index=index)


def value_of(key: str) -> str:
    """Tell what stands at a key."""
    return f"value of {key.rpartition('/')[2]}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a certificate for 127.0.0.1, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def echoes() -> Echoes:
    """Give what the server answers by."""
    return Echoes()


@pytest.fixture(params=["plain", "tls", "session"])
def mapping(
    request: pytest.FixtureRequest, echoes: Echoes, certificate: Path
) -> Iterator[EtcdMapping]:
    """Give a mapping over such a server, over each way to it."""
    tls = certificate if request.param == "tls" else None
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            FaultServer([Repeat(Reply(echoes))], certificate=tls)
        )
        options: dict[str, Any] = {"consistency": "any", "fence": False, "timeout": 5}
        if request.param == "session":
            session = options["session"] = stack.enter_context(requests.Session())
            session.trust_env = False
        elif tls:
            options["verify"] = str(certificate)
        yield stack.enter_context(EtcdMapping(server.url, "/app", **options))


def by_keys(mapping: EtcdMapping, key: str) -> str | None:
    """Read a key by etcd's own operation."""
    node = KeysAPI(mapping.client).get(f"/app/{key}").node
    assert node is not None
    return node.value


READS: list[Any] = [
    pytest.param(lambda m, k: m[k], id="getitem"),
    pytest.param(lambda m, k: m.using(consistency="session")[k], id="session"),
    pytest.param(lambda m, k: m.using(consistency="linearizable")[k], id="quorum"),
    pytest.param(by_keys, id="keys"),
]


@pytest.mark.parametrize("read", READS)
def test_late_answer_is_no_value_of_another_key(
    mapping: EtcdMapping, echoes: Echoes, read: Callable[[EtcdMapping, str], Any]
) -> None:
    """Of 200 reads each gives its own value, though an older answer came first."""
    wrong = [
        key
        for key in (f"k{number}" for number in range(ROUNDS))
        if read(mapping, key) != value_of(key)
    ]
    assert wrong == []
    assert echoes.late >= 20, "the server was too polite to show anything"


def test_late_answer_in_threads_is_no_value_of_another_key(
    mapping: EtcdMapping, echoes: Echoes
) -> None:
    """Connections that go from thread to thread carry nobody's answer along."""
    wrong: list[object] = []

    def read(number: int) -> None:
        for turn in range(ROUNDS // 4):
            key = f"k{number}-{turn}"
            # Who meets a late answer at each try is told so, which is no value.
            with contextlib.suppress(EtcdMapError):
                value = mapping[key]
                if value != value_of(key):
                    wrong.append((key, value))

    threads = [threading.Thread(target=read, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert wrong == []


WRITES: list[Any] = [
    pytest.param(lambda m, k: m.set(k, "x"), "PUT", id="set"),
    pytest.param(lambda m, k: m.__delitem__(k), "DELETE", id="delete"),
    pytest.param(lambda m, k: m.sub(k).append("x"), "POST", id="append"),
]


@pytest.mark.parametrize(("write", "method"), WRITES)
def test_late_answer_acknowledges_no_other_write(
    mapping: EtcdMapping,
    echoes: Echoes,
    write: Callable[[EtcdMapping, str], Any],
    method: str,
) -> None:
    """A write either got its own answer, or is told to be unknown."""
    acknowledged = told = 0
    for number in range(ROUNDS):
        try:
            write(mapping, f"k{number}")
        except EtcdMapError:
            told += 1
        else:
            acknowledged += 1
    # On a new connection nothing is late: the one after it is, and ends it.
    assert acknowledged
    assert told >= ROUNDS // 3

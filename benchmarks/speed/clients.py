"""The clients that are compared, each used as its own documentation says.

Each stands on one directory and can do the same things; names are relative to it.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import ssl
from typing import Any, Protocol
from urllib.parse import urlsplit

from etcdmap import EtcdMapping

OURS, PYTHON_ETCD, K3ETCD, RAW = "etcdmap", "python-etcd", "k3etcd", "raw socket"
#: Our other codec, on the same work.
OURS_AUTO = "etcdmap, auto"


class Subject(Protocol):
    """A client under test."""

    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: str) -> Any: ...
    def missing(self, name: str) -> None: ...
    def tree(self) -> Any: ...
    def update(self, values: dict[str, str]) -> None: ...
    def for_thread(self) -> Subject: ...
    def close(self) -> None: ...


class EtcdMap:
    """An EtcdMapping."""

    def __init__(
        self, endpoint: Any, prefix: str, ca: str | None = None, **options: Any
    ) -> None:
        if ca is not None:
            options["verify"] = ca
        self.mapping = EtcdMapping(endpoint, prefix, **{"codec": "text", **options})
        self.get = self.mapping.__getitem__
        self.set = self.mapping.__setitem__
        self.update = self.mapping.update
        self.tree = self.mapping.to_dict

    def missing(self, name: str) -> None:
        try:
            self.mapping[name]
        except KeyError:
            return
        raise AssertionError(f"{name} is there")

    def for_thread(self) -> EtcdMap:
        return self

    def close(self) -> None:
        self.mapping.close()


class PythonEtcd:
    """etcd.Client of python-etcd."""

    def __init__(self, endpoint: str, prefix: str, ca: str | None = None) -> None:
        import etcd

        parts = urlsplit(endpoint)
        self._client = etcd.Client(
            host=parts.hostname,
            port=parts.port,
            protocol=parts.scheme,
            ca_cert=ca,
            allow_reconnect=False,
        )
        self._absent = etcd.EtcdKeyNotFound
        self._prefix = prefix

    def get(self, name: str) -> Any:
        return self._client.read(f"{self._prefix}/{name}").value

    def set(self, name: str, value: str) -> Any:
        return self._client.write(f"{self._prefix}/{name}", value)

    def missing(self, name: str) -> None:
        try:
            self.get(name)
        except self._absent:
            return
        raise AssertionError(f"{name} is there")

    def tree(self) -> Any:
        found = self._client.read(self._prefix, recursive=True)
        return {leaf.key: leaf.value for leaf in found.leaves}

    def update(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self.set(name, value)

    def for_thread(self) -> PythonEtcd:
        return self

    def close(self) -> None:
        self._client.http.clear()


class K3Etcd(PythonEtcd):
    """k3etcd.Client, whose methods are those of python-etcd."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        import k3etcd

        parts = urlsplit(endpoint)
        self._client = k3etcd.Client(
            host=parts.hostname, port=parts.port, allow_reconnect=False
        )
        self._absent = k3etcd.EcodeKeyNotFound
        self._prefix = prefix

    def close(self) -> None:
        pass


class Raw:
    """A socket: bytes out, bytes in, nothing understood but where an answer ends."""

    def __init__(self, endpoint: str, prefix: str, ca: str | None = None) -> None:
        self._settings = (endpoint, prefix, ca)
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        assert parts.port is not None
        self._sock = socket.create_connection((parts.hostname, parts.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca is not None:
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["http/1.1"])
            self._sock = context.wrap_socket(self._sock, server_hostname=parts.hostname)
        self._target = f"/v2/keys{prefix}/"
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\n"

    def get(self, name: str) -> bytes:
        return self._exchange(f"GET {self._target}{name}{self._head}\r\n")

    def set(self, name: str, value: str) -> bytes:
        return self._exchange(
            f"PUT {self._target}{name}?noValueOnSuccess=true{self._head}"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(value) + 6}\r\n\r\nvalue={value}"
        )

    def missing(self, name: str) -> None:
        assert self.get(name).startswith(b"HTTP/1.1 404")

    def tree(self) -> bytes:
        return self.get("?recursive=true")

    def update(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self.set(name, value)

    def _exchange(self, payload: str) -> bytes:
        self._sock.sendall(payload.encode())
        data = self._sock.recv(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        _, _, length = head.partition(b"\r\nContent-Length: ")
        if not length:
            return data + self._until(b"\r\n0\r\n\r\n", data[-7:])
        left = int(length.partition(b"\r\n")[0]) - len(rest)
        while left > 0:
            more = self._sock.recv(65536)
            left -= len(more)
            data += more
        return data

    def _until(self, end: bytes, last: bytes) -> bytes:
        parts = []
        while not last.endswith(end):
            parts.append(self._sock.recv(1 << 20))
            last = (last + parts[-1])[-7:]
        return b"".join(parts)

    def for_thread(self) -> Raw:
        return Raw(*self._settings)

    def close(self) -> None:
        self._sock.close()


def store_counts(endpoint: str) -> dict[str, int]:
    """Ask etcd what it has done so far."""
    raw = Raw(endpoint, "")
    raw._target = "/v2/stats/store"
    try:
        body = raw.get("").partition(b"\r\n\r\n")[2]
    finally:
        raw.close()
    counts: dict[str, int] = json.loads(body)
    return counts


def subjects(endpoint: str, prefix: str, ca: str | None = None) -> dict[str, Subject]:
    """Connect every client that is installed."""
    found: dict[str, Subject] = {OURS: EtcdMap(endpoint, prefix, ca)}
    if importlib.util.find_spec("etcd") is not None:
        found[PYTHON_ETCD] = PythonEtcd(endpoint, prefix, ca)
    # Over https it shakes hands for every request and takes 40 ms for a write.
    if ca is None and importlib.util.find_spec("k3etcd") is not None:
        found[K3ETCD] = K3Etcd(endpoint, prefix)
    found[RAW] = Raw(endpoint, prefix, ca)
    return found

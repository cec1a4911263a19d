"""Our sockets as a Transport Adapter of requests.

::

    session = requests.Session()
    session.mount("http://10.0.0.1:2379", WireAdapter())
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Mapping
from email.message import Message
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPResponse
from urllib3._collections import HTTPHeaderDict

from etcdmap.errors import EtcdMapError, ExchangeFailed
from etcdmap.transport.head import field_lines, reason_of, spell_start
from etcdmap.transport.http1 import Reader
from etcdmap.transport.protocol import DEFAULT_MAX_RESPONSE
from etcdmap.transport.tls import Cert, Verify
from etcdmap.transport.wire import Wire

#: Sets of connections, one for each way to connect that requests ask for.
_MOST_SETTINGS = 16

Timeout = float | tuple[float | None, float | None] | None


class WireAdapter(BaseAdapter):
    """Sends the plain requests of a session over sockets of our own.

    Faster than requests' own adapter by what `etcdmap.transport.wire` leaves
    out.  The answer is read whole, also with ``stream=True``, and the timeout
    bounds the exchange as a whole.  A proxy, or a body that is a file or a
    generator, goes through requests' own adapter.

    Args:
        max_response: limit for the body of an answer, bytes.
    """

    def __init__(self, *, max_response: int = DEFAULT_MAX_RESPONSE) -> None:
        super().__init__()
        self._max_response = max_response
        self._stock = HTTPAdapter()
        self._wires: dict[tuple[Any, ...], Wire] = {}
        self._lock = threading.Lock()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Timeout = None,
        verify: Verify = True,
        cert: Cert = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, as `requests.adapters.BaseAdapter.send` documents it.

        Raises:
            requests.RequestException: the kind that requests' own adapter has.
        """
        url = request.url or ""
        if select_proxy(url, dict(proxies or {})) or not _is_plain(request.body):
            return self._stock.send(
                request,
                stream,
                timeout=timeout,
                verify=verify,
                cert=cert,
                proxies=dict(proxies or {}),
            )
        connect, total = _seconds(timeout)
        try:
            reader = self._exchange(request, connect, total, verify, cert)
        except EtcdMapError as error:
            raise _as_requests(error)(str(error), request=request) from error
        return self._stock.build_response(request, _raw(request, reader))

    def close(self) -> None:
        """Close the connections; they open again on demand, as in requests."""
        self._stock.close()
        with self._lock:
            wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._max_response)

    def _exchange(
        self,
        request: requests.PreparedRequest,
        connect: float,
        total: float,
        verify: Verify,
        cert: Cert,
    ) -> Reader:
        url, method = request.url or "", request.method or "GET"
        scheme, _, rest = url.partition("://")
        authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
        wire = self._wire(connect, verify, cert)
        pool = wire.pool(f"{scheme.lower()}://{authority.rpartition('@')[2]}")
        payload = _spell(method, pool.authority, request)
        return wire.exchange(pool, method, payload, total)

    def _wire(self, connect: float, verify: Verify, cert: Cert) -> Wire:
        key = (connect, verify, tuple(cert) if isinstance(cert, list) else cert)
        with self._lock:
            wire = self._wires.pop(key, None)
            if wire is None:
                wire = Wire(
                    connect_timeout=connect,
                    verify=verify,
                    cert=cert,
                    max_response=self._max_response,
                )
            self._wires[key] = wire  # the last one, as the one last used
            if len(self._wires) > _MOST_SETTINGS:
                self._wires.pop(next(iter(self._wires))).close()
            return wire


def _rebuild(kind: type[WireAdapter], max_response: int) -> WireAdapter:
    return kind(max_response=max_response)


def _is_plain(body: Any) -> bool:
    return body is None or isinstance(body, (bytes, str))


def _seconds(timeout: Timeout) -> tuple[float, float]:
    """Give the limits for connecting and for the exchange as a whole."""
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    connect = math.inf if connect is None else connect
    return connect, math.inf if read is None else connect + read


def _spell(method: str, authority: str, request: requests.PreparedRequest) -> bytes:
    lines = [spell_start(method, request.path_url)]
    if "Host" not in request.headers:
        lines.append(f"Host: {authority}\r\n")
    for name, value in request.headers.items():
        # requests has checked them; it allows bytes.
        lines.append(f"{_text(name)}: {_text(value)}\r\n")
    body: Any = request.body or b""
    head = "".join([*lines, "\r\n"]).encode("latin-1")
    return head + (body.encode() if isinstance(body, str) else body)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Original:
    """What requests looks for cookies in."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self.msg = Message()
        for name, value in lines:
            self.msg.add_header(name, value)

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _raw(request: requests.PreparedRequest, reader: Reader) -> HTTPResponse:
    lines = field_lines(reader.head)
    headers = HTTPHeaderDict()
    for name, value in lines:
        headers.add(name, value)
    return HTTPResponse(
        body=io.BytesIO(reader.body()),
        headers=headers,
        status=reader.status,
        version=11,
        reason=reason_of(reader.head),
        preload_content=False,
        decode_content=False,
        original_response=_Original(lines),  # type: ignore[arg-type]
        request_method=request.method,
    )


def _as_requests(error: EtcdMapError) -> type[requests.RequestException]:
    if not isinstance(error, ExchangeFailed):
        return requests.ConnectionError
    if error.timed_out:
        return requests.ReadTimeout if error.sent else requests.ConnectTimeout
    if error.lasting:  # requests has checked the URL: what is left is TLS
        return requests.exceptions.SSLError
    return requests.ConnectionError

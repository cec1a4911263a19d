"""The transport on requests' own path, for what a `requests.Session` can be given.

* No redirects, no cookies, and no proxies or netrc from the environment, unless
  the caller's session says so.
* It can only block, so `wrapped` gives each exchange a thread.  That bounds it,
  too: http.client's timeouts are per packet, so a server that sends a byte now and
  then within a head would never meet the deadline.
"""

from __future__ import annotations

import http.client
import ssl
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import requests
import urllib3.exceptions
from requests.adapters import BaseAdapter, HTTPAdapter

from etcdmap import forking
from etcdmap.errors import EtcdMapError, ExchangeFailed, InvalidResponse
from etcdmap.transport import failures
from etcdmap.transport.head import standing_fields
from etcdmap.transport.protocol import (
    DEFAULT_MAX_RESPONSE,
    Answer,
    Opening,
    Request,
)

_CHUNK = 64 * 1024
#: Seconds; sockets take no infinity, and no more than some hundred years.
_LONGEST = 365 * 86400.0


class RequestsTransport:
    """A `BlockingTransport` on a `requests.Session`.

    Args:
        session: the caller's, used as it is: its proxies, hooks, adapters, auth and
            TLS settings apply; it is not closed here.
        connect_timeout: seconds to wait for a connection.
        username: for HTTP basic auth.
        password: goes with it.
        max_response: limit for an answer, bytes.
        opening: what is sent before a target that is too long to come first.
        tls: what the session says itself.
    """

    def __init__(
        self,
        *,
        session: requests.Session,
        connect_timeout: float = 1.0,
        username: str | None = None,
        password: str | None = None,
        max_response: int = DEFAULT_MAX_RESPONSE,
        opening: Opening | None = None,
        **tls: Any,
    ) -> None:
        self._session = session
        self._connect_timeout = connect_timeout
        self._max_response = max_response
        self._opening = opening
        self._headers = standing_fields(username, password)
        self._closed = False
        forking.register(self)

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        if self._closed:
            raise failures.client_closed()
        deadline = time.monotonic() + timeout
        answered = False
        try:
            opening = self._opening
            if opening is not None and len(request.target) > opening.longest:
                with self._send(endpoint, opening.request, timeout) as response:
                    # Read to its end, or the connection would be closed with it.
                    self._body(response, endpoint, deadline)
                timeout = max(deadline - time.monotonic(), 0.001)
            response = self._send(endpoint, request, timeout)
            answered = True
            with response:
                _check_length(response, endpoint)
                body = self._body(response, endpoint, deadline)
        except (EtcdMapError, Warning):  # warnings may be made errors
            raise
        except Exception as error:  # a session may run hooks and auth of any kind
            retried = _retries(_adapter(self._session, endpoint))
            raise of_requests(
                error, timeout, answered=answered, retried=retried
            ) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, body, endpoint)

    def distrust(self, endpoint: str) -> None:
        """Use none of the connections again; closes what is idle to others as well.

        requests' adapters as they come close their idle connections, and open
        others on demand; what others do is theirs.
        """
        adapter = _adapter(self._session, endpoint)
        if type(adapter) is HTTPAdapter and not (
            # Who waits for a connection of a closed pool waits for ever, and
            # who sends again finds it closed.
            adapter._pool_block or _retries(adapter)
        ):
            adapter.close()

    def close(self) -> None:
        """Use the session no more."""
        self._closed = True

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent goes on with the old ones."""
        for adapter in self._session.adapters.values():
            # As when it is unpickled: with new pools.  To close the old ones would
            # take their locks, which a thread that is not here may hold.
            if isinstance(adapter, HTTPAdapter):
                adapter.__setstate__(adapter.__getstate__())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transport holds connections and credentials: not to pickle")

    # --- one exchange

    def _send(
        self, endpoint: str, request: Request, timeout: float
    ) -> requests.Response:
        prepared = self._prepare(endpoint, request)
        settings: dict[str, Any] = {
            **self._session.merge_environment_settings(
                endpoint + request.target, {}, True, None, None
            ),
            "stream": True,
            "allow_redirects": False,
            "timeout": (min(self._connect_timeout, timeout), min(timeout, _LONGEST)),
        }
        location: str | None = None

        def hide(response: requests.Response, *_: Any, **__: Any) -> None:
            # `Session.send` would look into a redirect that it must not follow: read
            # its body, without any limit, and fail where it leads to what is no URL.
            nonlocal location
            location = response.headers.pop("Location", None)

        prepared.hooks["response"].append(hide)
        response = self._session.send(prepared, **settings)
        if location is not None:
            response.headers["Location"] = location
        return response

    def _prepare(self, endpoint: str, request: Request) -> requests.PreparedRequest:
        headers = dict(self._headers)
        if request.body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = endpoint + request.target
        prepared = self._session.prepare_request(
            requests.Request(request.method, url, headers, data=request.body)
        )
        prepared.url = url  # it is spelt as it must be, and was quoted anew
        return prepared

    def _body(
        self, response: requests.Response, endpoint: str, deadline: float
    ) -> bytes:
        chunks = []
        size = 0
        for chunk in _chunks(response):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_response:
                raise failures.too_large(
                    endpoint, response.status_code, self._max_response
                )
            # The socket's timeout is per packet: a slow drip never meets it.
            if time.monotonic() > deadline:
                raise ExchangeFailed(
                    "the answer did not end in time", sent=True, timed_out=True
                )
        return b"".join(chunks)


def _retries(adapter: BaseAdapter | None) -> bool:
    """Tell whether an adapter may send a request again by itself."""
    retry = getattr(adapter, "max_retries", None)
    return retry is not None and getattr(retry, "total", 1) != 0


def _adapter(session: requests.Session, endpoint: str) -> BaseAdapter | None:
    try:
        return session.get_adapter(endpoint)
    except requests.RequestException:  # there is none
        return None


def _check_length(response: requests.Response, endpoint: str) -> None:
    """Refuse a length that is no number: http.client would read to the end."""
    length = response.headers.get("Content-Length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise InvalidResponse(
            f"{endpoint} answered with a Content-Length that is no number",
            endpoint=endpoint,
            status=response.status_code,
        )


def _chunks(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    # read1 gives what has arrived; read would wait for a whole chunk.
    read = getattr(raw, "read1", None) or raw.read
    while chunk := read(_CHUNK):
        yield chunk


# --- what went wrong ---------------------------------------------------------------


def of_requests(
    error: Exception, timeout: float, *, answered: bool = False, retried: bool = False
) -> ExchangeFailed:
    """Tell what an exception of requests or urllib3 means for the request.

    requests wraps "never connected" and "died after sending" in the same
    ConnectionError; only the wrapped reason tells them apart.

    Args:
        error: what was raised.
        timeout: seconds that the exchange had.
        answered: whether an answer had begun.
        retried: whether it may have been sent before it failed to be sent.
    """
    chain = list(_chain(error))
    if not answered:
        lasting = _lasting(error, chain)
        if lasting is not None:
            return ExchangeFailed(lasting, sent=False, lasting=True)
    sent = answered or retried or not any(map(_was_before_sending, chain))
    if any(map(_is_timeout, chain)):
        return failures.timed_out(timeout, sent=sent)
    cut_off = isinstance(chain[-1], http.client.IncompleteRead)
    what = "the answer was cut off" if cut_off else failures.cause_of(chain[-1])
    return ExchangeFailed(what, sent=sent)


def _lasting(error: Exception, chain: list[BaseException]) -> str | None:
    """Tell what no second try would change, if that is the cause."""
    for inner in reversed(chain):
        if _is_certificate_error(inner):
            return f"TLS certificate refused: {failures.cause_of(inner)}"
    if isinstance(error, _NO_URL):
        return f"not a usable URL: {error}"
    if type(error) is OSError and error.errno is None:
        return str(error)  # requests' own, about a file of verify or cert
    return None


_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,  # to a proxy, too
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ClosedPoolError,  # by another thread, before it got one
)
_NO_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


def _was_before_sending(error: BaseException) -> bool:
    if isinstance(error, _NEVER_SENT):
        return True
    # A failed handshake and a refused CONNECT have no exceptions of their own.
    handshake = ssl.SSLContext.wrap_socket.__code__
    return any(
        frame.f_code is handshake or frame.f_code.co_name == "_tunnel"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_timeout(error: BaseException) -> bool:
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return False  # a ConnectTimeoutError by name only: it is also "refused"
    return isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk to the innermost exception, through both ways of wrapping one."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = [getattr(current, "reason", None), *current.args]
        wrapped = next((e for e in inner if isinstance(e, BaseException)), None)
        current = wrapped or current.__cause__ or current.__context__


def _is_certificate_error(error: BaseException) -> bool:
    return "certificate verify failed" in str(error).lower() and isinstance(
        error, OSError
    )

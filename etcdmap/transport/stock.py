"""Exchanges with ONE endpoint: send a request, read its answer, or say why not.

The only module that imports requests.  What it promises the client above:

* An exchange ends by its timeout, with an `Answer` or with `ExchangeFailed`,
  which tells whether the server may have seen the request.  No other exception
  of requests or urllib3 gets out.
* Nothing is followed, retried or unpacked here: no redirects, no cookies, no
  proxies or netrc from the environment.
* It is shared by threads: each exchange borrows a session from a LIFO pool, so
  there are as many sockets as there are requests at the same time.  (requests
  documents no thread contract for one Session.)
* A forked child starts with an empty pool: two processes that read from one
  socket would get each other's answers.
"""

from __future__ import annotations

import base64
import http.client
import os
import time
import weakref
from collections import deque
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import requests
import urllib3.exceptions
from requests.structures import CaseInsensitiveDict

from etcdmap.errors import ClientClosed, ExchangeFailed, InvalidResponse
from etcdmap.models import Answer, Request
from etcdmap.transport.protocol import DEFAULT_MAX_RESPONSE

_CHUNK = 64 * 1024

try:
    _USER_AGENT = f"etcdmap/{version('etcdmap')}"
except PackageNotFoundError:  # run from a checkout that is not installed
    _USER_AGENT = "etcdmap"


class RequestsTransport:
    """A `Transport` on requests.

    Args:
        connect_timeout: seconds to wait for a connection.
        username: for HTTP basic auth, which is what v2 auth uses.
        password: goes with it.
        verify: whether to verify TLS certificates, or the path of a CA bundle.
        cert: path of a client certificate, or a pair (certificate, key).
        session: a session of the caller's, used as it is: its proxies, hooks,
            adapters, auth and TLS settings apply; it is not closed here.
        max_response: limit for an answer, bytes.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 1.0,
        username: str | None = None,
        password: str | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        session: requests.Session | None = None,
        max_response: int = DEFAULT_MAX_RESPONSE,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._max_response = max_response
        self._theirs = session
        self._verify = verify
        self._cert = cert
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": _USER_AGENT,
        }
        if username is not None:
            self._headers["Authorization"] = _basic_auth(username, password or "")
        self._idle: deque[requests.Session] = deque()
        self._closed = False
        _transports.add(self)

    def exchange(self, endpoint: str, request: Request[Any], timeout: float) -> Answer:
        """See `Transport.exchange`."""
        if self._closed:
            raise ClientClosed("this client was closed; make a new mapping or client")
        deadline = time.monotonic() + timeout
        session = self._borrow()
        try:
            response = self._send(session, endpoint, request, timeout)
            with response:
                body = self._body(response, endpoint, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _failure(error, timeout) from error
        except OSError as error:
            raise ExchangeFailed(_cause_of(error), sent=True) from error
        finally:
            self._give_back(session)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, body, endpoint)

    def close(self) -> None:
        """Close the idle sessions now, and those in use when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # --- sessions

    def _borrow(self) -> requests.Session:
        if self._theirs is not None:
            return self._theirs
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_session()

    def _give_back(self, session: requests.Session) -> None:
        if session is self._theirs:
            return
        self._idle.append(session)
        # close() may have run since; then nobody else would close this one.
        if self._closed:
            self.close()

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # Without this, proxy variables and ~/.netrc reach requests to etcd.
        session.trust_env = False
        session.verify = self._verify
        session.cert = self._cert
        return session

    def forget_sockets(self) -> None:
        """Start anew in a forked child: the parent goes on with the old ones."""
        self._idle = deque()
        if self._theirs is not None:
            self._theirs.close()  # in this process only; it reopens on demand

    # --- one exchange

    def _send(
        self,
        session: requests.Session,
        endpoint: str,
        request: Request[Any],
        timeout: float,
    ) -> requests.Response:
        settings: dict[str, Any] = {"proxies": {}}
        prepared = self._prepare(endpoint, request)
        if session is self._theirs:
            prepared = self._prepare_theirs(session, prepared)
            settings = dict(
                session.merge_environment_settings(
                    endpoint + request.target, {}, True, None, None
                )
            )
        settings.update(
            stream=True,
            allow_redirects=False,
            timeout=(min(self._connect_timeout, timeout), timeout),
        )
        return session.send(prepared, **settings)

    def _prepare(
        self, endpoint: str, request: Request[Any]
    ) -> requests.PreparedRequest:
        # Filled in by hand: prepare() would parse and re-quote the URL, which
        # is spelt as it must be, and costs more than the exchange.
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = endpoint + request.target
        prepared.headers = CaseInsensitiveDict(self._headers)
        prepared.hooks = {"response": []}
        prepared.body = request.body
        if request.body is not None:
            prepared.headers["Content-Type"] = "application/x-www-form-urlencoded"
            prepared.headers["Content-Length"] = str(len(request.body))
        return prepared

    def _prepare_theirs(
        self, session: requests.Session, ours: requests.PreparedRequest
    ) -> requests.PreparedRequest:
        prepared = session.prepare_request(
            requests.Request(ours.method, ours.url, dict(ours.headers), data=ours.body)
        )
        prepared.url = ours.url
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
                raise InvalidResponse(
                    f"{endpoint} answered with more than {self._max_response} bytes; "
                    "raise max_response if the directory is really that large",
                    endpoint=endpoint,
                    status=response.status_code,
                )
            # The socket's timeout is per packet: a slow drip never meets it.
            if time.monotonic() > deadline:
                raise ExchangeFailed(
                    "the answer did not end in time", sent=True, timed_out=True
                )
        return b"".join(chunks)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    # read1 gives what has arrived; read would wait for a whole chunk.
    read = getattr(raw, "read1", None) or raw.read
    while chunk := read(_CHUNK):
        yield chunk


def _basic_auth(username: str, password: str) -> str:
    pair = base64.b64encode(f"{username}:{password}".encode())
    return f"Basic {pair.decode('ascii')}"


# --- what went wrong, in our words -----------------------------------------

_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


def _failure(error: Exception, timeout: float) -> ExchangeFailed:
    """Tell what an exception of requests or urllib3 means for the request.

    requests wraps "never connected" and "died after sending" in the same
    ConnectionError; only the wrapped reason tells them apart.
    """
    chain = list(_chain(error))
    certificate = next((e for e in chain if _is_certificate_error(e)), None)
    if certificate is not None:
        message = f"TLS certificate refused: {_cause_of(certificate)}"
        return ExchangeFailed(message, sent=False, lasting=True)
    if isinstance(error, (requests.exceptions.InvalidURL, ValueError)):
        return ExchangeFailed(f"not a usable URL: {error}", sent=False, lasting=True)
    sent = not any(isinstance(e, _NEVER_SENT) for e in chain)
    if any(
        isinstance(e, (TimeoutError, urllib3.exceptions.TimeoutError)) for e in chain
    ):
        what = f"no answer within {timeout:.3g} s" if sent else "no connection in time"
        return ExchangeFailed(what, sent=sent, timed_out=True)
    return ExchangeFailed(_cause_of(chain[-1]), sent=sent)


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


def _cause_of(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was closed before an answer came"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut off"
    return f"{type(error).__name__}: {str(error)[:100]}"


# --- fork ------------------------------------------------------------------

_transports: weakref.WeakSet[RequestsTransport] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for transport in list(_transports):
        transport.forget_sockets()


os.register_at_fork(after_in_child=_after_fork_in_child)

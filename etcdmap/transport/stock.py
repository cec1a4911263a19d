"""The transport on requests' own path, for what a `requests.Session` can be given.

* No redirects, no cookies, and no proxies or netrc from the environment, unless
  the caller's session says so.
* It is shared by threads: each exchange borrows a session from a LIFO pool, so
  there are as many sockets as there are requests at the same time.  (requests
  documents no thread contract for one Session.)
* It can only block, so `wrapped` gives each exchange a thread.  That bounds it,
  too: http.client's timeouts are per packet, so a server that sends a byte now and
  then within a head would never meet the deadline.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict

from etcdmap import forking
from etcdmap.errors import (
    ClientClosed,
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
)
from etcdmap.models import Answer, Request
from etcdmap.transport import failures
from etcdmap.transport.head import LONGEST_FIRST_TARGET, OPENING, standing_fields
from etcdmap.transport.protocol import DEFAULT_MAX_RESPONSE
from etcdmap.transport.stock_failures import of_requests

_CHUNK = 64 * 1024
#: Seconds; sockets take no infinity, and no more than some hundred years.
_LONGEST = 365 * 86400.0


class RequestsTransport:
    """A `BlockingTransport` on requests.

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
        self._headers = standing_fields(username, password)
        self._idle: deque[requests.Session] = deque()
        self._closed = False
        forking.register(self)

    def exchange(self, endpoint: str, request: Request[Any], timeout: float) -> Answer:
        """See `BlockingTransport.exchange`."""
        if self._closed:
            raise ClientClosed("this client was closed; make a new mapping or client")
        if timeout <= 0:  # urllib3 would call it a wrong argument
            raise failures.timed_out(timeout, sent=False)
        deadline = time.monotonic() + timeout
        session = self._borrow()
        answered = False
        try:
            if len(request.target) > LONGEST_FIRST_TARGET:
                self._send(session, endpoint, OPENING, timeout).close()
            response = self._send(session, endpoint, request, timeout)
            answered = True
            with response:
                _check_length(response, endpoint)
                body = self._body(response, endpoint, deadline)
        except (EtcdMapError, Warning):  # warnings may be made errors
            raise
        except Exception as error:  # a session may run hooks and auth of any kind
            retried = self._theirs is not None and _retries(_adapter(session, endpoint))
            raise of_requests(
                error, timeout, answered=answered, retried=retried
            ) from error
        finally:
            self._give_back(session)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, body, endpoint)

    def distrust(self, endpoint: str) -> None:
        """See `Transport.distrust`; closes what is idle to others as well.

        Of a session of the caller's, requests' adapters as they come close their
        idle connections, and open others on demand; what others do is theirs.
        """
        self._close_idle()
        if self._theirs is not None:
            adapter = _adapter(self._theirs, endpoint)
            if type(adapter) is HTTPAdapter and not (
                # Who waits for a connection of a closed pool waits for ever, and
                # who sends again finds it closed.
                adapter._pool_block or _retries(adapter)
            ):
                adapter.close()

    def close(self) -> None:
        """Close the idle sessions now, and those in use when they come back."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:  # also if another thread took the last one
                return

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("a transport holds connections and credentials: not to pickle")

    def after_fork(self) -> None:
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
            timeout=(min(self._connect_timeout, timeout), min(timeout, _LONGEST)),
        )
        redirect = _Redirect()
        prepared.hooks["response"].append(redirect.hide)
        return redirect.show(session.send(prepared, **settings))

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


class _Redirect:
    """Keeps `Session.send` from looking into a redirect that it must not follow.

    It would read its body, without any limit, and fail where it leads to what
    is no URL.
    """

    def __init__(self) -> None:
        self._location: str | None = None

    def hide(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Take the location away; a hook, which runs before it is looked at."""
        self._location = response.headers.pop("Location", None)

    def show(self, response: requests.Response) -> requests.Response:
        """Put the location back."""
        if self._location is not None:
            response.headers["Location"] = self._location
        return response


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

"""The transport on requests' own path, for what a `requests.Session` can be given.

It can only block, so `wrapped` gives each exchange a thread.  That bounds it, too:
http.client's timeouts are per packet, so a server that sends a byte now and then
within a head would never meet the deadline.
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
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter, HTTPAdapter

from etcdmap import forking
from etcdmap.errors import ClientClosed, EtcdMapError, ExchangeFailed, legible
from etcdmap.transport import failures
from etcdmap.transport.head import standing_fields
from etcdmap.transport.protocol import Answer, Request, Settings, limit_of

_CHUNK = 64 * 1024
#: Seconds; sockets take no infinity, and no more than some hundred years.
_LONGEST = 365 * 86400.0


class RequestsTransport:
    """A `BlockingTransport` on a `requests.Session`.

    The session is the caller's and used as it is, with its proxies, hooks, adapters,
    auth and TLS settings (those of `Settings` don't count); it is not closed here.
    """

    def __init__(self, *, session: Any, **settings: Any) -> None:
        if not isinstance(session, requests.Session):
            kind = type(session).__name__
            raise TypeError(f"session is a requests.Session, not {kind}")
        self._session: requests.Session = session
        self._settings = Settings(**settings)
        self._headers = standing_fields(self._settings)
        # Or requests puts what ~/.netrc or the session has in place of ours.
        self._auth = _as_it_is if "Authorization" in self._headers else None
        self._closed = False
        forking.register(self)

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        if self._closed:
            raise ClientClosed
        deadline = time.monotonic() + timeout
        answered = False
        try:
            opening = self._settings.opening
            if opening is not None and len(request.target) > opening.longest:
                with self._send(endpoint, opening.request, timeout) as response:
                    # Read to its end, or the connection would be closed with it.
                    self._body(response, endpoint, opening.request, deadline)
                timeout = max(deadline - time.monotonic(), 0.001)
            response = self._send(endpoint, request, timeout)
            answered = True
            with response:
                _check_length(response, endpoint)
                body = self._body(response, endpoint, request, deadline)
        except (EtcdMapError, Warning):  # "-W error" makes warnings exceptions
            raise
        except Exception as error:  # a session may run hooks and auth of any kind
            retried = _retries(_adapter(self._session, endpoint))
            failure = of_requests(error, timeout, answered=answered, retried=retried)
            if not isinstance(error, _UNSENDABLE):
                raise failure from error
        else:
            fields = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, fields, body, endpoint)
        raise failure  # not while an error is handled whose text may hold a password

    def distrust(self, endpoint: str) -> None:
        """Close all idle connections of requests' own adapter, which opens others.

        What an adapter of another class does is its own affair.
        """
        adapter = _adapter(self._session, endpoint)
        if type(adapter) is HTTPAdapter and not (
            # Who waits for a connection of a closed pool waits for ever, and
            # who sends again finds it closed.
            adapter._pool_block or _retries(adapter)
        ):
            adapter.close()

    def close(self) -> None:
        self._closed = True

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent goes on with the connections."""
        for adapter in self._session.adapters.values():
            # As when it is unpickled: with new pools.  To close the old ones would
            # take their locks, which a thread that is not here may hold.
            if isinstance(adapter, HTTPAdapter):
                adapter.__setstate__(adapter.__getstate__())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a transport can't be pickled: it has connections and credentials"
        )

    # --- one exchange

    def _send(self, endpoint: str, request: Request, timeout: float) -> Response:
        url = endpoint + request.target
        headers = dict(self._headers)
        if request.body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        prepared = self._session.prepare_request(
            requests.Request(
                request.method, url, headers, data=request.body, auth=self._auth
            )
        )
        prepared.url = url  # it was quoted already, and requests has changed that
        settings = self._session.merge_environment_settings(url, {}, True, None, None)
        connect_timeout = min(self._settings.connect_timeout, timeout, _LONGEST)
        location: str | None = None

        def hide(response: Response, *_: Any, **__: Any) -> None:
            # `Session.send` would look into a redirect that it must not follow: read
            # its body, without any limit, and fail where it leads to what is no URL.
            nonlocal location
            location = response.headers.pop("Location", None)

        prepared.hooks["response"].append(hide)
        response = self._session.send(
            prepared,
            **settings,
            allow_redirects=False,
            timeout=(connect_timeout, min(timeout, _LONGEST)),
        )
        if location is not None:
            response.headers["Location"] = location
        return response

    def _body(
        self, response: Response, endpoint: str, request: Request, deadline: float
    ) -> bytes:
        # read1 returns what has arrived; read would wait for a whole chunk.
        read = getattr(response.raw, "read1", None) or response.raw.read
        limit = limit_of(request, response.status_code, self._settings.max_response)
        body = bytearray()  # a list of small pieces would take many times as much
        while chunk := read(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise failures.too_large(endpoint, response.status_code, limit)
            # The socket's timeout is per packet: a slow drip never meets it.
            if time.monotonic() > deadline:
                what = "the answer did not end in time"
                raise ExchangeFailed(what, sent=True, timed_out=True)
        return bytes(body)


def _as_it_is(prepared: PreparedRequest) -> PreparedRequest:
    """Do nothing, as `auth` of a request that has its credentials already."""
    return prepared


def _retries(adapter: BaseAdapter | None) -> bool:
    """Return whether an adapter may send a request again by itself."""
    retry = getattr(adapter, "max_retries", None)
    return retry is not None and getattr(retry, "total", 1) != 0


def _adapter(session: requests.Session, endpoint: str) -> BaseAdapter | None:
    try:
        return session.get_adapter(endpoint)
    except requests.RequestException:  # there is none
        return None


def _check_length(response: Response, endpoint: str) -> None:
    """Refuse a length that is no number: http.client would read to the end."""
    length = response.headers.get("Content-Length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        what = "a Content-Length that is no number"
        raise failures.invalid(endpoint, response.status_code, what)


# --- what went wrong ---------------------------------------------------------------


def of_requests(
    error: Exception, timeout: float, *, answered: bool = False, retried: bool = False
) -> ExchangeFailed:
    """Return the failure for an exception of requests or urllib3.

    requests wraps "never connected" and "died after sending" in the same
    ConnectionError; only the wrapped reason tells them apart.  `answered` says that an
    answer had begun, `retried` that the adapter may have sent the request before.
    """
    chain = list(_chain(error))
    lasting = None if answered else _lasting(error, chain)
    if lasting is not None:
        return ExchangeFailed(lasting, sent=False, lasting=True)
    sent = answered or retried or not any(map(_was_before_sending, chain))
    if any(map(_is_timeout, chain)):
        return failures.timed_out(timeout, sent=sent)
    if isinstance(chain[-1], http.client.IncompleteRead):
        return ExchangeFailed(failures.CUT_OFF, sent=sent)
    nobody = not sent and failures.met_nobody(chain[-1])
    return ExchangeFailed(_cause_of(chain[-1]), sent=sent, nobody=nobody)


def _cause_of(error: BaseException) -> str:
    if isinstance(error, _UNSENDABLE):
        return (
            f"{type(error).__name__} (the URL of the endpoint or of a proxy, or the "
            "session's headers or auth)"
        )
    return failures.cause_of(error)


def _lasting(error: Exception, chain: list[BaseException]) -> str | None:
    """Return what is wrong if trying again is no use."""
    for inner in reversed(chain):
        refused = "certificate verify failed" in str(inner).lower()
        if refused and isinstance(inner, OSError):
            return f"TLS certificate refused: {failures.cause_of(inner)}"
    if isinstance(error, _UNSENDABLE):
        return f"nothing that can be sent: {_cause_of(error)}"
    if type(error) is OSError and error.errno is None:
        return legible(str(error))  # requests' own, about a file of verify or cert
    return None


_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,  # to a proxy, too
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ClosedPoolError,  # by another thread, before it got one
)
#: What can't be sent.  Their texts quote it: perhaps a proxy's URL with a password, or
#: a header or credentials of the session.
_UNSENDABLE = (
    requests.exceptions.InvalidHeader,
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
    """Yield an exception and those that it wraps, from the outermost inwards."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = [getattr(current, "reason", None), *current.args]
        wrapped = next((e for e in inner if isinstance(e, BaseException)), None)
        current = wrapped or current.__cause__ or current.__context__

"""What an exception of requests or urllib3 means, in our words.

Apart from `failures`, so that who uses our sockets never loads requests.
"""

from __future__ import annotations

import http.client
import ssl
import traceback
from collections.abc import Iterator

import requests
import urllib3.exceptions

from etcdmap.errors import ExchangeFailed
from etcdmap.transport import failures


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
    return ExchangeFailed(_cause(chain[-1]), sent=sent)


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


def _cause(error: BaseException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut off"
    return failures.cause_of(error)

"""What went wrong in an exchange, in our words.

The client above asks one thing of a failure: may the request have been received?
"""

from __future__ import annotations

import http.client
import socket
import ssl
import traceback
from collections.abc import Iterator

import requests
import urllib3.exceptions

from etcdmap.errors import ExchangeFailed

_CLOSED = "the connection was closed before an answer came (or expects https?)"


def no_tls() -> ExchangeFailed:
    """Give the failure of a TLS handshake that the other side ended."""
    return ExchangeFailed(
        "the TLS handshake was cut off: is there TLS on this port, or is it http://?",
        sent=False,
    )


def closed() -> ExchangeFailed:
    """Give the failure of a connection that ended without a byte of an answer."""
    return ExchangeFailed(_CLOSED, sent=True)


def cut_off() -> ExchangeFailed:
    """Give the failure of an answer that ended too early."""
    return ExchangeFailed("the answer was cut off", sent=True)


def timed_out(timeout: float, *, sent: bool) -> ExchangeFailed:
    """Give the failure of an exchange that took too long."""
    what = f"no answer within {timeout:.3g} s" if sent else "no connection in time"
    return ExchangeFailed(what, sent=sent, timed_out=True)


def given_up(*, sent: bool) -> ExchangeFailed:
    """Give the failure of an exchange that nobody waits for any more."""
    return ExchangeFailed("given up before an answer came", sent=sent)


def of_socket(error: OSError, *, sent: bool) -> ExchangeFailed:
    """Tell what an exception of a socket means for the request."""
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"TLS certificate refused: {_cause_of(error)}"
        return ExchangeFailed(message, sent=False, lasting=True)
    if isinstance(error, ssl.SSLError) and _is_about_ours(error):
        # With TLS 1.3 this comes after the request has left; a server that
        # refuses the handshake has not read it (RFC 8446 section 4.4.2.4).
        return ExchangeFailed(
            f"the server refused our TLS certificate: {_cause_of(error)}",
            sent=False,
            lasting=True,
        )
    return ExchangeFailed(_cause_of(error), sent=sent)


def of_requests(
    error: Exception, timeout: float, *, answered: bool = False
) -> ExchangeFailed:
    """Tell what an exception of requests or urllib3 means for the request.

    requests wraps "never connected" and "died after sending" in the same
    ConnectionError; only the wrapped reason tells them apart.

    Args:
        error: what was raised.
        timeout: seconds that the exchange had.
        answered: whether an answer had begun.
    """
    chain = list(_chain(error))
    if not answered:
        lasting = _lasting(error, chain)
        if lasting is not None:
            return ExchangeFailed(lasting, sent=False, lasting=True)
    sent = answered or not any(map(_was_before_sending, chain))
    if any(map(_is_timeout, chain)):
        return timed_out(timeout, sent=sent)
    return ExchangeFailed(_cause_of(chain[-1]), sent=sent)


def _lasting(error: Exception, chain: list[BaseException]) -> str | None:
    """Tell what no second try would change, if that is the cause."""
    for inner in reversed(chain):
        if _is_certificate_error(inner):
            return f"TLS certificate refused: {_cause_of(inner)}"
    if isinstance(error, _NO_URL):
        return f"not a usable URL: {error}"
    if type(error) is OSError and error.errno is None:
        return str(error)  # requests' own, about a file of verify or cert
    return None


_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
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
    # A failed handshake has no exception of its own.
    frames = traceback.walk_tb(error.__traceback__)
    handshake = ssl.SSLContext.wrap_socket.__code__
    return any(frame.f_code is handshake for frame, _ in frames)


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


def _is_about_ours(error: ssl.SSLError) -> bool:
    # The alerts of RFC 8446 section 6.2 about a peer's certificate.
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _cause_of(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return _CLOSED
    if isinstance(error, socket.gaierror):
        return f"the name of the endpoint is not known: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut off"
    return f"{type(error).__name__}: {str(error)[:100]}"

"""What went wrong in an exchange, in our words.

The client above asks one thing of a failure: may the request have been received?
"""

from __future__ import annotations

import socket
import ssl

from etcdmap.errors import ClientClosed, ExchangeFailed, InvalidResponse

CLOSED = "the connection was closed before an answer came (or expects https?)"


def client_closed() -> ClientClosed:
    """Give the error of who uses what was closed."""
    return ClientClosed("this client was closed; make a new mapping or client")


def too_large(endpoint: str, status: int, limit: int) -> InvalidResponse:
    """Give the error of an answer above the limit."""
    return InvalidResponse(
        f"{endpoint} answered with more than {limit} bytes; "
        "raise max_response if the directory is really that large",
        endpoint=endpoint,
        status=status,
    )


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
        message = f"TLS certificate refused: {cause_of(error)}"
        return ExchangeFailed(message, sent=False, lasting=True)
    if isinstance(error, ssl.SSLError) and _is_about_ours(error):
        # With TLS 1.3 this may come after the request has left, and then nothing
        # tells who sent it, and when.
        return ExchangeFailed(
            f"the server refused our TLS certificate: {cause_of(error)}",
            sent=sent,
            lasting=True,
        )
    return ExchangeFailed(cause_of(error), sent=sent)


def _is_about_ours(error: ssl.SSLError) -> bool:
    # The alerts of RFC 8446 section 6.2 about a peer's certificate.
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def cause_of(error: BaseException) -> str:
    """Say what an exception means, for the message of ours."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return CLOSED
    if isinstance(error, socket.gaierror):
        return f"the name of the endpoint is not known: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {str(error)[:100]}"

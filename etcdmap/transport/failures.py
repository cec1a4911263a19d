"""The exceptions of an exchange that fails: their texts, and what they say was sent."""

from __future__ import annotations

import errno
import socket
import ssl

from etcdmap.errors import ExchangeFailed, InvalidResponse, legible

CLOSED = "the connection was closed before an answer came (or expects https?)"
CUT_OFF = "the answer was cut off"
_TOO_OLD = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"}
#: What to say of a failed handshake, by the name that OpenSSL gives the reason.
_HANDSHAKES = {
    **dict.fromkeys(
        _TOO_OLD, "the server's TLS is too old: let it speak TLS 1.2 or 1.3"
    ),
    "WRONG_VERSION_NUMBER": "what listens there speaks no TLS: is it http://?",
}
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}

_RENEW = "renew it, or set the clocks right"
_TRUST = "give the CA that signed it as verify"
_NAME = (
    "give an endpoint that its subjectAltName has, or a certificate that has this one"
)
#: What to do about a certificate, by what OpenSSL finds (`X509_V_ERR_...`).
_ADVICE = {
    **dict.fromkeys((9, 10), _RENEW),  # not yet valid, expired
    **dict.fromkeys((18, 19, 20, 21), _TRUST),  # self-signed, issuer not known
    26: "issue one with the extended key usage serverAuth",
    **dict.fromkeys((62, 64), _NAME),  # another name, another address
}


def unusable_url(why: str) -> ExchangeFailed:
    """Return the failure for a URL that nothing can be sent to."""
    return ExchangeFailed(f"not a usable URL: {why}", sent=False, lasting=True)


def invalid(
    endpoint: str, status: int, what: str, excerpt: bytes = b""
) -> InvalidResponse:
    """Return the error for an answer that is refused."""
    message = f"{endpoint} answered with {what}"
    return InvalidResponse(message, endpoint=endpoint, status=status, excerpt=excerpt)


def too_large(endpoint: str, status: int, limit: int) -> InvalidResponse:
    """Return the error for an answer above the limit."""
    advice = "raise max_response if an answer may really be that large"
    return invalid(endpoint, status, f"more than {limit} bytes; {advice}")


def timed_out(timeout: float, *, sent: bool) -> ExchangeFailed:
    """Return the failure for an exchange that took too long."""
    what = f"no answer within {timeout:.3g} s" if sent else "no connection in time"
    return ExchangeFailed(what, sent=sent, timed_out=True, nobody=not sent)


def given_up(*, sent: bool) -> ExchangeFailed:
    """Return the failure for an exchange that was given up or cancelled."""
    return ExchangeFailed("given up before an answer came", sent=sent)


def of_socket(error: OSError, *, sent: bool) -> ExchangeFailed:
    """Return the failure for an exception of a socket."""
    cause = cause_of(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"TLS certificate refused: {cause}"
        return ExchangeFailed(what, sent=False, lasting=True)
    if isinstance(error, ssl.SSLError) and _is_about_ours(error):
        # With TLS 1.3 this may come after the request has left, so `sent` counts.
        what = f"the server refused our TLS certificate: {cause}"
        return ExchangeFailed(what, sent=sent, lasting=True)
    lasting = isinstance(error, ssl.SSLError) and _reason(error) in _TOO_OLD
    return ExchangeFailed(cause, sent=sent, lasting=lasting, nobody=met_nobody(error))


def met_nobody(error: BaseException) -> bool:
    """Tell whether an exception says that there is no server, or no way to it."""
    return isinstance(error, ConnectionRefusedError | socket.gaierror) or (
        isinstance(error, OSError) and error.errno in _NO_WAY
    )


def _is_about_ours(error: ssl.SSLError) -> bool:
    # The alerts of RFC 8446 section 6.2 about a peer's certificate.
    reason = error.reason or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _reason(error: BaseException) -> str:
    # One that was not raised by OpenSSL, but by a session's adapter, has none.
    return getattr(error, "reason", None) or ""


def cause_of(error: BaseException) -> str:
    """Return what an exception means, for a message."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return CLOSED
    if isinstance(error, socket.gaierror):
        return legible(f"no such host found: {error.strerror}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _wrong_with(error)
    if isinstance(error, ssl.SSLError) and _reason(error) in _HANDSHAKES:
        return _HANDSHAKES[_reason(error)]
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        # Nothing that is wrong with an endpoint, as all around this will say.
        return f"{error.strerror}: close some, or raise the limit (ulimit -n)"
    if isinstance(error, OSError) and error.strerror:
        return legible(error.strerror)  # that of TLS tells what came from the server
    return legible(f"{type(error).__name__}: {error}")


def _wrong_with(error: ssl.SSLCertVerificationError) -> str:
    # Nor has it these.
    what = legible(getattr(error, "verify_message", str(error)).rstrip("."))
    advice = _ADVICE.get(getattr(error, "verify_code", 0))
    return f"{what}; {advice}" if advice else what

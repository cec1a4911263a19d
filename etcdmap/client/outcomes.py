"""Which error ends a call that got no usable answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etcdmap.client.freshness import StaleAnswer
from etcdmap.client.request import Request
from etcdmap.errors import (
    Attempt,
    ClusterUnavailable,
    DeadlineExceeded,
    ExchangeFailed,
    InvalidResponse,
    OutcomeUnknown,
    RaftError,
    RequestFailed,
    WrongCluster,
    legible,
)


def failed(
    kind: type[RequestFailed],
    request: Request[Any],
    attempts: Sequence[Attempt],
    why: str,
) -> RequestFailed:
    """Return an error of this kind that lists all attempts."""
    what = request.key or request.target.partition("?")[0]
    error = kind(f"{request.method} {legible(what)}: {why}", attempts)
    # As `from None` does: the lines of the attempts say all that a chain would.
    error.__cause__ = None
    return error


def unknown(request: Request[Any], attempts: Sequence[Attempt]) -> RequestFailed:
    """Return the error of a write that may have been carried out."""
    return failed(
        OutcomeUnknown,
        request,
        attempts,
        "sent, but not properly answered; it may have been applied, now or later",
    )


def out_of_time(
    request: Request[Any],
    attempts: Sequence[Attempt],
    took: float,
    *,
    quorum: bool,
    alone: bool,
) -> Exception:
    """Return the error of a call that ended at its deadline, after `took` seconds.

    Nothing was carried out.  `quorum` tells whether it was a quorum read at last.
    """
    for attempt in reversed(attempts):
        if isinstance(attempt.error, WrongCluster):
            why = "no endpoint of the right cluster could be used"
            attempt.error.__cause__ = failed(ClusterUnavailable, request, attempts, why)
            return attempt.error
    advice = ""
    if quorum and request.consistency == "session":
        advice = _instead_of_quorum(attempts, alone=alone)
    # An endpoint that also failed in another way is not just slow: its last attempt
    # timed out because the deadline cut it short.
    others = {a.endpoint for a in attempts if not a.was_late}
    if any(a.endpoint not in others for a in attempts):
        why = f"no answer within {took:.3g} s{advice}"
        return failed(DeadlineExceeded, request, attempts, why)
    causes = [a.error for a in attempts if not a.was_late]
    if not attempts or any(getattr(error, "nobody", False) for error in causes):
        advice = f"; check that etcd runs and that the endpoints are right{advice}"
    why = f"no endpoint could be used for {took:.3g} s{advice}"
    return failed(ClusterUnavailable, request, attempts, why)


def _instead_of_quorum(attempts: Sequence[Attempt], *, alone: bool) -> str:
    """Return the advice for a session read that ended as a quorum read."""
    if any(isinstance(a.error, RaftError | StaleAnswer) for a in attempts):
        return (
            "; no member could prove that it is in touch with the others: "
            "using(consistency='any') reads what one of them has"
        )
    if not alone and any(a.sent and a.was_late for a in attempts):
        # Stopped, or cut off from the others: which, silence does not tell.
        return "; using(consistency='any') asks for an answer without the others"
    return ""


def raise_if_hopeless(
    request: Request[Any],
    attempts: Sequence[Attempt],
    count: int,
    *,
    is_write: bool,
    may_repeat: bool,
) -> None:
    """Raise if the last attempts, as many as endpoints, show that more are no use.

    With `may_repeat` a 200 that makes no sense is worth another try: it may be the
    answer to another request, on a connection that is not used again.
    """
    errors = [attempt.error for attempt in attempts[-count:]]
    if len(errors) < count or not all(map(_is_lasting, errors)):
        return
    if may_repeat and any(map(_is_odd_success, errors)):
        return
    if is_write and any(a.sent and not is_refused(a.error) for a in attempts):
        raise unknown(request, attempts)
    if all(isinstance(error, InvalidResponse) for error in errors):
        raise errors[0]
    raise failed(ClusterUnavailable, request, attempts, "no endpoint can be used")


def is_refused(error: Exception) -> bool:
    """Tell whether an answer that is not etcd's says that nothing was carried out."""
    return isinstance(error, InvalidResponse) and error.refused


def _is_lasting(error: Exception) -> bool:
    if isinstance(error, InvalidResponse):
        return is_refused(error) or error.status < 400  # 502 to 504 may pass
    return isinstance(error, ExchangeFailed) and error.lasting


def _is_odd_success(error: Exception) -> bool:
    return isinstance(error, InvalidResponse) and 200 <= error.status < 300

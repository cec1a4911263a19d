"""Requests that the client makes on its own account, before somebody's write.

They ask what an endpoint *is*, not what it holds: of which cluster it is a member,
and whether it is in touch with the others.

Source: etcd ``server/etcdserver/api/v2http/client.go``: a form that can't be read is
refused, with the cluster's id, before anybody looks at the user.
"""

from __future__ import annotations

from collections.abc import Callable

from etcdmap.answers import error_of, parse_json
from etcdmap.errors import KeyNotFound, NotADirectory, ServerError
from etcdmap.models import Answer, Request, Resend


def identity_request(check: Callable[[Answer], object]) -> Request[object]:
    """Ask of which cluster an endpoint is; 0.1 ms, with auth as well.

    Args:
        check: gets the answer if it is etcd's, and raises if it is another cluster's.
    """

    def read(answer: Answer) -> object:
        _need_etcd(answer, ServerError)
        return check(answer)

    # No such value of `wait`: refused with 400, which is all that is wanted.
    return Request("GET", "/v2/keys/?wait=maybe", read, resend=Resend.ALWAYS)


def contact_request(target: str) -> Request[None]:
    """Ask a member to agree with the others on a read of nothing.

    Args:
        target: of the write that this is for: who may write there may most often
            read there.
    """
    path = target.partition("?")[0].rstrip("/")
    return Request(
        "GET",
        f"{path}/_?quorum=true",
        lambda answer: _need_etcd(answer, KeyNotFound, NotADirectory),
        resend=Resend.ALWAYS,
        kind="contact",
        consistency="linearizable",
    )


def _need_etcd(answer: Answer, *refusals: type[ServerError]) -> None:
    """Raise what an answer means, unless it is a success or one of some refusals."""
    if answer.status == 200:
        try:
            payload = parse_json(answer.body.decode())
        except (ValueError, RecursionError):
            payload = None
        if isinstance(payload, dict) and isinstance(payload.get("action"), str):
            return
    error = error_of("/", answer)
    if not isinstance(error, refusals):
        raise error

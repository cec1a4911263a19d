"""Requests that the client makes on its own account.

They ask what an endpoint *is*, not what it holds: of which cluster it is a member,
whether it is in touch with the others, and who they are.

Sources: etcd ``server/etcdserver/api/v2http/client.go`` (a form that can't be read is
refused, with the cluster's id, before anybody looks at the user) and
``Documentation/v2/members_api.md``, branch release-3.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from etcdmap.answers import error_of, parse_json
from etcdmap.endpoints import clean_endpoints
from etcdmap.errors import InvalidResponse, KeyNotFound, NotADirectory, ServerError
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


# --- who the members are: for `Client.sync`


def members_request() -> Request[tuple[str, ...]]:
    """Ask ``/v2/members`` for the client URLs of all members."""
    return _list("/v2/members", _members_in)


def machines_request() -> Request[tuple[str, ...]]:
    """Ask ``/v2/machines``, which older servers and proxies know, for the same."""
    return _list("/v2/machines", lambda text: map(str.strip, text.split(",")))


def _list(
    target: str, urls_in: Callable[[str], Iterable[str]]
) -> Request[tuple[str, ...]]:
    def read(answer: Answer) -> tuple[str, ...]:
        try:
            if answer.status == 200:
                # A member that has not started yet has no client URLs.
                return clean_endpoints(filter(None, urls_in(answer.body.decode())))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise InvalidResponse(
            f"{answer.endpoint} does not tell its members (status {answer.status})",
            endpoint=answer.endpoint,
            status=answer.status,
            excerpt=answer.body,
        )

    return Request("GET", target, read, resend=Resend.ALWAYS, kind="members")


def _members_in(text: str) -> list[str]:
    return [
        url for member in json.loads(text)["members"] for url in member["clientURLs"]
    ]


def with_learnt(
    given: tuple[str, ...], learnt: tuple[str, ...], known: tuple[str, ...]
) -> tuple[str, ...]:
    """Give the endpoints to use from now on.

    Those first given are never forgotten, whatever a sync says: after an outage
    they may be the only way back.  Where they are https, none that is not is
    taken in.

    Args:
        given: what the user gave.
        learnt: what the members say.
        known: what is used now; its order stays.
    """
    if all(endpoint.startswith("https:") for endpoint in given):
        learnt = tuple(url for url in learnt if url.startswith("https:"))
    wanted = dict.fromkeys((*given, *learnt))
    kept = [endpoint for endpoint in known if endpoint in wanted]
    return tuple(dict.fromkeys((*kept, *wanted)))

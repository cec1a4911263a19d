"""Who the members of a cluster say they are: for `Client.sync`.

Source: etcd ``Documentation/v2/members_api.md`` (branch release-3.4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from etcdmap.endpoints import clean_endpoints
from etcdmap.errors import InvalidResponse
from etcdmap.models import Answer, Request, Resend


def members_request() -> Request[tuple[str, ...]]:
    """Ask ``/v2/members`` for the client URLs of all members."""
    return _request("/v2/members", _read_members)


def machines_request() -> Request[tuple[str, ...]]:
    """Ask ``/v2/machines``, which older servers and proxies know, for the same."""
    return _request("/v2/machines", _read_machines)


def _request(target: str, read: Any) -> Request[tuple[str, ...]]:
    return Request("GET", target, read, resend=Resend.ALWAYS, kind="members")


def _read_members(answer: Answer) -> tuple[str, ...]:
    try:
        members = json.loads(_text(answer))["members"]
        # A member that has not started yet has no client URLs.
        return _known(url for member in members for url in member["clientURLs"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _strange(answer) from None


def _read_machines(answer: Answer) -> tuple[str, ...]:
    try:
        return _known(url.strip() for url in _text(answer).split(","))
    except ValueError:
        raise _strange(answer) from None


def _text(answer: Answer) -> str:
    if answer.status != 200:
        raise _strange(answer)
    return answer.body.decode()


def _known(urls: Iterable[str]) -> tuple[str, ...]:
    return clean_endpoints([url for url in urls if url])


def _strange(answer: Answer) -> InvalidResponse:
    return InvalidResponse(
        f"{answer.endpoint} does not tell its members (status {answer.status})",
        endpoint=answer.endpoint,
        status=answer.status,
        excerpt=answer.body,
    )


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

"""Requests of the v2 API: about keys, and about an endpoint.

Sources: etcd ``Documentation/v2/api.md`` and ``members_api.md``, and
``server/etcdserver/api/v2http/client.go``, branch release-3.4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from etcdmap.client import API, Request, Resend, clean_endpoints
from etcdmap.errors import (
    InvalidResponse,
    KeyNotFound,
    NotADirectory,
    RaftError,
    ServerError,
)
from etcdmap.transport import Answer, Identity, Opening
from etcdmap.v2.parsing import parse_json
from etcdmap.v2.responses import error_of, guarded, known_index

T = TypeVar("T")

#: More URLs than any cluster has.  The client would try each of them in an outage.
MOST_URLS = 100


class V2(API):
    """What a client must know of the v2 API."""

    def index_of(self, answer: Answer) -> int:
        return known_index(answer)

    def cluster_of(self, answer: Answer) -> str | None:
        return answer.headers.get("x-etcd-cluster-id") or None

    def vouches(self, answer: Answer) -> bool:
        # A proxy, or a member that is cut off, may send these as well.
        return answer.status not in (401, 500)

    def identity(self, check: Callable[[Answer], object]) -> Identity:
        def read(answer: Answer) -> object:
            _need_etcd(answer, ServerError)
            return check(answer)

        # `wait` has no such value.  etcd refuses it with 400 and the cluster's id
        # before it looks at the user, so this is quick (0.1 ms) and works with auth.
        return Probe("/v2/keys/?wait=maybe", read, "get")

    def members(self) -> Iterable[Request[tuple[str, ...]]]:
        # Older servers only know the second request.
        yield Probe("/v2/members", _urls(_members_in), "members")
        yield Probe("/v2/machines", _urls(_machines_in), "members")


V2_API = V2()


class V2Request(Request[T]):
    """A request of the v2 API."""

    __slots__ = ()
    api = V2_API

    def with_quorum(self) -> Request[T]:
        request = copy.copy(self)
        mark = "&" if "?" in self.target else "?"
        request.method, request.kind = "GET", "quorum"  # HEAD ignores the parameter
        request.target = f"{self.target}{mark}quorum=true"
        return request

    def contact(self) -> Request[object]:
        path = self.target.partition("?")[0].rstrip("/")
        target = f"{path}/_?quorum=true"
        request: Probe[object] = Probe(target, _read_contact, "contact")
        request.consistency = "linearizable"
        return request


class KeysRequest(V2Request[T]):
    """A request about keys: an `Asked`, and the reader of its answer."""

    __slots__ = ("action", "after", "bare", "inside", "reader")

    key: str

    def __init__(
        self,
        method: str,
        target: str,
        reader: Callable[[Any, Answer], T],
        key: str,
        action: str | None,
        body: bytes | None = None,
        resend: Resend = Resend.IF_NOT_SENT,
        kind: str = "write",
        consistency: str = "any",
        patient: bool = False,
        after: int = 0,
        bare: bool = False,
        inside: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.reader = reader
        self.key = key
        self.action = action
        self.body = body
        self.resend = resend
        self.kind = kind
        self.consistency = consistency
        self.patient = patient
        self.after = after
        self.bare = bare
        self.inside = inside

    def read(self, answer: Answer, /) -> T:
        return guarded(self.reader, self, answer)


class Probe(V2Request[T], Generic[T]):
    """A read that finds out something about an endpoint, and not about its keys."""

    __slots__ = ("_read",)
    max_answer = 64 * 1024

    def __init__(
        self, target: str, read: Callable[[Answer], T], kind: str, method: str = "GET"
    ) -> None:
        self.method = method
        self.target = target
        self._read = read
        self.body = self.key = None
        self.resend = Resend.ALWAYS
        self.kind = kind
        self.consistency = "any"
        self.patient = False

    def read(self, answer: Answer, /) -> T:
        return self._read(answer)


def look() -> Request[None]:
    """Return a request that raises RaftError if the member has no leader.

    It costs the cluster nothing, needs no rights, and tells nothing about keys.
    """
    return Probe("/v2/members/leader", _read_look, "look")


def _read_look(answer: Answer) -> None:
    if answer.status == 503:
        why = "the member has no leader: it is cut off, or an election is going on"
        raise RaftError(why, code=0, endpoint=answer.endpoint)


def _read_contact(answer: Answer) -> None:
    _need_etcd(answer, KeyNotFound, NotADirectory)


def _need_etcd(answer: Answer, *refusals: type[ServerError]) -> None:
    """Raise the error of an answer, unless it is a success or one of these refusals."""
    if answer.status == 200:
        try:
            payload = parse_json(answer.body.decode(), answer.seconds)
        except (ValueError, RecursionError):
            payload = None
        if isinstance(payload, dict) and isinstance(payload.get("action"), str):
            return
    error = error_of("/", answer)
    if not isinstance(error, refusals):
        raise error


def _urls(
    urls_in: Callable[[str], Iterable[str]],
) -> Callable[[Answer], tuple[str, ...]]:
    def read(answer: Answer) -> tuple[str, ...]:
        what = f"does not tell its members (status {answer.status})"
        try:
            if answer.status == 200:
                # A member that has not started yet has no client URLs.
                urls = list(filter(None, urls_in(answer.body.decode())))
                if len(urls) <= MOST_URLS:
                    return clean_endpoints(urls)
                what = f"tells {len(urls)} URLs of members, more than {MOST_URLS}"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise InvalidResponse(
            f"{answer.endpoint} {what}",
            endpoint=answer.endpoint,
            status=answer.status,
            excerpt=answer.body,
        )

    return read


def _members_in(text: str) -> list[str]:
    return [
        url for member in parse_json(text)["members"] for url in member["clientURLs"]
    ]


def _machines_in(text: str) -> Iterable[str]:
    return map(str.strip, text.split(","))


#: etcd looks at the first 4,096 bytes of a connection to tell HTTP/1 from HTTP/2, and
#: closes it if no line ends there.  So before a longer first line this request is sent,
#: which costs etcd nothing.
OPENING = Opening(Probe("/version", lambda answer: None, "opening", "HEAD"), 4000)

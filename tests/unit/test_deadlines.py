"""A call ends by its deadline, however many and however slow its requests are.

In real time: servers answer just in time, or never.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etcdmap import Client, EtcdMapError, EtcdMapping, ExchangeFailed, KeysAPI
from etcdmap.connecting import make_client
from etcdmap.transport import Answer
from etcdmap.transport import Request as HTTPRequest
from etcdmap.tree import Fence
from etcdmap.v2 import V2_API
from etcdmap.v2.store import V2Store

from support.proper import Parts, proper
from support.punctual import Punctual

ABSENT = Fence(0, absent=True)
TIMEOUT = 0.4
#: Most of a deadline; two of them are too much.
JUST = 0.32
NEVER = 99.0

A, B = "http://a:1", "http://b:2"


class Slow:
    """A transport that can only block, to servers that take their time.

    Attributes:
        seconds: how long an answer takes: gives it for what is asked.
        twist: makes another answer of a proper one.
    """

    def __init__(self) -> None:
        self.seconds: Callable[[Parts], float] = lambda asks: JUST
        self.twist: Callable[[Parts, Answer], Answer] = lambda asks, answer: answer
        self.index = 7
        self._closed = threading.Event()

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        """Answer when it is time."""
        asks = Parts(request)
        seconds = 0.0 if asks.is_identity else self.seconds(asks)
        self._closed.wait(min(seconds, timeout))
        if seconds >= timeout:
            raise ExchangeFailed("no answer in time", sent=True, timed_out=True)
        self.index += 1
        return self.twist(asks, proper(request, index=self.index, endpoint=endpoint))

    def close(self) -> None:
        """End what waits."""
        self._closed.set()


Call = Callable[[Client], object]


def tree(client: Client) -> V2Store:
    """Give a tree on a client."""
    return V2Store(KeysAPI(client))


CALLS: list[Any] = [
    pytest.param(lambda c: KeysAPI(c).get("/k"), id="keys.get"),
    pytest.param(lambda c: KeysAPI(c).exists("/k"), id="keys.exists"),
    pytest.param(lambda c: KeysAPI(c).watch("/k"), id="keys.watch"),
    pytest.param(lambda c: KeysAPI(c).set("/k", "v"), id="keys.set"),
    pytest.param(lambda c: tree(c).list("/k", recursive=True), id="list"),
    pytest.param(lambda c: tree(c).put("/k", "v"), id="put"),
    pytest.param(
        lambda c: tree(c).put("/k", "v", expect=Fence(0, absent=True)), id="create"
    ),
    pytest.param(lambda c: tree(c).append("/d", "v"), id="append"),
    pytest.param(lambda c: tree(c).refresh("/k", 9), id="refresh"),
    pytest.param(lambda c: tree(c).delete("/k"), id="delete"),
    pytest.param(lambda c: tree(c).make_directory("/d"), id="mkdir"),
    pytest.param(lambda c: c.sync(), id="sync"),
]


def client_of(
    slow: Slow, endpoints: int, timeout: float = TIMEOUT, **options: Any
) -> Client:
    """Make a client on one or two endpoints."""
    known = [A, B][:endpoints]
    return make_client(known, slow, timeout=timeout, shuffle=False, **options)


def in_time(call: Call, client: Client) -> None:
    """Do it, whatever comes of it, and check how long it takes."""
    with Punctual(client.timeout), contextlib.suppress(EtcdMapError):
        call(client)


def html(asks: Parts, answer: Answer) -> Answer:
    """Answer something that is not etcd's."""
    return replace(answer, body=b"<html>")


def refused(asks: Parts, answer: Answer) -> Answer:
    """Refuse every write, for another state than was named."""
    if asks.method in ("GET", "HEAD"):
        return answer
    body = b'{"errorCode":101,"message":"Compare failed","cause":""}'
    return replace(answer, status=412, body=body)


def no_index(asks: Parts, answer: Answer) -> Answer:
    """Tell no index."""
    return replace(answer, headers={})


def electing(asks: Parts, answer: Answer) -> Answer:
    """Have no leader."""
    body = b'{"errorCode":301,"message":"During Leader Election","cause":""}'
    return replace(answer, status=500, body=body)


def proper_one(asks: Parts, answer: Answer) -> Answer:
    """Answer as etcd does."""
    return answer


@pytest.mark.parametrize(
    ("twist", "endpoints"),
    [
        (proper_one, 1),
        *((t, 2) for t in (proper_one, html, refused, no_index, electing)),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_call_whose_answers_come_just_in_time_ends_in_time(
    call: Call, twist: Callable[[Parts, Answer], Answer], endpoints: int
) -> None:
    """Each request has what is left of the call's time, not a time of its own."""
    slow = Slow()
    slow.twist = twist
    with client_of(slow, endpoints) as client:
        in_time(call, client)


@pytest.mark.parametrize("call", CALLS)
def test_call_without_an_answer_ends_in_time(call: Call) -> None:
    """Silence costs a deadline, once."""
    slow = Slow()
    slow.seconds = lambda asks: NEVER
    with client_of(slow, 2, timeout=0.3) as client:
        in_time(call, client)


@pytest.mark.parametrize(
    "call", [c for c in CALLS if c.id in ("put", "create", "delete", "refresh")]
)
def test_call_whose_writes_are_silent_ends_in_time(call: Call) -> None:
    """What is read to settle it has what is left."""
    slow = Slow()
    slow.seconds = lambda asks: 0.2 if asks.method == "GET" else NEVER
    with client_of(slow, 2, fence=True) as client:
        in_time(call, client)


@pytest.mark.parametrize("endpoints", [1, 2])
@pytest.mark.parametrize("seconds", [0.25, NEVER])
@pytest.mark.parametrize(
    "call", [c for c in CALLS if c.id in ("keys.get", "put", "append")]
)
def test_call_that_syncs_in_passing_ends_in_time(
    call: Call, seconds: float, endpoints: int
) -> None:
    """Learning the members is done with what is left, or not at all."""
    slow = Slow()
    slow.seconds = lambda asks: seconds if asks.path.startswith("/v2/m") else 0.25
    with client_of(slow, endpoints, auto_sync=0.01) as client:
        in_time(call, client)
        assert client.endpoints == (A, B)[:endpoints]


@pytest.mark.parametrize("contact", [0.1, JUST, NEVER])
@pytest.mark.parametrize(
    "call",
    [
        lambda c: tree(c).append("/d", "v"),
        lambda c: KeysAPI(c).set("/k", "v"),
    ],
    ids=["append", "keys.set"],
)
def test_lone_write_that_looks_for_contact_first_ends_in_time(
    call: Call, contact: float
) -> None:
    """The look and the write share the deadline."""
    slow = Slow()
    slow.seconds = lambda asks: NEVER
    with client_of(slow, 2) as client:
        in_time(lambda c: KeysAPI(c).set("/k", "v", timeout=0.1), client)
        assert client.freshness(V2_API).in_doubt()
        slow.seconds = lambda asks: contact if asks.is_contact else NEVER
        in_time(call, client)


def test_sync_whose_first_way_fails_late_ends_in_time() -> None:
    """The second way has what is left."""
    slow = Slow()
    slow.seconds = lambda asks: JUST if asks.path == "/v2/members" else NEVER
    slow.twist = html
    with client_of(slow, 1) as client:
        in_time(lambda c: c.sync(), client)


def test_sync_on_a_timeout_of_its_own_ends_in_time() -> None:
    """It counts for both ways together."""
    slow = Slow()
    slow.seconds = lambda asks: 0.15
    slow.twist = html
    with (
        client_of(slow, 1, timeout=9) as client,
        Punctual(0.2),
        pytest.raises(EtcdMapError),
    ):
        client.sync(timeout=0.2)


def test_closing_the_client_ends_what_waits() -> None:
    """A call in another thread does not wait for its deadline."""
    slow = Slow()
    begun = threading.Event()

    def seconds(asks: Parts) -> float:
        begun.set()
        return NEVER

    slow.seconds = seconds
    client = client_of(slow, 2, timeout=30)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            EtcdMapping(client=client, prefix="/app")["k"]
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert begun.wait(5)
    with Punctual(0.5):
        client.close()
        thread.join(10)
    assert isinstance(errors[0], EtcdMapError)

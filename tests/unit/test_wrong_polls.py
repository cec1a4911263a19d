"""Following, while the answers to polls are something else than etcd's.

A good server answers, and from one answer to a poll on a field of the JSON, a header or
the whole is wrong.  Then no state is shown that the server did not have, nothing is
raised, few requests are sent; and once the answers are right again, so is the state.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from etcdmap.connecting import make_client
from etcdmap.errors import ExchangeFailed
from etcdmap.mapping.replica import State, after
from etcdmap.transport import Answer, Request
from etcdmap.tree import Event, Follower
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.store import V2Store

from support.altered import Alteration, alterations
from support.proper import Parts
from support.scripted_cluster import FakeTime, Steady
from support.small_etcd import SmallEtcd
from support.transports import Instantly

PREFIX = "/app"
CONTENT = {"d": {"x": "2"}, "k": "v"}
#: What is done to the server, one after the other.
DEEDS: tuple[Callable[[KeysAPI], object], ...] = (
    lambda keys: keys.set("/app/k", "w"),
    lambda keys: keys.set("/app/d/y", "n"),
    lambda keys: keys.delete("/app/d/x"),
    lambda keys: keys.make_directory("/app/e"),
    lambda keys: keys.delete("/app/d", recursive=True),
    lambda keys: keys.set("/app/k", "z"),
)
#: Seconds that each alteration lasts, and requests in that time; seconds to recover.
LASTS, MOST, RECOVERS = 10.0, 40, 12.0


class ByItself(Instantly):
    """A transport that is one function."""

    def __init__(self, carry_out: Callable[[str, Request, float], Answer]) -> None:
        self._carry_out = carry_out

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Call it."""
        return self._carry_out(endpoint, request, timeout)

    def close(self) -> None:
        """There is nothing to close."""


class Server(SmallEtcd):
    """A good server, whose answers to polls are altered from one of them on.

    Attributes:
        answers: those to polls, as they were.
        alter: what is made of them, from the one with number `first` on.
        requests: how many requests came.
    """

    def __init__(self) -> None:
        super().__init__(CONTENT, PREFIX)
        self.time = FakeTime()
        self.answers: list[Answer] = []
        self.first = 0
        self.alter: Callable[[Answer], Answer] = lambda answer: answer
        self.requests = 0
        self.make_line: Callable[[Server], PollLine] = PollLine
        self.states = [self.state()]

    def state(self) -> Any:
        """Give all that is there."""
        return _plain(self._root["nodes"]["app"])

    def do(self, deed: Callable[[KeysAPI], object]) -> None:
        """Change something, over a client of its own."""
        with make_client("http://a:1", ByItself(super().exchange)) as client:
            deed(KeysAPI(client))
        self.states.append(self.state())

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Answer what is no poll."""
        self.requests += 1
        if request.target == "/v2/members/leader":
            return Answer(200, {}, b"{}", endpoint)
        return super().exchange(endpoint, request, timeout)

    def line(self, endpoint: str) -> PollLine:
        """Give a connection for polls."""
        self.requests += 1
        return self.make_line(self)

    def poll(self, index: int, began: int) -> Answer | None:
        """Answer a poll; None while there is nothing to tell."""
        for event in self._events:
            node = event["node"]
            if node["modifiedIndex"] >= index and node["key"].startswith(f"{PREFIX}/"):
                answer = Answer(200, self.fields(began), json.dumps(event).encode(), "")
                self.answers.append(answer)
                altered = len(self.answers) > self.first
                return self.alter(answer) if altered else answer
        return None

    def fields(self, began: int) -> dict[str, str]:
        """Give the header of the answer to a poll."""
        return {
            "x-etcd-cluster-id": self.cluster_id,
            "x-etcd-index": str(began),
            "x-raft-index": "20",
        }


def _plain(node: Mapping[str, Any]) -> Any:
    if "nodes" not in node:
        return node["value"]
    return {name: _plain(child) for name, child in node["nodes"].items()}


class PollLine:
    """A `Line` to the server; where it would wait, the time moves."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._polls: deque[tuple[int, int]] = deque()
        self._ended = False
        self.cancel = self.close = lambda: None

    def send(self, requests: Sequence[Request], until: float) -> None:
        """Begin to poll."""
        for request in requests:
            self._server.requests += 1
            index = int(Parts(request).parameters["waitIndex"])
            self._polls.append((index, self._server.index))

    def head(self, until: float) -> tuple[int, Mapping[str, str]]:
        """Give the head of the next answer, whose body may be to come."""
        index, began = self._polls[0]
        answer = Answer(200, self._server.fields(began), b"", "")
        if self._server.poll(index, began) is not None:
            self._server.answers.pop()
        if len(self._server.answers) >= self._server.first:
            altered = self._server.alter(replace(answer, body=b"{}"))
            answer = replace(answer, headers=altered.headers)
        return answer.status, answer.headers

    def receive(self, until: float) -> Answer | None:
        """Give the next answer."""
        index, began = self._polls[0]
        answer = self._server.poll(index, began)
        if answer is None and self._ended:
            answer = Answer(200, self._server.fields(began), b"", "")
        if answer is None:
            self._server.time.now = max(self._server.time.now, until)
            return None
        self._polls.popleft()
        return answer

    def receive_all(self, until: float) -> Sequence[Answer]:
        """Give the next answer; none comes with it."""
        answer = self.receive(until)
        return () if answer is None else (answer,)

    def end_sending(self) -> None:
        """Have the server end the poll."""
        self._ended = True


class World:
    """A follower of a server, and what it has told so far."""

    def __init__(self, server: Server, *, heals: bool = True) -> None:
        self.server, self.time = server, server.time
        client = make_client(
            "http://a:1",
            server,
            rng=Steadily(),
            clock=self.time.clock,
            sleep=self.time.sleep,
        )
        store = V2Store(KeysAPI(client))
        self.follower: Follower = store.follower(
            PREFIX, of_directory=True, max_stale=4.0, heals=heals
        )
        member: Any = self.follower
        member._member.pause = self.time.sleep
        reading = self.follower.read()
        self.state = State(PREFIX, reading.root, reading.index)
        self.events: list[Event] = []
        self.seen = [self.state.root]

    def follow(self, seconds: float, most: int) -> None:
        """Follow for some time, with a bound of requests."""
        until = self.time.now + seconds
        asked = self.server.requests
        while self.time.now < until:
            for news in self.follower.follow(min(until, self.time.now + 0.5)):
                self.state, events = after(self.state, [news])
                self.events += events
                self.seen.append(self.state.root)
            assert self.server.requests - asked <= most, "asked again without an end"
            self.time.now += 0.0002  # what anything takes


class Steadily(Steady):
    """The same, for all that following asks of chance."""

    def random(self) -> float:
        """Give the upper end."""
        return 1.0


def run(server: Server) -> World:
    """Let the server do all that it does, and follow."""
    world = World(server)
    for deed in DEEDS:
        server.do(deed)
        world.follow(LASTS / len(DEEDS), MOST)
    return world


def good_answers() -> list[Answer]:
    """Give the answers to all polls, if nothing is wrong."""
    server = Server()
    world = run(server)
    assert world.state.root == server.state()
    assert not any(event.coalesced for event in world.events)
    assert world.follower.trouble is None
    return server.answers


def wrong_wholes() -> list[tuple[str, Callable[[Answer], Answer]]]:
    """Give what is wrong about more than one field, with names."""

    def event(action: str, index: int, **node: Any) -> Callable[[Answer], Answer]:
        whole = {"action": action, "node": {"modifiedIndex": index, **node}}
        return lambda answer: replace(answer, body=json.dumps(whole).encode())

    def but(**fields: Any) -> Callable[[Answer], Answer]:
        return lambda answer: replace(answer, **fields)

    refusal = b'{"errorCode":%d,"message":"x","cause":"/app","index":9}'
    return [
        ("outside", event("set", 99, key="/application", value="v")),
        ("outside, gone", event("delete", 5, key="/application")),
        ("above, set", event("set", 18, key="/", value="v")),
        ("no name", event("set", 18, key="/app//x", value="v")),
        ("slash at the end", event("set", 18, key="/app/x/", value="v")),
        ("of a read", event("get", 18, key="/app/k", value="v")),
        ("nonsense", event("explode", 18, key="/app/k", value="v")),
        ("old", event("set", 2, key="/app/k", value="v")),
        ("far in the future", event("set", 2**63, key="/app/k", value="v")),
        ("no header", but(headers={})),
        ("a header of before", but(headers={"x-etcd-index": "1"})),
        (
            "another cluster",
            but(headers={"x-etcd-index": "9", "x-etcd-cluster-id": "b"}),
        ),
        ("html", but(body=b"<html>")),
        ("no UTF-8", but(body=b"\xff\xfe")),
        ("deep", but(body=b"[" * 10**5)),
        ("an end", but(body=b"")),
        ("cleared", but(status=400, body=refusal % 401)),
        ("absent", but(status=404, body=refusal % 100)),
        ("not allowed", but(status=401, body=refusal % 110)),
        ("a redirect", but(status=307, body=b"")),
        ("gateway", but(status=504, body=b"<html>")),
        ("500", but(status=500, body=refusal % 300)),
    ]


def check(name: str, first: int, alter: Callable[[Answer], Answer], fits: bool) -> None:
    """Follow while answers are altered, and then until all is right again."""
    server = Server()
    server.first, server.alter = first, alter
    try:
        world = run(server)
        server.alter = lambda answer: answer
        world.follow(RECOVERS, MOST)
        server.do(lambda keys: keys.set("/app/last", "x"))
        world.follow(1.0, MOST)
    except AssertionError as error:
        raise AssertionError(name) from error
    assert world.state.root == server.state() or fits, name
    for state in world.seen:
        assert state in server.states or fits, name


@pytest.mark.parametrize("first", range(len(DEEDS)))
def test_following_with_a_wrong_field_is_never_wrong(first: int) -> None:
    """Each field of each answer to a poll, and each header."""
    answers = good_answers()
    assert len(answers) >= len(DEEDS)
    chosen: list[Alteration] = [
        each for each in alterations(answers) if each.first == first
    ]
    for name, _, alter, fits in chosen:
        check(name, first, alter, fits)


@pytest.mark.parametrize(("name", "alter"), wrong_wholes())
@pytest.mark.parametrize("first", [0, 2])
def test_following_with_a_wrong_answer_is_never_wrong(
    name: str, alter: Callable[[Answer], Answer], first: int
) -> None:
    """What answers something else, or nothing that was asked."""
    check(name, first, alter, fits=False)


def test_connection_that_ends_at_each_poll_is_an_outage_and_no_spin() -> None:
    """The tree is read again and again, but not often: what it shows is the present."""
    server = Server()

    def fail(answer: Answer) -> Answer:
        raise ExchangeFailed("gone", sent=True)

    server.alter = fail
    world = run(server)
    assert world.follower.trouble is not None
    assert world.state.root == server.state()


class Starved(PollLine):
    """A line to a member that gets no processor between head and body for a while.

    What ends the poll then, swallows an event that history had.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._wakes = server.time.now + 0.05

    def receive(self, until: float) -> Answer | None:
        """Give the next answer, once the member is awake."""
        time = self._server.time
        if time.now >= self._wakes:
            return super().receive(until)
        if not self._ended:
            time.now = max(time.now, min(until, self._wakes))
            return None if time.now < self._wakes else super().receive(until)
        time.now = self._wakes
        _, began = self._polls.popleft()
        return Answer(200, self._server.fields(began), b"", "")


@pytest.mark.parametrize("heals", [True, False])
def test_event_that_a_barrier_swallows_is_not_lost(heals: bool) -> None:
    """The poll beside it tells it, and what comes behind it comes behind it."""
    server = Server()
    world = World(server, heals=heals)
    world.follow(0.5, MOST)
    server.make_line = Starved
    for deed in DEEDS:
        # The poll there is never tells: somebody has forgotten its connection.
        world.follower._line._polls[0] = (10**6, server.index)  # type: ignore[attr-defined]
        server.do(deed)
        server.do(lambda keys: keys.set("/elsewhere", "x"))
        world.follow(5.0, MOST)
    world.follow(5.0, MOST)
    assert world.state.root == server.state()
    assert [event.index for event in world.events] == sorted(
        event.index for event in world.events
    )
    assert not any(event.coalesced for event in world.events)
    assert len([e for e in world.events if e.action == "set"]) == 3


def test_event_that_a_barrier_swallowed_takes_nothing_back() -> None:
    """Else what is shown were above it, and a cluster built anew would go unnoticed."""
    server = Server()
    world = World(server)
    world.follow(0.5, MOST)
    follower: Any = world.follower
    follower.covered = covered = server.index + 2
    server.do(lambda keys: keys.set(f"{PREFIX}/k", "x"))
    world.follow(0.1, MOST)
    assert world.state.root == server.state()
    assert follower.covered == covered
    assert follower.settled == server.index < covered


def test_watch_goes_on_from_before_what_a_barrier_has_passed() -> None:
    """What it swallowed, if it did, comes late, and another watch must get it, too."""
    server = Server()
    world = World(server, heals=False)
    world.follow(0.5, MOST)
    known = server.index
    server.do(lambda keys: keys.set("/elsewhere", "x"))
    world.follower.prove()
    world.follow(0.1, MOST)
    assert world.follower.covered == server.index > known
    assert world.follower.settled == known

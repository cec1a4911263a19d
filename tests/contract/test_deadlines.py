"""One deadline for each call, however many requests it takes, and however often."""

from __future__ import annotations

from collections.abc import Callable
from operator import contains, delitem, eq, or_, setitem
from typing import Any, TypeAlias
from urllib.parse import unquote

import pytest

from etcdmap import (
    DeadlineExceeded,
    EtcdMapError,
    EtcdMapping,
    OutcomeUnknown,
    PartialWrite,
)
from etcdmap.cache import ReadCache
from etcdmap.mapping.execution import MOST_CONNECTIONS
from etcdmap.transport import Answer, Request

from support.scripted_cluster import (
    A,
    B,
    FakeTime,
    ScriptedCluster,
    fails,
    silent,
)
from support.transports import answer

Call: TypeAlias = "Callable[[EtcdMapping, EtcdMapping], object]"

TIMEOUT = 0.5
#: Seconds by which a call may overrun; the clock here stands still but for waiting.
GRACE = 0.001


class Server:
    """What all endpoints of a scripted cluster do.

    Attributes:
        there: what stands at each key: "file", "directory", or "" for nothing.
        seconds: how long each answer takes.
        refuse: etcd's code for every PUT and DELETE; 0 to carry them out.
        names: the children that each directory has.
        lose: whether to lose the answer to each write in turn, after a while; the
            last one is for good.
    """

    def __init__(self, there: str, **options: Any) -> None:
        self.there = there
        self.seconds = 0.0
        self.refuse = 0
        self.lose = [False]
        self.names = ["k"]
        self.index = 7
        self.cluster = ScriptedCluster(timeout=TIMEOUT, **options)
        self.cluster.behaviours = dict.fromkeys(self.cluster.behaviours, self)

    def __call__(self, time: FakeTime, timeout: float) -> Answer:
        """Answer the request that was just sent."""
        if self.seconds > timeout:
            return silent(time, timeout)
        time.now += self.seconds
        self.index += 1
        request = self.cluster.requests[-1]
        path = unquote(request.target.partition("?")[0])
        if not path.startswith("/v2/keys"):
            return answer("{}", index=None)  # a look at the server, not at a key
        path = path.removeprefix("/v2/keys")
        if request.method == "HEAD":
            return answer("", 200, index=None)  # which leaves it open
        if request.method == "GET":
            return self._read(path)
        if self.lose.pop(0) if len(self.lose) > 1 else self.lose[0]:
            return fails("reset", sent=True, takes=0.3 * TIMEOUT)(time, timeout)
        return self._write(request, path)

    def _write(self, request: Request, path: str) -> Answer:
        if self.refuse:
            return self._refusal(self.refuse)
        if request.method == "DELETE":
            self.there = ""
        elif self.there == "directory":
            return self._refusal(102)
        node = file(path, self.index)
        action = action_of(request)
        return answer(f'{{"action":"{action}","node":{node}}}', index=self.index)

    def _read(self, path: str) -> Answer:
        key = path.rstrip("/")
        node = file(key)
        if key != path or self.there == "directory":
            below = ",".join(file(f"{key}/{name}") for name in self.names)
            node = f'{{"key":"{key}","dir":true,"nodes":[{below}]}}'
        elif not self.there:
            return self._refusal(100)
        return answer(f'{{"action":"get","node":{node}}}', index=self.index)

    def _refusal(self, code: int) -> Answer:
        body = f'{{"errorCode":{code},"message":"no","cause":"","index":{self.index}}}'
        return answer(body, 404 if code == 100 else 412, index=self.index)

    def mappings(self) -> tuple[EtcdMapping, EtcdMapping]:
        """Give a mapping, and another one."""
        client = self.cluster.client
        return (
            EtcdMapping(client=client, prefix="/app"),
            EtcdMapping(client=client, prefix="/other"),
        )


def file(path: str, index: int = 3) -> str:
    """Give a file as etcd spells it."""
    return (
        f'{{"key":"{path}","value":"1","modifiedIndex":{index},"createdIndex":3,'
        '"ttl":50,"expiration":"2030-01-01T00:00:00Z"}'
    )


def action_of(request: Request) -> str:
    """Give what etcd calls a write that it has carried out."""
    asked = f"{request.target} {request.body!r}"
    if request.method == "DELETE":
        return "compareAndDelete" if "prevIndex" in asked else "delete"
    if "prevIndex" in asked or "prevValue" in asked:
        return "compareAndSwap"
    if "prevExist" in asked:
        return "create" if "prevExist=false" in asked else "update"
    return "set"


SEVERAL = [
    pytest.param("file", lambda m, _: m.pop("k"), id="pop"),
    pytest.param("directory", lambda m, _: m.pop("k"), id="pop-directory"),
    pytest.param("file", lambda m, _: m.popitem(), id="popitem"),
    pytest.param("", lambda m, _: m.setdefault("k", 1), id="setdefault"),
    pytest.param("", lambda m, _: m.setdefault("k", {}), id="setdefault-mapping"),
    pytest.param(
        "",
        lambda m, other: m.setdefault("k", {"a": other, "b": other}),
        id="setdefault-others",
    ),
    pytest.param("", lambda m, _: m.create("k", {"a": 1}), id="create-mapping"),
    pytest.param("file", lambda m, _: m.transform("k", str), id="transform"),
    pytest.param("file", lambda m, _: m.set("k", 2, keep_ttl=True), id="keep-ttl"),
    pytest.param("directory", lambda m, _: setitem(m, "k", 2), id="over-a-directory"),
    pytest.param("directory", lambda m, _: m.replace("k", 2), id="replace-directory"),
    pytest.param("file", lambda m, _: m.replace("k", ""), id="replace-empty-text"),
    pytest.param("file", lambda m, _: m.compare_and_delete("k", 1), id="delete-if"),
    pytest.param(
        "file",
        lambda m, _: contains(m.using(consistency="any"), "k"),
        id="unclear-head",
    ),
    pytest.param("", lambda m, _: setitem(m, "k", {"a": 1}), id="mapping"),
    pytest.param("file", lambda m, other: setitem(m, "k", other), id="other-mapping"),
    pytest.param(
        "file", lambda m, other: setitem(m, "k", {"a": other, "b": other}), id="others"
    ),
    pytest.param("file", lambda m, _: m.update(k=2), id="update"),
    pytest.param("file", lambda m, _: m.merge({"k": 2}), id="merge"),
    pytest.param("file", lambda m, other: m.assign(other.sub("x")), id="assign"),
    pytest.param("file", lambda m, _: m.clear(), id="clear"),
    pytest.param("file", lambda m, other: eq(m, other), id="equal"),
    pytest.param("file", lambda m, other: or_(m, other), id="or"),
    pytest.param("file", lambda m, _: m.flat.pop("k"), id="flat-pop"),
    pytest.param("file", lambda m, _: m.flat.popitem(), id="flat-popitem"),
    pytest.param("", lambda m, _: m.flat.setdefault("k", 1), id="flat-setdefault"),
    pytest.param("file", lambda m, _: m.flat.clear(), id="flat-clear"),
]


@pytest.mark.parametrize(("there", "call"), SEVERAL)
@pytest.mark.parametrize("endpoints", [[A], [A, B]], ids=["one", "two"])
def test_call_of_several_requests_ends_by_its_deadline(
    there: str, call: Call, endpoints: list[str]
) -> None:
    """Answers that come just in time for each request are too late for the call."""
    quick = Server(there, endpoints=endpoints, policy=None)
    call(*quick.mappings())
    assert len(quick.cluster.requests) >= 2, "one request is no proof"

    server = Server(there, endpoints=endpoints)
    server.seconds = 0.8 * TIMEOUT
    began = server.cluster.time.now
    with pytest.raises((DeadlineExceeded, OutcomeUnknown, PartialWrite)):
        call(*server.mappings())
    assert server.cluster.time.now - began <= TIMEOUT + GRACE


def test_delete_of_a_directory_with_fences_ends_by_its_deadline() -> None:
    """The look that a fence needs counts."""
    server = Server("directory", endpoints=[A, B])
    mapping, _ = server.mappings()
    delitem(mapping, "k")
    assert len(server.cluster.requests) == 2
    server.there = "directory"
    server.seconds = 0.8 * TIMEOUT
    began = server.cluster.time.now
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        delitem(mapping, "k")
    assert server.cluster.time.now - began <= TIMEOUT + GRACE


@pytest.mark.parametrize("timeout", [0.1, 2.0])
def test_call_takes_the_deadline_of_its_view(timeout: float) -> None:
    """`using(timeout=)` is for the whole call, too."""
    server = Server("file", endpoints=[A])
    server.seconds = 0.8 * timeout
    mapping, _ = server.mappings()
    began = server.cluster.time.now
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        mapping.using(timeout=timeout).pop("k")
    assert server.cluster.time.now - began == pytest.approx(timeout)


def test_call_that_has_no_time_left_sends_nothing() -> None:
    """The function that somebody passes takes of the time as requests do."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()

    def dawdle(value: Any) -> Any:
        server.cluster.time.now += TIMEOUT
        return value

    with pytest.raises(DeadlineExceeded, match="not sent"):
        mapping.transform("k", dawdle)
    assert [request.method for request in server.cluster.requests] == ["GET"]


def test_writes_of_many_keys_have_a_deadline_for_each_request() -> None:
    """A large tree may take longer than one call does."""
    server = Server("file", endpoints=[A])
    server.seconds = 0.8 * TIMEOUT
    mapping, _ = server.mappings()
    mapping.update(a=1, b=2, c=3)
    assert len(server.cluster.requests) == 4


def test_mapping_with_a_view_of_no_call_is_not_held_to_one() -> None:
    """A deadline ends with its call."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()
    mapping.pop("k")
    server.there = "file"
    server.cluster.time.now += 10 * TIMEOUT
    assert mapping.pop("k") == 1


# --- others that come between, again and again ---------------------------------------

CONTRADICTED = [
    pytest.param("", 105, lambda m: m.setdefault("k", 1), id="setdefault"),
    pytest.param("", 105, lambda m: m.setdefault("k", {}), id="setdefault-mapping"),
    pytest.param("", 105, lambda m: m.flat.setdefault("k", 1), id="flat-setdefault"),
    pytest.param("file", 101, lambda m: m.transform("k", str), id="transform"),
    pytest.param(
        "", 105, lambda m: m.transform("k", str, default=1), id="transform-absent"
    ),
    pytest.param("file", 101, lambda m: m.set("k", 1, keep_ttl=True), id="keep-ttl"),
    pytest.param("file", 101, lambda m: m.pop("k"), id="pop"),
    pytest.param("file", 101, lambda m: m.flat.pop("k"), id="flat-pop"),
    pytest.param("file", 101, lambda m: m.popitem(), id="popitem"),
    pytest.param("file", 100, lambda m: m.popitem(), id="popitem-gone"),
    pytest.param("file", 101, lambda m: m.flat.popitem(), id="flat-popitem"),
    pytest.param("file", 100, lambda m: m.flat.popitem(), id="flat-popitem-gone"),
]


@pytest.mark.parametrize(("there", "code", "call"), CONTRADICTED)
def test_loop_on_answers_that_contradict_each_other_ends_in_time(
    there: str, code: int, call: Callable[[EtcdMapping], object]
) -> None:
    """It looks anew at once, then less and less often, until its time is over."""
    server = Server(there, endpoints=[A])
    server.refuse = code
    time = server.cluster.time
    began = time.now
    with pytest.raises(DeadlineExceeded, match="came between"):
        call(server.mappings()[0])
    assert time.now - began <= TIMEOUT + GRACE
    assert time.sleeps[0] <= 0.001
    assert max(time.sleeps) <= 0.05
    assert len(time.sleeps) > 10
    assert len(server.cluster.requests) < 200


@pytest.mark.parametrize(("there", "code", "call"), CONTRADICTED)
def test_loop_has_a_bound_on_its_rounds(
    there: str, code: int, call: Callable[[EtcdMapping], object]
) -> None:
    """However much time it is given."""
    server = Server(there, endpoints=[A])
    server.refuse = code
    with pytest.raises(DeadlineExceeded, match="came between"):
        call(server.mappings()[0].using(timeout=1e6))
    assert 1000 <= len(server.cluster.requests) <= 2000


@pytest.mark.parametrize("view", [lambda m: m, lambda m: m.flat])
def test_popitem_does_not_pause_for_keys_that_others_took(
    view: Callable[[EtcdMapping], Any],
) -> None:
    """Of those who empty a directory together, none falls behind the others."""
    server = Server("file", endpoints=[A])
    server.names = [f"k{n}" for n in range(100)]
    server.refuse = 100
    time, requests = server.cluster.time, server.cluster.requests
    before_a_pause: list[int] = []
    time.on_wake = lambda: before_a_pause.append(len(requests))
    with pytest.raises(DeadlineExceeded):
        view(server.mappings()[0]).popitem()
    assert before_a_pause[0] == 1 + 100


def test_loop_default_does_not_hide_that_others_came_between() -> None:
    """Only what is absent is worth a default."""
    server = Server("file", endpoints=[A])
    server.refuse = 101
    with pytest.raises(DeadlineExceeded):
        server.mappings()[0].pop("k", None)


# --- waiting for another thread ------------------------------------------------------


def test_miss_that_waits_for_another_read_has_one_deadline() -> None:
    """It waits for half of its time, and reads itself in the rest."""
    cache = ReadCache(30.0)
    server = Server("file", endpoints=[A], cache=cache)
    mapping, _ = server.mappings()
    waited: list[float | None] = []

    class Done:
        def wait(self, seconds: float | None) -> bool:
            waited.append(seconds)
            server.cluster.time.now += seconds or 0
            return False

    flight, mine = cache._join("/app/k")  # another thread's, which never ends
    assert flight is not None
    assert mine
    flight.done = Done()  # type: ignore[assignment]
    server.seconds = 0.9 * TIMEOUT
    began = server.cluster.time.now
    with pytest.raises(EtcdMapError):
        mapping["k"]
    assert waited == [pytest.approx(TIMEOUT / 2)]
    assert server.cluster.time.now - began <= TIMEOUT + GRACE
    server.seconds = 0
    assert mapping["k"] == 1


# --- many keys, and nobody answers ----------------------------------------------------


def partial(call: Callable[[], object]) -> PartialWrite:
    """Give the error of a write that must end half-way."""
    with pytest.raises(PartialWrite) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("count", [7, 160], ids=["one-by-one", "threads"])
def test_bulk_ends_after_a_deadline_of_silence(count: int) -> None:
    """What is left would take as long for each key; it is told as not tried."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()
    server.seconds = 10 * TIMEOUT
    error = partial(lambda: mapping.flat.update({f"k{n}": n for n in range(count)}))
    assert len(error.failed) <= MOST_CONNECTIONS
    assert len(error.failed) + len(error.pending) == count
    assert error.written == ()
    assert all(isinstance(e, OutcomeUnknown) for e in error.failed.values())


def test_bulk_ends_after_a_deadline_of_lost_answers() -> None:
    """Connections that break at once are silence, too, when nothing else comes."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()
    server.lose = [True]
    error = partial(lambda: mapping.flat.update({f"k{n}": n for n in range(7)}))
    assert (len(error.failed), len(error.pending)) == (4, 3)


def test_bulk_goes_on_while_something_answers() -> None:
    """One answer in time, be it a refusal, and the rest is worth trying."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()
    server.refuse = 110
    server.lose = [True, True, False, True, True, False, True]
    error = partial(lambda: mapping.flat.update({f"k{n}": n for n in range(7)}))
    assert len(error.failed) == 7
    assert error.pending == ()


def test_bulk_counts_silence_over_its_phases() -> None:
    """What is left of one phase and what begins the next are one wait."""
    server = Server("file", endpoints=[A])
    mapping, _ = server.mappings()
    server.lose = [True]
    server.names = ["k", "l", "m"]  # to be deleted, when the others are written
    error = partial(lambda: mapping.assign({"a": 1, "b": 2, "c": 3}))
    assert list(error.failed) == ["/app/a", "/app/b", "/app/c", "/app/k"]
    assert error.pending == ("/app/l", "/app/m")

"""A mapping against servers that answer what no etcd does.

Over both ways to an endpoint: sockets of our own, and a `requests.Session`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from etcdmap import EtcdMapError, EtcdMapping
from etcdmap.client.endpoint_health import Policy
from etcdmap.local import LocalCluster

from support.fault_server import (
    CLOSE,
    READ,
    RESET,
    STALL,
    Drip,
    Endless,
    FaultServer,
    Received,
    Reply,
    Script,
    Stopwatch,
    chunked,
    file_answer,
    head,
    response,
)
from support.raw_http import ask
from support.servers import newest

#: How late a call may end on a busy machine, beyond its timeout.
GRACE = 0.2
TIMEOUT = 0.3
LIMIT = 1 << 20
#: Where the mapping stands, and the key that is asked for.
PREFIX = "/bad"
KEY = f"{PREFIX}/k"
#: Moves on soon, so that silence costs a test little.
HASTY = Policy(first_delay=0.1, again=0.2, first_pause=0.02)


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """Give a real member that works, of the newest etcd at hand."""
    with LocalCluster(1, binary=newest()) as cluster:
        yield cluster.endpoints[0]


@pytest.fixture(scope="module")
def cluster_id(good: str) -> str:
    """Give the id of its cluster."""
    return ask(good, "GET", "/v2/keys/").headers["x-etcd-cluster-id"]


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Keep the collector from looking at all that was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


Connect = Callable[..., EtcdMapping]


@pytest.fixture(params=["wire", "session"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Give a function that makes a mapping, over each way to an endpoint."""
    with contextlib.ExitStack() as stack:

        def connect(*endpoints: str, **options: Any) -> EtcdMapping:
            settings = {"timeout": TIMEOUT, "max_response": LIMIT, **options}
            if request.param == "session":
                session = stack.enter_context(requests.Session())
                session.trust_env = False
                settings["session"] = session
            made = EtcdMapping(endpoints, PREFIX, shuffle=False, **settings)
            return stack.enter_context(made)

        yield connect
    with warnings.catch_warnings():
        # urllib3 drops sockets unclosed when an exchange fails.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def to(location: str, status: int) -> Script:
    """Redirect."""
    return [Reply(lambda _: response("", status, {"Location": location}))]


def to_itself(status: int) -> Script:
    """Redirect to the same URL."""

    def reply(request: Received) -> bytes:
        target = request.line.partition(" ")[2]
        location = f"http://{request.headers['host']}{target}"
        return response("", status, {"Location": location})

    return [Reply(reply)]


def json_answer(value: Any) -> Script:
    """Answer with some JSON, and 200."""
    return [READ, response(json.dumps(value))]


def node(**fields: Any) -> Script:
    """Answer with a node of these fields."""
    return json_answer({"action": "get", "node": {"key": KEY, **fields}})


GOOD_NODE = {"action": "get", "node": {"key": KEY, "value": "x", "modifiedIndex": 3}}
WHOLE = json.dumps(GOOD_NODE).encode()

#: Answers that no client may take for an answer of etcd, whatever was asked for.
BAD: list[Any] = [
    # text
    pytest.param([READ, response(WHOLE[:-10])], id="json-truncated"),
    pytest.param([READ, response("<html><h1>It works!</h1></html>")], id="html"),
    pytest.param([READ, response("")], id="empty"),
    pytest.param([READ, response(" ")], id="blank"),
    pytest.param(json_answer(None), id="json-null"),
    pytest.param(json_answer([]), id="json-list"),
    pytest.param(json_answer("node"), id="json-text"),
    pytest.param(json_answer(5), id="json-number"),
    pytest.param(json_answer({}), id="json-empty"),
    pytest.param(json_answer({"node": None}), id="node-null"),
    pytest.param(json_answer({"node": []}), id="node-list"),
    pytest.param([READ, response(b'{"action":"get\xff","node":"\xfe"}')], id="utf-8"),
    pytest.param([READ, response(WHOLE, index=None)], id="no-index"),
    pytest.param([READ, response(WHOLE.decode().encode("utf-16"))], id="utf-16"),
    pytest.param([READ, response("[" * 200_000)], id="json-deep"),
    pytest.param([READ, response(WHOLE + WHOLE)], id="json-twice"),
    # lengths
    pytest.param([READ, response(WHOLE, length=999), CLOSE], id="body-shorter"),
    pytest.param([READ, response(WHOLE, length=999), STALL], id="body-shorter-stall"),
    pytest.param([READ, response(WHOLE, length=20)], id="body-longer"),
    pytest.param([READ, response(WHOLE, length="abc")], id="length-text"),
    pytest.param([READ, response(WHOLE, length=-5)], id="length-negative"),
    pytest.param([READ, response(WHOLE, length="9" * 5000)], id="length-digits"),
    pytest.param([READ, response(WHOLE, length=10**17)], id="length-huge"),
    # ends
    pytest.param([READ, CLOSE], id="close-at-once"),
    pytest.param([READ, RESET], id="reset-at-once"),
    pytest.param([READ, head()[:30], CLOSE], id="close-in-headers"),
    pytest.param([READ, head()[:30], RESET], id="reset-in-headers"),
    pytest.param(
        [READ, response(WHOLE, length=len(WHOLE))[:-9], CLOSE], id="close-in-body"
    ),
    pytest.param([READ, response(WHOLE)[:-9], RESET], id="reset-in-body"),
    pytest.param([READ, chunked(WHOLE)[:-15], CLOSE], id="close-in-chunk"),
    pytest.param([READ, chunked(WHOLE, end=False), CLOSE], id="close-after-chunk"),
    pytest.param([READ, chunked(WHOLE, end=False), RESET], id="reset-after-chunk"),
    # statuses
    pytest.param(
        [READ, response('{"errorCode":300,"message":"Raft Internal Error"}', 500)],
        id="500-300",
    ),
    pytest.param(
        [READ, response('{"errorCode":301,"message":"Leader Election"}', 500)],
        id="500-301",
    ),
    pytest.param([READ, response("Service Unavailable", 503)], id="503-text"),
    pytest.param([READ, response("<html>502</html>", 502)], id="502-html"),
    pytest.param([READ, response("404 page not found", 404, index=None)], id="404"),
    pytest.param([READ, response('{"message":"no"}', 400)], id="400-json"),
    pytest.param([READ, response("", 100)], id="100-only"),
    pytest.param([READ, head(204, index=None)], id="204"),
    # redirects
    *[
        pytest.param(script, id=f"{status}-{name}")
        for status in (301, 302, 303, 307, 308)
        for name, script in (
            ("self", to_itself(status)),
            ("elsewhere", to("http://127.0.0.1:9/v2/keys/k", status)),
        )
    ],
    pytest.param(to("/v2/keys/k", 307), id="307-relative"),
    pytest.param(to("::", 307), id="307-nonsense"),
    pytest.param([READ, response("", 307)], id="307-nowhere"),
    # sizes and times
    pytest.param(
        [READ, head()[:-2], *[b"X: y\r\n" * 100] * 100, b"\r\n"], id="10000-headers"
    ),
    pytest.param([READ, head()[:-2], Endless(b"X-Y: z\r\n")], id="endless-headers"),
    pytest.param(
        [READ, response("", length=100 << 20), Endless(b"a" * 65536, times=1600)],
        id="100-mib",
    ),
    pytest.param(
        [READ, chunked(end=False)[: -0 or None], Endless(b"10000\r\n" + b"a" * 65536)],
        id="endless-chunks",
    ),
    pytest.param([READ, Drip(response(WHOLE), 1.0)], id="byte-a-second"),
    pytest.param([READ, head(), Drip(WHOLE, 1.0)], id="byte-a-second-in-body"),
    pytest.param([READ, STALL], id="silence"),
    # no HTTP
    pytest.param([READ, b"SSH-2.0-OpenSSH_9.6\r\n", CLOSE], id="ssh"),
    pytest.param([READ, b"\0" * 4096, CLOSE], id="zeros"),
]

#: A node of the wrong types; it is no bad answer to a write, which has no use for it.
BAD_NODES: list[Any] = [
    pytest.param(json_answer({"action": "get"}), id="no-node"),
    pytest.param(node(value=5, modifiedIndex=3), id="value-number"),
    pytest.param(node(value=None, modifiedIndex=3), id="value-null"),
    pytest.param(node(value=["x"], modifiedIndex=3), id="value-list"),
    pytest.param(node(modifiedIndex=3), id="no-value"),
    pytest.param(node(value="x"), id="no-index"),
    pytest.param(node(value="x", modifiedIndex="3"), id="index-text"),
    pytest.param(node(value="x", modifiedIndex=3.5), id="index-float"),
    pytest.param(node(value="x", modifiedIndex=3, ttl="9"), id="ttl-text"),
]

#: A directory whose listing is of the wrong types.
BAD_LISTINGS: list[Any] = [
    pytest.param(json_answer({"action": "get"}), id="no-node"),
    pytest.param(node(dir=True, nodes=5), id="nodes-number"),
    pytest.param(node(dir=True, nodes={"a": 1}), id="nodes-object"),
    pytest.param(node(dir=True, nodes=[None]), id="child-null"),
    pytest.param(node(dir=True, nodes=["x"]), id="child-text"),
    pytest.param(node(dir=True, nodes=[{"value": "x"}]), id="child-no-key"),
    pytest.param(node(dir=True, nodes=[{"key": 5, "value": "x"}]), id="key-number"),
    pytest.param(node(dir=True, nodes=[{"key": f"{KEY}/a"}]), id="child-no-value"),
    pytest.param(
        node(dir=True, nodes=[{"key": f"{KEY}/a", "value": 5, "modifiedIndex": 3}]),
        id="child-value-number",
    ),
]

#: Every way to meet an answer: a listing, one node, its presence, a write.
CALLS: dict[str, Callable[[EtcdMapping], object]] = {
    "m[k]": lambda m: m["k"],
    "k in m": lambda m: "k" in m,
    "to_dict": lambda m: m.to_dict(),
    "m[k] = v": lambda m: m.set("k", "v"),
}


def fails(mapping: EtcdMapping, url: str, call: Callable[[EtcdMapping], Any]) -> None:
    """Check that a call fails as it should."""
    with Stopwatch() as watch, pytest.raises(EtcdMapError) as caught:
        call(mapping)
    assert watch.seconds < TIMEOUT + GRACE
    assert url in str(caught.value)
    assert not isinstance(caught.value, KeyError)
    error: BaseException | None = caught.value
    while error is not None:  # frames hold sockets
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def all_fail(connect: Connect, script: Script, *names: str) -> None:
    """Check that calls fail as they should; all at once, since each takes its time."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(names)))
        work = {}
        for name in names:
            # The status and the index of the store are all that HEAD tells.
            bad = [_without_index(a) for a in script] if name == "k in m" else script
            server = stack.enter_context(FaultServer(bad))
            mapping = connect(server.url)
            work[name] = pool.submit(fails, mapping, server.url, CALLS[name])
        errors = {name: future.exception() for name, future in work.items()}
    assert errors == dict.fromkeys(names)


# --- alone --------------------------------------------------------------------


@pytest.mark.parametrize("script", BAD)
def test_bad_answer_fails_every_call_by_name_and_in_time(
    connect: Connect, script: Script
) -> None:
    """No value, no KeyError, no hang, no write that was acknowledged."""
    all_fail(connect, script, *CALLS)


@pytest.mark.parametrize("script", BAD_NODES)
def test_bad_node_fails_a_read_by_name_and_in_time(
    connect: Connect, script: Script
) -> None:
    """What is no text is no value."""
    all_fail(connect, script, "m[k]")


@pytest.mark.parametrize("script", BAD_LISTINGS)
def test_bad_listing_fails_by_name_and_in_time(
    connect: Connect, script: Script
) -> None:
    """Half of a listing is none."""
    all_fail(connect, script, "to_dict")


# --- what follows a bad answer --------------------------------------------------

#: Answers after which nobody knows where the next one begins.
UNCLEAR: list[Any] = [
    pytest.param([response(WHOLE, length="abc")], id="length-text"),
    pytest.param([response(WHOLE, length=-5)], id="length-negative"),
    pytest.param([chunked(WHOLE, end=False), b"zz\r\n"], id="chunk-size"),
    pytest.param([b"\0" * 100 + b"\r\n\r\n"], id="zeros"),
    pytest.param([response("", 100)] * 40, id="100-without-end"),
]
#: Well-framed, and nobody knows why it says what it says.
NONSENSE: list[Any] = [
    pytest.param([response("<html>Welcome</html>")], id="html"),
    pytest.param([response(WHOLE[:-10])], id="json-truncated"),
    pytest.param([response("null")], id="json-null"),
    pytest.param([response("no", 503)], id="503-text"),
    pytest.param([response("", 302, {"Location": "/"})], id="302"),
]
#: More than an answer in one packet.  http.client drops the rest and tells nobody, so
#: this is for sockets of our own.
TOO_MUCH: list[Any] = [
    pytest.param([response(WHOLE, length=20)], id="body-longer"),
    pytest.param([file_answer("x", KEY) * 2], id="two-answers"),
    pytest.param([response(WHOLE, 200, {"Content-Length": "5"})], id="length-twice"),
]


def is_used_once(mapping: EtcdMapping, server: FaultServer) -> bool:
    """Meet the bad answer, then a good one; tell whether each had its connection."""
    with contextlib.suppress(EtcdMapError):
        assert mapping["k"] == "x"
    assert mapping["k"] == "x"
    return [request.connection for request in server.requests].count(0) == 1


def then_smuggle(bad: Script) -> Script:
    """Answer badly, and what comes then on the same connection wrongly."""
    return [READ, *bad, READ, file_answer("smuggled", KEY), STALL]


@pytest.mark.parametrize("bad", [*UNCLEAR, *NONSENSE])
def test_unclear_answer_connection_is_not_used_again(
    connect: Connect, bad: Script
) -> None:
    """What comes on it afterwards belongs to no request."""
    with FaultServer(then_smuggle(bad), [READ, file_answer("x", KEY), CLOSE]) as server:
        assert is_used_once(connect(server.url, consistency="any", timeout=1), server)


@pytest.mark.parametrize("bad", TOO_MUCH)
def test_too_much_of_an_answer_connection_is_not_used_again(
    bad: Script,
) -> None:
    """The same for more than was announced."""
    with (
        FaultServer(then_smuggle(bad), [READ, file_answer("x", KEY), CLOSE]) as server,
        EtcdMapping(server.url, PREFIX, consistency="any") as mapping,
    ):
        assert is_used_once(mapping, server)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(file_answer("smuggled", KEY), id="good"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"\r\n", id="newline"),
    ],
)
def test_two_answers_at_once_the_second_answers_nothing(
    connect: Connect, second: bytes
) -> None:
    """The first one is that to the request; what follows it is nobody's."""
    twice: list[Any] = [
        READ,
        file_answer("x", KEY) + second,
        *[READ, file_answer("x", KEY)] * 5,
    ]
    with FaultServer(twice) as server:
        mapping = connect(server.url, consistency="any")
        assert [mapping["k"] for _ in range(4)] == ["x"] * 4


# --- beside a good member ---------------------------------------------------------


@pytest.mark.parametrize("script", BAD)
def test_bad_answer_beside_a_good_member_every_call_succeeds(
    connect: Connect, script: Script, good: str, cluster_id: str
) -> None:
    """The good member answers; no wrong value comes from the other one."""
    bad = [_as_of(cluster_id, action) for action in script]
    with FaultServer(bad, cluster_id=cluster_id) as server:
        mapping = connect(server.url, good, timeout=10.0, policy=HASTY)
        for call, result in (
            (lambda m: m.set("k", "v") > 0, True),
            (lambda m: m["k"], "v"),
            (lambda m: "k" in m, True),
            (lambda m: "absent" in m, False),
            (lambda m: m.to_dict(), {"k": "v"}),
        ):
            mapping.client.pin(server.url)
            assert call(mapping) == result
        assert server.connections


@pytest.mark.parametrize("script", BAD_NODES)
def test_bad_node_beside_a_good_member_a_read_succeeds(
    connect: Connect, script: Script, good: str, cluster_id: str
) -> None:
    """A node of the wrong types is not half used."""
    with EtcdMapping(good, PREFIX) as other:
        other["k"] = "v"
    with FaultServer([_as_of(cluster_id, action, 1) for action in script]) as server:
        mapping = connect(server.url, good, timeout=10.0, policy=HASTY)
        assert mapping["k"] == "v"
        assert server.connections == 1


def _as_of(cluster_id: str, action: Any, index: int | None = None) -> Any:
    """Make an answer that of the good member's cluster.

    And change the index in it, or take it out: the good member has its own.
    """
    line = b"X-Etcd-Index: 7\r\n"
    to = f"X-Etcd-Cluster-Id: {cluster_id}\r\n".encode()
    to += b"" if index is None else b"X-Etcd-Index: %d\r\n" % index
    return _with_line(action, line, to)


def _without_index(action: Any) -> Any:
    return _with_line(action, b"X-Etcd-Index: 7\r\n", b"")


def _with_line(action: Any, line: bytes, to: bytes) -> Any:
    if isinstance(action, bytes):
        return action.replace(line, to)
    if isinstance(action, Reply):
        return Reply(lambda request: action.function(request).replace(line, to))
    if isinstance(action, Drip):
        return Drip(action.data.replace(line, to), action.interval)
    return action

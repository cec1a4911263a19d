"""Values and credentials show up nowhere: not in reprs, logs, errors or pickles.

Against a real etcd where it is about what etcd says, else against a server that
puts what it can into its answers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import pickle
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
import requests

from etcdmap import (
    CompareFailed,
    DecodeError,
    EtcdMapError,
    EtcdMapping,
    InvalidKey,
    InvalidResponse,
    KeyExists,
    KeyNotFound,
    OutcomeUnknown,
    PartialWrite,
    RequestFailed,
    ServerError,
    Unauthorized,
    WrongCluster,
)
from etcdmap.local import LocalCluster
from etcdmap.mapping.flat import FlatView
from etcdmap.v2 import KeysAPI

from support.fault_server import (
    CLOSE,
    READ,
    RESET,
    FaultServer,
    Received,
    Repeat,
    Reply,
    refusing,
    response,
)
from support.servers import newest

#: Nothing in the sources of etcdmap or of these tests looks like these.
VALUE = "v4lue-" + "7f3a9c"
USERNAME = "us3r-" + "5d1e"
PASSWORD = "pa55-" + "c0ffee"
BASIC = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
SECRETS = (VALUE, USERNAME, PASSWORD, BASIC)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and all that it holds or is raised from."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, current.__context__]
        if isinstance(current, RequestFailed):
            todo += [attempt.error for attempt in current.attempts]
        if isinstance(current, PartialWrite):
            todo += current.failed.values()


def shown(error: BaseException) -> str:
    """Give everything that a log or a terminal would show of an error."""
    texts = traceback.format_exception(type(error), error, error.__traceback__)
    for each in chain(error):
        texts += [str(each), repr(each), *map(repr, each.args)]
    if isinstance(error, RequestFailed):
        texts += [str(error.attempts)]
    return "\n".join(texts)


def assert_hidden(text: str) -> None:
    """Check that no secret is in a text."""
    for secret in SECRETS:
        assert secret not in text


def error_of(
    call: Callable[[], object], kind: type[EtcdMapError] = EtcdMapError
) -> EtcdMapError:
    """Give the error of a call, after checking that it shows no secret."""
    with pytest.raises(kind) as caught:
        call()
    assert_hidden(shown(caught.value))
    assert_hidden(shown(pickle.loads(pickle.dumps(caught.value))))  # noqa: S301
    return caught.value


def connect(url: Any, prefix: str = "/app", **options: Any) -> EtcdMapping:
    """Make a mapping with credentials."""
    settings = {"timeout": 0.5, "username": USERNAME, "password": PASSWORD, **options}
    return EtcdMapping(url, prefix, **settings)


# --- reprs and pickles ------------------------------------------------------


def test_repr_shows_neither_credentials_nor_values(
    etcd: LocalCluster, prefix: str
) -> None:
    """What a debugger shows of a mapping and its parts is not secret."""
    with connect(etcd.endpoints, prefix, timeout=5) as mapping:
        mapping["k"] = VALUE
        mapping["d"] = {"k": VALUE}
        api = mapping.keys_api
        things = [
            mapping,
            mapping["d"],
            mapping.client,
            api,
            api.get(f"{prefix}/k"),
            api.get(f"{prefix}/k").node,
            api.get(prefix, recursive=True),
            mapping.keys(),
            mapping.values(),
            mapping.items(),
        ]
    for thing in things:
        assert_hidden(f"{thing!r} {thing!s} {thing}")
        assert_hidden(repr([thing]))


def test_pickle_of_a_mapping_holds_no_credentials(
    etcd: LocalCluster, prefix: str
) -> None:
    """A pickle ends up on a disk or in a queue."""
    with connect(etcd.endpoints, prefix) as mapping:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            pickled = pickle.dumps(mapping, protocol)
            for secret in (PASSWORD, BASIC):
                assert secret.encode() not in pickled


# --- logs -------------------------------------------------------------------


@pytest.mark.parametrize("with_session", [False, True], ids=["plain", "session"])
def test_log_at_debug_shows_neither_credentials_nor_values(
    etcd: LocalCluster,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    with_session: bool,
) -> None:
    """urllib3 logs every URL at DEBUG: no value may be in one."""
    caplog.set_level(logging.DEBUG)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"timeout": 5}
        if with_session:
            options["session"] = stack.enter_context(requests.Session())
            options["session"].trust_env = False
        mapping = stack.enter_context(connect(etcd.endpoints, prefix, **options))
        mapping["k"] = VALUE
        mapping["k"] = VALUE + "2"
        mapping.set("t", VALUE, ttl=60)
        mapping.update(a=VALUE, b=[VALUE])
        mapping["d"] = {"k": VALUE, "e": {"f": VALUE}}
        mapping.setdefault("s", VALUE)
        mapping.pop("k")
        mapping.to_dict()
        api = mapping.keys_api
        api.compare_and_swap(f"{prefix}/s", VALUE + "3", prev_value=VALUE)
        with pytest.raises(CompareFailed):
            api.compare_and_swap(f"{prefix}/s", "x", prev_value=VALUE)
        mapping.clear()
    records = [record.getMessage() for record in caplog.records]
    assert_hidden("\n".join(records))
    if with_session:
        assert any("/v2/keys" in record for record in records), "nothing was logged"


def test_log_of_failures_shows_neither_credentials_nor_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What goes wrong is logged by nobody with its content."""
    caplog.set_level(logging.DEBUG)
    echo = Reply(lambda request: response(request.raw, 500))
    with FaultServer([Repeat(echo)]) as server, connect(server.url) as mapping:
        error_of(lambda: mapping.__setitem__("k", VALUE))
        error_of(lambda: mapping["k"])
    assert_hidden(caplog.text)


# --- errors of a real etcd --------------------------------------------------


@pytest.fixture(scope="module")
def guarded_etcd() -> Iterator[LocalCluster]:
    """Give a real etcd with v2 auth on; its root has our credentials."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with LocalCluster(1, binary=newest(), fsync=False) as cluster:
        for path, body in (
            ("users/root", {"user": "root", "password": PASSWORD}),
            ("enable", {}),
        ):
            request = urllib.request.Request(  # noqa: S310
                f"{cluster.endpoints[0]}/v2/auth/{path}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
                method="PUT",
            )
            opener.open(request, timeout=10).close()
        yield cluster


@pytest.mark.etcd
def test_auth_right_password_works(guarded_etcd: LocalCluster) -> None:
    """The credentials given are those that etcd knows."""
    options: dict[str, Any] = {"username": "root", "timeout": 5}
    with connect(guarded_etcd.endpoints, **options) as mapping:
        mapping["k"] = VALUE
        assert mapping["k"] == VALUE


@pytest.mark.etcd
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m["k"], id="getitem"),
        pytest.param(lambda m: "k" in m, id="contains"),
        pytest.param(lambda m: m.get("k"), id="get"),
        pytest.param(lambda m: m.__setitem__("k", VALUE), id="setitem"),
        pytest.param(lambda m: m.__delitem__("k"), id="delitem"),
        pytest.param(lambda m: m.to_dict(), id="to_dict"),
        pytest.param(lambda m: m.pop("k", None), id="pop"),
        pytest.param(lambda m: m.setdefault("k", VALUE), id="setdefault"),
    ],
)
def test_auth_wrong_password_is_unauthorized_and_not_shown(
    guarded_etcd: LocalCluster, operation: Callable[[EtcdMapping], Any]
) -> None:
    """The error says what to check, and not what was given."""
    with connect(guarded_etcd.endpoints, timeout=5) as mapping:
        error = error_of(lambda: operation(mapping), Unauthorized)
    assert "check username, password" in str(error)


@pytest.mark.parametrize("condition", ["value", "index"])
def test_compare_failed_keeps_the_values_in_cause_only(
    etcd: LocalCluster, prefix: str, condition: str
) -> None:
    """etcd quotes both values where a comparison failed."""
    with connect(etcd.endpoints, prefix, timeout=5) as mapping:
        mapping["k"] = VALUE
        api = mapping.keys_api
        given: dict[str, Any] = {"prev_index": 1}
        if condition == "value":
            given = {"prev_value": VALUE + "-other"}
        error = error_of(
            lambda: api.compare_and_swap(f"{prefix}/k", VALUE, **given), CompareFailed
        )
        assert isinstance(error, ServerError)
        assert (VALUE in error.cause) is (condition == "value")
        error_of(lambda: api.create(f"{prefix}/k", VALUE), KeyExists)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        pytest.param("json", VALUE, id="json"),
        pytest.param("json", f'{{"a": "{VALUE}"', id="json-cut"),
        pytest.param("json", f'"{VALUE}\n"', id="json-control"),
        pytest.param("json", f'{{"{VALUE}": 1, "{VALUE}": 2}}', id="json-twice"),
        pytest.param("json", f'["{VALUE}", NaN]', id="json-nan"),
    ],
)
def test_decode_error_names_the_key_and_hides_the_text(
    etcd: LocalCluster, prefix: str, codec: str, text: str
) -> None:
    """A text that can't be read is not quoted."""
    with connect(etcd.endpoints, prefix, codec=codec, timeout=5) as mapping:
        mapping.keys_api.set(f"{prefix}/k", text)
        for call in (
            lambda: mapping["k"],
            lambda: mapping.get("k"),
            lambda: mapping.to_dict(),
            lambda: list(mapping.items()),
        ):
            error = error_of(call, DecodeError)
            assert f"{prefix}/k" in str(error)


def test_decode_error_of_a_users_codec_hides_the_text_in_our_message(
    etcd: LocalCluster, prefix: str
) -> None:
    """What the user's codec says is in the chain, but not in our own words."""

    class Numbers:
        def encode(self, value: Any) -> str:
            return str(value)

        def decode(self, text: str) -> Any:
            return int(text)

    with connect(etcd.endpoints, prefix, codec=Numbers(), timeout=5) as mapping:
        mapping.keys_api.set(f"{prefix}/k", VALUE)
        with pytest.raises(DecodeError) as caught:
            mapping["k"]
    assert_hidden(f"{caught.value} {caught.value!r}")


# --- errors of a server that tells everything -------------------------------


def echoing(status: int, kind: str = "text") -> Reply:
    """Answer with all that was sent, and with a secret besides."""

    def reply(request: Received) -> bytes:
        text = request.raw.decode("latin-1") + VALUE + PASSWORD + USERNAME
        if kind == "json":
            body = {"errorCode": 101, "message": "Compare failed", "cause": text}
            return response(json.dumps({**body, "index": 3}), status)
        if kind == "bad-utf8":
            return response(text.encode() + b"\xff", status)
        return response(text, status)

    return Reply(reply)


ANSWERS = [
    pytest.param([Repeat(echoing(200))], id="200"),
    pytest.param([Repeat(echoing(200, "bad-utf8"))], id="200-bad-utf8"),
    pytest.param([Repeat(echoing(301))], id="301"),
    pytest.param([Repeat(echoing(404))], id="404"),
    pytest.param([Repeat(echoing(412, "json"))], id="412-json"),
    pytest.param([Repeat(echoing(401))], id="401"),
    pytest.param([Repeat(echoing(500))], id="500"),
    pytest.param([Repeat(echoing(503))], id="503"),
    pytest.param([READ, response(VALUE, length=999), CLOSE], id="cut-off"),
    pytest.param([READ, CLOSE], id="closed"),
]


@pytest.mark.parametrize("script", ANSWERS)
@pytest.mark.parametrize("with_session", [False, True], ids=["plain", "session"])
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m["k"], id="read"),
        pytest.param(lambda m: m.__setitem__("k", VALUE), id="write"),
    ],
)
def test_error_of_any_answer_hides_what_was_sent_and_received(
    script: Any, with_session: bool, operation: Callable[[EtcdMapping], Any]
) -> None:
    """Whatever a server answers, the error quotes neither side."""
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"timeout": 0.3}
        if with_session:
            options["session"] = stack.enter_context(requests.Session())
            options["session"].trust_env = False
        server = stack.enter_context(FaultServer(script))
        mapping = stack.enter_context(connect(server.url, **options))
        error = error_of(lambda: operation(mapping))
        assert server.url in str(error)


def test_outcome_unknown_hides_the_value_that_was_sent() -> None:
    """The error names the key that is in doubt, not its value."""
    with (
        FaultServer([READ, CLOSE]) as server,
        connect(server.url, fence=False) as mapping,
    ):
        error = error_of(lambda: mapping.__setitem__("k", VALUE), OutcomeUnknown)
    assert "/app/k" in str(error)


def test_outage_hides_the_value_that_was_not_sent() -> None:
    """Nor does an error before the first byte."""
    with refusing() as url, connect(url) as mapping:
        error_of(lambda: mapping.__setitem__("k", VALUE))
        error_of(lambda: mapping.setdefault("k", VALUE))


def test_invalid_response_keeps_the_answer_in_excerpt_only() -> None:
    """Who needs to see the answer finds its start in an attribute."""
    with FaultServer([Repeat(echoing(200))]) as server, connect(server.url) as mapping:
        error = error_of(lambda: mapping["k"], InvalidResponse)
    assert isinstance(error, InvalidResponse)
    assert error.excerpt.startswith(b"GET /v2/keys/app/k")


def test_partial_write_hides_values_and_names_the_keys() -> None:
    """An update that failed half-way lists paths and causes."""

    def reply(request: Received) -> bytes:
        if request.line.startswith("GET"):
            return response('{"action":"get","node":{"key":"/app","dir":true}}')
        if "/b" in request.line:
            body = {"errorCode": 105, "message": "Key already exists", "cause": VALUE}
            return response(json.dumps({**body, "index": 3}), 412)
        return response('{"action":"set"}')

    with FaultServer([Repeat(Reply(reply))]) as server, connect(server.url) as mapping:
        error = error_of(
            lambda: mapping.update(a=VALUE, b=VALUE, c=VALUE), PartialWrite
        )
    assert isinstance(error, PartialWrite)
    assert "/app/b" in error.failed
    assert "/app/b" in str(error)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({VALUE}, id="set"),
        pytest.param((VALUE,), id="tuple"),
        pytest.param(VALUE.encode(), id="bytes"),
        pytest.param([{1: VALUE}], id="int-key"),
        pytest.param([VALUE, float("nan")], id="nan"),
        pytest.param(VALUE + "\ud800", id="surrogate"),
        pytest.param(VALUE * 1_000_000, id="too-large"),
        pytest.param({"a": {"b": object(), "c": VALUE}}, id="nested"),
    ],
)
def test_refused_value_is_not_shown(value: Any) -> None:
    """A value that can't be stored is told by its type or size, not by itself."""
    with refusing() as url, connect(url) as mapping:
        with pytest.raises((TypeError, ValueError)) as caught:
            mapping["k"] = value
        assert not isinstance(caught.value, RequestFailed)
        assert_hidden(shown(caught.value))


# --- every call, with every way to give credentials, on every bad server ----


def watch_once(mapping: Any) -> None:
    """Wait for a change that does not come."""
    with mapping.watch(timeout=0.05) as changes:
        next(changes, None)


#: What is called; by name, so that none is forgotten.
MAPPING_CALLS: dict[str, Callable[[Any], object]] = {
    "__contains__": lambda m: "k" in m,
    "__delitem__": lambda m: m.__delitem__("k"),
    "__eq__": lambda m: m == {"k": VALUE},
    "__getitem__": lambda m: m["k"],
    "__ior__": lambda m: m.__ior__({"k": VALUE}),
    "__iter__": list,
    "__len__": len,
    "__or__": lambda m: m | {"k": VALUE},
    "__setitem__": lambda m: m.__setitem__("k", VALUE),
    "append": lambda m: m.append(VALUE),
    "assign": lambda m: m.assign({"k": VALUE}),
    "cache_clear": lambda m: m.cache_clear(),
    "cache_info": lambda m: m.cache_info(),
    "clear": lambda m: m.clear(),
    "client": lambda m: m.client.sync(),
    "close": lambda m: (m.close(), m["k"]),
    "compare_and_delete": lambda m: m.compare_and_delete("k", VALUE),
    "compare_and_swap": lambda m: m.compare_and_swap("k", VALUE, VALUE),
    "copy": lambda m: m.copy(),
    "create": lambda m: m.create("k", VALUE),
    "flat": lambda m: m.flat,
    "from_url": lambda m: type(m).from_url(f"etcd://{USERNAME}:{PASSWORD}/app"),
    "get": lambda m: m.get("k"),
    "index": lambda m: m.index(),
    "items": lambda m: list(m.items()),
    "keys": lambda m: list(m.keys()),
    "keys_api": lambda m: m.keys_api,
    "merge": lambda m: m.merge({"k": VALUE, "d": {"k": VALUE}}),
    "mkdir": lambda m: m.mkdir("d"),
    "pop": lambda m: m.pop("k"),
    "popitem": lambda m: m.popitem(),
    "prefix": lambda m: m.prefix,
    "readonly": lambda m: m.readonly,
    "refresh": lambda m: m.refresh("k", 9),
    "replace": lambda m: m.replace("k", VALUE),
    "set": lambda m: m.set("k", VALUE, ttl=9),
    "setdefault": lambda m: m.setdefault("k", VALUE),
    "snapshot": lambda m: m.snapshot(),
    "sub": lambda m: m.sub("d"),
    "live": lambda m: m.live().close(),
    "watch": watch_once,
    "to_dict": lambda m: m.to_dict(),
    "transform": lambda m: m.transform("k", lambda _: VALUE, default=VALUE),
    "ttl": lambda m: m.ttl("k"),
    "update": lambda m: m.update(a=VALUE, b=[VALUE]),
    "using": lambda m: m.using(consistency="linearizable")["k"],
    "values": lambda m: list(m.values()),
    "with_view": lambda m: m.sub("d"),  # which calls it
}
KEYS_CALLS: dict[str, Callable[[Any], object]] = {
    "compare_and_delete": lambda a: a.compare_and_delete("/k", prev_index=1),
    "compare_and_swap": lambda a: a.compare_and_swap("/k", VALUE, prev_value=VALUE),
    "create": lambda a: a.create("/k", VALUE),
    "create_in_order": lambda a: a.create_in_order("/d", VALUE),
    "delete": lambda a: a.delete("/k"),
    "exists": lambda a: a.exists("/k"),
    "fetch": lambda a: a.get("/k", recursive=True),
    "get": lambda a: a.get("/k", quorum=True),
    "make_directory": lambda a: a.make_directory("/d"),
    "present": lambda a: a.exists("/k"),
    "refresh": lambda a: a.refresh("/k", 9),
    "set": lambda a: a.set("/k", VALUE),
    "store": lambda a: a.set("/k", VALUE, prev_exist=True),
    "update": lambda a: a.update("/k", VALUE),
    "watch": lambda a: a.watch("/k", timeout=0.05),
}
CALLS: dict[str, Callable[[EtcdMapping], object]] = {
    **MAPPING_CALLS,
    **{
        f"flat.{name}": lambda m, call=call: call(m.flat)  # type: ignore[misc]
        for name, call in MAPPING_CALLS.items()
        if hasattr(FlatView, name) and name != "with_view"
    },
    **{
        f"keys_api.{name}": lambda m, call=call: call(m.keys_api)  # type: ignore[misc]
        for name, call in KEYS_CALLS.items()
    },
}


@pytest.mark.parametrize(
    ("kind", "calls"), [(EtcdMapping, MAPPING_CALLS), (KeysAPI, KEYS_CALLS)]
)
def test_every_public_method_is_called(
    kind: type, calls: dict[str, Callable[[Any], object]]
) -> None:
    """A new one has to be added here."""
    assert {name for name in dir(kind) if name[0] != "_"} <= calls.keys()


def junk(status_line: bytes) -> Reply:
    """Answer with all that was sent where the fields of a head are expected."""
    return Reply(lambda request: status_line + b"\r\n" + request.raw + b"\r\n\r\n")


def redirecting(request: Received) -> bytes:
    """Answer with a place that holds all that was sent."""
    sent = request.raw.hex() + BASIC + PASSWORD
    return response("", 307, {"Location": f"http://{USERNAME}:{PASSWORD}@h/{sent}"})


def shaped(shape: str) -> Reply:
    """Answer with JSON of a wrong shape that holds all that was sent."""

    def reply(request: Received) -> bytes:
        said = json.dumps(request.raw.decode("latin-1") + VALUE + PASSWORD + USERNAME)
        return response(shape.replace("X", said))

    return Reply(reply)


BAD_SERVERS = [
    *ANSWERS,
    pytest.param([CLOSE], id="closes-at-once"),
    pytest.param([READ, RESET], id="resets"),
    pytest.param([Repeat(junk(b"HTTP/1.1 200 OK"))], id="head"),
    pytest.param([READ, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], id="length"),
    pytest.param([Repeat(Reply(redirecting))], id="redirects"),
    pytest.param([Repeat(shaped('{"action":X}'))], id="action"),
    pytest.param([Repeat(shaped('{"action":"get","node":{"key":X}}'))], id="key"),
    pytest.param([Repeat(shaped('{"action":"get","node":X}'))], id="node"),
    pytest.param([Repeat(shaped('{"action":"get","node":{"nodes":X}}'))], id="nodes"),
    pytest.param([Repeat(shaped('{"members":[{"clientURLs":[X]}]}'))], id="members"),
    pytest.param([READ], id="silent"),
]


@contextlib.contextmanager
def made(way: str, url: str) -> Iterator[EtcdMapping]:
    """Give a mapping whose credentials were given in this way."""
    whole = url.replace("http://", f"etcd://{USERNAME}:{PASSWORD}@") + "/app"
    options: dict[str, Any] = {"timeout": 0.05, "connect_timeout": 0.05}
    with contextlib.ExitStack() as stack:
        if way.startswith("session"):
            options["session"] = session = stack.enter_context(requests.Session())
            session.trust_env = False
            if way == "session-auth":
                session.auth = (USERNAME, PASSWORD)
        if way in ("arguments", "session"):
            options.update(username=USERNAME, password=PASSWORD)
        if way == "url":
            mapping = EtcdMapping.from_url(whole, **options)
        elif way == "environment":
            stack.enter_context(pytest.MonkeyPatch.context()).setenv(
                "ETCDMAP_URL", whole
            )
            mapping = EtcdMapping(**options)
        else:
            mapping = EtcdMapping(url, "/app", **options)
        yield stack.enter_context(mapping)


WAYS = ("arguments", "url", "environment", "session", "session-auth")


@pytest.mark.parametrize("script", BAD_SERVERS)
def test_no_call_shows_credentials_or_values_whatever_the_server_does(
    script: Any,
) -> None:
    """Each server meets each call, and each way to give credentials."""
    at = [parameter.values[0] for parameter in BAD_SERVERS].index(script)
    ways = cycle(WAYS[at % len(WAYS) :] + WAYS[: at % len(WAYS)])
    failures = 0
    with FaultServer(script) as server:
        for call, way in zip(CALLS.values(), ways, strict=False):
            with made(way, server.url) as mapping:
                try:
                    result = call(mapping)
                except Exception as error:
                    failures += 1
                    assert_hidden(shown(error))
                    again = pickle.loads(pickle.dumps(error))  # noqa: S301
                    assert_hidden(shown(again))
                else:
                    assert_hidden(repr(result))
                if not way.startswith("session"):
                    for secret in SECRETS:
                        assert secret.encode() not in pickle.dumps(mapping)
    assert failures > len(CALLS) / 3, "nothing went wrong"


# --- what can't be sent -----------------------------------------------------

NO_UTF8 = os.fsdecode(b"\xe9")


@pytest.mark.parametrize(
    ("credentials", "kind", "text"),
    [
        ({"username": "u", "password": PASSWORD + NO_UTF8}, ValueError, "password"),
        ({"username": USERNAME + "\ud800", "password": "p"}, ValueError, "username"),
        ({"username": f"{USERNAME}:x", "password": "p"}, ValueError, "username.*':'"),
        (
            {"username": "u", "password": PASSWORD.encode()},
            TypeError,
            "password.*bytes",
        ),
        ({"username": USERNAME.encode()}, TypeError, "username.*bytes"),
        ({"password": PASSWORD}, ValueError, "username"),
    ],
)
@pytest.mark.parametrize("with_session", [False, True], ids=["plain", "session"])
def test_credentials_that_cannot_be_sent_are_refused_and_not_shown(
    credentials: dict[str, Any], kind: type[Exception], text: str, with_session: bool
) -> None:
    """When the mapping is made, by the name of the option."""
    with requests.Session() as session:
        more: dict[str, Any] = {"session": session} if with_session else {}
        with pytest.raises(kind, match=text) as caught:
            EtcdMapping("http://127.0.0.1:1", **credentials, **more)
    assert type(caught.value) is kind
    assert [caught.value] == list(chain(caught.value))
    assert_hidden(shown(caught.value))


@pytest.mark.parametrize("quoted", ["%E9", "%ED%B0%80"])
def test_url_with_a_password_of_another_encoding_is_refused(quoted: str) -> None:
    """It is not sent with a U+FFFD in place of what is not UTF-8."""
    with pytest.raises(ValueError, match="UTF-8") as caught:
        EtcdMapping.from_url(f"etcd://u:{PASSWORD}{quoted}@h")
    assert_hidden(shown(caught.value))


@pytest.mark.parametrize(
    "call",
    [
        lambda m, v: m.__setitem__("k", v),
        lambda m, v: m.__setitem__("k", [v]),
        lambda m, v: m.__setitem__("k", {"d": v}),
        lambda m, v: m.flat.__setitem__("k", v),
        lambda m, v: m.flat.update(k=v),
        lambda m, v: m.update(k=v),
        lambda m, v: m.append(v),
        lambda m, v: m.create("k", v),
        lambda m, v: m.setdefault("k", v),
        lambda m, v: m.keys_api.set("/k", v),
        lambda m, v: m.keys_api.set("/k", "x", prev_value=v),
        lambda m, v: m.keys_api.create("/k", v),
        lambda m, v: m.keys_api.create_in_order("/k", v),
        lambda m, v: m.keys_api.delete("/k", prev_value=v),
    ],
)
@pytest.mark.parametrize("codec", ["auto", "text"])
def test_value_without_utf8_is_refused_and_not_shown(
    call: Callable[[EtcdMapping, str], object], codec: str
) -> None:
    """Nor does the error hold it: a UnicodeEncodeError would."""
    with refusing() as url, connect(url, codec=codec) as mapping:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(mapping, VALUE + NO_UTF8)
        assert not isinstance(caught.value, EtcdMapError | UnicodeError)
        assert_hidden(shown(caught.value))


def test_value_without_utf8_of_transform_is_refused_and_not_shown() -> None:
    """It is made only after the old one was read."""
    with FaultServer() as server, connect(server.url, prefix="/") as mapping:
        with pytest.raises(ValueError, match="surrogate") as caught:
            mapping.transform("k", lambda _: VALUE + NO_UTF8)
        assert_hidden(shown(caught.value))


def test_session_whose_own_settings_cannot_be_sent_shows_none_of_them() -> None:
    """requests quotes the URL of a proxy, a header and credentials in its errors."""
    for change in (
        {"proxies": {"http": f"http://{USERNAME}:{PASSWORD}@[proxy"}},
        {"headers": {"X-Token": f"{PASSWORD}\nx"}},
        {"auth": (USERNAME, f"{PASSWORD}\u20ac")},
    ):
        with requests.Session() as session, FaultServer() as server:
            session.trust_env = False
            vars(session).update(change)
            with EtcdMapping(server.url, session=session, timeout=0.5) as mapping:
                error = error_of(lambda m=mapping: m["k"])  # type: ignore[misc]
            assert "can be sent" in str(error)


# --- texts of servers and callers --------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 412, 500])
@pytest.mark.parametrize("with_session", [False, True], ids=["plain", "session"])
def test_text_of_a_server_is_short_and_on_one_line(
    status: int, with_session: bool
) -> None:
    """It neither floods a log nor forges a line of one, nor shows what it echoes."""
    long = f"{PASSWORD}\nforged \x1b[31m\u2028" + "y" * 10_000
    said = {"errorCode": 209, "message": long, "cause": long, "index": 3}
    reply = response(json.dumps(said), status)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"timeout": 0.3}
        if with_session:
            options["session"] = stack.enter_context(requests.Session())
        server = stack.enter_context(FaultServer([Repeat(READ, reply)]))
        mapping = stack.enter_context(EtcdMapping(server.url, "/app", **options))
        with pytest.raises(ServerError) as caught:
            mapping["k"]
    error = caught.value
    assert str(error).startswith("etcd refused the request (etcd error 209): /app/k")
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert len(pickle.dumps(error)) < 5000
    assert long.startswith(error.cause.removeprefix(f"{long}: "))


def test_cluster_id_of_a_server_is_short_in_a_text() -> None:
    """It is any text that a header can hold, one that was sent included."""
    first, other = (
        response(
            '{"action":"get","node":{"key":"/k","value":"v","modifiedIndex":3}}',
            headers={"X-Etcd-Cluster-Id": cluster_id},
        )
        for cluster_id in (f"Basic {PASSWORD}", "b\x85" * 9000)
    )
    again = Repeat(READ, other)
    with (
        FaultServer([READ, first, again], [again]) as server,
        EtcdMapping(server.url, timeout=1) as mapping,
    ):
        assert mapping["k"] == "v"
        with pytest.raises(WrongCluster) as caught:
            mapping["k"]
    for line in str(caught.value).splitlines():
        assert len(line) < 400
        assert line.isprintable()
    assert_hidden(shown(caught.value))


def test_code_of_a_server_is_no_longer_than_codes_are() -> None:
    """An int may have thousands of digits."""
    reply = response('{"errorCode":%s,"message":"m","index":3}' % ("7" * 4000), 400)
    with (
        FaultServer([Repeat(READ, reply)]) as server,
        EtcdMapping(server.url, timeout=0.3) as mapping,
    ):
        assert len(str(error_of(lambda: mapping["k"]))) < 500


def test_key_of_the_caller_is_whole_in_key_and_short_in_the_text() -> None:
    """On one line, whatever is in it."""
    key = "a\nforged/" + "y" * 500 + "/end"
    with refusing() as url, EtcdMapping(url, "/app", timeout=0.2) as mapping:
        with pytest.raises(RequestFailed) as outage:
            mapping[key]
        with pytest.raises(InvalidKey) as refusal:
            mapping[key] = 1
    for error in (outage.value, refusal.value):
        first = str(error).splitlines()[0]
        assert "a\\nforged" in first
        assert "..." in first
        assert "/end" in first
        assert len(first) < 500
    absent = '{"errorCode":100,"message":"Key not found","cause":"/a","index":3}'
    with (
        FaultServer([Repeat(READ, response(absent, 404))]) as server,
        EtcdMapping(server.url, "/a", timeout=1) as mapping,
        pytest.raises(KeyNotFound) as missing,
    ):
        mapping[key]
    assert missing.value.key == f"/a/{key}"
    assert missing.value.args == (key,)
    assert str(missing.value).isprintable()
    assert len(str(missing.value)) < 500

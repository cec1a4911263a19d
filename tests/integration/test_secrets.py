"""Values and credentials show up nowhere: not in reprs, logs, errors or pickles.

Against a real etcd where it is about what etcd says, else against a server that
puts what it can into its answers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import pickle
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from etcdmap import (
    CompareFailed,
    DecodeError,
    EtcdMapError,
    EtcdMapping,
    InvalidResponse,
    KeyExists,
    OutcomeUnknown,
    PartialWrite,
    RequestFailed,
    ServerError,
    Unauthorized,
)
from etcdmap.local import LocalCluster

from support.fault_server import (
    CLOSE,
    READ,
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
        texts += [str(each), repr(each)]
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

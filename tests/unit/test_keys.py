"""What each operation on keys sends: method, path, parameters, form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest

from etcdmap.client import Resend
from etcdmap.connecting import make_client
from etcdmap.errors import (
    ClientClosed,
    InvalidKey,
    KeyExists,
    LimitExceeded,
    OutcomeUnknown,
    WatchExpired,
)
from etcdmap.transport import Answer, Request
from etcdmap.tree import Fence, Present
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.request import KeysRequest
from etcdmap.v2.spelling import (
    MAX_BODY,
    MAX_TTL,
    spell_form,
    spell_query,
    whole_seconds,
)
from etcdmap.v2.store import V2Store

from support.proper import proper
from support.transports import ScriptedTransport, Step, answer


def done(endpoint: str, request: Request, timeout: float) -> Answer:
    """Answer as etcd does, whatever is asked."""
    return proper(request, index=12)


class Sent:
    """A keys API (and a tree) whose requests can be looked at."""

    def __init__(self, *steps: Step) -> None:
        self.transport = ScriptedTransport(steps or [done])
        self.client = make_client("http://a:1", self.transport, timeout=9)
        self.keys = KeysAPI(self.client)
        self.tree = V2Store(self.keys)

    @property
    def request(self) -> KeysRequest[Any]:
        """The only request there was."""
        ((_, request, _),) = self.transport.calls
        assert isinstance(request, KeysRequest)
        return request

    @property
    def line(self) -> str:
        """Method and target."""
        return f"{self.request.method} {self.request.target}"

    @property
    def parameters(self) -> dict[str, str]:
        """Query and form together, as etcd reads a PUT or POST."""
        request = self.request
        body = (request.body or b"").decode("ascii")
        query = request.target.partition("?")[2]
        merged: dict[str, str] = {}
        for part in (query, body):
            for name, values in parse_qs(
                part, keep_blank_values=True, strict_parsing=bool(part)
            ).items():
                assert len(values) == 1
                assert name not in merged
                merged[name] = values[0]
        return merged


Call = Callable[[KeysAPI], Any]


# --- reads ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "line"),
    [
        pytest.param(lambda k: k.get("/k"), "GET /v2/keys/k", id="get"),
        pytest.param(lambda k: k.get("/"), "GET /v2/keys/", id="root"),
        pytest.param(lambda k: k.get("/k/"), "GET /v2/keys/k/", id="listing"),
        pytest.param(
            lambda k: k.get("/k", recursive=True),
            "GET /v2/keys/k?recursive=true",
            id="recursive",
        ),
        pytest.param(
            lambda k: k.get("/k", sorted=True),
            "GET /v2/keys/k?sorted=true",
            id="sorted",
        ),
        pytest.param(
            lambda k: k.get("/k", quorum=True),
            "GET /v2/keys/k?quorum=true",
            id="quorum",
        ),
        pytest.param(
            lambda k: k.get("/k", recursive=True, sorted=True, quorum=True),
            "GET /v2/keys/k?recursive=true&sorted=true&quorum=true",
            id="all",
        ),
        pytest.param(
            lambda k: k.get("/_h/a b%2F?#é\n"),
            "GET /v2/keys/_h/a%20b%252F%3F%23%C3%A9%0A",
            id="quoted",
        ),
        pytest.param(
            lambda k: k.watch("/k"), "GET /v2/keys/k?wait=true", id="watch-now"
        ),
        pytest.param(
            lambda k: k.watch("/k", after_index=7),
            "GET /v2/keys/k?wait=true&waitIndex=8",
            id="watch-after",
        ),
        pytest.param(
            lambda k: k.watch("/k", after_index=0, recursive=True),
            "GET /v2/keys/k?wait=true&recursive=true&waitIndex=1",
            id="watch-all",
        ),
        pytest.param(lambda k: k.exists("/k"), "HEAD /v2/keys/k", id="exists"),
    ],
)
def test_read_sends_exactly(call: Call, line: str) -> None:
    """Each read is spelt as etcd expects, without a body, and may be sent again."""
    sent = Sent()
    call(sent.keys)
    assert sent.line == line
    assert sent.request.body is None
    assert sent.request.resend is Resend.ALWAYS


@pytest.mark.parametrize(
    ("call", "patient"),
    [
        pytest.param(lambda k: k.watch("/k"), True, id="watch"),
        pytest.param(lambda k: k.get("/k"), False, id="get"),
        pytest.param(lambda k: k.set("/k", "v"), False, id="set"),
    ],
)
def test_only_a_watch_is_patient(call: Call, patient: bool) -> None:
    """Other requests may be given up early for another endpoint."""
    sent = Sent()
    call(sent.keys)
    assert sent.request.patient is patient


# --- writes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "method", "parameters"),
    [
        pytest.param(lambda k: k.set("/k", "v"), "PUT", {"value": "v"}, id="set"),
        pytest.param(lambda k: k.set("/k", ""), "PUT", {"value": ""}, id="empty"),
        pytest.param(
            lambda k: k.set("/k", "v", ttl=5),
            "PUT",
            {"value": "v", "ttl": "5"},
            id="ttl",
        ),
        pytest.param(lambda k: k.set("/k", dir=True), "PUT", {"dir": "true"}, id="dir"),
        pytest.param(
            lambda k: k.set("/k", refresh=True, ttl=5),
            "PUT",
            {"refresh": "true", "ttl": "5"},
            id="refresh",
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_exist=True),
            "PUT",
            {"value": "v", "prevExist": "true"},
            id="prev-exist",
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_exist=False),
            "PUT",
            {"value": "v", "prevExist": "false"},
            id="prev-absent",
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_value="a&b=c d+é%"),
            "PUT",
            {"value": "v", "prevValue": "a&b=c d+é%"},
            id="prev-value",
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_index=7),
            "PUT",
            {"value": "v", "prevIndex": "7"},
            id="prev-index",
        ),
        pytest.param(
            lambda k: k.set("/k", "v", no_value_on_success=True),
            "PUT",
            {"value": "v", "noValueOnSuccess": "true"},
            id="no-value",
        ),
        pytest.param(
            lambda k: k.create("/k", "v", ttl=5),
            "PUT",
            {"value": "v", "ttl": "5", "prevExist": "false"},
            id="create",
        ),
        pytest.param(
            lambda k: k.update("/k", "v", ttl=5),
            "PUT",
            {"value": "v", "ttl": "5", "prevExist": "true"},
            id="update",
        ),
        pytest.param(
            lambda k: k.compare_and_swap(
                "/k", "v", prev_value="old", prev_index=7, ttl=5
            ),
            "PUT",
            {"value": "v", "ttl": "5", "prevValue": "old", "prevIndex": "7"},
            id="cas",
        ),
        pytest.param(
            lambda k: k.create_in_order("/k", "v", ttl=5),
            "POST",
            {"value": "v", "ttl": "5"},
            id="in-order",
        ),
        pytest.param(
            lambda k: k.create_in_order("/k", dir=True),
            "POST",
            {"dir": "true"},
            id="in-order-dir",
        ),
        pytest.param(
            lambda k: k.make_directory("/k", ttl=5),
            "PUT",
            {"dir": "true", "prevExist": "false", "ttl": "5"},
            id="mkdir",
        ),
        pytest.param(
            lambda k: k.refresh("/k", 5),
            "PUT",
            {"refresh": "true", "prevExist": "true", "ttl": "5"},
            id="refresh-only",
        ),
    ],
)
def test_write_sends_exactly(
    call: Call, method: str, parameters: dict[str, str]
) -> None:
    """Each write has these parameters and no others, and is not sent again."""
    sent = Sent()
    call(sent.keys)
    assert sent.request.method == method
    assert sent.request.target.partition("?")[0] == "/v2/keys/k"
    assert sent.parameters == parameters
    assert sent.request.resend is Resend.IF_NOT_SENT


@pytest.mark.parametrize(
    ("call", "query"),
    [
        pytest.param(lambda k: k.delete("/k"), "", id="file"),
        pytest.param(lambda k: k.delete("/k", dir=True), "dir=true", id="dir"),
        pytest.param(
            lambda k: k.delete("/k", recursive=True), "recursive=true", id="recursive"
        ),
        pytest.param(
            lambda k: k.delete("/k", prev_value="a&b é"),
            "prevValue=a%26b%20%C3%A9",
            id="value",
        ),
        pytest.param(lambda k: k.delete("/k", prev_index=7), "prevIndex=7", id="index"),
        pytest.param(
            lambda k: k.compare_and_delete("/k", prev_value="a", prev_index=7),
            "prevValue=a&prevIndex=7",
            id="cad",
        ),
    ],
)
def test_delete_sends_its_conditions_in_the_query(call: Call, query: str) -> None:
    """etcd ignores the body of a DELETE: a condition there would be none."""
    sent = Sent()
    call(sent.keys)
    assert sent.line == "DELETE /v2/keys/k" + ("?" + query if query else "")
    assert sent.request.body is None
    assert sent.request.resend is Resend.IF_NOT_SENT


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda k: k.set("/k", "hunter2"), id="set"),
        pytest.param(lambda k: k.create_in_order("/k", "hunter2"), id="in-order"),
        pytest.param(
            lambda k: k.compare_and_swap("/k", "v", prev_value="hunter2"), id="cas"
        ),
    ],
)
def test_write_values_are_in_the_body_not_in_the_url(call: Call) -> None:
    """URLs end up in logs; etcd reads a PUT's conditions from its form as well."""
    sent = Sent()
    call(sent.keys)
    assert "hunter2" not in sent.request.target
    assert b"hunter2" in (sent.request.body or b"")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        pytest.param("", b"value=", id="empty"),
        pytest.param("a b", b"value=a+b", id="space"),
        pytest.param("a+b", b"value=a%2Bb", id="plus"),
        pytest.param("a&b=c;d", b"value=a%26b%3Dc%3Bd", id="separators"),
        pytest.param("100%", b"value=100%25", id="percent"),
        pytest.param("é\U0001f600", b"value=%C3%A9%F0%9F%98%80", id="utf8"),
        pytest.param("\r\n\0", b"value=%0D%0A%00", id="control"),
        pytest.param("e\u0301", b"value=e%CC%81", id="not-normalised"),
    ],
)
def test_set_encodes_any_text_as_a_form(value: str, form: bytes) -> None:
    """A text arrives as it is, whatever is in it."""
    sent = Sent()
    sent.keys.set("/k", value)
    assert sent.request.body == form


# --- what is refused before any request -------------------------------------


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        pytest.param(lambda k: k.set("/k"), TypeError, id="no-value"),
        pytest.param(lambda k: k.set("/k", 5), TypeError, id="int"),
        pytest.param(lambda k: k.set("/k", b"v"), TypeError, id="bytes"),
        pytest.param(lambda k: k.set("/k", ["v"]), TypeError, id="list"),
        pytest.param(lambda k: k.set("/k", True), TypeError, id="bool"),
        pytest.param(lambda k: k.set("/k", "\ud800"), ValueError, id="surrogate"),
        pytest.param(lambda k: k.create_in_order("/k"), TypeError, id="post-no-value"),
        pytest.param(lambda k: k.create_in_order("/k", b""), TypeError, id="post-byte"),
        pytest.param(lambda k: k.set("/k", dir="no"), TypeError, id="dir-text"),
        pytest.param(
            lambda k: k.set("/k", "v", prev_exist="no"), TypeError, id="exist"
        ),
        pytest.param(lambda k: k.get("/k", recursive=1), TypeError, id="recursive"),
        pytest.param(
            lambda k: k.set("/k", "v", prev_index=True), TypeError, id="prev-index-bool"
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_index=Decimal("nan")), TypeError, id="nan"
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_index=0), ValueError, id="prev-index-0"
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_index=-1), ValueError, id="prev-index-below"
        ),
        pytest.param(
            lambda k: k.set("/k", "v", prev_value=""), ValueError, id="prev-value-empty"
        ),
        pytest.param(lambda k: k.delete("/k", prev_index=0), ValueError, id="delete-0"),
        pytest.param(
            lambda k: k.delete("/k", prev_value=""), ValueError, id="delete-empty"
        ),
        pytest.param(lambda k: k.compare_and_swap("/k", "v"), TypeError, id="cas"),
        pytest.param(lambda k: k.compare_and_delete("/k"), TypeError, id="cad"),
        pytest.param(lambda k: k.set("/k", "v", ttl=0), ValueError, id="ttl-0"),
        pytest.param(lambda k: k.refresh("/k", -1), ValueError, id="ttl-below"),
        pytest.param(lambda k: k.set("/k", "v", ttl="5"), TypeError, id="ttl-text"),
    ],
)
def test_write_impossible_argument_is_refused_before_any_request(
    call: Call, kind: type[Exception]
) -> None:
    """What etcd would take for something else is not sent."""
    sent = Sent()
    with pytest.raises(kind):
        call(sent.keys)
    assert sent.transport.calls == []


METHODS = [
    pytest.param(lambda k, key: k.get(key), id="get"),
    pytest.param(lambda k, key: k.exists(key), id="exists"),
    pytest.param(lambda k, key: k.watch(key), id="watch"),
    pytest.param(lambda k, key: k.set(key, "v"), id="set"),
    pytest.param(lambda k, key: k.create(key, "v"), id="create"),
    pytest.param(lambda k, key: k.update(key, "v"), id="update"),
    pytest.param(lambda k, key: k.compare_and_swap(key, "v", prev_index=1), id="cas"),
    pytest.param(lambda k, key: k.create_in_order(key, "v"), id="in-order"),
    pytest.param(lambda k, key: k.make_directory(key), id="mkdir"),
    pytest.param(lambda k, key: k.refresh(key, 5), id="refresh"),
    pytest.param(lambda k, key: k.delete(key), id="delete"),
    pytest.param(lambda k, key: k.compare_and_delete(key, prev_index=1), id="cad"),
]


@pytest.mark.parametrize("key", ["", "k", "/a/../b", "/.", "//a", "/\udcff"], ids=ascii)
@pytest.mark.parametrize("call", METHODS)
def test_any_method_impossible_path_is_refused_before_any_request(
    call: Callable[[KeysAPI, str], Any], key: str
) -> None:
    """No operation sends a path that would reach another node."""
    sent = Sent()
    with pytest.raises(InvalidKey):
        call(sent.keys, key)
    assert sent.transport.calls == []


@pytest.mark.parametrize("call", METHODS)
def test_any_method_too_deep_path_is_refused_before_any_request(
    call: Callable[[KeysAPI, str], Any],
) -> None:
    """A path that would hurt the server is not sent."""
    sent = Sent()
    with pytest.raises(LimitExceeded):
        call(sent.keys, "/a" * 201)
    assert sent.transport.calls == []


@pytest.mark.parametrize("call", METHODS)
def test_any_method_hidden_name_is_sent(call: Callable[[KeysAPI, str], Any]) -> None:
    """The keys interface reaches hidden nodes."""
    sent = Sent()
    call(sent.keys, "/_a/_b")
    assert sent.request.target.partition("?")[0] == "/v2/keys/_a/_b"
    assert sent.request.key == "/_a/_b"


def test_value_at_the_limit_is_sent() -> None:
    """The form may have 10 MiB."""
    sent = Sent()
    sent.keys.set("/k", "v" * (MAX_BODY - len("value=")))
    assert len(sent.request.body or b"") == MAX_BODY


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("v" * (MAX_BODY - len("value=") + 1), id="ascii"),
        pytest.param("é" * (MAX_BODY // 6), id="percent-encoded"),
    ],
)
def test_value_beyond_the_limit_is_refused_by_name(value: str) -> None:
    """The limit counts in percent-encoding; the message names it, not the value."""
    sent = Sent()
    with pytest.raises(LimitExceeded, match=str(MAX_BODY)) as caught:
        sent.keys.set("/k", value)
    assert len(str(caught.value)) < 400
    assert sent.transport.calls == []


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            lambda k, v: k.compare_and_swap("/k", "v", prev_value=v), id="cas"
        ),
        pytest.param(lambda k, v: k.compare_and_delete("/k", prev_value=v), id="cad"),
    ],
)
def test_condition_beyond_the_limit_is_refused(
    call: Callable[[KeysAPI, str], Any],
) -> None:
    """etcd hangs up on what is too long, which would look like a dead member."""
    sent = Sent()
    with pytest.raises(LimitExceeded):
        call(sent.keys, "v" * (MAX_BODY + 1))
    assert sent.transport.calls == []


def test_delete_condition_beyond_the_url_is_refused() -> None:
    """The condition of a DELETE is in the URL, which may have 1 MiB."""
    sent = Sent()
    with pytest.raises(LimitExceeded):
        sent.keys.compare_and_delete("/k", prev_value="v" * 1_100_000)
    assert sent.transport.calls == []


# --- ttl --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        pytest.param(1, 1, id="1"),
        pytest.param(0.001, 1, id="below-1"),
        pytest.param(1.0, 1, id="1.0"),
        pytest.param(1.2, 2, id="1.2"),
        pytest.param(MAX_TTL, MAX_TTL, id="longest"),
    ],
)
def test_whole_seconds_rounds_up(ttl: float, seconds: int) -> None:
    """A key lives at least as long as was asked for."""
    result = whole_seconds(ttl)
    assert result == seconds
    assert type(result) is int


@pytest.mark.parametrize(
    "ttl", [0, -1, -0.5, 0.0, MAX_TTL + 1, 1e300, float("inf"), float("nan"), 10**400]
)
def test_whole_seconds_out_of_range_raises_value_error(ttl: float) -> None:
    """etcd would end such a key at once, or never."""
    with pytest.raises(ValueError, match="ttl"):
        whole_seconds(ttl)


@pytest.mark.parametrize("ttl", ["5", True, False, b"5", [5], 5j])
def test_whole_seconds_no_number_raises_type_error(ttl: Any) -> None:
    """A ttl is a number; True is none."""
    with pytest.raises(TypeError, match="ttl"):
        whole_seconds(ttl)


def test_longest_ttl_is_about_ten_years_and_far_from_overflow() -> None:
    """etcd's clock arithmetic overflows at 7.4e9 seconds."""
    assert 3650 * 86400 <= MAX_TTL < 7_000_000_000


# --- spelling ---------------------------------------------------------------


def test_spell_query_leaves_out_what_is_absent() -> None:
    """None and False are no parameters; prevExist=false is one."""
    assert spell_query() == ""
    assert spell_query(a=None, b=False, c=True, prevIndex=3, prevExist=False) == (
        "?c=true&prevIndex=3&prevExist=false"
    )


def test_spell_form_without_anything_is_empty() -> None:
    """A directory needs no form."""
    assert spell_form(None, None) == ""
    assert spell_form("", None) == "value="


# --- answers and options ----------------------------------------------------


def test_call_timeout_is_the_deadline_of_the_call() -> None:
    """timeout= counts for this call; without it the client's does."""
    sent = Sent(done, done)
    sent.keys.get("/k", timeout=3)
    sent.keys.get("/k")
    (_, _, first), (_, _, second) = sent.transport.calls
    assert first == pytest.approx(3, abs=0.5)
    assert second == pytest.approx(9, abs=0.5)


@pytest.mark.parametrize(
    ("call", "body", "status", "kind"),
    [
        pytest.param(
            lambda k: k.create("/k", "v"),
            '{"errorCode":105,"message":"Key already exists"}',
            412,
            KeyExists,
            id="create",
        ),
        pytest.param(
            lambda k: k.watch("/k", after_index=1),
            '{"errorCode":401,"message":"The event is outdated"}',
            400,
            WatchExpired,
            id="watch",
        ),
        pytest.param(
            lambda k: k.set("/k", "v"),
            '{"errorCode":300,"message":"Raft Internal Error"}',
            500,
            OutcomeUnknown,
            id="set",
        ),
    ],
)
def test_refusal_names_the_key(
    call: Call, body: str, status: int, kind: type[Exception]
) -> None:
    """An error says which key it is about."""
    sent = Sent(answer(body, status))
    with pytest.raises(kind, match="/k"):
        call(sent.keys)


def test_result_shows_what_etcd_said() -> None:
    """Action, nodes and indexes of an answer are all there."""
    given = answer(
        '{"action":"set","node":{"key":"/k","value":"new","modifiedIndex":5,'
        '"createdIndex":5,"ttl":3,"expiration":"2026-01-02T03:04:05.678901234Z"},'
        '"prevNode":{"key":"/k","value":"old","modifiedIndex":4,"createdIndex":4}}',
        index=5,
    )
    given = replace(given, headers={**given.headers, "x-etcd-cluster-id": "abc"})
    result = Sent(given).keys.set("/k", "new", ttl=3)
    assert result.action == "set"
    assert result.node is not None
    assert result.prev_node is not None
    assert (result.node.value, result.prev_node.value) == ("new", "old")
    assert (result.node.modified_index, result.node.ttl) == (5, 3)
    assert str(result.node.expiration) == "2026-01-02 03:04:05.678901+00:00"
    assert (result.etcd_index, result.cluster_id) == (5, "abc")


def test_keys_api_repr_shows_endpoints_only() -> None:
    """No request is made to show it."""
    sent = Sent()
    assert repr(sent.keys) == "<KeysAPI ['http://a:1']>"
    assert sent.transport.calls == []


def test_closed_client_error_gets_out() -> None:
    """A closed client is not an outage."""
    sent = Sent()
    sent.transport.steps = [ClientClosed("closed")]
    with pytest.raises(ClientClosed):
        sent.keys.get("/k")


# --- the tree on top --------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "method", "parameters"),
    [
        pytest.param(
            lambda t: t.put("/k", "v"),
            "PUT",
            {"value": "v", "noValueOnSuccess": "true"},
            id="put",
        ),
        pytest.param(
            lambda t: t.put("/k", "v", ttl=1.5, expect=Fence(0, absent=True)),
            "PUT",
            {
                "value": "v",
                "ttl": "2",
                "noValueOnSuccess": "true",
                "prevExist": "false",
            },
            id="put-absent",
        ),
        pytest.param(
            lambda t: t.put("/k", "v", expect=Present()),
            "PUT",
            {"value": "v", "noValueOnSuccess": "true", "prevExist": "true"},
            id="put-present",
        ),
        pytest.param(
            lambda t: t.put("/k", "v", expect=Fence(9)),
            "PUT",
            {"value": "v", "noValueOnSuccess": "true", "prevIndex": "9"},
            id="put-index",
        ),
        pytest.param(
            lambda t: t.delete("/k"), "DELETE", {"recursive": "true"}, id="delete"
        ),
        pytest.param(
            lambda t: t.delete("/k", expect=Fence(9)),
            "DELETE",
            {"prevIndex": "9"},
            id="delete-index",
        ),
        pytest.param(
            lambda t: t.make_directory("/k"),
            "PUT",
            {"dir": "true", "prevExist": "false"},
            id="mkdir",
        ),
        pytest.param(
            lambda t: t.make_directory("/k", ttl=5, over_file=True),
            "PUT",
            {"dir": "true", "ttl": "5"},
            id="mkdir-replace",
        ),
    ],
)
def test_tree_write_sends_exactly(
    call: Callable[[V2Store], Any], method: str, parameters: dict[str, str]
) -> None:
    """Each write of the dict layer has these parameters and no others."""
    sent = Sent()
    call(sent.tree)
    assert sent.request.method == method
    assert sent.parameters == parameters

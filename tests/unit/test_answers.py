"""What odd answers mean; each is met by every reader of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etcdmap.connecting import make_client
from etcdmap.errors import (
    CompareFailed,
    EtcdMapError,
    InvalidResponse,
    NotADirectory,
    OutcomeUnknown,
    RaftError,
    ServerError,
    Unauthorized,
    V2NotEnabled,
)
from etcdmap.transport import Answer, Request
from etcdmap.tree import Directory, File
from etcdmap.v2.keys import KeysAPI
from etcdmap.v2.store import V2Store

from support.transports import ScriptedTransport, answer

ENDPOINT = "http://a:1"
FILE = '{"key":"/k","value":"v","modifiedIndex":3,"createdIndex":2}'


def as_watched(body: bytes) -> bytes:
    """Tell as an event what is told as the answer to a read."""
    return body.replace(b'{"action":"get"', b'{"action":"set"')


class Store:
    """A keys API and a tree on an endpoint that gives the same answer always."""

    def __init__(self, given: Answer) -> None:
        def give(endpoint: str, request: Request, timeout: float) -> Answer:
            body = given.body
            if "wait=true" in request.target:  # a watch tells of no "get"
                body = as_watched(body)
            return replace(given, body=body, endpoint=endpoint)

        # More than one: an odd answer may be asked for again.
        self.transport = ScriptedTransport([give] * 10)
        client = make_client(ENDPOINT, self.transport)
        self.keys = KeysAPI(client)
        self.tree = V2Store(self.keys)

    @property
    def methods(self) -> list[str]:
        """The methods of the requests, in order."""
        return [request.method for _, request, _ in self.transport.calls]


Reader = Callable[[Store], Any]

READERS = [
    pytest.param(lambda s: s.keys.get("/k"), id="keys.get"),
    pytest.param(lambda s: s.keys.watch("/k"), id="keys.watch"),
    pytest.param(lambda s: s.tree.get("/k"), id="tree.get"),
    pytest.param(lambda s: s.tree.list("/k"), id="tree.list"),
    pytest.param(lambda s: s.tree.list("/k", recursive=True), id="tree.list-recursive"),
    pytest.param(lambda s: s.tree.read("/k", str), id="tree.read"),
]
# What reads the value of a file, and what looks at the children of a directory.
FILE_READERS = [reader for reader in READERS if reader.id != "tree.read"]
LISTERS = [reader for reader in READERS if reader.id != "tree.get"]

WRITERS = [
    pytest.param(lambda s: s.keys.set("/k", "v"), id="keys.set"),
    pytest.param(lambda s: s.keys.create_in_order("/k", "v"), id="keys.post"),
    pytest.param(lambda s: s.keys.delete("/k"), id="keys.delete"),
    pytest.param(lambda s: s.tree.put("/k", "v"), id="tree.put"),
    pytest.param(lambda s: s.tree.delete("/k"), id="tree.delete"),
    pytest.param(lambda s: s.tree.make_directory("/k"), id="tree.mkdir"),
]


def node(text: str) -> str:
    """Make the body of a successful GET."""
    return f'{{"action":"get","node":{text}}}'


def directory(children: str) -> str:
    """Make the body of a listing."""
    return node(f'{{"key":"/k","dir":true,"nodes":{children}}}')


# No etcd says any of this.
NOT_ETCD = [
    pytest.param("", id="empty"),
    pytest.param("<html><body>Welcome</body></html>", id="html"),
    pytest.param(node(FILE)[:-10], id="truncated"),
    pytest.param(node(FILE) + "}", id="too-much"),
    pytest.param(b"\xff\xfe" + node(FILE).encode(), id="bad-utf8"),
    pytest.param(b"\xef\xbb\xbf" + node(FILE).encode(), id="bom"),
    pytest.param("null", id="null"),
    pytest.param("{}", id="no-action"),
    pytest.param("9" * 5000, id="huge-number"),
]

# Answers of the right kind with something wrong inside, for readers of nodes.
WRONG_NODES = [
    pytest.param('{"action":"get"}', id="no-node"),
    pytest.param(node("null"), id="node-null"),
    pytest.param(node("[]"), id="node-list"),
]
WRONG_VALUES = [
    pytest.param(node('{"key":"/k","value":5,"modifiedIndex":3}'), id="value-number"),
]
WRONG_CHILDREN = [
    pytest.param(directory("5"), id="nodes-number"),
    pytest.param(directory("[5]"), id="child-number"),
    pytest.param(directory("[null]"), id="child-null"),
    pytest.param(directory('"abc"'), id="nodes-text"),
    pytest.param(
        directory('[{"key":"/k/a","value":5,"modifiedIndex":3}]'),
        id="child-value-number",
    ),
    pytest.param(
        directory('[{"key":"/k/a","dir":true,"nodes":5}]'), id="grandchildren-number"
    ),
]

# What only those notice who look at it.
WRONG_DETAILS = [
    pytest.param(node('{"key":"/k","value":"v","modifiedIndex":"3"}'), id="index-text"),
    pytest.param(
        node('{"key":"/k","value":"v","modifiedIndex":true}'), id="index-true"
    ),
    pytest.param(
        node(f'{{"key":"/k","value":"v","modifiedIndex":{2**64}}}'), id="index-huge"
    ),
    pytest.param(
        node('{"key":"/k","value":"v","modifiedIndex":3,"ttl":1.5}'), id="ttl-float"
    ),
]


# What only those notice who show every field.
WRONG_FIELDS = [
    pytest.param('{"action":5,"node":' + FILE + "}", id="action-number"),
    pytest.param('{"action":"set","node":' + FILE + ',"prevNode":5}', id="prev"),
    pytest.param(node('{"key":"/k","expiration":5}'), id="expiration-number"),
    pytest.param(node('{"key":"/k","expiration":"soon"}'), id="expiration-text"),
    pytest.param(node('{"key":"/k","createdIndex":"2"}'), id="created-text"),
    pytest.param(node('{"key":7}'), id="key-number"),
]


def assert_describes(error: InvalidResponse, given: Answer) -> None:
    """Check that an error shows where it came from."""
    assert error.endpoint == ENDPOINT
    assert ENDPOINT in str(error)
    assert error.status == given.status
    assert error.excerpt in (given.body[:200], as_watched(given.body)[:200])


def each(readers: list[Any], bodies: list[Any]) -> list[Any]:
    """Give all readers with all bodies."""
    return [
        pytest.param(*reader.values, *body.values, id=f"{reader.id}-{body.id}")
        for reader in readers
        for body in bodies
    ]


@pytest.mark.parametrize(
    ("read", "body"),
    [
        *each(READERS, NOT_ETCD[:2] + WRONG_NODES),
        *each([READERS[0], READERS[-1]], NOT_ETCD[2:]),
        # A file without a text for a value is no file of etcd's.
        *each(FILE_READERS, WRONG_VALUES),
        *each(LISTERS, WRONG_CHILDREN),
        *each([READERS[0], READERS[2]], WRONG_DETAILS),
        *each(READERS[:1], WRONG_FIELDS),
        *each(READERS[-1:], [pytest.param(node('{"key":"/k"}'), id="neither")]),
    ],
)
def test_reader_odd_success_is_invalid_response(
    read: Reader, body: str | bytes
) -> None:
    """A 200 that is not etcd's is an error that names endpoint, status and start.

    Each reader checks what it looks at, and the keys interface shows every field.
    """
    given = answer(body)
    with pytest.raises(InvalidResponse) as caught:
        read(Store(given))
    assert_describes(caught.value, given)
    assert not isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("write", "body"),
    [*each(WRITERS, NOT_ETCD[:2]), *each(WRITERS[:1], NOT_ETCD[2:])],
)
def test_writer_odd_success_is_outcome_unknown(
    write: Reader, body: str | bytes
) -> None:
    """A write that somebody answered oddly may have been carried out."""
    given = answer(body)
    store = Store(given)
    with pytest.raises(OutcomeUnknown) as caught:
        write(store)
    (attempt,) = caught.value.attempts
    assert isinstance(attempt.error, InvalidResponse)
    assert_describes(attempt.error, given)
    assert len(store.transport.calls) == 1


# --- headers ----------------------------------------------------------------


@pytest.mark.parametrize(
    "index", [None, "", "abc", "+7", "-7", "1_0", "7.0", "0x7", "\u0667", "\xb2", "0"]
)
@pytest.mark.parametrize("read", [*READERS, WRITERS[0], WRITERS[3]])
def test_any_success_without_index_is_not_etcds(
    read: Reader, index: str | None
) -> None:
    """X-Etcd-Index is on every success of etcd; a proxy that drops it is told."""
    given = answer(node(FILE), index=None)
    if index is not None:
        given = replace(given, headers={**given.headers, "x-etcd-index": index})
    with pytest.raises((InvalidResponse, OutcomeUnknown), match=ENDPOINT):
        read(Store(given))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        pytest.param("17", 17, id="number"),
        pytest.param("-1", None, id="negative"),
        pytest.param(str(2**64 - 1), 2**64 - 1, id="largest"),
        pytest.param(str(2**64), None, id="too-large"),
        pytest.param("9" * 5000, None, id="huge"),
        pytest.param(None, None, id="missing"),
    ],
)
def test_result_raft_headers_are_numbers_or_none(
    text: str | None, index: int | None
) -> None:
    """The headers of raft are for information: a strange one is left out."""
    given = answer(node(FILE))
    if text is not None:
        given.headers["x-raft-index"] = text  # type: ignore[index]
        given.headers["x-raft-term"] = text  # type: ignore[index]
    result = Store(given).keys.get("/k")
    assert result.raft_index == index
    assert result.raft_term == index


# --- depth ------------------------------------------------------------------


def nested(levels: int) -> str:
    """Make the listing of a directory within directories."""
    # Below 1,000 levels the keys stop growing: nobody reads so far.
    keys = ["/k" * min(level, 1000) for level in range(1, levels + 1)]
    text = f'{{"key":"{keys[-1]}/v","value":"v","modifiedIndex":3}}'
    opened = "".join(f'{{"key":"{key}","dir":true,"nodes":[' for key in keys)
    return node(opened + text + "]}" * levels)


@pytest.mark.parametrize("levels", [210, 1000, 20_000])
@pytest.mark.parametrize("read", READERS)
def test_reader_tree_beyond_the_limit_is_refused(read: Reader, levels: int) -> None:
    """Others can nest deeper than Python can go: an error that says what to do."""
    with pytest.raises(InvalidResponse, match=r"deep .*read a part of it"):
        read(Store(answer(nested(levels))))


@pytest.mark.parametrize("read", READERS)
def test_reader_tree_of_200_levels_is_read(read: Reader) -> None:
    """What this library lets in, it can read back."""
    read(Store(answer(nested(200))))


def test_reader_deep_arrays_are_refused() -> None:
    """JSON that is nothing but brackets is an error of ours."""
    with pytest.raises(EtcdMapError):
        Store(answer("[" * 100_000)).keys.get("/k")


def test_absence_told_of_what_is_no_text_is_an_error_of_ours() -> None:
    """A fenced write reads it by its bytes."""
    cause = b'{"errorCode":100,"message":"Key not found","cause":"/k\xff","index":7}'
    give = answer(cause, 404)
    client = make_client(ENDPOINT, ScriptedTransport([give] * 10), fence=True)
    with pytest.raises(InvalidResponse, match=ENDPOINT):
        V2Store(KeysAPI(client)).put("/k", "v")


@pytest.mark.parametrize("status", [404, 500])
def test_error_with_deep_body_is_no_recursion_error(status: int) -> None:
    """An error's body may be nested without an end, too."""
    with pytest.raises(EtcdMapError):
        Store(answer("[" * 100_000, status)).keys.set("/k", "v")


# --- refusals ---------------------------------------------------------------


@pytest.mark.parametrize("read", [*READERS, *WRITERS])
def test_any_404_without_error_code_is_v2_not_enabled(read: Reader) -> None:
    """A plain 404 tells what to do, and is never "absent"."""
    given = answer("404 page not found\n", 404, index=None)
    with pytest.raises(V2NotEnabled, match="--enable-v2") as caught:
        read(Store(given))
    assert_describes(caught.value, given)
    assert not isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<html>", id="html"),
        pytest.param('{"error":"not found"}', id="json"),
        pytest.param('{"errorCode":true}', id="code-true"),
    ],
)
@pytest.mark.parametrize("read", [READERS[0], READERS[3]])
def test_reader_404_of_any_other_kind_is_v2_not_enabled(
    read: Reader, body: str | bytes
) -> None:
    """Only an errorCode of etcd's says that a key is absent."""
    with pytest.raises(V2NotEnabled):
        read(Store(answer(body, 404)))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("read", [READERS[0], READERS[3], WRITERS[0]])
def test_any_denial_of_the_auth_layer_is_unauthorized(
    read: Reader, status: int
) -> None:
    """Auth errors come without an errorCode; they are told as 110 all the same."""
    given = answer('{"message":"Insufficient credentials"}', status, index=None)
    with pytest.raises(Unauthorized, match="check username") as caught:
        read(Store(given))
    assert caught.value.code == 110
    assert caught.value.endpoint == ENDPOINT
    assert caught.value.key == "/k"


@pytest.mark.parametrize("status", [401, 403])
def test_reader_denial_of_something_else_is_invalid_response(status: int) -> None:
    """A proxy's login page is not etcd's refusal."""
    with pytest.raises(InvalidResponse, match=str(status)):
        Store(answer("<html>login</html>", status)).keys.get("/k")


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("read", [*READERS, *WRITERS])
def test_any_redirect_is_an_error_that_says_so(read: Reader, status: int) -> None:
    """A redirect is never followed; a write was not carried out."""
    with pytest.raises(InvalidResponse, match="redirect") as caught:
        read(Store(answer("", status, index=None)))
    assert caught.value.status == status
    assert caught.value.refused


@pytest.mark.parametrize("code", [300, 301])
def test_writer_raft_error_keeps_code_and_cause(code: int) -> None:
    """The 5xx of etcd stays readable in the attempt of the unknown outcome."""
    message = "Raft Internal Error" if code == 300 else "During Leader Election"
    body = {"errorCode": code, "message": message, "cause": "timed out", "index": 9}
    with pytest.raises(OutcomeUnknown) as caught:
        Store(answer(json.dumps(body), 500)).keys.set("/k", "v")
    error = caught.value.attempts[0].error
    assert isinstance(error, RaftError)
    assert (error.code, error.cause, error.etcd_index) == (code, "timed out", 9)


@pytest.mark.parametrize("status", [500, 503])
def test_writer_5xx_text_is_outcome_unknown(status: int) -> None:
    """A gateway's error says nothing about the write behind it."""
    with pytest.raises(OutcomeUnknown) as caught:
        Store(answer("Service Unavailable", status, index=None)).keys.set("/k", "v")
    error = caught.value.attempts[0].error
    assert isinstance(error, InvalidResponse)
    assert error.status == status


@pytest.mark.parametrize("status", [199, 204])
def test_reader_other_2xx_is_invalid_response(status: int) -> None:
    """etcd says 200 or 201; anything else is somebody else."""
    with pytest.raises(InvalidResponse, match=str(status)):
        Store(answer(node(FILE), status)).keys.get("/k")


def test_refusal_carries_everything_etcd_said() -> None:
    """Code, message, cause and index are kept; the text leaves out the cause."""
    body = {
        "errorCode": 101,
        "message": "Compare failed",
        "cause": "[hunter2 != x]",
        "index": 41,
    }
    with pytest.raises(CompareFailed) as caught:
        Store(answer(json.dumps(body), 412)).keys.get("/k")
    error = caught.value
    assert (error.code, error.reason, error.cause) == (
        101,
        "Compare failed",
        "[hunter2 != x]",
    )
    assert (error.etcd_index, error.endpoint, error.key) == (41, ENDPOINT, "/k")
    assert "hunter2" not in f"{error} {error!r}"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"errorCode": 999}, id="bare"),
        pytest.param({"errorCode": 999, "message": 5, "cause": None}, id="types"),
        pytest.param({"errorCode": 999, "index": "x"}, id="index-text"),
    ],
)
def test_refusal_of_an_unlisted_code_is_a_server_error(body: dict[str, Any]) -> None:
    """A code that nobody knows, or odd fields beside it, is told as it is."""
    with pytest.raises(ServerError, match="999") as caught:
        Store(answer(json.dumps(body), 400)).keys.get("/k")
    assert type(caught.value) is ServerError
    assert caught.value.etcd_index is None


@pytest.mark.parametrize("read", READERS[2:])
def test_tree_reader_below_a_file_is_not_a_directory(read: Reader) -> None:
    """A mapping makes a KeyError of it; see `sought`."""
    body = '{"errorCode":104,"message":"Not a directory","cause":"/k","index":3}'
    with pytest.raises(NotADirectory) as caught:
        read(Store(answer(body, 400)))
    assert (caught.value.code, caught.value.key) == (104, "/k")


# --- presence ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "present"), [pytest.param(200, True), pytest.param(404, False)]
)
def test_exists_clear_head_needs_no_second_request(status: int, present: bool) -> None:
    """HEAD with an index is enough."""
    store = Store(answer("", status))
    assert store.keys.exists("/k") is present
    assert store.methods == ["HEAD"]


@pytest.mark.parametrize(
    ("head", "get", "present"),
    [
        pytest.param(answer("", 404, index=None), answer(node(FILE)), True, id="there"),
        pytest.param(
            answer("", 200, index=None),
            answer('{"errorCode":100,"message":"Key not found"}', 404),
            False,
            id="absent",
        ),
        pytest.param(
            answer("", 400),
            answer('{"errorCode":104,"message":"Not a directory"}', 400),
            False,
            id="below-a-file",
        ),
    ],
)
def test_exists_unclear_head_asks_again_with_get(
    head: Answer, get: Answer, present: bool
) -> None:
    """What a HEAD leaves open, a body tells."""
    store = Store(head)
    store.transport.steps = [head, get]
    assert store.keys.exists("/k") is present
    assert [request.method for _, request, _ in store.transport.calls] == [
        "HEAD",
        "GET",
    ]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(answer("404 page not found", 404, index=None), V2NotEnabled),
        pytest.param(answer('{"message":"no"}', 401, index=None), Unauthorized),
        pytest.param(answer("<html>", 200, index=None), InvalidResponse),
        pytest.param(answer("null", 200, index=None), InvalidResponse),
        pytest.param(answer("", 301, index=None), InvalidResponse),
    ],
)
def test_exists_by_something_else_is_an_error(given: Answer, kind: type) -> None:
    """No answer of somebody else's reads as "absent" or "present"."""
    with pytest.raises(kind) as caught:
        Store(given).keys.exists("/k")
    assert not isinstance(caught.value, KeyError)


# --- good answers -----------------------------------------------------------


def test_reader_root_without_key_is_read() -> None:
    """The root comes without a key and without indexes."""
    body = node('{"dir":true,"nodes":[{"key":"/a","value":"v","modifiedIndex":3}]}')
    assert Store(answer(body)).tree.list("/") == Directory(
        {"a": File("v", 3, None)}, None, 7
    )
    root = Store(answer(body)).keys.get("/").node
    assert root is not None
    assert root.key == "/"


def test_reader_empty_directory_has_no_nodes() -> None:
    """etcd leaves the list out of an empty directory."""
    body = node('{"key":"/k","dir":true,"ttl":5}')
    assert Store(answer(body)).tree.list("/k", of_directory=True) == Directory({}, 5, 7)
    assert Store(answer(body)).tree.read("/k", str).value == {}


def test_reader_snapshot_sorts_and_decodes() -> None:
    """A whole read gives sorted plain values and the index of the store."""
    body = directory(
        '[{"key":"/k/b","value":"2"},{"key":"/k/a","dir":true,'
        '"nodes":[{"key":"/k/a/x","value":"1"}]}]'
    )
    content, index = Store(answer(body, index=9)).tree.read("/k", int)
    assert content == {"a": {"x": 1}, "b": 2}
    assert list(content) == ["a", "b"]
    assert index == 9


def test_writer_answer_without_node_is_a_result() -> None:
    """noValueOnSuccess leaves the node out; the index is in the header."""
    keys = Store(answer('{"action":"set"}', index=12)).keys
    result = keys.set("/k", "v", no_value_on_success=True)
    assert (result.action, result.node, result.etcd_index) == ("set", None, 12)
    assert Store(answer('{"action":"set"}', 201, index=12)).tree.put("/k", "v") == 12

"""The tree of exceptions: what they are, what they say, what they keep."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
import traceback
from collections.abc import Callable, Iterator

import pytest

import etcdmap
from etcdmap import errors
from etcdmap.errors import (
    CODE_TO_ERROR,
    Attempt,
    ClusterUnavailable,
    CompareFailed,
    DeadlineExceeded,
    DecodeError,
    EtcdMapError,
    ExchangeFailed,
    InvalidRequest,
    InvalidResponse,
    KeyNotFound,
    NotAFile,
    OutcomeUnknown,
    PartialWrite,
    RaftError,
    RequestFailed,
    ServerError,
    Unauthorized,
    V2NotEnabled,
    WatchExpired,
)

SECRET = "hunter2"

#: Every code that etcd's v2error/error.go (branch release-3.4) can send.
SENT_BY_ETCD = {
    100: "Key not found",
    101: "Compare failed",
    102: "Not a file",
    104: "Not a directory",
    105: "Key already exists",
    107: "Root is read only",
    108: "Directory not empty",
    110: "The request requires user authentication",
    201: "PrevValue is Required in POST form",
    202: "The given TTL in POST form is not a number",
    203: "The given index in POST form is not a number",
    209: "Invalid field",
    210: "Invalid POST form",
    211: "Value provided on refresh",
    212: "A TTL must be provided on refresh",
    300: "Raft Internal Error",
    301: "During Leader Election",
    400: "watcher is cleared due to etcd recovery",
    401: "The event in requested index is outdated and cleared",
}

#: Those it lists, but no longer sends.
LISTED_BY_ETCD = {
    103: "Reached the max number of peers in the cluster",
    106: "The prefix of given key is a keyword in etcd",
    109: "Peer address has existed",
    200: "Value is Required in POST form",
    204: "Value or TTL is required in POST form",
    205: "The given timeout in POST form is not a number",
    206: "Name is required in POST form",
    207: "Index or value is required",
    208: "Index and value cannot both be specified",
    402: "Standby Internal Error",
    403: "Invalid active size",
    404: "Standby remove delay",
    500: "Client Internal Error",
}


def all_errors() -> Iterator[type[EtcdMapError]]:
    """Find every exception class of the library."""
    todo = [EtcdMapError]
    while todo:
        kind = todo.pop()
        yield kind
        todo += kind.__subclasses__()


def make(kind: type[EtcdMapError]) -> EtcdMapError:
    """Make an error with everything that it can carry."""
    if issubclass(kind, ServerError):
        return kind(
            "the reason",
            code=101,
            cause=f"[{SECRET} != x]",
            etcd_index=7,
            endpoint="http://a:1",
            key="/k",
        )
    if issubclass(kind, RequestFailed):
        inner = ExchangeFailed("broken", sent=True, timed_out=True)
        return kind("the reason", [Attempt("http://a:1", inner, True)])
    if issubclass(kind, InvalidResponse):
        excerpt = SECRET.encode() * 50
        return kind("the reason", endpoint="http://a:1", status=404, excerpt=excerpt)
    if issubclass(kind, PartialWrite):
        failed = {"/b": ClusterUnavailable("the reason")}
        return kind(written=["/a"], failed=failed, pending=["/c"])
    if issubclass(kind, ExchangeFailed):
        return kind("the reason", sent=True, timed_out=True, lasting=True)
    if issubclass(kind, DecodeError):
        return kind("the reason", key="/k")
    return kind("the reason")


ALL = [
    pytest.param(make(kind), id=kind.__name__)
    for kind in sorted(set(all_errors()), key=lambda kind: kind.__name__)
    if kind.__module__ == "etcdmap.errors"
]


# --- codes ------------------------------------------------------------------


@pytest.mark.parametrize("code", SENT_BY_ETCD)
def test_code_that_etcd_sends_has_a_class_of_its_own(code: int) -> None:
    """What can happen can be told apart by its class."""
    assert CODE_TO_ERROR[code] is not ServerError
    assert issubclass(CODE_TO_ERROR[code], ServerError)


@pytest.mark.parametrize("code", LISTED_BY_ETCD)
def test_code_that_etcd_only_lists_is_a_server_error(code: int) -> None:
    """A code out of use is an error of etcd's all the same."""
    kind = CODE_TO_ERROR.get(code, ServerError)
    assert (
        issubclass(kind, InvalidRequest) if 200 <= code < 300 else kind is ServerError
    )


def test_codes_that_etcd_does_not_list_are_not_listed() -> None:
    """The table has no invented codes."""
    assert CODE_TO_ERROR.keys() <= SENT_BY_ETCD.keys() | LISTED_BY_ETCD.keys()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (100, KeyNotFound),
        (101, CompareFailed),
        (110, Unauthorized),
        (209, InvalidRequest),
        (300, RaftError),
        (400, WatchExpired),
        (401, WatchExpired),
    ],
)
def test_code_has_the_documented_class(code: int, kind: type[ServerError]) -> None:
    """The table is the one in the docs."""
    assert CODE_TO_ERROR[code] is kind


# --- the tree ---------------------------------------------------------------

#: Met as the cause of an attempt only, so not in the tree of what gets out.
INSIDE = {"ExchangeFailed"}


def drawn() -> dict[str, tuple[int, str | None]]:
    """Read the tree in the module's docstring: name -> (indent, builtin)."""
    text = (errors.__doc__ or "").split("::", 1)[1].split("Arguments of the")[0]
    tree: dict[str, tuple[int, str | None]] = {}
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        for name, builtin in re.findall(
            r"\b([A-Z][A-Za-z0-9]+)(?: \(([A-Z]\w+)\))?", line
        ):
            if hasattr(errors, name):
                tree[name] = (indent, builtin or None)
    return tree


def test_tree_in_the_docstring_names_every_class() -> None:
    """The drawing is complete, and shows nothing that is not there."""
    classes = {
        kind.__name__ for kind in all_errors() if kind.__module__ == errors.__name__
    }
    assert drawn().keys() == classes - INSIDE


def test_tree_in_the_docstring_shows_the_bases() -> None:
    """A class below another in the drawing is its subclass, and a builtin's."""
    above: list[tuple[int, type]] = []
    for name, (indent, builtin) in drawn().items():
        kind = getattr(errors, name)
        while above and above[-1][0] >= indent:
            above.pop()
        if above:
            assert above[-1][1] in kind.__bases__
        if builtin is not None:
            assert issubclass(kind, getattr(builtins, builtin))
        above.append((indent, kind))


def test_tree_shows_every_builtin_base() -> None:
    """A builtin that a class also is, is written beside it."""
    tree = drawn()
    for kind in all_errors():
        if kind.__module__ != errors.__name__ or kind.__name__ in INSIDE:
            continue
        others = [
            base.__name__
            for base in kind.__bases__
            if base.__module__ == "builtins" and base is not Exception
        ]
        assert tree[kind.__name__][1] == (others[0] if others else None)


def test_only_key_not_found_is_a_key_error() -> None:
    """An outage that was a KeyError would read as "missing"."""
    key_errors: set[type] = {
        kind for kind in all_errors() if issubclass(kind, LookupError)
    }
    assert key_errors == {KeyNotFound}


def test_every_public_error_is_exported() -> None:
    """What gets out of the library can be caught by its public name."""
    for kind in all_errors():
        if kind.__module__ == errors.__name__ and kind.__name__ not in INSIDE:
            assert getattr(etcdmap, kind.__name__) is kind


# --- copies -----------------------------------------------------------------


def state(error: BaseException) -> object:
    """Give everything an error holds, comparable."""
    held = {
        name: [state(a.error) for a in value] if name == "attempts" else value
        for name, value in vars(error).items()
        if name != "failed"
    }
    return type(error), error.args, str(error), held


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        *(
            pytest.param(
                lambda e, p=protocol: pickle.loads(pickle.dumps(e, p)),  # noqa: S301
                id=f"pickle-{protocol}",
            )
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_error_survives_copying_whole(
    error: EtcdMapError, duplicate: Callable[[EtcdMapError], EtcdMapError]
) -> None:
    """Errors cross processes (multiprocessing, pytest-xdist) with all they hold."""
    again = duplicate(error)
    assert again is not error
    assert state(again) == state(error)


def test_error_with_a_caller_key_survives_pickling() -> None:
    """The caller's own key in args[0], as dict has it, is kept."""
    error = KeyNotFound("no", code=100, key="/app/k")
    error.args = ("k",)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert again.args == ("k",)
    assert str(again) == str(error)


# --- texts ------------------------------------------------------------------


@pytest.mark.parametrize("error", ALL)
def test_error_text_shows_neither_cause_nor_answer(error: EtcdMapError) -> None:
    """etcd's cause and an answer's start may hold values: kept, never shown."""
    shown = "".join(traceback.format_exception(type(error), error, None))
    assert SECRET not in f"{error} {error!r} {shown}"


@pytest.mark.parametrize("error", ALL)
def test_error_text_is_no_repr(error: EtcdMapError) -> None:
    """KeyError would show quotes around the message; ours show text."""
    text = str(error)
    assert text
    assert not text.startswith(("'", '"'))


def test_error_bare_shows_its_message() -> None:
    """A bare message is shown as it is."""
    assert str(EtcdMapError("it's broken")) == "it's broken"
    assert str(EtcdMapError()) == ""


def test_server_error_text_names_code_key_endpoint_and_what_to_do() -> None:
    """Everything needed to act is in one line."""
    error = Unauthorized("not allowed", code=110, endpoint="http://a:1", key="/k")
    assert str(error) == (
        "not allowed (etcd error 110): /k at http://a:1; check username, password "
        "and the roles granted to this user"
    )


def test_server_error_text_leaves_out_what_is_not_known() -> None:
    """Nothing is made up."""
    assert str(ServerError("no")) == "no"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        pytest.param(RaftError("x", code=300, cause="timed out"), True, id="300"),
        pytest.param(RaftError("x", code=301), True, id="301"),
        pytest.param(NotAFile("x", code=300), False, id="300-agreed"),
        pytest.param(Unauthorized("x", code=110), True, id="110"),
        pytest.param(KeyNotFound("x", code=100), False, id="100"),
        pytest.param(WatchExpired("x", code=401), False, id="401"),
    ],
)
def test_server_error_transient_tells_whether_to_ask_again(
    error: ServerError, transient: bool
) -> None:
    """Only raft's own troubles pass."""
    assert error.transient is transient


def test_request_failed_text_has_one_line_per_endpoint() -> None:
    """Why, how often, over how long; the order is that of the first attempts."""
    refused = ExchangeFailed("refused", sent=False)
    closed = InvalidResponse("http://a:1 answered with nonsense")
    late = ExchangeFailed("late", sent=True, timed_out=True)
    attempts = [
        Attempt("http://a:1", closed, False, 0.1),
        Attempt("http://b:1", late, True, 0.2),
        Attempt("http://a:1", refused, False, 0.3),
        Attempt("http://c:1", refused, False, 0.35),
        Attempt("http://a:1", refused, False, 12.41),
        Attempt("http://c:1", refused, False, 0.55),
        Attempt("http://a:1", late, True, 12.5),  # cut short by the deadline
    ]
    assert str(ClusterUnavailable("GET /k: gone", attempts)).splitlines() == [
        "GET /k: gone",
        "  http://a:1: refused (2 times in 12 s), then answered with nonsense",
        "  http://b:1: late",
        "  http://c:1: refused (2 times in 0.2 s)",
    ]


def test_request_failed_text_stays_short_with_a_cause_for_each_attempt() -> None:
    """An index that grows is another text each time."""
    attempts = [
        Attempt("http://a:1", ExchangeFailed(f"as of {n}", sent=True), True)
        for n in range(500)
    ]
    assert str(ClusterUnavailable("GET /k: gone", attempts)) == (
        "GET /k: gone\n  http://a:1: as of 0, then as of 1, and 498 more in .attempts"
    )


def test_request_failed_keeps_every_attempt() -> None:
    """The attempts are all there, whatever the text shows."""
    attempts = (Attempt("http://a:1", ExchangeFailed("x", sent=False), False),) * 3
    assert OutcomeUnknown("x", iter(attempts)).attempts == attempts
    assert OutcomeUnknown("x").attempts == ()


def test_deadline_exceeded_has_no_errno() -> None:
    """As an OSError it has no number of its own, and keeps its text."""
    error = DeadlineExceeded("GET /k: no answer")
    assert error.errno is None
    assert str(error) == "GET /k: no answer"


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        (0, False),
        (200, False),
        (299, False),
        (300, True),
        (307, True),
        (404, True),
        (408, False),
        (409, True),
        (425, False),
        (429, False),
        (499, False),
        (500, False),
        (501, True),
        (502, False),
        (503, False),
        (504, False),
    ],
)
def test_invalid_response_refused_tells_whether_it_was_carried_out(
    status: int, refused: bool
) -> None:
    """Most client errors were not; a gateway's, and those about time, prove nothing."""
    assert InvalidResponse("x", status=status).refused is refused


def test_invalid_response_keeps_200_bytes() -> None:
    """The start of the answer is enough to recognise it."""
    assert InvalidResponse("x", excerpt=b"a" * 500).excerpt == b"a" * 200
    assert V2NotEnabled("x", excerpt=b"404").excerpt == b"404"


def test_decode_error_text_names_the_key_where_it_is_known() -> None:
    """A codec does not know the key; the tree adds it."""
    assert str(DecodeError("no JSON", key="/k")) == "/k: no JSON"
    assert str(DecodeError("no JSON")) == "no JSON"


def test_partial_write_text_counts_and_shows_the_first_failures() -> None:
    """A thousand failures do not make a thousand lines."""
    attempts = [Attempt("http://a:1", ValueError("x"), False)] * 2
    failed = {f"/k{n}": ClusterUnavailable(f"cause {n}", attempts) for n in range(7)}
    error = PartialWrite(written=["/a", "/b"], failed=failed, pending=["/z"])
    lines = str(error).splitlines()
    assert "2 done, 7 failed, 1 not tried; call it again" in lines[0]
    assert lines[1:3] == ["  /k0: cause 0", "    http://a:1: x (2 times)"]
    assert len(lines) == 12
    assert lines[-1] == "  ... and others in .failed"
    assert error.written == ("/a", "/b")
    assert error.failed == failed
    assert error.pending == ("/z",)


def test_partial_write_text_of_a_thousand_keys_is_a_line_for_each_cause() -> None:
    """Each failure names its own key, and is the same failure all the same."""
    paths = [f"/app/k{n}" for n in range(1000)]
    failed: dict[str, Exception] = {
        path: ClusterUnavailable(f"PUT {path}: no endpoint") for path in paths
    }
    failed["/app/k7"] = Unauthorized("no", key="/app/k7")
    text = str(PartialWrite(written=[], failed=failed, pending=paths))
    assert text.splitlines()[1:] == [
        "  /app/k0, and 998 more: PUT /app/k0: no endpoint",
        f"  /app/k7: {failed['/app/k7']}",
    ]


def test_partial_write_text_shows_few_failures_whole() -> None:
    """Up to five are all shown."""
    failed = {f"/k{n}": ClusterUnavailable(f"x{n}") for n in range(5)}
    text = str(PartialWrite(written=[], failed=failed, pending=[]))
    assert len(text.splitlines()) == 6
    assert "others" not in text


# --- texts of others --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a b/ü", "a b/ü", id="plain"),
        pytest.param("a" * 200, "a" * 200, id="longest"),
        pytest.param("a\nb\x1b\x85\u2028", r"a\nb\x1b\x85\u2028", id="controls"),
        pytest.param("\udce9", r"\udce9", id="surrogate"),
        pytest.param("a" * 200 + "b", "a" * 97 + "..." + "a" * 99 + "b", id="longer"),
        pytest.param("\n" * 101, r"\n" * 48 + "\\..." + r"\n" * 50, id="escapes"),
    ],
)
def test_legible_is_printable_and_at_most_200_characters(
    text: str, expected: str
) -> None:
    """What is left out is in the middle: both ends tell most."""
    assert errors.legible(text) == expected
    assert errors.legible("x" * 60_000_000 + text).isprintable()
    assert len(errors.legible(text + "\0" * 60_000_000)) == 200

"""What v2 answers mean: a success, a refusal by etcd, or no answer of etcd at all.

Source of the statuses: etcd ``server/etcdserver/api/v2error`` (branches
release-3.4, release-3.5).  A 404 alone proves nothing: only an ``errorCode`` in
a JSON body does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from etcdmap.errors import (
    CODE_TO_ERROR,
    EtcdMapError,
    ExchangeFailed,
    InvalidResponse,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    ServerError,
    Unauthorized,
    V2NotEnabled,
    legible,
)
from etcdmap.transport import Answer
from etcdmap.v2.models import INDEXES, Asked, Node, Result
from etcdmap.v2.parsing import OutOfBounds, TooLate, parse_json

T = TypeVar("T")

#: etcd's own short messages.  No other text is shown, because another server may answer
#: with anything, including the password in the request.
_MESSAGES = frozenset(
    {
        "Key not found",
        "Compare failed",
        "Not a file",
        "Not a directory",
        "Key already exists",
        "Root is read only",
        "Directory not empty",
        "The request requires user authentication",
        "Insufficient credentials",
        "PrevValue is Required in POST form",
        "The given TTL in POST form is not a number",
        "The given index in POST form is not a number",
        "Invalid field",
        "Invalid POST form",
        "Raft Internal Error",
        "During Leader Election",
        "watcher is cleared due to etcd recovery",
        "The event in requested index is outdated and cleared",
    }
)

#: Why the ttl of a directory was not changed.
NO_TTL = "a directory is there, and etcd can't change its ttl"

# A larger body is dropped before it is parsed, except its beginning, which errors show.
# Otherwise body, text and values would be in memory at the same time.
_LARGE = 64 * 1024
_EXCERPT = 200
# How many characters of the cause of a refusal are kept.
_MOST_CAUSE = 1000

_match_absent = re.compile(
    rb'\{"errorCode":100,"message":"Key not found","cause":"([ -!#-\[\]-~]{1,999})",'
    rb'"index":([0-9]{1,18})\}\n?'
).fullmatch


def guarded(read: Callable[[Asked, Answer], T], asked: Asked, answer: Answer) -> T:
    """Read an answer; turn all errors that its shape causes into InvalidResponse."""
    try:
        return read(asked, answer)
    except EtcdMapError as error:
        if isinstance(error, InvalidResponse) and not error.endpoint:
            raise _strange(answer, str(error)) from error
        raise
    except RecursionError as error:
        # Not LimitExceeded, which says that nothing was sent.
        advice = "nested too deeply to be read whole; read a part of it"
        raise _strange(answer, f"{legible(asked.key)} {advice}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange(answer, "JSON of another shape than etcd's") from error


def payload_of(
    asked: Asked, answer: Answer, parse: Callable[[str, float], Any] = parse_json
) -> dict[str, Any]:
    """Return the JSON object of a success; raise the error of any other answer.

    It is checked that the answer belongs to this request: an answer may belong to
    another request if it is late on a connection that is used again, or comes from a
    confused proxy.
    """
    if answer.status not in (200, 201):
        raise refusal_of(asked, answer)
    payload = _json(answer, parse)
    if not isinstance(payload, dict):
        raise _strange(answer, "JSON that is no object")
    node = payload.get("node")
    plain = node is not None and node.get("key") == asked.key  # nearly always
    if not plain or payload["action"] != "get" or asked.action != "get":
        _check_asked(asked, answer, payload, node_cut_out=parse is not parse_json)
    return payload


def _check_asked(
    asked: Asked, answer: Answer, payload: Mapping[str, Any], *, node_cut_out: bool
) -> None:
    action, node = payload["action"], payload.get("node")
    watched = asked.action is None and action != "get"
    if action != asked.action and not watched:
        raise _strange(answer, "what answers another request")
    if node is not None:
        if not is_shown_by(asked, node):
            raise _strange(answer, "what is about another key")
    elif not (asked.bare or node_cut_out):
        raise _strange(answer, "no node")
    if asked.action not in ("get", None) and known_index(answer) <= asked.after:
        raise _strange(answer, "what answers an older request")


def is_meant_by(asked: Asked, cause: str) -> bool:
    """Tell whether a refusal may be about the key asked for, or a node above it."""
    if cause == asked.key:  # nearly always
        return True
    path, refused = asked.key.rstrip("/"), cause.rstrip("/")
    if len(cause) != _MOST_CAUSE:  # otherwise it may have been cut off
        refused += "/"
    return cause[:1] != "/" or f"{path}/".startswith(refused)


def is_shown_by(asked: Asked, node: Mapping[str, Any]) -> bool:
    """Tell whether a node, as etcd shows it, is one that was asked for."""
    path = asked.key.rstrip("/")
    shown = node.get("key", "")  # the root comes without one
    if shown == path:
        return not asked.inside
    if not isinstance(shown, str):
        return False
    if shown == "/" and not path:  # some servers show this key for the root
        return not asked.inside
    if asked.inside:
        return shown.rpartition("/")[0] == path and not shown.endswith("/")
    # A watch may report a node below; the delete of a directory above; and, from
    # history, the delete of a directory whose path is only the beginning of this path.
    return asked.action is None and (
        shown.startswith(f"{path}/") or bool(shown and path.startswith(shown))
    )


def index_of(answer: Answer) -> int:
    """Return the index of the store (``X-Etcd-Index``) at the time of an answer."""
    index = known_index(answer)
    if not index:
        raise _strange(answer, "no X-Etcd-Index header")
    return index


def known_index(answer: Answer) -> int:
    """Return the index of the store in an answer; 0 if it has none."""
    if answer.memo is None:  # this function is called three times for each answer
        answer.memo = number_in(answer, "x-etcd-index") or 0
    return answer.memo


def number_in(answer: Answer, name: str) -> int | None:
    """Return the number in a header; None if there is none."""
    text = answer.headers.get(name, "")
    # int() would also accept signs, spaces, underscores and the digits of other
    # scripts, and it refuses thousands of digits with an error of its own.
    if text.isdigit() and text.isascii() and len(text) <= 20:
        number = int(text)
        return number if number < INDEXES else None
    return None


def _json(answer: Answer, parse: Callable[[str, float], Any]) -> Any:
    size = len(answer.body)
    try:
        return parse(_text_of(answer), answer.seconds)
    except TooLate:
        why = f"{size} bytes came too late to be read in time: give a longer timeout"
        raise ExchangeFailed(why, sent=True, timed_out=True) from None
    except OutOfBounds as error:
        what = str(error)
    except ValueError:
        what = "something that is not JSON" if answer.body else "no body"
    # Outside of the `except`: the error of the parser would show stored values.
    raise _strange(answer, what)


def _text_of(answer: Answer) -> str:
    """Return the text of an answer; drop the body of a large one, except its start."""
    text = answer.body.decode("utf-8")
    if len(text) > _LARGE:
        answer.body = answer.body[:_EXCERPT]
    return text


def result_of(asked: Asked, answer: Answer) -> Result:
    """Read the full answer to any operation on a key."""
    payload = payload_of(asked, answer)
    action = payload["action"]
    if not isinstance(action, str):
        raise _strange(answer, "an action that is no text")
    return Result(
        action=action,
        node=_node(payload, "node"),
        prev_node=_node(payload, "prevNode"),
        etcd_index=index_of(answer),
        raft_index=number_in(answer, "x-raft-index"),
        raft_term=number_in(answer, "x-raft-term"),
        cluster_id=answer.headers.get("x-etcd-cluster-id"),
    )


def _node(payload: Mapping[str, Any], name: str) -> Node | None:
    return Node.from_json(payload[name]) if name in payload else None


def presence(asked: Asked, answer: Answer) -> bool | None:
    """Read the answer to a HEAD: True, False, or None if a GET is needed."""
    if answer.body:  # it was a GET after all
        return presence_from_body(asked, answer)
    if known_index(answer):
        if answer.status == 200:
            return True
        if answer.status == 404:
            return False
    return None


def presence_from_body(asked: Asked, answer: Answer) -> bool:
    """Read from a GET whether a node is there; raise the error of other answers."""
    if answer.status == 200:
        if not isinstance(payload_of(asked, answer)["node"], dict):
            raise _strange(answer, "a node that is none")
        index_of(answer)
        return True
    error = refusal_of(asked, answer)
    # If a file stands where a directory is needed, the key can't be there.
    if isinstance(error, (KeyNotFound, NotADirectory)):
        return False
    raise error


def says_absent(asked: Asked, answer: Answer) -> re.Match[bytes] | None:
    """Return the match of an answer that says in the usual words that a key is absent.

    Its groups are the cause and the index.
    """
    # This comes before the first write of each new key, and with each lookup of an
    # absent key.  A pattern is quicker than JSON, and fits all versions of etcd.
    match = _match_absent(answer.body) if answer.status == 404 else None
    return match if match and is_meant_by(asked, match[1].decode()) else None


def refusal_of(asked: Asked, answer: Answer) -> EtcdMapError:
    """Return the exception for an answer that is no success, or not to this request."""
    # Requests for a mapping's own directory end in a slash, which no message shows.
    key = asked.key.rstrip("/") or "/"
    absent = says_absent(asked, answer)
    if absent is not None:
        return KeyNotFound(
            "Key not found",
            code=100,
            cause=absent[1].decode(),
            etcd_index=int(absent[2]),
            endpoint=answer.endpoint,
            key=key,
        )
    error = error_of(key, answer)
    if isinstance(error, ServerError) and (
        # Only the request of `V2.identity` has a bad `wait`.
        (error.code == 209 and '"wait"' in error.cause)
        or (error.code < 110 and not is_meant_by(asked, error.cause))
    ):
        return _strange(answer, "a refusal of another request")
    return error


def error_of(key: str, answer: Answer) -> EtcdMapError:
    """Return the exception for an answer that is no success."""
    try:
        payload = parse_json(_text_of(answer), answer.seconds)
    except (ValueError, RecursionError):
        payload = None
    if isinstance(payload, dict):
        code = payload.get("errorCode")
        if type(code) is int and 0 <= code < 10_000:
            return _server_error(key, answer, code, payload)
        if answer.status in (401, 403):
            return Unauthorized("not allowed", endpoint=answer.endpoint, key=key)
    if answer.status == 404:
        return V2NotEnabled(
            f"{answer.endpoint} has no /v2/keys: start etcd with --enable-v2 (off by "
            "default in 3.4 and 3.5, gone from 3.6), or check that the URL is etcd's",
            endpoint=answer.endpoint,
            status=404,
            excerpt=answer.body,
        )
    what = f"status {answer.status} without an error of etcd's"
    if 300 <= answer.status < 400:
        what = (
            f"a redirect ({answer.status}), which is never followed: give the "
            "endpoint that it leads to"
        )
    return _strange(answer, what)


def _server_error(
    key: str, answer: Answer, code: int, payload: Mapping[str, Any]
) -> ServerError:
    kind = CODE_TO_ERROR.get(code, ServerError)
    index, cause = payload.get("index"), str(payload.get("cause", ""))
    reason = str(payload.get("message", ""))
    if reason not in _MESSAGES:
        cause, reason = f"{reason}: {cause}", "etcd refused the request"
    if code == 300 and cause.startswith("nodePath"):
        # etcd 3.5 answers this if its store refuses a write that all members agreed on.
        kind, reason = NotAFile, NO_TTL
    return kind(
        reason,
        code=code,
        cause=cause[:_MOST_CAUSE],
        etcd_index=index if type(index) is int and 0 <= index < INDEXES else None,
        endpoint=answer.endpoint,
        key=key,
    )


def _strange(answer: Answer, what: str) -> InvalidResponse:
    return InvalidResponse(
        f"{answer.endpoint} answered with {what}; is it an etcd with its v2 API on, "
        "and is there a proxy in between?",
        endpoint=answer.endpoint,
        status=answer.status,
        excerpt=answer.body,
    )

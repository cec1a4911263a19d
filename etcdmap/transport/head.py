"""The head of HTTP/1.1: request line, status line and fields."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import cache, lru_cache

from etcdmap.errors import ExchangeFailed
from etcdmap.models import Request, Resend

#: Fields in one head.  http.client takes 100.
MAX_FIELDS = 200

# What is longer is read without the caches, so that they stay small.
_CACHED_HEAD = 2048

_match_status = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: .*)?").fullmatch
# A token (RFC 9110 section 5.6.2): methods and names of fields.
_match_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


@cache
def _user_agent() -> str:
    # Half of the time that importing etcdmap would take, if it stood above.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"etcdmap/{version('etcdmap')}"
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "etcdmap"


def standing_fields(username: str | None, password: str | None) -> dict[str, str]:
    """Give the fields that every request of a client has."""
    fields = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": _user_agent(),
    }
    if username is not None:
        pair = base64.b64encode(f"{username}:{password or ''}".encode())
        fields["Authorization"] = f"Basic {pair.decode('ascii')}"
    return fields


#: Longer targets must not be the first on a connection: etcd looks at its first
#: 4,096 bytes to tell HTTP/1 from HTTP/2, and closes it if no line ends there.
LONGEST_FIRST_TARGET = 4000

#: What such a connection is opened with instead: it costs etcd nothing.
OPENING: Request[object] = Request(
    "HEAD", "/version", lambda answer: None, resend=Resend.ALWAYS
)


# Those that are used, which need not be looked at again.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "POST", "PUT"})


def spell_start(method: str, target: str) -> str:
    """Spell the request line (RFC 9112 section 3).

    Raises:
        ExchangeFailed: method or target hold what would end the line early.
    """
    clean = target.isascii() and target.isprintable() and " " not in target
    if not (clean and target and (method in _METHODS or _match_name(method))):
        raise ExchangeFailed(
            "not a usable URL: it holds a space or another character that must be "
            "percent-encoded",
            sent=False,
            lasting=True,
        )
    return f"{method} {target} HTTP/1.1\r\n"


def spell(request: Request[object], fields: str) -> bytes:
    """Spell a request: head and body in one buffer.

    Two sends cost 20 us more (and 40 ms where TCP_NODELAY is missing).

    Args:
        request: ...
        fields: those that every request to an endpoint has, spelt.
    """
    start, body = spell_start(request.method, request.target), request.body
    if body is None:
        return f"{start}{fields}\r\n".encode("latin-1")
    head = (
        f"{start}{fields}Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


#: What the head of an answer says: the status; the fields by name in lower case, those
#: that were given more than once joined by commas, and shared: not to be changed;
#: whether the connection persists; and bytes of the body, or `CHUNKED`, or `UNTIL_END`.
Head = tuple[int, dict[str, str], bool, int]


#: In place of a length: the body says itself where it ends.
CHUNKED = -1
#: In place of a length: the body ends with the connection.
UNTIL_END = -2


def read_head(head: bytes) -> Head:
    """Read status line and fields, without the empty line that ends them.

    Raises:
        ValueError: says what is wrong.
    """
    # Latin-1 keeps every byte; RFC 9110 section 5.5 has them opaque.
    lines = head.decode("latin-1").split("\r\n")
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("a head with a bare CR, LF or NUL")
    if ends > MAX_FIELDS:
        raise ValueError(f"a head of more than {MAX_FIELDS} fields")
    match = _match_status(lines.pop(0))
    if match is None:
        raise ValueError("something that is not HTTP/1.1")
    minor, status = int(match[1]), int(match[2])
    short = len(head) <= _CACHED_HEAD
    fields = _fields_of(lines, _field_of_cached if short else field_of)
    reusable = _stays_open(minor, fields.get("connection", ""))
    # RFC 9112 section 6.3 has the order of what follows.
    if status < 200 or status in (204, 304):
        return status, fields, reusable, 0
    if "transfer-encoding" in fields:
        _check_coding(minor, fields)
        return status, fields, reusable, CHUNKED
    if "content-length" in fields:
        return status, fields, reusable, _length_of(fields["content-length"])
    return status, fields, reusable, UNTIL_END


#: The last head, and what it says.
_last: tuple[bytes, Head] = b"", (0, {}, False, 0)

# Those of an unusual form: a member that is read from sends the same head again and
# again, for a second, as it has a date.
_read_head_cached = lru_cache(maxsize=64)(read_head)


def read_head_again(head: bytes) -> Head:
    """Like `read_head`, and remember short ones, whatever their numbers are."""
    global _last
    last, read = _last
    if head != last:  # who reads without writing is sent the same one for a second
        read = _read_by_frame(head)
        _last = head, read
    return read


def _read_by_frame(head: bytes) -> Head:
    if len(head) > _CACHED_HEAD:
        return read_head(head)
    before, _, rest = head.partition(_INDEX)
    index, _, rest = rest.partition(b"\r\n")
    raft = b"0"
    mark = b""
    if rest.startswith(_RAFT):
        mark = _RAFT
        raft, _, rest = rest[len(_RAFT) :].partition(b"\r\n")
    rest, _, length = rest.rpartition(_LENGTH)
    if not (index.isdigit() and raft.isdigit() and length.isdigit()):
        return _read_head_cached(head)
    frame = _read_frame(before, mark, rest)
    if frame is None or len(length) > 17:
        return _read_head_cached(head)
    status, fields, reusable, _ = frame
    fields = fields.copy()
    fields["x-etcd-index"] = index.decode()
    fields["content-length"] = length.decode()
    if mark:
        fields["x-raft-index"] = raft.decode()
    return status, fields, reusable, int(length)


# What etcd writes before the numbers that change with each write.
_INDEX, _RAFT, _LENGTH = b"\r\nX-Etcd-Index: ", b"X-Raft-Index: ", b"Content-Length: "


@lru_cache(maxsize=64)
def _read_frame(before: bytes, mark: bytes, rest: bytes) -> Head | None:
    """Read a head with zeros for its numbers; None if that is not what they are."""
    raft = mark and mark + b"0\r\n"
    try:
        parts = (before, _INDEX, b"0\r\n", raft, rest, _LENGTH, b"0")
        frame = read_head(b"".join(parts))
    except ValueError:
        return None  # the real one tells what is wrong
    names = ["x-etcd-index", "content-length", *(["x-raft-index"] if mark else [])]
    status, fields, _, length = frame
    whole = all(fields.get(name) == "0" for name in names)
    has_body = status >= 200 and status not in (204, 304)
    plain = has_body and "transfer-encoding" not in fields
    return frame if whole and plain and length == 0 else None


def field_of(line: str) -> tuple[str, str]:
    """Read a field line (RFC 9112 section 5): its name in lower case, its value.

    Raises:
        ValueError: says what is wrong.
    """
    # A fold starts with a space (section 5.2), which no name does; a space
    # before the colon (section 5.1) has let requests be smuggled.
    name, colon, value = line.partition(":")
    if not colon or _match_name(name) is None:
        raise ValueError("a header field without a proper name")
    return name.lower(), value.strip(" \t")


# Of the lines nearly all are the same from one answer to the next.
_field_of_cached = lru_cache(maxsize=512)(field_of)


def _fields_of(
    lines: list[str], field_of: Callable[[str], tuple[str, str]]
) -> dict[str, str]:
    fields = dict(map(field_of, lines))
    if len(fields) == len(lines):
        return fields
    # RFC 9110 section 5.3: a field given twice is a list of both values.
    fields = {}
    for name, value in map(field_of, lines):
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _stays_open(minor: int, connection: str) -> bool:
    """Tell whether the connection persists (RFC 9112 section 9.3)."""
    if not connection:
        return minor > 0
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)


def _check_coding(minor: int, fields: dict[str, str]) -> None:
    # RFC 9112 section 6.1: with HTTP/1.0 the framing is faulty by definition;
    # beside a length it "ought to be handled as an error".
    if fields["transfer-encoding"].lower() != "chunked" or minor == 0:
        raise ValueError("a transfer coding that was not asked for")
    if "content-length" in fields:
        raise ValueError("both a Content-Length and chunks")


def _length_of(text: str) -> int:
    if text.isdigit() and text.isascii() and len(text) < 18:  # nearly always
        return int(text)
    # RFC 9112 section 6.3, 5: a list of equal numbers is one number, anything
    # else is an error that can't be recovered from.
    values = {value.strip(" \t") for value in text.split(",")}
    value = values.pop()
    if values or not (value.isdigit() and value.isascii()):
        raise ValueError("a Content-Length that is not one number")
    # int() refuses thousands of digits with an error of its own; 18 are more
    # than any limit.
    return int(value.lstrip("0")[:18] or "0")

"""The head of HTTP/1.1: request line, status line and fields."""

from __future__ import annotations

import base64
import re
from functools import cache
from itertools import compress
from operator import ne

from etcdmap.errors import ExchangeFailed
from etcdmap.transport.protocol import Request

#: Fields in one head.  http.client takes 100.
MAX_FIELDS = 200

# Longer heads, and more than so many, are not remembered.
_CACHED_HEAD = 2048
_MOST_KNOWN = 16

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


def spell(request: Request, fields: str) -> bytes:
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


#: The last head, and what it says.
_last: tuple[bytes, Head] = b"", (0, {}, False, 0)
#: What the last head with a status line says, and its lines.
_known: dict[str, tuple[Head, list[str]]] = {}


def read_head(head: bytes) -> Head:
    """Read status line and fields, without the empty line that ends them.

    What is as it was in the last such head is not read again: a member sends the same
    one for a second, as it has a date, but for a number or two.

    Raises:
        ValueError: says what is wrong.
    """
    global _last
    last, read = _last
    if head == last:
        return read
    # Latin-1 keeps every byte; RFC 9110 section 5.5 has them opaque.
    lines = head.decode("latin-1").split("\r\n")
    read = _read_difference(lines) or _read_lines(head, lines)
    if len(head) <= _CACHED_HEAD:
        if len(_known) >= _MOST_KNOWN:  # by whoever makes status lines up
            _known.clear()
        _known[lines[0]] = read, lines
        _last = head, read
    return read


def _read_difference(lines: list[str]) -> Head | None:
    """Read a head that differs from a known one in the values of fields only."""
    known, before = _known.get(lines[0], (None, ()))
    if known is None or len(lines) != len(before):
        return None
    status, fields, reusable, length = known
    if len(fields) + 1 != len(lines):  # one was given twice
        return None
    fields = fields.copy()
    for line, old in compress(zip(lines, before, strict=True), map(ne, lines, before)):
        spelt, colon, value = line.partition(":")
        name, value = spelt.lower(), value.strip(" \t")
        if not (colon and old.startswith(spelt + colon) and line.isprintable()):
            return None
        if name in ("connection", "transfer-encoding"):
            return None
        fields[name] = value
        if name == "content-length":
            length = _length_in(1, status, fields)
    return status, fields, reusable, length


def _read_lines(head: bytes, lines: list[str]) -> Head:
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("a head with a bare CR, LF or NUL")
    if ends > MAX_FIELDS:
        raise ValueError(f"a head of more than {MAX_FIELDS} fields")
    match = _match_status(lines[0])
    if match is None:
        raise ValueError("something that is not HTTP/1.1")
    minor, status = int(match[1]), int(match[2])
    fields = _fields_of(lines[1:])
    reusable = _stays_open(minor, fields.get("connection", ""))
    return status, fields, reusable, _length_in(minor, status, fields)


def _length_in(minor: int, status: int, fields: dict[str, str]) -> int:
    # RFC 9112 section 6.3 has the order.
    if status < 200 or status in (204, 304):
        return 0
    if "transfer-encoding" in fields:
        _check_coding(minor, fields)
        return CHUNKED
    if "content-length" in fields:
        return _length_of(fields["content-length"])
    return UNTIL_END


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


def _fields_of(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in map(field_of, lines):
        # RFC 9110 section 5.3: a field given twice is a list of both values.
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

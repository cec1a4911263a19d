"""The head of HTTP/1.1: request line, status line and fields.

Where what is read breaks the rules, a ValueError says how.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from itertools import compress
from operator import ne

from etcdmap.transport import failures
from etcdmap.transport.protocol import Request, Settings

#: Fields in one head.  http.client takes 100.
MAX_FIELDS = 200

#: Only heads of at most so many bytes are remembered, and so many of them.
_CACHED_HEAD = 2048
_MOST_KNOWN = 16

# The usual methods, which need not be checked.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "POST", "PUT"})

_match_status = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: .*)?").fullmatch
# A token (RFC 9110 section 5.6.2): methods and names of fields.
_match_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


@cache
def _user_agent() -> str:
    # Imported here, as it would double the time that importing etcdmap takes.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"etcdmap/{version('etcdmap')}"
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "etcdmap"


def standing_fields(settings: Settings) -> dict[str, str]:
    """Return the fields that all requests have in common."""
    fields = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": _user_agent(),
    }
    if settings.username is not None:
        pair = f"{settings.username}:{settings.password or ''}"
        fields["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return fields


def spell_start(method: str, target: str) -> str:
    """Return the request line (RFC 9112 section 3); refuse what would end it early."""
    clean = target.isascii() and target.isprintable() and " " not in target
    if not (clean and target and (method in _METHODS or _match_name(method))):
        why = "it holds a space or another character that must be percent-encoded"
        raise failures.unusable_url(why)
    return f"{method} {target} HTTP/1.1\r\n"


def spell(request: Request, fields: str) -> bytes:
    """Return a request as it is sent: head and body in one buffer.

    Two sends would take 20 us more (and 40 ms where TCP_NODELAY is missing).
    """
    start, body = spell_start(request.method, request.target), request.body
    if body is None:
        return f"{start}{fields}\r\n".encode("latin-1")
    head = (
        f"{start}{fields}Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


#: In place of a length: the body says itself where it ends.
CHUNKED = -1
#: In place of a length: the body ends with the connection.
UNTIL_END = -2

#: What the head of an answer says: the status; the fields by name in lower case, with
#: those given more than once joined by commas; whether the connection persists; and
#: bytes of the body, or `CHUNKED`, or `UNTIL_END`.  Shared, so not to be changed.
Head = tuple[int, dict[str, str], bool, int]

#: The last head, and what it says.
_last: tuple[bytes, Head] = b"", (0, {}, False, 0)
#: By status line and the first letter of the last field, as answers of a known length
#: and those in chunks come in turn: what the last such head says; its lines; and for
#: each of them the field's name with the start of the line up to its value.
_known: dict[str, tuple[Head, list[str], list[tuple[str, str]]]] = {}

# What they say of the body and the connection is for `_read_lines` to find out.
_NOT_ALONE = frozenset({"connection", "transfer-encoding"})
# No line holds it, so no line starts with it.
_NEVER = "\r\n"


def read_head(head: bytes) -> Head:
    """Return what a head says; it comes without the empty line that ends it.

    Servers send the same head again and again, but for a date and a number or two.
    So only what has changed since the last one is read.
    """
    global _last
    last, read = _last
    if head == last:
        return read
    # Latin-1 keeps every byte; RFC 9110 section 5.5 has them opaque.
    lines = head.decode("latin-1").split("\r\n")
    kind = lines[0] + lines[-1][:1]
    known = _known.get(kind)
    again = known and _read_difference(lines, *known)
    read = again or _read_lines(head, lines)
    if len(head) <= _CACHED_HEAD:
        if not again and len(_known) >= _MOST_KNOWN:
            _known.clear()  # a server may make any number of status lines up
        starts = known[2] if known and again else [_start_of(line) for line in lines]
        _known[kind] = read, lines, starts
        _last = head, read
    return read


def _start_of(line: str) -> tuple[str, str]:
    """Return the name of a field, and what another line of it must start with."""
    spelt, colon, value = line.partition(":")
    name = spelt.lower()
    if not colon or name in _NOT_ALONE:
        return name, _NEVER
    return name, spelt + colon + value[: len(value) - len(value.lstrip(" \t"))]


def _read_difference(
    lines: list[str], known: Head, before: list[str], starts: list[tuple[str, str]]
) -> Head | None:
    """Return what a head says that differs from a known one in a few values only."""
    status, fields, reusable, length = known
    # The second: a field that was given twice has the values of both.
    if len(lines) != len(before) or len(fields) + 1 != len(lines):
        return None
    fields = fields.copy()
    changed = compress(zip(lines, starts, strict=True), map(ne, lines, before))
    for line, (name, start) in changed:
        if not (line.startswith(start) and line.isprintable()):
            return None
        fields[name] = line[len(start) :].strip(" \t")
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
    fields: dict[str, str] = {}
    for name, value in map(field_of, lines[1:]):
        # RFC 9110 section 5.3: a field given twice is a list of both values.
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    reusable = _stays_open(minor, fields.get("connection", ""))
    return status, fields, reusable, _length_in(minor, status, fields)


def _length_in(minor: int, status: int, fields: dict[str, str]) -> int:
    # The order is that of RFC 9112 section 6.3.
    if status < 200 or status in (204, 304):
        return 0
    length = fields.get("content-length")
    if "transfer-encoding" not in fields:
        return UNTIL_END if length is None else _length_of(length)
    # Section 6.1: with HTTP/1.0 the framing is faulty by definition; beside a length
    # it "ought to be handled as an error".
    if fields["transfer-encoding"].lower() != "chunked" or minor == 0:
        raise ValueError("a transfer coding that was not asked for")
    if length is not None:
        raise ValueError("both a Content-Length and chunks")
    return CHUNKED


def field_of(line: str) -> tuple[str, str]:
    """Return a field's name in lower case, and its value (RFC 9112 section 5)."""
    # A fold starts with a space (section 5.2), which no name does; a space
    # before the colon (section 5.1) has let requests be smuggled.
    name, colon, value = line.partition(":")
    if not colon or _match_name(name) is None:
        raise ValueError("a header field without a proper name")
    return name.lower(), value.strip(" \t")


def _stays_open(minor: int, connection: str) -> bool:
    """Return whether the connection persists (RFC 9112 section 9.3)."""
    if not connection:
        return minor > 0
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)


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

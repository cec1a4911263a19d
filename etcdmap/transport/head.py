"""The head of HTTP/1.1: request line, status line and fields."""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from etcdmap.errors import ExchangeFailed

_match_status = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: .*)?").fullmatch
# A token (RFC 9110 section 5.6.2): methods and names of fields.
_match_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


try:
    _USER_AGENT = f"etcdmap/{version('etcdmap')}"
except PackageNotFoundError:  # run from a checkout that is not installed
    _USER_AGENT = "etcdmap"


def standing_fields(username: str | None, password: str | None) -> dict[str, str]:
    """Give the fields that every request of a client has."""
    fields = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": _USER_AGENT,
    }
    if username is not None:
        pair = base64.b64encode(f"{username}:{password or ''}".encode())
        fields["Authorization"] = f"Basic {pair.decode('ascii')}"
    return fields


def spell_start(method: str, target: str) -> str:
    """Spell the request line (RFC 9112 section 3).

    Raises:
        ExchangeFailed: method or target hold what would end the line early.
    """
    clean = target.isascii() and target.isprintable() and " " not in target
    if not (clean and target and _match_name(method)):
        raise ExchangeFailed(
            "not a usable URL: it holds a space or another character that must be "
            "percent-encoded",
            sent=False,
            lasting=True,
        )
    return f"{method} {target} HTTP/1.1\r\n"


@lru_cache(maxsize=64)
def status_of(line: str) -> tuple[int, int]:
    """Read a status line (RFC 9112 section 4): the minor version, the status.

    Raises:
        ValueError: says what is wrong.
    """
    match = _match_status(line)
    if match is None:
        raise ValueError("something that is not HTTP/1.1")
    return int(match[1]), int(match[2])


def _field_of(line: str) -> tuple[str, str]:
    """Read a field line (RFC 9112 section 5): its name in lower case, its value."""
    # A fold starts with a space (section 5.2), which no name does; a space
    # before the colon (section 5.1) has let requests be smuggled.
    name, colon, value = line.partition(":")
    if not colon or _match_name(name) is None:
        raise ValueError("a header field without a proper name")
    return name.lower(), value.strip(" \t")


# Nearly all lines are the same from one answer to the next.
_field_of_cached = lru_cache(maxsize=512)(_field_of)


def fields_of(lines: list[str], *, cached: bool) -> dict[str, str]:
    """Read field lines: values by name in lower case.

    Raises:
        ValueError: says what is wrong.
    """
    fields = dict(map(_field_of_cached if cached else _field_of, lines))
    if len(fields) == len(lines):
        return fields
    # RFC 9110 section 5.3: a field given twice is a list of both values.
    fields = {}
    for name, value in map(_field_of, lines):
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def field_lines(head: bytes) -> list[tuple[str, str]]:
    """Give the fields of a head one by one, names as they came."""
    pairs = []
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        pairs.append((name, value.strip(" \t")))
    return pairs


def stays_open(minor: int, connection: str) -> bool:
    """Tell whether the connection persists (RFC 9112 section 9.3)."""
    if not connection:
        return minor > 0
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)


def reason_of(head: bytes) -> str:
    """Give the reason phrase of a head that was read."""
    line = head.partition(b"\r\n")[0].decode("latin-1")
    return line.partition(" ")[2].partition(" ")[2]

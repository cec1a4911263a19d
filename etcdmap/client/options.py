"""Check endpoints, durations and other options, as users write them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

_LARGEST = sys.float_info.max
#: Where members listen for clients, unless they are told otherwise.
_PORT = 2379


def positive_seconds(name: str, value: float) -> float:
    """Check a duration in seconds."""
    if type(value) is float and 0 < value <= _LARGEST:  # nearly always
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{name} must be above 0 and finite, not {value!r}")
    return float(value)


def positive_int(name: str, value: int) -> int:
    """Check a size or a count."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def flag(name: str, value: bool) -> bool:
    """Check an option that is on or off; a text such as "no" would count as on."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {type(value).__name__}")
    return value


def plain_text(name: str, value: str) -> str:
    """Check a text, and return it as a plain `str`.

    The methods of a subclass could show one text to a check, and another text to the
    code that uses it.  No message shows the text, because it may be a password.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        pass  # raised below, without this error, which holds the text
    else:
        return text
    raise ValueError(
        f"{name} holds a lone surrogate, which UTF-8 can't express: it may come from "
        "bytes in another encoding"
    )


def clean_endpoints(endpoints: str | Iterable[str]) -> tuple[str, ...]:
    """Check endpoints and spell each as scheme, host and port.

    The ValueError for a bad endpoint gives its place in the list, but shows no part of
    it: any part may be part of a password.
    """
    given = listed(endpoints)
    if not given:
        raise ValueError("give at least one endpoint, like 'http://127.0.0.1:2379'")
    known = dict.fromkeys(map(spell_endpoint, given))
    if None in known:
        at = next(n for n, each in enumerate(given, 1) if not spell_endpoint(each))
        raise ValueError(
            f"endpoint {at} of {len(given)} is not a scheme, a host and a port, like "
            "'http://127.0.0.1:2379', with 1 to 63 characters between the dots of a "
            "host; a user and a password are given as username= and password=, never "
            "here"
        )
    return cast("tuple[str, ...]", tuple(known))


def listed(endpoints: str | Iterable[str]) -> list[Any]:
    """Return endpoints, one or several, as a list that is not checked."""
    if isinstance(endpoints, str):
        return [endpoints]
    # The characters of bytes are ints, and the keys of a mapping are no endpoints.
    if isinstance(endpoints, (bytes, Mapping)) or not isinstance(endpoints, Iterable):
        kind = type(endpoints).__name__
        raise TypeError(f"endpoints are one URL or a list of URLs, not {kind}")
    return list(endpoints)


# A name (in any script), an IPv4 address or a bracketed IPv6 address; and a port.  What
# matches may be shown, because it contains no character that separates credentials.
_match_authority = re.compile(
    r"(?:[^\x00-,/:-@\[-^`{-\x7f]{1,253}|\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]{1,32})?\])"
    r"(?::[0-9]{1,5})?"
).fullmatch


def spell_endpoint(endpoint: str) -> str | None:
    """Spell an endpoint as scheme, host and port (default 2379); None for a bad one."""
    if not isinstance(endpoint, str):
        raise TypeError(f"an endpoint is a str, not {type(endpoint).__name__}")
    try:
        parts = urlsplit(endpoint)
        if not _usable(parts):
            return None
    except ValueError:  # brackets that don't close, a port or label that is too long
        return None
    port = "" if parts.port else f":{_PORT}"
    return f"{parts.scheme}://{parts.netloc}{port}"


def _usable(parts: SplitResult) -> bool:
    return bool(
        parts.scheme in ("http", "https")
        and _match_authority(parts.netloc)
        and parts.netloc.isprintable()
        # As it goes on the wire: raises for a label that is empty or too long.
        and parts.netloc.partition(":")[0].encode("idna")
        and parts.port != 0
        and parts.path in ("", "/")
        and not (parts.query or parts.fragment)
    )

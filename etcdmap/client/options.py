"""Endpoints, durations and other options as users write them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

_LARGEST = sys.float_info.max


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
    """Check what is on or off; a text such as "no" would count as on."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {type(value).__name__}")
    return value


def plain_text(name: str, value: str) -> str:
    """Check a text, and return it as a plain `str`.

    The methods of a subclass could show one text to a check and another one to what
    uses it.  No message shows it: it may be a password.
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
    raise ValueError(f"{name} holds a lone surrogate, which UTF-8 can't express")


def clean_endpoints(endpoints: str | Iterable[str]) -> tuple[str, ...]:
    """Check endpoints and spell each as scheme, host and port."""
    given = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    known = tuple(dict.fromkeys(_clean_endpoint(endpoint) for endpoint in given))
    if not known:
        raise ValueError("give at least one endpoint, like 'http://127.0.0.1:2379'")
    return known


def _clean_endpoint(endpoint: str) -> str:
    if not isinstance(endpoint, str):
        raise TypeError(f"an endpoint is a str, not {type(endpoint).__name__}")
    if "@" in endpoint:
        # Not shown: it holds a password.
        raise ValueError("an endpoint can't hold credentials; pass username, password")
    try:
        parts = urlsplit(endpoint)
        if _usable(parts):
            return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        pass  # brackets that don't close, or a port that is no number
    raise ValueError(
        f"{endpoint!r} is no endpoint; one looks like 'http://127.0.0.1:2379'"
    )


def _usable(parts: SplitResult) -> bool:
    return bool(
        parts.scheme in ("http", "https")
        and parts.hostname
        and parts.port != 0
        and parts.path in ("", "/")
        and not (parts.query or parts.fragment)
    )

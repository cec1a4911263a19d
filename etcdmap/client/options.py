"""Endpoints and durations as users write them."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

_INFINITY = float("inf")


def positive_seconds(name: str, value: float) -> float:
    """Check a duration in seconds."""
    if type(value) is float and 0 < value < _INFINITY:  # nearly always
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    if not 0 < value < _INFINITY:
        raise ValueError(f"{name} must be above 0 and finite, not {value!r}")
    return float(value)


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

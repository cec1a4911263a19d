"""Write v2 operations as paths, queries and forms, and refuse what can't be written.

Source: etcd ``Documentation/v2/api.md`` (branch release-3.4).
"""

from __future__ import annotations

import math
from functools import lru_cache
from urllib.parse import quote, quote_plus

from etcdmap.codecs import checked
from etcdmap.errors import InvalidKey, LimitExceeded, legible
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.paths import CACHED_LENGTH, MAX_TARGET, check_limits, find_fault
from etcdmap.tree import Fence

#: In seconds, about 10 years.  Far above it, etcd's clock arithmetic overflows: with a
#: ttl of 7.5e9 a key silently never expires; with a larger one it may expire at once.
MAX_TTL = 10 * 366 * 24 * 3600

#: Go's form parser takes bodies up to 10 MiB, counted after percent-encoding.
MAX_BODY = 10 * 1024 * 1024


def check_path(path: str) -> None:
    """Raise TypeError, InvalidKey or LimitExceeded if this can't be an absolute path.

    Hidden names are allowed here, and so is a trailing slash: with v2 auth, a role for
    ``/app/*`` may list ``/app/`` but not ``/app``.
    """
    if not isinstance(path, str):
        raise TypeError(f"keys are str, not {type(path).__name__}")
    if path == "/":
        return
    fault: str | None = "it must start with '/'"
    if path.startswith("/"):
        fault = find_fault(path[1:].removesuffix("/"), hidden_too=True)
    if fault is not None:
        raise InvalidKey(f"'{legible(path)}' can't be a key: {fault}")
    check_limits(path)


def url_path(path: str) -> str:
    """Check an absolute path; return the path of its URL: UTF-8, percent-encoded."""
    # No subclass of str: if it redefines equality, the cache may mix up two paths.
    if type(path) is str and len(path) <= CACHED_LENGTH:
        return _url_path_cached(path)
    return _url_path(path)


def _url_path(path: str) -> str:
    check_path(path)
    return f"/v2/keys{quote(path)}"


# A call that raises is not cached, so a bad path is refused each time.
_url_path_cached = lru_cache(maxsize=4096)(_url_path)


def spell_target(key: str, query: str) -> str:
    """Spell the target of an operation on a key; raise what `check_path` raises."""
    target = url_path(key) + query
    if len(target) > MAX_TARGET + 1000:
        raise LimitExceeded(
            f"a request of {len(target)} bytes without its body; etcd takes about 1 MiB"
        )
    return target


# The parameters of a query that are not on or off.
_NO_FLAGS = frozenset({"prevIndex", "prevValue", "waitIndex"})


def spell_query(**parameters: str | int | bool | None) -> str:
    """Spell a query, without parameters that are None or False (prevExist excepted)."""
    for name, value in parameters.items():
        # A text such as "no" would switch it on.
        if name not in _NO_FLAGS and not isinstance(value, (bool, type(None))):
            raise TypeError(f"{name} is True or False, not {type(value).__name__}")
    spelt = [
        f"{name}={_spell(value)}"
        for name, value in parameters.items()
        if value is not None and (value is not False or name == "prevExist")
    ]
    return "?" + "&".join(spelt) if spelt else ""


def _spell(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(checked(str(value)), safe="")


def check_conditions(prev_value: str | None, prev_index: int | None) -> None:
    """Refuse conditions that etcd would read as something else."""
    # etcd takes prevIndex=0 for "no condition" and refuses an empty prevValue.
    if isinstance(prev_index, bool) or not isinstance(prev_index, (int, type(None))):
        raise TypeError(f"prev_index is an int, not {type(prev_index).__name__}")
    if prev_index is not None and prev_index < 1:
        raise ValueError("prev_index starts at 1; etcd takes 0 for no condition")
    if prev_value == "":
        raise ValueError("etcd can't compare with an empty value; use prev_index")


def spell_condition(fence: Fence) -> tuple[str, str]:
    """Return the query of a PUT that replaces a state, and the action in its answer.

    The answer shows no node, but the index of the write.
    """
    # `spell_query` would be slower, and every write of a mapping calls this function.
    if fence.absent:
        return "?noValueOnSuccess=true&prevExist=false", "create"
    return f"?noValueOnSuccess=true&prevIndex={fence.as_of}", "compareAndSwap"


def need_condition(prev_value: str | None, prev_index: int | None) -> None:
    """Refuse a comparison with nothing to compare."""
    if prev_value is None and prev_index is None:
        raise TypeError(
            "give prev_value or prev_index; without both, nothing is compared"
        )


def whole_seconds(ttl: float) -> int:
    """Check a ttl and round it up to the whole seconds that etcd takes."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"a ttl is a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= MAX_TTL:
        raise ValueError(f"a ttl is above 0 and at most {MAX_TTL} seconds; got {ttl!r}")
    return math.ceil(ttl)


def spell_form(
    value: str | None,
    ttl: float | None,
    *,
    refresh: bool = False,
    prev_value: str | None = None,
) -> str:
    """Spell the form of a PUT or POST; raise LimitExceeded if it is too long for etcd.

    A value to compare with goes here and not into the query: URLs end up in logs.
    """
    parts = []
    if value is not None:
        parts.append("value=" + _spell_text(value))
    if prev_value is not None:
        parts.append("prevValue=" + _spell_text(prev_value))
    if refresh:
        parts.append("refresh=true")
    if ttl is not None:
        parts.append(f"ttl={whole_seconds(ttl)}")
    form = "&".join(parts)
    _check_length(len(form))
    return form


def check_text(text: str) -> None:
    """Raise LimitExceeded for a text that is too large to store."""
    # A character takes 12 bytes at most, so nearly all texts need no other check.
    if len(text) * 12 > MAX_BODY:
        _check_length(len("value=") + len(quote_plus(text)))


def _check_length(length: int) -> None:
    if length > MAX_BODY:
        raise LimitExceeded(
            f"a value of {length} bytes in percent-encoding; the limit is {MAX_BODY}"
        )


def _spell_text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a value is a str here, not {type(value).__name__}")
    return value if value.isalnum() and value.isascii() else quote_plus(checked(value))

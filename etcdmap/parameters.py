"""How the parameters of v2 operations are checked and spelt.

Source: etcd ``Documentation/v2/api.md`` (branch release-3.4).
"""

from __future__ import annotations

import math
from urllib.parse import quote, quote_plus

from etcdmap.errors import LimitExceeded
from etcdmap.paths import MAX_BODY

#: Seconds; about 10 years.  Far above it etcd's clock arithmetic overflows: a
#: ttl of 7.5e9 is silently for ever, a larger one may end the key at once.
MAX_TTL = 10 * 366 * 24 * 3600


def spell_query(**parameters: str | int | bool | None) -> str:
    """Spell a query; what is None or False is left out, but for prevExist."""
    spelt = [
        f"{name}={_spell(value)}"
        for name, value in parameters.items()
        if value is not None and (value is not False or name == "prevExist")
    ]
    return "?" + "&".join(spelt) if spelt else ""


def _spell(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe="")


def check_conditions(prev_value: str | None, prev_index: int | None) -> None:
    """Refuse conditions that etcd would read as something else."""
    # etcd takes prevIndex=0 for "no condition" and refuses an empty prevValue.
    if prev_index is not None and prev_index < 1:
        raise ValueError("prev_index starts at 1; etcd takes 0 for no condition")
    if prev_value == "":
        raise ValueError("etcd can't compare with an empty value; use prev_index")


def need_condition(prev_value: str | None, prev_index: int | None) -> None:
    """Refuse a comparison with nothing to compare."""
    if prev_value is None and prev_index is None:
        raise TypeError(
            "give prev_value or prev_index; without one nothing is compared"
        )


def whole_seconds(ttl: float) -> int:
    """Check a ttl and round it up to the whole seconds that etcd takes.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 1 second after rounding, or above 10 years.
    """
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
    """Spell the form of a PUT or POST.

    Always with a value where there is one to store: etcd stores an empty text
    if the parameter is missing.  A value to compare with stands here too, and
    not in the query: URLs end up in logs.

    Raises:
        TypeError: a value is no `str`.
        LimitExceeded: it is longer than etcd takes.
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
    # A character takes 12 bytes at most; nearly all texts are settled by that.
    if len(text) * 12 > MAX_BODY:
        _check_length(len("value=") + len(quote_plus(text)))


def _check_length(length: int) -> None:
    if length > MAX_BODY:
        raise LimitExceeded(
            f"a value of {length} bytes in percent-encoding; etcd takes {MAX_BODY}"
        )


def _spell_text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a value is a str here, not {type(value).__name__}")
    return quote_plus(value)

"""Comparing stored values more strictly than ``==`` does."""

from __future__ import annotations

from typing import Any


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two values are equal, type by type, all the way down.

    ``==`` finds ``1 == True == 1.0`` and ``0.0 == -0.0``; a stored value must not
    turn from one into the other.  The order of a dict's keys counts as well, since
    it is seen in the stored text.
    """
    if type(a) is not type(b):
        return False
    if type(a) is list:
        return len(a) == len(b) and all(map(same_value, a, b))
    if type(a) is dict:
        return same_value(list(a), list(b)) and all(same_value(a[k], b[k]) for k in a)
    if type(a) is float:
        return repr(a) == repr(b)
    return bool(a == b)

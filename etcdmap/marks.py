"""Marks on methods that write, by which template engines know not to call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def alters_data(method: F) -> F:
    """Mark a method that no template may call; Django and Jinja's sandbox obey it.

    Without this mark, ``{{ cfg.clear }}`` in a Django template would empty the store,
    because Django calls every function that it finds.
    """
    method.alters_data = True  # type: ignore[attr-defined]
    return method

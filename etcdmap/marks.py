"""Marks on methods that write, by which template engines know not to call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def alters_data(method: F) -> F:
    """Mark a method that no template may call: Django and Jinja's sandbox look for it.

    Without it ``{{ cfg.clear }}`` in a template of Django empties the store, as Django
    calls whatever it finds.
    """
    method.alters_data = True  # type: ignore[attr-defined]
    return method

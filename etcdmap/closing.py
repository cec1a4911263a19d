"""What a ``with`` block closes."""

from __future__ import annotations

from typing import TypeVar

C = TypeVar("C", bound="Closing")


class Closing:
    """Something that a ``with`` block closes at its end."""

    def close(self) -> None:
        """Release what is held."""
        raise NotImplementedError

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

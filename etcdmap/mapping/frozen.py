"""A nested dict that can't be changed, so that many readers may share it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from etcdmap.mapping.base import UNCHANGEABLE


class FrozenMapping(Mapping[str, Any]):
    """A nested dict that can't be changed; the mappings in it can't be changed either.

    `Live.view` makes it.  Lists are handed out as copies.  To write a ``view`` as JSON,
    use ``json.dumps(view, default=dict)``.  A FrozenMapping can be pickled, and
    compared with dicts.
    """

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = {
            key: FrozenMapping(value) if isinstance(value, dict) else value
            for key, value in content.items()
        }

    def __getitem__(self, key: str) -> Any:
        value = self._content[key]
        if type(value) in UNCHANGEABLE or type(value) is FrozenMapping:
            return value
        return copy.deepcopy(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMapping, (_thawed(self),)

    def __repr__(self) -> str:
        return f"FrozenMapping({_thawed(self)!r})"


def _thawed(mapping: FrozenMapping) -> dict[str, Any]:
    return {
        key: _thawed(value) if isinstance(value, FrozenMapping) else value
        for key, value in mapping.items()
    }

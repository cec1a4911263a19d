"""The live views of a mapping: each loop over one lists the directory anew.

They differ from those of `collections.abc` in their cost: a loop over items or
values is one listing, not a request for each key.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etcdmap.reading import Reading


class EtcdKeysView(KeysView[str]):
    """Keys, sorted.  A loop costs 1 request; ``k in view`` 1; ``len`` 1."""

    _mapping: Reading  # typed as a plain Mapping by collections.abc

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.keys()"


class EtcdValuesView(ValuesView[Any]):
    """Values in the order of the keys.  A loop costs 1 request; ``in`` 1."""

    _mapping: Reading  # typed as a plain Mapping by collections.abc

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._listed_items())

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in reversed(self._mapping._listed_items()))

    def __contains__(self, value: object) -> bool:
        return any(value is found or value == found for found in self)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.values()"


class EtcdItemsView(ItemsView[str, Any]):
    """Pairs in the order of the keys.  A loop costs 1 request; ``in`` 1."""

    _mapping: Reading  # typed as a plain Mapping by collections.abc

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        items: list[tuple[str, Any]] = self._mapping._listed_items()
        return iter(items)

    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        items: list[tuple[str, Any]] = self._mapping._listed_items()
        return reversed(items)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.items()"

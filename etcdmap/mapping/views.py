"""The live views of a mapping: each loop over a view lists the directory again.

The views of `collections.abc` would make a request for each key.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Set,
    ValuesView,
)
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from etcdmap.errors import DirectoryGone
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

E = TypeVar("E", covariant=True)


class Keyed(Protocol):
    """An object that `dict` accepts as a mapping."""

    def keys(self) -> Iterable[str]:
        """Return the keys."""

    def __getitem__(self, key: str, /) -> Any: ...


#: A mapping, or pairs.
Contents: TypeAlias = "Keyed | Iterable[tuple[str, Any]]"


class ListedMapping(Mapping[str, Any]):
    """A mapping that can list its keys and values in one request."""

    @abstractmethod
    def _listed_items(self) -> list[tuple[str, Any]]:
        """Return keys and values, sorted by key."""

    def keys(self) -> EtcdKeysView:
        """Return a view of the keys, as a dict does.

        >>> list(m.keys())
        ['db', 'port']
        """
        return EtcdKeysView(self)

    def values(self) -> EtcdValuesView:
        """Return a view of the values, as a dict does.

        Cost: 1 request for each loop; none for a `Live`.

        >>> list(m["db"].values())
        ['localhost', 5432]
        """
        return EtcdValuesView(self)

    def items(self) -> EtcdItemsView:
        """Return a view of the pairs of key and value, as a dict does.

        Cost: 1 request for each loop; none for a `Live`.

        >>> list(m["db"].items())
        [('host', 'localhost'), ('port', 5432)]
        """
        return EtcdItemsView(self)

    @abstractmethod
    def __reversed__(self) -> Iterator[str]: ...

    @abstractmethod
    def _whole(self, until: float | None = None) -> dict[str, Any] | None:
        """Return the whole content, or None if the directory does not exist."""

    @abstractmethod
    def _until(self) -> float:
        """Return the time at which a call that begins now must have ended."""

    def to_dict(self) -> dict[str, Any]:
        """Return the whole content as a plain dict, sorted by key.

        For a nested mapping, the dict is nested too.  For a directory that does not
        exist, the dict is empty.

        Raises:
            NotADirectory: a file stands where this mapping's directory was.
            DecodeError: the codec can't read a text; the error names the key.

        Cost: 1 request, whatever the size; none for a `Live`.  Atomic: the content is
        that of one moment.

        >>> m.to_dict()
        {'db': {'host': 'localhost', 'port': 5432}, 'port': 8080}
        """
        return self._whole() or {}

    def copy(self) -> dict[str, Any]:
        """Return a plain dict: a copy of the data, and not another mapping on etcd.

        >>> m["db"].copy()
        {'host': 'localhost', 'port': 5432}
        """
        return self.to_dict()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return self.to_dict()

    def __eq__(self, other: object) -> bool:
        """Compare the whole content with another mapping.

        Cost: 1 request for each mapping on etcd; none for a `Live`.

        >>> m["db"] == {"host": "localhost", "port": 5432}
        True
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        until = self._until()
        return bool((self._whole(until) or {}) == plain_mapping(other, until))

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Combine both mappings in a plain dict; if both have a key, ``other`` wins.

        Cost: 1 request for each mapping on etcd; none for a `Live`.

        >>> m["db"] | {"port": 1}
        {'host': 'localhost', 'port': 1}
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        until = self._until()
        return {**(self._whole(until) or {}), **plain_mapping(other, until)}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Combine both mappings in a plain dict; if both have a key, this one wins.

        Cost: 1 request for each mapping on etcd; none for a `Live`.

        >>> {"port": 1, "user": "shop"} | m["db"]
        {'port': 5432, 'user': 'shop', 'host': 'localhost'}
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        until = self._until()
        return {**plain_mapping(other, until), **(self._whole(until) or {})}


def plain_mapping(value: Any, until: float, *, stored: bool = False) -> Any:
    """Read the whole of a mapping on etcd, before `until`; return other values as is.

    If the content is to be `stored`, the directory must exist, or DirectoryGone is
    raised.
    """
    if not isinstance(value, ListedMapping):
        return value
    content = value._whole(until)
    if content is None and stored:
        raise DirectoryGone(
            f"nothing was written: the directory of {value!r}, which was given as a "
            "value, does not exist (any more). A mapping shows what is in etcd now; "
            "take a copy with to_dict() or pop() before the directory is deleted"
        )
    return content or {}


def _on_one_listing(operate: Callable[[Any, Any], Any]) -> Any:
    """Make an operator's method; the inherited one makes a request for each element."""

    def method(self: _OneListing[Any], other: Any) -> Any:
        return operate(self._listed(), other)

    return method


class _OneListing(Set[E]):
    """Set operations that make one request."""

    @abstractmethod
    def _listed(self) -> Any:
        """Return the same view of a plain dict."""

    __le__ = _on_one_listing(operator.le)
    __lt__ = _on_one_listing(operator.lt)
    __ge__ = _on_one_listing(operator.ge)
    __gt__ = _on_one_listing(operator.gt)
    __eq__ = _on_one_listing(operator.eq)
    __hash__ = None  # type: ignore[assignment]

    if not TYPE_CHECKING:  # the methods of `KeysView` and `ItemsView` have better types
        __and__ = __rand__ = _on_one_listing(operator.and_)
        __or__ = __ror__ = _on_one_listing(operator.or_)
        __xor__ = __rxor__ = _on_one_listing(operator.xor)
        __sub__ = _on_one_listing(operator.sub)

        def __rsub__(self, other: Any) -> Any:
            return other - self._listed()

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Tell whether they share no element.  Cost: 1 request; none for a `Live`."""
        return bool(self._listed().isdisjoint(other))


class EtcdKeysView(_OneListing[str], KeysView[str]):
    """The keys, sorted.

    Cost: 1 request for a loop, ``k in view`` or ``len``; none for a `Live`.
    """

    _mapping: ListedMapping  # typed as a plain Mapping by collections.abc

    def _listed(self) -> Any:
        return dict.fromkeys(self).keys()

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._mapping)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.keys()"


class EtcdValuesView(ValuesView[Any]):
    """The values, in the order of the keys.

    Cost: 1 request for a loop, or ``in``; none for a `Live`.
    """

    _mapping: ListedMapping  # typed as a plain Mapping by collections.abc

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._listed_items())

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in reversed(self._mapping._listed_items()))

    def __contains__(self, value: object) -> bool:
        return any(value is found or value == found for found in self)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.values()"


class EtcdItemsView(_OneListing[tuple[str, Any]], ItemsView[str, Any]):
    """The pairs of key and value, in the order of the keys.

    Cost: 1 request for a loop, or ``in``; none for a `Live`.
    """

    _mapping: ListedMapping  # typed as a plain Mapping by collections.abc

    def _listed(self) -> Any:
        return dict(self._mapping._listed_items()).items()

    def __contains__(self, item: object) -> bool:
        # The inherited method would unpack anything; a dict's view answers False.
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        return super().__contains__(item)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        items: list[tuple[str, Any]] = self._mapping._listed_items()
        return iter(items)

    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        items: list[tuple[str, Any]] = self._mapping._listed_items()
        return iter(items[::-1])

    def __repr__(self) -> str:
        return f"{self._mapping!r}.items()"

"""What is called on a subclass, and what is not: as the page on subclassing says."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

HOOKS = [
    *("__contains__", "__delitem__", "__getitem__", "__iter__", "__len__"),
    *("create", "get", "items", "keys", "pop", "set", "setdefault", "to_dict"),
    *("update", "values"),
]


def noting(name: str) -> Any:
    """Make a method that notes its call and does what the inherited one does."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        self.called.append(name)
        return getattr(EtcdMapping, name)(self, *args, **options)

    return method


Noting = type(
    "Noting",
    (EtcdMapping,),
    {
        **{name: noting(name) for name in HOOKS},
        "called": [],
        "__missing__": lambda self, key: self.called.append("__missing__"),
    },
)

Use = Callable[[Any], Any]


def called_by(etcd: LocalCluster, prefix: str, use: Use) -> list[str]:
    """Give the overridden methods that are called by a use of a mapping."""
    with Noting(etcd.endpoints, prefix=prefix) as mapping:
        EtcdMapping(client=mapping.client, prefix=prefix).assign({"a": 1, "b": 2})
        mapping.called = []
        use(mapping)
        return list(mapping.called)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Give a directory of the test's own."""
    return f"/subclassing-{abs(hash(request.node.nodeid))}"


@pytest.mark.parametrize(
    ("use", "called"),
    [
        pytest.param(lambda m: operator.setitem(m, "c", 1), ["set"], id="[]="),
        pytest.param(lambda m: m.get("a"), ["get", "__getitem__"], id="get"),
        pytest.param(
            lambda m: ("a", 1) in m.items(), ["items", "__getitem__"], id="in items"
        ),
        pytest.param(
            lambda m: "a" in m.keys(),  # noqa: SIM118
            ["keys", "__contains__"],
            id="in keys",
        ),
        pytest.param(lambda m: operator.ior(m, {"c": 1}), ["update"], id="|="),
        pytest.param(lambda m: m.copy(), ["to_dict"], id="copy"),
    ],
)
def test_method_that_builds_on_another_calls_it(
    etcd: LocalCluster, prefix: str, use: Use, called: list[str]
) -> None:
    """The rows of the table, but for `dict(m)`."""
    assert called_by(etcd, prefix, use) == called


def test_dict_of_a_subclass_asks_for_keys_and_then_values(
    etcd: LocalCluster, prefix: str
) -> None:
    """By Python's making."""
    called = called_by(etcd, prefix, dict)
    assert [name for name in called if name != "__len__"] == [
        "keys", "__iter__", "__getitem__", "__getitem__",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("use", "own"),
    [
        pytest.param(lambda m: m.update(c=1), ["update"], id="update"),
        pytest.param(lambda m: m.merge({"c": 1}), [], id="merge"),
        pytest.param(lambda m: m.assign({"c": 1}), [], id="assign"),
        pytest.param(lambda m: m.pop("a"), ["pop"], id="pop"),
        pytest.param(lambda m: m.popitem(), [], id="popitem"),
        pytest.param(lambda m: m.setdefault("c", 1), ["setdefault"], id="setdefault"),
        pytest.param(lambda m: m.create("c", 1), ["create"], id="create"),
        pytest.param(lambda m: m.replace("a", 2), [], id="replace"),
        pytest.param(lambda m: m.transform("a", abs), [], id="transform"),
        pytest.param(lambda m: set(m.items()), ["items"], id="items"),
        pytest.param(lambda m: set(m.values()), ["values"], id="values"),
        pytest.param(lambda m: [*reversed(m)], [], id="reversed"),
        pytest.param(lambda m: bool(m), ["__len__"], id="bool"),
        pytest.param(lambda m: m == {}, [], id="=="),
        pytest.param(lambda m: m.to_dict(), ["to_dict"], id="to_dict"),
        pytest.param(lambda m: m.snapshot(), [], id="snapshot"),
    ],
)
def test_other_method_calls_no_overridden_one(
    etcd: LocalCluster, prefix: str, use: Use, own: list[str]
) -> None:
    """Each sends as few requests as it can, and goes to the store at once."""
    assert called_by(etcd, prefix, use) == own


def test_missing_is_never_called(etcd: LocalCluster, prefix: str) -> None:
    """An absent key is a KeyError, as in every mapping but `dict` itself."""
    with pytest.raises(KeyError):
        called_by(etcd, prefix, lambda m: m["absent"])
    assert called_by(etcd, prefix, lambda m: m.get("absent")) == ["get", "__getitem__"]

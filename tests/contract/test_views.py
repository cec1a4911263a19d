"""Sub-mappings and views: what they share with the mapping that they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from etcdmap import EtcdMapping, FlatView, View

from support.mapping_kit import StoreKit

Part = Callable[[EtcdMapping], Any]

#: Everything that makes another mapping of the same class.
PARTS = [
    pytest.param(lambda m: m["d"], id="getitem"),
    pytest.param(lambda m: m.get("d"), id="get"),
    pytest.param(lambda m: m.sub("d"), id="sub"),
    pytest.param(lambda m: m.using(), id="using"),
    pytest.param(lambda m: m.setdefault("d", 1), id="setdefault"),
    pytest.param(lambda m: m.setdefault("new", {}), id="setdefault-new"),
    pytest.param(lambda m: m.mkdir("made"), id="mkdir"),
    pytest.param(lambda m: m.sub("d").using(codec="text"), id="using-of-sub"),
    pytest.param(lambda m: next(iter(m.values())), id="values"),
    pytest.param(lambda m: dict(m.items())["d"], id="items"),
]


class Config(EtcdMapping):
    """A subclass with a constructor, an attribute and a cached property."""

    def __init__(self, like: EtcdMapping, name: str) -> None:
        vars(self).update(vars(like))
        self.name = name

    @cached_property
    def first(self) -> str:
        """The first key."""
        return next(iter(self))


class Named(Config):
    """One whose name goes along."""

    __slots__ = ("tag",)
    tag: list[int]

    def with_view(self, view: View) -> Named:
        """Copy the name, too."""
        other = super().with_view(view)
        other.name = self.name
        other.tag = self.tag
        return other


@pytest.fixture
def filled(kit: StoreKit) -> EtcdMapping:
    """Give a mapping with a directory."""
    return kit.make({"d": {"x": 1}})


@pytest.mark.parametrize("part", PARTS)
def test_part_has_nothing_of_its_parent_but_the_view(
    filled: EtcdMapping, part: Part
) -> None:
    """What a mapping has computed or been given is not true of its parts."""
    config = Config(filled, "mine")
    assert config.first == "d"
    below = part(config)
    assert type(below) is Config
    assert vars(below).keys() == vars(filled).keys()


def test_cached_property_of_a_part_is_its_own(filled: EtcdMapping) -> None:
    """It is computed anew there."""
    config = Config(filled, "mine")
    assert (config.first, config["d"].first) == ("d", "x")


@pytest.mark.parametrize("part", PARTS)
def test_with_view_takes_along_what_a_subclass_says(
    filled: EtcdMapping, part: Part
) -> None:
    """All parts come from that one method, slots included."""
    config = Named(filled, "mine")
    config.tag = [1]
    below = part(config)
    assert (below.name, below.tag) == ("mine", [1])
    assert below.tag is config.tag


def test_with_view_calls_no_constructor(filled: EtcdMapping) -> None:
    """Whatever it takes."""

    class Strange(EtcdMapping):
        def __init__(self, *, must: int) -> None:
            vars(self).update(vars(filled))

    assert Strange(must=1)["d"]["x"] == 1


def test_flat_view_has_nothing_of_its_mapping_but_the_view(
    filled: EtcdMapping,
) -> None:
    """It is of another class, and made the same way."""
    config = Config(filled, "mine")
    assert config.first == "d"
    for flat in (config.flat, config.flat.sub("d"), config.flat.using(timeout=1)):
        assert type(flat) is FlatView
        assert vars(flat).keys() == vars(filled).keys()
    assert config.flat.sub("d") == {"x": 1}


def test_view_is_frozen_and_has_no_room_for_more(filled: EtcdMapping) -> None:
    """Threads share it without a lock."""
    view = filled._view
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.root = "/elsewhere"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(view, "more", 1)


def test_view_with_other_options_leaves_the_first_as_it_was(
    filled: EtcdMapping,
) -> None:
    """Options are those of the new view alone."""
    text = filled.using(codec="text").sub("d")
    assert (text["x"], filled["d"]["x"]) == ("1", 1)


def test_view_below_differs_from_its_parent_in_the_place_alone(
    filled: EtcdMapping,
) -> None:
    """The quick way of making one forgets no field."""
    below = filled.sub("elsewhere")
    assert below._view == dataclasses.replace(
        filled._view, root=f"{filled.prefix}/elsewhere", whole_cluster=False
    )


def test_part_leaves_the_client_open(filled: EtcdMapping) -> None:
    """Whoever made it closes it."""
    for part in (filled.sub("d"), filled.using(), filled.flat, filled.flat.sub("d")):
        part.close()
    assert filled["d/x"] == 1

"""What leads from one state of a tree to the next, and which events tell of it."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest

from etcdmap.mapping.replica import State, after, differences
from etcdmap.mapping.subscription import Subscription
from etcdmap.tree import Change, Event, Reading

TREE = {"a": {"b": "1", "c": {"d": "2"}}, "t": "x"}


def state(root: Any = TREE, *, whole: bool = True) -> State:
    """Return a state of /p as of index 5."""
    return State("/p", root, 5, whole)


def told(change: Change | Reading, before: State) -> tuple[Any, list[tuple[Any, ...]]]:
    """Return the root after a change, and the events without their index."""
    new, events = after(before, [change])
    assert new.index == change.index
    assert all(event.index == change.index for event in events)
    return new.root, [event[:4] for event in events]


@pytest.mark.parametrize(
    ("change", "root", "events"),
    [
        pytest.param(
            Change("set", "/p/t", "y", 6),
            {**TREE, "t": "y"},
            [("set", "/p/t", "y", "x")],
            id="over a file",
        ),
        pytest.param(
            Change("set", "/p/n/m/k", "y", 6),
            {**TREE, "n": {"m": {"k": "y"}}},
            [
                ("make_directory", "/p/n", None, None),
                ("make_directory", "/p/n/m", None, None),
                ("set", "/p/n/m/k", "y", None),
            ],
            id="with its way",
        ),
        pytest.param(
            Change("delete", "/p/a", None, 6),
            {"t": "x"},
            [
                ("delete", "/p/a/b", None, "1"),
                ("delete", "/p/a/c/d", None, "2"),
                ("delete", "/p/a", None, None),
            ],
            id="a directory goes",
        ),
        pytest.param(
            Change("expire", "/p/t", None, 6),
            {"a": TREE["a"]},
            [("expire", "/p/t", None, "x")],
            id="a file expires",
        ),
        pytest.param(Change("delete", "/p/zz", None, 6), TREE, [], id="of nothing"),
        pytest.param(
            Change("make_directory", "/p/t", None, 6),
            {**TREE, "t": {}},
            [("make_directory", "/p/t", None, "x")],
            id="a directory over a file",
        ),
        pytest.param(
            Change("make_directory", "/p/a", None, 6, implied=True),
            TREE,
            [],
            id="a directory that is there",
        ),
        pytest.param(
            Change("delete", "/p", None, 6),
            None,
            [
                ("delete", "/p/a/b", None, "1"),
                ("delete", "/p/a/c/d", None, "2"),
                ("delete", "/p/t", None, "x"),
                ("delete", "/p", None, None),
            ],
            id="the root goes",
        ),
        pytest.param(
            Reading({"a": "file", "t": "x"}, 9),
            {"a": "file", "t": "x"},
            [
                ("delete", "/p/a/b", None, "1"),
                ("delete", "/p/a/c/d", None, "2"),
                ("delete", "/p/a", None, None),
                ("set", "/p/a", "file", None),
            ],
            id="read anew",
        ),
    ],
)
def test_after_a_change(
    change: Change | Reading, root: Any, events: list[tuple[Any, ...]]
) -> None:
    """The next state, and what tells of it."""
    assert told(change, state()) == (root, events)


def test_after_a_change_the_state_before_is_as_it_was() -> None:
    """And what the change is not about is shared."""
    before = state()
    new, _ = after(before, [Change("set", "/p/a/c/e", "3", 6)])
    assert before.root == {"a": {"b": "1", "c": {"d": "2"}}, "t": "x"}
    assert isinstance(new.root, dict)
    other, _ = after(new, [Change("set", "/p/t", "3", 7)])
    assert isinstance(other.root, dict)
    assert other.root["a"] is new.root["a"]


def test_what_is_not_known_is_not_told() -> None:
    """Only what was told since it is followed; what etcd tells of the rest counts."""
    unknown = state(None, whole=False)
    change = Change("set", "/p/a/b", "2", 6, previous="1")
    assert told(change, unknown)[1] == [("set", "/p/a/b", "2", "1")]
    implied = Change("make_directory", "/p/a", None, 6, implied=True)
    assert told(implied, unknown)[1] == []
    gone = Change("delete", "/p/x", None, 6, previous="0")
    assert told(gone, unknown)[1] == [("delete", "/p/x", None, "0")]
    empty, _ = after(unknown, [Change("delete", "/p", None, 7)])
    assert empty.whole


def random_tree(rng: random.Random, depth: int = 3) -> Any:
    """Return a tree, a text or nothing."""
    kind = rng.random()
    if depth == 3 and kind < 0.05:
        return None
    if kind < (0.2 if depth == 3 else 0.5):
        return rng.choice("xyz")
    names = rng.sample("abcd", rng.randint(0, 4 if depth else 0))
    return {name: random_tree(rng, depth - 1) for name in names}


def replayed(root: Any, events: list[Event]) -> Any:
    """Carry events out."""
    current = State("/p", root, 0)
    for event in events:
        change = Change(event.action, event.key, event.value, event.index)
        current, _ = after(current, [change])
    return current.root


@pytest.mark.parametrize("seed", range(300))
def test_differences_lead_from_one_state_to_the_other(seed: int) -> None:
    """All are marked, and none says what is so already."""
    rng = random.Random(seed)
    old, new = state(random_tree(rng)), state(random_tree(rng))
    events = list(differences(old, new))
    assert replayed(old.root, events) == new.root
    assert all(event.coalesced for event in events)
    assert list(differences(new, new)) == []


class Root(dict[str, Any]):
    """A tree of which one can tell whether it is still held."""


def test_queue_of_a_slow_subscriber_holds_one_state() -> None:
    """Each may be a large dict of its own; the events tell how they came about."""
    subscription = Subscription(None, "/p", print, state(Root()))
    made: list[weakref.ref[Root]] = []
    for number in range(500):
        root = Root(k=str(number))
        made.append(weakref.ref(root))
        event = Event("set", "/p/k", str(number), None, number)
        subscription.add(State("/p", root, number), [event], 0.0, at_once=False)
    root = Root()
    gc.collect()
    assert sum(each() is not None for each in made) == 1
    events, _ = subscription.waiting(state())
    assert len(events) == 500

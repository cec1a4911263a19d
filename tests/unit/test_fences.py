"""What a client remembers of files."""

from __future__ import annotations

import pytest

from etcdmap.v2.memory import KnownStates

MOST = 20_000


@pytest.fixture
def fences() -> KnownStates:
    """Give an empty memory."""
    return KnownStates()


def test_get_unknown_path_is_none(fences: KnownStates) -> None:
    """Nothing is known at first."""
    assert fences.get("/k") is None


def test_put_is_remembered_by_path(fences: KnownStates) -> None:
    """Each path has its own index."""
    fences.put("/k", 3)
    fences.put("/l", 4)
    assert (fences.get("/k"), fences.get("/l")) == (3, 4)


def test_put_again_replaces(fences: KnownStates) -> None:
    """The last one counts, also when it is lower: a cluster may be rebuilt."""
    fences.put("/k", 9)
    fences.put("/k", 3)
    assert fences.get("/k") == 3


def test_drop_forgets_one(fences: KnownStates) -> None:
    """Only that path."""
    fences.put("/k", 3)
    fences.put("/l", 4)
    fences.drop("/k")
    assert (fences.get("/k"), fences.get("/l")) == (None, 4)


def test_drop_unknown_path_is_no_error(fences: KnownStates) -> None:
    """Another thread may have dropped it."""
    fences.drop("/k")


def test_clear_forgets_all(fences: KnownStates) -> None:
    """For a cluster that was rebuilt."""
    fences.put("/k", 3)
    fences.clear()
    assert fences.get("/k") is None


def test_put_many_is_bounded_and_keeps_the_newest(fences: KnownStates) -> None:
    """A loop over a million keys does not fill the memory."""
    for number in range(3 * MOST):
        fences.put(f"/{number}", number + 1)
    known = [n for n in range(3 * MOST) if fences.get(f"/{n}") is not None]
    assert len(known) <= MOST
    assert known[-1] == 3 * MOST - 1
    assert known == list(range(known[0], 3 * MOST))


def test_put_up_to_the_limit_forgets_nothing(fences: KnownStates) -> None:
    """The limit itself is allowed."""
    for number in range(MOST):
        fences.put(f"/{number}", number + 1)
    assert fences.get("/0") == 1

"""The judge of fault runs on writes that make a new name each time."""

from __future__ import annotations

from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.history import Op
from benchmarks.faults.judge.samples import LATE, counts, op


def append(value: str, **rest: object) -> Op:
    """Make an append to the directory "q"."""
    return op("append", value, 0, 1, key="q", **rest)


def mkdir(**rest: object) -> Op:
    """Make a directory "d"."""
    return op("mkdir", None, 0, 1, key="d", **rest)


def test_once_all_there_is_good() -> None:
    """What was acknowledged is there, once; what is unknown may be."""
    ops = [append("1", name="07"), append("2", **LATE), append("3", **LATE), mkdir()]
    final = {"q/": "", "q/07": "1", "q/08": "2", "d/": ""}
    assert check(ops, final=final).clean


def test_once_acknowledged_append_that_is_missing_is_lost() -> None:
    """An append that was acknowledged is in the directory."""
    assert counts(append("1"), final={"q/": "", "q/07": "2"}) == {"lost": 1}
    # Another directory's value is not its own.
    assert counts(append("1"), final={"other/07": "1"}) == {"lost": 1}


def test_once_append_that_is_there_twice_is_found() -> None:
    """Sent again, it makes two names, whatever the caller was told."""
    final = {"q/07": "1", "q/08": "1"}
    assert counts(append("1", name="08"), final=final) == {"twice": 1}
    assert counts(append("1", **LATE), final=final) == {"twice": 1}


def test_once_append_under_another_name_is_wrong() -> None:
    """The name that the caller was given has the value."""
    found = counts(append("1", name="08"), final={"q/07": "1", "q/08": "2"})
    assert found == {"wrong_value": 1}


def test_once_failed_append_that_is_there_is_wrong() -> None:
    """What was said to be without effect is not there."""
    failed = append("1", outcome="failed", error="ClusterUnavailable")
    assert counts(failed, final={"q/07": "1"}) == {"wrong_value": 1}
    assert counts(failed, final={}) == {}


def test_once_acknowledged_directory_that_is_missing_is_lost() -> None:
    """A file of that name is none."""
    assert counts(mkdir(), final={"d": "1"}) == {"lost": 1}


def test_once_directory_refused_by_its_own_first_copy_is_wrong() -> None:
    """Nobody else makes it, so the refusal says what is not so."""
    refused = mkdir(outcome="refused", error="KeyExists")
    assert counts(refused, final={"d/": ""}) == {"wrong_value": 1}
    assert counts(refused, final={}) == {}


def test_once_without_a_look_at_the_end_decides_nothing() -> None:
    """What is lost can't be told if nobody looked."""
    assert counts(append("1"), mkdir()) == {}

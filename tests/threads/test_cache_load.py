"""The promises of the read cache under load; benchmarks/cache_load.py runs longer."""

from __future__ import annotations

import pytest

from support.cache_load import Figures, Load, run_load


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Give what came of two seconds of load."""
    return run_load(Load(seconds=2.0, cache_ttl=0.25))


def test_load_requests_are_one_for_each_ttl_and_write(figures: Figures) -> None:
    """However many threads read a key, it costs a request when it has to."""
    over = {
        key: (count, figures.allowed(key))
        for key, count in figures.requests.items()
        if count > figures.allowed(key)
    }
    assert over == {}
    assert figures.reads > 10 * sum(figures.requests.values())


def test_load_no_value_is_older_than_the_ttl_and_one_request(figures: Figures) -> None:
    """What was replaced longer ago is never read."""
    assert figures.oldest <= figures.load.cache_ttl + figures.slowest


def test_load_own_writes_are_seen_and_reads_never_go_back(figures: Figures) -> None:
    """No thread sees less than it wrote, or than it has seen."""
    assert sum(figures.writes.values()) > 10
    assert figures.wrong == []

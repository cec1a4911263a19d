"""The cache, and directories with a ttl on a real etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etcdmap import Client, EtcdMapping
from etcdmap.cache import ReadCache
from etcdmap.connecting import make_client

from support.gates import Timer
from support.transports import CountingTransport

Cost = Callable[[Callable[[], object]], list[str]]


@pytest.fixture
def timer() -> Timer:
    """Give the clock of the cache."""
    return Timer()


@pytest.fixture
def cached(
    client: Client, transport: CountingTransport, prefix: str, timer: Timer
) -> Iterator[EtcdMapping]:
    """Give a mapping with a cache; ``a`` ends after 50 seconds, ``b`` never."""
    cache = ReadCache(1000.0, timer=timer)
    with make_client(client.endpoints, transport, cache=cache) as ours:
        mapping = EtcdMapping(client=ours, prefix=prefix)
        mapping.set("a", {"host": "h", "deep": {"er": {"x": 1}}}, ttl=50)
        mapping["b"] = {"host": "h"}
        yield mapping


def test_hit_below_a_hidden_prefix_is_none_of_another_mapping(
    cached: EtcdMapping, cost: Cost
) -> None:
    """Only a prefix leads there: what one mapping may read, a key may not name."""
    hidden = EtcdMapping(client=cached.client, prefix=f"{cached.prefix}/_h")
    hidden["k"] = "secret"
    assert (hidden["k"], cost(lambda: hidden["k"])) == ("secret", [])
    for key in ("_h/k", "b/../_h/k", "/_h/k", "_h//k", "_h/k/"):
        assert cached.get(key) is None
        assert key not in cached
    assert cached.flat.get("_h/k") is None


LISTINGS = [
    pytest.param(lambda m: list(m["a"].items()), "a/host", id="its-items"),
    pytest.param(lambda m: list(m["a"]), "a/host", id="its-keys"),
    pytest.param(lambda m: list(m.sub("a")), "a/host", id="without-a-read-of-it"),
    pytest.param(lambda m: m.flat.to_dict(), "a/host", id="from-above"),
    pytest.param(lambda m: m.flat.to_dict(), "a/deep/er/x", id="from-above-deep"),
    pytest.param(lambda m: m["a"].flat.to_dict(), "a/deep/er/x", id="its-flat-deep"),
]


@pytest.mark.parametrize(("look", "key"), LISTINGS)
def test_listing_brings_nothing_that_outlives_its_directory(
    cached: EtcdMapping, timer: Timer, cost: Cost, look: Any, key: str
) -> None:
    """Children show no ttl of their own; the listing has shown that above them."""
    look(cached)
    assert cost(lambda: cached[key]) == []
    timer.now += 50
    assert cost(lambda: cached[key]) == ["GET"]


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(list, id="keys-of-the-parent"),
        pytest.param(lambda m: m["a"], id="read-of-it"),
        pytest.param(lambda m: list(m["a"]), id="keys-of-it"),
    ],
)
def test_single_read_below_a_directory_that_was_seen_ends_with_it(
    cached: EtcdMapping, timer: Timer, cost: Cost, look: Any
) -> None:
    """While the cache knows when the directory ends, it goes by that."""
    look(cached)
    assert cost(lambda: cached["a/deep/er/x"]) == ["GET"]
    assert cost(lambda: cached["a/deep/er/x"]) == []
    timer.now += 50
    assert cost(lambda: cached["a/deep/er/x"]) == ["GET"]


def test_key_made_after_its_directory_was_listed_ends_with_it(
    cached: EtcdMapping, timer: Timer, cost: Cost
) -> None:
    """The listing tells the end of the directory itself, not only of what is in it."""
    list(cached.sub("a"))
    cached["a/new"] = 1
    assert cost(lambda: cached["a/new"]) == ["GET"]
    assert cost(lambda: cached["a/new"]) == []
    timer.now += 50
    assert cost(lambda: cached["a/new"]) == ["GET"]


def test_directory_without_a_ttl_shortens_nothing(
    cached: EtcdMapping, timer: Timer, cost: Cost
) -> None:
    """Its neighbours do not either."""
    list(cached)
    cached.flat.to_dict()
    timer.now += 999
    assert cost(lambda: cached["b/host"]) == []


def test_directory_about_to_end_has_nothing_kept_of_it(
    cached: EtcdMapping, cost: Cost
) -> None:
    """etcd rounds what is left up to a second."""
    cached.set("c", {"host": "h"}, ttl=1)
    list(cached)
    cached["c"].get("host")
    assert cost(lambda: cached.get("c/host")) == ["GET"]


def test_directory_made_anew_by_us_is_cached_as_ever(
    cached: EtcdMapping, timer: Timer, cost: Cost
) -> None:
    """A write of ours forgets when it ended before."""
    list(cached["a"])
    del cached["a"]
    cached["a"] = {"host": "h"}
    assert cached["a/host"] == "h"
    timer.now += 999
    assert cost(lambda: cached["a/host"]) == []

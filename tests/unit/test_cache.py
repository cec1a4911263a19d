"""The read cache alone, with a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from etcdmap.cache import CacheInfo, ReadCache
from etcdmap.errors import KeyNotFound

from support.gates import Timer, WatchedCache, started

TTL = 10.0


@pytest.fixture
def timer() -> Timer:
    """Give the cache's clock."""
    return Timer()


@pytest.fixture
def cache(timer: Timer) -> WatchedCache:
    """Give an empty cache."""
    return WatchedCache(TTL, timer=timer)


def store(
    cache: ReadCache, path: str, node: object, ttl: int | None = None, index: int = 7
) -> None:
    """Have a read bring a node."""
    cache.end(cache.begin(path), [(path, node, ttl)], index)


def forever(node: object) -> None:
    """Give the ttl of a node that has none."""


def fetching(node: object) -> Callable[[], tuple[object, int]]:
    """Give a fetch that brings a node."""
    return lambda: (node, 7)


def never() -> tuple[object, int]:
    """Fetch what must not be fetched."""
    raise AssertionError("fetched")


# --- keeping ---------------------------------------------------------------------


def test_get_of_nothing_stored_is_none(cache: ReadCache) -> None:
    """A path that was never stored is not there."""
    assert cache.get("/a") is None


def test_get_gives_the_node_stored(cache: ReadCache) -> None:
    """The very node comes back."""
    node = ["x"]
    store(cache, "/a", node)
    assert cache.get("/a") is node


def test_end_stores_all_that_a_listing_brought(cache: ReadCache) -> None:
    """One read may bring many nodes."""
    cache.end(cache.begin("/d"), [("/d/a", 1, None), ("/d/b", 2, None)], 7)
    assert (cache.get("/d/a"), cache.get("/d/b"), cache.get("/d")) == (1, 2, None)


def test_end_without_entries_stores_nothing(cache: ReadCache) -> None:
    """A read that failed leaves nothing."""
    cache.end(cache.begin("/a"), [], 0)
    assert cache.info().currsize == 0


@pytest.mark.parametrize(
    ("node_ttl", "lives"),
    [
        pytest.param(None, TTL, id="none"),
        pytest.param(1000, TTL, id="longer"),
        pytest.param(12, TTL, id="a-little-longer"),
        pytest.param(11, TTL, id="as-long"),
        pytest.param(10, 9.0, id="shorter"),
        pytest.param(2, 1.0, id="two"),
    ],
)
def test_entry_lives_for_the_shorter_ttl(
    cache: ReadCache, timer: Timer, node_ttl: int | None, lives: float
) -> None:
    """The cache's ttl counts, or the node's less the second it is rounded up by."""
    store(cache, "/a", 1, node_ttl)
    timer.now += lives - 0.001
    assert cache.get("/a") == 1
    timer.now += 0.001
    assert cache.get("/a") is None


@pytest.mark.parametrize("node_ttl", [1, 0, -1])
def test_entry_about_to_expire_is_not_stored(cache: ReadCache, node_ttl: int) -> None:
    """A node with less than a second left, or none, is not kept."""
    store(cache, "/a", 1, node_ttl)
    assert cache.get("/a") is None
    assert cache.info().currsize == 0


def test_entry_counts_from_the_beginning_of_its_read(
    cache: ReadCache, timer: Timer
) -> None:
    """A slow read brings an entry that is old already."""
    read = cache.begin("/a")
    timer.now += TTL - 1
    cache.end(read, [("/a", 1, None)], 7)
    assert cache.get("/a") == 1
    timer.now += 1
    assert cache.get("/a") is None


def test_entry_stored_again_lives_anew(cache: ReadCache, timer: Timer) -> None:
    """A later read of the same path replaces the entry."""
    store(cache, "/a", 1)
    timer.now += TTL - 1
    store(cache, "/a", 2)
    timer.now += TTL - 1
    assert cache.get("/a") == 2


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        pytest.param(7, 8, "second", id="newer"),
        pytest.param(7, 7, "second", id="as-new"),
        pytest.param(8, 7, "first", id="older"),
    ],
)
def test_entry_of_the_newer_answer_stays(
    cache: ReadCache, first: int, second: int, kept: str
) -> None:
    """Whichever came last: reads do not go back in time."""
    slow = cache.begin("/d/")
    store(cache, "/d/a", "first", index=first)
    cache.end(slow, [("/d/a", "second", None)], second)
    assert cache.get("/d/a") == kept


def test_entry_about_to_expire_takes_an_older_one_with_it(cache: ReadCache) -> None:
    """A newer answer that can't be kept is newer all the same."""
    store(cache, "/a", "old", index=7)
    store(cache, "/a", "new", 1, index=8)
    assert cache.get("/a") is None


def test_store_holds_the_newest_of_a_size(timer: Timer) -> None:
    """The entry stored first goes first."""
    cache = ReadCache(TTL, 3, timer=timer)
    for n in range(10):
        store(cache, f"/d/k{n}", n)
    assert [cache.get(f"/d/k{n}") for n in range(10)] == [None] * 7 + [7, 8, 9]
    assert cache.info().currsize == len(cache.hot) == 3


def test_store_of_a_size_forgets_directories_with_their_entries(timer: Timer) -> None:
    """What is known about directories does not grow for ever."""
    cache = ReadCache(TTL, 3, timer=timer)
    for n in range(100):
        store(cache, f"/d{n}/e/f", n)
    cache.invalidate("/d99")
    cache.invalidate("/d0")
    assert cache.get("/d98/e/f") == 98
    assert cache.get("/d99/e/f") is None
    assert len(cache._store._below) <= 1 + 3 * 2


# --- directories that end -------------------------------------------------------------


class Below(NamedTuple):
    """A directory as the cache sees one."""

    children: dict[str, object]


DIRECTORY = Below({})


def held_until(cache: ReadCache, timer: Timer, path: str) -> float:
    """Give the seconds from now for which a path is answered for."""
    began, seconds = timer.now, 0.0
    while cache.get(path) is not None:
        timer.now += 0.5
        seconds += 0.5
    timer.now = began
    return seconds


@pytest.mark.parametrize(
    ("ttl", "own", "expected"),
    [
        pytest.param(5, None, 4.0, id="directory"),
        pytest.param(5, 3, 2.0, id="own-is-shorter"),
        pytest.param(5, 60, 4.0, id="own-is-longer"),
        pytest.param(60, None, TTL, id="cache-is-shorter"),
        pytest.param(None, None, TTL, id="none"),
        pytest.param(1, None, 0.0, id="about-to-end"),
        pytest.param(0, None, 0.0, id="ended"),
    ],
)
@pytest.mark.parametrize("below", ["/d/a", "/d/e/f/a"])
def test_entry_ends_with_a_directory_above_it_that_was_seen(
    cache: ReadCache,
    timer: Timer,
    ttl: int | None,
    own: int | None,
    expected: float,
    below: str,
) -> None:
    """A node that is read alone shows nothing of the ttl above it."""
    store(cache, "/d", DIRECTORY, ttl)
    store(cache, below, 1, own)
    assert held_until(cache, timer, below) == expected


def test_entry_read_late_ends_with_its_directory(
    cache: ReadCache, timer: Timer
) -> None:
    """What counts is when the directory ends, and not when it was seen."""
    store(cache, "/d", DIRECTORY, 9)
    timer.now += 5
    store(cache, "/d/a", 1, index=8)
    assert held_until(cache, timer, "/d/a") == 3.0


def test_entry_of_a_directory_that_no_longer_answers_still_tells_its_end(
    timer: Timer,
) -> None:
    """Its own age and its end are two things."""
    cache = ReadCache(2.0, timer=timer)
    store(cache, "/d", DIRECTORY, 6)
    timer.now += 4
    assert cache.get("/d") is None
    store(cache, "/d/a", 1, index=8)
    assert held_until(cache, timer, "/d/a") == 1.0


@pytest.mark.parametrize("ends", ["/d/e", "/x", "/dd"])
def test_entry_is_not_held_to_a_directory_beside_it(
    cache: ReadCache, timer: Timer, ends: str
) -> None:
    """Only what lies below goes with it."""
    store(cache, ends, DIRECTORY, 3)
    store(cache, "/d/a", 1)
    assert held_until(cache, timer, "/d/a") == TTL


def test_entry_of_a_directory_made_anew_is_not_held_to_the_old_one(
    cache: ReadCache, timer: Timer
) -> None:
    """By a write of ours, by a read of it, and when the end is long past."""
    store(cache, "/d", DIRECTORY, 3)
    cache.invalidate("/d")
    store(cache, "/d/a", 1)
    assert held_until(cache, timer, "/d/a") == TTL

    store(cache, "/d", DIRECTORY, 3, index=8)
    store(cache, "/d", DIRECTORY, None, index=9)
    store(cache, "/d/b", 1, index=9)
    assert held_until(cache, timer, "/d/b") == TTL

    store(cache, "/d", DIRECTORY, 3, index=10)
    timer.now += 30
    store(cache, "/d/c", 1, index=11)
    assert held_until(cache, timer, "/d/c") == TTL


def test_entry_read_just_after_the_end_of_its_directory_is_not_kept(
    cache: ReadCache, timer: Timer
) -> None:
    """etcd takes a moment to end what has expired."""
    store(cache, "/d", DIRECTORY, 3)
    timer.now += 3
    store(cache, "/d/a", 1, index=8)
    assert cache.get("/d/a") is None


@pytest.mark.parametrize("path", ["/\ufffd", "/a\ufffd/b", "/a/b\ufffd"])
def test_entry_of_a_path_that_no_key_leads_to_is_not_kept(
    cache: ReadCache, path: str
) -> None:
    """Hits are looked up without a check of their key."""
    store(cache, path, 1)
    assert cache.get(path) is None
    assert path not in cache.hot


# --- invalidating ------------------------------------------------------------------


@pytest.fixture
def full(cache: ReadCache) -> ReadCache:
    """Give a cache with a tree of entries."""
    for path in ("/a", "/d", "/d/a", "/d/e", "/d/e/a", "/da", "/d/ea"):
        store(cache, path, path)
    return cache


@pytest.mark.parametrize(
    ("path", "left"),
    [
        pytest.param("/a", {"/d", "/d/a", "/d/e", "/d/e/a", "/da", "/d/ea"}, id="file"),
        pytest.param("/d/e/a", {"/a", "/d", "/d/a", "/d/e", "/da", "/d/ea"}, id="deep"),
        pytest.param("/d/e", {"/a", "/d", "/d/a", "/da", "/d/ea"}, id="directory"),
        pytest.param("/d/e/", {"/a", "/d", "/d/a", "/da", "/d/ea"}, id="slash"),
        pytest.param("/d", {"/a", "/da"}, id="above"),
        pytest.param("/", set(), id="root"),
        pytest.param(
            "/x", {"/a", "/d", "/d/a", "/d/e", "/d/e/a", "/da", "/d/ea"}, id="unknown"
        ),
    ],
)
def test_invalidate_forgets_the_node_and_all_below(
    full: ReadCache, path: str, left: set[str]
) -> None:
    """Names that only begin alike stay, and so do directories above."""
    full.invalidate(path)
    assert set(full.hot) == left
    assert full.info().currsize == len(left)


def test_invalidate_below_a_directory_that_is_not_stored(cache: ReadCache) -> None:
    """A subtree is found also where its own directory has no entry."""
    store(cache, "/d/e/f/g", 1)
    cache.invalidate("/d/e")
    assert cache.get("/d/e/f/g") is None


def test_invalidate_of_one_keeps_its_neighbours_findable(cache: ReadCache) -> None:
    """After a delete below it, a directory still drops the rest."""
    store(cache, "/d/e/a", 1)
    store(cache, "/d/e/b", 2)
    cache.invalidate("/d/e/a")
    cache.invalidate("/d")
    assert cache.get("/d/e/b") is None


@pytest.mark.parametrize(
    ("reading", "written", "stored"),
    [
        pytest.param("/d/a", "/d/a", False, id="same"),
        pytest.param("/d/a", "/d", False, id="written-above"),
        pytest.param("/d", "/d/a", False, id="written-below"),
        pytest.param("/d/", "/d/a", False, id="listing"),
        pytest.param("/", "/d/a", False, id="listing-of-the-root"),
        pytest.param("/d/a", "/", False, id="root-written"),
        pytest.param("/d/a", "/d/b", True, id="neighbour"),
        pytest.param("/d/a", "/d/ab", True, id="alike"),
        pytest.param("/d/ab", "/d/a", True, id="alike-too"),
    ],
)
def test_read_that_overlaps_a_write_is_not_stored(
    cache: ReadCache, reading: str, written: str, stored: bool
) -> None:
    """What a read brings is kept only if no write touched what it covers."""
    read = cache.begin(reading)
    cache.invalidate(written)
    cache.end(read, [("/d/a", "old", None)], 7)
    assert cache.get("/d/a") == ("old" if stored else None)


def test_read_that_begins_after_a_write_is_stored(cache: ReadCache) -> None:
    """A write spoils the reads under way only."""
    cache.invalidate("/a")
    store(cache, "/a", 1)
    assert cache.get("/a") == 1


def test_read_that_ended_is_forgotten(cache: ReadCache) -> None:
    """No read is kept after its end, be it spoilt or not."""
    spoilt = cache.begin("/a")
    cache.invalidate("/a")
    cache.end(spoilt, [], 0)
    store(cache, "/b", 1)
    assert not cache._reads
    assert not cache._flights


# --- loading -----------------------------------------------------------------------


def test_load_fetches_and_stores(cache: ReadCache) -> None:
    """A miss fetches once; then it is a hit."""
    assert cache.load("/a", fetching(1), forever) == 1
    assert cache.get("/a") == 1


def test_load_asks_the_node_for_its_ttl(cache: ReadCache, timer: Timer) -> None:
    """What the node says about its ttl bounds the entry."""
    cache.load("/a", fetching(5), lambda node: node)
    timer.now += 4
    assert cache.get("/a") is None


def test_load_that_fails_stores_nothing(cache: ReadCache) -> None:
    """The error is raised, and the next load fetches."""
    error = KeyNotFound("absent")

    def fail() -> tuple[object, int]:
        raise error

    with pytest.raises(KeyNotFound) as caught:
        cache.load("/a", fail, forever)
    assert caught.value is error
    assert cache.load("/a", fetching(1), forever) == 1


def test_load_spoilt_is_given_but_not_stored(cache: ReadCache) -> None:
    """Its caller began before the write, so it may have the old value."""

    def fetch() -> tuple[object, int]:
        cache.invalidate("/a")
        return "old", 7

    assert cache.load("/a", fetch, forever) == "old"
    assert cache.get("/a") is None


def test_load_after_a_write_fetches_anew(cache: ReadCache) -> None:
    """A load that comes after a write does not wait for one from before it."""
    inner = []

    def fetch() -> tuple[object, int]:
        cache.invalidate("/a")
        inner.append(cache.load("/a", fetching("new"), forever))
        return "old", 7

    assert cache.load("/a", fetch, forever) == "old"
    assert inner == ["new"]
    assert cache.get("/a") == "new"


class Held:
    """A fetch that waits until it is let go."""

    def __init__(self, outcome: object) -> None:
        self.called = threading.Event()
        self.let_go = threading.Event()
        self._outcome = outcome

    def __call__(self) -> tuple[object, int]:
        """Wait, then give or raise what was set."""
        self.called.set()
        assert self.let_go.wait(20)
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome, 7


@pytest.fixture
def held() -> Iterator[Callable[[object], Held]]:
    """Give a maker of fetches that are let go in the end."""
    made = []

    def make(outcome: object) -> Held:
        made.append(Held(outcome))
        return made[-1]

    yield make
    for fetch in made:
        fetch.let_go.set()


def test_load_of_many_threads_fetches_once(
    cache: WatchedCache, held: Callable[[object], Held]
) -> None:
    """All get what the first one fetched."""
    fetch = held(["x"])
    first = started(cache.load, "/a", fetch, forever)
    assert fetch.called.wait(20)
    others = [started(cache.load, "/a", never, forever) for _ in range(7)]
    cache.wait_for_misses(8)
    fetch.let_go.set()
    results = [each.result() for each in (first, *others)]
    assert all(result is results[0] for result in results)
    assert cache.info()[:2] == (0, 8)


def test_load_by_a_thread_that_comes_late_fetches_nothing(cache: ReadCache) -> None:
    """Between its miss and its load, another thread may have stored the node."""
    store(cache, "/a", 1)
    assert cache.load("/a", never, forever) == 1


def test_load_of_another_path_does_not_wait(
    cache: WatchedCache, held: Callable[[object], Held]
) -> None:
    """A slow read holds up those of its own path only."""
    fetch = held(1)
    first = started(cache.load, "/a", fetch, forever)
    assert fetch.called.wait(20)
    assert cache.load("/b", fetching(2), forever) == 2
    fetch.let_go.set()
    assert first.result() == 1


def test_load_error_is_a_copy_for_each_thread_that_waited(
    cache: WatchedCache, held: Callable[[object], Held]
) -> None:
    """One exception object raised in many threads would mix up their tracebacks."""
    error = KeyNotFound("Key not found", code=100, key="/a", etcd_index=7)
    fetch = held(error)
    first = started(cache.load, "/a", fetch, forever)
    assert fetch.called.wait(20)
    others = [started(cache.load, "/a", never, forever) for _ in range(3)]
    cache.wait_for_misses(4)
    fetch.let_go.set()
    caught = []
    for each in (first, *others):
        with pytest.raises(KeyNotFound) as info:
            each.result()
        caught.append(info.value)
    assert caught[0] is error
    assert len({id(each) for each in caught}) == 4
    assert {(e.code, e.key, e.etcd_index, e.args) for e in caught} == {
        (100, "/a", 7, ("Key not found",))
    }


def test_load_interrupted_is_taken_over_by_one_that_waits(
    cache: WatchedCache, held: Callable[[object], Held]
) -> None:
    """One of those who waited fetches; all get what it brings."""
    fetch = held(KeyboardInterrupt())
    counted = threading.Semaphore(1)

    def once() -> tuple[object, int]:
        assert counted.acquire(blocking=False), "fetched twice"
        cache.wait_for_misses(3)  # they look for a place again
        return 5, 7

    first = started(cache.load, "/a", fetch, forever)
    assert fetch.called.wait(20)
    others = [started(cache.load, "/a", once, forever) for _ in range(3)]
    cache.wait_for_misses(4)
    fetch.let_go.set()
    with pytest.raises(KeyboardInterrupt):
        first.result()
    assert [each.result() for each in others] == [5, 5, 5]


# --- the rest ------------------------------------------------------------------------


def test_keep_decoded_stays_with_its_node(cache: ReadCache) -> None:
    """A decoded value is kept for the node it was made of, and goes with it."""
    node, other = ["1"], ["1"]
    store(cache, "/a", node)
    cache.keep_decoded("/a", other, "codec", 1)
    assert cache.hot["/a"].decoded is None
    cache.keep_decoded("/a", node, "codec", 1)
    assert cache.hot["/a"].decoded == ("codec", 1)
    store(cache, "/a", other)
    assert cache.hot["/a"].decoded is None


def test_keep_decoded_of_nothing_stored_keeps_nothing(cache: ReadCache) -> None:
    """A node that was dropped meanwhile does not come back."""
    cache.keep_decoded("/a", 1, "codec", 1)
    assert cache.hot == {}


def test_clear_forgets_entries_counts_and_reads_under_way(cache: ReadCache) -> None:
    """Nothing from before shows up after it."""
    store(cache, "/a", 1)
    cache.get("/a")
    read = cache.begin("/b")
    cache.clear()
    cache.end(read, [("/b", 2, None)], 7)
    assert cache.info() == CacheInfo(0, 0, 0, 1000, TTL)
    assert cache.get("/b") is None


def test_info_counts_hits_and_misses(cache: ReadCache) -> None:
    """Expired entries are counted as held, and are misses."""
    cache.load("/a", fetching(1), forever)
    cache.get("/a")
    cache.get("/a")
    cache.get("/x")
    assert cache.info() == CacheInfo(
        hits=2, misses=1, currsize=1, maxsize=1000, ttl=TTL
    )


def test_after_fork_starts_empty_with_a_lock_of_its_own(cache: ReadCache) -> None:
    """The lock may be held by a thread that is not there any more."""
    store(cache, "/a", 1)
    cache.begin("/b")
    cache._lock.acquire()
    cache.after_fork()
    assert cache.info() == CacheInfo(0, 0, 0, 1000, TTL)
    assert cache.load("/b", fetching(2), forever) == 2

"""The read cache under threads: what is under way when something is written.

Each race is arranged by holding an exchange at a gate; nothing sleeps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from operator import delitem, ior, setitem
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    EtcdMapping,
    ExchangeFailed,
    KeyNotFound,
    OutcomeUnknown,
)
from etcdmap.client.endpoint_health import Policy
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import WireTransport

from support.gates import GatedTransport, Timer, WatchedCache, started
from support.servers import newest

pytestmark = pytest.mark.etcd

Call: TypeAlias = "Callable[[EtcdMapping], Any]"

CACHE_TTL = 60.0
#: No second copies of requests, however long one is held.
CALM = Policy(first_delay=60.0, read_floor=60.0, write_floor=60.0)
ABSENT: Any = "absent"
CONTENT: dict[str, Any] = {"d": {"k": 1, "l": [1, 2], "e": {"f": {"g": "x"}}}, "z": 0}


@pytest.fixture(scope="module")
def etcd() -> Iterator[LocalCluster]:
    """Give a cluster of one member; which etcd makes no difference here."""
    with LocalCluster(binary=newest(), fsync=False) as cluster:
        yield cluster


@pytest.fixture
def timer() -> Timer:
    """Give the cache's clock, which stands still."""
    return Timer()


@pytest.fixture
def cache(timer: Timer) -> WatchedCache:
    """Give the cache."""
    return WatchedCache(CACHE_TTL, timer=timer)


@pytest.fixture
def gates() -> GatedTransport:
    """Give the transport, which can hold exchanges."""
    return GatedTransport(WireTransport())


@pytest.fixture
def endpoints(request: pytest.FixtureRequest, etcd: LocalCluster) -> list[str]:
    """Give one endpoint, or the same member by two names, which makes fences."""
    endpoints = list(etcd.endpoints)
    if getattr(request, "param", "plain") == "fenced":
        endpoints += [url.replace("127.0.0.1", "localhost") for url in endpoints]
    return endpoints


@pytest.fixture
def m(
    endpoints: list[str], gates: GatedTransport, cache: WatchedCache, prefix: str
) -> Iterator[EtcdMapping]:
    """Give a mapping with content; its cache is empty."""
    with make_client(
        endpoints, gates, cache=cache, max_stale=1000.0, policy=CALM
    ) as client:
        mapping = EtcdMapping(client=client, prefix=prefix)
        mapping.assign(CONTENT)
        mapping.cache_clear()
        yield mapping


@pytest.fixture
def others(etcd: LocalCluster, prefix: str) -> Iterator[EtcdMapping]:
    """Give the same mapping as another client has it."""
    with EtcdMapping(etcd.endpoints, prefix) as mapping:
        yield mapping


def requests_of(gates: GatedTransport, call: Callable[[], object]) -> int:
    """Count the requests that a call makes."""
    before = len(gates.requests)
    call()
    return len(gates.requests) - before


# --- reads of one key, by every way that leads to it -----------------------------


def read(m: EtcdMapping) -> Any:
    """Read the key of the races; a directory as a plain dict."""
    value = m.get("d/k", ABSENT)
    return value.to_dict() if isinstance(value, EtcdMapping) else value


READERS: dict[str, Call] = {
    "mapping": read,
    "sub": lambda m: read_below(m.sub("d")),
    "flat": lambda m: m.flat.get("d/k", ABSENT),
    "flat-of-sub": lambda m: m.sub("d").flat.get("k", ABSENT),
    "any": lambda m: read(m.using(consistency="any")),
    "timeout": lambda m: read(m.using(timeout=9)),
    "another-mapping": lambda m: read(EtcdMapping(client=m.client, prefix=m.prefix)),
    "other-root": lambda m: read_below(
        EtcdMapping(client=m.client, prefix=f"{m.prefix}/d")
    ),
}


def read_below(d: EtcdMapping) -> Any:
    """Read the same key from its directory."""
    value = d.get("k", ABSENT)
    return value.to_dict() if isinstance(value, EtcdMapping) else value


def path_of(m: EtcdMapping) -> str:
    """Give the absolute path of the key of the races."""
    return f"{m.prefix}/d/k"


#: Every way to write the key, or a directory above it, and what it reads as then.
WRITES = [
    pytest.param(lambda m: setitem(m, "d/k", 2), 2, id="setitem"),
    pytest.param(lambda m: m.set("d/k", 2, keep_ttl=True), 2, id="set-keep-ttl"),
    pytest.param(lambda m: setitem(m["d"], "k", 2), 2, id="item-of-item"),
    pytest.param(lambda m: setitem(m.flat, "d/k", 2), 2, id="flat"),
    pytest.param(lambda m: m.flat.pop("d/k"), ABSENT, id="flat-pop"),
    pytest.param(lambda m: delitem(m.flat, "d/k"), ABSENT, id="flat-del"),
    pytest.param(lambda m: m.flat.clear(), ABSENT, id="flat-clear"),
    pytest.param(lambda m: setitem(m, "d", {"k": 2}), 2, id="mapping"),
    pytest.param(lambda m: setitem(m, "d", {"x": 2}), ABSENT, id="mapping-without"),
    pytest.param(lambda m: setitem(m, "d", 5), ABSENT, id="value-over-directory"),
    pytest.param(lambda m: setitem(m, "d/k", {"x": 2}), {"x": 2}, id="mapping-over"),
    pytest.param(lambda m: m.update({"d/k": 2}), 2, id="update"),
    pytest.param(lambda m: ior(m.sub("d"), {"k": 2}), 2, id="ior"),
    pytest.param(lambda m: m.assign({"d": {"k": 2}}), 2, id="assign"),
    pytest.param(lambda m: m.clear(), ABSENT, id="clear"),
    pytest.param(lambda m: m.sub("d").clear(), ABSENT, id="clear-sub"),
    pytest.param(lambda m: m.replace("d/k", 2), 2, id="replace"),
    pytest.param(lambda m: m.compare_and_swap("d/k", 1, 2), 2, id="swap"),
    pytest.param(lambda m: m.compare_and_delete("d/k", 1), ABSENT, id="cas-delete"),
    pytest.param(lambda m: m.transform("d/k", lambda n: n + 1), 2, id="transform"),
    pytest.param(lambda m: delitem(m, "d/k"), ABSENT, id="del"),
    pytest.param(lambda m: delitem(m, "d"), ABSENT, id="del-directory"),
    pytest.param(lambda m: m.pop("d/k"), ABSENT, id="pop"),
    pytest.param(lambda m: m.pop("d"), ABSENT, id="pop-directory"),
    pytest.param(lambda m: [m.popitem(), m.popitem()], ABSENT, id="popitem"),
    pytest.param(lambda m: m.keys_api.set(path_of(m), "2"), 2, id="api-set"),
    pytest.param(
        lambda m: m.keys_api.set(path_of(m), dir=True), {}, id="api-directory"
    ),
    pytest.param(lambda m: m.keys_api.delete(path_of(m)), ABSENT, id="api-delete"),
    pytest.param(
        lambda m: m.keys_api.delete(f"{m.prefix}/d", recursive=True),
        ABSENT,
        id="api-delete-directory",
    ),
]


#: One for each way to tell the cache: of a key, of all below one, of many, in the end.
FEW = [
    write
    for write in WRITES
    if write.id
    in (
        *("setitem", "set-keep-ttl", "value-over-directory", "mapping", "update"),
        *("clear", "cas-delete", "pop-directory", "api-set", "api-delete-directory"),
    )
]


@pytest.mark.parametrize("endpoints", ["plain", "fenced"], indirect=True)
@pytest.mark.parametrize(("write", "expected"), WRITES)
def test_write_of_any_kind_is_seen_by_all_at_once(
    m: EtcdMapping, write: Call, expected: Any
) -> None:
    """What is cached is forgotten, whichever way it was written or is read."""
    assert {name: reader(m) for name, reader in READERS.items()} == dict.fromkeys(
        READERS, 1
    )
    write(m)
    found = {name: reader(m) for name, reader in READERS.items()}
    plain = ABSENT if isinstance(expected, dict) else expected
    assert found == {
        name: plain if name.startswith("flat") else expected for name in READERS
    }


@pytest.mark.parametrize("endpoints", ["plain", "fenced"], indirect=True)
@pytest.mark.parametrize(("write", "expected"), FEW)
def test_slow_read_never_overwrites_a_newer_write(
    m: EtcdMapping, gates: GatedTransport, write: Call, expected: Any
) -> None:
    """A read that began before a write may bring the old value, but not store it."""
    with gates.holding(path_of(m)) as gate:
        slow = started(lambda: m["d/k"])
        gate.wait()
        write(m)
    assert slow.result() == 1
    assert read(m) == expected


@pytest.mark.parametrize(("write", "expected"), FEW)
def test_slow_listing_never_overwrites_a_newer_write(
    m: EtcdMapping, gates: GatedTransport, write: Call, expected: Any
) -> None:
    """A listing stores all that it brings; not what was written in between."""
    with gates.holding(f"{m.prefix}/d") as gate:
        slow = started(lambda: dict(m.sub("d").items()))
        gate.wait()
        write(m)
    assert slow.result()["k"] == 1
    assert read(m) == expected


@pytest.mark.parametrize(("write", "expected"), FEW[::3])
def test_slow_recursive_listing_never_overwrites_a_newer_write(
    m: EtcdMapping, gates: GatedTransport, write: Call, expected: Any
) -> None:
    """The same for a listing of the whole subtree, from far above."""
    with gates.holding(m.prefix) as gate:
        slow = started(m.flat.to_dict)
        gate.wait()
        write(m)
    assert slow.result()["d/k"] == 1
    assert read(m) == expected


@pytest.mark.parametrize(("write", "expected"), FEW)
def test_reader_after_a_write_never_joins_an_older_read(
    m: EtcdMapping, gates: GatedTransport, write: Call, expected: Any
) -> None:
    """A thread that comes after a write has ended gets what was written."""
    with gates.holding(path_of(m)) as gate:
        slow = started(lambda: m["d/k"])
        gate.wait()
        write(m)
        assert started(read, m).result() == expected
        assert slow.running
    assert slow.result() == 1
    assert read(m) == expected


def test_slow_read_from_before_a_directory_was_deleted_is_not_stored(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """Nor does what lay deep in a directory come back after its delete."""
    with gates.holding(f"{m.prefix}/d/e/f/g") as gate:
        slow = started(lambda: m["d/e/f/g"])
        gate.wait()
        del m["d/e"]
    assert slow.result() == "x"
    assert "d/e/f/g" not in m
    assert m.get("d/e") is None


def test_slow_read_of_a_directory_is_not_stored_after_its_delete(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """A directory that is gone is no longer there for `m[k]`."""
    with gates.holding(f"{m.prefix}/d") as gate:
        slow = started(lambda: m["d"])
        gate.wait()
        del m["d"]
    assert slow.result().prefix == f"{m.prefix}/d"
    assert m.get("d") is None


def test_slow_read_of_a_neighbour_is_stored(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """A write spoils the reads of its own key only, and of what is below it."""
    with gates.holding(f"{m.prefix}/d/k") as gate:
        slow = started(lambda: m["d/k"])
        gate.wait()
        m["d/k2"] = 5
        m["d/l"] = 6
    slow.result()
    assert requests_of(gates, lambda: m["d/k"]) == 0


def test_read_while_a_write_is_sent_gives_way_to_it(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """What is read and stored before the write is carried out goes with its end."""
    with gates.holding(path_of(m), "PUT", answered=False) as gate:
        writer = started(setitem, m, "d/k", 2)
        gate.wait()
        assert m["d/k"] == 1
    writer.result()
    assert m["d/k"] == 2


def test_slow_read_from_before_the_write_was_carried_out_is_not_stored(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """A read that overlaps a write from its sending to its answer is not stored."""
    with gates.holding(path_of(m), "PUT", answered=False) as sending:
        writer = started(setitem, m, "d/k", 2)
        sending.wait()
        with gates.holding(path_of(m)) as reading:
            slow = started(lambda: m["d/k"])
            reading.wait()
            sending.open()
            writer.result()
        assert slow.result() == 1
    assert m["d/k"] == 2


def test_slow_listing_never_overwrites_what_a_later_read_found(
    m: EtcdMapping, gates: GatedTransport, others: EtcdMapping
) -> None:
    """Reads do not go back in time, also where it was others who wrote."""
    with gates.holding(m.prefix) as gate:
        slow = started(lambda: dict(m.items()))
        gate.wait()
        others["z"] = 1
        assert m["z"] == 1
    assert slow.result()["z"] == 0
    assert m["z"] == 1


def test_write_whose_answer_was_lost_is_seen(
    etcd: LocalCluster, gates: GatedTransport, cache: WatchedCache, prefix: str
) -> None:
    """A write of unknown outcome invalidates as well: it may have been carried out."""
    with make_client(etcd.endpoints, gates, cache=cache) as client:
        m = EtcdMapping(client=client, prefix=prefix)
        m["k"] = 1
        assert m["k"] == 1
        with gates.holding(f"{prefix}/k", "PUT") as gate:
            writer = started(setitem, m, "k", 2)
            gate.wait()
            gate.open(ExchangeFailed("lost", sent=True))
            with pytest.raises(OutcomeUnknown):
                writer.result()
        assert m["k"] == 2


# --- concurrent misses ---------------------------------------------------------


def test_misses_of_one_key_at_a_time_make_one_request(
    m: EtcdMapping, gates: GatedTransport, cache: WatchedCache
) -> None:
    """The first thread asks, the others wait for it, whichever way they came.

    But for reads that take any answer: what those bring may be too old for others.
    """
    ways = [reader for name, reader in READERS.items() if name != "any"]
    with gates.holding(path_of(m)) as gate:
        readers = [started(reader, m) for reader in ways]
        cache.wait_for_misses(len(readers))
        gate.wait()
    assert [reader.result() for reader in readers] == [1] * len(ways)
    assert gates.reads_of(path_of(m)) == 1


def test_misses_of_an_absent_key_raise_an_error_of_their_own_each(
    m: EtcdMapping, gates: GatedTransport, cache: WatchedCache
) -> None:
    """One request; each thread gets a KeyError with the key as it spelt it."""
    calls: dict[str, Callable[[], Any]] = {
        "d/no": lambda: m["d/no"],
        "no": lambda: m.sub("d")["no"],
        "e/no": lambda: EtcdMapping(client=m.client, prefix=f"{m.prefix}/d")["e/no"],
    }
    m.keys_api.delete(f"{m.prefix}/d/e", recursive=True)
    with gates.holding(f"{m.prefix}/d/no") as gate:
        readers = {key: started(call) for key, call in calls.items() if key != "e/no"}
        readers["flat"] = started(lambda: m.flat["d/no"])
        cache.wait_for_misses(len(readers))
        gate.wait()
    errors = []
    for key, reader in readers.items():
        with pytest.raises(KeyNotFound) as caught:
            reader.result()
        assert caught.value.args == ("d/no" if key == "flat" else key,)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == len(readers)
    assert {error.key for error in errors} == {f"{m.prefix}/d/no"}
    assert gates.reads_of(f"{m.prefix}/d/no") == 1


def test_misses_with_defaults_of_an_absent_key_give_their_own(
    m: EtcdMapping, gates: GatedTransport, cache: WatchedCache
) -> None:
    """`get` of a key that is absent gives each thread the default it asked for."""
    with gates.holding(f"{m.prefix}/no") as gate:
        readers = [started(m.get, "no", n) for n in range(4)]
        cache.wait_for_misses(4)
        gate.wait()
    assert [reader.result() for reader in readers] == [0, 1, 2, 3]


# --- one request for many keys -------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(dict, id="dict"),
        pytest.param(lambda m: dict(m.flat), id="dict-flat"),
        pytest.param(lambda m: dict(m.sub("d/e").flat), id="dict-flat-of-sub"),
        pytest.param(lambda m: [m[key] for key in m], id="loop"),
        pytest.param(lambda m: [m.get(key) for key in reversed(m)], id="loop-reversed"),
        pytest.param(lambda m: [key in m for key in m], id="loop-in"),
    ],
)
def test_listing_primes_what_is_asked_for_next(
    m: EtcdMapping, gates: GatedTransport, call: Call
) -> None:
    """A listing brings all values below it, so asking for them costs nothing."""
    assert requests_of(gates, lambda: call(m)) == 1


def test_dict_of_mapping_with_deep_names_is_one_request(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """However deep a mapping stands, and whatever its keys are."""
    deep = EtcdMapping(
        client=m.client,
        prefix="/".join([m.prefix, *"abcdefgh"]),
        escape_keys=True,
    )
    content = {"a/b": 1, "": 2, "_h": 3, "ü#?": 4, "..": 5}
    deep.update(content)
    assert requests_of(gates, lambda: dict(deep)) == 1
    assert dict(deep) == content


def test_listing_primes_directories(m: EtcdMapping, gates: GatedTransport) -> None:
    """A directory that was listed is one without asking."""
    list(m)
    assert requests_of(gates, lambda: m["d"]) == 0


# --- what counts how long --------------------------------------------------------


def test_foreign_write_is_seen_when_the_entry_has_expired(
    m: EtcdMapping, others: EtcdMapping, timer: Timer
) -> None:
    """What others write shows up within the cache's ttl, not before."""
    assert m["d/k"] == 1
    others["d/k"] = 2
    timer.now += CACHE_TTL - 0.001
    assert m["d/k"] == 1
    timer.now += 0.001
    assert m["d/k"] == 2


def test_absent_key_is_asked_for_each_time(
    m: EtcdMapping, others: EtcdMapping, gates: GatedTransport
) -> None:
    """Absence is not cached: a key that appears is seen at once."""
    assert requests_of(gates, lambda: [m.get("x"), m.get("x"), "x" in m]) == 3
    others["x"] = 1
    assert m["x"] == 1


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda m: m["t"], id="read"),
        pytest.param(lambda m: list(m.items()), id="listed"),
        pytest.param(lambda m: m.flat.to_dict(), id="listed-whole"),
    ],
)
def test_entry_never_outlives_the_ttl_of_its_key(
    m: EtcdMapping, gates: GatedTransport, timer: Timer, first: Call
) -> None:
    """etcd rounds a ttl up by less than a second, so that second is left out."""
    m.set("t", 1, ttl=5)
    first(m)
    timer.now += 3
    assert requests_of(gates, lambda: m["t"]) == 0
    timer.now += 1
    assert requests_of(gates, lambda: m["t"]) == 1


def test_refresh_makes_the_entry_anew(
    m: EtcdMapping, gates: GatedTransport, timer: Timer
) -> None:
    """A key that gets a shorter ttl is not kept for the longer one."""
    assert m["d/k"] == 1
    m.refresh("d/k", 3)
    assert m["d/k"] == 1
    timer.now += 2
    assert requests_of(gates, lambda: m["d/k"]) == 1


# --- what is handed out ------------------------------------------------------------


@pytest.mark.parametrize(
    "get",
    [
        pytest.param(lambda m: m["d/l"], id="getitem"),
        pytest.param(lambda m: m.flat["d/l"], id="flat"),
        pytest.param(lambda m: dict(m.sub("d").items())["l"], id="items"),
        pytest.param(lambda m: m.setdefault("d/l", 0), id="setdefault"),
    ],
)
def test_list_is_handed_out_as_a_copy(m: EtcdMapping, get: Call) -> None:
    """Changing what was read changes nothing, for nobody."""
    for _ in range(2):
        value = get(m)
        value.append(3)
    assert m["d/l"] == [1, 2]


def test_object_of_the_json_codec_is_handed_out_as_a_copy(m: EtcdMapping) -> None:
    """The same for what another codec makes."""
    m.keys_api.set(f"{m.prefix}/o", '{"a":[1]}')
    view = m.using(codec="json")
    view["o"]["a"].append(2)
    view["o"]["b"] = 1
    assert view["o"] == {"a": [1]}


def test_codecs_share_entries_but_not_values(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """A cached text is read by each codec in its own way."""
    text = m.using(codec="text")
    assert requests_of(gates, lambda: m["d/k"]) == 1
    assert [m["d/k"], text["d/k"], m["d/k"], text["d/k"]] == [1, "1", 1, "1"]
    assert gates.reads_of(path_of(m)) == 1


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m["z"], id="getitem"),
        pytest.param(lambda m: m.flat["z"], id="flat"),
        pytest.param(list, id="listing"),
    ],
)
def test_read_of_any_consistency_is_stored_for_nobody(
    m: EtcdMapping, gates: GatedTransport, call: Call
) -> None:
    """It may be older than others may see; what they stored is good enough for it."""
    lax = m.using(consistency="any")
    call(lax)
    assert requests_of(gates, lambda: m["z"]) == 1
    assert requests_of(gates, lambda: lax["z"]) == 0


def test_linearizable_read_passes_the_cache_by(
    m: EtcdMapping, others: EtcdMapping, gates: GatedTransport
) -> None:
    """The cluster is asked each time, and what others wrote is seen."""
    assert m["d/k"] == 1
    others["d/k"] = 2
    view = m.using(consistency="linearizable")
    assert requests_of(gates, lambda: [view["d/k"], view.flat["d/k"]]) == 2
    assert view["d/k"] == 2
    assert "quorum=true" in gates.requests[-1].target
    assert m["d/k"] == 1


# --- the cache itself ----------------------------------------------------------------


def test_cache_info_counts(m: EtcdMapping) -> None:
    """Hits, misses and sizes are told, by whichever view."""
    for _ in range(3):
        assert m["d/k"] == 1
    _ = "d/k" in m, m.get("x")
    assert m.sub("d").cache_info() == (3, 2, 1, 1000, CACHE_TTL)
    m.flat.cache_clear()
    assert m.cache_info() == (0, 0, 0, 1000, CACHE_TTL)


def test_cache_clear_makes_the_next_read_ask(
    m: EtcdMapping, others: EtcdMapping
) -> None:
    """Whoever knows that others wrote can have it now."""
    assert m["d/k"] == 1
    others["d/k"] = 2
    m.sub("z").cache_clear()
    assert m["d/k"] == 2


def test_cache_off_has_no_info(mapping: EtcdMapping) -> None:
    """Without a cache there is nothing to tell, and nothing to clear."""
    mapping.cache_clear()
    assert mapping.cache_info() is None


# --- fork


def forked(work: Callable[[], bool]) -> bool:
    """Run something in a forked child and tell whether it was true there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system does not fork"
)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_during_a_read_leaves_the_child_free(
    m: EtcdMapping, gates: GatedTransport
) -> None:
    """A child never waits for a thread that is in its parent only."""
    with gates.holding(path_of(m)) as gate:
        slow = started(lambda: m["d/k"])
        gate.wait()
        assert forked(lambda: m["d/k"] == 1)
    assert slow.result() == 1

"""Racing callers: no value is handed out twice, one wins, nothing is lost.

Threads with a mapping each, threads that share one, and processes.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeAlias

import pytest

from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

from support import racing
from support.racing import PATIENCE, ROUNDS, race_threads

THREADS = 8
PROCESSES = 4

Task: TypeAlias = "Callable[[EtcdMapping, int], Any]"
#: Runs a task many times at once, and gives what each gave.
Race: TypeAlias = "Callable[[Task], list[Any]]"


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Give processes for the races of this module, waiting."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        PROCESSES,
        mp_context=context,
        initializer=racing.join_race,
        initargs=(context.Barrier(PROCESSES),),
    ) as pool:
        yield pool


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    """Let threads take turns much more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture(params=["threads", "one-mapping", "processes"])
def race(
    request: pytest.FixtureRequest,
    etcd: LocalCluster,
    mapping: EtcdMapping,
    processes: ProcessPoolExecutor,
) -> Iterator[Race]:
    """Give a race on the directory of `mapping`."""
    if request.param == "processes":
        yield partial(run_processes, processes, list(etcd.endpoints), mapping.prefix)
        return
    count = 1 if request.param == "one-mapping" else THREADS
    opened = [open_mapping(etcd, mapping.prefix) for _ in range(count)]
    yield partial(run_threads, opened * (THREADS // count))
    for each in opened:
        each.close()


def open_mapping(
    cluster: LocalCluster, prefix: str, first: int = 0, **options: Any
) -> EtcdMapping:
    """Give a mapping that waits long enough for a busy machine."""
    endpoints = [*cluster.endpoints[first:], *cluster.endpoints[:first]]
    return EtcdMapping(endpoints, prefix=prefix, timeout=PATIENCE, **options)


def run_threads(mappings: list[EtcdMapping], task: Task) -> list[Any]:
    """Race with a thread for each mapping."""
    return race_threads([partial(task, m, who) for who, m in enumerate(mappings)])


def run_processes(
    pool: ProcessPoolExecutor, endpoints: list[str], prefix: str, task: Task
) -> list[Any]:
    """Race with all processes."""
    futures = [
        pool.submit(racing.run_child, task, endpoints, prefix, who)
        for who in range(PROCESSES)
    ]
    return [future.result(PATIENCE) for future in futures]


def test_setdefault_racing_callers_agree_on_one_value(
    mapping: EtcdMapping, race: Race
) -> None:
    """All callers get the value of the one who won, which is the one stored."""
    given = race(racing.set_defaults)
    stored = [mapping[f"k{n}"] for n in range(ROUNDS)]
    assert given == [stored] * len(given)
    assert set(stored) <= set(range(len(given)))


def test_setdefault_racing_mappings_are_filled_by_one(
    mapping: EtcdMapping, race: Race
) -> None:
    """A directory is filled by whoever made it; all callers stand on it."""
    given = race(racing.set_default_mappings)
    expected = [f"{mapping.prefix}/k{n}" for n in range(ROUNDS)]
    assert all(each == expected for each in given)
    for content in mapping.to_dict().values():
        assert content == {"a": content["a"], "b": {"c": content["a"]}}


def test_pop_racing_callers_get_each_value_once(
    mapping: EtcdMapping, race: Race
) -> None:
    """Of many who pop a key, one gets the value and the others the default."""
    mapping.update({f"k{n}": f"v{n}" for n in range(ROUNDS)})
    popped = [value for each in race(racing.pop_all) for value in each]
    assert sorted(popped) == sorted(f"v{n}" for n in range(ROUNDS))
    assert mapping == {}


def test_popitem_racing_callers_get_each_pair_once(
    mapping: EtcdMapping, race: Race
) -> None:
    """All pairs are handed out, each to one caller."""
    content = {f"k{n}": f"v{n}" for n in range(3 * ROUNDS)}
    mapping.update(content)
    popped = [pair for each in race(racing.pop_items) for pair in each]
    assert len(popped) == len(content)
    assert dict(popped) == content
    assert mapping == {}


def test_slot_between_producers_and_consumers_loses_nothing(
    mapping: EtcdMapping, race: Race
) -> None:
    """What is put in by `setdefault` and taken by `pop` arrives, and arrives once."""
    given = race(racing.hand_over)
    produced = [value for each in given[::2] for value in each]
    consumed = [value for each in given[1::2] for value in each]
    assert Counter(consumed) == Counter(produced)
    assert "slot" not in mapping


def test_slot_over_three_members_loses_nothing(
    etcd3: LocalCluster, prefix: str
) -> None:
    """The same holds when the callers use different members."""
    mappings = [
        open_mapping(etcd3, prefix, first=n % 3, shuffle=False) for n in range(4)
    ]
    given = run_threads(mappings, racing.hand_over)
    for each in mappings:
        each.close()
    produced = [value for each in given[::2] for value in each]
    consumed = [value for each in given[1::2] for value in each]
    assert Counter(consumed) == Counter(produced)


def write_and_read(mapping: EtcdMapping, who: int) -> list[str]:
    """Use every kind of method on keys of one's own; give what was wrong."""
    wrong = []
    mine = mapping.sub(f"t{who}")
    for n in range(5):
        mine["a"] = n
        if mine["a"] != n or "a" not in mine or mapping[f"t{who}/a"] != n:
            wrong.append(f"a value of round {n}")
        mine["d"] = {"x": n, "y": {"z": [who]}}
        if mine["d"].to_dict() != {"x": n, "y": {"z": [who]}}:
            wrong.append(f"a mapping of round {n}")
        mine.update(b=n, c=str(n))
        if list(mine.items())[1:3] != [("b", n), ("c", str(n))]:
            wrong.append(f"an update of round {n}")
        if (mine.pop("b"), mine.get("b", "none")) != (n, "none"):
            wrong.append(f"a pop of round {n}")
    return wrong


def test_one_mapping_shared_by_threads_serves_each(
    etcd: LocalCluster, mapping: EtcdMapping
) -> None:
    """Each of many threads sees its own writes through one mapping."""
    with open_mapping(etcd, mapping.prefix) as shared:
        wrong = run_threads([shared] * THREADS, write_and_read)
    assert wrong == [[]] * THREADS
    assert mapping.to_dict() == {
        f"t{who}": {"a": 4, "c": "4", "d": {"x": 4, "y": {"z": [who]}}}
        for who in range(THREADS)
    }

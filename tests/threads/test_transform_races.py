"""Racing `transform` and `append`: no update is lost, no item is taken twice.

Threads with a mapping each, threads that share one, also with a cache, threads whose
writes are fenced (the same member by two names makes them so), and processes.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeAlias

import pytest

from etcdmap import EtcdMapping
from etcdmap.cache import ReadCache
from etcdmap.client.endpoint_health import Policy
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import WireTransport

from support import racing, racing_transforms
from support.racing import PATIENCE, race_threads
from support.racing_transforms import TURNS

THREADS = 8
#: No second copies of requests: where one is not answered, a pop must say that its
#: outcome is unknown.
CALM = Policy(first_delay=60.0, read_floor=60.0, write_floor=60.0)
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


@pytest.fixture(params=["threads", "one-mapping", "one-cache", "fenced", "processes"])
def race(
    request: pytest.FixtureRequest,
    etcd: LocalCluster,
    mapping: EtcdMapping,
    processes: ProcessPoolExecutor,
) -> Iterator[Race]:
    """Give a race on the directory of `mapping`."""
    endpoints, prefix = list(etcd.endpoints), mapping.prefix
    if request.param == "processes":
        yield partial(run_processes, processes, endpoints, prefix)
        return
    if request.param == "fenced":
        endpoints += [url.replace("127.0.0.1", "localhost") for url in endpoints]
    shared = request.param.startswith("one-")
    clients = [
        make_client(
            endpoints,
            WireTransport(),
            cache=ReadCache(60.0) if request.param == "one-cache" else None,
            policy=CALM,
        )
        for _ in range(1 if shared else THREADS)
    ]
    mappings = [EtcdMapping(client=client, prefix=prefix) for client in clients]
    yield partial(run_threads, mappings * (THREADS if shared else 1))
    for client in clients:
        client.close()


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


@pytest.mark.parametrize(
    ("task", "key"),
    [
        pytest.param(racing_transforms.count_up, "n", id="top"),
        pytest.param(racing_transforms.count_up_below, "a/b/n", id="path"),
    ],
)
def test_transform_racing_callers_lose_no_update(
    mapping: EtcdMapping, race: Race, task: Task, key: str
) -> None:
    """Each call counts once, and each caller sees the number that it made."""
    given = race(task)
    numbers = sorted(number for each in given for number in each)
    assert numbers == list(range(1, len(given) * TURNS + 1))
    assert mapping[key] == len(given) * TURNS
    assert all(each == sorted(each) for each in given)


def test_transform_racing_callers_lose_no_item_of_a_list(
    mapping: EtcdMapping, race: Race
) -> None:
    """What each puts at the end of a list is there once, in its order."""
    given = race(racing_transforms.extend_list)
    stored = mapping["l"]
    assert len(stored) == len(given) * TURNS
    for who, mine in enumerate(given):
        assert [item for item in stored if item[0] == who] == mine


def test_transform_racing_with_plain_swaps_loses_nothing(
    mapping: EtcdMapping, race: Race
) -> None:
    """Sums of many callers add up."""
    given = race(racing_transforms.swap_up)
    assert mapping["total"] == sum(given)


def test_append_racing_callers_get_keys_of_their_own(
    mapping: EtcdMapping, race: Race
) -> None:
    """No key is given twice, each holds its item, and each caller's are in order."""
    given = race(racing_transforms.append_all)
    pairs = [pair for each in given for pair in each]
    assert len(dict(pairs)) == len(pairs)
    assert mapping.to_dict() == dict(sorted(pairs))
    for each in given:
        assert [key for key, _ in each] == sorted(key for key, _ in each)


def test_append_and_pop_as_a_queue_hand_out_each_item_once(
    mapping: EtcdMapping, race: Race
) -> None:
    """Of what many put into a queue, each item is taken by one of those who take."""
    given = race(racing_transforms.work_queue)
    put = sorted(item for each, _ in given for item in each)
    taken = sorted(item for _, each in given for item in each)
    assert taken == put
    assert mapping == {}

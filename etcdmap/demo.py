"""The demo: a dict on three etcd members, one is killed; each step tells its cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from etcdmap.connect import make_client
from etcdmap.local import LocalCluster
from etcdmap.mapping import EtcdMapping
from etcdmap.transport import WireTransport

SERVICES = ("auth", "billing", "catalog", "gateway", "mail", "search", "shop", "users")
LOOPS = 400


class Counter(WireTransport):
    """A transport that counts its requests."""

    requests = 0

    def begin(self, *arguments: Any) -> Any:
        """See `Transport.begin`."""
        self.requests += 1
        return super().begin(*arguments)


def run_demo(binary: str | os.PathLike[str] | None = None) -> None:
    """Run all steps against a cluster of its own and print them."""
    counter = Counter()
    report = _Report(counter)
    with closing(LocalCluster(members=3, binary=binary)) as cluster:
        with report.step("start 3 members of etcd") as note:
            cluster.start()
            note(f"etcd {cluster.version}")
        with make_client(_followers_first(cluster), counter, shuffle=False) as client:
            config = EtcdMapping(client=client, prefix="/demo")
            _show(config, cluster, report)
            print("\nThe tree, cut short:\n")
            print("\n".join(["/demo", *_draw(config.to_dict())]))
    print(f"\n{report.errors} errors seen by the program that uses the dict.")


def _show(config: EtcdMapping, cluster: LocalCluster, report: _Report) -> None:
    original = example_config()
    with report.step("config['services'] = a nested dict") as note:
        config["services"] = original
        note(f"{_count(original)} keys")
    with report.step("loop over items(), top level") as note:
        note(f"{sum(1 for _ in config['services'].items())} directories")
    with report.step("config['services'] == the dict") as note:
        note(str(config["services"] == original))
    with report.step("config['services'] = the same dict again"):
        config["services"] = original
    with report.step("config['flags'].update(1,000 keys)") as note:
        config.sub("flags").update({f"flag-{n:03}": n % 3 == 0 for n in range(1000)})
        note(f"{len(config['flags'])} keys")
    _kill_in_a_loop(config, cluster, report)


def _kill_in_a_loop(
    config: EtcdMapping, cluster: LocalCluster, report: _Report
) -> None:
    victim = cluster.member(config.client.pinned)
    slowest = 0.0
    with report.step(f"write and read {LOOPS} times; kill the member in use") as note:
        for n in range(LOOPS):
            if n == LOOPS // 2:
                victim.kill()
            began = time.perf_counter()
            config["loop/n"] = n
            if config["loop/n"] != n:
                report.errors += 1
            slowest = max(slowest, time.perf_counter() - began)
        note(f"slowest turn {slowest * 1000:.0f} ms")
    with report.step(f"restart {victim.name}, which was killed") as note:
        victim.restart()
        note("healthy")
    with report.step("read all of it once more") as note:
        note(f"{_count(config.to_dict())} keys")


def example_config() -> dict[str, Any]:
    """Make a config of a few hundred keys such as a dozen services would share."""
    return {
        name: {
            "replicas": 2 + place % 3,
            "image": f"registry.example/{name}:1.{place}0",
            "limits": {"cpu": 0.5 + place / 4, "memory": f"{256 * (place + 1)}Mi"},
            "database": {
                "host": f"db-{place % 3}.example",
                "port": 5432,
                "pool": {"min": 1, "max": 10 + place, "timeout": 2.5},
            },
            "features": {f"feature-{n:02}": (n + place) % 2 == 0 for n in range(20)},
            "peers": [other for other in SERVICES if other != name],
            "routes": {f"v{n}": f"/api/v{n}/{name}" for n in range(1, 6)},
            "overrides": {},
        }
        for place, name in enumerate(SERVICES)
    }


def _followers_first(cluster: LocalCluster) -> list[str]:
    # The loop writes while a member dies.  Without the leader no member of a
    # cluster takes writes until a new one is elected, which takes 1 to 2 s.
    leader = cluster.leader().endpoint
    return sorted(cluster.endpoints, key=lambda endpoint: endpoint == leader)


def _count(tree: Mapping[str, Any]) -> int:
    return sum(_count(v) if isinstance(v, Mapping) else 1 for v in tree.values())


def _draw(tree: Mapping[str, Any], indent: str = "  ", most: int = 3) -> Iterator[str]:
    for name, value in list(tree.items())[:most]:
        if isinstance(value, Mapping):
            yield f"{indent}{name}/"
            yield from _draw(value, indent + "  ", most)
        else:
            yield f"{indent}{name} = {value!r}"
    if len(tree) > most:
        yield f"{indent}... and {len(tree) - most} more"


class _Report:
    """Prints a line for each step: its cost, its time, what came of it."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.errors = 0
        print(f"{'step':<56}{'requests':>9}{'seconds':>9}")

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the function given adds a remark to its line."""
        remarks: list[str] = []
        before = self._counter.requests
        began = time.perf_counter()
        yield remarks.append
        seconds = time.perf_counter() - began
        requests = self._counter.requests - before
        remark = f"  {remarks[0]}" if remarks else ""
        print(f"{title:<56}{requests:>9}{seconds:>9.2f}{remark}", flush=True)

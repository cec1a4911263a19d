"""What a hit of the cache costs, beside a dict and a request: run it with -m.

::

    python -m benchmarks.cache
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from etcdmap import EtcdMapping
from etcdmap.local import LocalCluster

#: The best of so many measurements counts: the machine does other things too.
REPEATS = 7


def seconds(call: Callable[[], object], number: int) -> float:
    """Measure one call."""
    return min(timeit.repeat(call, number=number, repeat=REPEATS)) / number


def main() -> None:
    """Start an etcd, measure, print."""
    plain = {f"k{n}": n for n in range(100)}
    with LocalCluster() as cluster:
        off = EtcdMapping(cluster.endpoints, prefix="/bench")
        on = EtcdMapping(cluster.endpoints, prefix="/bench", cache_ttl=3600)
        with off, on:
            off.assign(plain)
            lookup = seconds(lambda: plain["k50"], 200_000)
            hit = seconds(lambda: on["k50"], 100_000)
            request = seconds(lambda: off["k50"], 500)
            print(f"etcd {cluster.version}, one member on this machine")
            for what, took in (
                ("dict[k]", lookup),
                ("m[k], cached", hit),
                ("m[k], not cached", request),
            ):
                print(f"{what:17}{took * 1e9:10,.0f} ns {took / lookup:8,.0f} x")
            for name, mapping in (("off", off), ("on", on)):
                whole = seconds(lambda m=mapping: dict(m), 5)  # type: ignore[misc]
                print(f"dict(m) of 100 keys, cache {name:3} {whole * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()

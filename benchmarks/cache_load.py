"""The read cache under load: what many threads make of few keys.

    python -m benchmarks.cache_load [seconds]

32 threads read 100 keys in random order through one cache, on a member in memory that
takes a moment to answer.  4 threads write them, each its own: half of them over the
same client, half of them over another one, as other processes do.
Prints the figures, and fails where the cache broke a promise.
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parent.parent / "tests")
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from support.cache_load import Load, run_load  # noqa: E402  (once it can be found)


def main(seconds: float) -> int:
    """Run it, and give 1 if a promise was broken."""
    load = Load(seconds)
    figures = run_load(load)
    requests = sum(figures.requests.values())
    writes = sum(figures.writes.values())
    over = [k for k, n in figures.requests.items() if n > figures.allowed(k)]
    per_key = figures.seconds * load.keys
    print(
        f"{load.readers} readers, {load.writers} writers, {load.keys} keys, "
        f"cache_ttl {load.cache_ttl:g} s, {figures.seconds:.1f} s\n"
        f"reads                       {figures.reads:>10}\n"
        f"reads per second            {figures.reads / figures.seconds:>10.0f}\n"
        f"requests per key and second {requests / per_key:>10.2f}\n"
        f"writes per key and second   {writes / per_key:>10.2f}\n"
        f"keys over 1 + writes        {len(over):>10}\n"
        f"oldest value replaced for   {figures.oldest:>10.3f} s\n"
        f"slowest request             {figures.slowest:>10.3f} s\n"
        f"reads that were wrong       {len(figures.wrong):>10}"
    )
    late = figures.oldest > load.cache_ttl + figures.slowest
    return 1 if over or late or figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))

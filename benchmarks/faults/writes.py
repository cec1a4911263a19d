"""What clients that only write do: one kind of write in each loop."""

from __future__ import annotations

import functools

from benchmarks.faults.workloads import Seat, Stopped, pace, ticks

#: What a heartbeat's key lives for without it, seconds.
TTL = 4.0
#: Keys of a bulk write; of the first one, that warms up, where the others are large.
BULK, LARGE_BULK, SMALL_BULK = 2_000, 10_000, 100


def append(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Append to a directory."""
    values = seat.values()
    for _ in pace(rate, stopped):
        seat.do("append", f"{seat.client}-queue", next(values))


def create(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Create keys that nobody else knows."""
    values = seat.values()
    for number in pace(rate, stopped):
        seat.do("create", f"{seat.client}-{number}", next(values))


def mkdir(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Make directories that nobody else knows."""
    for number in pace(rate, stopped):
        seat.do("mkdir", f"{seat.client}-{number}")


def swap(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Compare a key with its last value and swap it; look again when refused."""
    key, values = f"{seat.client}-0", seat.values()
    known: str | None = None
    for _ in pace(rate, stopped):
        value = next(values)
        kind = "create" if known is None else "cas"
        op = seat.do(kind, key, value, known)  # type: ignore[arg-type]
        if op.outcome == "ok":
            known = value
        elif op.outcome == "refused":  # not when unknown: a read might lead elsewhere
            known = seat.do("get", key).value


def put(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Set own keys as they are, in turn, whatever they have."""
    keys, values = seat.own_keys(), seat.values()
    for number in pace(rate, stopped):
        key, value = keys[number % len(keys)], next(values)
        seat.do("set", key, value, call=functools.partial(seat.subject.put, key, value))


def beat(seat: Seat, rate: float, stopped: Stopped) -> None:
    """Set a key that expires, and keep it from doing so; set it again if it did."""
    key, values = f"{seat.client}-0", seat.values()
    there = False
    for _ in pace(rate, stopped):
        if there:
            renew = functools.partial(seat.subject.refresh, key, TTL)
            there = seat.do("refresh", key, call=renew).outcome != "refused"
        else:
            value = next(values)
            lease = functools.partial(seat.subject.lease, key, value, TTL)
            there = seat.do("set", key, value, call=lease).outcome == "ok"


def bulk(seat: Seat, rate: float, stopped: Stopped, *, large: bool = False) -> None:
    """Write many keys in one call, the same ones each time.

    All clients begin at the same moments, so that a fault meets each of them in a call.
    """
    for number in ticks(rate, stopped):
        size = (LARGE_BULK if number else SMALL_BULK) if large else BULK
        values = {
            f"{seat.client}/{n:05}": f"{seat.client}.{number}.{n}" for n in range(size)
        }
        templates = [seat.template("set", key, value) for key, value in values.items()]
        seat.recorder.run_all(
            functools.partial(seat.subject.update, values),
            templates,
            lambda: seat.subject.pinned,
        )


def bulk_large(seat: Seat, rate: float, stopped: Stopped) -> None:
    """The same with more of them."""
    bulk(seat, rate, stopped, large=True)

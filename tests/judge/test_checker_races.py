"""The judge of fault runs, on what threads really did to a register."""

from __future__ import annotations

import dataclasses
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.judge.checker import check
from benchmarks.faults.judge.history import Kind, Op, Outcome, Recorder, load
from benchmarks.faults.judge.linearize import step

KINDS: tuple[Kind, ...] = ("get", "set", "create", "cas", "delete")


class Register:
    """A register that does one thing at a time, and sometimes does not say so."""

    def __init__(self, rng: random.Random) -> None:
        self.values: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._rng = rng

    def apply(self, op: Op) -> str | None:
        """Do it; a KeyError is a refusal, a TimeoutError says nothing."""
        with self._lock:
            lost, silent = self._rng.random() < 0.03, self._rng.random() < 0.03
            state = self.values.get(op.key)
            if op.kind == "get":
                return state
            fits, after = step(op, state)
            if lost:
                raise TimeoutError
            if not fits:
                raise KeyError(op.key)
            self.values[op.key] = after
            if silent:
                raise TimeoutError
            return None


def use(register: Register, recorder: Recorder, client: str) -> None:
    """Do all kinds of things to two keys."""
    rng = random.Random(client)
    known: str | None = None
    for number in range(150):
        kind = rng.choice(KINDS)
        if kind == "cas" and known is None:
            kind = "get"
        value = f"{client}.{number}" if kind in ("set", "create", "cas") else None
        expected = known if kind == "cas" else None
        key = rng.choice("xy")
        template = Op(client, kind, key, 0, 0, value=value, expected=expected)
        op = dataclasses.replace(template, level="linearizable")
        known = recorder.run(lambda op=op: register.apply(op), op).value or known  # type: ignore[misc]


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have threads change places often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def record_threads(path: Path, seed: int, threads: int) -> list[Op]:
    """Have threads use one register, and give their history."""

    def judge(op: Op, error: Exception) -> Outcome:
        return "refused" if isinstance(error, KeyError) else "unknown"

    register = Register(random.Random(seed))
    recorder = Recorder(path, judge)
    users = [
        threading.Thread(target=use, args=(register, recorder, f"{seed}-{n}"))
        for n in range(threads)
    ]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    recorder.close()
    return load([path])


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_register_under_threads_passes(tmp_path: Path, seed: int) -> None:
    """Whatever threads do to a register at the same time has an order."""
    report = check(record_threads(tmp_path / "history.jsonl", seed, 1 + seed))
    assert report.clean, report.examples


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_register_with_an_older_value_swapped_in_is_caught(
    tmp_path: Path, seed: int
) -> None:
    """One read of a value that was surely replaced spoils a whole history."""
    ops = record_threads(tmp_path / "history.jsonl", seed, 3)
    rng = random.Random(seed)
    reads = [op for op in ops if surely_old(ops, op)]
    for read in rng.sample(reads, 3):
        value = rng.choice(surely_old(ops, read))
        bad = dataclasses.replace(read, value=value)
        assert not check([bad if op is read else op for op in ops]).clean


def surely_old(ops: list[Op], read: Op) -> list[str | None]:
    """Give the values that others had replaced for good when a read began."""
    if not read.reads:
        return []
    sets = [op for op in ops if op.key == read.key and op.kind == "set"]
    done = [op for op in sets if op.outcome == "ok" and op.end < read.start]
    newest = max(done, key=lambda op: op.start, default=None)
    if newest is None:
        return []
    return [op.value for op in done if op.end < newest.start]

"""Histories: one record per operation, as the client that called it saw it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

#: ``cas`` without a value deletes: compare-and-delete.  The last three are nothing that
#: a register can do: an in-order create, an empty directory, a ttl renewed.
Kind = Literal["get", "set", "create", "cas", "delete", "append", "mkdir", "refresh"]
#: ``refused``: the cluster looked, and the condition did not hold (a create of what is
#: there, a delete of what is not).  ``failed``: certainly without effect.
Outcome = Literal["ok", "refused", "unknown", "failed"]
#: What a read promises; see `checker`.
Level = Literal["linearizable", "session", "any"]


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        client: whose session it belongs to.  Threads that share a client object share
            its session.
        kind: what was called.
        key: on which key.
        start: when the call began: `time.monotonic`, which all processes of a machine
            share.
        end: when it returned; infinity if it never did.
        outcome: what the caller was told.
        value: what was written, read or popped; None for absent.
        name: the key that an ``append`` made in the directory `key`.
        expected: what a ``cas`` compared with.
        error: the type of the exception raised, or "".
        detail: its message.
        thread: which of the client's threads called.
        endpoint: the member in use afterwards, if known.
        level: what was promised for this read.
        judged: whether the client under test called; others only make the world it
            lives in.
    """

    client: str
    kind: Kind
    key: str
    start: float
    end: float
    outcome: Outcome = "ok"
    value: str | None = None
    name: str = ""
    expected: str | None = None
    error: str = ""
    detail: str = ""
    thread: int = 0
    endpoint: str = ""
    level: Level = "session"
    judged: bool = True

    @property
    def writes(self) -> bool:
        """Whether it may change the key."""
        return self.kind != "get" and self.outcome in ("ok", "unknown")

    @property
    def acknowledged(self) -> bool:
        """Whether it is a write that surely took effect."""
        return self.kind != "get" and self.outcome == "ok"

    @property
    def reads(self) -> bool:
        """Whether it is a read that got an answer."""
        return self.kind == "get" and self.outcome == "ok"

    def __str__(self) -> str:
        text = f"{self.client}.{self.thread} {self.kind} {self.key}"
        if self.kind == "cas":
            text += f" {self.expected!r} ->"
        if self.kind != "delete":
            text += f" {self.value!r}"
        return f"{text} {self.error or self.outcome} [{self.start:.4f}-{self.end:.4f}]"

    def to_json(self) -> str:
        """Give the record as one line, without what has its default."""
        fields = dataclasses.asdict(self)
        kept = {
            name: fields[name] for name in fields if fields[name] != _DEFAULTS[name]
        }
        if math.isinf(self.end):
            kept["end"] = None  # JSON has no infinity
        return json.dumps(kept)

    @classmethod
    def from_json(cls, line: str) -> Op:
        """Read what `to_json` gave."""
        fields = json.loads(line)
        if fields["end"] is None:
            fields["end"] = math.inf
        return cls(**fields)


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Op)}

#: The error of a key that a call for many keys came to an end before.
NOT_TRIED = "NotTried"

#: Tells from an exception what became of the operation that raised it.
Judge = Callable[[Op, Exception], Outcome]


class Recorder:
    """Records operations in a file that other processes may write to as well.

    Each record is one line, written with one system call at the end of the file, so
    that lines of several processes never mix and a killed process loses none.

    Args:
        path: the file; made if it is not there.
        judge: see `Judge`.
        clock: gives the time in seconds.

    Threads: any thread may record; so may a forked child.
    """

    def __init__(
        self, path: Path, judge: Judge, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._judge = judge
        self._clock = clock
        self._numbers = itertools.count()
        self._open: dict[int, Op] = {}
        self._lock = threading.Lock()

    def run(
        self,
        call: Callable[[], str | None],
        template: Op,
        endpoint: Callable[[], str] = str,
    ) -> Op:
        """Call an operation and record what came of it.

        Args:
            call: does it, and gives the value read, or the name appended; None
                otherwise, or if absent.
            template: the operation; its times and its outcome are filled in.
            endpoint: tells the member in use.
        """
        number = next(self._numbers)
        op = dataclasses.replace(template, start=self._clock(), end=math.inf)
        self._open[number] = op
        changes: dict[str, Any] = {}
        try:
            value = call()
        except Exception as exc:
            changes = self._raised(op, exc)
        else:
            if value is not None:
                changes = {"name" if op.kind == "append" else "value": value}
        changes["end"] = self._clock()
        op = dataclasses.replace(op, endpoint=endpoint(), **changes)
        self._record_ended(number, op)
        return op

    def run_all(
        self,
        call: Callable[[], Mapping[str, Exception | None]],
        templates: Sequence[Op],
        endpoint: Callable[[], str] = str,
    ) -> None:
        """Call one operation on many keys and record what came of each of them.

        Args:
            call: does it, and gives for each key that was not written the error met
                there; None if it was not tried.
            templates: what it does to each key.
            endpoint: tells the member in use.
        """
        start = self._clock()
        ops = [dataclasses.replace(op, start=start, end=math.inf) for op in templates]
        numbers = [next(self._numbers) for _ in ops]
        self._open.update(zip(numbers, ops, strict=True))
        try:
            missing = call()
        except Exception as exc:
            missing = dict.fromkeys((op.key for op in ops), exc)
        ended: dict[str, Any] = {"end": self._clock(), "endpoint": endpoint()}
        for number, op in zip(numbers, ops, strict=True):
            changes = self._raised(op, missing[op.key]) if op.key in missing else {}
            self._record_ended(number, dataclasses.replace(op, **ended, **changes))

    def _raised(self, op: Op, error: Exception | None) -> dict[str, Any]:
        if error is None:
            return {"outcome": "failed", "error": NOT_TRIED}
        return {
            "outcome": self._judge(op, error),
            "error": type(error).__name__,
            "detail": str(error)[:500],
        }

    def _record_ended(self, number: int, op: Op) -> None:
        # Whoever takes it out writes it down: `close` may be at it as well, and what
        # is written down twice looks like a value that was written twice.
        if self._open.pop(number, None) is not None:
            self.record(op)

    def record(self, op: Op) -> None:
        """Write down an operation that ended."""
        line = op.to_json().encode() + b"\n"
        with self._lock:  # for close()
            if self._fd >= 0:
                os.write(self._fd, line)

    def forget_open(self) -> None:
        """Drop the operations of other threads; for a child that was just forked."""
        self._open.clear()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Write down as unknown what has not returned, and close the file."""
        while self._open:
            try:
                _, op = self._open.popitem()
            except KeyError:  # it has returned just now
                break
            hung = dataclasses.replace(op, outcome="unknown", error="NeverReturned")
            self.record(hung)
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


def load(paths: Iterable[Path]) -> list[Op]:
    """Read files of records, in the order in which the operations began.

    A last line that is still being written is left out.
    """
    texts = [path.read_text(encoding="utf-8") for path in paths]
    ops = [Op.from_json(line) for text in texts for line in text.split("\n")[:-1]]
    return sorted(ops, key=lambda op: op.start)


def save(path: Path, ops: Iterable[Op]) -> None:
    """Write records to a file."""
    path.write_text("".join(op.to_json() + "\n" for op in ops), encoding="utf-8")

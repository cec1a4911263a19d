"""The process of those who follow: a live replica, and a watch beside it."""

from __future__ import annotations

import json
import logging
import threading
import time
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.judge.following import ANEW, Notes, Sample, Told
from benchmarks.faults.worker import stopper
from etcdmap import EtcdMapping, Event, WatchExpired
from etcdmap.errors import ClusterUnavailable, DeadlineExceeded

#: Seconds between two looks at what the replica shows.
_LOOK_EVERY = 0.005
#: For it to show at the end what is there.
_ARRIVES_IN = 20.0


class Assignment(NamedTuple):
    """Whom to follow, and how."""

    endpoints: tuple[str, ...]
    prefix: str
    max_stale: float
    notes: Path
    #: No process outlives this moment of `time.monotonic`.
    deadline: float


def follow(job: Assignment, stop: Signal) -> None:
    """Follow until told to stop; the target of a process."""
    stopped = stopper(job.deadline, stop)
    logging.getLogger("etcdmap").setLevel(logging.ERROR)
    told: list[Told] = []
    samples: list[Sample] = []
    with (
        EtcdMapping(
            job.endpoints, job.prefix, codec="text", shuffle=False, timeout=20.0
        ) as mapping,
        mapping.live(job.max_stale) as live,
    ):
        live.subscribe(lambda event: told.append(_told(event)), initial=True)
        watcher = _Watcher(mapping)
        job.notes.with_suffix(".begun").touch()
        while not stopped():
            before, stale_for, now = live.index(), live.stale_for, time.monotonic()
            shown = live.to_dict()
            if live.index() == before:  # else what was shown came between the two
                samples.append(Sample(now, stale_for, shown))
            time.sleep(_LOOK_EVERY)
        final = mapping.using(consistency="linearizable").snapshot()
        arrived = live.wait(final.index, _ARRIVES_IN)
        watched = watcher.end(final.index)
        arrived = arrived and live.to_dict() == final.value
    notes = Notes(told, watched, samples, final.value, arrived)
    job.notes.write_text(json.dumps(notes), encoding="utf-8")


def read_notes(path: Path) -> Notes:
    """Read what a process has written down."""
    live, watch, samples, final, arrived = json.loads(path.read_text(encoding="utf-8"))
    return Notes(
        [Told(*each) for each in live],
        [Told(*each) for each in watch],
        [Sample(*each) for each in samples],
        final,
        arrived,
    )


def _told(event: Event) -> Told:
    return Told(time.monotonic(), *event[:5], event.coalesced)


class _Watcher:
    """A watch in a thread; where it expires it is begun anew, from a snapshot."""

    def __init__(self, mapping: EtcdMapping) -> None:
        self._mapping = mapping
        self._told: list[Told] = []
        self._until = float("inf")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self, index: int) -> list[Told]:
        """Wait until all up to an index was told; return it."""
        self._until = index
        self._thread.join(_ARRIVES_IN)
        return self._told

    def _work(self) -> None:
        while True:
            try:
                snapshot = self._mapping.using(consistency="linearizable").snapshot()
            except (ClusterUnavailable, DeadlineExceeded):
                continue
            now = time.monotonic()
            self._told.append(Told(now, ANEW, "", None, None, snapshot.index, False))
            for key, value in snapshot.value.items():
                told = Told(now, "set", key, value, None, snapshot.index, True)
                self._told.append(told)
            try:
                self._watch(snapshot.index)
                return
            except WatchExpired:
                pass

    def _watch(self, after: int) -> None:
        with self._mapping.watch(after=after, timeout=0.5) as watch:
            while watch.index < self._until:
                for event in watch:
                    self._told.append(_told(event))
                    if event.index >= self._until:
                        return
                if self._until < float("inf"):  # its last event was elsewhere, perhaps
                    return

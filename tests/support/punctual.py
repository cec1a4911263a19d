"""Whether something ends in time, on a machine that may be busy with something else.

A second thread does nothing but wait for a moment, again and again.  By how much it is
late is the machine's doing, and is not held against what is measured.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

#: How late a call may end, beyond its timeout; seconds.
GRACE = 0.2
_MOMENT = 0.005


class Punctual:
    """A block that has to end in so many seconds, and `GRACE`.

    Attributes:
        seconds: how long it took.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._late = 0.0
        self._over = threading.Event()
        self.seconds = 0.0

    def __enter__(self) -> Punctual:
        self._thread = threading.Thread(target=self._look_at_the_machine, daemon=True)
        self._thread.start()
        self._start = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._start
        self._over.set()
        self._thread.join()
        if error is None:
            assert self.seconds < self._timeout + GRACE + self._late

    def _look_at_the_machine(self) -> None:
        before = time.monotonic()
        while not self._over.wait(_MOMENT):
            now = time.monotonic()
            self._late = max(self._late, now - before - _MOMENT)
            before = now

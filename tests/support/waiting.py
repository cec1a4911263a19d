"""Wait for what another process or thread does, not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable


def soon(true: Callable[[], object], seconds: float = 20.0) -> bool:
    """Wait until something is true; tell whether it is."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True

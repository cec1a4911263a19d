"""Real clusters, real faults, and a client in the middle.

    python -m benchmarks.faults --help

from a checkout with `pip install -e ".[server,test]"`.  The cluster whose members can
be cut off is shared with the tests, hence the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

"""The tests of the judge of fault runs find it in `benchmarks`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if (ROOT / "benchmarks").exists():
    sys.path.append(str(ROOT))  # last: the etcdmap that is tested is the installed one
else:  # they are in the repository only
    collect_ignore_glob = ["test_*.py"]

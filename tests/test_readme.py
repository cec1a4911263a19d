"""The README's example does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.etcd
def test_readme_example_runs(etcd_version: str) -> None:
    """The first example of the README runs as it stands, on a real cluster."""
    fences = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    assert len(fences) == 1
    exec(compile(fences[0], "README.md", "exec"), {})  # noqa: S102

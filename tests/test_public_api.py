"""What `import etcdmap` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import metadata, resources
from types import ModuleType

import pytest

import etcdmap
import etcdmap.errors

EXPORTS = list(etcdmap.__all__)


def sort_key(name: str) -> tuple[int, str]:
    """Order names as ruff's RUF022 does: constants, classes, the rest."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def test_all_is_sorted_without_repetition() -> None:
    """A name has one place in `__all__`, so two branches seldom collide there."""
    assert sorted(set(EXPORTS), key=sort_key) == EXPORTS


@pytest.mark.parametrize("name", EXPORTS)
def test_export_is_reachable_and_documented(name: str) -> None:
    """Every promised name exists, and every class and function says what it is."""
    value = getattr(etcdmap, name)
    assert name in dir(etcdmap)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)


def test_star_import_gives_exactly_the_exports() -> None:
    """`from etcdmap import *` works and brings nothing else."""
    namespace: dict[str, object] = {}
    exec("from etcdmap import *", namespace)  # noqa: S102
    assert set(namespace) - {"__builtins__"} == set(EXPORTS)


def test_public_names_are_all_exported() -> None:
    """What has no underscore and is not a module was meant to be public."""
    _ = etcdmap.EtcdMapping  # with the first one all names are there
    found = {
        name
        for name, value in vars(etcdmap).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").partition(".")[0] == "etcdmap"
    }
    assert found - set(EXPORTS) == set()


def test_every_exception_is_exported() -> None:
    """Whoever catches an error of ours finds its name at the top."""
    raised = {
        name
        for name, value in vars(etcdmap.errors).items()
        if inspect.isclass(value)
        and issubclass(value, etcdmap.errors.EtcdMapError)
        and not name.startswith("_")
    }
    assert raised - set(EXPORTS) == set()


@pytest.mark.parametrize(
    "first", ["etcdmap", "etcdmap.connecting", "etcdmap.mapping", "etcdmap.local"]
)
def test_names_are_there_whichever_module_comes_first(first: str) -> None:
    """Whatever was imported before, each name leads to the same object."""
    code = f"""if True:
        import {first}, etcdmap
        assert etcdmap.errors.KeyNotFound is etcdmap.KeyNotFound
        from etcdmap.connecting import connect
        assert etcdmap.connect is connect
        """
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


def test_package_is_marked_as_typed() -> None:
    """Type checkers of users read our annotations (PEP 561)."""
    assert resources.files("etcdmap").joinpath("py.typed").is_file()


def test_version_is_that_of_the_metadata() -> None:
    """`etcdmap.__version__` is there, and is seen, like that of other packages."""
    assert etcdmap.__version__ == metadata.version("etcdmap")
    assert "__version__" in dir(etcdmap)
    assert set(EXPORTS) < set(dir(etcdmap))


def test_version_not_installed_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout on the path of Python has no metadata, and still works."""

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert etcdmap.__version__ == "0+unknown"


def test_name_that_is_not_there_is_an_error_that_names_it() -> None:
    """What looks up the version answers for no other name."""
    with pytest.raises(AttributeError, match=r"'etcdmap' has no attribute 'Etcd'"):
        _ = etcdmap.Etcd  # type: ignore[attr-defined]

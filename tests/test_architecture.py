"""What `local` may import and who may import it.

The other rules about imports are contracts in pyproject.toml, for import-linter.  It
can't say these two: that a package stands beside the layers, and who its users are.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import etcdmap

PACKAGE = Path(etcdmap.__file__).parent
LOCAL_USERS = {"cli", "demo", "pytest_plugin"}


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file of the package."""
    parts = ["etcdmap", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, at any depth of its code."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # What follows `import` may be a module too.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_by_area() -> Iterator[tuple[str, str]]:
    """Yield (first name below etcdmap, imported name) over the whole package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        area = [*module_name(path).split("."), ""][1]
        for name in imported_names(path):
            yield area, name


def allowed_in_local(name: str) -> bool:
    """Tell whether `local` may import a module."""
    return f"{name}.".startswith(
        ("etcdmap.local.", "etcdmap.errors.")
    ) or name.partition(".")[0] in ({"__future__"} | sys.stdlib_module_names)


def test_local_imports_only_errors_and_the_standard_library() -> None:
    """The code that starts etcd for tests can't share a fault with what is tested."""
    found = {name for area, name in imports_by_area() if area == "local"}
    assert [name for name in sorted(found) if not allowed_in_local(name)] == []


def test_local_is_imported_by_its_three_users_only() -> None:
    """Nobody who uses a mapping loads code that starts processes."""
    users = {
        area
        for area, name in imports_by_area()
        if f"{name}.".startswith("etcdmap.local.")
    }
    assert users - {"local"} - LOCAL_USERS == set()

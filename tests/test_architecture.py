"""Who may import what, and that each layer speaks of nothing that is below it.

Most rules about imports are contracts in pyproject.toml, for import-linter.  It can't
say that a package stands beside the layers, nor who its users are.  And no import shows
what a layer speaks of: a dict that spells a query works over one API only.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import etcdmap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


def test_imports_for_the_types_count_like_others() -> None:
    """No module imports upward, not even where only a type checker looks."""
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    linter = settings["tool"]["importlinter"]
    assert not linter.get("exclude_type_checking_imports", False)
    layered = [c for c in linter["contracts"] if c["type"] == "layers"]
    assert [c["containers"] for c in layered] == [
        ["etcdmap"],
        ["etcdmap.connecting"],
        ["etcdmap.mapping"],
        ["etcdmap.v2"],
        ["etcdmap.client"],
    ]
    assert all(c["exhaustive"] and "ignore_imports" not in c for c in layered)


def test_top_of_the_package_is_read_at_once() -> None:
    """Who looks for a room sees few doors."""
    files = list(PACKAGE.glob("*.py"))
    packages = list(PACKAGE.glob("*/__init__.py"))
    assert (len(files) <= 14, len(packages) <= 7) == (True, True)


# --- what the layers speak of


def modules(*areas: str) -> list[Path]:
    """Return the files of packages and modules, by name below etcdmap."""
    found = []
    for area in areas:
        package = sorted((PACKAGE / area).rglob("*.py"))
        found += package or [PACKAGE / f"{area}.py"]
    return found


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """Return the texts in a module that document something."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def words_of(node: ast.AST) -> Iterator[object]:
    """Yield what a piece of code says: its names, texts and numbers."""
    if isinstance(node, ast.Constant):
        yield node.value
    elif isinstance(node, ast.ImportFrom):
        yield node.module
    else:
        for field in ("id", "attr", "arg", "name", "asname"):
            yield getattr(node, field, None)


def said(path: Path, *, prose: bool) -> Iterator[tuple[str, object]]:
    """Yield where a module says something, and what.

    Args:
        path: of the module.
        prose: whether docstrings count as well.
    """
    tree = ast.parse(path.read_bytes())
    passed_over = set() if prose else docstrings(tree)
    line = 0
    for node in ast.walk(tree):
        line = getattr(node, "lineno", line)
        if node not in passed_over:
            for word in words_of(node):
                yield f"{path.relative_to(PACKAGE)}:{line}", word


def texts_with(pattern: str, paths: list[Path], *, prose: bool) -> list[str]:
    """Find texts and names in modules, whatever their case."""
    search = re.compile(pattern, re.IGNORECASE).search
    return [
        f"{place}: {found[0]}"
        for path in paths
        for place, word in said(path, prose=prose)
        if isinstance(word, str) and (found := search(word))
    ]


#: How etcd's v2 API is spelt: its place, parameters and headers.
V2_SPELLING = (
    "v2|x-etcd|errorCode|prev_?(Exist|Index|Value)|wait_?Index|noValueOnSuccess"
    r"|(recursive|sorted|quorum|refresh|dir|wait)=(true|false)|quorum="
)


def test_mapping_and_waist_do_not_speak_v2() -> None:
    """Above the store nobody knows which API is spoken, in code or in prose."""
    assert texts_with(V2_SPELLING, modules("mapping", "tree"), prose=True) == []


def test_mapping_and_waist_hold_no_status_and_no_error_code() -> None:
    """What a refusal means is told by its class; a number above the store is a code."""
    numbers = [
        f"{place}: {word}"
        for path in modules("mapping", "tree")
        for place, word in said(path, prose=True)
        if type(word) is int and 100 <= word < 600
    ]
    assert numbers == []


def test_client_knows_no_api() -> None:
    """What an answer and a path mean comes with the request, and is not read here."""
    spelling = rf"{V2_SPELLING}|v3|/keys|headers|prefix"
    assert texts_with(spelling, modules("client"), prose=True) == []


def test_transport_knows_no_etcd() -> None:
    """It carries HTTP for whoever asks; only its advice and its prose name etcd."""
    etcd = "(?<!is it an )etcd(?!map)"
    assert texts_with(etcd, modules("transport"), prose=False) == []
    assert texts_with("v2|v3", modules("transport"), prose=True) == []


@pytest.mark.parametrize(
    "code",
    [
        "query = '?prevExist=false'",
        "spell(prevExist=False)",
        "spell(prev_index=5)",
        "store.v2",
        "from etcdmap.v2 import V2Store",
        "import etcdmap.v2",
        "answer.headers['x-etcd-index']",
        "f'/v2/keys{path}'",
        "if error.errorCode: pass",
        "def f():\n    'As v2 does it.'",
    ],
)
def test_v2_is_found_wherever_it_stands(code: str) -> None:
    """The rules above would see it: in texts, names, arguments, imports and prose."""
    search = re.compile(V2_SPELLING, re.IGNORECASE).search
    words = [word for node in ast.walk(ast.parse(code)) for word in words_of(node)]
    assert any(search(word) for word in words if isinstance(word, str))

"""The checks.  `nox` runs all of them; CONTRIBUTING.md says what each is for.

lint, imports, types and docs run on the Python that runs nox, which must be 3.11 or
later; the tests run on every version in the classifiers.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.error_on_external_run = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
PYTEST = ("pytest", "--require-etcd", "-n", "auto")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes, and for code that is not laid out by the formatter."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, and by both checkers what they show to users."""
    session.install("-e", ".[test]", *group("types"))  # whose types the tests use
    session.run("mypy")
    session.run("pyright")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that imports run downward through the layers."""
    session.install("-e", ".", *group("imports"))
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests in random order, and measure what they cover."""
    session.install("-e", ".[server,test]", *group("coverage"))
    # A file of its own for each version: what they cover differs.
    env = {"COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage")}
    session.run("coverage", "erase", env=env)
    session.run("coverage", "run", "-m", *PYTEST, *session.posargs, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    if not session.posargs:  # a part of the tests covers a part of the code
        session.run("coverage", "report", env=env)


@nox.session(python=PYTHONS[0])
def mindeps(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that are allowed."""
    oldest = [
        requirement.replace(">=", "==")
        for requirement in PYPROJECT["project"]["dependencies"]
    ]
    session.install("-e", ".[server,test]", *oldest)
    session.run(*PYTEST, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs; a dead reference is an error."""
    session.install("-e", ".", *group("docs"))
    session.run("sphinx-build", "-n", "-W", "--keep-going", "docs", "docs/_build/html")
    if dead := dead_links(Path("docs/_build/html")):
        session.error("links that lead nowhere: " + ", ".join(dead))
    if inner := inner_names(Path("docs/_build/html/reference/api.html")):
        session.error("nobody can import what the API shows: " + ", ".join(inner))


def dead_links(site: Path) -> list[str]:
    """Find the links inside of a site that lead to no file, or to no place in it."""
    pages = {page.resolve(): page.read_text() for page in site.rglob("*.html")}
    places = {page: set(re.findall(r'id="([^"]*)"', pages[page])) for page in pages}
    dead = []
    for page, text in pages.items():
        for link in set(re.findall(r'href="([^"]*)"', text)):
            if re.match(r"\w+:", link):  # elsewhere
                continue
            file, _, place = link.partition("#")
            target = (page.parent / file.partition("?")[0]).resolve() if file else page
            known = places.get(target)
            if not target.exists() or (known is not None and place not in known | {""}):
                dead.append(f"{page.name}: {link}")
    return dead


def inner_names(page: Path) -> list[str]:
    """Find what a reader of the API can't look up: inner modules, constants, types.

    "Return type" stands where a colon in a docstring was taken for the end of one.
    """
    text = re.sub(r"<[^>]+>", "", page.read_text())
    inner = (
        r"\betcdmap\.(?!local\b)[a-z_]\w*\.\w+",
        r"= _?[A-Z][A-Z_]{3,}",
        r"→ [A-Z]\b",
    )
    return sorted(set(re.findall("|".join([*inner, "Return type"]), text)))


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, and run the sdist's tests against the wheel."""
    session.install(*group("package"))
    tmp = Path(session.create_tmp()).resolve()
    shutil.rmtree(tmp, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(tmp))
    (sdist,) = tmp.glob("*.tar.gz")
    (wheel,) = tmp.glob("*.whl")
    check_wheel(session, wheel)

    with tarfile.open(sdist) as archive:
        archive.extractall(tmp, filter="data")
    tree = tmp / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(tree / "etcdmap")  # so that only the wheel's can be imported
    shutil.rmtree(tree / "etcdmap.egg-info")
    session.install(f"etcdmap[server,test] @ {wheel.as_uri()}")
    with session.chdir(tree):
        code = "import etcdmap; assert 'site-packages' in etcdmap.__file__"
        session.run("python", "-c", code)
        session.run(*PYTEST, *session.posargs)


def check_wheel(session: nox.Session, wheel: Path) -> None:
    """Stop the session if the wheel holds too little or too much."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (name,) = (name for name in names if name.endswith("/METADATA"))
        meta = archive.read(name).decode()
    if "etcdmap/py.typed" not in names:
        session.error("py.typed is missing from the wheel")
    if "License-Expression: Apache-2.0" not in meta.splitlines():
        session.error("the metadata has no license expression")
    if extra := {n.split("/")[0].split("-")[0] for n in names} - {"etcdmap"}:
        session.error(f"the wheel holds more than the package: {extra}")

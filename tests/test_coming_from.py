"""The tables for those who come from another client: both sides of each row are run."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

import etcdmap
from etcdmap import EtcdMapping, NotAFile, connect
from etcdmap.local import LocalCluster

HOW_TO = Path(__file__).resolve().parent.parent / "docs" / "how-to"
PYTHON = HOW_TO / "from-python-etcd.md"
GO = HOW_TO / "from-go-etcd.md"
CONTENT = {"name": "shop", "db": {"host": "db1"}, "empty": {}}

Rows = list[tuple[list[str], list[str]]]


def rows_of(page: Path, title: str) -> Rows:
    """Give what is in backticks in the two columns of a section's table."""
    section = page.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    cells = [re.findall(r"[^|]+", line) for line in re.findall(r"^\|.*", section, re.M)]
    spans = [[re.findall(r"`([^`]+)`", cell) for cell in row[:2]] for row in cells[2:]]
    assert len(spans) > 5
    return [(left, right) for left, right in spans]


def run(code: str, names: dict[str, Any]) -> Any:
    """Run statements; give what the last one comes to, if it is an expression."""
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<row>", "exec"), names)  # noqa: S102
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "<row>", "eval"), names)  # noqa: S307
    return None


@pytest.fixture
def cfg(etcd: LocalCluster) -> Iterator[EtcdMapping]:
    """Give the mapping of the tables, filled."""
    with EtcdMapping(etcd.endpoints, prefix="/app") as mapping:
        mapping.clear()
        mapping.assign(CONTENT)
        yield mapping
        mapping.clear()


def names_for(cfg: EtcdMapping) -> dict[str, Any]:
    """Give the names that a row may use."""
    node = cfg.keys_api.get("/app/name").node
    assert node is not None
    return {"cfg": cfg, "index": node.modified_index}


def left_behind(cfg: EtcdMapping) -> Any:
    """Give what is stored now; of a queue the values, whose names are indexes."""
    content = cfg.to_dict()
    if "queue" in content:
        content["queue"] = list(content["queue"].values())
    return content, cfg.ttl("name") if "name" in content else None


def is_call(code: str) -> bool:
    """Tell whether a span is something that can be run, and not a name."""
    return bool(re.match(r'(del )?cfg\b.*[\])]|"\w+" in cfg|cfg\.client\.\w+$', code))


CALLS = [
    (left, right[0])
    for lefts, right in rows_of(PYTHON, "Call by call")
    if right and is_call(right[0])
    for left in lefts
    if "(" in left or " in client" in left
]


@pytest.mark.parametrize(("left", "right"), CALLS, ids=[left for left, _ in CALLS])
def test_call_of_python_etcd_and_its_row_do_the_same(
    cfg: EtcdMapping, left: str, right: str
) -> None:
    """Both leave the same in etcd, and what is one value is the same."""
    etcd = pytest.importorskip("etcd", reason="python-etcd is not installed")
    where = urlsplit(cfg.client.pinned)
    client = etcd.Client(host=where.hostname, port=where.port)
    theirs = run(left, {**names_for(cfg), "client": client})
    after = left_behind(cfg)
    cfg.clear()
    cfg.assign(CONTENT)
    ours = run(right, names_for(cfg))
    assert left_behind(cfg) == after
    if re.search(r"\.(value|ttl)$| in client$", left):
        assert theirs == ours


def test_names_of_python_etcd_exist() -> None:
    """Those of the client, of its options, and of its exceptions; all of the latter."""
    etcd = pytest.importorskip("etcd", reason="python-etcd is not installed")
    for name in re.findall(r"`client\.(\w+)", PYTHON.read_text()):
        assert hasattr(etcd.Client, name), name
    options = inspect.signature(etcd.Client).parameters
    rows = rows_of(PYTHON, "Making a client")
    assert {name for left, _ in rows for name in left} == set(options)
    rows = rows_of(PYTHON, "Exceptions")
    shown = {name for left, _ in rows for name in left}
    assert shown == exceptions_of(etcd) - {
        "EtcdError",  # a table of the others
        "EtcdException",  # bases, never raised as such
        "EtcdKeyError",
        "EtcdValueError",
    }


def exceptions_of(module: ModuleType) -> set[str]:
    """Give the names of the exceptions of a module."""
    return {name for name in vars(module) if name.startswith("Etcd")} - {"EtcdResult"}


@pytest.mark.parametrize("page", [PYTHON, GO], ids=lambda page: page.stem)
def test_our_names_exist(page: Path) -> None:
    """Options that the tables show are taken, and exceptions can be imported."""
    taken = {
        *inspect.signature(connect).parameters,
        *inspect.signature(EtcdMapping).parameters,
    }
    text = page.read_text()
    for arguments in re.findall(r"`EtcdMapping\(([^`]*)\)`", text):
        assert set(re.findall(r"(\w+)=", arguments)) <= taken, arguments
    if page == PYTHON:
        for left, right in rows_of(page, "Making a client"):
            assert {name for name in right if name.isidentifier()} <= {
                *taken, "WrongCluster",
            }, left  # fmt: skip
        for left, right in rows_of(page, "Exceptions"):
            for name in right:
                assert hasattr(etcdmap, name) or name == "KeyError", left


ROWS = [
    code
    for _, right in rows_of(GO, "Call by call")
    for code in right
    if is_call(code) and "(...)" not in code and "close" not in code
]


@pytest.mark.parametrize("code", ROWS)
def test_row_for_go_etcd_runs(cfg: EtcdMapping, code: str) -> None:
    """Each does something to the directory that is shown.

    etcd 3.5 can't do one of them, as the row says.
    """
    try:
        run(code, names_for(cfg))
    except NotAFile:
        assert "dir=True, prev_exist=True" in code


#: The exported calls of go-etcd, from its source (the last commit of the repository).
GO_ETCD = set(
    "AddChild AddChildDir AddRootCA Close CloseCURL CompareAndDelete CompareAndSwap "  # noqa: SIM905
    "Create CreateDir CreateInOrder DefaultDial Delete DeleteDir Get GetCluster "
    "MarshalJSON OpenCURL RecvCURL SendRequest Set SetCluster SetConsistency "
    "SetCredentials SetDialTimeout SetDir SetPersistence SetTransport SyncCluster "
    "UnmarshalJSON Update UpdateDir Watch NewClient NewTLSClient NewClientFromFile "
    "NewClientFromReader RawGet".split()
)


def test_names_of_go_etcd_exist() -> None:
    """No call is made up; those on keys are all there."""
    shown = set(re.findall(r"`(?:c|etcd)\.([A-Z][a-z]\w*)", GO.read_text()))
    assert shown <= GO_ETCD
    on_keys = {
        "AddChild", "AddChildDir", "CompareAndDelete", "CompareAndSwap", "Create",
        "CreateDir", "CreateInOrder", "Delete", "DeleteDir", "Get", "Set", "SetDir",
        "Update", "UpdateDir", "Watch",
    }  # fmt: skip
    assert on_keys <= shown


def test_python_etcd_differs_as_the_page_says(cfg: EtcdMapping) -> None:
    """What a program may have come to rely on."""
    etcd = pytest.importorskip("etcd", reason="python-etcd is not installed")
    where = urlsplit(cfg.client.pinned)
    client = etcd.Client(host=where.hostname, port=where.port)
    client.write("/app/port", 8080)
    client.write("/app/debug", True)
    client.write("/app/dict", {"a": 1})
    assert (cfg["port"], cfg["debug"], cfg["dict"]) == (8080, "True", "{'a': 1}")
    texts = cfg.using(codec="text")
    assert (texts["port"], texts["debug"]) == ("8080", "True")
    assert not issubclass(etcd.EtcdKeyNotFound, KeyError)
    assert [n.key for n in client.read("/app/empty").children] == ["/app/empty"]
    assert cfg["empty"] == {}
    options = inspect.signature(etcd.Client).parameters
    assert options["port"].default == 4001
    assert options["read_timeout"].default == 60
    assert "srv_domain" in options
    assert hasattr(etcd, "Lock")
    assert hasattr(etcd.Client, "stats")

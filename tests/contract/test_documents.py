"""Documents as people have them: they come back as they were, or are refused whole.

Each shape is a kind of file that programs read, with what makes it hard: keys that are
paths, or empty, or hidden; what YAML and TOML read as no text; nulls, empty mappings,
texts that look like numbers.  The sizes, names and values vary with a number.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, TypeAlias

import pytest

from etcdmap import Client, EtcdMapping
from etcdmap.paths import escape

from support.mapping_kit import deep_sorted
from support.values import same_value

Vary: TypeAlias = random.Random
Document: TypeAlias = "dict[Any, Any]"

VARIANTS = 7
WORDS = ["api", "auth", "cache", "core", "docs", "edge", "jobs", "mail", "shop", "web"]


def some(vary: Vary, make: Callable[[str], Any]) -> Document:
    """Make a mapping of a few names."""
    return {w: make(w) for w in vary.sample(WORDS, vary.randint(1, 4))}


def package(vary: Vary) -> Document:
    """A manifest of JavaScript."""
    return {
        "name": f"@acme/{vary.choice(WORDS)}",
        "version": f"{vary.randint(0, 3)}.1",
        "private": vary.random() < 0.5,
        "_comment": "kept",
        "exports": {
            ".": {"import": "./dist/index.mjs", "require": "./dist/index.cjs"},
            "./package.json": "./package.json",
            **{f"./{w}/*": [f"./dist/{w}/*.js", None] for w in some(vary, str)},
        },
        "dependencies": {f"@acme/{w}": v for w, v in some(vary, "^{}".format).items()},
        "bin": {},
        "files": ["dist", "!dist/**/*.map"],
    }


def openapi(vary: Vary) -> Document:
    """A description of an HTTP API, as YAML reads it: status codes are numbers."""
    answer = {200: {"description": "ok"}, "default": {"$ref": "#/components/x"}}
    return {
        "openapi": "3.1.0",
        "paths": {
            "/": {"get": {"responses": {"204": {}}, "security": [{}]}},
            **{
                f"/{w}/{{id}}": {
                    "get": {
                        "parameters": [{"name": "id", "in": "path", "required": True}],
                        "responses": answer,
                    }
                }
                for w in some(vary, str)
            },
        },
        "components": {"schemas": some(vary, lambda _: {"type": ["object", "null"]})},
    }


def dashboard(vary: Vary) -> Document:
    """Panels of Grafana, exported for others."""
    return {
        "__inputs": [{"name": "DS", "type": "datasource", "value": ""}],
        "__requires": [],
        "id": None,
        "panels": [
            {"id": n, "gridPos": {"h": 8, "w": 12.5}, "thresholds": [0, 0.9, None]}
            for n in range(vary.randint(0, 5))
        ],
        "refresh": vary.choice([False, "30s"]),
        "time": {"from": "now-6h", "to": "now"},
    }


def workflow(vary: Vary) -> Document:
    """A workflow as YAML 1.1 reads it: the key `on` is true."""
    return {
        "name": vary.choice(WORDS),
        True: {"push": {"branches": ["main", "release/**"]}, "workflow_dispatch": None},
        "env": {"TOKEN": "${{ secrets.TOKEN }}"},
        "jobs": some(
            vary,
            lambda w: {
                "runs-on": "ubuntu-latest",
                "strategy": {"matrix": {"python": ["3.10", 3.11], "os": [w]}},
                "steps": [{"uses": "actions/checkout@v4"}, {"run": "a\nb\n"}],
            },
        ),
    }


def messages(vary: Vary) -> Document:
    """Translations: the keys are sentences, and the empty one is the header."""
    return {
        "": {"language": vary.choice(["de", "pt_BR"]), "plural-forms": "nplurals=2"},
        "Hello, %s!": "Hallo, %s!",
        "and/or": "und/oder",
        "Save as\u2026\tCtrl+S": "Speichern unter\u2026",
        "%d file": ["%d Datei", "%d Dateien"],
        ".": ".",
        "..": "",
        "100%": "100\u00a0%",
        "caf\ufffd": "?",
        **some(vary, str.upper),
    }


def compose(vary: Vary) -> Document:
    """Containers; values look like numbers and are none, keys are without a value."""
    return {
        "services": some(
            vary,
            lambda w: {
                "image": f"acme/{w}:1.10",
                "ports": ["80:80", 8080],
                "environment": {"DEBUG": "0", "EMPTY": "", "FROM_HOST": None},
                "deploy": {"resources": {"limits": {"cpus": "0.50", "memory": "50M"}}},
                "healthcheck": {"test": ["CMD", "true"], "interval": "1m30s"},
            },
        ),
        "volumes": {"data": {}, "logs": None},
        "x-common": {"init": True},
    }


def deployment(vary: Vary) -> Document:
    """An object of Kubernetes; labels are paths, an annotation is JSON."""
    labels = {"app.kubernetes.io/name": vary.choice(WORDS), "tier": "0"}
    return {
        "apiVersion": "apps/v1",
        "metadata": {"labels": labels, "annotations": {"x.io/last": '{"a":{}}'}},
        "spec": {
            "replicas": vary.randint(0, 9),
            "selector": {"matchLabels": labels},
            "template": {
                "spec": {
                    "containers": [{"name": w, "args": []} for w in some(vary, str)],
                    "nodeSelector": {},
                }
            },
        },
        "status": {},
    }


def compiler(vary: Vary) -> Document:
    """Settings of a compiler; keys are patterns of paths."""
    return {
        "$schema": "https://json.schemastore.org/tsconfig",
        "compilerOptions": {
            "target": vary.choice(["ES2022", "ESNext"]),
            "paths": {"@/*": ["./src/*"], "*": ["./types/*"], "~": []},
            "strict": True,
        },
        "exclude": ["**/*.spec.ts"],
    }


def editor(vary: Vary) -> Document:
    """Settings of an editor; keys are dotted, bracketed or globs."""
    return {
        "[python]": {"editor.rulers": [80, 88]},
        "files.exclude": {"**/.git": True, "**/__pycache__": {"when": None}},
        "editor.fontSize": vary.choice([12, 12.5]),
        "__proto__": {"x": 1},
        **{f"{w}.path": f"/usr/bin/{w}" for w in some(vary, str)},
    }


def types(vary: Vary) -> Document:
    """Types of media by name."""
    kinds = ["html", "css", "x-shop", "vnd.ms+xml"]
    return {
        "default": "application/octet-stream",
        **{f"text/{k}": [k] for k in vary.sample(kinds, vary.randint(1, 4))},
        "*/*": [],
    }


def project(vary: Vary) -> Document:
    """A manifest of Python: TOML has dates and infinities."""
    return {
        "project": {"name": vary.choice(WORDS), "requires-python": ">=3.10"},
        "tool": {
            "ruff": {"lint": {"per-file-ignores": {"tests/**": ["S101"], "a.py": []}}},
            "acme": {
                "since": date(2024, 1, vary.randint(1, 28)),
                "limits": [1.0, 1e16, math.inf, {"until": date(2030, 1, 1)}],
            },
        },
    }


def logging(vary: Vary) -> Document:
    """What dictConfig takes; the root logger has no name."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler", "()": "ext://x"}},
        "loggers": {
            "": {"handlers": ["console"]},
            **some(vary, lambda _: {"level": 10}),
        },
    }


def schema(vary: Vary) -> Document:
    """A schema; names of properties, and patterns of them, are keys."""
    return {
        "$defs": {},
        "properties": {"_id": {"type": "string"}, **some(vary, lambda _: True)},
        "patternProperties": {"^/": {"minimum": -1.5}, "^_": False},
        "enum": [None, True, 0, 0.0, "0", [], {}],
        "default": vary.choice([None, "", "null", "[1]", '"quoted"', "1e5", "08"]),
    }


def cookies(vary: Vary) -> Document:
    """By host and path."""
    return {
        f"{w}.example.com": {"/": {"sid": {"httpOnly": True}}, f"/{w}": {}}
        for w in some(vary, str)
    }


def inventory(vary: Vary) -> Document:
    """Hosts that have no settings of their own, and ports as keys."""
    hosts: Document = {f"{w}[01:50].local": None for w in some(vary, str)}
    return {
        "all": {"hosts": hosts, "vars": {"ansible_port": 22, "open": {80: "http"}}},
        "_meta": {"hostvars": {}},
    }


def places(vary: Vary) -> Document:
    """Coordinates, in lists within lists."""
    ring = [[vary.uniform(-180, 180), vary.uniform(-90, 90)] for _ in range(20)]
    return {
        "type": "FeatureCollection",
        "bbox": [-0.0, 1e-7, 5e-324, 1.7976931348623157e308],
        "features": [{"geometry": {"coordinates": [ring]}, "properties": None}],
    }


SHAPES = [
    package, openapi, dashboard, workflow, messages, compose, deployment, compiler,
    editor, types, project, logging, schema, cookies, inventory, places,
]  # fmt: skip


def documents(shape: Callable[[Vary], Document]) -> Document:
    """Make the documents of a shape, by name."""
    made = (shape(random.Random(n)) for n in range(VARIANTS))
    return {f"file{n}": document for n, document in enumerate(made)}


def storable(value: Any) -> Any:
    """Do what the errors say: texts for keys and dates, None for infinities."""
    if isinstance(value, dict):
        return {str(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(storable, value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value


def faults(path: str, value: Any, spell: Callable[[str], str | None]) -> Iterator[str]:
    """Yield the paths at which a document has what can't be stored, in its order.

    Args:
        path: of the document.
        value: the document.
        spell: gives the name by which a key is stored, None if it is refused.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            name = spell(key) if isinstance(key, str) else None
            below = f"{path}/{key if name is None else name}"
            if name is None:
                yield below
            yield from faults(below, item, spell)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from faults(f"{path}[{n}]", item, lambda key: key)
    elif isinstance(value, date) or value == math.inf:
        yield path


def plain(key: str) -> str | None:
    """Give a key that names one node of etcd, or None."""
    taken = key and key not in (".", "..") and key[0] != "_"
    return key if taken and not set("/\t\ufffd") & set(key) else None


def test_documents_are_many() -> None:
    """And no two are alike."""
    found = [repr(d) for shape in SHAPES for d in documents(shape).values()]
    assert len(found) >= 100
    assert len(set(found)) >= 80


@pytest.mark.etcd
@pytest.mark.parametrize("shape", SHAPES)
def test_document_comes_back_as_it_was(
    client: Client, prefix: str, shape: Callable[[Vary], Document]
) -> None:
    """With `escape_keys`, once what YAML and TOML have beyond JSON is put as told."""
    mapping = EtcdMapping(client=client, prefix=prefix, escape_keys=True)
    wanted = storable(documents(shape))
    changes = mapping.assign(wanted)
    assert same_value(mapping.to_dict(), deep_sorted(wanted))
    assert mapping.assign(wanted) == []
    for change in changes:
        stored: Any = wanted
        for key in change.keys:
            stored = stored[key]
        assert same_value(change.new, stored)


@pytest.mark.etcd
@pytest.mark.parametrize("escape_keys", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_document_is_refused_with_all_that_cant_be_stored(
    client: Client, prefix: str, shape: Callable[[Vary], Document], escape_keys: bool
) -> None:
    """Each fault with its path, in the order of the document, and nothing else."""
    mapping = EtcdMapping(client=client, prefix=prefix, escape_keys=escape_keys)
    for name, document in documents(shape).items():
        path = f"{prefix}/{name}"
        expected = list(faults(path, document, escape if escape_keys else plain))
        found: list[str] = []
        try:
            mapping.assign({name: document}, dry_run=True)
        except (TypeError, ValueError) as error:
            found = [refusal.path for refusal in vars(error)["refusals"]]
        assert found == expected

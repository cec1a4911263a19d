"""What a template can do with a mapping: look things up, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import pytest

from etcdmap import Client, EtcdMapping, FlatView, KeysAPI, Live, ReadOnly, Watch

from support.mapping_kit import StoreKit

#: An argument for each parameter that a method needs.
ARGUMENTS: dict[str, Any] = {
    "expected": 1,
    "func": abs,
    "key": "key",
    "new": 2,
    "other": {"key": 1},
    "ttl": 5,
    "value": 1,
}

CONTENT = {"name": "shop", "prefix": "/stored"}


def writers_of(mapping: EtcdMapping | FlatView) -> set[str]:
    """Find the methods that a read-only mapping refuses."""
    return {
        name
        for name in dir(type(mapping))
        if not name.startswith("_") and callable(getattr(type(mapping), name))
        if refuses(getattr(mapping, name))
    }


def refuses(method: Callable[..., Any]) -> bool:
    """Call a method with what it needs; tell whether it is refused as a write."""
    needed = [
        name
        for name, parameter in signature(method).parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    opening_or_closing = method.__name__ in ("close", "live", "watch")
    if not set(needed) <= set(ARGUMENTS) or opening_or_closing:
        return False
    try:
        method(*(ARGUMENTS[name] for name in needed))
    except ReadOnly:
        return True
    except Exception:  # whatever else it needs
        return False
    return False


def test_every_writer_is_marked_for_templates(kit: StoreKit) -> None:
    """All that a read-only mapping refuses has the mark that engines look for."""
    mapping = kit.make(CONTENT, readonly=True)
    for each in (mapping, mapping.flat):
        writers = writers_of(each)
        assert {"clear", "pop", "setdefault", "update"} <= writers
        assert [
            n for n in writers if not hasattr(getattr(each, n), "alters_data")
        ] == []
    assert {"set", "assign", "mkdir", "transform"} <= writers_of(mapping)


@pytest.mark.parametrize("kind", [Live, Watch])
def test_what_follows_is_not_closed_by_a_template(kind: Any) -> None:
    """A replica that views share would stand still."""
    assert kind.close.alters_data


@pytest.mark.parametrize("kind", [Client, KeysAPI])
def test_what_is_reached_from_a_mapping_is_marked_too(kind: type[object]) -> None:
    """A template gets at the client, and by it at all keys."""
    reads = {"deadline", "exists", "fetch", "freshness", "get", "order", "present"}
    reads |= {"after_fork", "watch"}
    public = {n for n, f in vars(kind).items() if callable(f) and not n.startswith("_")}
    marked = {n for n in public if hasattr(getattr(kind, n), "alters_data")}
    assert public - marked <= reads
    assert not marked & reads


def test_jinja_finds_attributes_first_and_keys_by_subscript(kit: StoreKit) -> None:
    """`c.prefix` is the mapping's own; `c["prefix"]` is what is stored."""
    jinja2 = pytest.importorskip("jinja2")
    cfg = kit.make(CONTENT)
    template = jinja2.Template("{{ c.name }} {{ c.prefix }} {{ c['prefix'] }}")
    assert template.render(c=cfg) == f"shop {cfg.prefix} /stored"
    assert template.render(c=cfg.to_dict()) == "shop /stored /stored"


@pytest.mark.parametrize(
    "source", ["c.assign({})", "c.flat.clear()", "c.keys_api.delete('/x')", "c.close()"]
)
def test_sandboxed_template_changes_nothing(kit: StoreKit, source: str) -> None:
    """Jinja's sandbox refuses to call what is marked."""
    jinja2 = pytest.importorskip("jinja2")
    sandbox = pytest.importorskip("jinja2.sandbox")
    cfg = kit.make(CONTENT)
    template = sandbox.SandboxedEnvironment().from_string(f"{{{{ {source} }}}}")
    # A store in memory has no `keys_api`.
    with pytest.raises((sandbox.SecurityError, jinja2.UndefinedError)):
        template.render(c=cfg)
    assert cfg.to_dict() == CONTENT


def test_django_template_calls_no_writer(kit: StoreKit) -> None:
    """Django looks keys up first, and calls what it finds, but for what is marked."""
    django = pytest.importorskip("django.template")
    cfg = kit.make(CONTENT)
    source = "{{ c.prefix }}{{ c.clear }}{{ c.popitem }}{{ c.flat.clear }}{{ c.close }}"
    template = django.Engine().from_string(source)
    assert template.render(django.Context({"c": cfg})) == "/stored"
    assert cfg.to_dict() == CONTENT

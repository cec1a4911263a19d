"""Configuration of Sphinx.  `nox -s docs` runs it with warnings as errors."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

import etcdmap

if TYPE_CHECKING:
    from pathlib import Path

    from docutils.nodes import TextElement
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "etcdmap"
author = "the etcdmap authors"
copyright = f"2026, {author}"
release = version = metadata.version("etcdmap")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"etcdmap {release}"

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Cost", "Atomic", "Threads", "Source"]

# The build must work without a network, so other projects' inventories are not
# loaded (no intersphinx), and names that are not ours are not looked up.
nitpicky = True
# Nor are type variables, and what annotations name that nobody imports by name.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!etcdmap\.).*"),
    (r"py:.*", r"etcdmap\.(\w+\.)+[A-Z]"),
    (r"py:class", r"etcdmap\.mapping\.views\.Etcd(Keys|Values|Items)View"),
    (r"py:class", r"etcdmap\.client\.(freshness\.Freshness|request\.\w+)"),
    (r"py:class", r"etcdmap\.transport\.protocol\.(Answer|(Blocking)?Transport)"),
    (r"py:class", r"etcdmap\.(cache\.ReadCache|paths\.Naming|tree\.Store)"),
    (r"py:class", r"etcdmap\.local\.guardian\.Guardian"),
]


# Files beside docs/ that are linked to from one another, and their place in the docs.
PLACES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "../LICENSE",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
}


def redirect_links(
    app: Sphinx, path: Path, parent_docname: str, content: list[str]
) -> None:
    """Let links of included files lead to pages, as they lead to files elsewhere."""
    for file, page in PLACES.items():
        content[0] = content[0].replace(f"]({file}", f"]({page}")


def resolve_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, child: TextElement
) -> Any:
    """Find `etcdmap.mapping.EtcdMapping` where it is documented: `etcdmap.EtcdMapping`.

    Annotations name the module that defines an object.  The reference documents it
    under the name that users import.
    """
    target = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or target not in etcdmap.__all__:
        return None
    return env.domains["py"].resolve_xref(
        env,
        node["refdoc"],
        app.builder,
        "obj",
        f"etcdmap.{target}",
        node,
        child,
    )


def is_public(cls: type) -> bool:
    """Tell whether readers can look up a class: it is exported, or not ours."""
    return not cls.__module__.startswith("etcdmap") or cls.__name__ in etcdmap.__all__


def show_public_bases(
    app: Sphinx, name: str, obj: type, options: object, bases: list[Any]
) -> None:
    """Show the nearest ancestor that is public instead of a private base."""
    bases[:] = [
        next(filter(is_public, base.__mro__)) if isinstance(base, type) else base
        for base in bases
    ]


def skip_field_aliases(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out "Alias for field number 0": the class's docstring has the fields."""
    text = str(getattr(obj, "__doc__", ""))
    return True if text.startswith("Alias for field number") else None


def show_default_values(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Show the default of an option as its value, without the mark around it."""
    return signature and re.sub(r"\bdefault\((\w[\w.]*)\)", r"\1", signature), returned


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("autodoc-process-signature", show_default_values)
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("include-read", redirect_links)
    app.connect("missing-reference", resolve_public_name)

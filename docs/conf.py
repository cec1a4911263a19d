"""Configuration of Sphinx.  `nox -s docs` runs it with warnings as errors."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sphinx.addnodes import desc_addname, desc_annotation, desc_name, desc_signature
from sphinx.domains.python import PyObject

import etcdmap

if TYPE_CHECKING:
    from pathlib import Path

    from docutils.nodes import Element, TextElement
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "etcdmap"
author = "the etcdmap authors"
copyright = f"2026, {author}"
release = version = metadata.version("etcdmap")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"etcdmap {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields in one list, not a paragraph for each
napoleon_custom_sections = ["Cost", "Atomic", "Threads", "Source"]

# In docstrings a name in backticks is a link.
default_role = "py:obj"
toc_object_entries_show_parents = "hide"

# The build must work without a network, so other projects' inventories are not
# loaded (no intersphinx), and names that are not ours are not looked up.
nitpicky = True
nitpick_ignore_regex = [
    # What annotations name, and what may be raised.
    (r"py:class", r"(?!etcdmap\.).*"),
    # Parts of what users see as one class.
    (r"py:class", r"etcdmap\.mapping\.(flat\.FlatReading|live\.(Subscribed|Changes))"),
    *((r"py:(exc|obj)", rf"{name}") for name in dir(builtins)),
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


#: How the methods of a mapping are written by those who use it.
OPERATIONS = {
    "__getitem__": "m[key]",
    "__setitem__": "m[key] = value",
    "__delitem__": "del m[key]",
    "__contains__": "key in m",
    "__iter__": "iter(m)",
    "__reversed__": "reversed(m)",
    "__len__": "len(m)",
    "__eq__": "m == other",
    "__or__": "m | other",
    "__ior__": "m |= other",
}
#: Classes that the library makes for users, who need no arguments for it.
MADE_FOR_USERS = {
    *("Attempt", "CacheInfo", "Client", "Codec", "Difference", "Differences", "Event"),
    *("FlatView", "FrozenMapping", "KeysAPI", "Member", "Node", "Refusal", "Result"),
    *("Snapshot", "View", "Watch"),
}
#: Names of types that nobody imports, as users know what they mean.
MEANT = {
    "Contents": "Mapping | Iterable[tuple[str, Any]]",
    "Progress": "Callable[[int, int], object]",
    "Unpack[MappingOptions]": "Any",
}


def show_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Leave out arguments that no user gives; show values and types as users know them.

    A default of an option has a mark around its value, and Self may be a type variable.
    """
    if signature and (what == "exception" or name.rpartition(".")[2] in MADE_FOR_USERS):
        return "", ""
    if name.endswith("Client.send"):  # types that nobody imports
        return "(request, *, timeout=None)", ""
    if returns is not None:
        returns = re.sub(r"^(~?[\w.]+\.)?[A-Z]$", "Self", returns)
        returns = re.sub(r"~?[\w.]+\.Etcd(\w+View)$", r"\1", returns)
        if re.search(r"\b(Subscribed|Changes)$", returns):
            returns = ""  # the docstring says what it is good for
    if signature:
        signature = re.sub(r"\bdefault\((\w[\w.]*)\)", r"\1", signature)
        for inner, meant in MEANT.items():
            signature = re.sub(rf": {re.escape(inner)}(?!\w)", f": {meant}", signature)
        known = vars(sys.modules[obj.__module__])
        signature = re.sub(
            r"(?<== )_?[A-Z][A-Z_]+\b", lambda m: constant(known[m[0]]), signature
        )
    return signature, returns


def constant(value: object) -> str:
    """Spell a default: a number as such, and a mark that nothing was given as dots."""
    value = getattr(value, "value", value)  # of an option's
    return f"{value:_}" if isinstance(value, (int, float)) else "..."


def show_public_types(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Show `etcdmap.v2.models.Node` in the type of a field as `Node`, and no quotes."""
    for at, line in enumerate(lines):
        if re.match(r"\s*:(var)?type\b", line):
            lines[at] = re.sub(r"\betcdmap\.[\w.]*\.(\w+)", r"~etcdmap.\1", line)


def show_operation(app: Sphinx, domain: str, kind: str, content: Element) -> None:
    """Show `m[key]` in place of `EtcdMapping.__getitem__(key)`, and `m.get(key)`."""
    if domain != "py" or kind not in ("class", "method", "property"):
        return
    for signature in content.parent.findall(desc_signature):
        owner, _, name = signature["fullname"].rpartition(".")
        if kind == "class" and name in etcdmap.__all__:
            # The source links back to this.
            signature["ids"].append(f"{getattr(etcdmap, name).__module__}.{name}")
        hide_inner_type(signature)
        if owner != "EtcdMapping":
            continue
        for prefix in list(signature.findall(desc_addname)):
            holder = "EtcdMapping." if name == "from_url" else "m."
            prefix.replace_self(desc_addname(holder, holder))
        if shown := OPERATIONS.get(name):
            signature.clear()
            signature += desc_name(shown, shown)
            signature["_toc_name"] = shown
        link_source(signature, name)


def hide_inner_type(signature: desc_signature) -> None:
    """Leave out the type of a property that is a part of what users see as one."""
    for annotation in list(signature.findall(desc_annotation)):
        if "FlatReading" in annotation.astext():
            signature.remove(annotation)


def link_source(signature: desc_signature, name: str) -> None:
    """Have viewcode look for a method in the class in which it is written.

    `etcdmap.mapping.joined` has put copies of all of them into the one class.
    """
    method = getattr(etcdmap.EtcdMapping, name)
    module = sys.modules[getattr(method, "fget", method).__module__]
    if not module.__name__.startswith("etcdmap"):
        return
    for kind in filter(inspect.isclass, vars(module).values()):
        if kind.__module__ == module.__name__ and name in vars(kind):
            signature["module"] = module.__name__
            signature["fullname"] = f"{kind.__name__}.{name}"
            signature["ids"].append(f"{module.__name__}.{kind.__name__}.{name}")
            return


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # and not "Variables"
    app.connect("autodoc-process-signature", show_signature)
    # After napoleon, which writes those types.
    app.connect("autodoc-process-docstring", show_public_types, priority=900)
    app.connect("object-description-transform", show_operation)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("include-read", redirect_links)
    app.connect("missing-reference", resolve_public_name)

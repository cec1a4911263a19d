"""Keys and paths: what may be sent to etcd, and how it is spelt in a URL.

A *key* is what the caller passes, relative to a mapping's prefix; a *path* is
the absolute key in etcd.  A path starts with ``/``; the root directory is the
empty path ``""``, so that ``path + "/" + name`` always names a child.

Why so strict: HTTP stacks and etcd both resolve ``.``, ``..`` and empty
segments, sometimes twice, and an unquoted ``#`` or ``?`` cuts the URL short, so
a careless key would reach a node outside the prefix.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from functools import lru_cache
from typing import ClassVar
from urllib.parse import quote, unquote

from etcdmap.errors import InvalidKey, LimitExceeded, Refusal, legible
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.refusals import no_str, shown_key, tell

#: etcd's memory per key grows with the square of its depth; a path of 100,000
#: levels kills the server.
MAX_DEPTH = 200
#: Go's HTTP server closes the connection on a request head over 1 MiB, which
#: would look like a dead member.  Room is left for host and query.
MAX_TARGET = 1_000_000
#: What etcd shows for bytes in a name that are not UTF-8.  A name that holds it
#: can't be told from such bytes, and asking for those by this name finds nothing.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"

# Paths that are shorter can't break a limit: 200 levels take 400 characters.
_ALWAYS_FINE = 2 * MAX_DEPTH
#: Longer keys and paths are checked anew each time, so that the caches stay small.
CACHED_LENGTH = 512

# Control characters are those of the category Cc.
_TO_ESCAPE = re.compile("[%/\x00-\x1f\x7f-\x9f\ufffd]")


def why_impossible(key: str) -> str | None:
    """Return why no node can have this key, or None if one can.

    Control characters are no reason: nodes with such names exist and can be read.
    """
    if len(key) > CACHED_LENGTH:
        return find_fault(key)
    return _find_fault_cached(key)


def find_fault(key: str, hidden_too: bool = False) -> str | None:
    """Return why no node can have this key, or None; `hidden_too` allows ``_x``."""
    for segment in key.split("/"):
        if not segment:
            return "it is empty, or has an empty segment ('//', or '/' at an end)"
        if segment in (".", ".."):
            return "'.' and '..' are not names"
        if segment[0] == "_" and not hidden_too:
            return (
                "a name that starts with '_' is hidden from etcd's listings; "
                "keys_api reaches it"
            )
    if not hidden_too and UNREADABLE in key:
        return "U+FFFD stands for bytes that are not UTF-8"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "it holds a lone surrogate, which UTF-8 can't express"
    return None


_find_fault_cached = lru_cache(maxsize=4096)(find_fault)


def why_not_new(key: str) -> str | None:
    """Return why this key can't be written, or None if it can."""
    return why_impossible(key) or _control_fault(key)


def _control_fault(key: str) -> str | None:
    # isprintable() is quick and settles nearly every key.
    if key.isprintable() or all(unicodedata.category(c) != "Cc" for c in key):
        return None
    return "it holds a control character"


def check_limits(path: str) -> None:
    """Raise LimitExceeded if `path` is deeper or longer than etcd takes."""
    if len(path) > _ALWAYS_FINE:
        fault = _over_limit(path)
        if fault is not None:
            raise tell(LimitExceeded(), [Refusal(path, fault)])


def _over_limit(path: str) -> str | None:
    depth = path.count("/")
    if depth > MAX_DEPTH:
        return f"it is {depth} levels deep; the limit is {MAX_DEPTH}"
    length = len(quote(path))
    if length > MAX_TARGET:
        return f"it is {length} bytes long in a URL; the limit is {MAX_TARGET}"
    return None


def clean_prefix(prefix: str) -> str:
    """Return the path of the directory that a user's prefix names.

    ``"app"``, ``"/app"`` and ``"/app/"`` are the same; ``"/"`` and ``""`` are
    the root.  Names that start with ``_`` are allowed here: such a directory is
    hidden from its parent's listing, but its children are listed as usual.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix is a str, not {type(prefix).__name__}")
    if prefix in ("", "/"):
        return ""
    key = prefix.removeprefix("/").removesuffix("/")
    fault = find_fault(key, hidden_too=True) or _control_fault(key)
    if fault is not None:
        raise InvalidKey(f"'{legible(prefix)}' can't be a prefix: {fault}")
    check_limits("/" + key)
    return "/" + key


def name_of(path: str) -> str:
    """Return the last segment of a path."""
    return path.rpartition("/")[2]


class Naming:
    """How keys become paths, and names keys: here a key is a path of names."""

    #: Whether a mapping with `escape_keys` may be what a refused key needs.
    _may_escape: ClassVar[bool] = True

    def __reduce__(self) -> str:
        return "PLAIN"  # the same object, which is what the quick ways look for

    def readable(self, directory: str, key: object) -> str | None:
        """Return the path of `key` below `directory`, or None if none can exist."""
        text = self._spell(key)
        if text is None or why_impossible(text) is not None:
            return None
        path = f"{directory}/{text}"
        if len(path) > _ALWAYS_FINE and _over_limit(path) is not None:
            return None
        return path

    def writable(self, directory: str, key: object) -> str:
        """Return the path of `key` below `directory`, for a write.

        Raises TypeError, InvalidKey or LimitExceeded for what can't be written.
        """
        text = self._spell(key)
        if text is None:
            where = f"{directory}/{shown_key(key)}"
            raise tell(TypeError(), [Refusal(where, no_str(key))])
        path = f"{directory}/{text}"
        fault = why_not_new(text)
        if fault is not None:
            raise self._invalid(directory, text, fault)
        check_limits(path)
        return path

    def _invalid(self, directory: str, text: str, fault: str) -> InvalidKey:
        escaped = escape(text)
        if (
            self._may_escape
            and why_not_new(escaped) is None
            and _over_limit(f"{directory}/{escaped}") is None
        ):
            fault += "; a mapping with escape_keys=True takes it"
        path = f"{directory}/{text}"
        return tell(InvalidKey(), [Refusal(path, f"can't be a key: {fault}")])

    def why_none(self, directory: str, key: object) -> Refusal:
        """Return the place of a key for which `readable` is None, and why it is."""
        text = self._spell(key)
        if text is None:
            return Refusal(f"{directory}/{shown_key(key)}", no_str(key))
        path = f"{directory}/{text}"
        fault = why_impossible(text) or _over_limit(path)
        return Refusal(path, f"no node can have this key, because {fault}")

    def name_path(self, directory: str, key: object) -> str:
        """Like `writable`, for a key inside a mapping value: one segment only."""
        path = self.writable(directory, key)
        text = path[len(directory) + 1 :]
        if "/" in text:
            fault = (
                "inside a mapping value every key is one segment, without '/'; nest a "
                "mapping"
            )
            raise self._invalid(directory, text, fault)
        return path

    def key(self, name: str) -> str | None:
        """Return the key of a node's name, or None if no key leads to it."""
        return None if UNREADABLE in name else name

    def _spell(self, key: object) -> str | None:
        """Return a key as it stands in a path, or None if it is no `str`.

        Of a subclass (an enum's member, say) the plain text: its methods could show one
        key to the checks and another to the URL.
        """
        if type(key) is str:
            return key
        return str.__str__(key) if isinstance(key, str) else None


class FlatNaming(Naming):
    """The naming of a flat view, which with `escape_keys` takes paths as well."""

    _may_escape = False

    def __reduce__(self) -> str:
        return "FLAT"


class EscapedNaming(Naming):
    """Every `str` is one segment: what a path can't hold is percent-escaped.

    Escaped are ``%`` itself, ``/``, a leading ``_``, control characters, the
    names ``.`` and ``..``, and U+FFFD; the empty key is stored as ``%``.
    """

    _may_escape = False

    def __reduce__(self) -> str:
        return "ESCAPED"

    def key(self, name: str) -> str | None:
        """See `Naming.key`."""
        key = "" if name == "%" else unquote(name)
        # Others may have stored names that are no key's escaped form, like "50%".
        return key if escape(key) == name else None

    def _spell(self, key: object) -> str | None:
        text = super()._spell(key)
        return None if text is None else escape(text)


PLAIN = Naming()
FLAT = FlatNaming()
ESCAPED = EscapedNaming()


def escape(key: str) -> str:
    """Spell any key as one segment, reversibly."""
    if key in ("", ".", ".."):
        return "%" + "%".join("2E" for _ in key) if key else "%"
    spelt = _TO_ESCAPE.sub(lambda match: quote(match[0], safe=""), key)
    return f"%5F{spelt[1:]}" if spelt[0] == "_" else spelt


_warned: set[str] = set()


class UnreadableName(UserWarning):
    """A listing leaves out a name that no key can express, such as invalid UTF-8."""


def warn_left_out(path: str) -> None:
    """Warn that a node is left out of a listing; once for each path."""
    if path in _warned:
        return
    if len(_warned) < 1000:  # bounded; later ones are warned of every time
        _warned.add(path)
    why = (
        "may contain bytes that are not UTF-8, so no key stands for it.  keys_api can "
        "delete the directory that contains it"
        if UNREADABLE in name_of(path)
        else "is not one that escape_keys makes from a key.  You can read it with "
        "keys_api, or with a mapping without escape_keys"
    )
    warnings.warn(
        f"a listing leaves out '{legible(path)}': this name {why}",
        UnreadableName,
        stacklevel=1,
    )

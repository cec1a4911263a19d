"""A whole subtree as plain values, read in less time than its JSON takes.

Theory of operation
-------------------
Most of a large listing is files that look alike: Go's encoder writes the fields of
its struct in their order (etcd ``server/etcdserver/api/v2store/node_extern.go``).
One regular expression cuts those files out, in C and without a dict for each; a
``null`` takes the place of each.  What is left, the skeleton, is parsed as JSON, so
the shape of the whole is checked as ever, and the walk through it fills the files
in again, in their order.

A file that looks different (one with a ttl) stays in the skeleton.  A text with a
backslash anywhere is left whole: without one, a quote is always the end of a string.
So is a text that says ``null`` outside of those files: each must stand for one.

Control characters in a file that is cut out are not looked for.  JSON has them
escaped, and so has etcd; to look would take as long as all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import compress
from typing import Any

from etcdmap.codecs import decode_node
from etcdmap.errors import InvalidResponse, NotADirectory
from etcdmap.paths import PLAIN, UNREADABLE, warn_left_out
from etcdmap.transport import Answer
from etcdmap.tree import Snapshot
from etcdmap.v2.models import Asked, name_below
from etcdmap.v2.responses import index_of, is_shown_by, parse_json, payload_of

# Gives what is between the files, and the path and text of each, in turn.  A run of
# `[^"]` takes a fifth of the time of one of a larger set; and nothing here is tried
# twice where it does not fit, so that the time is linear whatever the text is.
_split_files = re.compile(
    r'\{"key":"([^"]*)","value":"([^"]*)",'
    r'"modifiedIndex":[1-9][0-9]*,"createdIndex":[1-9][0-9]*\}'
).split

#: Takes the place of a file.
_MARK = "null"


def snapshot_of(
    decode: Callable[[str], Any],
    key_of: Callable[[str], str | None] | None,
    asked: Asked,
    answer: Answer,
) -> Snapshot:
    """Read a subtree as plain values, and the index of the store.

    Args:
        decode: the codec's.
        key_of: gives the dict's key of a name, or None to leave it out; None if
            keys are names.
        asked: what was asked for.
        answer: to a recursive GET.
    """
    reader = _Reader(decode, key_of)
    raw = payload_of(asked, answer, reader.parse)["node"]
    index = index_of(answer)
    if reader.is_file(raw, asked):
        raise NotADirectory("this mapping's directory is a file now", key=asked.key)
    return Snapshot(reader.read(raw), index)


class _Reader:
    """Reads one listing."""

    __slots__ = ("_at", "_decode", "_key_of", "_paths", "_texts", "_unreadable")

    def __init__(
        self,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None,
    ) -> None:
        self._decode = decode
        self._key_of = key_of
        # Of the files that were cut out; and how many are back in their place.
        self._paths: list[str] = []
        self._texts: list[str] = []
        self._at = 0
        self._unreadable = True  # whether there may be names that are

    def parse(self, text: str) -> Any:
        """Parse an answer, but for the files that can be cut out."""
        if "\\" not in text:
            self._unreadable = UNREADABLE in text
            parts = _split_files(text)
            between = parts[::3]
            if _MARK not in "".join(between):
                self._paths, self._texts = parts[1::3], parts[2::3]
                text = _MARK.join(between)
        return parse_json(text)

    def is_file(self, raw: Any, asked: Asked) -> bool:
        """Tell whether the node asked for is no directory."""
        if raw is None:
            return len(self._paths) == 1 and is_shown_by(asked, {"key": self._paths[0]})
        return raw.get("dir") is not True and "value" in raw

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Give the content of the directory asked for."""
        if raw.get("dir") is not True:
            raise InvalidResponse("a node that is neither a file nor a directory")
        content = self._directory(raw)
        if self._at != len(self._paths):
            raise InvalidResponse("files that are in no directory")
        return content

    def _directory(self, raw: dict[str, Any]) -> dict[str, Any]:
        if "nodes" not in raw:
            return {}
        listed = raw["nodes"]
        path = raw.get("key", "").rstrip("/")  # the root comes without a key
        count = len(listed)
        if listed.count(None) == count:
            names, texts = self._take(path, count)
            if self._unreadable or self._key_of is not None:
                content = self._left_in(path, names, texts)
            else:
                values = self._decoded(path, names, texts)
                content = dict(zip(names, values, strict=True))
        else:
            content = self._mixed(path, listed)
        # etcd has sorted by name, if it was asked to; keys may sort otherwise.
        given = list(content)
        order = sorted(given)
        return content if order == given else {key: content[key] for key in order}

    def _left_in(
        self, directory: str, names: list[str], texts: list[str]
    ) -> dict[str, Any]:
        """Give the content of a directory of files, some of which may be left out."""
        keys = [self._key(directory, name) for name in names]
        kept = [key is not None for key in keys]
        names, texts = list(compress(names, kept)), list(compress(texts, kept))
        values = self._decoded(directory, names, texts)
        return dict(zip(compress(keys, kept), values, strict=True))  # type: ignore[arg-type]

    def _decoded(self, directory: str, names: list[str], texts: list[str]) -> list[Any]:
        decode = self._decode
        try:
            return [decode(text) for text in texts]
        except Exception:
            # Again, one by one: an error names the key.
            pairs = zip(names, texts, strict=True)
            return [decode_node(f"{directory}/{name}", t, decode) for name, t in pairs]

    def _take(self, directory: str, count: int) -> tuple[list[str], list[str]]:
        """Give the names and texts of the next files that were cut out."""
        start = self._at
        self._at = end = start + count
        paths, texts = self._paths[start:end], self._texts[start:end]
        if len(paths) != count:
            raise InvalidResponse("a null among the nodes")
        prefix = f"{directory}/"
        names = [path.removeprefix(prefix) for path in paths]
        # Checked all at once: that the prefix was there, and that names are left.
        joined = "".join(names)
        cut = len("".join(paths)) - len(joined)
        if cut != count * len(prefix) or "/" in joined or "" in names:
            raise InvalidResponse("a node that is no child of its directory")
        return names, texts

    def _key(self, directory: str, name: str) -> str | None:
        """Return the key of a name, or None if it is left out."""
        key = (self._key_of or PLAIN.key)(name)
        if key is None:
            warn_left_out(f"{directory}/{name}")
        return key

    def _mixed(self, directory: str, listed: list[Any]) -> dict[str, Any]:
        """Give the content of a directory with children of all kinds."""
        content = {}
        # In the order of the text, as the files were cut out in it.
        for child in listed:
            if child is None:
                (name,), (text,) = self._take(directory, 1)
                is_dir = False
            else:
                name = name_below(directory, child["key"])
                text, is_dir = child.get("value"), child.get("dir") is True
            key = self._key(directory, name)
            if key is None:
                self._skip(child)
            elif is_dir:
                content[key] = self._directory(child)
            else:
                content[key] = decode_node(f"{directory}/{name}", text, self._decode)
        return content

    def _skip(self, child: dict[str, Any] | None) -> None:
        """Pass by what is left out; a file that was cut out is passed already."""
        for below in (child or {}).get("nodes", ()):
            if below is None:
                self._at += 1
            else:
                self._skip(below)

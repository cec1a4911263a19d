"""A whole subtree as plain values, read in half the time that its JSON takes.

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

from etcdmap.answers import index_of, parse_json, payload_of
from etcdmap.errors import InvalidResponse, NotADirectory
from etcdmap.models import Answer
from etcdmap.nodes import Snapshot, decode_node, warn_unreadable
from etcdmap.paths import UNREADABLE

# Gives what is between the files, and the key and value of each, in turn.
_split_files = re.compile(
    r'\{"key":"([^"]*)","value":"([^"]*)",'
    r'"modifiedIndex":[1-9][0-9]*,"createdIndex":[1-9][0-9]*\}'
).split

#: Takes the place of a file.
_MARK = "null"


def snapshot_of(
    decode: Callable[[str], Any],
    key_of: Callable[[str], str | None] | None,
    key: str,
    answer: Answer,
) -> Snapshot:
    """Read a subtree as plain values, and the index of the store.

    Args:
        decode: the codec's.
        key_of: gives the dict's key of a name, or None to leave it out; None if
            keys are names.
        key: the path asked for, for messages.
        answer: to a recursive GET.
    """
    reader = _Reader(decode, key_of)
    raw = payload_of(key, answer, reader.parse)["node"]
    index = index_of(answer)
    if reader.is_file(raw):
        raise NotADirectory("this mapping's directory is a file now", code=104, key=key)
    return Snapshot(reader.read(raw), index)


class _Reader:
    """Reads one listing."""

    __slots__ = ("_at", "_decode", "_key_of", "_paths", "_texts")

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

    def parse(self, text: str) -> Any:
        """Parse an answer, but for the files that can be cut out."""
        if "\\" not in text:
            parts = _split_files(text)
            between = parts[::3]
            if _MARK not in "".join(between):
                self._paths, self._texts = parts[1::3], parts[2::3]
                text = _MARK.join(between)
        return parse_json(text)

    def is_file(self, raw: Any) -> bool:
        """Tell whether the node asked for is no directory."""
        if raw is None:
            return len(self._paths) == 1
        return raw.get("dir") is not True

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Give the content of the directory asked for."""
        content = self._directory(raw)
        if self._at != len(self._paths):
            raise InvalidResponse("files that are in no directory")
        return content

    def _directory(self, raw: dict[str, Any]) -> dict[str, Any]:
        if "nodes" not in raw:
            return {}
        listed = raw["nodes"]
        prefix = raw.get("key", "").rstrip("/") + "/"  # the root comes without a key
        if listed.count(None) == len(listed):
            paths, texts = self._take(len(listed))
            keys = self._keys_of(paths, prefix)
            if None in keys:
                kept = [key is not None for key in keys]
                paths, texts = list(compress(paths, kept)), list(compress(texts, kept))
                keys = list(compress(keys, kept))
            content = dict(zip(keys, self._decoded(paths, texts), strict=True))
        else:
            content = self._mixed(listed, prefix)
        # etcd could sort, but would take longer for it.
        return {key: content[key] for key in sorted(content)}

    def _keys_of(self, paths: list[str], prefix: str) -> list[Any]:
        """Give the keys of some children, None for each that is left out."""
        keys: list[Any] = [path.removeprefix(prefix) for path in paths]
        joined = "".join(keys)
        cut = len("".join(paths)) - len(joined)
        if cut != len(paths) * len(prefix) or "/" in joined or "" in keys:
            raise InvalidResponse("a node that is no child of its directory")
        if UNREADABLE in joined:
            for at, name in enumerate(keys):
                if UNREADABLE in name:
                    warn_unreadable(paths[at])
                    keys[at] = None
        if self._key_of is not None:
            keys = [None if key is None else self._key_of(key) for key in keys]
        return keys

    def _take(self, count: int) -> tuple[list[str], list[str]]:
        """Give the next files that were cut out: their paths and texts."""
        start = self._at
        self._at = end = start + count
        if end > len(self._paths):
            raise InvalidResponse("a null among the nodes")
        return self._paths[start:end], self._texts[start:end]

    def _decoded(self, paths: list[str], texts: list[str]) -> list[Any]:
        decode = self._decode
        try:
            return [decode(text) for text in texts]
        except Exception:
            # Again, one by one: an error names the key.
            pairs = zip(paths, texts, strict=True)
            return [decode_node(path, text, decode) for path, text in pairs]

    def _mixed(self, listed: list[Any], prefix: str) -> dict[str, Any]:
        """Give the content of a directory with children of all kinds."""
        content = {}
        # In the order of the text, as the files were cut out in it.
        for child in listed:
            if child is None:
                (path,), (text,) = self._take(1)
                is_dir = False
            else:
                path, text, is_dir = child["key"], child.get("value"), "dir" in child
            (key,) = self._keys_of([path], prefix)
            if key is None:
                self._skip(child)
            elif is_dir:
                content[key] = self._directory(child)
            else:
                content[key] = decode_node(path, text, self._decode)
        return content

    def _skip(self, child: dict[str, Any] | None) -> None:
        """Pass by what is left out; a file that was cut out is passed already."""
        for below in (child or {}).get("nodes", ()):
            if below is None:
                self._take(1)
            else:
                self._skip(below)

"""Read a whole subtree as plain values, in less time than parsing its JSON would take.

Theory of operation
-------------------
A large listing consists mostly of files that look alike: Go's encoder writes the fields
of its struct in their order (etcd ``server/etcdserver/api/v2store/node_extern.go``).
One regular expression cuts these files out, in C and without a dict for each file, and
puts a ``null`` in the place of each.  The rest, called the skeleton, is parsed as JSON,
so that the shape of the whole is checked as usual.  Then the walk through the skeleton
fills in the files again, in their order.

A file that looks different (one with a ttl) stays in the skeleton.  Nothing is cut out
of an answer that contains a backslash, because a quote may then not be the end of a
string; nor of an answer with a ``null`` elsewhere, which would look like a file.

Control characters in the files that are cut out are not searched for: valid JSON has
them escaped, and the search would take as long as all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import compress
from typing import Any

from etcdmap.codecs import decode_node
from etcdmap.errors import InvalidResponse, NotADirectory
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.paths import PLAIN, UNREADABLE, warn_left_out
from etcdmap.transport import Answer
from etcdmap.tree import Snapshot, Tree
from etcdmap.v2.models import Asked, name_below
from etcdmap.v2.parsing import parse_json
from etcdmap.v2.responses import index_of, is_shown_by, payload_of

# Returns the text before each file, then the path and the text of the file, and so on.
# Matching `[^"]` takes a fifth of the time of a larger set.  Nothing here makes the
# regular expression backtrack, so the time is linear for every text.
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
    """Read the answer to a recursive GET, see `ReadableStore.read`."""
    reader = _Reader(decode, key_of)
    raw = payload_of(asked, answer, reader.parse)["node"]
    index = index_of(answer)
    if reader.is_file(raw, asked):
        key = asked.key.rstrip("/")
        raise NotADirectory("this mapping's directory is a file now", key=key)
    return Snapshot(reader.read(raw), index)


def tree_of(asked: Asked, answer: Answer) -> tuple[Tree, int]:
    """Read the answer to a recursive GET: texts by name, and the index of the store."""
    reader = _Reader(str, None)
    raw = payload_of(asked, answer, reader.parse)["node"]
    index = index_of(answer)
    if not reader.is_file(raw, asked):
        return reader.read(raw), index
    text = reader.only_text() if raw is None else raw["value"]
    if type(text) is not str:
        raise InvalidResponse("a file whose value is of the wrong type")
    return text, index


class _Reader:
    __slots__ = ("_at", "_decode", "_key_of", "_paths", "_texts", "_unreadable")

    def __init__(
        self,
        decode: Callable[[str], Any],
        key_of: Callable[[str], str | None] | None,
    ) -> None:
        self._decode = decode
        self._key_of = key_of
        # The files that were cut out, and how many of them were filled in again.
        self._paths: list[str] = []
        self._texts: list[str] = []
        self._at = 0
        self._unreadable = True  # whether there may be names that are not UTF-8

    def parse(self, text: str, seconds: float) -> Any:
        """Parse an answer, except the files that can be cut out."""
        size = len(text)
        if "\\" not in text:
            self._unreadable = UNREADABLE in text
            parts = _split_files(text)
            between = parts[::3]
            if _MARK not in "".join(between):
                self._paths, self._texts = parts[1::3], parts[2::3]
                text = _MARK.join(between)
        return parse_json(text, seconds, size - len(text))

    def is_file(self, raw: Any, asked: Asked) -> bool:
        """Tell whether the node asked for is no directory."""
        if raw is None:
            return len(self._paths) == 1 and is_shown_by(asked, {"key": self._paths[0]})
        return raw.get("dir") is not True and "value" in raw

    def only_text(self) -> str:
        """Return the text of the file asked for."""
        (text,) = self._texts
        return text

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the content of the directory asked for."""
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
        # etcd has often sorted them already; but escaped names sort unlike the keys.
        given = list(content)
        order = sorted(given)
        return content if order == given else {key: content[key] for key in order}

    def _left_in(
        self, directory: str, names: list[str], texts: list[str]
    ) -> dict[str, Any]:
        """Return the content of a directory of files, without names without a key."""
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
            # Decode them again, one by one, to get an error that names the key.
            pairs = zip(names, texts, strict=True)
            return [decode_node(f"{directory}/{name}", t, decode) for name, t in pairs]

    def _take(self, directory: str, count: int) -> tuple[list[str], list[str]]:
        """Return the names and texts of the next files that were cut out."""
        start = self._at
        self._at = end = start + count
        paths, texts = self._paths[start:end], self._texts[start:end]
        if len(paths) != count:
            raise InvalidResponse("a null among the nodes")
        prefix = f"{directory}/"
        names = [path.removeprefix(prefix) for path in paths]
        # For speed, check at once that each had the prefix, and that each has a name.
        joined = "".join(names)
        cut = len("".join(paths)) - len(joined)
        if cut != count * len(prefix) or "/" in joined or "" in names:
            raise InvalidResponse("a node that is no child of its directory")
        return names, texts

    def _key(self, directory: str, name: str) -> str | None:
        key = (self._key_of or PLAIN.key)(name)
        if key is None:
            warn_left_out(f"{directory}/{name}")
        return key

    def _mixed(self, directory: str, listed: list[Any]) -> dict[str, Any]:
        """Return the content of a directory with children of all kinds."""
        content = {}
        # In the order of the answer, in which the files were cut out as well.
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
        """Count the files that were cut out below a node that is left out."""
        for below in (child or {}).get("nodes", ()):
            if below is None:
                self._at += 1
            else:
                self._skip(below)

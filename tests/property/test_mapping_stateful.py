"""Every method of the mappings, in any order, beside a model in memory.

One client is driven through a mapping, two sub-mappings and their flat views, with
other consistencies and codecs, and through `keys_api`; a second, foreign client
writes in between.  After every step the server's own tree is that of the model.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import os
from collections.abc import Callable, Iterator
from operator import contains, delitem, getitem, ior, setitem
from typing import Any, ClassVar, TypeAlias

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from etcdmap import (
    Client,
    EtcdMapping,
    FlatView,
    KeyNotFound,
    Node,
    PartialWrite,
)
from etcdmap.cache import ReadCache
from etcdmap.client.endpoint_health import Policy
from etcdmap.codecs import TextCodec
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import WireTransport
from etcdmap.tree import File
from etcdmap.v2 import Memory

from support.tree_model import DirNode, FileNode, ModelTree, ModelView, Path
from support.tree_model import ModelMapping as Model
from support.values import same_value

#: Examples, and steps of each.
EXAMPLES, STEPS = 40, 30
#: To make a failure smaller takes minutes: not where nobody waits for it.
PHASES = [
    Phase.reuse,
    Phase.generate,
    *([] if os.environ.get("CI") else [Phase.shrink]),
]
CACHE_TTL = 60.0
#: Seconds that no test takes.
TTL = 10_000

#: No second copies of requests, however slow the machine is.
CALM = Policy(first_delay=60.0, read_floor=60.0, write_floor=60.0)

Call: TypeAlias = Callable[[Any], Any]

# --- what is drawn -------------------------------------------------------------

NAMES = ["a", "b", "c", "ü#?%2F+ ;"]
PATHS = ["a/a", "a/b", "a/c", "b/c", "c/a", "a/b/a", "a/b/c", "a/c/b", "a/b/c/a"]
IMPOSSIBLE = [".", "", "_h", "a//b", "b/_h", "a\x07"]
VALUES = [0, 1, 1.0, True, "", "1", "x", None, [], [1, "1", [None]], '"', "1.10"]

keys = st.sampled_from([*NAMES, *PATHS] * 4 + [*IMPOSSIBLE, 5, None])
names = st.sampled_from(NAMES)
values = st.sampled_from(VALUES)
nested = st.recursive(
    values, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=5
)
mappings = st.dictionaries(names, nested, max_size=3)
#: What is refused somewhere inside.
refused = st.sampled_from(
    [{1}, float("nan"), {"a": {"b": {1}}}, {"a/b": 1}, {"a": {"_h": 1}}, {"": 1}]
)
mostly_good = nested | nested | nested | nested | refused
by_path = st.dictionaries(
    st.sampled_from([*NAMES, *PATHS] * 6 + IMPOSSIBLE), mostly_good, max_size=3
)
flat_content = st.dictionaries(keys, values, max_size=3)
ttls = st.sampled_from([None, None, TTL])
#: Where a mapping stands, and with which options.
places = st.tuples(
    st.sampled_from(["", "a", "a/b"]),
    st.sampled_from([None, None, None, "linearizable", "any", "text", "timeout"]),
)
#: Absolute paths, the directory of the mapping itself among them.
absolute = st.sampled_from(["m", "m/a", "m/a/b", "m/a/c", "m/b", "m/b/c", "m/a/b/c/a"])

#: Looks at a whole mapping, nested or flat.
LOOKS: dict[str, Call] = {
    "list": list,
    "reversed": lambda m: list(reversed(m)),
    "len": len,
    "bool": bool,
    "keys": lambda m: list(m.keys()),
    "values": lambda m: list(m.values()),
    "items": lambda m: list(m.items()),
    "keys-and": lambda m: m.keys() & {"a", "b/c", "x"},
    "keys-or": lambda m: m.keys() | {"a", "x"},
    "keys-less": lambda m: m.keys() - {"a"},
    "keys-xor": lambda m: m.keys() ^ {"a", "x"},
    "keys-disjoint": lambda m: m.keys().isdisjoint({"a", "b"}),
    "values-in": lambda m: 1 in m.values(),
    "items-in": lambda m: ("a", 1) in m.items(),
    "dict": dict,
    "unpacked": lambda m: {**m},
    "to_dict": lambda m: m.to_dict(),
    "copy": lambda m: m.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "equal": lambda m: m == m.to_dict(),
    "unequal": lambda m: m != {"a": 1},
    "or": lambda m: m | {"a": 1},
    "or-right": lambda m: {"a": 1, "x": 2} | m,
}

_numbers = itertools.count()


class Timer:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Give the time in seconds."""
        return self.now


class MappingMachine(RuleBasedStateMachine):
    """Drives mappings and their model."""

    #: Set by each test: a client, a foreign one, the timer of the cache.
    client: ClassVar[Client]
    foreign: ClassVar[Client]
    timer: ClassVar[Timer]

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"/stateful-{os.getpid()}-{next(_numbers)}"
        self.root = EtcdMapping(client=self.client, prefix=f"{self.prefix}/m")
        self.others = EtcdMapping(client=self.foreign, prefix=f"{self.prefix}/m")
        self.subs = {key: self.root.sub(key) for key in ("a", "a/b")}
        self.tree = ModelTree()
        #: Whether somebody else wrote since the cache's entries expired.
        self.stale = False
        self.index = 0
        self.root.cache_clear()
        self.others.keys_api.make_directory(self.prefix)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.others.keys_api.delete(self.prefix, recursive=True)

    # --- how both are asked

    def mapping(self, place: tuple[str, Any]) -> Any:
        """Give a mapping of ours."""
        at, option = place
        mapping = self.subs[at] if at else self.root
        if option in ("linearizable", "any"):
            return mapping.using(consistency=option)
        if option == "text":
            return mapping.using(codec="text")
        return mapping.using(timeout=30) if option == "timeout" else mapping

    def model(self, place: tuple[str, str | None]) -> Model:
        """Give the model of a mapping."""
        at, option = place
        base = ("m", *(at.split("/") if at else ()))
        return Model(self.tree, base, TextCodec() if option == "text" else None)

    def both(self, place: tuple[str, str | None], call: Call) -> None:
        """Do something with a mapping and with its model, and compare."""
        self.compare(call, self.mapping(place), self.model(place))

    def both_write(
        self, place: Any, value: Any, write: Callable[[Any], int | None]
    ) -> None:
        """Do a write to both; the index of a value's is told."""

        def call(m: Any) -> None:
            index = write(m)
            if isinstance(m, EtcdMapping):
                assert index == (None if isinstance(value, dict) else m.index())

        self.both(place, call)

    def read(self, place: tuple[str, str | None], call: Call) -> None:
        """Do the same with something that the cache may answer."""
        if self.stale:
            self.timer.now += CACHE_TTL
            self.stale = False
        self.both(place, call)

    def compare(self, call: Call, ours: Any, model: Any) -> None:
        """Compare what comes of a call, be it an exception."""
        expected = self.outcome(call, model)
        actual = self.outcome(call, ours)
        assert same_value(actual, expected), f"{actual!r}, expected {expected!r}"

    def outcome(self, call: Call, mapping: Any) -> Any:
        """Call, and give the result or the exception in plain values."""
        try:
            return self.plain(call(mapping))
        except KeyNotFound as error:
            return KeyNotFound, error.args
        except PartialWrite as error:
            done = [path.removeprefix(f"{self.prefix}/") for path in error.written]
            failed = {
                path.removeprefix(f"{self.prefix}/"): type(cause)
                for path, cause in sorted(error.failed.items())
            }
            return PartialWrite, sorted(done), failed, error.pending
        except (Exception, AssertionError) as error:
            if isinstance(error, AssertionError):
                raise
            return type(error)

    def plain(self, result: Any) -> Any:
        """Turn mappings into where they stand and what they hold."""
        if isinstance(result, EtcdMapping):
            return result.prefix.removeprefix(f"{self.prefix}/"), result.to_dict()
        if isinstance(result, Model):
            return "/".join(result.base), result.to_dict()
        if isinstance(result, list):
            return [self.plain(item) for item in result]
        if isinstance(result, tuple):
            return tuple(self.plain(item) for item in result)
        if type(result) is dict:
            return {key: self.plain(value) for key, value in result.items()}
        assert not isinstance(result, (FlatView, ModelView))
        return result

    # --- what holds after every step

    @invariant()
    def server_holds_what_the_model_holds(self) -> None:
        """Compare the texts, directories and ttls."""
        root = self.others.keys_api.get(self.prefix, recursive=True).node
        assert root is not None
        assert stored(root) == shape(self.tree.root)

    @invariant()
    def cache_holds_nothing_else(self) -> None:
        """Compare every entry that a read would be answered from."""
        cache = Memory.of(self.client).cache
        if cache is None or self.stale:
            return
        for path in list(cache.hot):
            entry = cache.get(path)
            if entry is not None:
                node = self.tree.find(tuple(path.split("/")[2:]))
                assert node is not None, f"{path} is gone"
                if isinstance(entry, File):
                    assert isinstance(node, FileNode)
                    assert (entry.text, entry.ttl is not None) == (node.text, node.ttl)
                else:
                    assert isinstance(node, DirNode)

    # --- reads

    @initialize(content=mappings)
    def start(self, content: dict[str, Any]) -> None:
        """Start with something that others wrote."""
        self.compare(lambda m: m.update(content), self.others, self.model(("", None)))

    @rule(place=places, key=keys)
    def getitem(self, place: Any, key: Any) -> None:
        """`m[k]`."""
        self.read(place, lambda m: m[key])

    @rule(place=places, key=keys, default=values)
    def get(self, place: Any, key: Any, default: Any) -> None:
        """`get`."""
        self.read(place, lambda m: m.get(key, default))

    @rule(place=places, key=keys)
    def contains(self, place: Any, key: Any) -> None:
        """`in`, on the mapping and its keys."""
        self.read(place, lambda m: (contains(m, key), contains(m.keys(), key)))

    @rule(place=places, key=keys)
    def ttl(self, place: Any, key: Any) -> None:
        """`ttl`."""
        self.both(
            place,
            lambda m: m.ttl(key) if isinstance(m, Model) else m.ttl(key) is not None,
        )

    @rule(place=places, look=st.sampled_from(sorted(LOOKS)))
    def look(self, place: Any, look: str) -> None:
        """Look at the whole mapping."""
        self.read(place, LOOKS[look])

    @rule(place=places, look=st.sampled_from(sorted(LOOKS)))
    def look_flat(self, place: Any, look: str) -> None:
        """Look at the whole flat view."""
        self.read(place, lambda m: LOOKS[look](m.flat))

    @rule(one=places, other=places)
    def compare_mappings(self, one: Any, other: Any) -> None:
        """`==` and `|` of two mappings on etcd."""
        for method in ("__eq__", "__or__", "__ror__"):
            expected = self.outcome(getattr(self.model(one), method), self.model(other))
            actual = self.outcome(
                getattr(self.mapping(one), method), self.mapping(other)
            )
            assert same_value(actual, expected), method

    @rule(place=places)
    def complete(self, place: Any) -> None:
        """Key completion, which offers nothing where a loop would raise."""
        mapping, model = self.mapping(place), self.model(place)
        for actual, expected in (
            (mapping, self.outcome(list, model)),
            (mapping.flat, self.outcome(lambda m: list(m.flat), model)),
        ):
            offered = expected if isinstance(expected, list) else []
            assert actual._ipython_key_completions_() == offered

    @rule(place=places)
    def snapshot(self, place: Any) -> None:
        """`snapshot`, and `index`, which never goes back."""
        mapping = self.mapping(place)
        self.both(
            place,
            lambda m: m.to_dict() if isinstance(m, Model) else m.snapshot().value,
        )
        try:
            index = mapping.snapshot().index
        except Exception:  # a file in the way; compared above
            index = self.index
        assert self.index <= index <= self.root.index()
        self.index = index

    @rule(place=places, key=keys)
    def sub(self, place: Any, key: Any) -> None:
        """`sub`, and a look at it."""
        self.read(place, lambda m: m.sub(key))

    @rule()
    def cache_clear(self) -> None:
        """`cache_clear` and `cache_info`."""
        self.root.cache_clear()
        info = self.root.flat.cache_info()
        assert info is None or info.currsize == 0

    # --- writes of one key

    @rule(place=places, key=keys, value=mostly_good)
    def setitem(self, place: Any, key: Any, value: Any) -> None:
        """`m[k] = v`."""
        self.both(place, lambda m: setitem(m, key, value))

    @rule(place=places, key=keys, value=mostly_good, ttl=ttls, keep_ttl=st.booleans())
    def set(
        self, place: Any, key: Any, value: Any, ttl: float | None, keep_ttl: bool
    ) -> None:
        """`set`."""
        self.both_write(
            place, value, lambda m: m.set(key, value, ttl=ttl, keep_ttl=keep_ttl)
        )

    @rule(place=places, key=keys, source=places)
    def copy_mapping(self, place: Any, key: Any, source: Any) -> None:
        """`m[k] = m2`."""
        expected = self.outcome(
            lambda m: setitem(m, key, self.model(source)), self.model(place)
        )
        actual = self.outcome(
            lambda m: setitem(m, key, self.mapping(source)), self.mapping(place)
        )
        assert actual == expected

    @rule(place=places, key=keys, value=mostly_good, ttl=ttls)
    def create(self, place: Any, key: Any, value: Any, ttl: float | None) -> None:
        """`create`."""
        self.both_write(place, value, lambda m: m.create(key, value, ttl=ttl))

    @rule(place=places, key=keys, value=mostly_good, ttl=ttls)
    def replace(self, place: Any, key: Any, value: Any, ttl: float | None) -> None:
        """`replace`."""
        self.both_write(place, value, lambda m: m.replace(key, value, ttl=ttl))

    @rule(place=places, key=keys)
    def delitem(self, place: Any, key: Any) -> None:
        """`del m[k]`."""
        self.both(place, lambda m: delitem(m, key))

    @rule(place=places, key=keys, default=st.just(()) | st.tuples(values))
    def pop(self, place: Any, key: Any, default: tuple[Any, ...]) -> None:
        """`pop`."""
        self.both(place, lambda m: m.pop(key, *default))

    @rule(place=places)
    def popitem(self, place: Any) -> None:
        """`popitem`."""
        self.both(place, lambda m: unless_empty(m.popitem))

    @rule(place=places, key=keys, value=mostly_good)
    def setdefault(self, place: Any, key: Any, value: Any) -> None:
        """`setdefault`."""
        self.both(place, lambda m: m.setdefault(key, value))

    @rule(place=places, key=keys, ttl=ttls)
    def mkdir(self, place: Any, key: Any, ttl: float | None) -> None:
        """`mkdir`."""
        self.both(place, lambda m: m.mkdir(key, ttl=ttl))

    @rule(place=places, key=keys)
    def refresh(self, place: Any, key: Any) -> None:
        """`refresh`, but on a directory, which etcd 3.5 can't."""
        if not isinstance(self.model(place)._read(key), DirNode):
            self.both(place, lambda m: m.refresh(key, TTL))

    @rule(place=places, value=mostly_good, ttl=ttls)
    def append(self, place: Any, value: Any, ttl: float | None) -> None:
        """`append`, whose key sorts last."""
        model = self.model(place)

        def store(m: Any) -> int:
            if isinstance(m, Model):
                m._encode_text(value)
                m._directory()
                return 20
            key = m.append(value, ttl=ttl)
            node = FileNode(model.codec.encode(value), ttl is not None)
            older = [k for k in model if k.isdigit()]
            self.tree.put((*model.base, key), node)
            assert all(k < key for k in older)
            return len(key)

        self.both(place, store)

    # --- conditions

    @rule(place=places, key=keys, expected=values, new=mostly_good, ttl=ttls)
    def compare_and_swap(
        self, place: Any, key: Any, expected: Any, new: Any, ttl: float | None
    ) -> None:
        """`compare_and_swap`, which gives the index of the write."""

        def swap(m: Any) -> None:
            index = m.compare_and_swap(key, expected, new, ttl=ttl)
            assert isinstance(m, Model) or index == m.index()

        self.both(place, swap)

    @rule(place=places, key=keys, new=values)
    def compare_and_swap_present(self, place: Any, key: Any, new: Any) -> None:
        """`compare_and_swap` with what is there."""
        present = self.model(place)._read(key)
        if isinstance(present, FileNode):
            expected = self.model(place)._decode(present)
            self.compare_and_swap(place, key, expected, new, None)

    @rule(place=places, key=keys, expected=values)
    def compare_and_delete(self, place: Any, key: Any, expected: Any) -> None:
        """`compare_and_delete`, with any value and with what is there."""
        self.both(place, lambda m: m.compare_and_delete(key, expected))
        present = self.model(place)._read(key)
        if isinstance(present, FileNode):
            value = self.model(place)._decode(present)
            self.both(place, lambda m: m.compare_and_delete(key, value))

    @rule(place=places, key=keys, new=values, default=st.just({}) | st.just(5))
    def transform(self, place: Any, key: Any, new: Any, default: Any) -> None:
        """`transform`, with and without a default."""
        options = {} if default == {} else {"default": default}
        seen: list[Any] = []

        def change(value: Any) -> Any:
            seen.append(value)
            return new

        self.both(place, lambda m: m.transform(key, change, **options))
        assert len(seen) in (0, 2)
        assert not seen or same_value(*seen)

    # --- writes of many keys

    @rule(place=places, content=by_path, more=mappings, how=st.integers(0, 2))
    def update(self, place: Any, content: Any, more: Any, how: int) -> None:
        """`update` from a mapping, from pairs with keywords, and `|=`."""
        calls: list[Call] = [
            lambda m: m.update(content),
            lambda m: m.update(list(content.items()), **more),
            lambda m: ior(m, content) is m,
        ]
        self.both(place, calls[how])

    @rule(place=places, content=by_path, ttl=ttls)
    def merge(self, place: Any, content: Any, ttl: float | None) -> None:
        """`merge`."""
        self.both(place, lambda m: discard(m.merge(content, ttl=ttl)))

    @rule(place=places, content=mappings | mappings | by_path)
    def assign(self, place: Any, content: Any) -> None:
        """`assign`, after a dry run: it tells what it will do, and does just that."""
        before = shape(self.tree.root)
        self.both(place, lambda m: discard(m.assign(content, dry_run=True)))
        self.server_holds_what_the_model_holds()
        try:
            planned = self.mapping(place).assign(content, dry_run=True)
        except Exception:  # refused; compared above
            planned = None
        told: list[Any] = []
        self.both(place, lambda m: told.append(m.assign(content)))
        assert told[1:] == ([] if planned is None else [planned])
        assert bool(planned) == (shape(self.tree.root) != before)

    @rule(place=places)
    def clear(self, place: Any) -> None:
        """`clear`."""
        self.both(place, lambda m: m.clear())

    # --- the flat view

    @rule(place=places, key=keys, default=values)
    def flat_reads(self, place: Any, key: Any, default: Any) -> None:
        """Reads of one path."""
        self.read(place, lambda m: getitem(m.flat, key))
        self.read(place, lambda m: m.flat.get(key, default))
        self.read(
            place, lambda m: (contains(m.flat, key), contains(m.flat.keys(), key))
        )

    @rule(place=places, key=keys, value=mostly_good)
    def flat_setitem(self, place: Any, key: Any, value: Any) -> None:
        """`flat[k] = v`."""
        self.both(place, lambda m: setitem(m.flat, key, value))

    @rule(place=places, key=keys)
    def flat_delitem(self, place: Any, key: Any) -> None:
        """`del flat[k]`."""
        self.both(place, lambda m: delitem(m.flat, key))

    @rule(place=places, key=keys, default=st.just(()) | st.tuples(values))
    def flat_pop(self, place: Any, key: Any, default: tuple[Any, ...]) -> None:
        """`flat.pop`."""
        self.both(place, lambda m: m.flat.pop(key, *default))

    @rule(place=places)
    def flat_popitem(self, place: Any) -> None:
        """`flat.popitem`."""
        self.both(place, lambda m: unless_empty(m.flat.popitem))

    @rule(place=places, key=keys, value=mostly_good)
    def flat_setdefault(self, place: Any, key: Any, value: Any) -> None:
        """`flat.setdefault`."""
        self.both(place, lambda m: m.flat.setdefault(key, value))

    @rule(place=places, content=flat_content, how=st.integers(0, 2))
    def flat_update(self, place: Any, content: Any, how: int) -> None:
        """`flat.update` from a mapping and from pairs, and `|=`."""
        calls: list[Call] = [
            lambda m: m.flat.update(content),
            lambda m: m.flat.update(list(content.items()), b=1),
            lambda m: type(ior(m.flat, content)) is type(m.flat),
        ]
        self.both(place, calls[how])

    @rule(place=places)
    def flat_clear(self, place: Any) -> None:
        """`flat.clear`."""
        self.both(place, lambda m: m.flat.clear())

    # --- keys_api, ours or another client's; other mappings

    @rule(mine=st.booleans(), path=absolute, value=values, ttl=ttls)
    def api_set(self, mine: bool, path: str, value: Any, ttl: float | None) -> None:
        """A file is written."""
        text = str(value)
        self.api(
            mine,
            lambda keys: keys.set(f"{self.prefix}/{path}", text, ttl=ttl),
            lambda tree: tree.set(split(path), text, ttl is not None),
        )

    @rule(mine=st.booleans(), path=absolute, ttl=ttls)
    def api_make_directory(self, mine: bool, path: str, ttl: float | None) -> None:
        """A directory is made."""
        self.api(
            mine,
            lambda keys: keys.make_directory(f"{self.prefix}/{path}", ttl=ttl),
            lambda tree: tree.make_directory(split(path), ttl is not None),
        )

    @rule(mine=st.booleans(), path=absolute)
    def api_delete(self, mine: bool, path: str) -> None:
        """Whatever is there is deleted."""
        self.api(
            mine,
            lambda keys: keys.delete(f"{self.prefix}/{path}", recursive=True),
            lambda tree: tree.delete(split(path)),
        )

    @rule(mine=st.booleans(), path=absolute)
    def api_refresh(self, mine: bool, path: str) -> None:
        """A file gets a ttl, and another index."""
        try:
            is_directory = isinstance(self.tree.find(split(path)), DirNode)
        except Exception:  # a file in the way
            is_directory = False
        if not is_directory:
            self.api(
                mine,
                lambda keys: keys.refresh(f"{self.prefix}/{path}", TTL),
                lambda tree: tree.refresh(split(path)),
            )

    @rule(mine=st.booleans(), path=absolute)
    def api_hide(self, mine: bool, path: str) -> None:
        """A hidden file is written, which only makes the way to it be seen."""
        self.api(
            mine,
            lambda keys: keys.set(f"{self.prefix}/{path}/_hidden", "x"),
            lambda tree: tree.pass_through(split(path)),
        )

    def api(self, mine: bool, call: Call, model: Call) -> None:
        """Write through `keys_api`, and compare what is raised."""
        mapping = self.root if mine else self.others
        expected = self.outcome(lambda tree: discard(model(tree)), self.tree)
        actual = self.outcome(lambda keys: discard(call(keys)), mapping.keys_api)
        if isinstance(expected, tuple):
            expected, actual = expected[0], actual[0]  # of KeyNotFound the type only
        assert actual == expected
        self.stale |= not mine

    @rule(content=by_path, key=keys, how=st.integers(0, 3))
    def others_write(self, content: Any, key: Any, how: int) -> None:
        """Another client writes through a mapping of its own."""
        calls: list[Call] = [
            lambda m: m.update(content),
            lambda m: discard(m.merge(content)),
            lambda m: discard(m.assign(content)),
            lambda m: m.pop(key),
        ]
        self.compare(calls[how], self.others, self.model(("", None)))
        self.stale = True


def unless_empty(popitem: Callable[[], Any]) -> Any:
    """Pop, or tell that there is nothing."""
    try:
        return popitem()
    except KeyError:
        return "empty"


def discard(result: object) -> None:
    """Give nothing."""


def split(path: str) -> Path:
    """Give the segments of a path."""
    return tuple(path.split("/"))


def stored(node: Node) -> Any:
    """Give what the server holds, to be compared with a `shape`."""
    if not node.dir:
        return node.value, node.ttl is not None
    children = {
        child.key.rpartition("/")[2]: stored(child) for child in node.nodes or ()
    }
    return children, node.ttl is not None


def shape(node: FileNode | DirNode) -> Any:
    """Give what the model holds."""
    if isinstance(node, FileNode):
        return node.text, node.ttl
    return {name: shape(child) for name, child in node.children.items()}, node.ttl


# --- the tests -------------------------------------------------------------------


class UncachedMachine(MappingMachine):
    """With the cache off."""


class CachedMachine(MappingMachine):
    """With the cache on."""


class FencedMachine(MappingMachine):
    """With a second endpoint, which makes writes fenced, and the cache on."""


@pytest.fixture(params=[UncachedMachine, CachedMachine, FencedMachine])
def machine(
    request: pytest.FixtureRequest, etcd: LocalCluster
) -> Iterator[type[MappingMachine]]:
    """Give a machine that drives clients of a real etcd."""
    kind: type[MappingMachine] = request.param
    kind.timer = Timer()
    cache = None if kind is UncachedMachine else ReadCache(CACHE_TTL, timer=kind.timer)
    endpoints = list(etcd.endpoints)
    if kind is FencedMachine:  # the same member by another name
        endpoints += [url.replace("127.0.0.1", "localhost") for url in endpoints]
    with (
        make_client(
            endpoints, WireTransport(), cache=cache, policy=CALM
        ) as kind.client,
        make_client(etcd.endpoints, WireTransport()) as kind.foreign,
    ):
        yield kind


@pytest.mark.timeout(600)  # with the time to make a failure smaller
def test_mapping_any_order_of_calls_agrees_with_the_model(
    machine: type[MappingMachine],
) -> None:
    """Every result, every exception and the server's tree are those of the model."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            settings.default,
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=PHASES,
            report_multiple_bugs=False,
        ),
    )


#: What is no operation on data, or is in a file of its own.
ELSEWHERE = {
    *("prefix", "client", "keys_api", "readonly", "close", "from_url", "using"),
    *("flat", "fromkeys", "with_view", "live", "watch"),
}


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for kind in (EtcdMapping, FlatView)
        for name in dir(kind)
        if not name.startswith("_") and name not in ELSEWHERE
    ),
)
def test_machine_drives_every_public_method(name: str) -> None:
    """A method that is new must be driven, too."""
    module = inspect.getmodule(unless_empty)
    assert module is not None
    source = inspect.getsource(MappingMachine) + inspect.getsource(module)
    assert f".{name}" in source

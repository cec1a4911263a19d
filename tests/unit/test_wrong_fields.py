"""Every call, while one field of the answers to it is something else.

A good server answers, and from one answer on a field of the JSON, or a header, is
absent, or a value of another type or range.  Then the call ends in its time, with what
it would have returned or an error of ours; and nothing that is not etcd's own word for
"absent" is a KeyError.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from operator import delitem, ior, setitem
from typing import Any, NamedTuple

import pytest

from etcdmap import Client, EtcdMapError, EtcdMapping, KeysAPI
from etcdmap.connecting import make_client
from etcdmap.mapping.flat import FlatView
from etcdmap.transport import Answer, Request

from support.altered import alterations, payload_of
from support.scripted_cluster import FakeTime, Steady
from support.small_etcd import SmallEtcd
from support.transports import Instantly

PREFIX = "/app"
CONTENT = {"d": {"x": "2"}, "e": {}, "k": "v", "t": ("5", 500)}
TIMEOUT = 2.0


class World(NamedTuple):
    """What is called: all on one client."""

    mapping: EtcdMapping
    flat: FlatView
    keys: KeysAPI
    client: Client


Deed = Callable[[World], Any]


def of_both(get: Callable[[World], Any]) -> dict[str, list[Deed]]:
    """Return what a mapping and its flat view do alike."""
    return {
        "__len__": [lambda w: len(get(w))],
        "__iter__": [lambda w: list(get(w))],
        "__reversed__": [lambda w: list(reversed(get(w)))],
        "__eq__": [lambda w: get(w) == {"k": "v"}],
        "__or__": [lambda w: get(w) | {}],
        "__ror__": [lambda w: {} | get(w)],
        "__ior__": [lambda w: ior(get(w), {"k": "new"})],
        "__copy__": [lambda w: copy.copy(get(w))],
        "__deepcopy__": [lambda w: copy.deepcopy(get(w))],
        "keys": [lambda w: list(get(w).keys())],
        "values": [lambda w: list(get(w).values())],
        "items": [lambda w: list(get(w).items())],
        "copy": [lambda w: get(w).copy()],
        "to_dict": [lambda w: get(w).to_dict()],
    }


MAPPING: dict[str, list[Deed]] = {
    **of_both(lambda w: w.mapping),
    "__getitem__": [lambda w: w.mapping["k"], lambda w: w.mapping["d"]],
    "get": [lambda w: w.mapping.get("k"), lambda w: w.mapping.get("absent", 5)],
    "__contains__": [lambda w: "k" in w.mapping, lambda w: "absent" in w.mapping],
    "snapshot": [lambda w: w.mapping.snapshot()],
    "index": [lambda w: w.mapping.index()],
    "ttl": [lambda w: w.mapping.ttl("t"), lambda w: w.mapping.ttl("k")],
    "using": [
        lambda w: w.mapping.using(consistency="any")["k"],
        lambda w: w.mapping.using(consistency="linearizable")["k"],
        lambda w: "k" in w.mapping.using(consistency="linearizable"),
    ],
    "sub": [lambda w: w.mapping.sub("d").to_dict()],
    "__setitem__": [
        lambda w: setitem(w.mapping, "k", "new"),
        lambda w: setitem(w.mapping, "fresh", "new"),
        lambda w: setitem(w.mapping, "e", "new"),
        lambda w: setitem(w.mapping, "d", {"x": "new"}),
    ],
    "__delitem__": [
        lambda w: delitem(w.mapping, "k"),
        lambda w: delitem(w.mapping, "d"),
    ],
    "set": [
        lambda w: w.mapping.set("k", "new", ttl=5),
        lambda w: w.mapping.set("t", "new", keep_ttl=True),
    ],
    "create": [
        lambda w: w.mapping.create("fresh", "new"),
        lambda w: w.mapping.create("fresh", {"x": "new"}),
    ],
    "replace": [lambda w: w.mapping.replace("k", "new")],
    "compare_and_swap": [lambda w: w.mapping.compare_and_swap("k", "v", "new")],
    "compare_and_delete": [lambda w: w.mapping.compare_and_delete("k", "v")],
    "transform": [
        lambda w: w.mapping.transform("t", lambda v: "new"),
        lambda w: w.mapping.transform("fresh", lambda v: v, default="new"),
    ],
    "append": [lambda w: w.mapping.append("new")],
    "refresh": [lambda w: w.mapping.refresh("t", 500)],
    "mkdir": [lambda w: w.mapping.mkdir("fresh")],
    "pop": [
        lambda w: w.mapping.pop("k"),
        lambda w: w.mapping.pop("d"),
        lambda w: w.mapping.pop("absent", 5),
    ],
    "popitem": [lambda w: w.mapping.popitem()],
    "setdefault": [
        lambda w: w.mapping.setdefault("k", "new"),
        lambda w: w.mapping.setdefault("fresh", "new"),
    ],
    "update": [lambda w: w.mapping.update(k="new", fresh="new")],
    "merge": [lambda w: w.mapping.merge({"d": {"x": "new", "z": "new"}})],
    "assign": [
        lambda w: w.mapping.assign({"k": "new"}),
        lambda w: w.mapping.assign({"k": "new"}, dry_run=True),
    ],
    "clear": [lambda w: w.mapping.clear()],
}
FLAT: dict[str, list[Deed]] = {
    **of_both(lambda w: w.flat),
    "__getitem__": [lambda w: w.flat["d/x"]],
    "get": [lambda w: w.flat.get("d/x"), lambda w: w.flat.get("absent", 5)],
    "__contains__": [lambda w: "d/x" in w.flat, lambda w: "absent" in w.flat],
    "using": [lambda w: w.flat.using(consistency="linearizable")["k"]],
    "sub": [lambda w: w.flat.sub("d").to_dict()],
    "__setitem__": [lambda w: setitem(w.flat, "d/x", "new")],
    "__delitem__": [lambda w: delitem(w.flat, "d/x")],
    "pop": [lambda w: w.flat.pop("d/x")],
    "popitem": [lambda w: w.flat.popitem()],
    "setdefault": [lambda w: w.flat.setdefault("d/z", "new")],
    "update": [lambda w: w.flat.update({"d/x": "new", "k": "new"})],
    "clear": [lambda w: w.flat.clear()],
}
KEYS: dict[str, list[Deed]] = {
    "get": [
        lambda w: w.keys.get("/app/t"),
        lambda w: w.keys.get("/app", recursive=True, sorted=True, quorum=True),
    ],
    "exists": [lambda w: w.keys.exists("/app/k")],
    "watch": [
        lambda w: (w.keys.set("/app/k", "new"), w.keys.watch("/app/k", after_index=1))
    ],
    "set": [
        lambda w: w.keys.set("/app/k", "new"),
        lambda w: w.keys.set("/app/k", "new", no_value_on_success=True),
    ],
    "create": [lambda w: w.keys.create("/app/fresh", "new")],
    "update": [lambda w: w.keys.update("/app/k", "new", ttl=5)],
    "compare_and_swap": [
        lambda w: w.keys.compare_and_swap("/app/k", "new", prev_value="v")
    ],
    "compare_and_delete": [
        lambda w: w.keys.compare_and_delete("/app/k", prev_value="v")
    ],
    "create_in_order": [lambda w: w.keys.create_in_order("/app/e", "new")],
    "make_directory": [lambda w: w.keys.make_directory("/app/fresh")],
    "refresh": [lambda w: w.keys.refresh("/app/t", 500)],
    "delete": [lambda w: w.keys.delete("/app/d", recursive=True)],
}
CLIENT: dict[str, list[Deed]] = {"sync": [lambda w: w.client.sync()]}

#: What sends nothing, or only what others above send.
SILENT = {
    Client: {
        *("after_fork", "api", "close", "deadline", "endpoints", "forget_cluster"),
        *("freshness", "order", "pin", "pinned", "send", "send_by"),
    },
    KeysAPI: {"fetch", "present", "store"},
    EtcdMapping: {
        *("cache_clear", "cache_info", "client", "close", "flat", "from_url"),
        *("keys_api", "prefix", "readonly", "with_view"),
        *("live", "watch"),  # refused over a transport like this one
    },
}
SILENT[FlatView] = SILENT[EtcdMapping] - {*("flat", "from_url", "live", "watch")}
TABLES = {EtcdMapping: MAPPING, FlatView: FLAT, KeysAPI: KEYS, Client: CLIENT}


class Altered(Instantly):
    """A transport to a good server whose answers are altered from one of them on.

    Attributes:
        answers: those given so far, as they were.
        said_absent: whether one, as it was altered, is etcd's word for "absent".
    """

    def __init__(self, first: int, alter: Callable[[Answer], Answer]) -> None:
        self._inner = SmallEtcd(CONTENT, PREFIX)
        self._first = first
        self._alter = alter
        self.answers: list[Answer] = []
        self.said_absent = False

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Carry it out, and alter the answer."""
        given = self._inner.exchange(endpoint, request, timeout)
        self.answers.append(given)
        assert len(self.answers) < 3000, "asked again without an end"
        if len(self.answers) > self._first:
            given = self._alter(given)
        if given.status == 404:
            payload = payload_of(given)
            code = payload.get("errorCode") if isinstance(payload, dict) else None
            self.said_absent |= not given.body or code in (100, 104)
        return given

    def close(self) -> None:
        """There is nothing to close."""


def outcome(deed: Deed, transport: Altered) -> tuple[Any, EtcdMapError | None]:
    """Do it; give what it returned, or an error of ours.  Another one ends the test."""
    time = FakeTime()
    options: dict[str, Any] = {"clock": time.clock, "sleep": time.sleep}
    client = make_client(
        "http://a:1", transport, rng=Steady(), timeout=TIMEOUT, fence=True, **options
    )
    began = time.now
    try:
        with client, EtcdMapping(client=client, prefix=PREFIX) as mapping:
            world = World(mapping, mapping.flat, mapping.keys_api, client)
            return comparable(deed(world)), None
    except EtcdMapError as error:
        return None, error
    finally:
        # Of writes of many keys each may take so long.
        assert time.now - began <= 8 * TIMEOUT + 0.01


def comparable(value: Any) -> Any:
    """Give what can be compared with the outcome on another client."""
    if isinstance(value, (EtcdMapping, FlatView)):
        return type(value), value.prefix
    if isinstance(value, Mapping):
        return {key: comparable(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return [comparable(inner) for inner in value]
    return value


def deeds() -> Iterator[Any]:
    """Give all deeds, with names."""
    for kind, table in TABLES.items():
        for name, several in table.items():
            for n, deed in enumerate(several):
                yield pytest.param(deed, id=f"{kind.__name__}.{name}-{n}")


@pytest.mark.parametrize("deed", list(deeds()))
def test_any_call_with_a_wrong_field_ends_well(deed: Deed) -> None:
    """A right value or an error of ours, in time; and absence is etcd's to tell."""
    good = Altered(0, lambda answer: answer)
    right, error = outcome(deed, good)
    assert error is None
    for name, first, alter, fits in alterations(good.answers):
        transport = Altered(first, alter)
        try:
            value, error = outcome(deed, transport)
        except Exception as problem:
            raise AssertionError(f"not ours: {name}") from problem
        if isinstance(error, KeyError):
            assert transport.said_absent or fits, f"taken for absent: {name}"
        if error is None and not fits:
            assert value == right, name


def test_every_public_method_is_called() -> None:
    """A new one needs a line above."""
    for kind, table in TABLES.items():
        public = {
            name
            for name, member in inspect.getmembers(kind)
            if not name.startswith("_")
            or (name in _DUNDERS and "etcdmap" in getattr(member, "__module__", ""))
        }
        assert public == table.keys() | SILENT[kind], kind


_DUNDERS = {name for table in TABLES.values() for name in table if name[0] == "_"}

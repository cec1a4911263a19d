"""What type checkers of users see.  Checked by two of them, never run."""

from __future__ import annotations

from collections.abc import (
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from types import TracebackType
from typing import Any

import requests
from typing_extensions import assert_type

import etcdmap
from etcdmap import (
    Attempt,
    CacheInfo,
    Client,
    ClusterUnavailable,
    Codec,
    DecodeError,
    Difference,
    Differences,
    EtcdMapError,
    EtcdMapping,
    Event,
    FlatView,
    FrozenMapping,
    InvalidKey,
    KeyNotFound,
    KeysAPI,
    LimitExceeded,
    Live,
    Node,
    OutcomeUnknown,
    PartialWrite,
    Refusal,
    RequestFailed,
    Result,
    ServerError,
    Snapshot,
    View,
    Watch,
    connect,
)
from etcdmap.local import LocalCluster, Member

# --- making a mapping ---------------------------------------------------------

m = EtcdMapping("http://127.0.0.1:2379", "/app")
EtcdMapping(["http://a:1", "http://b:2"], prefix="/app", timeout=2, cache_ttl=5.0)
EtcdMapping()
assert_type(m, EtcdMapping)
assert_type(EtcdMapping.from_url("etcd://a:1/app", readonly=True), EtcdMapping)

client = connect(
    ("http://a:1",),
    timeout=2,
    connect_timeout=0.5,
    username="u",
    password="p",
    verify="/ca.pem",
    cert=("/c.pem", "/k.pem"),
    session=requests.Session(),
    shuffle=False,
    max_response=1000,
    cache_ttl=None,
    cache_size=10,
    max_stale=1,
    fence=False,
)
assert_type(client, Client)
EtcdMapping(client=client, prefix="/app", codec="json", escape_keys=True)

EtcdMapping(1)  # type: ignore[arg-type]
EtcdMapping(prefix=b"/app")  # type: ignore[arg-type]
connect(tiemout=1)  # type: ignore[call-arg]


class Upper:
    """A codec of a user's own."""

    def encode(self, value: Any, /) -> str:
        """Give the text to store."""
        return str(value).upper()

    def decode(self, text: str, /) -> str:
        """Give the value of a text."""
        return text


codec: Codec = Upper()
EtcdMapping(codec=Upper())


class NoCodec:
    """Lacks `decode`."""

    def encode(self, value: Any, /) -> str:
        """Give the text to store."""
        return str(value)


EtcdMapping(codec=NoCodec())  # type: ignore[arg-type]

# --- a mapping is a mutable mapping -------------------------------------------

mapping: Mapping[str, Any] = m
mutable: MutableMapping[str, Any] = m
flat_mutable: MutableMapping[str, Any] = m.flat

assert_type(m["k"], Any)
assert_type("k" in m, bool)
assert_type(len(m), int)
assert_type(iter(m), Iterator[str])
assert_type(list(m), list[str])
assert_type(sorted(m), list[str])
assert_type(dict(m), dict[str, Any])
assert_type({**m}, dict[str, Any])
keys: KeysView[str] = m.keys()
values: ValuesView[Any] = m.values()
items: ItemsView[str, Any] = m.items()
assert_type(list(m.keys()), list[str])
assert_type(m.keys() & {"a"}, set[str])
assert_type(m.keys() | {1}, set[str | int])
assert_type(m.keys() - m.flat.keys(), set[str])
assert_type(m.items() & [("a", 1)], set[tuple[str, Any]])
assert_type([(k, v) for k, v in m.items()], list[tuple[str, Any]])
assert_type(m.to_dict(), dict[str, Any])
assert_type(m.copy(), dict[str, Any])
assert_type(m | {"a": 1}, dict[str, Any])
assert_type(m.popitem(), tuple[str, Any])

m["k"] = {"a": [1, None]}
m[1] = 2  # type: ignore[index]
m.update({"a": 1}, b=2)
m.update([("a", 1)])
m.update(m["d"])
m.update(m.sub("d"))
m.merge(dict[str, int]())
m.assign(kv for kv in [("a", 1)])
m |= {"a": 1}
assert_type(m, EtcdMapping)

# --- more than a dict ---------------------------------------------------------

assert_type(m.sub("d"), EtcdMapping)
assert_type(m.mkdir("d", ttl=60), EtcdMapping)
assert_type(m.using(consistency="linearizable", timeout=1, codec=codec), EtcdMapping)
assert_type(m.flat, FlatView)
assert_type(m.flat.sub("d"), FlatView)
assert_type(m.flat.using(timeout=1), FlatView)


class Tagged(EtcdMapping):
    """A subclass whose attribute goes along."""

    tag: str

    def with_view(self, view: View) -> Tagged:
        """Copy it."""
        other = super().with_view(view)
        other.tag = self.tag
        return other


assert_type(Tagged().sub("d"), Tagged)
assert_type(m.snapshot(), Snapshot)
assert_type(m.snapshot().value, dict[str, Any])
assert_type(m.snapshot().index, int)
assert_type(m.set("k", 1, ttl=1.5), int | None)
assert_type(m.ttl("k"), int | None)
assert_type(m.append(1), str)
assert_type(m.compare_and_swap("k", 1, 2), int)
assert_type(m.index(), int)
assert_type(etcdmap.__version__, str)
assert_type(m.prefix, str)
assert_type(m.readonly, bool)
assert_type(m.client, Client)
assert_type(m.keys_api, KeysAPI)
assert_type(m.cache_info(), CacheInfo | None)
assert_type(m.assign({"a": 1}, dry_run=True), Differences)
assert_type(m.merge({"a": 1}, dry_run=True)[0], Difference)
assert_type([(c.action, c.key) for c in m.assign({})], list[tuple[str, str]])

m.create("k", 1)
m.replace("k", 1)
m.compare_and_delete("k", 1)
m.refresh("k", 60)
m.transform("k", lambda value: value + 1, default=0)
m.merge({"a": {"b": 1}}, ttl=60, progress=lambda done, of: done / of)
m.set("k", 1, 60)  # type: ignore[call-arg]
m.transform("k", 1)  # type: ignore[arg-type]


class Config(EtcdMapping):
    """A subclass stays what it is."""


assert_type(Config().sub("d"), Config)
assert_type(Config.from_url("etcd://a"), Config)
with Config() as config:
    assert_type(config, Config)

# --- errors -------------------------------------------------------------------

try:
    m["k"]
except KeyNotFound as not_found:
    as_key_error: KeyError = not_found
    assert_type(not_found.code, int)
    assert_type(not_found.etcd_index, int | None)
except OutcomeUnknown as unknown:
    assert_type(unknown.attempts, tuple[Attempt, ...])
except PartialWrite as partial:
    assert_type(partial.written, tuple[str, ...])
    assert_type(partial.failed, dict[str, Exception])
except DecodeError as undecoded:
    as_value_error: ValueError = undecoded
except (InvalidKey, LimitExceeded) as refused:
    assert_type(refused.refusals, tuple[Refusal, ...])
    assert_type(refused.refusals[0].path, str)
except (ClusterUnavailable, RequestFailed, ServerError) as failed:
    base: EtcdMapError = failed

# --- watching -------------------------------------------------------------------

with m.watch("db", after=5, timeout=1) as watch:
    assert_type(watch, Watch)
    assert_type(next(watch), Event)
    assert_type(watch.index, int)
with m.live(max_stale=5) as live:
    assert_type(live, Live)
    assert_type(live.snapshot(), Snapshot)
    assert_type(live.view(), FrozenMapping)
    assert_type(live.wait(5, timeout=1), bool)
    assert_type(live.state, str)
    assert_type(live.error, EtcdMapError | None)
    assert_type(live.stale_for, float)
    assert_type(next(live.changes()), Event)
    live.subscribe(print, "db", initial=True, quiet=0.5).close()
    live["k"] = 1  # type: ignore[index]

# --- etcd's own operations ------------------------------------------------------

api = m.keys_api
assert_type(api.get("/k", recursive=True, quorum=True), Result)
assert_type(api.get("/k").node, Node | None)
assert_type(api.exists("/k"), bool)
assert_type(api.set("/k", "v", ttl=5, prev_exist=True), Result)
assert_type(api.watch("/k", after_index=5, recursive=True, timeout=60), Result)
api.set("/k", 1)  # type: ignore[arg-type]
if (node := api.get("/k").node) is not None:
    assert_type(node.value, str | None)
    assert_type(node.nodes, tuple[Node, ...] | None)

# --- a local etcd -------------------------------------------------------------

with LocalCluster(members=3) as cluster:
    assert_type(cluster, LocalCluster)
    assert_type(cluster.endpoints, tuple[str, ...])
    assert_type(cluster.leader(), Member)


def context(manager: EtcdMapping, kind: type[BaseException] | None) -> None:
    """`with` swallows nothing."""
    traceback: TracebackType | None = None
    assert_type(manager.__exit__(kind, None, traceback), None)


assert_type(etcdmap.EtcdMapping, type[EtcdMapping])

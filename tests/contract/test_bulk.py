"""Writes of many keys: `update`, `merge`, `assign`, and what is left if they fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from operator import setitem
from types import MappingProxyType
from typing import Any, TypeAlias

import pytest

from etcdmap import (
    EtcdMapError,
    EtcdMapping,
    ExchangeFailed,
    InvalidKey,
    LimitExceeded,
    NotADirectory,
    PartialWrite,
    PrefixRequired,
    ReadOnly,
)
from etcdmap.local import LocalCluster
from etcdmap.mapping import Difference
from etcdmap.transport import Answer, Request, Transport

from support.mapping_kit import StoreKit, deep_sorted
from support.servers import binaries
from support.transports import Between, CountingTransport, answer, exchange
from support.values import same_value

Cost: TypeAlias = "Callable[[Callable[[], object]], list[str]]"
Call: TypeAlias = "Callable[[Any], Any]"

BEFORE: dict[str, Any] = {
    "a": 1,
    "b": {"x": 1, "y": 2, "z": {"deep": "old"}},
    "c": {"gone": 1},
    "d": 4,
    "e": {},
}
#: Every kind of difference: values, types, directories for files and back.
WANTED: dict[str, Any] = {
    "a": 2,
    "b": {"x": 1, "y": True, "z": {"deep": "new"}, "w": {}},
    "c": 5,
    "d": {"q": 1, "r": {"s": {}}},
    "n": {"m": {"o": 7}},
}
ABSENT = object()
#: Above etcd's limit for a form, which is 10 MiB.
TOO_LARGE = "x" * (10 * 1024 * 1024)


@pytest.fixture
def mapping(kit: StoreKit) -> EtcdMapping:
    """Give an empty mapping."""
    return kit.make()


@pytest.fixture
def filled(kit: StoreKit, mapping: EtcdMapping) -> EtcdMapping:
    """Give it with content."""
    kit.fill(mapping.prefix, BEFORE)
    return mapping


# --- what is refused is refused before the first request -------------------------

REFUSED = [
    pytest.param({"ok": 1, "..": 2}, InvalidKey, id="key"),
    pytest.param({"ok": 1, "_h": 2}, InvalidKey, id="hidden"),
    pytest.param({"ok": 1, "x": {"y": {"..": 2}}}, InvalidKey, id="deep-key"),
    pytest.param({"ok": 1, "x": {"a/b": 2}}, InvalidKey, id="deep-path"),
    pytest.param({"ok": 1, 5: 2}, TypeError, id="no-str"),
    pytest.param({"ok": 1, "x": {None: 2}}, TypeError, id="deep-no-str"),
    pytest.param({"ok": 1, "x": {1, 2}}, TypeError, id="value"),
    pytest.param({"ok": 1, "x": {"y": {"z": (1,)}}}, TypeError, id="deep-value"),
    pytest.param({"ok": 1, "x": {"y": float("nan")}}, ValueError, id="nan"),
    pytest.param({"ok": 1, "x": {"y": TOO_LARGE}}, LimitExceeded, id="too-large"),
    pytest.param(
        {"ok": 1, "/".join("x" * 300): 1}, (LimitExceeded, InvalidKey), id="too-deep"
    ),
    pytest.param(5, TypeError, id="no-mapping"),
    pytest.param([1, 2], TypeError, id="no-pairs"),
]
OVERLAPPING = [
    pytest.param({"a": 1, "a/b": 2}, InvalidKey, id="below"),
    pytest.param({"a/b/c": 1, "a": {}}, InvalidKey, id="above"),
]


@pytest.mark.parametrize(("content", "error"), REFUSED + OVERLAPPING)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m, content: m.update(content), id="update"),
        pytest.param(lambda m, content: m.merge(content), id="merge"),
    ],
)
def test_bulk_content_that_is_refused_costs_no_request(
    filled: EtcdMapping, cost: Cost, call: Any, content: Any, error: Any
) -> None:
    """All of it is checked before anything is sent."""

    def attempt() -> None:
        with pytest.raises(error):
            call(filled, content)

    assert cost(attempt) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param({"ok": 1, "..": 2}, InvalidKey, id="key"),
        pytest.param({"ok": 1, "a/_h": 2}, InvalidKey, id="hidden"),
        pytest.param({"ok": 1, 5: 2}, TypeError, id="no-str"),
        pytest.param({"ok": 1, "x": {1, 2}}, TypeError, id="value"),
        pytest.param({"ok": 1, "x": {"y": 2}}, TypeError, id="mapping"),
        pytest.param({"ok": 1, "x": {}}, TypeError, id="empty-mapping"),
        pytest.param({"ok": 1, "x": TOO_LARGE}, LimitExceeded, id="too-large"),
        *OVERLAPPING[:1],
        pytest.param({"a/b/c": 1, "a": 2}, InvalidKey, id="above"),
    ],
)
def test_flat_update_content_that_is_refused_costs_no_request(
    filled: EtcdMapping, cost: Cost, content: Any, error: Any
) -> None:
    """The same for the flat view, which holds no mappings."""

    def attempt() -> None:
        with pytest.raises(error):
            filled.flat.update(content)

    assert cost(attempt) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        *REFUSED,
        pytest.param({"a/b": 1}, InvalidKey, id="path"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_assign_content_that_is_refused_costs_no_request(
    filled: EtcdMapping, cost: Cost, content: Any, error: Any, dry_run: bool
) -> None:
    """The same for `assign`, whose keys are one segment each."""

    def attempt() -> None:
        with pytest.raises(error):
            filled.assign(content, dry_run=dry_run)

    assert cost(attempt) == []


@pytest.mark.parametrize("ttl", [0, -1, True, "5", float("nan"), 1e10])
def test_merge_with_impossible_ttl_costs_no_request(
    filled: EtcdMapping, cost: Cost, ttl: Any
) -> None:
    """A ttl is checked as keys and values are."""

    def attempt() -> None:
        with pytest.raises((TypeError, ValueError)):
            filled.merge({"a": 1}, ttl=ttl)

    assert cost(attempt) == []


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.update({"new": 1, "a/x": 2}), id="update"),
        pytest.param(lambda m: m.update({"new": 1, "a/x": {"y": 2}}), id="mapping"),
        pytest.param(lambda m: m.merge({"new": 1, "a/x/y": 2}), id="merge"),
        pytest.param(lambda m: m.sub("a").update(x=1, y=2), id="update-in-a-file"),
        pytest.param(lambda m: m.sub("a").merge({"x": 1}), id="merge-in-a-file"),
        pytest.param(lambda m: m.sub("a").assign({"x": 1}), id="assign-in-a-file"),
        pytest.param(lambda m: m.sub("a").assign({}), id="assign-nothing"),
        pytest.param(lambda m: m.sub("a/x").assign({"x": 1}), id="assign-below-a-file"),
        pytest.param(lambda m: m.sub("a").clear(), id="clear-a-file"),
        pytest.param(lambda m: m.sub("a").flat.clear(), id="flat-clear-a-file"),
    ],
)
def test_bulk_with_a_file_on_the_way_writes_nothing(
    filled: EtcdMapping, cost: Cost, stored: Callable[[], Any], call: Call
) -> None:
    """What the listing shows to be impossible is refused before the first write."""

    def attempt() -> None:
        with pytest.raises(NotADirectory):
            call(filled)

    assert cost(attempt) == ["GET"]
    assert stored() == BEFORE


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.assign({"a": 1}), id="assign"),
        pytest.param(lambda m: m.assign({}, dry_run=True), id="dry-run"),
        pytest.param(lambda m: m.using(timeout=9).assign({}), id="using"),
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: m.flat.clear(), id="flat-clear"),
        pytest.param(lambda m: m.using(codec="text").flat.clear(), id="using-flat"),
    ],
)
def test_bulk_of_the_whole_cluster_needs_a_prefix(
    kit: StoreKit, cost: Cost, call: Call
) -> None:
    """A mapping made without a prefix is never emptied or replaced."""
    root = kit.on(None)

    def attempt() -> None:
        with pytest.raises(PrefixRequired, match="prefix"):
            call(root)

    assert cost(attempt) == []


def test_bulk_of_the_whole_cluster_may_add(kit: StoreKit, prefix: str) -> None:
    """What replaces nothing works without a prefix, too."""
    root = kit.on(None)
    root.merge({prefix[1:]: {"a": 1}})
    root.update({f"{prefix[1:]}/b": 2})
    assert root[prefix[1:]].to_dict() == {"a": 1, "b": 2}


def test_assign_with_the_root_as_prefix_is_allowed(etcd_version: str) -> None:
    """Whoever gives "/" as prefix means it; on a cluster that nobody else uses."""
    with LocalCluster(members=1, binary=binaries()[etcd_version]) as cluster:
        root = EtcdMapping(cluster.endpoints, prefix="/")
        root["a"] = {"b": 1}
        changes = root.assign({"c": 2})
        assert told(changes) == [("delete", "a"), ("set", "c")]
        assert root == {"c": 2}
        root.close()


def told(changes: list[Difference]) -> list[tuple[str, str]]:
    """Give what was done to which keys, in order."""
    return [(change.action, change.key) for change in changes]


# --- assign ------------------------------------------------------------------------


def test_assign_makes_the_subtree_equal(
    filled: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """Whatever was there, files for directories and back included."""
    filled.assign(WANTED)
    assert same_value(stored(), deep_sorted(WANTED))


def test_assign_tells_what_it_changed(filled: EtcdMapping) -> None:
    """Each request is told: what was done, to which key."""
    changes = filled.assign(WANTED)
    assert told(changes) == [
        ("set", "a"),
        ("make_directory", "b/w"),
        ("set", "b/y"),
        ("set", "b/z/deep"),
        ("delete", "c"),
        ("set", "c"),
        ("make_directory", "d"),
        ("set", "d/q"),
        ("make_directory", "d/r/s"),
        ("delete", "e"),
        ("set", "n/m/o"),
    ]
    assert all(type(change) is Difference for change in changes)


def test_assign_costs_a_request_for_each_change(
    filled: EtcdMapping, cost: Cost
) -> None:
    """One listing, and what was told."""
    changes: list[Difference] = []
    made = cost(lambda: changes.extend(filled.assign(WANTED)))
    assert made[0] == "GET"
    assert len(made) == 1 + len(changes)
    assert "GET" not in made[1:]


def test_assign_dry_run_tells_the_same_and_writes_nothing(
    filled: EtcdMapping, cost: Cost, stored: Callable[[], Any]
) -> None:
    """One request, which is a read; the same changes as are then made."""
    planned: list[Difference] = []
    made = cost(lambda: planned.extend(filled.assign(WANTED, dry_run=True)))
    assert made == ["GET"]
    assert stored() == BEFORE
    assert filled.assign(WANTED) == planned


def test_assign_of_a_thousand_unchanged_keys_is_one_request(
    mapping: EtcdMapping, cost: Cost
) -> None:
    """A config that is as it was costs a listing, whatever its size."""
    values = [0, 1.5, True, None, "x", "8080", "", [1, "2", None], "ü", -1]
    config = {
        f"group{n}": {f"key{k}": values[k % 10] for k in range(50)} for n in range(20)
    }
    mapping.assign(config)
    assert cost(lambda: mapping.assign(json.loads(json.dumps(config)))) == ["GET"]


@pytest.mark.parametrize("new", [1, 1.0, True, "1", "x", None, "null", [1], "[1]", ""])
@pytest.mark.parametrize("old", [1, 1.0, True, "1", None, [1], ""])
def test_assign_compares_values_with_their_types(
    mapping: EtcdMapping, stored: Callable[[], Any], old: Any, new: Any
) -> None:
    """`1`, `1.0` and `True` are equal to a dict, and three values to etcd."""
    mapping.assign({"k": old})
    changes = mapping.assign({"k": new})
    assert changes == (
        [] if same_value(old, new) else [Difference("set", "k", old, new)]
    )
    assert same_value(stored(), {"k": new})


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda m: m.assign({"k": 1, "d": {"x": 1}}), id="assign"),
        pytest.param(lambda m: m.merge({"k": 1, "d": {"x": 1}}), id="merge"),
        pytest.param(lambda m: m.update(k=1, d={"x": 1}), id="update"),
    ],
)
def test_bulk_takes_a_ttl_for_a_difference(mapping: EtcdMapping, call: Call) -> None:
    """What is asked for without a ttl stays for ever."""
    mapping.set("k", 1, ttl=1000)
    mapping.set("d/x", 1, ttl=1000)
    call(mapping)
    assert (mapping.ttl("k"), mapping.ttl("d/x")) == (None, None)
    assert mapping == {"k": 1, "d": {"x": 1}}


def test_assign_makes_a_directory_with_ttl_anew(mapping: EtcdMapping) -> None:
    """What is put into a directory that expires would go with it."""
    mapping.set("d", {"x": 1}, ttl=1000)
    changes = mapping.assign({"d": {"x": 1, "y": 2}})
    assert told(changes) == [("delete", "d"), ("set", "d/x"), ("set", "d/y")]
    assert mapping.ttl("d") is None
    assert mapping == {"d": {"x": 1, "y": 2}}


def test_assign_keeps_the_directory_it_stands_on(mapping: EtcdMapping) -> None:
    """Its own ttl is not what it is asked to change."""
    mapping.mkdir("d", ttl=1000)
    mapping.sub("d").assign({"x": 1})
    assert mapping.ttl("d") is not None
    assert mapping == {"d": {"x": 1}}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(dict, id="dict"),
        pytest.param(MappingProxyType, id="proxy"),
        pytest.param(lambda content: list(content.items()), id="pairs"),
        pytest.param(lambda content: iter(content.items()), id="iterator"),
    ],
)
def test_assign_takes_what_dict_takes(
    kit: StoreKit, mapping: EtcdMapping, kind: Any
) -> None:
    """A mapping, or pairs."""
    kit.fill(mapping.prefix, {"x": 1})
    mapping.assign(kind({"a": 1, "b": {"c": 2}}))
    assert mapping == {"a": 1, "b": {"c": 2}}


def test_assign_another_mapping_reads_it_once(
    kit: StoreKit, filled: EtcdMapping, cost: Cost
) -> None:
    """One listing of each, and the differences."""
    other = kit.make(BEFORE)
    assert cost(lambda: filled.assign(other)) == ["GET", "GET"]


def test_assign_nothing_empties(filled: EtcdMapping, stored: Callable[[], Any]) -> None:
    """The directory itself stays."""
    assert len(filled.assign({})) == len(BEFORE)
    assert stored() == {}


def test_assign_to_an_absent_directory_makes_it(
    mapping: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """A first assign is one like the others."""
    mapping.sub("x/y").assign({"a": 1})
    assert stored() == {"x": {"y": {"a": 1}}}


def test_assign_leaves_hidden_nodes_alone(kit: StoreKit, mapping: EtcdMapping) -> None:
    """What no mapping shows is not its to delete."""
    kit.write(f"{mapping.prefix}/_h", "x")
    mapping.assign({"a": 1})
    mapping.assign({})
    assert kit.read(f"{mapping.prefix}/_h") == "x"


# --- merge and update ----------------------------------------------------------------


def test_merge_keeps_what_is_not_named(
    filled: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """It goes deep; a value replaces a directory, and a mapping a file."""
    filled.merge({"b": {"y": 3, "z": {"n": 1}}, "c": 5, "d": {"q": 1}, "e": {}})
    assert stored() == {
        "a": 1,
        "b": {"x": 1, "y": 3, "z": {"deep": "old", "n": 1}},
        "c": 5,
        "d": {"q": 1},
        "e": {},
    }


def test_merge_of_what_is_there_is_one_request(filled: EtcdMapping, cost: Cost) -> None:
    """Only differences are written."""
    assert cost(lambda: filled.merge(BEFORE)) == ["GET"]
    assert cost(lambda: filled.merge({"b/z": {"deep": "old"}, "a": 1})) == ["GET"]


def test_merge_of_nothing_costs_nothing(filled: EtcdMapping, cost: Cost) -> None:
    """As for `update`."""
    assert cost(lambda: filled.merge({})) == []


def test_merge_with_ttl_writes_every_value(filled: EtcdMapping, cost: Cost) -> None:
    """Each value named gets the ttl, also where it is the same; others keep theirs."""
    made = cost(lambda: filled.merge({"a": 1, "b": {"x": 1}, "n": {"m": 2}}, ttl=99.1))
    assert sorted(made) == ["GET", "PUT", "PUT", "PUT"]
    assert [filled.ttl(key) for key in ("a", "b/x", "n/m")] == [100] * 3
    assert [filled.ttl(key) for key in ("b/y", "b", "n", "d")] == [None] * 4


def test_merge_keeps_the_ttl_of_a_directory(mapping: EtcdMapping) -> None:
    """What is merged into a directory that expires goes with it."""
    mapping.set("d", {"x": 1}, ttl=1000)
    mapping.merge({"d": {"y": 2}})
    assert mapping.ttl("d") is not None
    assert mapping == {"d": {"x": 1, "y": 2}}


def test_update_replaces_for_each_top_level_key(
    filled: EtcdMapping, stored: Callable[[], Any]
) -> None:
    """As a dict does: a mapping named replaces all that was there."""
    filled.update({"b": {"n": 1}, "c": {}, "d": {"q": 1}, "e": 5}, f=6)
    assert stored() == {
        "a": 1,
        "b": {"n": 1},
        "c": {},
        "d": {"q": 1},
        "e": 5,
        "f": 6,
    }


@pytest.mark.parametrize("name", ["ttl", "other", "self", "progress", "dry_run"])
def test_update_takes_every_keyword_for_a_key(mapping: EtcdMapping, name: str) -> None:
    """No keyword is an option."""
    mapping.update(**{name: 1})
    assert mapping == {name: 1}


# --- progress ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "count"),
    [
        pytest.param(lambda m, tell: m.assign(WANTED, progress=tell), 11, id="assign"),
        pytest.param(
            lambda m, tell: m.assign({**BEFORE, "a": 5}, progress=tell), 1, id="one"
        ),
        pytest.param(lambda m, tell: m.assign(BEFORE, progress=tell), 0, id="none"),
        pytest.param(
            lambda m, tell: m.assign(WANTED, dry_run=True, progress=tell),
            0,
            id="dry-run",
        ),
        pytest.param(
            lambda m, tell: m.merge({f"k{n}": n for n in range(50)}, progress=tell),
            50,
            id="merge",
        ),
    ],
)
def test_progress_is_told_of_each_step(
    filled: EtcdMapping, call: Any, count: int
) -> None:
    """Once a request, with how many are done and how many there are."""
    told: list[tuple[int, int]] = []
    threads: set[int] = set()

    def tell(done: int, of: int) -> None:
        told.append((done, of))
        threads.add(threading.get_ident())

    call(filled, tell)
    assert told == [(n, count) for n in range(1, count + 1)]
    assert threads <= {threading.get_ident()}


def test_progress_that_raises_leaves_no_thread_behind(filled: EtcdMapping) -> None:
    """Its error is the caller's; what was under way has ended by then."""

    class Enough(Exception):
        """What the callback raises."""

    def tell(done: int, of: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        filled.merge({f"k{n}": n for n in range(50)}, progress=tell)
    # A transport may have threads of its own, which end a moment later.
    assert "etcdmap-write" not in {thread.name for thread in threading.enumerate()}
    assert filled["k0"] == 0


# --- failures in the middle ----------------------------------------------------------


class Failing(Between):
    """A transport on which the n-th write fails, also when it is tried again.

    Args:
        inner: carries out the others.
        at: which write, counted from 0.
        fault: what becomes of it.
        lasting: whether all writes after it fail as well.
    """

    def __init__(
        self, inner: Transport, at: int, fault: Fault, *, lasting: bool = False
    ) -> None:
        super().__init__(inner)
        self._at = at
        self._fault = fault
        self._lasting = lasting
        self._seen: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def exchange(self, endpoint: str, request: Request, timeout: float) -> Answer:
        """Pass it on, unless it is the one."""
        if request.method in ("GET", "HEAD"):
            return super().exchange(endpoint, request, timeout)
        step = (request.method, request.target)
        with self._lock:
            number = self._seen.setdefault(step, len(self._seen))
        if number == self._at or (self._lasting and number > self._at):
            return self._fault(self.inner, endpoint, request, timeout)
        return super().exchange(endpoint, request, timeout)


Fault: TypeAlias = "Callable[[Transport, str, Request, float], Answer]"


def denied(inner: Transport, endpoint: str, request: Request, timeout: float) -> Answer:
    """Refuse it, as etcd does without the right to write there."""
    body = '{"errorCode":110,"message":"The request requires user authentication"}'
    return answer(body, 401, endpoint=endpoint)


def unsent(inner: Transport, endpoint: str, request: Request, timeout: float) -> Answer:
    """Find nobody there."""
    raise ExchangeFailed("refused", sent=False, lasting=True)


def lost(inner: Transport, endpoint: str, request: Request, timeout: float) -> Answer:
    """Carry it out, and lose the answer."""
    exchange(inner, endpoint, request, timeout)
    raise ExchangeFailed("lost", sent=True)


WRITES = [
    pytest.param(lambda m: m.assign(WANTED), id="assign"),
    pytest.param(lambda m: m.update(WANTED), id="update"),
    pytest.param(lambda m: m.merge(WANTED), id="merge"),
    pytest.param(lambda m: setitem(m, "b", WANTED), id="setitem"),
    pytest.param(lambda m: m.set("b", WANTED, ttl=1000), id="set-ttl"),
    pytest.param(lambda m: m.setdefault("new", WANTED), id="setdefault"),
    pytest.param(lambda m: m.clear(), id="clear"),
    pytest.param(lambda m: m.flat.clear(), id="flat-clear"),
    pytest.param(lambda m: m.flat.update({"a": 2, "b/y": 3, "n/m": 4}), id="flat"),
    pytest.param(lambda m: m.update({f"k{n}": n for n in range(20)}), id="many"),
]


@pytest.fixture
def failing(kit: StoreKit, transport: CountingTransport) -> Callable[..., Any]:
    """Give a function that does a write whose n-th request fails, in a new directory.

    It gives the error, what the server then holds, and what it would hold without.
    """

    def run(call: Call, **options: Any) -> Any:
        m = kit.make(BEFORE)
        inner, error = transport.inner, None
        if options:
            transport.inner = Failing(inner, **options)
        try:
            call(m)
        except EtcdMapError as raised:
            error = raised
        finally:
            transport.inner = inner
        if isinstance(error, PartialWrite):
            return Report(error, m.prefix), kit.stored(m)
        return error, kit.stored(m)

    return run


class Report:
    """What a PartialWrite says, in paths relative to a mapping."""

    def __init__(self, error: PartialWrite, prefix: str) -> None:
        # Their frames would hold the answers, thousands of them.
        assert not any(each.__traceback__ for each in error.failed.values())
        start = len(prefix) + 1
        self.written = [path[start:] for path in error.written]
        self.failed = [path[start:] for path in error.failed]
        self.pending = [path[start:] for path in error.pending]
        self.causes = list(error.failed.values())
        self.text = str(error)


def find(tree: Any, path: str) -> Any:
    """Give what a plain tree holds at a path; of a directory only that it is one."""
    for name in path.split("/"):
        if not isinstance(tree, dict) or name not in tree:
            return ABSENT
        tree = tree[name]
    return dict if isinstance(tree, dict) else tree


def each_failure(
    failing: Any, call: Call, fault: Fault, *, lasting: bool = False
) -> Iterator[tuple[Report, Any, Any]]:
    """Fail at the first write, at the second and so on, until none is left to fail."""
    _, after = failing(call)
    for at in range(100):
        report, held = failing(call, at=at, fault=fault, lasting=lasting)
        if report is None:
            assert held == after
            assert at >= 2, "there were not even two writes"
            return
        if isinstance(report, Report):
            yield report, held, after
        else:  # the directory to be filled could not be made
            assert at == 0


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize(
    ("fault", "lasting"),
    [
        pytest.param(denied, False, id="denied"),
        pytest.param(unsent, False, id="unsent"),
        pytest.param(unsent, True, id="unsent-from-there-on"),
    ],
)
def test_partial_write_tells_what_the_server_holds(
    failing: Any, call: Call, fault: Fault, lasting: bool
) -> None:
    """What is written is as wanted; what failed or is pending is as before."""
    for report, held, after in each_failure(failing, call, fault, lasting=lasting):
        for path in report.written:
            assert find(held, path) == find(after, path), (path, vars(report))
        for path in (*report.failed, *report.pending):
            # A directory may have been deleted to make room for what then failed.
            as_before = (find(BEFORE, path), ABSENT)
            assert find(held, path) in as_before, (path, vars(report))


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("fault", [denied, unsent, lost])
def test_partial_write_names_each_key_once(
    failing: Any, call: Call, fault: Fault
) -> None:
    """All keys of the write are told, each as written, failed or not tried."""
    named = []
    for report, _, _ in each_failure(failing, call, fault):
        paths = [*report.written, *report.failed, *report.pending]
        assert len(paths) == len(set(paths)), vars(report)
        named.append(sorted(paths))
    assert all(paths == named[0] for paths in named)


@pytest.mark.parametrize("call", WRITES)
def test_partial_write_goes_on_after_a_refusal(failing: Any, call: Call) -> None:
    """A key that is refused does not keep the others from being tried."""
    for report, _, _ in each_failure(failing, call, denied):
        assert report.pending == []


@pytest.mark.parametrize("call", WRITES)
def test_partial_write_with_a_lost_answer_tells_it_as_failed(
    failing: Any, call: Call
) -> None:
    """A key of which nobody knows is not among those written.

    What makes room for others and may still be on its way ends the write: nothing is
    sent after it that it could take along.
    """
    for report, held, after in each_failure(failing, call, lost):
        assert len(report.failed) == 1
        assert held == after or report.pending
        assert type(report.causes[0]).__name__ == "OutcomeUnknown"


def test_partial_write_stops_when_no_member_is_there(failing: Any) -> None:
    """What is left is not tried: each key would take its deadline."""
    wanted = {f"k{n:02}": n for n in range(60)}
    report, held = failing(
        lambda m: m.update(wanted), at=30, fault=unsent, lasting=True
    )
    assert len(report.written) == 30
    assert len(report.pending) >= 60 - 30 - 16
    assert {key for key in held if key in wanted} == set(report.written)


def test_partial_write_shows_neither_values_nor_too_much(failing: Any) -> None:
    """Its text names the first key of each kind of failure, and counts the others."""
    report, _ = failing(
        lambda m: m.update({f"k{n}": "secret" for n in range(20)}),
        at=0,
        fault=denied,
        lasting=True,
    )
    assert "secret" not in report.text
    assert "0 done, 20 failed, 0 not tried" in report.text
    _, line = report.text.splitlines()  # all of them failed alike
    assert "k0, and 19 more: " in line


def test_single_write_that_fails_raises_its_own_error(
    filled: EtcdMapping, transport: CountingTransport
) -> None:
    """Where there was one step there is nothing partial."""
    inner = transport.inner
    transport.inner = Failing(inner, 0, unsent)
    with pytest.raises(Exception, match="refused") as caught:
        filled.update(a=2)
    transport.inner = inner
    assert not isinstance(caught.value, PartialWrite)


@pytest.mark.parametrize(
    "nothing", [None, "", b"", [], (), 5, "ab", [1], ["ab", "cd"], {"ab"}, date.today()]
)
def test_assign_of_what_is_no_mapping_deletes_nothing(
    filled: EtcdMapping, cost: Cost, nothing: Any
) -> None:
    """An empty file or variable is no wish to delete everything."""

    def attempt() -> None:
        with pytest.raises(TypeError, match=r"assign\(\) takes a mapping") as caught:
            filled.assign(nothing)
        assert refusals_of(caught.value) == [filled.prefix]

    assert cost(attempt) == []


@pytest.mark.parametrize("write", ["merge", "update"])
@pytest.mark.parametrize("value", [None, 5, "text", ["a", "list"], date.today()])
def test_write_of_what_is_no_mapping_is_refused_like_a_value(
    filled: EtcdMapping, cost: Cost, write: str, value: Any
) -> None:
    """Of a whole document as of each value in it, `.refusals` says what was wrong."""

    def attempt() -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(filled, write)(value)
        assert refusals_of(caught.value) == [filled.prefix]

    assert cost(attempt) == []


def refusals_of(error: BaseException) -> list[str]:
    """Give the paths that an error refuses."""
    return [path for path, _ in error.refusals]  # type: ignore[attr-defined]


def test_dry_run_on_a_readonly_mapping_tells_what_would_change(
    filled: EtcdMapping,
) -> None:
    """Whoever may only read can look for changes."""
    reader = filled.with_view(replace(filled._view, readonly=True))
    before = filled.to_dict()
    assert reader.assign({"new": 1}, dry_run=True)
    assert reader.merge({"new": 1}, dry_run=True)
    assert filled.to_dict() == before
    with pytest.raises(ReadOnly):
        reader.assign({"new": 1})

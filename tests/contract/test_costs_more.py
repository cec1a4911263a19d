"""What each operation that a dict does not have costs, and what the cache saves.

See `test_costs` for those of a dict, one by one, with the cache off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import contains, delitem, eq, setitem
from pathlib import Path
from typing import Any

import pytest

from etcdmap import EtcdMapping, KeyExists, KeysAPI, NotAFile, connect
from etcdmap.cache import ReadCache
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import make_transport

from support.mapping_kit import EtcdKit
from support.transports import CountingTransport

Cost = Callable[[Callable[[], object]], list[str]]
Call = Callable[[Any], object]

CONTENT: dict[str, Any] = {
    "dir": {"a": 1, "b": "x", "sub": {"c": None}},
    "empty": {},
    "file": 1,
    "text": "",
}

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "costs.md"


def loop(iterable: Any) -> None:
    """Loop over something as `for` does, without asking for its length first."""
    for _ in iterable:
        pass


def ignoring(error: type[Exception], call: Call) -> Call:
    """Wrap a call so that an error, which must come, is not in the way."""

    def wrapped(m: Any) -> None:
        with pytest.raises(error):
            call(m)

    return wrapped


@pytest.fixture
def filled(client: Any, prefix: str) -> EtcdMapping:
    """Give a mapping that was filled behind its back."""
    mapping = EtcdKit(client, prefix).make(CONTENT)
    assert isinstance(mapping, EtcdMapping)
    return mapping


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m: m.snapshot(), ["GET"], id="snapshot"),
        pytest.param(lambda m: m.sub("no").snapshot(), ["GET"], id="snapshot-absent"),
        pytest.param(lambda m: m.index(), ["GET"], id="index"),
        pytest.param(lambda m: m.using(timeout=1), [], id="using"),
        pytest.param(lambda m: m.flat, [], id="flat"),
        pytest.param(lambda m: m.cache_info(), [], id="cache_info"),
        pytest.param(lambda m: m.cache_clear(), [], id="cache_clear"),
        pytest.param(lambda m: m._ipython_key_completions_(), ["GET"], id="completion"),
        pytest.param(
            lambda m: m.using(consistency="linearizable")["file"],
            ["GET"],
            id="linearizable-getitem",
        ),
        pytest.param(
            lambda m: "file" in m.using(consistency="linearizable"),
            ["GET"],
            id="linearizable-contains",
        ),
        pytest.param(
            lambda m: m.using(consistency="linearizable").to_dict(),
            ["GET"],
            id="linearizable-to_dict",
        ),
    ],
)
def test_cost_reading_beyond_a_dict_is_one_get_or_none(
    filled: EtcdMapping, cost: Cost, call: Call, expected: list[str]
) -> None:
    """A whole read is one request; options and views are none."""
    assert cost(lambda: call(filled)) == expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m: m.create("new", 1), ["PUT"], id="create"),
        pytest.param(
            ignoring(KeyExists, lambda m: m.create("file", 1)),
            ["PUT"],
            id="create-present",
        ),
        pytest.param(
            lambda m: m.create("new", {"a": 1, "b": {"c": 2}}),
            ["PUT"] * 3,
            id="create-mapping",
        ),
        pytest.param(lambda m: m.create("new", {}), ["PUT"], id="create-empty-mapping"),
        pytest.param(lambda m: m.replace("file", 2), ["PUT"], id="replace"),
        pytest.param(
            ignoring(KeyError, lambda m: m.replace("no", 2)),
            ["PUT"],
            id="replace-absent",
        ),
        pytest.param(
            lambda m: m.replace("dir", 2),
            ["PUT", "PUT", "DELETE", "PUT"],
            id="replace-directory",
        ),
        pytest.param(
            lambda m: m.replace("dir", CONTENT["dir"]),
            ["GET"],
            id="replace-by-the-same-mapping",
        ),
        pytest.param(
            lambda m: m.compare_and_swap("file", 1, 2), ["PUT"], id="compare_and_swap"
        ),
        pytest.param(
            lambda m: m.compare_and_swap("text", "", 2),
            ["GET", "PUT"],
            id="compare_and_swap-empty",
        ),
        pytest.param(
            lambda m: m.compare_and_delete("file", 1),
            ["GET", "DELETE"],
            id="compare_and_delete",
        ),
        pytest.param(
            lambda m: m.compare_and_delete("text", ""),
            ["GET", "DELETE"],
            id="compare_and_delete-empty",
        ),
        pytest.param(
            lambda m: m.transform("file", lambda n: n + 1),
            ["GET", "PUT"],
            id="transform",
        ),
        pytest.param(
            lambda m: m.transform("new", lambda n: n + 1, default=0),
            ["GET", "PUT"],
            id="transform-default",
        ),
        pytest.param(
            ignoring(NotAFile, lambda m: m.transform("dir", str)),
            ["GET"],
            id="transform-directory",
        ),
        pytest.param(lambda m: m.append("x"), ["POST"], id="append"),
        pytest.param(lambda m: m.refresh("file", 60), ["PUT"], id="refresh"),
        pytest.param(
            ignoring(KeyError, lambda m: m.refresh("no", 60)),
            ["PUT"],
            id="refresh-absent",
        ),
        pytest.param(lambda m: m.mkdir("new"), ["PUT"], id="mkdir"),
        pytest.param(lambda m: m.mkdir("new", ttl=60), ["PUT"], id="mkdir-ttl"),
        pytest.param(
            lambda m: m.set("new", {"a": 1, "b": 2}, ttl=60),
            ["GET", *["PUT"] * 3],
            id="set-directory-ttl",
        ),
        pytest.param(
            lambda m: m.set("dir", {"a": 1}, ttl=60),
            ["GET", "DELETE", "PUT", "PUT"],
            id="set-directory-ttl-anew",
        ),
    ],
)
def test_cost_writing_beyond_a_dict(
    filled: EtcdMapping, cost: Cost, call: Call, expected: list[str]
) -> None:
    """One request where etcd has the operation, two where a value is read first."""
    assert cost(lambda: call(filled)) == expected


def test_cost_transform_pays_for_each_writer_that_comes_between(
    filled: EtcdMapping, cost: Cost, raw_write: Callable[[str, str], None]
) -> None:
    """A lost race costs a GET and a PUT more."""
    seen = []

    def disturbed(value: int) -> int:
        seen.append(value)
        if len(seen) == 1:
            raw_write("file", "10")
        return value + 1

    assert cost(lambda: filled.transform("file", disturbed)) == ["GET", "PUT"] * 2
    assert seen == [1, 10]


@pytest.fixture
def raw_write(
    filled: EtcdMapping, etcd: LocalCluster
) -> Iterator[Callable[[str, str], None]]:
    """Give a way to write a key as another program would."""
    with connect(etcd.endpoints) as other:
        keys = KeysAPI(other)

        def write(name: str, text: str) -> None:
            keys.set(f"{filled.prefix}/{name}", text)

        yield write


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m: m.merge({}), [], id="merge-nothing"),
        pytest.param(lambda m: m.merge(CONTENT), ["GET"], id="merge-same"),
        pytest.param(
            lambda m: m.merge({"file": 2, "dir": {"a": 1, "n": 3}}),
            ["GET", "PUT", "PUT"],
            id="merge-two-differences",
        ),
        pytest.param(
            lambda m: m.merge({"file": 1, "dir": {"a": 1}}, ttl=60),
            ["GET", "PUT", "PUT"],
            id="merge-ttl-writes-all",
        ),
        pytest.param(
            lambda m: m.merge({"dir": 5}),
            ["GET", "DELETE", "PUT"],
            id="merge-over-a-directory",
        ),
        pytest.param(lambda m: m.assign(CONTENT), ["GET"], id="assign-same"),
        pytest.param(
            lambda m: m.assign({**CONTENT, "file": True, "new": 1}),
            ["GET", "PUT", "PUT"],
            id="assign-two-differences",
        ),
        pytest.param(
            lambda m: m.assign({"dir": CONTENT["dir"]}),
            ["GET", *["DELETE"] * 3],
            id="assign-removes",
        ),
        pytest.param(lambda m: m.assign({}, dry_run=True), ["GET"], id="assign-dry"),
    ],
)
def test_cost_merge_and_assign_is_a_listing_and_the_differences(
    filled: EtcdMapping, cost: Cost, call: Call, expected: list[str]
) -> None:
    """What is equal already costs nothing."""
    listings = expected.count("GET")
    made = cost(lambda: call(filled))
    assert made[:listings] == expected[:listings]
    assert sorted(made[listings:]) == sorted(expected[listings:])


# --- flat ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda f: f["dir/sub/c"], ["GET"], id="getitem"),
        pytest.param(lambda f: f.get("no"), ["GET"], id="get-absent"),
        pytest.param(lambda f: "dir/a" in f, ["GET"], id="contains"),
        pytest.param(lambda f: contains(f, "dir"), ["GET"], id="contains-directory"),
        pytest.param(lambda f: loop(f), ["GET"], id="loop"),
        pytest.param(lambda f: loop(f.items()), ["GET"], id="items"),
        pytest.param(lambda f: len(f), ["GET"], id="len"),
        pytest.param(lambda f: f.to_dict(), ["GET"], id="to_dict"),
        pytest.param(lambda f: f == {"x": 1}, ["GET"], id="eq"),
        pytest.param(lambda f: eq({"x": 1}, f), ["GET"], id="eq-on-the-left"),
        pytest.param(lambda f: setitem(f, "dir/n", 1), ["PUT"], id="setitem"),
        pytest.param(lambda f: delitem(f, "dir/a"), ["DELETE"], id="delitem"),
        pytest.param(lambda f: f.pop("dir/a"), ["GET", "DELETE"], id="pop"),
        pytest.param(lambda f: f.popitem(), ["GET", "DELETE"], id="popitem"),
        pytest.param(lambda f: f.setdefault("dir/a", 1), ["GET"], id="setdefault"),
        pytest.param(
            lambda f: f.setdefault("dir/n", 1), ["GET", "PUT"], id="setdefault-absent"
        ),
        pytest.param(
            lambda f: f.update({"dir/a": 1, "x/y": 2}), ["PUT"] * 2, id="update"
        ),
        pytest.param(lambda f: f.clear(), ["GET", *["DELETE"] * 5], id="clear"),
    ],
)
def test_cost_of_the_flat_view(
    filled: EtcdMapping, cost: Cost, call: Call, expected: list[str]
) -> None:
    """A loop or a whole read is one request, however deep the tree."""
    assert cost(lambda: call(filled.flat)) == expected


# --- with the cache -------------------------------------------------------------


@pytest.fixture
def cached(
    etcd: LocalCluster, filled: EtcdMapping
) -> Iterator[tuple[EtcdMapping, CountingTransport]]:
    """Give a mapping with a cache, and the transport that counts its requests."""
    transport = CountingTransport(make_transport())
    cache = ReadCache(3600.0)
    with make_client(etcd.endpoints, transport, cache=cache, max_stale=3600) as client:
        assert client.endpoints
        mapping = EtcdMapping(client=client, prefix=filled.prefix)
        assert mapping.index()  # the first read of a client asks for a quorum
        yield mapping, transport


def made(transport: CountingTransport, call: Callable[[], object]) -> list[str]:
    """Tell the methods of the requests that a call makes."""
    before = len(transport.requests)
    call()
    return transport.methods[before:]


@pytest.mark.parametrize(
    ("call", "first", "second"),
    [
        pytest.param(lambda m: m["file"], ["GET"], [], id="getitem"),
        pytest.param(lambda m: m["dir"], ["GET"], [], id="getitem-directory"),
        pytest.param(
            lambda m: m["dir"]["sub"]["c"], ["GET"] * 3, [], id="getitem-deep"
        ),
        pytest.param(lambda m: m["dir/sub/c"], ["GET"], [], id="getitem-path"),
        pytest.param(lambda m: m.get("file"), ["GET"], [], id="get"),
        pytest.param(lambda m: m.get("no"), ["GET"], ["GET"], id="get-absent"),
        pytest.param(lambda m: m.flat["dir/a"], ["GET"], [], id="flat-getitem"),
        pytest.param(lambda m: "dir/a" in m.flat, ["GET"], [], id="flat-contains"),
        pytest.param(lambda m: dict(m), ["GET"], ["GET"], id="dict"),
        pytest.param(lambda m: {**m}, ["GET"], ["GET"], id="unpacking"),
        pytest.param(lambda m: loop(m.items()), ["GET"], ["GET"], id="items"),
        pytest.param(lambda m: m.to_dict(), ["GET"], ["GET"], id="to_dict"),
        pytest.param(lambda m: len(m), ["GET"], ["GET"], id="len"),
        pytest.param(lambda m: m.ttl("file"), ["GET"], ["GET"], id="ttl"),
        pytest.param(
            lambda m: m.using(consistency="linearizable")["file"],
            ["GET"],
            ["GET"],
            id="linearizable",
        ),
        pytest.param(lambda m: "file" in m, ["HEAD"], ["HEAD"], id="contains"),
        pytest.param(
            lambda m: m.setdefault("file", 1), ["GET"], ["GET"], id="setdefault"
        ),
    ],
)
def test_cost_with_the_cache_first_and_second_time(
    cached: tuple[EtcdMapping, CountingTransport],
    call: Call,
    first: list[str],
    second: list[str],
) -> None:
    """One key that was read is in memory; what lists, or decides, asks etcd."""
    mapping, transport = cached
    assert made(transport, lambda: call(mapping)) == first
    assert made(transport, lambda: call(mapping)) == second


@pytest.mark.parametrize(
    "fill",
    [
        pytest.param(lambda m: m["file"], id="getitem"),
        pytest.param(lambda m: loop(m), id="loop"),
        pytest.param(lambda m: len(m), id="len"),
        pytest.param(lambda m: loop(m.flat), id="flat-loop"),
    ],
)
def test_cost_of_a_key_that_another_read_brought_is_nothing(
    cached: tuple[EtcdMapping, CountingTransport], fill: Call
) -> None:
    """Lookup and `in` are answered from the cache then."""
    mapping, transport = cached
    fill(mapping)
    assert made(transport, lambda: (mapping["file"], "file" in mapping)) == []


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: setitem(m, "file", 1), id="setitem"),
        pytest.param(lambda m: m.set("file", 1, ttl=60), id="set"),
        pytest.param(lambda m: setitem(m.flat, "file", 1), id="flat"),
        pytest.param(lambda m: m.refresh("file", 60), id="refresh"),
        pytest.param(lambda m: m.compare_and_swap("file", 1, 1), id="swap"),
        pytest.param(lambda m: m.keys_api.set(f"{m.prefix}/file", "1"), id="keys_api"),
        pytest.param(lambda m: m.cache_clear(), id="cache_clear"),
    ],
)
def test_cost_after_a_write_is_one_get_again(
    cached: tuple[EtcdMapping, CountingTransport], write: Call
) -> None:
    """A write forgets what it wrote over; the next read asks etcd."""
    mapping, transport = cached
    assert mapping["file"] == 1
    write(mapping)
    assert made(transport, lambda: mapping["file"]) == ["GET"]


# --- with several endpoints -----------------------------------------------------


@pytest.fixture
def fenced(
    etcd3: LocalCluster, prefix: str
) -> Iterator[tuple[EtcdMapping, CountingTransport]]:
    """Give a filled mapping on three members, which knows nothing of its keys yet."""
    with connect(etcd3.endpoints) as other:
        EtcdMapping(client=other, prefix=prefix).assign(CONTENT)
    transport = CountingTransport(make_transport())
    with make_client(etcd3.endpoints, transport, max_stale=3600) as client:
        mapping = EtcdMapping(client=client, prefix=prefix)
        assert mapping.index()
        yield mapping, transport


@pytest.mark.parametrize(
    ("call", "first", "second"),
    [
        pytest.param(lambda m: setitem(m, "n", 1), ["GET", "PUT"], ["PUT"], id="new"),
        pytest.param(
            lambda m: setitem(m, "file", 2), ["GET", "PUT"], ["PUT"], id="replace"
        ),
        pytest.param(
            lambda m: setitem(m, "file", m["file"] + 1),
            ["GET", "PUT"],
            ["GET", "PUT"],
            id="after-a-read",
        ),
        pytest.param(
            lambda m: m.update(file=3, n=1), ["GET", *["PUT"] * 2], None, id="update"
        ),
        pytest.param(
            lambda m: m.transform("file", lambda n: n + 1),
            ["GET", "PUT"],
            ["GET", "PUT"],
            id="transform",
        ),
        pytest.param(lambda m: m.create("n", 1), ["PUT"], None, id="create"),
        pytest.param(
            lambda m: m.setdefault("n", 1), ["GET", "PUT"], ["GET"], id="setdefault"
        ),
        pytest.param(
            lambda m: delitem(m, "file"), ["GET", "DELETE"], None, id="delitem"
        ),
        pytest.param(
            lambda m: delitem(m, "dir"), ["GET", "DELETE"], None, id="del-directory"
        ),
        pytest.param(lambda m: m.pop("file"), ["GET", "DELETE"], None, id="pop"),
        pytest.param(lambda m: m.append(1), ["POST"], ["POST"], id="append"),
        pytest.param(lambda m: m.mkdir("n"), ["PUT"], None, id="mkdir"),
        pytest.param(
            lambda m: m.replace("file", 2), ["GET", "PUT"], ["PUT"], id="replace-method"
        ),
        pytest.param(
            lambda m: m.flat.update(file=2, n=1),
            ["GET", "PUT"] * 2,
            ["PUT"] * 2,
            id="flat-update",
        ),
        pytest.param(
            lambda m: setitem(m, "dir", 1),
            ["GET", "GET", "DELETE", "GET", "PUT"],
            ["PUT"],
            id="in-place-of-a-directory",
        ),
        pytest.param(
            lambda m: m.create("n", {"a": 1, "b": 2}),
            ["PUT", *["GET", "PUT"] * 2],
            None,
            id="create-mapping",
        ),
        pytest.param(
            lambda m: m.setdefault("n", {"a": 1, "b": 2}),
            ["GET", "PUT", "PUT", "PUT"],
            ["GET"],
            id="setdefault-mapping",
        ),
    ],
)
def test_cost_on_several_endpoints_first_and_second_time(
    fenced: tuple[EtcdMapping, CountingTransport],
    call: Call,
    first: list[str],
    second: list[str] | None,
) -> None:
    """A write looks first at a key of which the client knows nothing."""
    mapping, transport = fenced
    assert made(transport, lambda: call(mapping)) == first
    if second is not None:
        assert made(transport, lambda: call(mapping)) == second


def test_cost_on_several_endpoints_after_a_foreign_write_is_two_more(
    fenced: tuple[EtcdMapping, CountingTransport], etcd3: LocalCluster
) -> None:
    """What the client remembered is refused; it looks, and writes again."""
    mapping, transport = fenced
    mapping["file"] = 2
    with connect(etcd3.endpoints) as other:
        index = KeysAPI(other).set(f"{mapping.prefix}/file", "3").etcd_index
    while mapping.index() < index:  # the member in use has not heard of it yet
        pass
    expected = ["PUT", "GET", "PUT"]
    assert made(transport, lambda: setitem(mapping, "file", 4)) == expected


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m: m.compare_and_swap("file", 2, 3), id="swap"),
        pytest.param(lambda m: m.keys_api.set(f"{m.prefix}/file", "3"), id="keys_api"),
    ],
)
def test_cost_on_several_endpoints_after_a_write_that_is_not_remembered_is_two_more(
    fenced: tuple[EtcdMapping, CountingTransport], write: Call
) -> None:
    """To the next write of the key it is another client's."""
    mapping, transport = fenced
    mapping["file"] = 2
    write(mapping)
    expected = ["PUT", "GET", "PUT"]
    assert made(transport, lambda: setitem(mapping, "file", 4)) == expected


def test_cost_without_fences_is_that_of_one_endpoint(
    etcd3: LocalCluster, prefix: str
) -> None:
    """`fence=False` saves the look, and gives up what it is good for."""
    transport = CountingTransport(make_transport())
    with make_client(etcd3.endpoints, transport, fence=False) as client:
        mapping = EtcdMapping(client=client, prefix=prefix)
        assert made(transport, lambda: setitem(mapping, "k", 1)) == ["PUT"]


# --- the page -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in dir(EtcdMapping)
        if not name.startswith("_")
        and name
        not in {"client", "close", "keys_api", "prefix", "readonly"}  # say nothing
    ),
)
def test_every_operation_has_a_row_in_the_cost_table(name: str) -> None:
    """The page names each public method and property of a mapping."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = re.findall(rf"\b{name}\b", "\n".join(row.split(" | ")[0] for row in rows))
    assert named, f"{name} is not in {PAGE.name}"

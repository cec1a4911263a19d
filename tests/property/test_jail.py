"""The jail: no key reaches outside the prefix, whatever it holds.

Proved in three ways: by the requests that are made, by what stands around the prefix
on a real etcd afterwards, and by what a server sees on the wire.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import delitem, setitem
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from etcdmap import (
    Client,
    CompareFailed,
    EtcdMapping,
    InvalidKey,
    InvalidResponse,
    KeyExists,
    KeysAPI,
    LimitExceeded,
    Node,
    NotADirectory,
    NotAFile,
    PartialWrite,
)
from etcdmap.connecting import make_client
from etcdmap.local import LocalCluster
from etcdmap.transport import Answer, make_transport
from etcdmap.transport import Request as HTTPRequest

from support.proper import Parts, proper
from support.requests import Request
from support.servers import binaries
from support.transports import CountingTransport, Instantly, answer

# --- keys, and what is done with them -----------------------------------------


class Sly(str):
    """A str whose text depends on how it is asked for."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../../outside"

    def __format__(self, spec: str) -> str:
        return "../../outside"


FRAGMENTS = [
    *("/", "//", ".", "..", "...", "/..", "../", "/../../", "/./", "\\", "..\\", "~"),
    *(
        "%",
        "%2e",
        "%2E%2e",
        "%2F",
        "%2f..%2f",
        "%252F",
        "%00",
        "%ff",
        "%c0%ae",
        "%u002e",
    ),
    *(
        "#",
        "?",
        "?recursive=true",
        "?dir=true&x=",
        "&",
        "=",
        ";",
        "+",
        " ",
        "*",
        "@",
        ":",
    ),
    *(
        "\x00",
        "\n",
        "\r\n",
        " HTTP/1.1\r\nX: y\r\n\r\n",
        "\t",
        "\x7f",
        "\x85",
        "\u2028",
    ),
    *(
        "http://",
        "//127.0.0.1/",
        "v2",
        "keys",
        "/v2/keys/",
        "_",
        "_h",
        "a",
        "b",
        "bx",
        "k",
    ),
    *("é", "e\u0301", "\uff0e\uff0e", "\uff0f", "\u2025", "\u2215", "\ufeff", "\u202e"),
    *("\U0001f600", "\ud800", "\udcff", "\udc2e\udc2e"),
]
texts = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(max_size=3) | st.characters(), max_size=6
).map("".join)
no_texts = st.sampled_from(
    [None, 0, 1, True, 1.5, b"..", ("a", "b"), ["a"], {"a": 1}, object()]
)
keys = texts | texts.map(Sly) | no_texts
names = st.sampled_from(["a", "k", "b", "d", "x y"])
values = st.sampled_from([1, "text", [1], {}, {"a": 1}, {"a": {"b": {}}}])

#: Everything that a mapping can do with a key `k`, which is any, and one `j`.
DEEDS: dict[str, Callable[[Any, Any, Any, Any], object]] = {
    "getitem": lambda m, k, j, v: m[k],
    "getitem-getitem": lambda m, k, j, v: m[j][k],
    "getitem-setitem": lambda m, k, j, v: setitem(m[j], k, v),
    "get": lambda m, k, j, v: m.get(k),
    "contains": lambda m, k, j, v: k in m,
    "keys": lambda m, k, j, v: k in m.keys(),  # noqa: SIM118
    "keys-and": lambda m, k, j, v: m.keys() & {k, j},
    "items": lambda m, k, j, v: (k, v) in m.items(),
    "ttl": lambda m, k, j, v: m.ttl(k),
    "eq": lambda m, k, j, v: m == {k: v},
    "or": lambda m, k, j, v: m | {k: v},
    "setitem": lambda m, k, j, v: setitem(m, k, v),
    "setitem-below": lambda m, k, j, v: setitem(m, j, {k: v}),
    "setitem-deep": lambda m, k, j, v: setitem(m, j, {"x": {k: {j: v}}}),
    "setitem-both": lambda m, k, j, v: setitem(m, k, {k: v}),
    "set-ttl": lambda m, k, j, v: m.set(k, v, ttl=1000),
    "set-keep-ttl": lambda m, k, j, v: m.set(k, "v", keep_ttl=True),
    "del": lambda m, k, j, v: delitem(m, k),
    "del-below": lambda m, k, j, v: delitem(m[j], k),
    "pop": lambda m, k, j, v: m.pop(k),
    "pop-default": lambda m, k, j, v: m.pop(k, None),
    "popitem": lambda m, k, j, v: m.popitem(),
    "setdefault": lambda m, k, j, v: m.setdefault(k, v),
    "setdefault-below": lambda m, k, j, v: m.setdefault(j, {k: v}),
    "update": lambda m, k, j, v: m.update({k: v}),
    "update-pairs": lambda m, k, j, v: m.update([(j, v), (k, v)]),
    "update-below": lambda m, k, j, v: m.update({j: {k: v}}),
    "update-keywords": lambda m, k, j, v: m.update(**{k: v}),
    "ior": lambda m, k, j, v: m.__ior__({k: v}),
    "sub-read": lambda m, k, j, v: m.sub(k).to_dict(),
    "sub-list": lambda m, k, j, v: list(m.sub(k)),
    "sub-write": lambda m, k, j, v: setitem(m.sub(k), j, v),
    "sub-sub": lambda m, k, j, v: setitem(m.sub(j).sub(k), k, v),
    "sub-del": lambda m, k, j, v: delitem(m.sub(k), k),
    "sub-clear": lambda m, k, j, v: m.sub(k).clear(),
    "sub-popitem": lambda m, k, j, v: m.sub(k).popitem(),
    "clear": lambda m, k, j, v: m.clear(),
    "create": lambda m, k, j, v: m.create(k, v),
    "replace": lambda m, k, j, v: m.replace(k, v),
    "compare_and_swap": lambda m, k, j, v: m.compare_and_swap(k, 1, 2),
    "compare_and_delete": lambda m, k, j, v: m.compare_and_delete(k, 1),
    "transform": lambda m, k, j, v: m.transform(k, lambda _: 2, default=1),
    "refresh": lambda m, k, j, v: m.refresh(k, 1000),
    "mkdir": lambda m, k, j, v: m.mkdir(k),
    "append": lambda m, k, j, v: m.sub(k).append(1),
    "merge": lambda m, k, j, v: m.merge({k: v}),
    "merge-below": lambda m, k, j, v: m.merge({j: {k: v}}),
    "assign": lambda m, k, j, v: m.assign({j: {k: v}}),
    "sub-assign": lambda m, k, j, v: m.sub(k).assign({k: v}),
    "flat-read": lambda m, k, j, v: m.flat[k],
    "flat-write": lambda m, k, j, v: setitem(m.flat, k, "v"),
    "flat-del": lambda m, k, j, v: delitem(m.flat, k),
    "flat-pop": lambda m, k, j, v: m.flat.pop(k, None),
    "flat-setdefault": lambda m, k, j, v: m.flat.setdefault(k, "v"),
    "flat-update": lambda m, k, j, v: m.flat.update({k: "v", j: "v"}),
    "sub-flat-clear": lambda m, k, j, v: m.sub(k).flat.clear(),
}

#: What refuses a key or a value, or is how things stand.  Nothing that says that a
#: strange request was made, such as InvalidResponse.
REFUSALS = (
    KeyError,
    TypeError,
    InvalidKey,
    LimitExceeded,
    NotADirectory,
    NotAFile,
    KeyExists,
    CompareFailed,
)


def do(deed: str, mapping: EtcdMapping, key: Any, name: str, value: Any) -> None:
    """Do one of the deeds; being refused is fine."""
    try:
        DEEDS[deed](mapping, key, name, value)
    except REFUSALS:
        return
    except PartialWrite as error:
        if not all(isinstance(cause, REFUSALS) for cause in error.failed.values()):
            raise


# --- what a request may look like -----------------------------------------------

_SEGMENT = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+"  # pchar of RFC 3986
_TARGET = re.compile(rf"/v2/keys((?:/{_SEGMENT})*/?)(?:\?[A-Za-z0-9._~=&%-]*)?")


def check_target(target: str, prefix: str) -> None:
    """Check that a request stays below a prefix, and can't be read otherwise."""
    match = _TARGET.fullmatch(target)
    assert match is not None, f"not fully quoted: {target!r}"
    path = match[1]
    spelt = quote(prefix, safe="/")
    assert f"{path}/".startswith(f"{spelt}/"), f"not below {prefix!r}: {target!r}"
    for segment in path.removesuffix("/").split("/")[1:]:
        assert unquote(segment) not in ("", ".", ".."), f"unclean: {target!r}"
        assert "%2F" not in segment, f"a slash in a name: {target!r}"
        unquote(segment, errors="strict")  # what is quoted is UTF-8


@pytest.mark.parametrize(
    "target",
    [
        "/v2/keys/app2",
        "/v2/keys/other",
        "/v2/keys/",
        "/v2/keys",
        "/v2/keys/app/../x",
        "/v2/keys/app/%2E%2E/x",
        "/v2/keys/app//x",
        "/v2/keys/app/a%2Fb",
        "/v2/keys/app/a b",
        "/v2/keys/app/a#b",
        "/v2/keys/app/é",
        "/v2/keys/app/%ff",
        "/v2/keys/app/%ZZ",
        "/v2/keys/app/a?b#c",
        "http://other/v2/keys/app/x",
        "/v2/keys/app/x HTTP/1.1\r\n",
    ],
)
def test_check_of_the_jail_sees_an_escape(target: str) -> None:
    """The check below would see a request that strays."""
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        check_target(target, "/app")


# --- by the requests -------------------------------------------------------------


class Agreeable(Instantly):
    """A transport to an etcd in which nothing is, and everything succeeds."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    def exchange(self, endpoint: str, request: HTTPRequest, timeout: float) -> Answer:
        """Remember the target and make up an answer."""
        self.targets.append(request.target)
        index = 7 + len(self.targets)
        if request.method in ("GET", "HEAD"):
            return answer('{"errorCode":100,"message":""}', 404, index=index)
        return proper(request, index=index)

    def close(self) -> None:
        """Do nothing."""


@given(
    prefix=st.sampled_from(["/", "/app", "/a b/é#?%2F", "/_h/x"]) | texts.filter(bool),
    key=keys,
    name=names,
    value=values,
    escape=st.booleans(),
)
@example(prefix="/app", key="..", name="a", value=1, escape=False)
@example(prefix="/app", key="a/../../x", name="a", value=1, escape=False)
@example(prefix="/app", key="#", name="a", value=1, escape=False)
@example(prefix="/app", key="..", name="a", value=1, escape=True)
@example(prefix="/app", key=Sly("fine"), name="a", value=1, escape=False)
@example(prefix="/app", key=Sly("fine"), name="a", value=1, escape=True)
@settings(max_examples=100)
def test_jail_every_request_is_quoted_and_below_the_prefix(
    prefix: str, key: Any, name: str, value: Any, escape: bool
) -> None:
    """Whatever is done with a key, each request is spelt so that it stays inside."""
    transport = Agreeable()
    client = make_client("http://127.0.0.1:1", transport)
    try:
        mapping = EtcdMapping(client=client, prefix=prefix, escape_keys=escape)
    except (InvalidKey, LimitExceeded):
        assume(False)
    inside = "" if mapping.prefix == "/" else mapping.prefix
    for deed in DEEDS:
        do(deed, mapping, key, name, value)
    for target in transport.targets:
        check_target(target, inside)


def possible(key: str) -> bool:
    """Tell whether a node can have this key, in other words than the library."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    bad = re.compile(r"\.{0,2}|_.*|.*\ufffd.*", re.DOTALL)
    return not any(bad.fullmatch(segment) for segment in key.split("/"))


@given(key=texts)
@example(key="a/..")
@example(key="...")
@example(key="a%2F..")
@settings(max_examples=100)
def test_jail_key_that_is_asked_for_is_the_one_meant(key: str) -> None:
    """A key that can exist is asked for by its path, any other not at all."""
    transport = Agreeable()
    client = make_client("http://127.0.0.1:1", transport)
    mapping = EtcdMapping(client=client, prefix="/app", consistency="any")
    assert mapping.get(key) is None
    expected = [f"/v2/keys/app/{quote(key, safe='/')}"] if possible(key) else []
    assert transport.targets == expected


# --- by what stands around the prefix ----------------------------------------------

PREFIXES = ["/a/b", "/a/é #?%2F;+/b c", "/_x/y"]
#: What stands beside each of them, and further out.  Hidden ones are asked directly.
BESIDE = ["x", "#", "?x", ".", " ", "%2F", "2/deep/k"]
AROUND = ["/k", "/x", "/v2/keys/k", "/a/k", "/a/x", "/outside", "/a/outside"]
HIDDEN = ["/_h", "/a/_bx", "/_x/_h", "/_x/yx", "/_x/k"]


class World(NamedTuple):
    """An etcd with prefixes, and what stands around them."""

    client: Client
    transport: CountingTransport
    keys: KeysAPI


@pytest.fixture(scope="module")
def world(etcd_version: str) -> Iterator[World]:
    """Plant the sentinels in an etcd of its own; the observer has its own client."""
    transport = CountingTransport(make_transport())
    with (
        LocalCluster(members=1, binary=binaries()[etcd_version]) as cluster,
        make_client(cluster.endpoints, transport, timeout=30) as client,
        make_client(cluster.endpoints, make_transport(), timeout=30) as observer,
    ):
        keys = KeysAPI(observer)
        planted = [f"{prefix}{name}" for prefix in PREFIXES for name in BESIDE]
        for path in {*planted, *AROUND, *HIDDEN}:
            keys.set(path, "sentinel")
        for prefix in PREFIXES:
            keys.set(prefix, dir=True)
        yield World(client, transport, keys)


def outside(world: World, prefix: str) -> set[tuple[Any, ...]]:
    """Give all that is not below a prefix, with its indexes; the prefix included."""
    found = set()
    hidden = [path for path in HIDDEN if not path.startswith("/_x")]
    for root in ["/", "/_x", "/_x/_h", *hidden]:
        node = world.keys.get(root, recursive=True).node
        assert node is not None
        found |= set(flattened(node, prefix))
    return found


def flattened(node: Node, prefix: str) -> Iterator[tuple[Any, ...]]:
    """Give a node and those below it, but for what is below the prefix."""
    if node.key.startswith(f"{prefix}/"):
        return
    yield node.key, node.value, node.created_index, node.modified_index, node.ttl
    for child in node.nodes or ():
        yield from flattened(child, prefix)


@given(
    prefix=st.sampled_from(PREFIXES),
    deeds=st.lists(
        st.tuples(st.sampled_from(sorted(DEEDS)), keys, names, values),
        min_size=1,
        max_size=8,
    ),
    escape=st.booleans(),
)
@example(
    prefix="/a/b",
    deeds=[(deed, "..", "a", 1) for deed in sorted(DEEDS)],
    escape=False,
)
@example(
    prefix="/a/b",
    deeds=[(deed, "../bx", "a", {"a": 1}) for deed in sorted(DEEDS)],
    escape=True,
)
@example(
    prefix="/_x/y",
    deeds=[(deed, Sly("k"), "k", 1) for deed in sorted(DEEDS)],
    escape=False,
)
@example(
    prefix="/a/é #?%2F;+/b c",
    deeds=[(deed, "k#?%2F/%2e%2e", "k", 1) for deed in sorted(DEEDS)],
    escape=False,
)
@settings(max_examples=25)
def test_jail_nothing_outside_the_prefix_changes(
    world: World,
    prefix: str,
    deeds: list[tuple[str, Any, str, Any]],
    escape: bool,
) -> None:
    """Whatever is done with a key, the tree around the prefix stays as it was."""
    before = outside(world, prefix)
    start = len(world.transport.requests)
    mapping = EtcdMapping(client=world.client, prefix=prefix, escape_keys=escape)
    try:
        for deed in deeds:
            do(deed[0], mapping, *deed[1:])
        assert outside(world, prefix) ^ before == set()
    finally:
        world.keys.delete(prefix, recursive=True)
        world.keys.set(prefix, dir=True)
    for request in world.transport.requests[start:]:
        check_target(request.target, prefix)


# --- by what a server sees -----------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Remembers each request line and answers as it is told."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int]
    location: ClassVar[str]
    seen: ClassVar[list[str]]

    def respond(self) -> None:
        """Read the request and answer it; who asks which cluster it is gets told."""
        form = self.rfile.read(int(self.headers.get("content-length", 0)))
        # A good answer, for whoever reads the body of a redirect.
        asked = Request(self.command, self.path, str, form)
        given = proper(asked, "stolen")
        status = self.status
        if Parts(asked).is_identity:
            status = given.status
        else:
            self.seen.append(self.requestline)
        self.send_response(status)
        for name, text in given.headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(given.body)))
        if self.location:
            self.send_header("Location", self.location)
        self.end_headers()
        self.wfile.write(given.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = respond

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    """Give a server: its URL, and its handler to set up and to look at."""

    class Fresh(Handler):
        status = 200
        location = ""
        seen: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", Fresh
        listening.shutdown()
        thread.join(10)


#: What is called, and the requests that it may make.
CALLS: list[tuple[Callable[[Any], object], list[str]]] = [
    (lambda m: m["k"], ["GET /v2/keys/x/k"]),
    (lambda m: m.to_dict(), ["GET /v2/keys/x/?recursive=true"]),
    # A HEAD has no body to tell by, so what is unclear may be asked again.
    (lambda m: "k" in m, ["HEAD /v2/keys/x/k", "GET /v2/keys/x/k"]),
    (lambda m: setitem(m, "k", 1), ["PUT /v2/keys/x/k?noValueOnSuccess=true"]),
    (lambda m: delitem(m, "k"), ["DELETE /v2/keys/x/k?recursive=true"]),
    (lambda m: m.append(1), ["POST /v2/keys/x/"]),
]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["real-etcd", "itself"])
def test_jail_redirect_is_an_error_and_not_followed(
    server: tuple[str, type[Handler]],
    etcd: LocalCluster,
    mapping: EtcdMapping,
    status: int,
    to: str,
) -> None:
    """A redirect to elsewhere is an error; no method goes where it leads."""
    url, handler = server
    target = url if to == "itself" else etcd.endpoints[0]
    handler.status = status
    handler.location = f"{target}/v2/keys{mapping.prefix}/stray"
    for call, lines in CALLS:
        handler.seen.clear()
        with (
            EtcdMapping(url, prefix="/x", consistency="any", timeout=30) as redirected,
            pytest.raises(InvalidResponse),
        ):
            call(redirected)
        seen = [line.removesuffix(" HTTP/1.1").split("&")[0] for line in handler.seen]
        # At most twice: what is no answer may be one to another request.
        assert seen in (lines, lines * 2, lines[:1], lines[:1] * 2)
    assert "stray" not in mapping


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a/b",
        "a b",
        "a#b",
        "a?b=c",
        "a%2Fb",
        "%2e%2e",
        "%2e%2e/%2e%2e",
        "...",
        "a;b",
        "a+b",
        "a\\..\\b",
        "é",
        "e\u0301",
        "\u2028",
        "\uff0e\uff0e",
        "\U0001f600",
        "~!$&'()*,=:@",
        '<">',
        "[x]",
        "{x}|^`",
    ],
)
def test_jail_request_line_on_the_wire_is_the_quoted_path(
    server: tuple[str, type[Handler]], key: str
) -> None:
    """No layer below cleans, unquotes or quotes the path again."""
    url, handler = server
    with EtcdMapping(url, prefix="/a b", consistency="any", timeout=30) as mapping:
        assert mapping[key] == "stolen"
    (line,) = handler.seen
    method, target, protocol = line.split(" ")
    check_target(target, "/a b")
    assert (method, protocol) == ("GET", "HTTP/1.1")
    assert unquote(target) == f"/v2/keys/a b/{key}"

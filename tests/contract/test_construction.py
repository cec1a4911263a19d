"""How a mapping is made: from a URL, from the environment, from a pickle."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import requests

from etcdmap import (
    CredentialsMissing,
    EtcdMapping,
    InvalidKey,
    PrefixRequired,
    RequestFailed,
)
from etcdmap.connecting.urls import parse_url
from etcdmap.local import LocalCluster

PASSWORD = "hunter2 & §/:@?#%"
QUOTED = quote(PASSWORD, safe="")


def host(etcd: LocalCluster) -> str:
    """Give host and port of a member."""
    return next(iter(etcd.endpoints)).removeprefix("http://")


# --- from_url ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("etcd://h", {"endpoints": ["http://h:2379"]}, id="host"),
        pytest.param("etcds://h", {"endpoints": ["https://h:2379"]}, id="tls"),
        pytest.param("etcd://h:1", {"endpoints": ["http://h:1"]}, id="port"),
        pytest.param(
            "etcd://h1:1,h2,h3:3",
            {"endpoints": ["http://h1:1", "http://h2:2379", "http://h3:3"]},
            id="hosts",
        ),
        pytest.param(
            "etcd://h1:1, h2 , h3:3/app",
            {
                "endpoints": ["http://h1:1", "http://h2:2379", "http://h3:3"],
                "prefix": "/app",
            },
            id="hosts-with-spaces",
        ),
        pytest.param(
            " etcd://u:p@h/app\n",
            {
                "endpoints": ["http://h:2379"],
                "prefix": "/app",
                "username": "u",
                "password": "p",
            },
            id="spaces-around-it",
        ),
        pytest.param(
            "etcd://[::1]:1,[::2]",
            {"endpoints": ["http://[::1]:1", "http://[::2]:2379"]},
            id="ipv6",
        ),
        pytest.param(
            "etcd://h/app/x",
            {"endpoints": ["http://h:2379"], "prefix": "/app/x"},
            id="prefix",
        ),
        pytest.param(
            "etcd://h/a%20b%2Fc/%C3%BC",
            {"endpoints": ["http://h:2379"], "prefix": "/a b/c/ü"},
            id="prefix-quoted",
        ),
        pytest.param(
            f"etcd://us%40er:{QUOTED}@h",
            {
                "endpoints": ["http://h:2379"],
                "username": "us@er",
                "password": PASSWORD,
            },
            id="credentials",
        ),
        pytest.param(
            "etcd://user@h",
            {"endpoints": ["http://h:2379"], "username": "user", "password": ""},
            id="user-only",
        ),
        pytest.param(
            "etcd://h/?codec=text&cache_ttl=5&timeout=2.5&readonly=true&shuffle=no"
            "&escape_keys=1&consistency=any&verify=false&cache_size=7",
            {
                "endpoints": ["http://h:2379"],
                "codec": "text",
                "cache_ttl": 5.0,
                "timeout": 2.5,
                "readonly": True,
                "shuffle": False,
                "escape_keys": True,
                "consistency": "any",
                "verify": False,
                "cache_size": 7,
            },
            id="options",
        ),
        pytest.param(
            "etcds://h?verify=/etc/ca.pem&cert=/etc/c.pem",
            {
                "endpoints": ["https://h:2379"],
                "verify": "/etc/ca.pem",
                "cert": "/etc/c.pem",
            },
            id="tls-options",
        ),
    ],
)
def test_parse_url_gives_the_options(url: str, expected: dict[str, Any]) -> None:
    """Each part of it is an argument of a mapping."""
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://root:{QUOTED}@h:1/app", id="http"),
        pytest.param(f"root:{QUOTED}@h:1", id="no-scheme"),
        pytest.param(f"etcd:/root:{QUOTED}@h:1", id="one-slash"),
        pytest.param(f"etcd://root:{QUOTED}@h:port/app", id="port"),
        pytest.param(f"etcd://root:{QUOTED}@/app", id="no-host"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?codecs=text", id="option"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?timeout=soon", id="number"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?timeout=0", id="timeout"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?readonly=maybe", id="flag"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?codec=yaml", id="codec"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/app?consistency=strong", id="reads"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/a//b", id="prefix"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/a/%2E%2E/b", id="prefix-dots"),
        pytest.param(f"etcd://root:{QUOTED}@[::1/app", id="bracket"),
        pytest.param(f"etcd://root:{QUOTED}@h:1/%ff", id="prefix-not-utf-8"),
        pytest.param(f"etcd://root:{QUOTED}%ff@h:1/app", id="password-not-utf-8"),
        pytest.param(f"etcd://root:{QUOTED}@h:1?codec=%c3", id="option-not-utf-8"),
        pytest.param("", id="empty"),
        pytest.param("etcd://root:hunter2/app", id="no-host-at-all"),
        pytest.param("etcd://root:hunter2%40h:2379/app", id="at-quoted"),
        pytest.param("etcd://hunter2%40h/app", id="at-quoted-alone"),
        pytest.param("etcd://root:a?hunter2", id="question-mark"),
        pytest.param("etcd://root:1?hunter2=x", id="question-mark-after-a-port"),
        pytest.param("etcd://root:1?timeout=hunter2", id="as-an-option"),
        pytest.param("etcd://root:1?codec=hunter2", id="as-a-codec"),
        pytest.param("etcd://root:1?consistency=hunter2", id="as-a-consistency"),
        pytest.param("etcd://root:1//hunter2", id="as-a-prefix"),
        pytest.param("etcd://root:1/?prefix=//hunter2", id="as-an-option-prefix"),
        pytest.param("etcd://root:1/hunter2@h", id="slash"),
        pytest.param("etcd://root:1?hunter2@h", id="question-mark-raw"),
        pytest.param("etcd://root:1#hunter2@h", id="hash"),
        pytest.param("etcd://root:hunter2#x@h", id="hash-later"),
        pytest.param("etcd://h,root:hunter2@g", id="second-host"),
        pytest.param("etcd://u:p@h,root:hunter2@g", id="twice"),
        pytest.param("etcd://u:p@h:1,root:hunter2", id="for-a-port"),
        pytest.param("etcd://root:12hunter2", id="begins-as-a-port"),
        pytest.param("etcd://root:99999hunter2@", id="nothing-after-it"),
        pytest.param("etcd://[hunter2]", id="brackets"),
        pytest.param("etcd://root:hunter2]@[h", id="brackets-in-it"),
        pytest.param("etcd://root:hunter2\u2100@h", id="odd-when-normalized"),
        pytest.param("hunter2://h", id="scheme"),
        pytest.param("hunter2", id="alone"),
        pytest.param("root:hunter2", id="no-scheme-and-no-host"),
        pytest.param("http://root:1/hunter2", id="http-slash"),
        pytest.param("http://root:hunter2/app", id="http-for-a-port"),
        pytest.param("http://h,hunter2@h:1", id="http-comma"),
        pytest.param("http://root:1,hunter2", id="http-comma-and-no-host"),
        pytest.param("http://hunter2", id="http-alone"),
        pytest.param("http://first.last:1/hunter2", id="http-user-with-a-dot"),
        pytest.param("first.last:1/hunter2", id="user-with-a-dot"),
        pytest.param("http://localhost:1,root:2/hunter2", id="http-second-user"),
    ],
)
def test_from_url_refuses_what_is_none_and_shows_no_password(url: str) -> None:
    """A ValueError at once, from whichever part; its text is fit for a log."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text varies)
        EtcdMapping.from_url(url)
    assert caught.value.__context__ is None
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("url", ["root:1234", "first.last:1234", "http://root:1234"])
def test_from_url_shows_no_password_that_looks_like_a_port(url: str) -> None:
    """A name may be a user's, so what follows it may be a password."""
    with pytest.raises(ValueError, match="must start with etcd://") as caught:
        EtcdMapping.from_url(url)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("url", ["etcd://h/%ff", "etcd://h/\ud800", "etcd://%e4@h"])
def test_from_url_refuses_what_is_not_utf_8_as_such(url: str) -> None:
    """Instead of a key that holds U+FFFD."""
    with pytest.raises(ValueError, match="UTF-8") as caught:
        EtcdMapping.from_url(url)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("url", [5, True, None, b"etcd://h", object()])
def test_from_url_of_another_type_is_a_type_error(url: Any) -> None:
    """As with every argument."""
    with pytest.raises(TypeError, match="URL is a str"):
        EtcdMapping.from_url(url)


def test_from_url_makes_a_mapping(etcd: LocalCluster, prefix: str) -> None:
    """Reading and writing, with the options of the URL."""
    url = f"etcd://{host(etcd)}{prefix}?codec=text&cache_ttl=5&escape_keys=true"
    with EtcdMapping.from_url(url) as mapping:
        assert mapping.prefix == prefix
        mapping["a/b"] = "5"
        assert mapping["a/b"] == "5"
        info = mapping.cache_info()
    assert info is not None
    assert info.ttl == 5.0


def test_from_url_arguments_count_more(etcd: LocalCluster, prefix: str) -> None:
    """What is given beside the URL wins."""
    url = f"etcd://{host(etcd)}/other?codec=text&readonly=true"
    with EtcdMapping.from_url(
        url, prefix=prefix, codec="auto", readonly=False
    ) as mapping:
        mapping["n"] = 5
        assert mapping["n"] == 5
        assert mapping.prefix == prefix


def test_from_url_of_a_subclass_makes_one_of_it(etcd: LocalCluster) -> None:
    """As an alternative constructor does."""

    class Config(EtcdMapping):
        """A subclass."""

    with Config.from_url(f"etcd://{host(etcd)}/app") as config:
        assert type(config) is Config


def pickled(thing: Any) -> Any:
    """Give what comes out of a pickle."""
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  (our own)


#: How somebody says nothing of a prefix: to the constructor, in a URL.
NO_PREFIX: list[Any] = [
    pytest.param(lambda: EtcdMapping("http://h:1"), id="left-out"),
    pytest.param(lambda: EtcdMapping("http://h:1", None), id="None"),
    pytest.param(lambda: EtcdMapping("http://h:1", ""), id="empty"),
    pytest.param(lambda: EtcdMapping.from_url("etcd://h"), id="url"),
    pytest.param(lambda: EtcdMapping.from_url("etcd://h/"), id="url-slash"),
    pytest.param(lambda: EtcdMapping.from_url("etcd://h/?prefix="), id="url-empty"),
    pytest.param(lambda: EtcdMapping.from_url("etcd://h", prefix=""), id="argument"),
]


@pytest.mark.parametrize("make", NO_PREFIX)
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda m: m, id="itself"),
        pytest.param(lambda m: m.using(codec="text"), id="using"),
        pytest.param(lambda m: m.flat, id="flat"),
        pytest.param(lambda m: m.flat.using(timeout=1), id="flat-using"),
        pytest.param(pickled, id="pickled"),
    ],
)
def test_whole_cluster_is_not_emptied_without_a_prefix(
    make: Callable[[], EtcdMapping], view: Callable[[Any], Any]
) -> None:
    """Where none was given none can have been meant; nobody is asked there."""
    with make() as mapping, view(mapping) as shown:
        assert shown.prefix == "/"
        assert "prefix=" not in repr(shown)
        calls = [shown.clear]
        if isinstance(shown, EtcdMapping):
            calls += [lambda: shown.assign({}), lambda: shown.assign({}, dry_run=True)]
        for call in calls:
            with pytest.raises(PrefixRequired, match=r"cluster, as .* without"):
                call()


@pytest.mark.parametrize("url", ["etcd://h", "etcd://h/"])
def test_whole_cluster_is_not_emptied_by_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare slash in ETCDMAP_URL is none either."""
    monkeypatch.setenv("ETCDMAP_URL", url)
    with EtcdMapping() as mapping, pytest.raises(PrefixRequired):
        mapping.clear()


def test_prefix_that_is_empty_leaves_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As None does."""
    monkeypatch.setenv("ETCDMAP_URL", "etcd://h/app")
    with EtcdMapping(prefix="") as mapping:
        assert mapping.prefix == "/app"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda **o: EtcdMapping("http://127.0.0.1:1", "/", **o), id="argument"
        ),
        pytest.param(
            lambda **o: EtcdMapping.from_url("etcd://127.0.0.1:1?prefix=/", **o),
            id="url",
        ),
        pytest.param(
            lambda **o: EtcdMapping.from_url("etcd://127.0.0.1:1/?prefix=%2F", **o),
            id="slash",
        ),
    ],
)
def test_whole_cluster_is_meant_by_a_slash_for_a_prefix(
    make: Callable[..., EtcdMapping],
) -> None:
    """Then the first thing that stands in the way is that nobody is there."""
    with make(timeout=0.2) as mapping:
        assert mapping.prefix == "/"
        for clear in (mapping.clear, mapping.flat.clear):
            with pytest.raises(RequestFailed):
                clear()


def test_from_url_takes_the_prefix_as_an_option(etcd: LocalCluster) -> None:
    """It is spelt as the argument is."""
    with EtcdMapping.from_url(f"etcd://{host(etcd)}?prefix=app/x") as mapping:
        assert mapping.prefix == "/app/x"


@pytest.mark.parametrize(
    "rest",
    ["/app?prefix=/app", "/app?prefix=", "?prefix=/&prefix=/", "?timeout=1&timeout=1"],
)
def test_from_url_refuses_an_option_that_is_given_twice(rest: str) -> None:
    """Which of the two is meant is not for us to guess; no part of it is shown."""
    with pytest.raises(ValueError, match="twice") as caught:
        EtcdMapping.from_url(f"etcd://root:{QUOTED}@h:1{rest}")
    assert PASSWORD not in str(caught.value)


# --- the environment --------------------------------------------------------------


def test_environment_gives_the_url(
    etcd: LocalCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`EtcdMapping()` is what ETCDMAP_URL says."""
    monkeypatch.setenv("ETCDMAP_URL", f"etcd://{host(etcd)}{prefix}?codec=text")
    with EtcdMapping() as mapping:
        mapping["k"] = "5"
        assert mapping["k"] == "5"
        assert mapping.prefix == prefix


def test_environment_counts_less_than_arguments(
    etcd: LocalCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each argument given replaces that of the URL."""
    monkeypatch.setenv(
        "ETCDMAP_URL", f"etcd://{host(etcd)}/other?codec=text&readonly=true&timeout=9"
    )
    with EtcdMapping(prefix=prefix, codec="auto", readonly=False, timeout=3) as mapping:
        mapping["k"] = 5
        assert mapping["k"] == 5
        assert (mapping.prefix, mapping.client.timeout) == (prefix, 3)


def test_environment_counts_nothing_where_endpoints_are_given(
    etcd: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that names its cluster is not led to another one."""
    monkeypatch.setenv("ETCDMAP_URL", "etcd://nowhere:1/other?codec=text")
    with EtcdMapping(etcd.endpoints) as mapping:
        assert mapping.prefix == "/"
        assert mapping.client.endpoints == tuple(etcd.endpoints)


def test_environment_counts_nothing_where_a_client_is_given(
    mapping: EtcdMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one that shares a client."""
    monkeypatch.setenv("ETCDMAP_URL", "etcd://nowhere:1/other?codec=text")
    other = EtcdMapping(client=mapping.client, prefix=mapping.prefix)
    other["k"] = 5
    assert other["k"] == 5


@pytest.mark.parametrize("value", [None, ""])
def test_environment_without_url_is_the_default_endpoint(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """What etcd itself listens on by default."""
    if value is not None:
        monkeypatch.setenv("ETCDMAP_URL", value)
    with EtcdMapping() as mapping:
        assert mapping.client.endpoints == ("http://127.0.0.1:2379",)


def test_environment_with_a_bad_url_shows_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is that of `from_url`."""
    monkeypatch.setenv("ETCDMAP_URL", f"http://root:{QUOTED}@h:1")
    with pytest.raises(ValueError, match="etcd://user:password@host") as caught:
        EtcdMapping()
    assert "hunter2" not in str(caught.value)


# --- pickling ---------------------------------------------------------------------


def test_pickle_is_the_same_mapping_over_a_client_of_its_own(
    etcd: LocalCluster, prefix: str
) -> None:
    """Prefix and options come along; the connections and the cache do not."""
    with EtcdMapping(
        etcd.endpoints, prefix, codec="text", cache_ttl=60, timeout=3
    ) as mapping:
        mapping["k"] = "5"
        assert mapping["k"] == "5"
        with pickled(mapping) as other:
            assert other.client is not mapping.client
            assert (other.prefix, other.client.timeout) == (prefix, 3)
            assert other.cache_info()[:3] == (0, 0, 0)
            assert other["k"] == "5"
        assert mapping["k"] == "5"


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(lambda m: m.sub("d"), id="sub"),
        pytest.param(lambda m: m["d"], id="item"),
        pytest.param(lambda m: m.flat.sub("d"), id="flat"),
        pytest.param(
            lambda m: m.using(consistency="linearizable").sub("d"), id="using"
        ),
    ],
)
def test_pickle_of_a_part_owns_its_client(
    etcd: LocalCluster, prefix: str, part: Callable[[EtcdMapping], Any]
) -> None:
    """Whoever unpickles it closes it; the first mapping stays open."""
    with EtcdMapping(etcd.endpoints, prefix) as mapping:
        mapping["d"] = {"k": 1}
        other = pickled(part(mapping))
        with other:
            assert type(other) is type(part(mapping))
            assert other.to_dict() == {"k": 1}
        with pytest.raises(RuntimeError, match="closed"):
            other.to_dict()
        assert mapping["d/k"] == 1


def test_pickle_of_readonly_and_escaping_mappings_stays_so(
    etcd: LocalCluster, prefix: str
) -> None:
    """Options of the mapping itself come along as well."""
    with (
        EtcdMapping(etcd.endpoints, prefix, readonly=True, escape_keys=True) as mapping,
        pickled(mapping) as other,
    ):
        assert other.readonly
        assert other.sub("a/b").prefix == f"{prefix}/a%2Fb"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(lambda m: m, id="mapping"),
        pytest.param(lambda m: m.sub("a"), id="sub"),
        pytest.param(lambda m: m.flat, id="flat"),
        pytest.param(lambda m: m.using(timeout=3), id="using"),
        pytest.param(lambda m: m.client, id="client"),
        pytest.param(lambda m: m.keys_api, id="keys_api"),
    ],
)
def test_pickle_holds_no_credentials(
    thing: Callable[[EtcdMapping], Any], protocol: int
) -> None:
    """Neither plainly nor as they go on the wire."""
    with EtcdMapping("http://h:1", username="someuser", password="hunter2") as mapping:
        data = pickle.dumps(thing(mapping), protocol)
    for secret in (b"hunter2", b"someuser", b"c29tZXVzZXI6aHVudGVyMg=="):
        assert secret not in data


def test_pickle_with_credentials_needs_them_where_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says what to set."""
    monkeypatch.delenv("ETCDMAP_USERNAME", raising=False)
    with EtcdMapping("http://h:1", username="root", password="hunter2") as mapping:
        data = pickle.dumps(mapping)
    with pytest.raises(CredentialsMissing, match="set ETCDMAP_URL to the hosts"):
        pickle.loads(data)  # noqa: S301
    monkeypatch.setenv("ETCDMAP_URL", "etcd://h:1/x")
    with pytest.raises(CredentialsMissing, match="ETCDMAP_USERNAME and ETCDMAP_PASS"):
        pickle.loads(data)  # noqa: S301


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="no-url"),
        pytest.param({"ETCDMAP_URL": "etcd://root:hunter2@other:1/x"}, id="host"),
        pytest.param({"ETCDMAP_URL": "etcd://root:hunter2@h:2/x"}, id="port"),
        pytest.param({"ETCDMAP_URL": "etcds://root:hunter2@h:1/x"}, id="scheme"),
        pytest.param({"ETCDMAP_URL": "etcd://root:hunter2@h:1,g:2/x"}, id="some"),
    ],
)
def test_pickle_takes_no_credentials_to_a_host_that_the_environment_does_not_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Whoever can change a pickle does not have the password sent to them."""
    hosts = ["http://h:1", "http://evil:1"]
    with EtcdMapping(hosts, username="a", password="b") as mapping:
        data = pickle.dumps(mapping)
    monkeypatch.setenv("ETCDMAP_USERNAME", "root")
    monkeypatch.setenv("ETCDMAP_PASSWORD", "hunter2")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsMissing, match="ETCDMAP_URL") as caught:
        pickle.loads(data)  # noqa: S301
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"ETCDMAP_URL": "etcd://root:hunter2@other:1,H:1/x"}, id="url"),
        pytest.param(
            {
                "ETCDMAP_USERNAME": "root",
                "ETCDMAP_PASSWORD": "hunter2",
                "ETCDMAP_URL": "etcd://else:where@h:1/x",
            },
            id="own-before-url",
        ),
    ],
)
def test_pickle_with_credentials_takes_them_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """The endpoints stay those of the pickle; so does the need for credentials."""
    with EtcdMapping("http://h:1", username="root", password="hunter2") as mapping:
        data = pickle.dumps(mapping)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pickle.loads(data) as other:  # noqa: S301
        assert other.client.endpoints == ("http://h:1",)
        again = pickle.dumps(other)
    assert b"hunter2" not in again
    for name in variables:
        monkeypatch.delenv(name)
    with pytest.raises(CredentialsMissing):
        pickle.loads(again)  # noqa: S301


def test_pickle_without_credentials_takes_none_from_the_environment(
    etcd: LocalCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent only where the first mapping sent some."""
    with EtcdMapping(etcd.endpoints, prefix) as mapping:
        data = pickle.dumps(mapping)
    monkeypatch.setenv("ETCDMAP_USERNAME", "root")
    monkeypatch.setenv("ETCDMAP_PASSWORD", "hunter2")
    with pickle.loads(data) as other:  # noqa: S301
        other["k"] = 1
        assert b"hunter2" not in pickle.dumps(other)


def test_pickle_with_a_session_is_refused_with_the_reason() -> None:
    """A session may hold anything, credentials among them."""
    with (
        requests.Session() as session,
        EtcdMapping("http://h:1", session=session) as mapping,
        pytest.raises(TypeError, match="session"),
    ):
        pickle.dumps(mapping)


def test_copy_is_never_a_second_handle(mapping: EtcdMapping) -> None:
    """`copy` uses what pickling uses, so it must be told otherwise: a plain dict."""
    mapping["d"] = {"l": [1]}
    copies: list[Any] = [copy.copy(mapping), copy.deepcopy(mapping)]
    for made in (*copies, copy.copy(mapping.flat)):
        assert type(made) is dict
    holder = copy.deepcopy({"cfg": mapping})
    assert holder == {"cfg": {"d": {"l": [1]}}}


def test_construction_from_a_prefix_that_is_impossible_is_refused() -> None:
    """Before any request, and from a URL too."""
    with pytest.raises(InvalidKey):
        EtcdMapping("http://h:1", "/a/../b")

"""From what users give (arguments, a URL, the environment) to a client and a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_to_bytes, urlsplit

from etcdmap.cache import DEFAULT_SIZE, ReadCache
from etcdmap.client import (
    DEFAULT_MAX_STALE,
    DEFAULT_TIMEOUT,
    Client,
    Policy,
    clean_endpoints,
    flag,
    plain_text,
    positive_int,
    positive_seconds,
    spell_endpoint,
)
from etcdmap.codecs import get_codec
from etcdmap.errors import CredentialsMissing
from etcdmap.paths import clean_prefix
from etcdmap.transport import (
    DEFAULT_MAX_RESPONSE,
    TRANSPORT_OPTIONS,
    BlockingTransport,
    Transport,
    make_transport,
)
from etcdmap.tree import CONSISTENCIES, Store
from etcdmap.v2 import OPENING, V2_API, Memory, V2Store
from etcdmap.v2 import KeysAPI as KeysAPI

Client.api = V2_API

#: Where etcd listens without ``--listen-client-urls``.
DEFAULT_ENDPOINT = "http://127.0.0.1:2379"

#: Names of environment variables.
URL, USERNAME, PASSWORD = "ETCDMAP_URL", "ETCDMAP_USERNAME", "ETCDMAP_PASSWORD"


def connect(
    endpoints: str | Iterable[str] | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    connect_timeout: float = 1.0,
    username: str | None = None,
    password: str | None = None,
    verify: bool | str = True,
    cert: str | tuple[str, str] | None = None,
    session: Any = None,
    shuffle: bool = True,
    max_response: int = DEFAULT_MAX_RESPONSE,
    cache_ttl: float | None = None,
    cache_size: int = DEFAULT_SIZE,
    max_stale: float = DEFAULT_MAX_STALE,
    policy: Policy | None = None,
    fence: bool | None = None,
    auto_sync: float | None = None,
) -> Client:
    """Make a client for a cluster; nothing is sent yet.

    Args:
        endpoints: client URLs of one or more members; None for
            ``http://127.0.0.1:2379``.
        timeout: deadline of one call, seconds, all attempts included.
        connect_timeout: seconds to wait for one connection.
        username: for v2 auth (HTTP basic auth), without a colon; counts more than what
            a session has.
        password: goes with it.
        verify: whether to verify TLS certificates, or the path of a CA bundle.
        cert: path of a client certificate, or a pair (certificate, key).
        session: a `requests.Session` of yours; its proxies, hooks, adapters,
            auth and TLS settings then apply.
        shuffle: whether to try the endpoints in random order, which spreads clients
            over them.
        max_response: limit for one answer, bytes.
        cache_ttl: seconds for which a value read counts; None for no cache.
        cache_size: most nodes that the cache holds.
        max_stale: bound on the age of what a session read shows, seconds; see
            `EtcdMapping.using`.
        policy: when to try again, and when to ask another endpoint as well.
        fence: whether writes of values name the state that they replace, so that
            they can be sent to another member when one is silent.  None for as long
            as there are several endpoints; True also for one URL that stands for
            several members, a balancer's; False never.
        auto_sync: learn the members anew every so many seconds; see `Client.sync`.
    """
    options = _check_options(locals())
    if endpoints is not None:  # now, as it may be a generator, and is used again
        options["endpoints"] = clean_endpoints(endpoints)
    return _make(options)


def _check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `connect`, checked: a wrong one would fail after a request.

    The client and the memory check theirs.
    """
    options = dict(given)
    for name, check in _CHECKS.items():
        if options[name] is not None or name not in _MAY_BE_NONE:
            options[name] = check(name, options[name])
    return options


def _path(name: str, value: Any) -> str:
    """Check the path of a file, which need not be there yet."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} is a path, not {type(path).__name__}")
    path = str.__str__(path)
    if b"\0" in os.fsencode(path):  # which refuses what no file can be named
        raise ValueError(f"{name} holds a NUL, which no path can")
    return path


def _flag_or_file(name: str, value: Any) -> bool | str:
    return value if isinstance(value, bool) else _path(name, value)


def _certificate(name: str, value: Any) -> str | tuple[str, str]:
    if not isinstance(value, (tuple, list)):
        return _path(name, value)
    if len(value) != 2:
        raise ValueError(f"{name} is a path, or a pair (certificate, key)")
    certificate, key = value
    return _path(name, certificate), _path(name, key)


def _policy(name: str, value: Any) -> Policy:
    if not isinstance(value, Policy):
        raise TypeError(f"{name} is a Policy, not {type(value).__name__}")
    return value


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("connect_timeout", "cache_ttl"), positive_seconds),
    **dict.fromkeys(("cache_size", "max_response"), positive_int),
    **dict.fromkeys(("username", "password"), plain_text),
    "shuffle": flag,
    "verify": _flag_or_file,
    "cert": _certificate,
    "policy": _policy,
}
_MAY_BE_NONE = frozenset(("cache_ttl", "cert", "password", "policy", "username"))


def connect_mapping(
    endpoints: str | Iterable[str] | None, own: dict[str, Any], options: dict[str, Any]
) -> Client:
    """Make the client of a mapping; what nobody gave, the environment may."""
    url = os.environ.get(URL) if endpoints is None else None
    found = parse_url(url) if url else {}
    endpoints = found.pop("endpoints", endpoints)
    for name in own.keys() & found.keys():
        otherwise = found.pop(name)
        own[name] = otherwise if own[name] is None else own[name]
    return connect(endpoints, **{**found, **options})


def _make(options: Mapping[str, Any]) -> Client:
    """Make a client from the arguments of `connect`; they are pickled in its place."""
    given = dict(options)
    endpoints = given.pop("endpoints")
    of_transport = {name: given.pop(name) for name in TRANSPORT_OPTIONS & given.keys()}
    transport = make_transport(opening=OPENING, **of_transport)
    cache, ttl, size = None, given.pop("cache_ttl"), given.pop("cache_size")
    if ttl is not None:
        cache = ReadCache(ttl, size)
    endpoints = DEFAULT_ENDPOINT if endpoints is None else endpoints
    recipe = _recipe(options)
    return make_client(endpoints, transport, cache=cache, recipe=recipe, **given)


def make_client(
    endpoints: str | Iterable[str],
    transport: Transport | BlockingTransport,
    *,
    cache: ReadCache | None = None,
    fence: bool | None = None,
    **options: Any,
) -> Client:
    """Make a client on a transport, with what its stores share."""
    client = Client(endpoints, transport, **options)
    Memory.of(client, cache, fence)
    return client


def store_of(client: Client) -> Store:
    """Return a store on a client; all of one client share a cache."""
    return V2Store(KeysAPI(client))


def _recipe(options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if options["session"] is not None:
        return None
    authenticated = options["username"] is not None
    bare = {**options, "username": None, "password": None}
    return _reconnect, (bare, authenticated)


def _reconnect(options: Mapping[str, Any], authenticated: bool) -> Client:
    """Make the client of an unpickled mapping; credentials are never pickled."""
    if authenticated:
        endpoints = clean_endpoints(options["endpoints"] or DEFAULT_ENDPOINT)
        username, password = _credentials_from_environment(endpoints)
        options = {**options, "username": username, "password": password}
    return _make(options)


def _credentials_from_environment(endpoints: Iterable[str]) -> tuple[str, str]:
    """Return the credentials for the endpoints of a pickle.

    Only for those that the environment names too: whoever can change a pickle would
    otherwise have the password sent to a host of theirs.
    """
    url = os.environ.get(URL)
    if not url:
        raise CredentialsMissing(
            "the mapping that was pickled had a username and password, which are never "
            f"pickled; where it is unpickled, set {URL} to the hosts that may have "
            f"them, and {USERNAME} and {PASSWORD} unless they are in it"
        )
    given = parse_url(url)
    ours = {endpoint.lower() for endpoint in clean_endpoints(given["endpoints"])}
    for endpoint in endpoints:
        if endpoint.lower() not in ours:
            raise CredentialsMissing(
                f"the mapping that was pickled is on {endpoint}, and {URL} does not "
                "name it: the credentials of this environment are not sent there"
            )
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if username is None:
        username, password = given.get("username"), given.get("password")
    if username is None:
        raise CredentialsMissing(
            "the mapping that was pickled had a username and password, which are never "
            f"pickled; where it is unpickled, set {USERNAME} and {PASSWORD}"
        )
    return username, password or ""


# --- URLs ------------------------------------------------------------------


def parse_url(url: str) -> dict[str, Any]:
    """Return the options of `EtcdMapping` that a URL gives; see its `from_url`.

    The ValueError for a bad one, and what it is raised from, show no part of it: any
    part of a bad URL may be one of a password.
    """
    url = plain_text("the URL", url)
    parts = _split(url)
    _check_escapes(url)
    scheme = "https" if parts.scheme == "etcds" else "http"
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "@" in credentials or "," in credentials:
        # What stands before it is a host, perhaps, or else a piece of a password.
        raise _bad_url("the user and password stand once, before the first host")
    endpoints = [f"{scheme}://{_with_port(host)}" for host in hosts.split(",")]
    options: dict[str, Any] = {"endpoints": endpoints}
    for number, endpoint in enumerate(endpoints, 1):
        if spell_endpoint(endpoint) is None:
            raise _bad_url(f"host {number} of {len(endpoints)} is no host and port")
    if parts.path not in ("", "/"):  # the root is asked for as ?prefix=/
        options["prefix"] = _option("prefix", unquote(parts.path))
    if at:
        username, _, password = credentials.partition(":")
        # Bytes that are not UTF-8 are refused where all credentials are.
        options["username"] = unquote(username, errors="surrogateescape")
        options["password"] = unquote(password, errors="surrogateescape")
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise ValueError(f"the URL gives {name} twice")
        options[name] = _option(name, text)
    return options


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("etcd", "etcds"):
        raise _bad_url("it must start with etcd:// or etcds://")
    if not parts.netloc or parts.fragment or "@" in parts.path + parts.query:
        raise _bad_url("no host, or a '/', '?' or '#' before it")
    return parts


def _bad_url(why: str) -> ValueError:
    return ValueError(
        f"not an etcdmap URL: {why}; one looks like "
        "'etcd://user:password@host:2379,host2:2379/prefix?timeout=3'; percent-encode "
        "'/', '@', '#', '?', ',' and '%' in user and password"
    )


def _check_escapes(url: str) -> None:
    """Refuse what `unquote` would turn into U+FFFD, which stands for anything."""
    try:
        unquote_to_bytes(url).decode()
    except UnicodeError:
        pass  # raised below, without this error, which holds the URL
    else:
        return
    raise ValueError("the URL is not UTF-8: write it so, and its percent escapes")


def _with_port(host: str) -> str:
    # An IPv6 address has colons inside its brackets.
    return host if ":" in host.rpartition("]")[2] else f"{host}:2379"


def _flag(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError


def _flag_or_path(text: str) -> bool | str:
    return text if "/" in text else _flag(text)


def _seconds(text: str) -> float:
    return positive_seconds("", float(text))


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _prefix(text: str) -> str:
    clean_prefix(text)
    return text


def _codec(text: str) -> str:
    get_codec(text)
    return text


def _consistency(text: str) -> str:
    if text not in CONSISTENCIES:
        raise ValueError
    return text


#: How an option is read, and what it must be.
_READERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(
        ("auto_sync", "cache_ttl", "connect_timeout", "max_stale", "timeout"),
        (_seconds, "a number of seconds above 0"),
    ),
    **dict.fromkeys(("cache_size", "max_response"), (_count, "a whole number above 0")),
    **dict.fromkeys(
        ("escape_keys", "fence", "readonly", "shuffle"), (_flag, "true or false")
    ),
    "cert": (str, "a path"),
    "codec": (_codec, "auto, json or text"),
    "consistency": (_consistency, " or ".join(CONSISTENCIES)),
    "prefix": (_prefix, "a key, without empty names, '.', '..' or control characters"),
    "verify": (_flag_or_path, "true, false, or a path with a '/' in it"),
}


def _option(name: str, text: str) -> Any:
    if name not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise ValueError(
            f"the URL gives an option that there is not; there are {known}"
        )
    read, what = _READERS[name]
    try:
        return read(text)
    except ValueError:
        pass  # raised below, without this error, which would show the text
    raise ValueError(f"the URL's {name} must be {what}")

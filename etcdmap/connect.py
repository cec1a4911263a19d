"""From what users give (arguments, a URL, the environment) to a client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from etcdmap.cache import DEFAULT_SIZE, ReadCache
from etcdmap.client import DEFAULT_MAX_STALE, DEFAULT_TIMEOUT, Client
from etcdmap.endpoints import clean_endpoints, positive_seconds
from etcdmap.errors import CredentialsMissing
from etcdmap.health import Policy
from etcdmap.transport import DEFAULT_MAX_RESPONSE, make_transport

#: What etcd itself uses when it is started without ``--listen-client-urls``.
DEFAULT_ENDPOINT = "http://127.0.0.1:2379"

#: Names of environment variables.
URL, USERNAME, PASSWORD = "ETCDMAP_URL", "ETCDMAP_USERNAME", "ETCDMAP_PASSWORD"


@dataclass(frozen=True)
class _Settings:
    """The arguments of `connect`; pickled in place of a client."""

    endpoints: tuple[str, ...]
    timeout: float
    connect_timeout: float
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    verify: bool | str
    cert: str | tuple[str, str] | None
    session: Any = field(repr=False)
    shuffle: bool
    max_response: int
    cache_ttl: float | None
    cache_size: int
    max_stale: float
    policy: Policy | None
    fence: bool
    auto_sync: float | None
    authenticated: bool = False


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
    fence: bool = True,
    auto_sync: float | None = None,
) -> Client:
    """Make a client for a cluster; nothing is sent yet.

    Args:
        endpoints: client URLs of one or more members; None for
            ``http://127.0.0.1:2379``.
        timeout: deadline of one call, seconds, all attempts included.
        connect_timeout: seconds to wait for one connection.
        username: for v2 auth (HTTP basic auth).
        password: goes with it.
        verify: whether to verify TLS certificates, or the path of a CA bundle.
        cert: path of a client certificate, or a pair (certificate, key).
        session: a `requests.Session` of yours; its proxies, hooks, adapters,
            auth and TLS settings then apply.
        shuffle: whether to spread clients over the endpoints by chance.
        max_response: limit for one answer, bytes.
        cache_ttl: seconds for which a value read counts; None for no cache.
        cache_size: most nodes that the cache holds.
        max_stale: bound on the age of what a session read shows, seconds; see
            `EtcdMapping.using`.
        policy: when to try again, and when to ask another endpoint as well.
        fence: whether writes of values name the state that they replace, so that
            they can be sent to another member when one is silent.
        auto_sync: learn the members anew every so many seconds; see `Client.sync`.
    """
    return _make(
        _Settings(
            clean_endpoints(DEFAULT_ENDPOINT if endpoints is None else endpoints),
            timeout,
            positive_seconds("connect_timeout", connect_timeout),
            username,
            password,
            verify,
            cert,
            session,
            shuffle,
            max_response,
            cache_ttl,
            cache_size,
            max_stale,
            policy,
            fence,
            auto_sync,
            authenticated=username is not None,
        )
    )


def _make(settings: _Settings) -> Client:
    cache = None
    if settings.cache_ttl is not None:
        ttl = positive_seconds("cache_ttl", settings.cache_ttl)
        cache = ReadCache(ttl, settings.cache_size)
    return Client(
        settings.endpoints,
        make_transport(
            connect_timeout=settings.connect_timeout,
            username=settings.username,
            password=settings.password,
            verify=settings.verify,
            cert=settings.cert,
            session=settings.session,
            max_response=settings.max_response,
        ),
        timeout=settings.timeout,
        shuffle=settings.shuffle,
        max_stale=settings.max_stale,
        policy=settings.policy,
        fence=settings.fence,
        auto_sync=settings.auto_sync,
        cache=cache,
        recipe=_recipe(settings),
    )


def _recipe(settings: _Settings) -> tuple[Any, ...] | None:
    if settings.session is not None:
        return None
    return _reconnect, (replace(settings, username=None, password=None),)


def _reconnect(settings: _Settings) -> Client:
    """Make the client of an unpickled mapping; credentials are never pickled."""
    if settings.authenticated:
        username, password = _credentials_from_environment()
        settings = replace(settings, username=username, password=password)
    return _make(settings)


def _credentials_from_environment() -> tuple[str, str]:
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if username is None and URL in os.environ:
        given = parse_url(os.environ[URL])
        username, password = given.get("username"), given.get("password")
    if username is None:
        raise CredentialsMissing(
            "the mapping that was pickled had a username and password, which are never "
            f"pickled; set {USERNAME} and {PASSWORD} where it is unpickled"
        )
    return username, password or ""


# --- URLs ------------------------------------------------------------------


def parse_url(url: str) -> dict[str, Any]:
    """Read ``etcd://user:pw@host:2379,host2/prefix?codec=text&cache_ttl=5``.

    ``etcds`` stands for TLS.  The port may be left out.  The query takes the
    options of `EtcdMapping` that are texts, numbers or yes-or-no.  A bare slash
    for a path is no prefix; ``?prefix=/`` is one, the root.

    Raises:
        ValueError: it is none; the message does not show it, for the password.
    """
    parts = _split(url)
    scheme = "https" if parts.scheme == "etcds" else "http"
    credentials, at, hosts = parts.netloc.rpartition("@")
    options: dict[str, Any] = {
        "endpoints": [f"{scheme}://{_with_port(host)}" for host in hosts.split(",")]
    }
    if parts.path not in ("", "/"):  # whoever means the whole cluster says ?prefix=/
        options["prefix"] = unquote(parts.path)
    if at:
        username, _, password = credentials.partition(":")
        options["username"] = unquote(username)
        options["password"] = unquote(password)
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise ValueError(f"the URL gives {name} twice")
        options[name] = _option(name, text)
    return options


def _split(url: str) -> SplitResult:
    # Whatever is wrong with it, no part is shown: it may be one of a password.
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if (
        parts is None
        or parts.scheme not in ("etcd", "etcds")
        or not parts.netloc
        or parts.fragment
        or "@" in parts.path + parts.query
    ):
        raise ValueError(
            "not an etcdmap URL: one looks like 'etcd://host:2379,host2:2379/prefix'; "
            "percent-encode '/', '@', '#' and '?' in user and password"
        )
    return parts


def _with_port(host: str) -> str:
    # An IPv6 address has colons inside its brackets.
    return host if ":" in host.rpartition("]")[2] else f"{host}:2379"


def _flag(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError("true or false")


def _flag_or_path(text: str) -> bool | str:
    return text if "/" in text else _flag(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "auto_sync": float,
    "cache_size": int,
    "cache_ttl": float,
    "cert": str,
    "codec": str,
    "connect_timeout": float,
    "consistency": str,
    "escape_keys": _flag,
    "fence": _flag,
    "max_response": int,
    "max_stale": float,
    "prefix": str,
    "readonly": _flag,
    "shuffle": _flag,
    "timeout": float,
    "verify": _flag_or_path,
}


def _option(name: str, text: str) -> Any:
    reader = _READERS.get(name)
    if reader is None:
        raise ValueError(f"no option {name!r}; there are {', '.join(_READERS)}")
    try:
        return reader(text)
    except ValueError as error:
        raise ValueError(f"the option {name} can't be {text!r}: {error}") from error

"""Make a client and a store from arguments, a URL, or the environment.

Open `options` for what each option may be, and `urls` for what a URL may contain; the
environment and pickling are here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from etcdmap.cache import DEFAULT_SIZE, ReadCache
from etcdmap.client import (
    DEFAULT_MAX_STALE,
    DEFAULT_TIMEOUT,
    Client,
    Policy,
    clean_endpoints,
    plain_text,
)
from etcdmap.connecting.options import (
    Default,
    argument_names,
    check_endpoints,
    check_options,
    check_session,
    default,
    told,
)
from etcdmap.connecting.urls import parse_url
from etcdmap.errors import CredentialsMissing
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.transport import (
    DEFAULT_MAX_RESPONSE,
    TRANSPORT_OPTIONS,
    BlockingTransport,
    Transport,
    make_transport,
)
from etcdmap.tree import Store
from etcdmap.v2 import OPENING, V2_API, Memory, V2Store
from etcdmap.v2 import KeysAPI as KeysAPI

Client.api = V2_API

#: Where etcd listens if it is started without ``--listen-client-urls``.
DEFAULT_ENDPOINT = "http://127.0.0.1:2379"

#: Names of environment variables.
URL, USERNAME, PASSWORD = "ETCDMAP_URL", "ETCDMAP_USERNAME", "ETCDMAP_PASSWORD"


@told
def connect(
    endpoints: str | Iterable[str] | None = None,
    *,
    timeout: float = default(DEFAULT_TIMEOUT),
    connect_timeout: float = default(1.0),
    username: str | None = default(None),
    password: str | None = default(None),
    verify: bool | str = default(True),
    cert: str | tuple[str, str] | None = default(None),
    session: Any = default(None),
    shuffle: bool = default(True),
    max_response: int = default(DEFAULT_MAX_RESPONSE),
    cache_ttl: float | None = default(None),
    cache_size: int = default(DEFAULT_SIZE),
    max_stale: float = default(DEFAULT_MAX_STALE),
    policy: Policy | None = default(None),
    fence: bool | None = default(None),
    auto_sync: float | None = default(None),
) -> Client:
    """Make a client for a cluster; nothing is sent yet.

    Args:
        endpoints: client URLs of one or more members.  With None, ``ETCDMAP_URL``,
            ``ETCDMAP_USERNAME`` and ``ETCDMAP_PASSWORD`` decide, as for `EtcdMapping`.
            Options of a mapping in ``ETCDMAP_URL``, such as a prefix or a codec, are
            ignored here.
        timeout: the longest time of one call with all its attempts, in seconds.
        connect_timeout: seconds to wait for one connection.
        username: the user for v2 authentication (HTTP basic auth), without a colon; it
            takes precedence over the credentials of a session.
        password: the password of this user.
        verify: whether to verify TLS certificates, or the path of a CA bundle.
        cert: the path of a client certificate, or a pair (certificate, key).
        session: a ``requests.Session`` of yours, which sends the requests with its own
            proxies, hooks, adapters, authentication and TLS settings.  With a session,
            ``verify`` and ``cert`` are refused.
        shuffle: whether to try the endpoints in random order, which spreads the clients
            over the endpoints.
        max_response: the largest answer that is accepted, in bytes.
        cache_ttl: how long a value in the cache may be used, in seconds; None for no
            cache.
        cache_size: how many nodes the cache keeps at most.
        max_stale: how old the result of a read with the consistency ``"session"`` may
            be at most, in seconds; see `EtcdMapping.using`.
        policy: a `Policy`, which says when to try again, and when to ask another
            endpoint as well; None for the default policy.
        fence: whether a write of a value names the state that it replaces.  If a member
            does not answer, such a write can safely be sent to another member, too.
            With None, a write does this only while the client knows several endpoints;
            with True, always; with False, never.  Use True if you give only the URL of
            a balancer in front of several members.
        auto_sync: ask the cluster for its members each time that this number of seconds
            has passed; None for never.  See `Client.sync`.

    Raises:
        TypeError, ValueError: an option does not exist, or its value can't work.
    """
    options = dict(locals())
    return client_for(options.pop("endpoints"), {}, options)


_NAMES = argument_names(connect)[1:]


def connect_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `connect` among the arguments of a mapping."""
    return {name: given[name] for name in _NAMES}


def client_for(
    endpoints: str | Iterable[str] | None, own: dict[str, Any], options: dict[str, Any]
) -> Client:
    """Make a client; options that were not given may come from the environment.

    Args:
        endpoints: as for `connect`.
        own: the options of the mapping that needs the client; those that are None are
            filled in.
        options: the options of `connect`.
    """
    found = _environment() if endpoints is None else {}
    endpoints = found.pop("endpoints", endpoints)
    for name in found.keys() - options.keys():  # options of the mapping
        otherwise = found.pop(name)
        own[name] = otherwise if own.get(name) is None else own[name]
    check_session(options, found)
    settled = {
        name: found.get(name, value.value) if isinstance(value, Default) else value
        for name, value in options.items()
    }
    if settled["username"] is None and "password" in found:
        raise ValueError(f"{PASSWORD} goes with a username: set {USERNAME} too")
    settled = check_options(settled)
    if endpoints is not None:  # now: it may be a generator, and is used again
        endpoints = check_endpoints(endpoints, of_mapping=bool(own))
    return _connect({"endpoints": endpoints, **settled})


def _environment() -> dict[str, Any]:
    """Return the options that the environment gives."""
    url = os.environ.get(URL)
    found = _parse_variable(url) if url else {}
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if username:
        if ":" in username:
            raise ValueError(f"{USERNAME} can't hold ':', where basic auth ends it")
        found.pop("password", None)  # which belongs to another user
        found["username"] = plain_text(USERNAME, username)
    if password:
        found["password"] = plain_text(PASSWORD, password)
    return found


def _parse_variable(url: str) -> dict[str, Any]:
    try:
        return parse_url(url)
    except ValueError as error:
        failure = ValueError(f"{URL}: {error}")
    raise failure


def _connect(options: Mapping[str, Any]) -> Client:
    """Make a client from the arguments of `connect`; a pickle of it contains these."""
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
    """Make a client on a transport, with the memory that its stores share."""
    client = Client(endpoints, transport, **options)
    Memory.of(client, cache, fence)
    return client


def store_of(client: Client) -> Store:
    """Return a store on a client; all stores of one client share a cache."""
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
    return _connect(options)


def _credentials_from_environment(endpoints: Iterable[str]) -> tuple[str, str]:
    """Return the credentials for the endpoints of a pickle.

    The environment must name all of these endpoints: otherwise somebody who can change
    a pickle could have the password sent to a host of their own.
    """
    if not os.environ.get(URL):
        raise CredentialsMissing(
            "the mapping that was pickled had a username and password, which are never "
            f"pickled; where the mapping is unpickled, set {URL} to the hosts to which "
            "they may be sent, and give them there: in this URL, or in "
            f"{USERNAME} and {PASSWORD}"
        )
    given = _environment()
    ours = {endpoint.lower() for endpoint in clean_endpoints(given["endpoints"])}
    for endpoint in endpoints:
        if endpoint.lower() not in ours:
            raise CredentialsMissing(
                f"the mapping that was pickled is on {endpoint}, and {URL} does not "
                "name this endpoint, so the credentials of this environment are not "
                f"sent there: add the endpoint to {URL} if it may get them"
            )
    if "username" not in given:
        raise CredentialsMissing(
            "the mapping that was pickled had a username and password, which are never "
            f"pickled; where the mapping is unpickled, set {USERNAME} and {PASSWORD}"
        )
    return given["username"], given.get("password", "")

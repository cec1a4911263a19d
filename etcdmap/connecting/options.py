"""The options of `connect` and `EtcdMapping`: their names, and what each must be."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from etcdmap.client import (
    Client,
    Policy,
    clean_endpoints,
    flag,
    listed,
    plain_text,
    positive_int,
    positive_seconds,
    spell_endpoint,
)
from etcdmap.errors import InvalidKey
from etcdmap.errors import __tracebackhide__ as __tracebackhide__

if TYPE_CHECKING:  # to make these classes would take a third of a millisecond
    from etcdmap.codecs import Codec, CodecName
    from etcdmap.tree import Consistency

    class ConnectOptions(TypedDict, total=False):
        """The options of `connect`."""

        timeout: float
        connect_timeout: float
        username: str | None
        password: str | None
        verify: bool | str
        cert: str | tuple[str, str] | None
        session: Any
        shuffle: bool
        max_response: int
        cache_ttl: float | None
        cache_size: int
        max_stale: float
        policy: Policy | None
        fence: bool | None
        auto_sync: float | None

    class MappingOptions(ConnectOptions, total=False):
        """The options of `EtcdMapping`, except ``client``."""

        endpoints: str | Iterable[str] | None
        prefix: str | None
        codec: CodecName | Codec | None
        readonly: bool | None
        escape_keys: bool | None
        consistency: Consistency | None


F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Default:
    """The value of an option that was not given; its repr is that of the value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def default(value: T) -> T:
    """Return a default that can be told from the same value given on purpose.

    An option that is given takes precedence over a URL or the environment, and these
    take precedence over a default.
    """
    return cast("T", Default(value))


def told(func: F) -> F:
    """Wrap a function so that the error of a wrong call names it and gives advice.

    Python's own message would name an inner function, and only some versions of Python
    propose a name.
    """
    known, most = argument_names(func), func.__code__.co_argcount

    @functools.wraps(func)
    def checked(*args: Any, **options: Any) -> Any:
        made = func.__name__ == "__init__"
        caller = type(args[0]).__name__ if made else func.__name__
        if len(args) > most:
            raise TypeError(
                f"{caller}() takes only {' and '.join(known[made:most])} "
                "without a name; pass several endpoints as a list"
            )
        refuse_unknown(caller, options, known)
        return func(*args, **options)

    return cast("F", checked)


def argument_names(func: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's arguments, even if it is wrapped by `told`."""
    code = getattr(func, "__wrapped__", func).__code__
    names: tuple[str, ...] = code.co_varnames
    return names[: code.co_argcount + code.co_kwonlyargcount]


def refuse_unknown(caller: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for an option that does not exist."""
    for name in given:
        if name not in known:
            advice = did_you_mean(name, known)
            raise TypeError(f"{caller}() has no option {name!r}{advice}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name, without that name."""
    from difflib import get_close_matches  # seldom needed, and takes time to import

    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


# --- options that can't work


def check_session(options: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse options that a session would ignore: it has its own TLS settings."""
    session = options["session"]
    if isinstance(session, Default) or session is None:
        return
    for name in ("verify", "cert"):
        if name in found or not isinstance(options[name], Default):
            raise TypeError(
                f"with session=, {name} belongs to the session: set session.{name}"
            )


def check_shared(client: object, endpoints: object, options: Mapping[str, Any]) -> None:
    """Refuse an object that is no client, and options that come too late beside one."""
    if not isinstance(client, Client):
        hint = "; did you mean its .client?" if hasattr(client, "client") else ""
        kind = type(client).__name__
        raise TypeError(f"client is what connect() returns, not {kind}{hint}")
    given = [name for name in options if not isinstance(options[name], Default)]
    if endpoints is not None:
        given.insert(0, "endpoints")
    if given:
        belong = "belongs" if len(given) == 1 else "belong"
        raise TypeError(f"with client=, {', '.join(given)} {belong} to connect()")


def check_prefix(prefix: object) -> None:
    """Refuse an endpoint given as the prefix; no prefix can contain ``//``."""
    if isinstance(prefix, str) and "://" in prefix:
        raise InvalidKey("the prefix is a URL: pass several endpoints as a list")


def check_endpoints(
    endpoints: str | Iterable[str], *, of_mapping: bool
) -> tuple[str, ...]:
    """Check the endpoints and return them as they are sent; advise on wrong ones."""
    given = listed(endpoints)
    for text in given:
        if not isinstance(text, str):
            continue
        if text.startswith(("etcd://", "etcds://")):
            raise ValueError(
                "an endpoint begins with http:// or https://; for etcd:// use "
                "from_url, or the environment variable ETCDMAP_URL"
            )
        if text and "://" not in text and spell_endpoint(f"http://{text}"):
            raise ValueError(
                "an endpoint begins with http:// or https://; put one of them before it"
            )
        if text.startswith("/") and of_mapping:
            raise ValueError("an endpoint is no path; did you mean prefix=?")
        if "," in text:
            raise ValueError("an endpoint holds no ',': pass several as a list")
    return clean_endpoints(given)


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `connect`, checked; otherwise they would fail too late.

    The client and the memory check their own options.
    """
    options = dict(given)
    for name, check in _CHECKS.items():
        if options[name] is not None or name not in _MAY_BE_NONE:
            options[name] = check(name, options[name])
    return options


def _path(name: str, value: Any) -> str:
    """Check the path of a file, or of a directory of CAs, which must exist.

    Otherwise the error would only come with the first request, and look like an outage.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} is a path, not {type(path).__name__}")
    path = str.__str__(path)
    if b"\0" in os.fsencode(path):  # `fsencode` refuses what no file name can contain
        raise ValueError(f"{name} holds a NUL, which no path can hold")
    try:
        os.stat(path)
        return path
    except OSError as error:
        why = error.strerror
    raise ValueError(f"{name} is a path, but {path!r} can't be used: {why}")


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

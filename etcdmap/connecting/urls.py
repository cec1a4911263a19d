"""Read the options from a URL such as ``etcd://host:2379/app?timeout=3``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_to_bytes, urlsplit

from etcdmap.client import plain_text, positive_int, positive_seconds, spell_endpoint
from etcdmap.codecs import get_codec
from etcdmap.connecting.options import did_you_mean
from etcdmap.paths import clean_prefix
from etcdmap.tree import CONSISTENCIES


def parse_url(url: str) -> dict[str, Any]:
    """Return the options of `EtcdMapping` that a URL contains; see its `from_url`.

    Any part of a bad URL may be part of a password, so the ValueError shows no part of
    the URL, and has no cause or context that does.  The only exception is a text that
    can't contain a password, see `_meant`.
    """
    url = plain_text("the URL", url).strip()
    parts = _split(url)
    _check_escapes(url)
    scheme = "https" if parts.scheme == "etcds" else "http"
    credentials, at, hosts = parts.netloc.rpartition("@")
    if "@" in credentials or "," in credentials:
        # The text before the last "@" may be a host, or a piece of a password.
        raise _bad_url("give user and password only once, before the first host")
    given = hosts.split(",")
    endpoints = [spell_endpoint(f"{scheme}://{host.strip()}") for host in given]
    options: dict[str, Any] = {"endpoints": endpoints}
    if None in endpoints:
        number = endpoints.index(None) + 1
        raise _bad_url(f"host {number} of {len(endpoints)} is no host and port")
    if parts.path not in ("", "/"):  # the root is asked for as ?prefix=/
        options["prefix"] = _option("prefix", unquote(parts.path))
    if at:
        username, _, password = credentials.partition(":")
        # Bytes that are not UTF-8 are refused later, where all credentials are checked.
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
        raise _bad_url("it must start with etcd:// or etcds://", _meant(url))
    if not parts.netloc or parts.fragment or "@" in parts.path + parts.query:
        raise _bad_url("it has no host, or a '/', '?' or '#' before the host")
    return parts


def _bad_url(why: str, meant: str | None = None) -> ValueError:
    advice = (
        "one looks like 'etcd://user:password@host:2379,host2:2379/prefix?timeout=3'; "
        "percent-encode '/', '@', '#', '?', ',' and '%' in user and password"
    )
    if meant is not None:
        advice = f"did you mean '{meant}'?"
    return ValueError(f"not an etcdmap URL: {why}; {advice}")


# Hosts are only "localhost" and IP addresses: any other name may be a user's, and what
# follows it a password, as in "root:1234" or "http://root:1/2".
_HOST = r"(?:localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:]+\])"
_ENDPOINT = rf"(?:https?://{_HOST}(?::[0-9]+)?|{_HOST}:[0-9]+)"
_ENDPOINTS = rf"{_ENDPOINT}(?:, ?{_ENDPOINT})*(?:/[\w./-]*)?"


def _meant(url: str) -> str | None:
    """Return the URL for a text that looks like endpoints; None if it may be secret."""
    if re.fullmatch(_ENDPOINTS, url) is None:
        return None
    scheme = "etcds" if url.startswith("https:") else "etcd"
    meant = f"{scheme}://" + re.sub("https?://", "", url)
    try:
        parse_url(meant)
    except ValueError:
        return None
    return meant


def _check_escapes(url: str) -> None:
    """Refuse bytes that `unquote` would replace by U+FFFD because they are no UTF-8."""
    try:
        unquote_to_bytes(url).decode()
    except UnicodeError:
        pass  # raised below, without this error, which holds the URL
    else:
        return
    raise ValueError("the URL is not UTF-8: write it in UTF-8, and its escapes too")


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
    return positive_int("", int(text))


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


#: For each option, the function that reads it, and the words that say what it must be.
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
        advice = did_you_mean(name, _READERS) or "; there are " + ", ".join(
            sorted(_READERS)
        )
        raise ValueError(f"the URL gives an option that does not exist{advice}")
    read, what = _READERS[name]
    try:
        return read(text)
    except ValueError:
        pass  # raised below, without this error, which would show the text
    raise ValueError(f"the URL's {name} must be {what}")

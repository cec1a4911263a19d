"""`EtcdMapping`: a nested dict whose data lives in etcd.

What it can do is in the modules it is put together from: `handle` (what it
stands on), `common`, `reading`, `writing` (one key), `bulk` (many keys), `flat`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from etcdmap.bulk import BulkWriting
from etcdmap.client import Client
from etcdmap.codecs import Codec, get_codec
from etcdmap.connect import URL, connect, parse_url
from etcdmap.flat import FlatView
from etcdmap.handle import View
from etcdmap.keys import KeysAPI
from etcdmap.paths import ESCAPED, PLAIN, clean_prefix
from etcdmap.tree import Tree

M = TypeVar("M", bound="EtcdMapping")


class EtcdMapping(BulkWriting):
    """A directory of etcd as a dict.

    A mapping assigned to a key becomes a directory, everything else a file
    whose text the codec makes.  ``m["a"]["b"]`` and ``m["a/b"]`` are the same
    node.  Nothing is kept in memory but for the read cache, if there is one:
    each operation asks etcd, and its cost in requests is in its docstring.

    Args:
        endpoints: client URLs of one or more members of one cluster; None for
            what the environment variable ``ETCDMAP_URL`` says (see `from_url`;
            arguments given here count more), else ``http://127.0.0.1:2379``.
        prefix: the directory to stand on, like ``"/app"``.  It need not exist:
            the first write makes it.  None and ``""`` are the root of the whole
            cluster, and then `clear` and `assign` refuse to work; ``"/"`` is the
            root without that.
        client: a client to share, instead of endpoints and the options of
            `connect`; closing the mapping leaves it open.
        codec: how values are stored: ``"auto"`` (None), ``"json"``, ``"text"``,
            or an object with ``encode(value) -> str`` and ``decode(str) -> value``.
        readonly: whether every write raises `ReadOnly` before any request.
        escape_keys: whether every `str` is one segment: ``/``, a leading ``_``,
            the empty key and control characters are stored as percent escapes.
            Then ``m["a/b"]`` is one key, and does not walk the tree.
        consistency: what reads promise, see `using`; None for ``"session"``.
        **options: those of `connect`: ``timeout``, ``username``, ``password``,
            ``verify``, ``cert``, ``session``, ``cache_ttl`` and more.

    Raises (every method that sends a request): what `Client.send` raises.  An
    outage is never a KeyError, so `get` and ``in`` don't hide one.

    ``timeout`` bounds a whole call, however many requests it takes; only writes
    of many keys (`update`, `merge`, `assign`, `clear`, ``m[k] = mapping``) have
    it for each request.

    Subclasses: ``m["a"]`` is one of the same class; see `with_view` for what goes
    along.

    Threads: share one mapping freely.  A forked child may go on using it.  A
    pickled one connects anew, with the credentials of its environment
    (``ETCDMAP_USERNAME``, ``ETCDMAP_PASSWORD``).
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        prefix: str | None = None,
        *,
        client: Client | None = None,
        codec: str | Codec | None = None,
        readonly: bool | None = None,
        escape_keys: bool | None = None,
        consistency: str | None = None,
        **options: Any,
    ) -> None:
        self._owner = client is None
        own: dict[str, Any] = {
            # An empty one is not given, as with a bare slash in a URL.
            "prefix": None if prefix == "" else prefix,
            "codec": codec,
            "readonly": readonly,
            "escape_keys": escape_keys,
            "consistency": consistency,
        }
        if client is None:
            url = os.environ.get(URL) if endpoints is None else None
            found = parse_url(url) if url else {}
            endpoints = found.pop("endpoints", endpoints)
            # What is given here counts more than the environment.
            for name in own.keys() & found.keys():
                otherwise = found.pop(name)
                own[name] = otherwise if own[name] is None else own[name]
            client = connect(endpoints, **{**found, **options})
        elif endpoints is not None or options:
            raise TypeError("with client=, give neither endpoints nor its options")
        prefix, codec, readonly, escape_keys, consistency = own.values()
        self._view = View(
            client=client,
            tree=Tree(
                KeysAPI(client), "session" if consistency is None else consistency
            ),
            codec=get_codec("auto" if codec is None else codec),
            naming=ESCAPED if escape_keys else PLAIN,
            root=clean_prefix("" if prefix is None else prefix),
            readonly=bool(readonly),
            whole_cluster=prefix in (None, ""),
        )

    @classmethod
    def from_url(cls: type[M], url: str, **options: Any) -> M:
        """Make a mapping from ``etcd://user:pw@h1:2379,h2:2379/app?codec=text``.

        Args:
            url: ``etcds://`` stands for TLS; a missing port for 2379; the path
                is the prefix, if it is more than a slash (``?prefix=/`` means
                the whole cluster); the query takes the options that are texts,
                numbers, or true or false.
            **options: as for `EtcdMapping`; they count more than the URL.

        Raises:
            ValueError: it is no such URL; the message does not show it.
        """
        return cls(**{**parse_url(url), **options})

    @property
    def flat(self) -> FlatView:
        """The subtree as one mapping of relative path -> value.

        With `escape_keys`, paths are those of the names as stored.

        Cost: no request.
        """
        return FlatView._on(replace(self._view, naming=PLAIN))

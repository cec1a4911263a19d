"""`EtcdMapping`: a nested dict whose data lives in etcd.

What it can do is in the modules it is put together from: `handle` (what it
stands on), `reading`, `writing` (one key), `bulk` (many keys).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etcdmap.bulk import BulkWriting
from etcdmap.client import DEFAULT_ENDPOINT, DEFAULT_TIMEOUT, Client, connect
from etcdmap.codecs import Codec
from etcdmap.transport import DEFAULT_MAX_RESPONSE


class EtcdMapping(BulkWriting):
    """A directory of etcd as a dict.

    A mapping assigned to a key becomes a directory, everything else a file
    whose text the codec makes.  ``m["a"]["b"]`` and ``m["a/b"]`` are the same
    node.  Nothing is kept in memory: each operation asks etcd, and its cost in
    requests is in its docstring.

    Args:
        endpoints: client URLs of one or more members of one cluster; None for
            ``http://127.0.0.1:2379``.
        prefix: the directory to stand on, like ``"/app"``.  It need not exist:
            the first write makes it.  None is the root of the whole cluster,
            and then `clear` refuses to work.
        client: a client to share, instead of endpoints and the options below;
            closing the mapping leaves it open.
        codec: how values are stored: ``"auto"``, ``"json"``, ``"text"``, or an
            object with ``encode(value) -> str`` and ``decode(str) -> value``.
        readonly: whether every write raises `ReadOnly` before any request.
        timeout: see `etcdmap.connect`, as for all that follow.
        connect_timeout: ...
        username: ...
        password: ...
        verify: ...
        cert: ...
        session: ...
        shuffle: ...
        max_response: ...

    Raises (every method that sends a request): what `Client.send` raises.  An
    outage is never a KeyError, so `get` and ``in`` don't hide one.

    Threads: share one mapping freely.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        prefix: str | None = None,
        *,
        client: Client | None = None,
        codec: str | Codec = "auto",
        readonly: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = 1.0,
        username: str | None = None,
        password: str | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        session: Any = None,
        shuffle: bool = True,
        max_response: int = DEFAULT_MAX_RESPONSE,
    ) -> None:
        if client is not None and endpoints is not None:
            raise TypeError("give endpoints or client, not both")
        owner = client is None
        if client is None:
            client = connect(
                DEFAULT_ENDPOINT if endpoints is None else endpoints,
                timeout=timeout,
                connect_timeout=connect_timeout,
                username=username,
                password=password,
                verify=verify,
                cert=cert,
                session=session,
                shuffle=shuffle,
                max_response=max_response,
            )
        super().__init__(client, prefix, owner=owner, codec=codec, readonly=readonly)

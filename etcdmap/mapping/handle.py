"""The base of every kind of mapping: a store, a directory in it, and a codec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from etcdmap.cache import CacheInfo
from etcdmap.client import Client, positive_seconds
from etcdmap.codecs import Codec, CodecName, encode_text, get_codec
from etcdmap.connecting import KeysAPI as KeysAPI
from etcdmap.errors import KeyNotFound, NotADirectory, PrefixRequired, ReadOnly
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping import plan
from etcdmap.marks import alters_data
from etcdmap.paths import Naming
from etcdmap.refusals import place
from etcdmap.tree import Consistency, Store

H = TypeVar("H", bound="Handle")


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a store a mapping shows, and how.

    A sub-mapping gets a copy of its mapping's view in which some fields differ.  The
    fields are the library's own; the only use for a view in your code is
    `EtcdMapping.with_view`.
    """

    store: Store
    codec: Codec
    naming: Naming
    #: The path of the directory; "" for the root.
    root: str
    readonly: bool
    #: Whether no prefix was given, so that `clear` would empty the whole cluster.
    whole_cluster: bool


class Handle:
    """A directory of etcd, held through a client; sends no request of its own."""

    _view: View
    #: Whether `close` closes the client: only for the mapping that made the client.
    _owner: bool

    @classmethod
    def _on(cls: type[H], view: View) -> H:
        # `__init__` is not called: a subclass may need any arguments there.
        other = cls.__new__(cls)
        other._view = view
        other._owner = False
        return other

    def with_view(self: H, view: View) -> H:
        """Return a mapping of this class that shows another view of the same store.

        ``m["a"]``, `sub`, `mkdir` and `using` call this method to make the mapping that
        they return.  The new mapping gets the library's own attributes but none of
        yours, and its constructor is not called.  If a subclass has attributes to pass
        on, it overrides this method::

            def with_view(self, view):
                other = super().with_view(view)
                other.tag = self.tag
                return other

        Args:
            view: the `View` for the new mapping; pass it to ``super()`` unchanged.

        Cost: no request.

        >>> class Shop(EtcdMapping):
        ...     greeting = "hello"
        >>> Shop(client=m.client, prefix="/app")["db"].greeting
        'hello'
        """
        return self._on(view)

    @property
    def prefix(self) -> str:
        """The absolute path of the directory that this mapping shows.

        >>> m["db"].prefix
        '/app/db'
        """
        return self._view.root or "/"

    @property
    def client(self) -> Client:
        """The client that sends the requests; all sub-mappings share it.

        >>> other = EtcdMapping(client=m.client, prefix="/app/db")
        >>> other["port"]
        5432
        """
        return self._view.store.client

    @property
    def keys_api(self) -> KeysAPI:
        """The operations of etcd's own API, on absolute paths, over the same client.

        >>> m.keys_api.get("/app/port").node.value
        '8080'
        """
        return KeysAPI(self._view.store.client)

    @property
    def readonly(self) -> bool:
        """Whether writes are refused.

        >>> m.readonly
        False
        """
        return self._view.readonly

    def sub(self: H, key: str) -> H:
        """Return the mapping on a subdirectory, whether or not it exists.

        Raises:
            InvalidKey: no directory can have this name.

        Cost: no request.

        >>> m.sub("db")["port"], len(m.sub("nope"))
        (5432, 0)
        """
        view = self._view
        return self._sub(view.naming.writable(view.root, key))

    def using(
        self: H,
        *,
        consistency: Consistency | None = None,
        timeout: float | None = None,
        codec: CodecName | Codec | None = None,
    ) -> H:
        """Return the same mapping with other options.

        Args:
            consistency: what reads promise.

                - ``"session"``, the default: reads never go back in time, always see
                  this client's own writes, and show nothing older than ``max_stale``
                  seconds.  If no member can prove all this, the read fails.  With the
                  cache, your own writes are seen at once; the writes of others are seen
                  after at most ``cache_ttl`` plus ``max_stale`` seconds.  A value from
                  the cache may be older than what a listing has shown before.
                - ``"linearizable"``: the cluster agrees on each read, which costs a
                  round trip between the members.  The cache is not used.
                - ``"any"``: a read returns whatever the member in use answers, however
                  old.

            timeout: the longest time of a call, in seconds.  In writes of many keys,
                this is the longest time of each request instead.
            codec: as for `EtcdMapping`.

        A `Live` sends no requests, so only ``codec`` has an effect on it.

        Cost: no request.

        >>> m.using(consistency="linearizable", timeout=1)["port"]
        8080
        """
        view = self._view
        if timeout is not None:
            timeout = positive_seconds("timeout", timeout)
        store = view.store.using(consistency=consistency, timeout=timeout)
        codec = view.codec if codec is None else get_codec(codec)
        return self.with_view(replace(view, store=store, codec=codec))

    def _sub(self: H, path: str) -> H:
        view = self._view
        # `replace` would take twice the time, and a loop does this for each directory.
        below = View(
            view.store,
            view.codec,
            view.naming,
            path,
            view.readonly,
            whole_cluster=False,
        )
        return self.with_view(below)

    def cache_info(self) -> CacheInfo | None:
        """Return the figures of the client's cache; None if it has no cache.

        >>> m.cache_info() is None
        True
        """
        cache = self._view.store.using(consistency="session").cache
        return None if cache is None else cache.info()

    @alters_data
    def cache_clear(self) -> None:
        """Empty the client's cache.

        >>> m.cache_clear()
        """
        cache = self._view.store.using(consistency="session").cache
        if cache is not None:
            cache.clear()

    @alters_data
    def close(self) -> None:
        """Close the connections, if this mapping made the client.

        On a sub-mapping or a view, this method does nothing, because the client is
        shared.

        >>> m.close()
        """
        if self._owner:
            self._view.store.client.close()

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled; for the client, that is how to make it again."""
        # An unpickled mapping makes its own client, which it must close.
        return {**self.__dict__, "_owner": True}

    def __repr__(self) -> str:
        arguments = f"{list(self._view.store.client.endpoints)}"
        if not self._view.whole_cluster:  # else no prefix was given
            arguments += f", prefix={self.prefix!r}"
        return f"{type(self).__name__}({arguments})"

    # --- for the layers above

    def _readable(self, key: object) -> str:
        """Return the path of a key; raise KeyNotFound if no node can have the key."""
        path = self._view.naming.readable(self._view.root, key)
        if path is None:
            where, why = self._view.naming.why_none(self._view.root, key)
            raise absent(key, why, where)
        return path

    def _writable(self, key: object) -> str:
        """Return the path of a key to write; raise if it may not be written."""
        self._check_writable()
        return self._view.naming.writable(self._view.root, key)

    def _check_writable(self) -> None:
        if self._view.readonly:
            raise ReadOnly("this mapping is read-only; nothing was sent")

    def _check_prefix(self, what: str) -> None:
        if self._view.whole_cluster:
            raise PrefixRequired(
                f"{what}, as this mapping was made without a prefix: give it a prefix "
                "like '/app'; or '/' (?prefix=/ in a URL) if you mean the whole cluster"
            )

    def _encoder(self, until: float) -> plan.Encoder:
        return plan.Encoder(self._encode_text, self._view.naming, until)

    def _encode(self, path: str, value: Any, until: float) -> plan.Encoded:
        encoder = self._encoder(until)
        encoded = encoder.encode(path, value)
        encoder.refused.raise_first()
        return encoded

    def _encode_text(self, path: str, value: Any) -> str:
        """Return the text to store at a path; errors about the value name the path."""
        try:
            text = encode_text(self._view.codec, value)
            self._view.store.check_text(text)
            return text
        except (TypeError, ValueError) as error:
            place(error, path or "/")
            raise

    def _check_ttl(self, ttl: float | None) -> None:
        if ttl is not None:
            self._view.store.check_ttl(ttl)


def absent(key: object, why: str, path: str) -> KeyNotFound:
    """Return a KeyError like that of a dict: its argument is the caller's own key."""
    error = KeyNotFound(why, code=0, key=path)
    error.args = (key,)
    return error


class named:
    """Have a KeyNotFound carry the caller's own key, as the KeyError of a dict does.

    This is a class because a generator would take ten times as long, in every read.
    """

    __slots__ = ("_key",)

    def __init__(self, key: object) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, KeyNotFound):
            error.args = (self._key,)


class sought(named):
    """Like `named`, for reads: if a file is on the way to a key, the key is absent."""

    __slots__ = ()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, NotADirectory):
            absence = absent(self._key, "", "")
            why = "a file stands on the way to this key"
            vars(absence).update(vars(error), reason=why)
            raise absence from None
        super().__exit__(kind, error, traceback)

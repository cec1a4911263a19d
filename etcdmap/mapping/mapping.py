"""`EtcdMapping`: a nested dict whose data lives in etcd; its writes of many keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from etcdmap.client import Client, Policy, flag
from etcdmap.codecs import Codec, CodecName, get_codec
from etcdmap.connecting import client_for, connect_options, store_of
from etcdmap.connecting.options import (
    argument_names,
    check_prefix,
    check_shared,
    default,
    refuse_unknown,
    told,
)
from etcdmap.connecting.urls import parse_url
from etcdmap.errors import NotADirectory, Refusal
from etcdmap.errors import __tracebackhide__ as __tracebackhide__
from etcdmap.mapping import execution, plan
from etcdmap.mapping.differences import Differences, differences
from etcdmap.mapping.execution import Progress
from etcdmap.mapping.flat import FlatView
from etcdmap.mapping.handle import View
from etcdmap.mapping.joined import joined
from etcdmap.mapping.live import Live
from etcdmap.mapping.plan import Plan
from etcdmap.mapping.views import Contents, plain_mapping
from etcdmap.mapping.watch import Watch
from etcdmap.mapping.writing import Writing
from etcdmap.marks import alters_data
from etcdmap.paths import ESCAPED, FLAT, PLAIN, clean_prefix
from etcdmap.refusals import tell
from etcdmap.tree import Consistency, Directory, File, Node, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from etcdmap.connecting.options import MappingOptions

M = TypeVar("M", bound="EtcdMapping")


@joined
class EtcdMapping(Writing):
    """A directory of etcd as a dict.

    >>> m["port"], m["db"]["port"], m["db/port"]  # the last two are the same key
    (8080, 5432, 5432)
    >>> "port" in m, m.get("nope", "none")
    (True, 'none')
    >>> len(m)
    2
    >>> for key in m:  # sorted, as in keys(), values() and items()
    ...     print(key)
    db
    port
    >>> m.to_dict()  # the whole content, with one request
    {'db': {'host': 'localhost', 'port': 5432}, 'port': 8080}
    >>> m["db"] = {"host": "10.0.0.7", "port": 5432}  # only what differs is written
    >>> m["port"] = 9090
    >>> del m["db/port"]
    >>> m.update({"name": "shop"}), m.pop("port"), m.setdefault("name", "other")
    (None, 9090, 'shop')

    A mapping can also do what a dict can't: `set` a value with a ttl (time to live),
    `create`, `replace`, `compare_and_swap`, `transform`, `append`, `merge`, `assign`,
    `flat`, `snapshot`.

    A dict, or any other mapping, that is assigned to a key becomes a directory.  Every
    other value becomes a file; the codec turns the value into the file's text.
    ``m["a"]["b"]`` and ``m["a/b"]`` are the same file or directory.  Each operation
    asks etcd, and its docstring says how many requests it sends.  Nothing is kept in
    memory, unless you turn on the read cache with ``cache_ttl``.

    Args:
        endpoints: client URLs of one or more members (servers) of one cluster; a URL
            without a port gets 2379.  With None, the environment variable
            ``ETCDMAP_URL`` is used (see `from_url`), or ``http://127.0.0.1:2379`` if
            this variable is not set.  With None, ``ETCDMAP_USERNAME`` and
            ``ETCDMAP_PASSWORD`` may give credentials, too.  Arguments take precedence
            over the environment.
        prefix: the directory that the mapping shows, like ``"/app"``.  The directory
            need not exist: the first write makes it.  None, ``""`` and ``"/"`` mean the
            root of the whole cluster.  `clear` and `assign` refuse to work on the root,
            unless you have given ``"/"``.
        client: a client made by `connect`, to be shared with other mappings.  With a
            client, you can't give endpoints or options of `connect`.  Closing the
            mapping leaves the client open.
        codec: how values are stored as text: ``"auto"``, ``"json"``, ``"text"``, or an
            object with ``encode(value) -> str`` and ``decode(str) -> value``.  None
            means ``"auto"``.
        readonly: whether every write raises `ReadOnly` and sends no request.
        escape_keys: whether every key becomes exactly one name in etcd.  To make this
            possible, ``/``, a leading ``_``, the empty key and control characters are
            stored as percent escapes.  With this option, ``m["a/b"]`` is one key, and
            not the key ``b`` in the directory ``a``.
        consistency: what reads promise (see `using`); None means ``"session"``.
        timeout: `connect` explains this option, and the options that follow it in the
            signature.

    Every method that sends a request may raise the errors of `Client.send`.  An outage
    is never a KeyError, so `get` and ``in`` never hide an outage.

    ``timeout`` limits a whole call, however many requests the call takes.  Writes of
    many keys are the exception: for `update`, `merge`, `assign`, `clear`, and every
    method that stores a mapping, ``timeout`` limits each request.

    Subclasses: ``m["a"]`` is a mapping of the same class; `with_view` says which
    attributes it gets.

    Threads: any number of threads can share one mapping.  A forked child may go on
    using it.  A pickled mapping makes new connections where it is unpickled.
    Credentials are never pickled.  If a mapping had credentials, it takes
    ``ETCDMAP_USERNAME`` and ``ETCDMAP_PASSWORD`` from the environment in which it is
    unpickled.  It does so only if ``ETCDMAP_URL`` in this environment names all
    endpoints of the mapping.
    """

    @told
    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        prefix: str | None = None,
        *,
        client: Client | None = None,
        codec: CodecName | Codec | None = None,
        readonly: bool | None = None,
        escape_keys: bool | None = None,
        consistency: Consistency | None = None,
        timeout: float = default(5.0),
        connect_timeout: float = default(1.0),
        username: str | None = default(None),
        password: str | None = default(None),
        verify: bool | str = default(True),
        cert: str | tuple[str, str] | None = default(None),
        session: Any = default(None),
        shuffle: bool = default(True),
        max_response: int = default(67_108_864),
        cache_ttl: float | None = default(None),
        cache_size: int = default(10_000),
        max_stale: float = default(2.0),
        policy: Policy | None = default(None),
        fence: bool | None = default(None),
        auto_sync: float | None = default(None),
    ) -> None:
        options = connect_options(locals())
        self._owner = client is None
        if isinstance(prefix, str):
            # For an instance of a subclass, take its plain text: see `Naming`.
            prefix = str.__str__(prefix)
        check_prefix(prefix)
        own: dict[str, Any] = {
            # Empty means not given, like a bare slash in a URL.
            "prefix": None if prefix == "" else prefix,
            "codec": codec,
            "readonly": readonly,
            "escape_keys": escape_keys,
            "consistency": consistency,
        }
        if client is None:
            client = client_for(endpoints, own, options)
        else:
            check_shared(client, endpoints, options)
        prefix, codec, readonly, escape_keys, consistency = own.values()
        for name in ("readonly", "escape_keys"):
            if own[name] is not None:
                flag(name, own[name])
        self._view = View(
            store=store_of(client).using(consistency=consistency),
            codec=get_codec("auto" if codec is None else codec),
            naming=ESCAPED if escape_keys else PLAIN,
            root=clean_prefix("" if prefix is None else prefix),
            readonly=bool(readonly),
            whole_cluster=prefix in (None, ""),
        )

    @classmethod
    def from_url(cls: type[M], url: str, **options: Unpack[MappingOptions]) -> M:
        """Make a mapping from ``etcd://user:pw@h1:2379,h2:2379/app?codec=text``.

        Args:
            url: ``etcds://`` means TLS.  A host without a port gets 2379.  The path is
                the prefix, but the path ``/`` means that no prefix is given; write
                ``?prefix=/`` for the root of the cluster.  The query may contain every
                option whose value is a text, a number, or true or false, except
                ``endpoints``, ``username`` and ``password``.
            **options: as for `EtcdMapping`; they take precedence over the URL.

        Raises:
            TypeError, ValueError: the URL does not have this form, an option does not
                exist, or the value of an option can't work.  The message shows no part
                of the URL that may be secret.

        >>> EtcdMapping.from_url("etcd://127.0.0.1:2379/app?codec=text").prefix
        '/app'
        """
        if cls.__init__ is EtcdMapping.__init__:  # else it may take others
            known = argument_names(cls.__init__)[1:]
            refuse_unknown(f"{cls.__name__}.from_url", options, known)
        merged: dict[str, Any] = {**parse_url(url), **options}
        return cls(**merged)

    @property
    def flat(self) -> FlatView:
        """This directory with all subdirectories, as one mapping from paths to values.

        The paths are relative to this directory.  With ``escape_keys``, a path consists
        of the names as they are stored.

        Cost: no request.

        >>> m.flat["db/port"], list(m.flat)
        (5432, ['db/host', 'db/port', 'port'])
        """
        return FlatView._on(replace(self._view, naming=FLAT))

    # --- what happens

    def watch(
        self,
        key: str | None = None,
        *,
        after: int | None = None,
        timeout: float | None = None,
    ) -> Watch:
        """Return an iterator over the changes of a key, and of all keys below it.

        Each change comes once, in order, and none is lost unless `WatchExpired` is
        raised.  This holds even when members fail or connections end.

        If a directory is deleted or expires, there is an event for each file that was
        known to be in it, and then an event for the directory.  If a write creates the
        directories above its key, there is an event for each of these directories, too.
        All events of one change have the same index, the number that etcd gives to the
        change.

        Args:
            key: the key to watch, with all keys below it; None for the whole mapping.
            after: begin with the first change after this index.  Give the index that
                `set` or `snapshot` returned, or the `Watch.index` of an earlier watch;
                None means to begin now.  If you give an index, the data is not read
                first, so the watch does not know what was there before.  In this case,
                ``previous`` is whatever etcd reports with the change, and there is no
                event for a directory that a write created above its key.
            timeout: seconds to wait for the next change; if none comes, the iterator
                ends.  None means to wait for ever.

        Raises:
            WatchExpired: changes were missed, because etcd keeps only the last 1,000
                changes of all keys.  Read the data again with `snapshot`, and watch
                from the index of the snapshot.  Or use `live`, which does this for you.
            InvalidKey: the key can't exist.

        Cost: 1 request, or none with ``after``.  From then on, 1 request for each
        change.  While the watch waits, it also sends 1 small request every 2 s, and 1
        quorum read (a read that a majority of the members confirms) every 6 to 7.5 s.
        These two requests find out whether the member that the watch asks has fallen
        silent.

        >>> before = m.index()
        >>> m["db/port"] = 5433
        >>> with m.watch("db", after=before, timeout=5) as watch:
        ...     event = next(watch)
        >>> print(event.action, event.key, event.value, event.previous)
        set db/port 5433 5432
        """
        view = self._view
        path = None if key is None else view.naming.writable(view.root, key)
        return Watch(view, path, after, timeout)

    def live(self, max_stale: float = 10.0) -> Live:
        """Return a replica of this mapping: a copy in memory that follows etcd.

        Use the replica as a context manager, or close it.  The replica also ends when
        its client is closed.  A watch, which has two threads, keeps the replica up to
        date.  If this client already has an open replica of the same directory, or of a
        directory above it, both replicas share one watch.

        The whole directory is read before this method returns.  If this read fails, the
        method raises what any read raises, within the client's timeout.  So while etcd
        is down, you get an exception, and never an empty replica.

        Args:
            max_stale: within each period of this many seconds, the replica proves at
                least once that it has missed nothing.  So this option limits the time
                until the replica notices that its connection has fallen silent.

        Cost: 2 requests, or none if the watch is shared.  From then on, the watch sends
        1 request for each change, and 1 small request every 2 s.  Each time that 0.6 to
        0.75 of ``max_stale`` have passed, it also sends 1 quorum read (a read that a
        majority of the members confirms), and 2 more requests if keys outside of this
        directory have changed.  While keys outside of this directory change often, a
        change in this directory may take 2 requests, and 1 more request is sent
        every 2 s.

        >>> with m.live() as now:
        ...     now["port"], now.wait(m.set("port", 8081)), now["port"]
        (8080, True, 8081)
        """
        return Live._lease(self._view, max_stale)

    # --- writes of many keys
    #
    # The whole content is checked first, then the writes are planned from one listing,
    # then they are sent.  The reads before the first write share one deadline, and each
    # write has a deadline of its own; a plan of one step shares that of the reads.
    #
    # All of them raise DirectoryNotEmpty before the first write if they would delete a
    # directory with a name in it that this mapping does not show: the caller can hardly
    # want that.  The exception is a value that `update` writes in place of a directory,
    # which deletes everything in it.

    @alters_data
    def update(self, other: Contents = (), /, **kwargs: Any) -> None:
        """Store many keys, as ``m[key] = value`` does for each of them.

        Everything is checked and encoded before the first write.

        Args:
            other: a mapping, or pairs; if a key is repeated, its last value counts.
            **kwargs: more keys and values; every name is a key, and never an option.

        Raises:
            InvalidKey: a key can't be written, or lies below another key of this call.
            NotADirectory: a file stands where a directory is needed.
            DirectoryGone: ``other`` is, or contains, a mapping on etcd whose directory
                does not exist.
            DirectoryNotEmpty: as for `assign`; only if a value is a mapping.
            PartialWrite: some keys failed; the error says which, and what was done.

        Cost: 1 listing, and 1 request for each value; for a value that is a mapping,
        1 request for each difference.  Atomic: per key.

        >>> m.update({"name": "shop"}, port=9090)
        >>> m["name"], m["port"]
        ('shop', 9090)
        """
        self._check_writable()
        store = self._view.store.call()
        wanted = self._encode_all(other, kwargs, store.until)
        if not wanted:
            return
        level = self._view.root.count("/") + 1
        deep = any(p.count("/") > level or type(v) is dict for p, v in wanted.items())
        todo, current = self._plan(store, recursive=deep)
        for path, encoded in wanted.items():
            node = self._node_at(path, current)
            if isinstance(encoded, str):
                plan.overwrite(todo, path, encoded, node)
            else:
                plan.become(todo, path, encoded, node)
        execution.carry_out(store, todo)

    @alters_data
    def merge(
        self,
        other: Contents,
        *,
        ttl: float | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Differences:
        """Write a nested mapping over this one; keep the keys that ``other`` lacks.

        Args:
            other: a mapping, or pairs.
            ttl: seconds until each value expires.  With a ttl, all values are written,
                and not only those that differ.
            dry_run: whether to write nothing, and only return what would change.
            progress: a function to call with two numbers: how many requests are done,
                and how many there are in all.

        Returns:
            What changed, in the same form as `assign` returns it.

        Raises:
            InvalidKey: a key can't be written, or lies below another key of this call.
            NotADirectory: a file stands where a key like ``"a/b"`` needs a directory.
            DirectoryGone: as for `update`.
            DirectoryNotEmpty: as for `assign`.
            PartialWrite: some keys failed; the error says which, and what was done.

        Cost: 1 listing of everything, and 1 request for each difference.
        Atomic: per key.

        >>> changes = m.merge({"db": {"port": 5433}})
        >>> m["db"].to_dict()
        {'host': 'localhost', 'port': 5433}
        """
        if not dry_run:
            self._check_writable()
        store = self._view.store.call()
        wanted = self._encode_all(other, {}, store.until)
        self._check_ttl(ttl)
        if not wanted:
            return Differences()
        todo, current = self._plan(store)
        for path, encoded in wanted.items():
            node = self._node_at(path, current)
            plan.become(todo, path, encoded, node, keep=True, ttl=ttl)
        if not dry_run:
            execution.carry_out(store, todo, progress)
        return self._differences(todo, current)

    @alters_data
    def assign(
        self,
        other: Contents,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Differences:
        """Make the whole content equal to a nested mapping; return what changed.

        Only what differs is written or deleted.  Values are compared as stored text,
        and a value that has a ttl always counts as different.  A name that this mapping
        does not show is never deleted alone, and a directory that contains such a name
        is not deleted.  But names that start with ``_``, which etcd lists to nobody,
        are deleted together with the directory that contains them.

        Args:
            other: a mapping, or pairs.  Each key is one name: a key with a ``/`` is
                refused, unless this mapping has ``escape_keys``.
            dry_run: whether to write nothing, and only return what would change.
            progress: a function to call with two numbers: how many requests are done,
                and how many there are in all.

        Returns:
            A list of what changed, with old and new values.  The list is sorted by key,
            and prints like a diff.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so the call would
                replace all keys of the cluster.
            InvalidKey: a key can't be written.
            DirectoryGone: as for `update`.
            DirectoryNotEmpty: the call would delete a directory that contains a name
                which this mapping does not show.  Nothing was written.
            PartialWrite: some keys failed; the error says which, and what was done.

        Cost: 1 listing of everything, and 1 request for each difference.
        Atomic: per key.

        >>> changes = m.assign({"port": 9090})
        >>> m.to_dict()
        {'port': 9090}
        """
        if not dry_run:
            self._check_writable()
        self._check_prefix("assign() would replace the keys of the whole cluster")
        return self._differences(*self._assign(other, dry_run, progress))

    @alters_data
    def clear(self) -> None:
        """Delete all keys that this mapping shows; keep the directory itself.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so the call would
                empty the whole cluster.
            DirectoryNotEmpty: as for `assign`.
            PartialWrite: some keys failed; the error says which.

        Cost: 1 listing, and 1 request for each key.  Atomic: no.

        >>> m.clear()
        >>> len(m)
        0
        """
        self._check_writable()
        self._check_prefix("clear() would empty the whole cluster")
        self._assign({})

    def _assign(
        self, other: Contents, dry_run: bool = False, progress: Progress | None = None
    ) -> tuple[Plan, Directory]:
        root, store = self._view.root, self._view.store.call()
        content = _content(plain_mapping(other, store.until, stored=True), root)
        wanted = self._encode(root, content, store.until)
        todo, current = self._plan(store)
        # The ttl is left out: for a directory with a ttl, `become` would plan to delete
        # it with everything in it.
        plan.become(todo, root, wanted, current._replace(ttl=None))
        if not dry_run:
            execution.carry_out(store, todo, progress)
        return todo, current

    def _differences(self, todo: Plan, current: Directory) -> Differences:
        return differences(todo, self._view.root, current, self._view.codec.decode)

    def _plan(self, store: Store, *, recursive: bool = True) -> tuple[Plan, Directory]:
        """Return an empty plan, and the listing to plan from."""
        listing, index = self._listing(store, recursive=recursive)
        return Plan(self._view.naming, index), listing or Directory({}, None)

    def _node_at(self, path: str, listing: Directory) -> Node | None:
        node: Node | None = listing
        for part in path[len(self._view.root) + 1 :].split("/"):
            if isinstance(node, File):
                raise NotADirectory("a file stands on the way", key=path)
            if node is None:
                return None
            node = node.children.get(part)
        return node


def _content(other: Any, path: str) -> dict[Any, Any]:
    """Return the content that `assign` is to give to a directory.

    Only an empty mapping deletes everything.  Any other empty value is refused: it may
    come from an empty file, or from a variable that is not set.  A list of strings is
    refused as well, because `dict` would take each string of two letters for a pair.
    """
    if isinstance(other, Mapping):
        return dict(other)
    try:
        pairs = other if hasattr(other, "keys") else list(other)
        names = pairs is not other and any(isinstance(each, str) for each in pairs)
        content = {} if names else dict(pairs)
    except (TypeError, ValueError):
        content = {}
    if content:
        return content
    why = (
        f"assign() takes a mapping, or pairs of key and value, not this "
        f"{type(other).__name__}; assign({{}}) deletes all keys"
    )
    raise tell(TypeError(), [Refusal(path or "/", why)])

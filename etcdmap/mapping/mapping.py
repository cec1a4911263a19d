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

    >>> m["port"], m["db"]["port"], m["db/port"]  # a value; one in a directory, twice
    (8080, 5432, 5432)
    >>> "port" in m, m.get("nope", "none")
    (True, 'none')
    >>> len(m)
    2
    >>> for key in m:  # sorted; so are keys(), values() and items()
    ...     print(key)
    db
    port
    >>> m.to_dict()  # all of it, by one request
    {'db': {'host': 'localhost', 'port': 5432}, 'port': 8080}
    >>> m["db"] = {"host": "10.0.0.7", "port": 5432}  # only what differs is written
    >>> m["port"] = 9090
    >>> del m["db/port"]
    >>> m.update({"name": "shop"}), m.pop("port"), m.setdefault("name", "other")
    (None, 9090, 'shop')

    More than a dict, because etcd has it: `set` with a ttl, `create`, `replace`,
    `compare_and_swap`, `transform`, `append`, `merge`, `assign`, `flat`, `snapshot`.

    A mapping assigned to a key becomes a directory, everything else a file
    whose text the codec makes.  ``m["a"]["b"]`` and ``m["a/b"]`` are the same
    node.  Nothing is kept in memory but for the read cache, if there is one:
    each operation asks etcd, and its cost in requests is in its docstring.

    Args:
        endpoints: client URLs of one or more members of one cluster; None for
            what the environment variable ``ETCDMAP_URL`` says (see `from_url`;
            arguments given here take precedence), else ``http://127.0.0.1:2379``; and
            with the credentials in ``ETCDMAP_USERNAME`` and ``ETCDMAP_PASSWORD``,
            if there are any.  A missing port is 2379.
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
            Then ``m["a/b"]`` is one key, and does not walk the store.
        consistency: what reads promise, see `using`; None for ``"session"``.
        timeout: and all that follow: as for `connect`.

    Raises (every method that sends a request): what `Client.send` raises.  An
    outage is never a KeyError, so `get` and ``in`` don't hide one.

    ``timeout`` bounds a whole call, however many requests it takes; only writes
    of many keys (`update`, `merge`, `assign`, `clear`, and whatever stores a mapping)
    have a deadline for each request instead.

    Subclasses: ``m["a"]`` is one of the same class; see `with_view` for what goes
    along.

    Threads: share one mapping freely.  A forked child may go on using it.  A
    pickled one connects anew, with the credentials of its environment
    (``ETCDMAP_USERNAME``, ``ETCDMAP_PASSWORD``) if ``ETCDMAP_URL`` there names all of
    its endpoints.
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
            # Of a subclass the plain text, as of a key: see `Naming`.
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
            url: ``etcds://`` stands for TLS; a missing port for 2379; the path
                is the prefix, if it is more than a slash (``?prefix=/`` means
                the whole cluster); the query takes the options that are texts,
                numbers, or true or false.
            **options: as for `EtcdMapping`; they take precedence over the URL.

        Raises:
            TypeError, ValueError: it is no such URL; the message does not show it.  Or
                an option that there is not, or that can't work.

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
        """The subtree as one mapping of relative path -> value.

        With ``escape_keys``, a path consists of names as they are stored.

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
        """Return an iterator over the changes of a key and all below it.

        In order, each once, and none is lost unless `WatchExpired` says so; members
        that fail and connections that end are no matter.

        A directory that goes is an event for each file that was known in it, then one
        for the directory; a directory that a write made on its way is one as well: all
        with the index of the change.

        Args:
            key: of what; None for all of this mapping.
            after: the index behind which to begin: what `set` or `snapshot` gave, or
                `Watch.index` of an earlier one.  None for now.  With an index nothing
                is read, so what was there before it is not known: ``previous`` is what
                etcd tells, and directories made on the way are no events.
            timeout: seconds to wait for the next change; it ends then.  None for ever.

        Raises:
            WatchExpired: etcd keeps the last 1,000 changes only, of all keys.  Read
                anew, and watch from there; or use `live`, which does it.
            InvalidKey: the key can't exist.

        Cost: 1 request, none with ``after``; then 1 for each change, and while it waits
        1 small one every 2 s and 1 quorum read every 6 to 7.5 s, which find out whether
        the member that is asked has fallen silent.

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
        """Return this mapping as one held in memory, kept up to date by a watch.

        Use it as a context manager, or close it; it ends with its client, too.  The
        tree is read before this returns.  All calls for directories of this client that
        lie in one another share one watch and two threads.

        Args:
            max_stale: seconds within which it is proved that nothing was missed; what
                bounds the time for which a silent connection can go unnoticed.

        Raises: what a read raises, within the client's timeout: if etcd is down there
        is no replica, and never an empty one.

        Cost: 2 requests; then 1 for each change, 1 small one every 2 s, and in each 0.6
        to 0.75 of ``max_stale`` one quorum read, and 2 polls if something changed
        elsewhere.  A busy neighbour costs a poll every 2 s more.

        >>> with m.live() as now:
        ...     now["port"], now.wait(m.set("port", 8081)), now["port"]
        (8080, True, 8081)
        """
        return Live._lease(self._view, max_stale)

    # --- writes of many keys
    #
    # Checked whole, planned from one listing, then sent.  The reads before the first
    # write share one deadline, and each write has one of its own; a plan of one step
    # shares that of the reads.
    #
    # All raise DirectoryNotEmpty before the first write if a directory would be deleted
    # that holds a name which this mapping does not show, so that the caller can't mean
    # it.  Only a value that `update` puts in place of a directory deletes all of it.

    @alters_data
    def update(self, other: Contents = (), /, **kwargs: Any) -> None:
        """Store many keys, as ``m[key] = value`` for each of them.

        Everything is checked and encoded before the first write.

        Args:
            other: a mapping, or pairs; of a repeated key the last one counts.
            **kwargs: more keys; none of them is an option.

        Raises:
            InvalidKey: a key can't be written, or lies below another one.
            NotADirectory: a file stands on the way.
            DirectoryGone: it is, or holds, a mapping whose directory does not exist.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing, and 1 request for each value; a mapping costs its
        differences.  Atomic: per key.

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
        """Put a nested mapping over this one, deeply: keep what it does not name.

        Args:
            other: a mapping, or pairs.
            ttl: seconds until each value expires; then all values are written, and
                not only those that differ.
            dry_run: only tell what would change.
            progress: called with the number of requests done and of all.

        Returns:
            What changed, as `assign` does.

        Raises:
            InvalidKey: a key can't be written, or lies below another one.
            NotADirectory: a file stands on the way of a path key.
            DirectoryGone: as `update`.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing of the subtree, and 1 request for each difference.
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
        """Make the subtree equal to a nested mapping; return what changed.

        Only what differs is written or deleted, compared as text; that a value
        expires is a difference.  Names that this view does not show stay.

        Args:
            other: a mapping, or pairs; its keys are one segment each.
            dry_run: only tell what would change.
            progress: called with the number of requests done and of all.

        Returns:
            What changed, sorted by key, with old and new values; printed, a diff.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so this would
                replace the whole cluster's keys.
            InvalidKey: a key can't be written.
            DirectoryGone: as `update`.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing of the subtree, and 1 request for each difference.
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
        """Delete all keys that are shown; the directory itself stays.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so this would
                empty the whole cluster.
            PartialWrite: some keys failed.

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
        # Without its ttl, for which `become` would delete the directory and all in it.
        plan.become(todo, root, wanted, current._replace(ttl=None))
        if not dry_run:
            execution.carry_out(store, todo, progress)
        return todo, current

    def _differences(self, todo: Plan, current: Directory) -> Differences:
        return differences(todo, self._view.root, current, self._view.codec.decode)

    def _plan(self, store: Store, *, recursive: bool = True) -> tuple[Plan, Directory]:
        """Return an empty plan, and the listing that it is made from."""
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
    """Return what `assign` shall make of a directory.

    Nothing at all, as an empty file or a variable that is not set gives it, would
    delete everything, so only an empty mapping does that.  Nor is a list of names one,
    of which `dict` takes those of two letters for pairs.
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
        f"assign() takes a mapping, or pairs of key and value, and this "
        f"{type(other).__name__} is none; assign({{}}) deletes all keys"
    )
    raise tell(TypeError(), [Refusal(path or "/", why)])

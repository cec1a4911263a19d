"""Writes of many keys."""

from __future__ import annotations

from typing import Any, NamedTuple

from etcdmap import plan, sending
from etcdmap.common import NOT_A_DIRECTORY
from etcdmap.errors import NotADirectory
from etcdmap.handle import check_ttl
from etcdmap.nodes import Directory, File
from etcdmap.plan import Delete, MakeDirectory, Plan, Put
from etcdmap.sending import Progress
from etcdmap.tree import Tree
from etcdmap.views import plain_mapping
from etcdmap.writing import Writing

_ACTIONS = {Put: "set", MakeDirectory: "make_directory", Delete: "delete"}


class Change(NamedTuple):
    """One difference that `assign` found: what is done to which key.

    Attributes:
        action: ``"set"``, ``"delete"`` or ``"make_directory"``.
        key: the path relative to the mapping's prefix, as stored.
    """

    action: str
    key: str


class BulkWriting(Writing):
    """Writes of many keys: checked whole, planned from one listing, then sent.

    What is looked at before the first write has one deadline, and then each
    request one of its own; a write that comes to one request has one in all.  A
    whole deadline without any answer ends the write.

    All but `update` with a value in place of a directory raise DirectoryNotEmpty,
    before the first write, where a directory would go that holds a name which
    this view does not show.
    """

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store many keys, as ``m[key] = value`` for each of them.

        Everything is checked and encoded before the first write.

        Args:
            other: a mapping, or pairs; of a repeated key the last one counts.
            **kwargs: more keys; none of them is an option.

        Raises:
            InvalidKey: a key can't be written, or lies below another one.
            NotADirectory: a file stands on the way.
            DirectoryGone: it is or holds a mapping without a directory.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing, and 1 request for each value; a mapping costs its
        differences.  Atomic: per key.
        """
        self._check_writable()
        tree = self._view.tree.call()
        wanted = self._encode_all(other, kwargs, tree.until)
        if not wanted:
            return
        level = self._view.root.count("/") + 1
        deep = any(p.count("/") > level or type(v) is dict for p, v in wanted.items())
        todo, current = self._plan(tree, recursive=deep)
        for path, encoded in wanted.items():
            node = self._node_at(path, current)
            if isinstance(encoded, str):
                # Written even if it is there already, as by m[k] = v.
                plan.overwrite(todo, path, encoded, node)
            else:
                plan.become(todo, path, encoded, node)
        sending.carry_out(tree, todo)

    def merge(
        self,
        other: Any,
        *,
        ttl: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Put a nested mapping over this one, deeply: keep what it does not name.

        Args:
            other: a mapping, or pairs.
            ttl: seconds until each value written expires; all are then written.
            progress: called with the number of requests done and of all.

        Raises:
            InvalidKey: a key can't be written, or lies below another one.
            NotADirectory: a file stands on the way of a path key.
            DirectoryGone: as `update`.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing of the subtree, and 1 request for each difference.
        Atomic: per key.
        """
        self._check_writable()
        tree = self._view.tree.call()
        wanted = self._encode_all(other, {}, tree.until)
        check_ttl(ttl)
        if not wanted:
            return
        todo, current = self._plan(tree)
        for path, encoded in wanted.items():
            node = self._node_at(path, current)
            plan.become(todo, path, encoded, node, keep=True, ttl=ttl)
        sending.carry_out(tree, todo, progress)

    def assign(
        self,
        other: Any,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> list[Change]:
        """Make the subtree equal to a nested mapping; return what changed.

        Only what differs is written or deleted, compared as text; that a value
        expires is a difference.  Names that this view does not show stay.

        Args:
            other: a mapping, or pairs; its keys are one segment each.
            dry_run: only tell what would change.
            progress: called with the number of requests done and of all.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so this would
                replace the whole cluster's keys.
            InvalidKey: a key can't be written.
            DirectoryGone: as `update`.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing of the subtree, and 1 request for each difference.
        Atomic: per key.
        """
        self._check_writable()
        self._check_prefix("assign() would replace the keys of the whole cluster")
        return self._assign(other, dry_run=dry_run, progress=progress)

    def clear(self) -> None:
        """Delete all keys that are shown; the directory itself stays.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so this would
                empty the whole cluster.
            PartialWrite: some keys failed.

        Cost: 1 listing, and 1 request for each key.  Atomic: no.
        """
        self._check_writable()
        self._check_prefix("clear() would empty the whole cluster")
        self._assign({})

    def _assign(
        self, other: Any, *, dry_run: bool = False, progress: Progress | None = None
    ) -> list[Change]:
        root, tree = self._view.root, self._view.tree.call()
        other = plain_mapping(other, tree.until, stored=True)
        wanted = self._encode(root, dict(other), tree.until)
        todo, current = self._plan(tree)
        # The directory itself stays, also when it has a ttl.
        plan.become(todo, root, wanted, current._replace(ttl=None))
        if not dry_run:
            sending.carry_out(tree, todo, progress)
        start = len(root) + 1
        return [Change(_ACTIONS[type(s)], s.path[start:]) for s in todo.steps]

    def _plan(self, tree: Tree, *, recursive: bool = True) -> tuple[Plan, Directory]:
        """Return an empty plan, and the listing that it is made from."""
        listing, index = self._listing(tree, recursive=recursive)
        return Plan(self._view.naming, index), listing or Directory({}, None)

    def _node_at(self, path: str, listing: Directory) -> File | Directory | None:
        """Find a node in the listing of this mapping's directory."""
        node: File | Directory | None = listing
        for part in path[len(self._view.root) + 1 :].split("/"):
            if isinstance(node, File):
                raise NotADirectory(
                    "a file stands on the way", code=NOT_A_DIRECTORY, key=path
                )
            if node is None:
                return None
            node = node.children.get(part)
        return node

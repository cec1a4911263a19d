"""Writes of many keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from etcdmap import plan
from etcdmap.errors import InvalidKey, NotADirectory, PrefixRequired
from etcdmap.handle import NOT_A_DIRECTORY
from etcdmap.paths import writable
from etcdmap.reading import plain_mapping
from etcdmap.tree import Directory, File
from etcdmap.writing import Writing

B = TypeVar("B", bound="BulkWriting")


class BulkWriting(Writing):
    """Writes of many keys: checked whole, planned from one listing, then sent."""

    # --- writing many keys

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Store many keys, as ``m[key] = value`` for each of them.

        Everything is checked and encoded before the first write.

        Args:
            other: a mapping, or pairs; of a repeated key the last one counts.
            **kwargs: more keys; none of them is an option.

        Raises:
            InvalidKey: a key can't be written, or lies below another one.
            PartialWrite: some keys failed; says which, and what is done.

        Cost: 1 listing, and 1 request for each value; a mapping costs its
        differences.  Atomic: per key.
        """
        self._check_writable()
        values = plain_mapping(other) if isinstance(other, Mapping) else dict(other)
        values.update(kwargs)
        if not values:
            return
        wanted = self._encode_all(values)
        deep = any("/" in k or isinstance(v, dict) for k, v in wanted.items())
        current = self._listing(recursive=deep)
        steps: list[plan.Step] = []
        for key, encoded in wanted.items():
            node = self._node_in(current, key)
            steps += self._steps_to_set(f"{self._root}/{key}", encoded, node)
        plan.run(self._tree, steps)

    def __ior__(self: B, other: Any) -> B:  # type: ignore[override,misc]
        """Update from a mapping or pairs.  Cost: as `update`."""
        self.update(other)
        return self

    def _encode_all(self, values: Mapping[str, Any]) -> dict[str, plan.Encoded]:
        wanted = {}
        for key, value in values.items():
            path = writable(self._root, key)
            wanted[key] = plan.encode(path, plain_mapping(value), self._encode)
        for key in wanted:
            above = key
            while "/" in above:
                above = above.rpartition("/")[0]
                if above in wanted:
                    raise InvalidKey(f"{key!r} lies below {above!r}: nest them instead")
        return wanted

    def _node_in(self, directory: Directory, key: str) -> File | Directory | None:
        node: File | Directory | None = directory
        for name in key.split("/"):
            if isinstance(node, File):
                raise NotADirectory(
                    "a file stands on the way",
                    code=NOT_A_DIRECTORY,
                    key=f"{self._root}/{key}",
                )
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def _steps_to_set(
        self, path: str, encoded: plan.Encoded, node: File | Directory | None
    ) -> list[plan.Step]:
        # A value is written even if it is there already, as by m[k] = v.
        if isinstance(encoded, str) and isinstance(node, File):
            return [plan.Put(path, encoded)]
        return plan.differences(path, encoded, node)

    def clear(self) -> None:
        """Delete all keys; the directory itself stays.

        Raises:
            PrefixRequired: the mapping was made without a prefix, so this would
                empty the whole cluster.
            PartialWrite: some keys failed.

        Cost: 1 listing, and 1 request for each key.  Atomic: no.
        """
        self._check_writable()
        if self._whole_cluster:
            raise PrefixRequired(
                "clear() would empty the whole cluster; make the mapping with a "
                "prefix (prefix='/' if that is what you want)"
            )
        names = sorted(self._listing().children)
        plan.run(self._tree, [plan.Delete(f"{self._root}/{name}") for name in names])

"""The layout of a data directory, and whether it fits a cluster."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from etcdmap.errors import LocalClusterError

_MANIFEST = "cluster.json"
_LOCK = "lock"
_DRAFT = "cluster.json.new"
_FORMAT = 1


def member_names(members: int) -> tuple[str, ...]:
    """Give the names of the members of a cluster."""
    return tuple(f"m{number}" for number in range(members))


def own_files(path: Path, members: int) -> tuple[Path, ...]:
    """List what a cluster makes in its data directory."""
    names = member_names(members)
    logs = [f"{name}.log" for name in names]
    return tuple(path / name for name in (*names, *logs, _DRAFT, _MANIFEST, _LOCK))


def new_token() -> str:
    """Make a token from which the ids of a cluster and its members follow."""
    # Two clusters made here must not look like the same one to a client.
    return secrets.token_hex(8)


def refuse_foreign(path: Path) -> None:
    """Refuse a directory with files that are not a cluster's.

    Raises:
        LocalClusterError: there are such files.
    """
    try:
        found = set(os.listdir(path))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise LocalClusterError(f"data_dir {path} can't be used: {exc}") from exc
    if _MANIFEST not in found and not found <= {_LOCK, _DRAFT}:
        raise LocalClusterError(
            f"data_dir {path} is not empty, and holds no cluster made here: "
            "take another data_dir"
        )


def open_store(path: Path, members: int) -> tuple[str, bool]:
    """Read what a locked directory holds, or make it a new cluster's.

    Returns:
        The token that all members start with, and whether the store is new.

    Raises:
        LocalClusterError: it holds a cluster of another size or make.
    """
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        return _create(path, members), True
    except OSError as exc:
        raise LocalClusterError(f"data_dir {path} can't be used: {exc}") from exc
    return _check(path, members, text), False


def _check(path: Path, members: int, text: bytes) -> str:
    try:
        manifest = json.loads(text)
        known, count = manifest["format"] == _FORMAT, int(manifest["members"])
        token = str(manifest["token"])
    except (ValueError, TypeError, KeyError) as exc:
        raise LocalClusterError(f"{path / _MANIFEST} can't be read: {exc!r}") from exc
    if not known:
        raise LocalClusterError(
            f"data_dir {path} was made by another version of etcdmap: "
            "take another data_dir"
        )
    if count != members:
        raise LocalClusterError(
            f"data_dir {path} holds a cluster of {count}, not of {members}: "
            f"pass members={count}, or take another data_dir"
        )
    return token


def _create(path: Path, members: int) -> str:
    manifest = {"format": _FORMAT, "members": members, "token": new_token()}
    # Replaced whole, so that no crash leaves half of it.
    draft = path / _DRAFT
    try:
        draft.write_text(json.dumps(manifest))
        draft.replace(path / _MANIFEST)
    except OSError as exc:
        raise LocalClusterError(f"data_dir {path} can't be used: {exc}") from exc
    return str(manifest["token"])

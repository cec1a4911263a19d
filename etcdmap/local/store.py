"""The layout of a data directory, and whether it fits a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from etcdmap.errors import LocalClusterError
from etcdmap.local.probe import moments

_MANIFEST = "cluster.json"
_LOCK = "lock"
_DRAFT = "cluster.json.new"
_FORMAT = 1

#: A killed owner's guard needs a moment to let go of the directory.
_LOCK_WAIT = 2.0


def member_names(members: int) -> tuple[str, ...]:
    """Give the names of the members of a cluster."""
    return tuple(f"m{number}" for number in range(members))


def own_files(members: int) -> tuple[str, ...]:
    """List what a cluster makes in its data directory."""
    names = member_names(members)
    return (*names, *(f"{name}.log" for name in names), _DRAFT, _MANIFEST, _LOCK)


def new_token() -> str:
    """Make a token from which the ids of a cluster and its members follow."""
    # Two clusters made here must not look like the same one to a client.
    return secrets.token_hex(8)


@contextlib.contextmanager
def hold(path: Path, members: int) -> Iterator[tuple[str, IO[str]]]:
    """Lock a data directory while a cluster starts there.

    If that fails, what this has made goes away, and so does what the members have.

    Yields:
        The token that all members start with, and the lock: held until the block
        ends, and longer by those to whom it is passed.

    Raises:
        LocalClusterError: the directory is in use, holds something else or a
            cluster of another size or make, or the system refuses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            _refuse_foreign(path)
            made, lock = _lock(path)
            stack.enter_context(lock)
            token, new = _open(path, members)
        except OSError as exc:
            raise LocalClusterError(f"data_dir {path} can't be used: {exc}") from exc
        try:
            yield token, lock
        except BaseException:
            for name in own_files(members) if new else ():
                shutil.rmtree(path / name, ignore_errors=True)  # not files, not links
                with contextlib.suppress(OSError):
                    (path / name).unlink()
            if made:
                with contextlib.suppress(OSError):  # only if empty: it may be shared
                    path.rmdir()
            raise


def _refuse_foreign(path: Path) -> None:
    """Refuse a directory with files that are not a cluster's."""
    found = set(os.listdir(path)) if path.exists() else set()
    if _MANIFEST not in found and not found <= {_LOCK, _DRAFT}:
        raise LocalClusterError(
            f"data_dir {path} is not empty, and holds no cluster made here: "
            "take another data_dir"
        )


def _lock(path: Path) -> tuple[bool, IO[str]]:
    """Lock a directory; tells whether it was made for that, and gives the lock."""
    import fcntl  # not on Windows, where this can be imported all the same

    made, user = False, ""
    for _ in moments(_LOCK_WAIT):
        made |= not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A cluster that fails to start meanwhile removes what it made.
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            lock = stack.enter_context(open(fd, "r+", errors="replace"))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # the latter on SMB
                user = lock.read(20)
                continue
            if os.path.samestat(os.fstat(fd), os.stat(path / _LOCK)):
                lock.truncate()
                # For the message to whoever comes second.
                print(os.getpid(), end="", file=lock, flush=True)
                stack.pop_all()
                return made, lock
    raise LocalClusterError(
        f"data_dir {path} is in use by another LocalCluster, of process {user}: "
        "close that, or take another data_dir"
    )


def _open(path: Path, members: int) -> tuple[str, bool]:
    """Read what a locked directory holds, or make it a new cluster's.

    Returns:
        The token, and whether the store is new.
    """
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        token = new_token()
        manifest = {"format": _FORMAT, "members": members, "token": token}
        # Replaced whole, so that no crash leaves half of it.
        (path / _DRAFT).write_text(json.dumps(manifest))
        (path / _DRAFT).replace(path / _MANIFEST)
        return token, True
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

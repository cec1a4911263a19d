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


@contextlib.contextmanager
def hold(path: Path | None, members: int) -> Iterator[tuple[str, IO[str] | None]]:
    """Lock a data directory, if there is one, while a cluster starts there.

    If that fails, what this has made goes away, and so does what the members have.

    Yields:
        The token from which the ids of the cluster and its members follow, and
        the lock: held until the block ends, and longer by those who inherit it.

    Raises:
        LocalClusterError: the directory is in use, holds something else or a
            cluster of another size or make, or the system refuses it.
    """
    # Two clusters made here must not look like the same one to a client.
    new_token = secrets.token_hex(8)
    if path is None:
        yield new_token, None
        return
    with contextlib.ExitStack() as stack:
        try:
            _refuse_foreign(path)
            made, lock = _lock(path)
            stack.enter_context(lock)
            token = _open(path, members, new_token)
        except OSError as exc:
            raise LocalClusterError(f"data_dir {path} can't be used: {exc}") from exc
        try:
            yield token, lock
        except BaseException:
            for name in own_files(members) if token == new_token else ():
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


def _open(path: Path, members: int, new_token: str) -> str:
    """Give the token of a locked directory, which may become a new cluster's."""
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        manifest = {"format": _FORMAT, "members": members, "token": new_token}
        # Replaced whole, so that no crash leaves half of it.
        (path / _DRAFT).write_text(json.dumps(manifest))
        (path / _DRAFT).replace(path / _MANIFEST)
        return new_token
    return _check(path, members, text)


def _check(path: Path, members: int, text: bytes) -> str:
    try:
        manifest = json.loads(text)
        if manifest["format"] != _FORMAT:
            raise LocalClusterError(
                f"data_dir {path} was made by another version of etcdmap: "
                "take another data_dir"
            )
        count, token = int(manifest["members"]), str(manifest["token"])
    except (ValueError, TypeError, KeyError) as exc:
        raise LocalClusterError(f"{path / _MANIFEST} can't be read: {exc!r}") from exc
    if count != members:
        raise LocalClusterError(
            f"data_dir {path} holds a cluster of {count}, not of {members}: "
            f"pass members={count}, or take another data_dir"
        )
    return token

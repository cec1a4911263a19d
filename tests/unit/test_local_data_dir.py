"""What a data directory must hold to be used."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from etcdmap.local import _guard

NAMES = ["m0", "m1", "m2"]
OWN = ["cluster.json", "lock", "m0", "m0.log", "m1", "m1.log", "m2", "m2.log"]


@contextlib.contextmanager
def hold(
    path: Path,
    names: list[str] = NAMES,
    token: str = "new",  # noqa: S107
) -> Iterator[str]:
    """Hold a directory as the guard of a cluster does; gives its token."""
    guard = _guard.Guard(os.getppid())
    try:
        yield guard.do_hold(str(path), names, token)
        guard.do_keep()
    finally:
        guard.close()
        for fd in guard.locks:
            os.close(fd)


def start(
    path: Path,
    names: list[str] = NAMES,
    token: str = "new",  # noqa: S107
    error: BaseException | None = None,
) -> str:
    """Start a cluster in a directory, and have it fail or not; gives its token."""
    with hold(path, names, token) as known:
        for name in names:
            (path / name).mkdir(exist_ok=True)
            (path / name / "data").touch()
            (path / f"{name}.log").touch()
        if error is not None:
            raise error
    return known


def test_hold_new_then_known(tmp_path: Path) -> None:
    """The token of the first start is that of all others."""
    assert start(tmp_path) == "new"
    assert start(tmp_path, token="another") == "new"
    assert sorted(os.listdir(tmp_path)) == OWN


def test_hold_other_size_refused(tmp_path: Path) -> None:
    """The error has both sizes and what to pass."""
    start(tmp_path)
    with pytest.raises(OSError, match=r"of 3, not of 1: pass members=3"):
        start(tmp_path, ["m0"])


@pytest.mark.parametrize(
    "text",
    [
        *("", "\xff", "{", "[]", "null", "{}", '{"members": "x", "token": 1}'),
        '{"members": 3, "token": "t", "ports": [1, 2]}',
        '{"members": 3, "token": "t", "ports": 7}',
    ],
)
def test_hold_unreadable_refused(text: str, tmp_path: Path) -> None:
    """A damaged file is named."""
    (tmp_path / "cluster.json").write_text(text, "latin-1")
    with pytest.raises(OSError, match=r"cluster\.json can't be read"):
        start(tmp_path)


@pytest.mark.parametrize("name", ["cluster.json", "cluster.json.new"])
def test_hold_blocked_refused(name: str, tmp_path: Path) -> None:
    """What the system refuses to read or write is told."""
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=f"data_dir {tmp_path} can't be used"):
        start(tmp_path)


def test_hold_own_or_empty_or_absent_accepted(tmp_path: Path) -> None:
    """A start that was killed early left no more than a lock and a draft."""
    start(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty")
    early = tmp_path / "early"
    early.mkdir()
    (early / "lock").touch()
    (early / "cluster.json.new").touch()
    start(early)
    (early / "m7").mkdir()
    start(early)


def test_hold_other_files_refused(tmp_path: Path) -> None:
    """Somebody else's files are left alone."""
    (tmp_path / "member").mkdir()
    with pytest.raises(OSError, match="not empty, and holds no cluster"):
        start(tmp_path)
    assert os.listdir(tmp_path) == ["member"]


def test_hold_on_a_file_refused(tmp_path: Path) -> None:
    """What is not a directory can't be a data directory."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link", "link/below"):
        with pytest.raises(OSError, match=f"{name} can't be used"):
            start(tmp_path / name)


def test_hold_failed_start_leaves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cluster made is gone, and nothing else."""
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "new", error=KeyboardInterrupt())
    assert os.listdir(tmp_path) == []
    (tmp_path / "lock").touch()
    for name in ("kept", "m0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "m1").symlink_to(tmp_path / "kept")
    monkeypatch.setattr(_guard, "_refuse_foreign", lambda path: None)
    with pytest.raises(KeyboardInterrupt), hold(tmp_path):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]


def test_hold_failed_start_leaves_a_new_directory_that_others_use(
    tmp_path: Path,
) -> None:
    """A file of somebody else's stays, and so does the directory it is in."""
    guard = _guard.Guard(os.getppid())
    guard.do_hold(str(tmp_path / "new"), NAMES, "new")
    (tmp_path / "new" / "theirs").touch()
    guard.close()
    assert os.listdir(tmp_path / "new") == ["theirs"]


def test_hold_failed_start_of_a_known_cluster_leaves_all(tmp_path: Path) -> None:
    """Its data was there before."""
    start(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, error=KeyboardInterrupt())
    assert sorted(os.listdir(tmp_path)) == OWN


def test_hold_second_refused_until_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who is refused learns of the owner; the lock ends with its holders."""
    monkeypatch.setattr(_guard, "LOCK_TRIES", 1)
    refused = pytest.raises(OSError, match=f"of process {os.getppid()}:")
    guard = _guard.Guard(os.getppid())
    guard.do_hold(str(tmp_path), NAMES, "new")
    with refused:
        start(tmp_path)
    (lock,) = guard.locks
    passed_on = os.dup(lock)
    os.close(lock)
    with refused:
        start(tmp_path)
    os.close(passed_on)
    start(tmp_path)


def test_hold_lock_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that is gone from the directory is no lock."""
    path = tmp_path / "data"
    flock = fcntl.flock

    def remove_first(fd: int, how: int) -> None:
        flock(fd, how)
        if not seen:
            seen.append(fd)
            (path / "lock").unlink()
            path.rmdir()

    seen: list[int] = []
    monkeypatch.setattr(fcntl, "flock", remove_first)
    with hold(path):
        assert seen
        assert (path / "lock").exists()


def test_hold_locks_unsupported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks is an error, not an endless loop."""

    def refuse(fd: int, how: int) -> NoReturn:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="not supported"):
        start(tmp_path / "data")

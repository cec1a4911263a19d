"""What a data directory must hold to be used."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import store


def start(path: Path, members: int, error: BaseException | None = None) -> str:
    """Start a cluster in a directory, and have it fail or not; gives its token."""
    with store.hold(path, members) as (token, _):
        for name in store.own_files(members):
            assert (path / name).exists() or (path / name).write_text("x")
        if error is not None:
            raise error
    return token


def test_hold_new_then_known(tmp_path: Path) -> None:
    """The token of the first start is that of all others."""
    token = start(tmp_path, 3)
    assert token
    assert start(tmp_path, 3) == token
    assert set(os.listdir(tmp_path)) == set(store.own_files(3))


def test_hold_other_size_refused(tmp_path: Path) -> None:
    """The error has both sizes and what to pass."""
    start(tmp_path, 3)
    with pytest.raises(LocalClusterError, match=r"of 3, not of 1: pass members=3"):
        start(tmp_path, 1)


@pytest.mark.parametrize(
    "text",
    ["", "\xff", "{", "[]", "null", "{}", '{"format": 1, "members": "x", "token": 1}'],
)
def test_hold_unreadable_refused(text: str, tmp_path: Path) -> None:
    """A damaged file is named."""
    (tmp_path / "cluster.json").write_text(text, "latin-1")
    with pytest.raises(LocalClusterError, match=r"cluster\.json can't be read"):
        start(tmp_path, 1)


@pytest.mark.parametrize("name", ["cluster.json", "cluster.json.new"])
def test_hold_blocked_refused(name: str, tmp_path: Path) -> None:
    """What the system refuses to read or write is an error of ours."""
    (tmp_path / name).mkdir()
    with pytest.raises(LocalClusterError, match="can't be used"):
        start(tmp_path, 1)


def test_hold_of_the_future_refused(tmp_path: Path) -> None:
    """Another format is not guessed at."""
    manifest = {"format": 2, "members": 1, "token": "x"}
    (tmp_path / "cluster.json").write_text(json.dumps(manifest))
    with pytest.raises(LocalClusterError, match="another version of etcdmap"):
        start(tmp_path, 1)


def test_hold_own_or_empty_or_absent_accepted(tmp_path: Path) -> None:
    """A start that was killed early left no more than a lock and a draft."""
    start(tmp_path / "absent", 1)
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty", 1)
    early = tmp_path / "early"
    early.mkdir()
    (early / "lock").touch()
    (early / "cluster.json.new").touch()
    start(early, 1)
    (early / "m7").mkdir()
    start(early, 1)


def test_hold_other_files_refused(tmp_path: Path) -> None:
    """Somebody else's files are left alone."""
    (tmp_path / "member").mkdir()
    with pytest.raises(LocalClusterError, match="not empty, and holds no cluster"):
        start(tmp_path, 1)
    assert os.listdir(tmp_path) == ["member"]


def test_hold_on_a_file_refused(tmp_path: Path) -> None:
    """What is not a directory can't be a data directory."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        with pytest.raises(LocalClusterError, match=f"{name} can't be used"):
            start(tmp_path / name, 1)


def test_hold_failed_start_leaves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cluster made is gone, and nothing else."""
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "new", 1, KeyboardInterrupt())
    assert os.listdir(tmp_path) == []
    (tmp_path / "lock").touch()
    for name in ("kept", "m0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "m1").symlink_to(tmp_path / "kept")
    monkeypatch.setattr(store, "_refuse_foreign", lambda path: None)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, 2, KeyboardInterrupt())
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]


def test_hold_failed_start_of_a_known_cluster_leaves_all(tmp_path: Path) -> None:
    """Its data was there before."""
    start(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, 1, KeyboardInterrupt())
    assert set(os.listdir(tmp_path)) == set(store.own_files(1))


def test_hold_second_refused_until_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who is refused learns of the owner; the lock ends with its holders."""
    monkeypatch.setattr(store, "_LOCK_WAIT", 0.05)
    refused = pytest.raises(LocalClusterError, match=f"of process {os.getpid()}:")
    with store.hold(tmp_path, 1) as (_, lock):
        with refused:
            start(tmp_path, 1)
        assert lock is not None
        passed_on = os.dup(lock.fileno())
    with refused:
        start(tmp_path, 1)
    os.close(passed_on)
    start(tmp_path, 1)


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
    with store.hold(path, 1):
        assert seen
        assert (path / "lock").exists()


def test_hold_locks_unsupported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks is an error, not an endless loop."""

    def refuse(fd: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LocalClusterError, match="not supported"):
        start(tmp_path / "data", 1)


def test_hold_new_token_never_the_same(tmp_path: Path) -> None:
    """Clusters made here can be told apart."""
    with store.hold(None, 1) as (one, lock), store.hold(None, 1) as (two, _):
        assert lock is None
        assert len({one, two, start(tmp_path / "a", 1), start(tmp_path / "b", 1)}) == 4

"""The guard's side, run in this process with harmless members."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import _guard, guardian


@pytest.fixture
def guard(tmp_path, monkeypatch):
    """A guard that serves this process's parent, cleaned up afterwards."""
    monkeypatch.chdir(tmp_path)  # the guard changes directory
    made = _guard.Guard(os.getppid())
    yield made
    made.do_close([])
    if made.lock_fd >= 0:
        os.close(made.lock_fd)


def test_members_signals_and_status(guard, tmp_path):
    """A member is started, frozen, killed and reaped."""
    guard.do_open(str(tmp_path), 0)
    pid = guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    assert guard.do_status() == {"m0": (pid, None)}
    assert guard.do_signal("m0", signal.SIGSTOP)
    assert guard.do_signal("m0", signal.SIGKILL)
    assert guard.do_status() == {"m0": (pid, -signal.SIGKILL)}
    assert not guard.do_signal("m0", signal.SIGCONT)
    assert not guard.do_signal("m1", signal.SIGCONT)


def test_close_ends_members_and_removes_files(guard, tmp_path):
    """Processes, the directory, and what was asked for are gone."""
    run_dir = guard.do_open(str(tmp_path), 0)["run_dir"]
    pid = guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    guard.do_signal("m0", signal.SIGSTOP)
    (tmp_path / "directory").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    names = ["log", "directory", "link", "absent"]
    guard.do_close([str(tmp_path / name) for name in names])
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]
    assert not Path(run_dir).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_ports_reserved_for_those_who_share(guard, tmp_path):
    """Nobody gets the port by chance; a member, as Go listens, does."""
    (port,) = guard.do_open(str(tmp_path), 1)["ports"]
    if not guard.ports:
        pytest.skip("ports can't be reserved here")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    for _ in range(2):  # again after the member was down
        with socket.create_server(("127.0.0.1", port)):  # sets SO_REUSEADDR
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_serves_only_when_answering(guard, tmp_path, monkeypatch):
    """To listen is not enough."""
    guard.do_open(str(tmp_path), 0)
    assert not guard.do_serves("m0")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(_guard.peer_socket("m0"))
        server.listen()
        assert not guard.do_serves("m0")
        server.accept()[0].close()

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.0 200 OK\r\n")

        monkeypatch.setattr(socket.socket, "settimeout", lambda *_: None)
        thread = threading.Thread(target=answer)
        thread.start()
        assert guard.do_serves("m0")
        thread.join()


def test_lock_second_refused_until_released(guard, tmp_path, monkeypatch):
    """The one who is refused learns of the owner; the lock ends with its holders."""
    monkeypatch.setattr(_guard, "LOCK_WAIT", 0.05)
    path = str(tmp_path / "data")
    assert guard.do_lock(path)
    second = _guard.Guard(1)
    with pytest.raises(_guard.GuardError, match=f"of process {guard.owner}:"):
        second.do_lock(path)
    os.close(guard.lock_fd)
    guard.lock_fd = -1
    assert not second.do_lock(path)
    os.close(second.lock_fd)


def test_lock_held_by_a_member_outlives_the_guard(guard, tmp_path, monkeypatch):
    """As long as a process can write there, nobody else may."""
    monkeypatch.setattr(_guard, "LOCK_WAIT", 0.05)
    path = str(tmp_path / "data")
    guard.do_lock(path)
    guard.do_open(str(tmp_path), 0)
    guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    os.close(guard.lock_fd)
    guard.lock_fd = -1
    with pytest.raises(_guard.GuardError, match="in use"):
        _guard.Guard(1).do_lock(path)


def test_lock_file_removed_meanwhile_is_made_again(guard, tmp_path, monkeypatch):
    """A lock on a file that is gone from the directory is no lock."""
    path = tmp_path / "data"
    flock = _guard.fcntl.flock

    def remove_first(fd, how):
        flock(fd, how)
        if not seen:
            seen.append(fd)
            (path / "lock").unlink()
            path.rmdir()

    seen: list[int] = []
    monkeypatch.setattr(_guard.fcntl, "flock", remove_first)
    assert guard.do_lock(str(path))
    assert seen
    assert (path / "lock").exists()


def test_lock_on_a_file_refused(guard, tmp_path):
    """What is not a directory can't be a data directory."""
    (tmp_path / "file").touch()
    with pytest.raises(_guard.GuardError, match="not a directory"):
        guard.do_lock(str(tmp_path / "file"))


def test_lock_unsupported_is_told(guard, tmp_path, monkeypatch):
    """A file system without locks is an error, not an endless loop."""

    def refuse(fd, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_guard.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="not supported"):
        guard.do_lock(str(tmp_path / "data"))


def test_spawn_without_pdeathsig_still_works(guard, tmp_path, monkeypatch):
    """Other systems have no PR_SET_PDEATHSIG."""
    monkeypatch.setattr(_guard.sys, "platform", "darwin")
    assert len(guard.do_open(str(tmp_path), 1)["ports"]) == 1
    assert guard.ports == []
    guard.do_spawn("m0", ["true"], str(tmp_path / "log"))
    assert guard.members["m0"].wait() == 0


def test_answer_failure_is_told(guard):
    """The owner gets the text of what went wrong."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = {"name": "m0", "argv": ["x"], "log": "/"}
        guard.answer(theirs, {"id": 7, "do": "spawn", "arguments": arguments})
        answer = json.loads(ours.recv(4096))
    assert answer["id"] == 7
    assert "Is a directory" in answer["error"]


@pytest.mark.parametrize("how", ["close", "end", "reset"])
def test_serve_ends_with_the_owner(how, guard):
    """It ends when told, and when the line does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'{"id": 1, "do": "status"}\n')
        thread = threading.Thread(target=guard.serve, args=[theirs])
        thread.start()
        assert json.loads(ours.recv(4096)) == {"id": 1, "result": {}}
        if how == "close":
            ours.sendall(b'{"id": 2, "do": "close", "arguments": {"remove": []}}\n')
        elif how == "end":
            ours.shutdown(socket.SHUT_WR)
        else:
            ours.sendall(b'{"id": 2, "do')  # half a line
            ours.close()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_serve_ends_when_the_owner_is_no_longer_the_parent():
    """A copy of the line in a stranger's hands does not count."""
    guard = _guard.Guard(owner=0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard.serve(theirs)  # returns


def test_main_owner_gone_cleans_up(tmp_path, monkeypatch):
    """The end of the line ends the members and removes the directory."""
    ours, theirs = socket.socketpair()
    handled = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_guard.sys, "argv", ["_guard.py", str(os.getppid())])
    monkeypatch.setattr(_guard.signal, "signal", handled.__setitem__)
    monkeypatch.setattr(_guard.signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(_guard.socket, "socket", lambda fileno: theirs)
    arguments = {"temp_dir": str(tmp_path), "ports": 0}
    with ours:
        request = {"id": 1, "do": "open", "arguments": arguments}
        ours.sendall(json.dumps(request).encode() + b"\n")
        ours.shutdown(socket.SHUT_WR)
        _guard.main()
        run_dir = json.loads(ours.recv(4096))["result"]["run_dir"]
    assert run_dir.startswith(str(tmp_path))
    assert os.listdir(tmp_path) == []
    assert handled[signal.SIGTERM]() is None


def test_spawn_without_ctypes_still_works(guard, monkeypatch):
    """Some Pythons are built without it."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert _guard._dies_with(os.getpid()) is None


# --- the owner's side -------------------------------------------------------


@pytest.fixture
def owner():
    """A guard process with no members."""
    made = guardian.Guardian()
    yield made
    made.close()


def test_ask_answer_left_unread_is_passed_over(owner):
    """Ctrl-C between request and answer does no harm."""
    owner._socket.sendall(b'{"id": 0, "do": "status"}\n')
    assert owner.status("m0") == (None, None)


def test_ask_guard_that_hangs_is_bounded_and_ended(owner, monkeypatch, tmp_path):
    """A guard that is frozen is killed in the end, and its files removed."""
    monkeypatch.setattr(guardian, "_ANSWER_TIMEOUT", 0.05)
    monkeypatch.setattr(guardian.tempfile, "tempdir", str(tmp_path))
    owner.open(0)
    owner._socket.settimeout(0.05)
    owner._process.send_signal(signal.SIGSTOP)
    with pytest.raises(LocalClusterError, match="does not answer"):
        owner.status("m0")
    owner.close()
    assert owner._process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_guardian_error_of_the_guard_is_ours(owner, tmp_path):
    """What the guard can't do is a LocalClusterError here."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalClusterError, match="not a directory"):
        owner.lock(tmp_path / "file")


@pytest.mark.parametrize("executable", ["", "/nonexistent/python"])
def test_guardian_without_python_refused(executable, monkeypatch):
    """An embedded interpreter may not know its program."""
    monkeypatch.setattr(guardian.sys, "executable", executable)
    with pytest.raises(LocalClusterError, match="guard process"):
        guardian.Guardian()


def test_guardian_in_another_process_refused(owner, monkeypatch):
    """A forked child is told that the cluster is not its own."""
    monkeypatch.setattr(guardian.os, "getpid", lambda: -1)
    with pytest.raises(LocalClusterError, match="belongs to process"):
        owner.status("m0")
    owner.close()  # does nothing
    monkeypatch.undo()
    assert owner.status("m0") == (None, None)

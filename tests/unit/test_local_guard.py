"""The guard's side, run in this process with harmless members."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdmap.errors import LocalClusterError
from etcdmap.local import _guard, guardian


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_guard.Guard]:
    """A guard that serves this process's parent, cleaned up afterwards."""
    monkeypatch.chdir(tmp_path)  # the guard changes directory
    made = _guard.Guard(os.getppid())
    yield made
    made.close()
    for sock in made.ports:
        sock.close()


def test_members_signals_and_status(guard: _guard.Guard, tmp_path: Path) -> None:
    """A member is started, frozen, killed and reaped."""
    guard.do_open(str(tmp_path / "run"), 0)
    guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    pid = guard.members["m0"].pid
    assert guard.do_status("m0") == (pid, None)
    assert guard.do_signal("m0", signal.SIGSTOP)
    assert guard.do_signal("m0", signal.SIGKILL)
    assert guard.do_status("m0") == (None, -signal.SIGKILL)
    assert guard.do_status("m1") == (None, None)
    assert not guard.do_signal("m0", signal.SIGCONT)
    assert not guard.do_signal("m1", signal.SIGCONT)


def test_close_ends_members_and_removes_files(
    guard: _guard.Guard, tmp_path: Path
) -> None:
    """Processes and the directory are gone; nothing else is."""
    guard.do_open(str(tmp_path / "run"), 0)
    guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    guard.do_spawn("m1", ["sleep", "60"], str(tmp_path / "run" / "log"))
    guard.do_signal("m0", signal.SIGSTOP)
    guard.close()
    assert os.listdir(tmp_path) == ["log"]
    for process in guard.members.values():
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_ports_reserved_for_those_who_share(
    guard: _guard.Guard, tmp_path: Path
) -> None:
    """Nobody gets the port by chance; a member, as Go listens, does."""
    (port,) = guard.do_open(str(tmp_path / "run"), 1)
    if not guard.ports:
        pytest.skip("ports can't be reserved here")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    for _ in range(2):  # again after the member was down
        with socket.create_server(("127.0.0.1", port)):  # sets SO_REUSEADDR
            socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_serves_only_when_answering(
    guard: _guard.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To listen is not enough."""
    guard.do_open(str(tmp_path / "run"), 0)
    assert not guard.do_serves("m0")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("m0:1")
        server.listen()
        assert not guard.do_serves("m0")
        server.accept()[0].close()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.0 200 OK\r\n")

        monkeypatch.setattr(socket.socket, "settimeout", lambda *_: None)
        thread = threading.Thread(target=answer)
        thread.start()
        assert guard.do_serves("m0")
        thread.join()


def test_member_holds_the_lock_of_its_data_dir(
    guard: _guard.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a process can write to a data directory, nobody else may."""
    monkeypatch.setattr(_guard, "LOCK_TRIES", 1)
    path = str(tmp_path / "data")
    guard.do_hold(path, ["m0"], "new")
    guard.do_open(str(tmp_path / "run"), 0)
    guard.do_spawn("m0", ["sleep", "60"], str(tmp_path / "log"))
    os.close(guard.locks[0])
    with pytest.raises(OSError, match="in use"):
        _guard.Guard(os.getppid()).do_hold(path, ["m0"], "new")


def test_spawn_without_pdeathsig_still_works(
    guard: _guard.Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other systems have no PR_SET_PDEATHSIG."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert len(guard.do_open(str(tmp_path / "run"), 1)) == 1
    assert guard.ports == []
    guard.do_spawn("m0", ["true"], str(tmp_path / "log"))
    assert guard.members["m0"].wait() == 0


def test_answer_failure_is_told(guard: _guard.Guard) -> None:
    """The owner gets the text of what went wrong."""
    number, error, _ = json.loads(guard.answer(b'[7, "spawn", "m0", ["x"], "/"]'))
    assert number == 7
    assert "Is a directory" in error


@pytest.mark.parametrize("how", ["end", "reset"])
def test_serve_ends_with_the_owner(how: str, guard: _guard.Guard) -> None:
    """It ends when the line does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'[1, "status", "m0"]\n')
        thread = threading.Thread(target=guard.serve, args=[theirs])
        thread.start()
        assert json.loads(ours.recv(4096)) == [1, None, [None, None]]
        if how == "end":
            ours.shutdown(socket.SHUT_WR)
        else:
            ours.sendall(b'[2, "sta')  # half a line
            ours.close()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_serve_ends_when_the_owner_is_no_longer_the_parent() -> None:
    """A copy of the line in a stranger's hands does not count."""
    guard = _guard.Guard(owner=0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard.serve(theirs)  # returns


def test_main_owner_gone_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the line ends the members and removes the directory."""
    ours, theirs = socket.socketpair()
    handled: dict[Any, Any] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["_guard.py", str(os.getppid())])
    monkeypatch.setattr(signal, "signal", handled.__setitem__)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(socket, "socket", lambda fileno: theirs)
    made: list[None] = []
    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, mode: made.append(mkdir(path, mode)))
    with ours:
        request = [1, "open", str(tmp_path / "run"), 0]
        ours.sendall(json.dumps(request).encode() + b"\n")
        ours.shutdown(socket.SHUT_WR)
        _guard.main()
        assert json.loads(ours.recv(4096)) == [1, None, []]
    assert made
    assert os.listdir(tmp_path) == []
    assert handled[signal.SIGTERM]() is None


def test_spawn_without_ctypes_still_works(
    guard: _guard.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some Pythons are built without it."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert _guard._dies_with(os.getpid()) is None


# --- the owner's side -------------------------------------------------------


@pytest.fixture
def owner() -> Iterator[guardian.Guardian]:
    """A guard process with no members."""
    made = guardian.Guardian()
    yield made
    made.close()


def test_ask_answer_left_unread_is_passed_over(owner: guardian.Guardian) -> None:
    """Ctrl-C between request and answer does no harm."""
    owner._socket.sendall(b'[0, "status", "m0"]\n')
    assert owner.status("m0") == (None, None)


def test_ask_guard_that_hangs_is_bounded_and_ended(
    owner: guardian.Guardian, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A guard that is frozen is killed in the end, and its files removed."""
    monkeypatch.setattr(guardian, "_ANSWER_TIMEOUT", 0.05)
    owner.run_dir = tmp_path / "run"
    owner.ask("open", str(owner.run_dir), 0)
    assert os.listdir(tmp_path) == ["run"]
    owner._socket.settimeout(0.05)
    owner._process.send_signal(signal.SIGSTOP)
    with pytest.raises(LocalClusterError, match="does not answer"):
        owner.status("m0")
    owner.close()
    assert owner._process.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == []


def test_guardian_error_of_the_guard_is_ours(
    owner: guardian.Guardian, tmp_path: Path
) -> None:
    """What the guard can't do is a LocalClusterError here."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalClusterError, match="File exists"):
        owner.ask("open", str(tmp_path / "file"), 0)


@pytest.mark.parametrize("executable", ["", "/nonexistent/python"])
def test_guardian_without_python_refused(
    executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedded interpreter may not know its program."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(LocalClusterError, match="guard process"):
        guardian.Guardian()


def test_guardian_in_another_process_refused(
    owner: guardian.Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child is told that the cluster is not its own."""
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(LocalClusterError, match="belongs to process"):
        owner.status("m0")
    monkeypatch.undo()
    assert owner.status("m0") == (None, None)


def test_close_in_a_forked_child_lets_go_of_the_line(
    owner: guardian.Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is closed, so that nothing warns of it; the guard goes on."""
    copy = owner._socket.dup()
    with monkeypatch.context() as patch, copy:
        patch.setattr(os, "getpid", lambda: -1)
        owner.close()
        assert owner._socket.fileno() == -1
        assert owner._process.returncode == 0
        copy.sendall(b'[1, "status", "m0"]\n')
        assert json.loads(copy.recv(4096)) == [1, None, [None, None]]
    os.waitpid(owner._process.pid, 0)  # the guard ends with the last copy

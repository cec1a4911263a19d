"""LocalCluster with real etcd processes."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from etcdmap import EtcdMapping
from etcdmap.errors import LocalClusterError
from etcdmap.local import LocalCluster, Member, find_binary

from support.waiting import soon

pytestmark = pytest.mark.etcd

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def request(
    endpoint: str, path: str, data: bytes | None = None, timeout: float = 5.0
) -> tuple[Any, Any]:
    """Send one request, past any proxy; returns (JSON, headers)."""
    method = "GET" if data is None else "PUT"
    asked = urllib.request.Request(endpoint + path, data, method=method)  # noqa: S310
    with _direct.open(asked, timeout=timeout) as answer:
        return json.loads(answer.read()), answer.headers


def put(endpoint: str, value: str) -> None:
    """Store a value."""
    request(endpoint, "/v2/keys/k", b"value=" + value.encode())


def get(endpoint: str) -> str:
    """Read the value that put() stored, from the whole cluster."""
    answer, _ = request(endpoint, "/v2/keys/k?quorum=true")
    value: str = answer["node"]["value"]
    return value


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        if not status.parent.parent.joinpath("self").exists():
            return True  # no /proc here
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def pid_of(member: Member) -> int:
    """Give the process id of a member that runs."""
    assert member.pid is not None
    return member.pid


def pids(cluster: LocalCluster) -> list[int]:
    """List the process ids of all members."""
    return [pid_of(member) for member in cluster.members]


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything temporary is made here, and nothing may be left of it."""
    path = tmp_path / "temp"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    assert os.listdir(path) == []


# --- start -----------------------------------------------------------------


def test_start_three_members_healthy_with_a_leader() -> None:
    """All members are healthy, know each other and have a leader on return."""
    with LocalCluster(3) as cluster:
        assert len(set(cluster.endpoints)) == 3
        assert cluster.leader() in cluster.members
        assert cluster.version.startswith("3.")
        assert "running" in repr(cluster)
        assert "m0" in repr(cluster.members[0])
        for endpoint in cluster.endpoints:
            assert endpoint.startswith("http://127.0.0.1:")
            answer, _ = request(endpoint, "/v2/members")
            known = [url for m in answer["members"] for url in m["clientURLs"]]
            assert sorted(known) == sorted(cluster.endpoints)
        put(cluster.endpoints[0], "1")
        assert get(cluster.endpoints[2]) == "1"


def test_url_leads_to_the_directory_on_all_members() -> None:
    """As ``ETCDMAP_URL`` takes it, whatever the name of the directory."""
    with LocalCluster(3) as cluster:
        prefix = "/a b/50%?#"
        with EtcdMapping.from_url(cluster.url(prefix), shuffle=False) as mapping:
            assert mapping.client.endpoints == cluster.endpoints
            assert mapping.prefix == prefix
            mapping["k"] = 1
        with EtcdMapping.from_url(cluster.url()) as mapping:
            assert mapping.prefix == "/"
            assert mapping[f"{prefix[1:]}/k"] == 1


def test_start_settings_of_the_caller_do_not_reach_etcd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ETCD_* and proxy variables, and blocked signals, stay the caller's."""
    monkeypatch.setenv("ETCD_NAME", "wrong")
    monkeypatch.setenv("ETCD_ENABLE_PPROF", "nonsense")
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with LocalCluster(3) as cluster:
            answer, _ = request(cluster.endpoints[0], "/v2/members")
            names = sorted(member["name"] for member in answer["members"])
            assert names == ["m0", "m1", "m2"]
            assert "ETCD_" not in cluster.members[0].log_path.read_text()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def test_start_two_clusters_have_nothing_in_common() -> None:
    """Ports, directories and the cluster's id differ."""
    with LocalCluster() as one, LocalCluster() as two:
        assert one.endpoints != two.endpoints
        assert one.members[0].data_dir != two.members[0].data_dir
        ids = {
            request(c.endpoints[0], "/v2/members")[1]["X-Etcd-Cluster-Id"]
            for c in (one, two)
        }
        assert len(ids) == 2


def test_start_without_fsync_and_with_own_timing_starts() -> None:
    """Options reach etcd in its own units."""
    with LocalCluster(election_timeout=0.5, heartbeat=0.05, fsync=False) as cluster:
        command = Path(f"/proc/{cluster.members[0].pid}/cmdline")
        if command.exists():
            arguments = command.read_bytes().decode().split("\0")
            assert "--election-timeout=500" in arguments
            assert "--heartbeat-interval=50" in arguments
            assert "--unsafe-no-fsync" in arguments
        put(cluster.endpoints[0], "1")


def test_start_twice_refused() -> None:
    """A cluster that runs can't be started."""
    with LocalCluster() as cluster:
        with pytest.raises(LocalClusterError, match="started already"):
            cluster.start()
        cluster.wait_healthy()


def test_start_after_close_gives_a_new_cluster() -> None:
    """A closed cluster starts again, empty."""
    cluster = LocalCluster()
    with cluster:
        put(cluster.endpoints[0], "1")
    with cluster, pytest.raises(urllib.error.HTTPError, match="404"):
        get(cluster.endpoints[0])


@pytest.mark.parametrize("given", [False, True], ids=["temporary", "data_dir"])
def test_start_bad_argument_shows_the_log_and_leaves_nothing(
    given: bool, tmp_path: Path
) -> None:
    """The error has the end of etcd's log; no file is left."""
    data_dir = tmp_path / "data" if given else None
    cluster = LocalCluster(3, data_dir, extra_args=("--no-such-flag",))
    with pytest.raises(LocalClusterError, match=r"m\d ended.*\n.*no-such-flag"):
        cluster.start()
    assert not (tmp_path / "data").exists()
    with pytest.raises(LocalClusterError, match="has not been started"):
        _ = cluster.members


def test_start_in_existing_empty_directory_failing_leaves_it_empty(
    tmp_path: Path,
) -> None:
    """Only what the cluster made is removed."""
    with pytest.raises(LocalClusterError):
        LocalCluster(1, tmp_path / "temp", extra_args=("--no-such-flag",)).start()
    assert os.listdir(tmp_path / "temp") == []


def test_start_not_healthy_in_time_says_why_and_leaves_nothing() -> None:
    """The bound holds although no member ends."""
    cluster = LocalCluster(3, start_timeout=0.0)
    with pytest.raises(
        LocalClusterError, match=r"did not serve within 0 s|not healthy within 0 s"
    ):
        cluster.start()


def test_start_interrupted_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting ends the members."""
    cluster = LocalCluster(3)
    seen = []

    def interrupt(_: Any) -> NoReturn:
        seen.extend(pids(cluster))
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "wait_healthy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert len(seen) == 3
    assert not any(alive(pid) for pid in seen)


def fake_etcd(path: Path, failures: int) -> Path:
    """An etcd whose first starts lose the race for their port."""
    count = path.with_suffix(".count")
    path.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && exec {find_binary()} --version
echo >> {count}
if [ $(wc -l < {count}) -le {failures} ]; then
    echo "listen tcp 127.0.0.1:1: bind: address already in use"
    exit 1
fi
exec {find_binary()} "$@"
"""
    )
    path.chmod(0o755)
    return path


def test_start_port_taken_meanwhile_tries_others(tmp_path: Path) -> None:
    """Losing the race for a port is not the end."""
    binary = fake_etcd(tmp_path / "etcd", failures=2)
    with LocalCluster(binary=binary) as cluster:
        put(cluster.endpoints[0], "1")


def test_start_ports_always_taken_gives_up(tmp_path: Path) -> None:
    """The number of attempts is bounded."""
    binary = fake_etcd(tmp_path / "etcd", failures=1000)
    with pytest.raises(LocalClusterError, match="address already in use"):
        LocalCluster(binary=binary).start()


# --- members ---------------------------------------------------------------


def test_kill_and_start_same_endpoint_and_data() -> None:
    """A killed member comes back with its own port and data."""
    with LocalCluster() as cluster:
        (member,) = cluster.members
        put(member.endpoint, "1")
        old = pid_of(member)
        member.kill()
        assert not alive(old)
        assert member.pid is None
        assert not member.running
        with pytest.raises(urllib.error.URLError):
            get(member.endpoint)
        member.kill()  # does nothing
        member.start()
        assert member.pid not in (None, old)
        assert get(member.endpoint) == "1"
        member.start()  # does nothing


def test_kill_leader_another_is_elected() -> None:
    """The others elect a leader, and the killed one rejoins."""
    with LocalCluster(3) as cluster:
        first = cluster.leader()
        first.kill()
        second = cluster.leader()
        assert second is not first
        cluster.wait_healthy()  # of those that should be
        put(second.endpoint, "1")
        first.start()
        assert get(first.endpoint) == "1"
        assert cluster.leader() is second


def test_pause_leader_another_is_elected() -> None:
    """A paused leader is replaced, and follows when resumed."""
    with LocalCluster(3) as cluster:
        first = cluster.leader()
        first.pause()
        second = cluster.leader()
        assert second is not first
        put(second.endpoint, "1")
        first.resume()
        cluster.wait_healthy()
        assert cluster.leader() is second
        assert get(first.endpoint) == "1"


def test_pause_and_resume_answers_wait() -> None:
    """A paused member accepts connections, but does not answer."""
    with LocalCluster() as cluster:
        (member,) = cluster.members
        put(member.endpoint, "1")
        member.pause()
        assert member.paused
        assert member.running
        with pytest.raises(TimeoutError):
            request(member.endpoint, "/v2/keys/k", timeout=0.2)
        member.resume()
        assert not member.paused
        member.wait_healthy()
        assert get(member.endpoint) == "1"


def test_stop_paused_member_ends() -> None:
    """SIGTERM reaches a member that was paused."""
    with LocalCluster() as cluster:
        (member,) = cluster.members
        pid = pid_of(member)
        member.pause()
        member.stop()
        assert not alive(pid)
        assert not member.paused


def test_stop_without_time_kills() -> None:
    """A member that does not stop in time is killed."""
    with LocalCluster() as cluster:
        (member,) = cluster.members
        pid = pid_of(member)
        member.stop(timeout=0)
        assert not alive(pid)


def test_restart_new_process_same_data() -> None:
    """A restarted member is another process with the same data."""
    with LocalCluster(3) as cluster:
        member = cluster.members[1]
        put(member.endpoint, "1")
        old = pid_of(member)
        member.restart()
        assert member.pid != old
        assert get(member.endpoint) == "1"


def test_member_down_can_be_neither_paused_nor_resumed() -> None:
    """What needs a process says that there is none."""
    with LocalCluster() as cluster:
        (member,) = cluster.members
        member.stop()
        for method in (member.pause, member.resume, member.wait_healthy):
            with pytest.raises(LocalClusterError, match="m0 does not run"):
                method()
        with pytest.raises(LocalClusterError, match="no member runs"):
            cluster.wait_healthy()
        with pytest.raises(LocalClusterError, match="no member runs"):
            cluster.leader()
        assert not member.paused


def test_all_members_down_and_up_again() -> None:
    """A whole cluster restarts without waiting for each member."""
    with LocalCluster(3) as cluster:
        put(cluster.endpoints[0], "1")
        for member in cluster.members:
            member.kill()
        for member in cluster.members:
            member.start(wait=False)
        cluster.wait_healthy()
        assert get(cluster.endpoints[2]) == "1"


def test_majority_lost_no_leader_and_not_healthy() -> None:
    """One of three has no leader, and the waits for one are bounded."""
    with LocalCluster(3, election_timeout=0.2) as cluster:
        one, two, three = cluster.members
        two.kill()
        three.pause()
        with pytest.raises(LocalClusterError, match=r"no leader .* running: m0$"):
            cluster.leader(timeout=0.1)
        assert soon(lambda: not healthy(one))
        with pytest.raises(LocalClusterError, match=r"not healthy .*: m0 at http"):
            one.wait_healthy(timeout=0)
        three.resume()
        cluster.wait_healthy()


def healthy(member: Member) -> bool:
    """Whether a member is healthy now."""
    try:
        member.wait_healthy(timeout=0)
    except LocalClusterError:
        return False
    return True


def test_member_that_dies_by_itself_is_reported() -> None:
    """A crash is told with the exit status and the log."""
    with LocalCluster() as cluster:
        os.kill(pid_of(cluster.members[0]), signal.SIGKILL)
        assert soon(lambda: not cluster.members[0].running)
        with pytest.raises(LocalClusterError, match=r"exit status -9.*m0\.log"):
            cluster.wait_healthy()


def test_member_found_by_endpoint_or_name() -> None:
    """Lookup takes a client URL, with or without a slash, or a name."""
    with LocalCluster(2) as cluster:
        second = cluster.members[1]
        assert cluster.member(second.endpoint) is second
        assert cluster.member(second.endpoint + "/") is second
        assert cluster.member("m1") is second
        with pytest.raises(LocalClusterError, match="no member at http://x"):
            cluster.member("http://x:1")


# --- data_dir --------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3])
def test_data_dir_moved_keeps_ports_and_data(members: int, tmp_path: Path) -> None:
    """The data is there again, at the same endpoints, even in a moved directory."""
    with LocalCluster(members, tmp_path / "data") as cluster:
        old = cluster.endpoints
        put(old[0], "1")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    with LocalCluster(members, str(tmp_path / "moved")) as cluster:
        assert cluster.endpoints == old
        assert [get(endpoint) for endpoint in cluster.endpoints] == ["1"] * members
        answer, _ = request(cluster.endpoints[0], "/v2/members")
        known = [url for m in answer["members"] for url in m["clientURLs"]]
        assert sorted(known) == sorted(cluster.endpoints)


def test_data_dir_on_other_ports_keeps_the_data(tmp_path: Path) -> None:
    """Members announce where they are now; etcd keeps no client's port in its data."""
    with LocalCluster(3, tmp_path / "data") as cluster:
        old = cluster.endpoints
        put(old[0], "1")
    manifest = tmp_path / "data" / "cluster.json"
    known = json.loads(manifest.read_text())
    del known["ports"]  # as one made before ports were kept
    manifest.write_text(json.dumps(known))
    with LocalCluster(3, tmp_path / "data") as cluster:
        assert not set(old) & set(cluster.endpoints)
        assert [get(endpoint) for endpoint in cluster.endpoints] == ["1"] * 3
        answer, _ = request(cluster.endpoints[0], "/v2/members")
        announced = [url for m in answer["members"] for url in m["clientURLs"]]
        assert sorted(announced) == sorted(cluster.endpoints)


def test_data_dir_whose_port_is_taken_refused_and_kept(tmp_path: Path) -> None:
    """Nobody is sent elsewhere unasked: the error names the port, the data stays."""
    with LocalCluster(1, tmp_path / "data") as cluster:
        put(cluster.endpoints[0], "1")
    port = int(cluster.endpoints[0].rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(LocalClusterError, match=rf"port {port} can't be used"),
    ):
        LocalCluster(1, tmp_path / "data").start()
    with LocalCluster(1, tmp_path / "data") as cluster:
        assert get(cluster.endpoints[0]) == "1"


def test_data_dir_failed_second_start_keeps_the_data(tmp_path: Path) -> None:
    """Data that was there before a failed start is there after it."""
    with LocalCluster(1, tmp_path / "data") as cluster:
        put(cluster.endpoints[0], "1")
    with pytest.raises(LocalClusterError):
        LocalCluster(1, tmp_path / "data", extra_args=("--no-such-flag",)).start()
    with LocalCluster(1, tmp_path / "data") as cluster:
        assert get(cluster.endpoints[0]) == "1"


def test_data_dir_other_member_count_refused(tmp_path: Path) -> None:
    """The error says what to pass."""
    with LocalCluster(1, tmp_path / "data"):
        pass
    with pytest.raises(LocalClusterError, match="pass members=1"):
        LocalCluster(3, tmp_path / "data").start()


def test_data_dir_in_use_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second cluster is refused, also by a relative path; the first goes on."""
    monkeypatch.chdir(tmp_path)
    with LocalCluster(1, tmp_path / "data") as cluster:
        with pytest.raises(LocalClusterError, match=f"in use.* process {os.getpid()}"):
            LocalCluster(1, "data").start()
        put(cluster.endpoints[0], "1")


def test_data_dir_with_other_files_refused_and_untouched(tmp_path: Path) -> None:
    """Somebody else's directory is left as it was."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("precious")
    with pytest.raises(LocalClusterError, match="not empty"):
        LocalCluster(1, tmp_path / "theirs").start()
    assert os.listdir(tmp_path / "theirs") == ["file"]


def test_data_dir_that_is_a_file_refused(tmp_path: Path) -> None:
    """A file is no directory."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalClusterError, match="can't be used"):
        LocalCluster(1, tmp_path / "file").start()


# --- nothing is left -------------------------------------------------------


def open_files() -> int:
    """Count this process's descriptors; 0 where that can't be known."""
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


def test_close_leaves_no_process_file_or_descriptor(temp: Path) -> None:
    """All is gone when close returns, and may be said twice."""
    files = open_files()
    cluster = LocalCluster(3).start()
    running = pids(cluster)
    cluster.members[0].pause()
    assert os.listdir(temp) != []
    cluster.close()
    assert os.listdir(temp) == []
    assert not any(alive(pid) for pid in running)
    cluster.close()
    assert open_files() == files
    assert "not running" in repr(cluster)
    assert not cluster.members[0].running
    with pytest.raises(LocalClusterError, match="closed"):
        cluster.members[0].start()


def test_garbage_collected_cluster_is_closed(temp: Path) -> None:
    """Dropping the last reference ends the processes."""
    cluster = LocalCluster().start()
    (pid,) = pids(cluster)
    del cluster
    gc.collect()
    assert not alive(pid)
    assert os.listdir(temp) == []


@contextlib.contextmanager
def script(temp: Path, body: str) -> Iterator[tuple[Any, list[int]]]:
    """Run a script that starts a cluster and prints the process ids."""
    text = "import gc, os, signal, sys, time\n"
    text += "from etcdmap.local import LocalCluster\n"
    text += "cluster = LocalCluster(3).start()\n"
    text += "guard = cluster.members[0]._guardian._process.pid\n"
    text += "pids = [m.pid for m in cluster.members] + [guard]\n"
    text += "print(*pids, flush=True)\n" + textwrap.dedent(body)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temp)},
    ) as process:
        try:
            assert process.stdout is not None
            running = [int(pid) for pid in process.stdout.readline().split()]
            assert len(running) == 4
            yield process, running
        finally:
            process.kill()


def assert_all_gone(temp: Path, running: list[int]) -> None:
    """Wait until processes and temporary files are gone."""
    assert soon(lambda: not any(alive(pid) for pid in running))
    assert soon(lambda: os.listdir(temp) == [])


@pytest.mark.parametrize("pause", ["", "cluster.members[1].pause()\n"])
def test_owner_killed_leaves_nothing(pause: str, temp: Path) -> None:
    """SIGKILL of the Python process ends members, paused ones as well."""
    body = pause + "print('ready', flush=True)\ntime.sleep(60)"
    with script(temp, body) as (process, running):
        assert process.stdout.readline() == "ready\n"
        assert all(alive(pid) for pid in running)
        process.kill()
        process.wait()
        assert_all_gone(temp, running)


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "os._exit(0)", "os.abort()", "1 / 0"]
)
def test_owner_exits_without_close_leaves_nothing(end: str, temp: Path) -> None:
    """However the interpreter ends, the cluster does."""
    with script(temp, "sys.stderr = None\n" + end) as (process, running):
        process.wait(timeout=15)
        assert_all_gone(temp, running)


def test_owner_killed_during_the_first_start_leaves_no_data_dir(
    temp: Path, tmp_path: Path
) -> None:
    """A new cluster's data directory stays only once the cluster has started."""
    data = tmp_path / "data"
    text = (
        "import os\n"
        "from etcdmap.local import LocalCluster\n"
        f"assert not os.path.exists({str(data)!r})\n"
        "LocalCluster.wait_healthy = lambda *_: os.kill(os.getpid(), 9)\n"
        f"LocalCluster(1, {str(data)!r}).start()\n"
    )
    environment = {**os.environ, "TMPDIR": str(temp)}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, env=environment, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert soon(lambda: not data.exists() and os.listdir(temp) == [])


def test_owner_killed_while_a_forked_child_lives_leaves_nothing(temp: Path) -> None:
    """A child's copies of the owner's descriptors don't hide its death."""
    body = """
        pid = os.fork()
        if pid == 0:
            sys.stdin.read()
            os._exit(0)
        print(pid, flush=True)
        time.sleep(60)
    """
    with script(temp, body) as (process, running):
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        assert_all_gone(temp, running)
        assert alive(child)
        process.stdin.close()
        assert soon(lambda: not alive(child))


def test_guard_killed_leaves_nothing(temp: Path) -> None:
    """Members die with the guard; close removes the files all the same."""
    if sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    cluster = LocalCluster(3).start()
    running = pids(cluster)
    cluster.members[0].pause()
    os.kill(cluster.members[0]._guardian._process.pid, signal.SIGKILL)
    assert soon(lambda: not any(alive(pid) for pid in running))
    with pytest.raises(LocalClusterError, match=r"guard process .* does not answer"):
        cluster.wait_healthy()
    cluster.close()
    assert os.listdir(temp) == []


def test_terminal_signals_do_not_reach_the_cluster(temp: Path) -> None:
    """Ctrl-C and SIGTERM to everything leave the decision to the owner."""
    with LocalCluster() as cluster:
        guard = cluster.members[0]._guardian._process.pid
        assert os.getsid(guard) != os.getsid(0)
        assert os.getsid(pid_of(cluster.members[0])) == os.getsid(guard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard, number)
        cluster.wait_healthy()


def test_forked_child_neither_ends_nor_controls_the_cluster(temp: Path) -> None:
    """A child may close, drop and exit; the parent's cluster lives on."""
    body = """
        pid = os.fork()
        if pid == 0:
            try:
                cluster.members[0].kill()
            except Exception as exc:
                print(type(exc).__name__, exc, flush=True)
            cluster.close()
            del cluster
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        cluster.wait_healthy(5)
        print("healthy", flush=True)
        cluster.close()
    """
    with script(temp, body) as (process, running):
        assert "LocalClusterError this cluster belongs" in process.stdout.readline()
        assert process.stdout.readline() == "healthy\n"
        assert process.wait(timeout=15) == 0
        assert_all_gone(temp, running)

"""The command line: the demo ends well, `serve` serves and leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from etcdmap import EtcdMapping
from etcdmap.cli import main
from etcdmap.demo import CALLS
from etcdmap.local import LocalCluster

from support.servers import binaries

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def binary(etcd_version: str) -> Path:
    """Give the etcd to run."""
    return binaries()[etcd_version]


@pytest.fixture(scope="module")
def demo(etcd_version: str) -> list[str]:
    """Run the demo, and give the lines that it prints."""
    command = [sys.executable, "-m", "etcdmap", "demo"]
    command += ["--etcd", os.fspath(binaries()[etcd_version])]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text.splitlines()


def test_demo_fits_a_terminal(demo: list[str]) -> None:
    """No line is wrapped but the command to paste, which has a path of the machine."""
    assert [line for line in demo if len(line) > 80 and "serve" not in line] == []


def test_demo_says_what_will_happen_and_what_next(demo: list[str]) -> None:
    """Two are killed, and whoever liked that learns what to type."""
    assert "Two of them will be killed." in demo[0]
    command = next(line.split() for line in demo if "-m etcdmap serve" in line)
    assert Path(command[0]).resolve() == Path(sys.executable).resolve()
    assert (ROOT / demo[-1].strip()).is_file()


def test_demo_is_that_of_the_picture(demo: list[str]) -> None:
    """What the README shows is what it prints today, but for what was measured."""
    kept = (ROOT / "docs" / "pictures" / "demo.txt").read_text().splitlines()
    assert [shape_of(line) for line in demo] == [shape_of(line) for line in kept]


def shape_of(line: str) -> str:
    """Give a line without what differs between runs: numbers, use, path of Python."""
    return re.sub(r"[\d.]+|(not )?in use|.* (?=-m etcdmap)|\s", "", line)


@pytest.mark.parametrize(
    ("step", "requests"),
    [
        ("config['services'] = a nested dict", 1 + 280 + 8),
        ("config['services'] = the same dict", 1),
        ("a loop over config['services'].items()", 1),
        ("config['flags'].update(1000 keys)", 1 + 1000),
        ("config.to_dict()", 1),
    ],
)
def test_demo_steps_cost_what_the_docs_say(
    demo: list[str], step: str, requests: int
) -> None:
    """As counted: one to look, and one for each value or empty dict that differs."""
    (line,) = (line for line in demo if line.startswith(step))
    found = re.fullmatch(r" +(\d+) +\d+\.\d\d(  .*)?", line.removeprefix(step))
    assert found is not None, line
    # New connections of the 16 threads, and reads that a busy machine asks for twice.
    more = 16 + requests // 20 if requests > 1 else 1
    assert requests <= int(found[1]) <= requests + more


def test_demo_kills_a_follower_and_then_the_leader(demo: list[str]) -> None:
    """In use or not, no call fails; only the leader's end is waited for."""
    row = (
        r"(m\d), (a follower|the leader), (?:not )?in use +(\d+) +(\d+) +(.+) s +(.+) s"
    )
    rows = [found.groups() for line in demo if (found := re.fullmatch(row, line))]
    assert [role for _, role, *_ in rows] == ["a follower", "the leader"]
    for _, _, calls, failed, *gaps in rows:
        assert int(calls) >= 4 * CALLS
        assert int(failed) == 0
        assert all(re.fullmatch(r"\d\.\d{3}", gap) for gap in gaps)
    (follower, *_), (leader, *_) = rows
    assert follower != leader
    (elected,) = (line for line in demo if line.endswith("is the new leader."))
    assert not elected.startswith(leader)
    assert "0 calls failed.  With config['written'], 1281 values are there." in demo


@contextlib.contextmanager
def serving(
    *arguments: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `serve` in a process of its own; whatever happens, end it."""
    command = [sys.executable, "-m", "etcdmap", "serve", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    """Read what `serve` prints until it serves, and give the URL to paste."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("Ctrl-C"):
            break
    (url,) = re.findall(r"^ *export ETCDMAP_URL=(etcd://\S+/app)$", text, re.M)
    return str(url)


def ports_of(url: str) -> list[int]:
    """Give the ports in a URL."""
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", url)]


def free_ports(count: int) -> int:
    """Give the first of some ports that are free, one after the other."""
    for first in itertools.count(15_000 + os.getpid() % 1000 * 4, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", port))
            return first
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    "page", ["how-to/run-a-local-etcd.md", "tutorial/first-mapping.md"]
)
def test_serve_prints_what_the_page_shows(binary: Path, page: str) -> None:
    """Word for word, but for the version and the port."""
    text = (ROOT / "docs" / page).read_text()
    (shown,) = re.findall(r"\$ \S+ -m etcdmap serve\n(.*?)```", text, re.S)
    with serving("--etcd", os.fspath(binary)) as process:
        assert process.stdout is not None
        lines = [next(process.stdout) for _ in shown.splitlines()]
    vary = r"\d+\.\d+\.\d+ |:\d+/"
    assert re.sub(vary, "", "".join(lines)) == re.sub(vary, "", shown)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_well_on_a_signal(binary: Path, number: int) -> None:
    """It prints its URL, serves v2 there, and ends with 0 on Ctrl-C."""
    with serving("--etcd", os.fspath(binary)) as process:
        with EtcdMapping.from_url(url_of(process)) as mapping:
            mapping["k"] = 1
            assert mapping["k"] == 1
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_serve_with_a_data_dir_keeps_data_and_ports(
    binary: Path, tmp_path: Path
) -> None:
    """The line that was pasted is good for the next start of the same directory."""
    urls = []
    for written in (False, True):
        options = ("--etcd", os.fspath(binary), "--data-dir", os.fspath(tmp_path / "d"))
        with serving(*options, "--members", "3") as process:
            urls.append(url_of(process))
            with EtcdMapping.from_url(urls[-1]) as mapping:
                assert ("k" in mapping) is written
                mapping["k"] = 1
            process.terminate()
            assert process.wait(timeout=20) == 0
    assert urls[0] == urls[1]


def test_serve_port_is_the_first_members(binary: Path, tmp_path: Path) -> None:
    """The others follow it; the directory then keeps these."""
    first = free_ports(3)
    options = ("--etcd", os.fspath(binary), "--data-dir", os.fspath(tmp_path / "d"))
    served = []
    for more in (), ("--port", str(first)), ():
        with serving(*options, "--members", "3", *more) as process:
            served.append(ports_of(url_of(process)))
            process.terminate()
            assert process.wait(timeout=20) == 0
    assert first not in served[0]
    assert served[1:] == [[first, first + 1, first + 2]] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_obeys_a_signal_while_it_starts(
    binary: Path, tmp_path: Path, number: int
) -> None:
    """A member that never gets ready ends, and so do its files and the command."""
    told, etcd = tmp_path / "told", tmp_path / "etcd"
    os.mkfifo(told)
    # A real member, stopped before its first step.
    start = f'echo $$ > {told}; kill -STOP $$; exec {binary} "$@"'
    etcd.write_text(f"#!/bin/sh\n[ $1 = --version ] && exec {binary} $1\n{start}\n")
    etcd.chmod(0o755)
    temporary = Path(tempfile.mkdtemp(dir=tmp_path))
    with serving(
        *("--etcd", os.fspath(etcd), "--data-dir", os.fspath(tmp_path / "d")),
        env={**os.environ, "TMPDIR": os.fspath(temporary)},
    ) as process:
        pid = int(told.read_text())
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "d").exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ("--members 0", 2, "--members must be at least 1, not 0"),
        ("--members many", 2, "--members: invalid int value: 'many'"),
        ("--port 0", 2, "--port must be from 1 to 65535 with --members 1, not 0"),
        ("--port 65534 --members 3", 2, "--port must be from 1 to 65533 with --memb"),
        ("--port {used}", 1, "port {used} can't be used (Address already in use): "),
        ("--port {used}", 1, "free it, or pass another with --port\n"),
        ("--data-dir /dev/null/d", 1, "--data-dir /dev/null/d can't be used: "),
        ("--data-dir {tmp}/data_dir", 1, "--data-dir {tmp}/data_dir can't be used: "),
        ("--data-dir {tmp}/one --members 2", 1, "pass --members 1, or take another --"),
        ("--etcd {tmp}/none", 1, "--etcd {tmp}/none: no such file"),
    ],
)
def test_serve_refuses_in_the_words_that_were_typed(
    binary: Path, tmp_path: Path, options: str, status: int, told: str
) -> None:
    """One message that names the option, and no traceback."""
    with LocalCluster(1, tmp_path / "one", binary=binary):
        pass
    (tmp_path / "data_dir").write_text("a file")
    with socket.create_server(("127.0.0.1", 0)) as server:
        names = {"used": server.getsockname()[1], "tmp": tmp_path}
        words = options.format(**names).split()
        if "--etcd" not in words:
            words += ["--etcd", os.fspath(binary)]
        with serving(*words) as process:
            _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert told.format(**names) in errors
    assert "Traceback" not in errors


def test_serve_in_a_directory_that_is_gone_is_no_traceback(tmp_path: Path) -> None:
    """What the system refuses to a step before the start is one message, too."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        f"import os, sys; from etcdmap.cli import main; os.rmdir({os.fspath(gone)!r})"
    )
    code += "; sys.exit(main(['serve', '--data-dir', 'd']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=gone, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("etcdmap: .*No such file or directory.*\n", done.stderr)


def test_main_interrupted_before_its_start_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C may come while the command line is read, which imports the most."""

    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("etcdmap.cli._parser", interrupt)
    assert main(["demo"]) == 130


def test_main_without_etcd_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An error of ours is one message and status 1, not a traceback."""
    assert main(["serve", "--etcd", "/nowhere/etcd"]) == 1
    assert "/nowhere/etcd" in capsys.readouterr().err


def test_main_version_is_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints it."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip()[0].isdigit()

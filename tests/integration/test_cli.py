"""The command line: the demo ends well, `serve` serves and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcdmap import EtcdMapping
from etcdmap.cli import main
from etcdmap.demo import LOOPS, run_demo

from support.servers import binaries


@pytest.fixture
def binary(etcd_version: str) -> Path:
    """Give the etcd to run."""
    return binaries()[etcd_version]


def test_demo_runs_to_its_end(binary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo kills a member in a loop and its program sees no error."""
    run_demo(binary)
    shown = capsys.readouterr().out
    assert f"write and read {LOOPS} times; kill the member in use" in shown
    assert "0 errors seen by the program" in shown
    assert "/demo" in shown


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `serve` in a process of its own; whatever happens, end it."""
    command = [sys.executable, "-m", "etcdmap", "serve", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def endpoints_of(process: subprocess.Popen[str]) -> list[str]:
    """Read the URLs that `serve` prints."""
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "Ctrl-C ends it.\n")
    return [line.strip() for line in lines if line.startswith("http")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_well_on_a_signal(binary: Path, number: int) -> None:
    """It prints its URL, serves v2 there, and ends with 0 on Ctrl-C."""
    with serving("--etcd", os.fspath(binary)) as process:
        (endpoint,) = endpoints_of(process)
        with EtcdMapping(endpoint, "/app") as mapping:
            mapping["k"] = 1
            assert mapping["k"] == 1
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_serve_with_a_data_dir_keeps_the_data(binary: Path, tmp_path: Path) -> None:
    """What was written is there when the same directory is served again."""
    for written in (False, True):
        options = ("--etcd", os.fspath(binary), "--data-dir", os.fspath(tmp_path / "d"))
        with serving(*options) as process:
            (endpoint,) = endpoints_of(process)
            with EtcdMapping(endpoint, "/app") as mapping:
                assert ("k" in mapping) is written
                mapping["k"] = 1
            process.terminate()
            assert process.wait(timeout=20) == 0


def test_serve_three_members_prints_three_urls(binary: Path) -> None:
    """`--members 3` serves a cluster of three."""
    with serving("--etcd", os.fspath(binary), "--members", "3") as process:
        assert len(endpoints_of(process)) == 3
        process.terminate()
        assert process.wait(timeout=20) == 0


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

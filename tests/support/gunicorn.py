"""Run a Flask application as an operator would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.waiting import soon


@contextmanager
def gunicorn(
    folder: Path,
    env: Mapping[str, str],
    *options: str,
    workers: int = 1,
    app: str = "app:app",
) -> Iterator[str]:
    """Run an application of Flask in a folder; give its URL once all workers are there.

    Args:
        folder: has the module of the application.
        env: what the application finds in its environment, beside that of the tests.
        options: of gunicorn.
        workers: how many processes answer.
        app: the module and the name in it.
    """
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", *options]
    log = folder / "gunicorn.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, f"--workers={workers}", app],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
            stdout=out,
            stderr=out,
        )
    try:
        assert soon(lambda: log.read_text().count("Booting worker") >= workers)
        found = re.search(r"Listening at: (\S+)", log.read_text())
        assert found is not None
        yield found[1]
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()

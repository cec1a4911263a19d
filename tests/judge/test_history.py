"""The recorder of fault runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from benchmarks.faults.judge.history import NOT_TRIED, Op, Recorder, load, save

INF = float("inf")

ROOT = str(Path(__file__).parents[2])
RECORD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.faults.judge.history import Op, Recorder

recorder = Recorder(Path(sys.argv[2]), lambda op, error: "failed")
for number in range(200):
    recorder.record(Op("p", "set", "k", 0.0, 0.0, value=f"p.{number}"))
recorder.close()
"""


def record_some(path: Path, client: str, count: int) -> None:
    """Record operations, as a thread does."""
    recorder = Recorder(path, lambda op, error: "failed")
    for number in range(count):
        template = Op(client, "set", "k", 0.0, 0.0, value=f"{client}.{number}")
        recorder.run(lambda: None, template)
    recorder.close()


def test_recorder_of_threads_and_processes_loses_no_line(tmp_path: Path) -> None:
    """Several processes with several threads write whole lines to one file."""
    path = tmp_path / "history.jsonl"
    process = subprocess.Popen([sys.executable, "-c", RECORD, ROOT, path])
    threads = [
        threading.Thread(target=record_some, args=(path, f"t{n}", 200))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait(30) == 0
    assert len({one.value for one in load([path])}) == 1000


def test_recorder_notes_value_times_error_and_endpoint(tmp_path: Path) -> None:
    """A record has what came back, when, and from where."""
    path = tmp_path / "history.jsonl"
    clock = iter([1.0, 2.0, 3.0, 4.0])
    recorder = Recorder(path, lambda op, error: "refused", clock=lambda: next(clock))

    def fail() -> None:
        raise KeyError("gone")

    recorder.run(lambda: "7", Op("a", "get", "k", 0, 0), lambda: "http://m0")
    recorder.run(fail, Op("a", "delete", "k", 0, 0), lambda: "http://m0")
    recorder.close()
    got, failed = load([path])
    assert (got.value, got.start, got.end, got.endpoint) == ("7", 1, 2, "http://m0")
    assert (failed.outcome, failed.error, failed.detail) == (
        "refused",
        "KeyError",
        "'gone'",
    )


def test_recorder_close_notes_what_never_returned(tmp_path: Path) -> None:
    """An operation that hangs is unknown, for ever."""
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, lambda op, error: "failed")
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(10)

    thread = threading.Thread(
        target=recorder.run, args=(hang, Op("a", "set", "k", 0, 0, value="1"))
    )
    thread.start()
    entered.wait(10)
    recorder.close()
    leave.set()
    thread.join()
    (hung,) = load([path])
    assert (hung.outcome, hung.error, hung.end) == ("unknown", "NeverReturned", INF)


def test_history_survives_saving_and_loading(tmp_path: Path) -> None:
    """Every field of a record comes back."""
    ops = [
        Op("a", "set", "k", 0.25, INF, "unknown", "ü\n", thread=3, judged=False),
        Op("b", "cas", "k", 1, 2, expected="1", endpoint="http://m1", detail="why"),
    ]
    save(tmp_path / "history.jsonl", ops)
    assert load([tmp_path / "history.jsonl"]) == ops
    assert "Infinity" not in (tmp_path / "history.jsonl").read_text()  # no JSON


def test_recorder_run_all_notes_each_key_of_one_call(tmp_path: Path) -> None:
    """What failed, what was not tried and what is done are told apart."""
    path = tmp_path / "history.jsonl"
    clock = iter([1.0, 2.0])
    recorder = Recorder(path, lambda op, error: "unknown", clock=lambda: next(clock))
    templates = [Op("a", "set", key, 0, 0, value=key) for key in "xyz"]
    error = TimeoutError("slow")
    recorder.run_all(lambda: {"y": error, "z": None}, templates, lambda: "http://m0")
    done, failed, pending = load([path])
    assert (done.outcome, done.start, done.end, done.endpoint) == (
        "ok",
        1,
        2,
        "http://m0",
    )
    assert (failed.outcome, failed.error) == ("unknown", "TimeoutError")
    assert (pending.outcome, pending.error) == ("failed", NOT_TRIED)


def test_recorder_run_all_that_raises_is_every_keys_error(tmp_path: Path) -> None:
    """Nothing tells the keys apart then."""
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, lambda op, error: "unknown")

    def fail() -> dict[str, Exception | None]:
        raise KeyError("gone")

    recorder.run_all(fail, [Op("a", "set", key, 0, 0, value=key) for key in "xy"])
    assert [(one.outcome, one.error) for one in load([path])] == [
        ("unknown", "KeyError")
    ] * 2


def test_recorder_notes_the_name_that_an_append_made(tmp_path: Path) -> None:
    """What is written stays, beside the name."""
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path, lambda op, error: "unknown")
    recorder.run(lambda: "07", Op("a", "append", "q", 0, 0, value="1"))
    (one,) = load([path])
    assert (one.name, one.value) == ("07", "1")


def test_history_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    """Whoever looks while clients work sees whole records only."""
    path = tmp_path / "history.jsonl"
    op = Op("a", "set", "k", 0.25, 1, value="1")
    save(path, [op])
    with path.open("a", encoding="utf-8") as file:
        file.write(op.to_json()[:20])
    assert load([path]) == [op]

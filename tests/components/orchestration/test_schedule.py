"""When a retrain is due: missed times, clocks set back, data that are still being written, alerts."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.orchestration.locks import only_one
from components.orchestration.retraining.cron import parse
from components.orchestration.retraining.retrain_log import RetrainLog
from components.orchestration.retraining.scheduler import (
    Memory,
    OnCron,
    OnDrift,
    OnNewData,
    run_scheduler,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def at(folder: Path, clock: Clock) -> OnCron:
    return OnCron(parse("0 3 * * *"), Memory(folder / "schedule.json"), clock)


def test_a_time_that_has_come_is_due_once(tmp_path: Path, clock: Clock) -> None:
    rule = at(tmp_path, clock)
    assert rule.due_reason() is None
    clock.now += timedelta(hours=14, minutes=59)
    assert rule.due_reason() is None
    clock.now += timedelta(minutes=2)
    assert rule.due_reason() == "cron 0 3 * * *"
    rule.mark_ended()
    assert rule.due_reason() is None


def test_a_time_that_comes_during_a_long_retrain_is_due_after_it(
    tmp_path: Path, clock: Clock
) -> None:
    rule = at(tmp_path, clock)
    rule.due_reason()
    clock.now += timedelta(days=1)
    assert rule.due_reason()
    clock.now += timedelta(days=1)
    rule.mark_ended()
    assert rule.due_reason()
    rule.mark_ended()
    assert rule.due_reason() is None


def test_times_that_were_missed_are_caught_up_once_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    assert at(tmp_path, clock).due_reason() is None
    clock.now += timedelta(days=5)
    rule = at(tmp_path, clock)
    assert rule.due_reason()
    rule.mark_ended()
    assert rule.due_reason() is None and at(tmp_path, clock).due_reason() is None


def test_a_clock_that_goes_back_neither_repeats_nor_stops_anything(
    tmp_path: Path, clock: Clock
) -> None:
    rule = at(tmp_path, clock)
    rule.due_reason()
    clock.now += timedelta(days=365)
    assert rule.due_reason()
    rule.mark_ended()
    clock.now -= timedelta(days=365)
    assert rule.due_reason() is None and rule.due_reason() is None
    clock.now += timedelta(days=1)
    assert rule.due_reason()


def test_new_data_are_due_when_nobody_writes_them_any_more_and_once(tmp_path: Path) -> None:
    seen: list[str | None] = [None, "a", "b", "b", "b", None, "c", "c"]
    looks = iter(seen)
    rule = OnNewData(Memory(tmp_path / "schedule.json"), lambda: next(looks))
    assert [rule.due_reason() for _ in range(4)] == [None, None, None, "new data"]
    rule.mark_ended()  # and say it failed: the same data are not tried again and again
    assert [rule.due_reason() for _ in range(4)] == [None, None, None, "new data"]


def test_files_that_never_rest_are_due_after_ten_looks_and_a_database_at_once(
    tmp_path: Path,
) -> None:
    looks = iter(range(1000))
    files = OnNewData(Memory(tmp_path / "files.json"), lambda: str(next(looks)))
    due = list[int]()
    for number in range(30):
        if files.due_reason():
            due.append(number)
            files.mark_ended()
    assert due == [9, 19, 29]
    found = iter(["a", "a", "b", None])
    pulled = OnNewData(Memory(tmp_path / "pulled.json"), lambda: next(found), lambda: True)
    assert pulled.due_reason() == "new data"
    pulled.mark_ended()
    assert [pulled.due_reason() for _ in range(3)] == [None, "new data", None], (
        "each pull is whole; what was tried is not new"
    )


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow."""
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_a_full_disk_does_not_take_is_known_and_written_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    memory = Memory(tmp_path / "schedule.json")
    memory.update(tried="a")
    request.getfixturevalue("full_disk")
    memory.update(tried="b")
    memory.update(drift="noon")
    assert memory.values == {"tried": "b", "drift": "noon"} and Memory(memory.path).values == {
        "tried": "a"
    }
    assert capsys.readouterr().out.count("cannot be written") == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    memory.flush()
    assert Memory(memory.path).values == memory.values


class Drifting:
    """A pipeline whose traffic drifts, as its files say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.champion, self.asked = folder, 1, 0
        self.found: str | None = "a"
        (folder / "monitor").mkdir()

    def rule(self) -> OnDrift:
        return OnDrift(
            OnNewData(Memory(self.folder / "schedule.json"), lambda: self.found),
            self.folder,
            lambda: self.champion,
            self.advice,
        )

    def advice(self) -> str:
        self.asked += 1
        return "send labels"

    def alarm(self, when: str = "noon") -> None:
        self.window(["length"])
        (self.folder / "drift.json").write_text(
            json.dumps({"when": when, "fields": ["length", "script"], "level": 0.05, "version": 1}),
            encoding="utf-8",
        )

    def window(self, drift: list[str]) -> None:
        (self.folder / "monitor" / "latest.json").write_text(
            json.dumps({"version": 1, "inputs": {"drift": drift}}), encoding="utf-8"
        )


@pytest.fixture
def drifting(tmp_path: Path) -> Drifting:
    return Drifting(tmp_path)


DUE = "drift of length, script, and new data"


def test_drift_waits_for_an_alarm_and_an_alarm_counts_once_when_it_has_passed(
    drifting: Drifting,
) -> None:
    rule = drifting.rule()
    assert rule.due_reason() is None and rule.due_reason() is None
    drifting.alarm()
    assert [rule.due_reason(), rule.due_reason()] == [None, DUE]
    rule.mark_ended()
    drifting.found = "b"
    drifting.window([])
    assert rule.due_reason() is None and rule.due_reason() is None
    drifting.alarm("later")
    assert [rule.due_reason(), rule.due_reason()] == [None, DUE]
    (drifting.folder / "drift.json").write_text("half a {", encoding="utf-8")
    assert rule.due_reason() is None


def test_while_the_drift_stands_each_new_set_of_labels_is_tried_once(drifting: Drifting) -> None:
    rule = drifting.rule()
    drifting.alarm()
    for found in ("a", "b", "c"):
        drifting.found = found
        assert [rule.due_reason(), rule.due_reason()] == [None, DUE]
        rule.mark_ended()  # refused, or failed
        assert [drifting.rule().due_reason(), rule.due_reason(), rule.due_reason()] == [
            None,
            None,
            None,
        ]
    drifting.found, drifting.champion = "d", 2
    assert [rule.due_reason(), rule.due_reason()] == [None, None], (
        "the alarm is about another version"
    )


def test_an_alarm_during_a_retrain_is_not_used_up_by_it(drifting: Drifting) -> None:
    rule = drifting.rule()
    drifting.alarm()
    assert [rule.due_reason(), rule.due_reason()] == [None, DUE]
    drifting.alarm("while it works")
    drifting.window([])
    rule.mark_ended()
    drifting.found = "b"
    assert [rule.due_reason(), rule.due_reason()] == [None, DUE]


def test_an_alarm_with_nothing_to_learn_from_is_told_once_with_what_to_do(
    drifting: Drifting, capsys: pytest.CaptureFixture[str]
) -> None:
    drifting.found = None
    drifting.alarm()
    assert [drifting.rule().due_reason() for _ in range(3)] == [None, None, None]
    assert (
        drifting.asked == 1
        and "drift of length, script, and nothing new to learn from: send labels"
        in capsys.readouterr().out
    )
    drifting.found = "a"
    rule = drifting.rule()
    assert [rule.due_reason(), rule.due_reason()] == [None, DUE]
    rule.mark_ended()
    drifting.found = None
    rule.due_reason()
    rule.due_reason()
    assert drifting.asked == 2, "the attempt did not help: it is told again, once"


def test_a_second_scheduler_is_refused(tmp_path: Path) -> None:
    with (
        only_one(
            RetrainLog(tmp_path, "default").folder / "schedule.lock",
            "a scheduler of pipeline default",
        ),
        pytest.raises(
            EnvironmentFault, match="a scheduler of pipeline default is under way already: process"
        ),
    ):
        run_scheduler(tmp_path, "default", 1, parse("0 3 * * *"), False)


WATCH = """
import sys, threading
from pathlib import Path
from components.orchestration.retraining import scheduler as schedule
from components.orchestration.retraining.cron import parse

class Always:
    def __init__(self, *_): pass
    def due_reason(self): return "test"
    def mark_ended(self): print("taken", flush=True)

def run(root, name, why, stop):
    print("running", flush=True)
    stop.wait(30)
    return 130

def once(*_):
    print("looked", flush=True)
    return "a"

def full(*_):
    import os, resource, signal
    print("running", flush=True)
    log = os.open("log.txt", os.O_CREAT | os.O_WRONLY)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.dup2(log, 1)  # its own log is on the same disk
    schedule.fresh = lambda *_: print("looked again", file=sys.stderr, flush=True) or "a"
    return 0

if sys.argv[2] == "full":
    schedule.fresh, schedule.run, schedule.pulled = once, full, lambda *_: False
    schedule.run_scheduler(Path(sys.argv[1]), "default", 0.1, None, False)
    sys.exit()
schedule.OnCron = Always
if sys.argv[2] == "busy": schedule.run = run
else: Always.look = lambda self: None
schedule.run_scheduler(Path(sys.argv[1]), "default", 0.1, parse("0 3 * * *"), False)
"""


@pytest.fixture(params=[("idle", "watching"), ("busy", "running")])
def watching(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    state, ready = request.param
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH, str(tmp_path), state],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout
    while ready not in process.stdout.readline():
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(watching: subprocess.Popen[str], number: signal.Signals) -> None:
    os.kill(watching.pid, number)
    out, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and "stopped" in out and "taken" not in out


def test_a_full_disk_does_not_end_it_nor_make_it_retrain_again(tmp_path: Path) -> None:
    here = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH, ".", "full"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(here)},
    )
    assert process.stderr
    for _ in range(4):
        assert process.stderr.readline() == "looked again\n"
    process.terminate()
    out, error = process.communicate(timeout=60)
    assert out.count("running") == 1 and "Traceback" not in error, error


def test_a_retrain_under_way_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.orchestration.retraining import scheduler

    sleeper = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); open('ready', 'w').close(); time.sleep(60)"
    real = subprocess.Popen
    monkeypatch.setattr(
        scheduler.subprocess,
        "Popen",
        lambda words, **rest: real([sys.executable, "-c", sleeper], **rest),
    )
    stop, codes = threading.Event(), list[int]()
    thread = threading.Thread(
        target=lambda: codes.append(scheduler.run(tmp_path, "default", "test", stop))
    )
    thread.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    stop.set()
    thread.join(30)
    assert codes == [130]

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EnvironmentFault
from components.core.job import Journal
from components.registry.store import tracking_store
from components.registry.tracking import mirror, outbox
from components.registry.tracking.runs import Tracker, track


class Stage:
    """A stage's state folder and what was shown of it."""

    def __init__(self, root: Path, name: str = "train") -> None:
        self.root, self.name, self.state = root, name, root / "data" / ".state" / name / "key"
        self.journal, self.shown = Journal(self.state / "journal.jsonl"), list[Mapping[str, Any]]()

    def run(self, body: Callable[[Tracker], None], token: str = "one", **more: Any) -> None:
        given: dict[str, Any] = {
            "tags": {"git_commit": "abc"},
            "params": {"train.epochs": 3},
            **more,
        }
        with track(
            self.root,
            "default",
            self.name,
            token,
            self.journal.path,
            self.state / "tracking.json",
            show=self.shown.append,
            **given,
        ) as tracker:
            body(tracker)


def runs(root: Path, name: str) -> list[Any]:
    opened = tracking_store.client(root)
    return [
        run
        for run in opened.search_runs([tracking_store.experiment(opened, root, "default")])
        if run.info.run_name == name
    ]


def curve(root: Path, name: str, key: str) -> list[tuple[int, float]]:
    (run,) = runs(root, name)
    return sorted(
        (point.step, point.value)
        for point in tracking_store.client(root).get_metric_history(run.info.run_id, key)
    )


def test_a_stage_becomes_a_run_below_the_pipeline_run_with_trials_below_it(
    root: Path, tmp_path: Path
) -> None:
    stage = Stage(root, "tune")
    report = tmp_path / "报告.html"
    report.write_text("<p>好</p>", encoding="utf-8")

    def body(tracker: Tracker) -> None:
        stage.journal.log("开始")
        for step in range(3):
            stage.journal.metrics({"validation/loss": 1.0 / (step + 1)}, step)
        for trial in ("trial-1", "trial-2"):
            stage.journal.params({"width": 64}, trial)
            stage.journal.metrics({"accuracy@1": 0.5}, 0, trial)
        stage.journal.progress(2, 2, "trials")
        tracker.log_files(report)

    stage.run(body)
    (parent,), (run,), (trial,) = runs(root, "default"), runs(root, "tune"), runs(root, "trial-2")
    assert parent.data.tags["gristmill.run"] == "one"
    assert (
        run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        and trial.data.tags["mlflow.parentRunId"] == run.info.run_id
    )
    assert {one.info.status for one in (parent, run, trial)} == {"FINISHED"}
    assert (
        run.data.params == {"train.epochs": "3"}
        and trial.data.params == {"width": "64"}
        and trial.data.metrics == {"accuracy_1": 0.5}
    )
    assert run.data.tags["git_commit"] == parent.data.tags["git_commit"] == "abc"
    assert curve(root, "tune", "validation/loss") == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert [
        item.path for item in tracking_store.client(root).list_artifacts(run.info.run_id, "reports")
    ] == ["reports/报告.html"]
    assert [event["kind"] for event in stage.shown] == ["say", "progress"]


def test_ctrl_c_kills_the_run_and_what_came_of_the_pipeline_stands_in_its_own(root: Path) -> None:
    evaluate = Stage(root, "evaluate")
    evaluate.run(lambda _: evaluate.journal.result({"winner": "int8"}, {"test_macro_f1": 0.85}))

    def interrupted(_: Tracker) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stage(root, "serve").run(interrupted)
    (parent,), (stopped,) = runs(root, "default"), runs(root, "serve")
    assert (parent.info.status, stopped.info.status) == ("KILLED", "KILLED")
    serve = Stage(root, "serve")
    serve.run(
        lambda _: serve.journal.result(
            {"winner": "int8", "version": 3, "decision": "promoted"},
            {"test_macro_f1": 0.85, "test_accuracy": 0.86},
        )
    )
    (parent,) = runs(root, "default")
    assert {key: parent.data.tags[key] for key in ("winner", "version", "decision")} == {
        "winner": "int8",
        "version": "3",
        "decision": "promoted",
    }
    assert parent.data.metrics == {"test_macro_f1": 0.85, "test_accuracy": 0.86}


def test_stages_of_one_pipeline_run_share_a_parent_and_those_of_another_do_not(root: Path) -> None:
    def fail(_: Tracker) -> None:
        raise KeyError("of the stage")

    Stage(root, "clean").run(lambda _: None)
    with pytest.raises(KeyError):
        Stage(root, "train").run(fail)
    Stage(root, "evaluate").run(lambda _: None, token="two")
    parents = {run.data.tags["gristmill.run"]: run for run in runs(root, "default")}
    below = {name: runs(root, name)[0] for name in ("clean", "train", "evaluate")}
    assert {name: run.data.tags["mlflow.parentRunId"] for name, run in below.items()} == {
        name: parents[token].info.run_id
        for name, token in (("clean", "one"), ("train", "one"), ("evaluate", "two"))
    }
    assert [below[name].info.status for name in below] == ["FINISHED", "FAILED", "FINISHED"]
    assert (parents["one"].info.status, parents["two"].info.status) == ("FAILED", "FINISHED")


KILLED = """
import sys, time
from pathlib import Path
from components.core.job import Journal
from components.registry.tracking.runs import track
root = Path(sys.argv[1])
journal = Journal(root / "data/.state/train/key/journal.jsonl")
with track(root, "default", "train", "one", journal.path, journal.path.with_name("tracking.json"), tags={}, params={"train.epochs": 3}, show=lambda _: None) as tracker:
    tracker.run_id()
    print("opened", flush=True)
    for step in range(10_000):
        journal.metrics({"loss": float(step)}, step)
        journal.metrics({"loss": float(step)}, step, f"trial-{step // 100}")
        time.sleep(0.01)
"""


def test_a_killed_stage_goes_on_with_its_run_and_no_point_is_there_twice(root: Path) -> None:
    # given a stage that is killed while it is tracked
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"opened\n"
    time.sleep(3.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stage = Stage(root)
    written = stage.journal.path.read_text(encoding="utf-8").count("\n") // 2
    assert written > 50 and runs(root, "train")[0].info.status == "RUNNING"

    # when it goes on from a checkpoint that lies thirty steps back, behind a line that was cut
    def body(_: Tracker) -> None:
        with stage.journal.path.open("a", encoding="utf-8") as stream:
            stream.write('{"time": 1, "kind": "met\n')
        for step in range(written - 30, written + 20):
            stage.journal.metrics({"loss": float(step)}, step)

    stage.run(body, token="two", tags={})
    # then it is the same run with each point once, and its trials are still one each
    assert curve(root, "train", "loss") == [(step, float(step)) for step in range(written + 20)]
    assert curve(root, "trial-0", "loss") == [
        (step, float(step)) for step in range(min(written, 100))
    ]
    assert runs(root, "train")[0].info.status == "FINISHED"
    # and the stages that follow join its parent
    Stage(root, "evaluate").run(lambda _: None, token="two")
    assert (
        runs(root, "evaluate")[0].data.tags["mlflow.parentRunId"]
        == runs(root, "default")[0].info.run_id
    )


def test_lost_knowledge_of_how_far_it_was_makes_no_second_point(root: Path) -> None:
    # given a failed stage whose last save did not happen, as if killed between logging and saving
    def body(_: Tracker) -> None:
        for step in range(5):
            stage.journal.metrics({"loss": 1.5}, step)
        raise KeyError("of the stage")

    stage = Stage(root)
    with pytest.raises(KeyError):
        stage.run(body)
    saved = stage.state / "tracking.json"
    text = saved.read_text(encoding="utf-8")
    saved.write_text(
        text.replace(f'"offset": {stage.journal.path.stat().st_size}', '"offset": 0').replace(
            '"loss": 4', '"loss": -1'
        ),
        encoding="utf-8",
    )
    assert saved.read_text(encoding="utf-8") != text
    # when it goes on
    stage.run(lambda _: None)
    assert curve(root, "train", "loss") == [(step, 1.5) for step in range(5)]


def test_a_store_that_was_deleted_in_between_gets_the_whole_journal(root: Path) -> None:
    def body(_: Tracker) -> None:
        stage.journal.metrics({"loss": 1.5}, 0)
        raise KeyError("of the stage")

    stage = Stage(root)
    with pytest.raises(KeyError):
        stage.run(body)
    opened = tracking_store.client(root)
    opened.delete_run(runs(root, "train")[0].info.run_id)
    stage.run(lambda _: None)
    assert curve(root, "train", "loss") == [(0, 1.5)]


def test_a_locked_database_delays_the_log_and_not_the_stage(root: Path) -> None:
    # given a database that someone else holds
    holder = sqlite3.connect(
        root / "mlflow" / "mlflow.db", isolation_level=None, check_same_thread=False
    )
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(3.0, holder.close)
    release.start()
    stage, took = Stage(root), 0.0

    # when the stage works
    def body(_: Tracker) -> None:
        nonlocal took
        begun = time.monotonic()
        for step in range(20):
            stage.journal.metrics({"loss": 1.0}, step)
        stage.journal.log("fertig")
        took = time.monotonic() - begun

    stage.run(body)
    release.join()
    # then it did not wait, and nothing is missing in the end
    assert took < 1.0
    assert (
        len(curve(root, "train", "loss")) == 20 and runs(root, "train")[0].info.status == "FINISHED"
    )


def test_a_server_that_is_not_there_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stage, identity = Stage(tmp_path), ["not asked"]

    def body(tracker: Tracker) -> None:
        stage.journal.metrics({"loss": 1.0}, 0)
        identity[0] = str(tracker.run_id(timeout=0.5))

    stage.run(body, patience=5.0)
    assert identity == ["None"]
    assert [event["kind"] for event in stage.shown] == ["warning"]
    assert stage.journal.path.is_file()


def test_stages_that_ran_while_the_store_was_away_are_written_by_the_next_that_reaches_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two stages that ran and ended, and whose folders are gone, while nothing answered
    report = tmp_path / "train.json"
    report.write_text("{}", encoding="utf-8")

    def body(tracker: Tracker) -> None:
        for step in range(3):
            stage.journal.metrics({"loss": float(step)}, step)
            stage.journal.metrics({"loss": 1.0}, step, "trial-1")
        tracker.log_files(report)

    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for name in ("train", "tune"):
            stage = Stage(root, name)
            stage.run(body)
            shutil.rmtree(stage.state)
    report.unlink()
    assert len(outbox.waiting(root)) == 2 and not runs(root, "train")
    # when the next stage reaches the store
    Stage(root, "evaluate").run(lambda _: None)
    # then all of it is there, below one parent, once
    (parent,) = runs(root, "default")
    for name in ("train", "tune"):
        (run,) = runs(root, name)
        assert (
            run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            and run.info.status == "FINISHED"
            and run.data.params == {"train.epochs": "3"}
        )
        assert curve(root, name, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
        assert [
            item.path
            for item in tracking_store.client(root).list_artifacts(run.info.run_id, "reports")
        ] == ["reports/train.json"]
    assert len(runs(root, "trial-1")) == 2 and parent.info.status == "FINISHED"
    assert outbox.waiting(root) == [] and outbox.catch_up(root) == []


def test_catching_up_goes_on_after_a_kill_and_writes_nothing_twice(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(root)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        stage.run(lambda _: stage.journal.metrics({"loss": 0.5}, 7))
        with pytest.raises(EnvironmentFault):
            outbox.catch_up(root)
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom components.registry.tracking import mirror, outbox\n"
        "mirror.Mirror.close = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\noutbox.catch_up(Path(sys.argv[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(root)]).returncode == -signal.SIGKILL
    assert runs(root, "train")[0].info.status == "RUNNING"
    assert outbox.catch_up(root) == ["train of default"]
    assert (
        curve(root, "train", "loss") == [(7, 0.5)]
        and runs(root, "train")[0].info.status == "FINISHED"
    )


def test_a_store_that_hangs_is_waited_for_no_longer_than_patience_and_told_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, hang = mirror.Mirror.open, threading.Event()

    def hanging(self: mirror.Mirror, *_: Any) -> None:
        hang.wait(60)
        raise OSError("cut off")

    stage = Stage(root)
    with monkeypatch.context() as slow:
        slow.setattr(mirror.Mirror, "open", hanging)
        begun = time.monotonic()
        stage.run(lambda _: stage.journal.metrics({"loss": 0.5}, 1), patience=0.5)
        assert time.monotonic() - begun < 20
        hang.set()
        time.sleep(0.2)  # the thread that hung ends
    shutil.rmtree(stage.state)
    assert mirror.Mirror.open is opened and outbox.catch_up(root) == ["train of default"]
    assert curve(root, "train", "loss") == [(1, 0.5)]


def test_what_mlflow_refuses_does_not_wait_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TypeError("a mistake of ours")

    monkeypatch.setattr("components.registry.tracking.mirror.Mirror.open", refuse)
    Stage(root).run(lambda _: None)
    assert outbox.waiting(root) == []


def test_what_mlflow_refuses_costs_no_other_point(root: Path) -> None:
    stage = Stage(root)

    def body(_: Tracker) -> None:
        stage.journal.params(
            {"note": "长" * 9000, "train.epochs": 4}
        )  # epochs were logged as 3 at the start
        stage.journal.metrics({"loss": float("nan")}, 0)
        stage.journal._append({"kind": "metrics", "values": {"loss": "much"}, "step": 1})
        stage.journal._append({"kind": "metrics", "values": None})
        stage.journal.metrics({"loss": 0.5}, 2)

    stage.run(body)
    (run,) = runs(root, "train")
    assert (
        run.data.metrics["loss"] == 0.5
        and run.data.params["train.epochs"] == "3"
        and len(run.data.params["note"]) == 6000
    )
    assert stage.shown == []


def test_short_stages_leave_their_journals_to_the_one_that_needs_a_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = mirror.Mirror.open
    monkeypatch.setattr(
        mirror.Mirror, "open", lambda *_: pytest.fail("a short stage opened the store")
    )
    for name in ("clean", "train"):
        stage = Stage(root, name)
        stage.run(lambda _, stage=stage: stage.journal.metrics({"loss": 0.5}, 3), defer=60.0)
        shutil.rmtree(stage.state)
        time.sleep(0.05)
    assert len(outbox.waiting(root)) == 2
    assert not any(event["kind"] == "warning" for event in stage.shown)
    first = outbox.oldest(root, "one")
    assert outbox.oldest(root, "another") is None

    monkeypatch.setattr(mirror.Mirror, "open", opened)
    Stage(root, "serve").run(lambda tracker: tracker.run_id() or pytest.fail("no run"), defer=60.0)

    (parent,) = runs(root, "default")
    stages = [runs(root, name)[0] for name in ("clean", "train", "serve")]
    assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *stages)} == {"FINISHED"}
    assert parent.info.start_time == stages[0].info.start_time == first
    assert sorted(run.info.start_time for run in stages) == [run.info.start_time for run in stages]
    assert all(run.info.end_time >= run.info.start_time for run in stages)
    assert curve(root, "train", "loss") == [(3, 0.5)]
    assert outbox.waiting(root) == []


def test_a_short_stage_that_fails_is_written_at_once_with_those_before(root: Path) -> None:
    def fail(_: Tracker) -> None:
        raise ValueError("no")

    Stage(root, "clean").run(lambda _: None, defer=60.0)
    with pytest.raises(ValueError, match="no"):
        Stage(root, "train").run(fail, defer=60.0)
    assert outbox.waiting(root) == []
    assert [runs(root, name)[0].info.status for name in ("clean", "train", "default")] == [
        "FINISHED",
        "FAILED",
        "FAILED",
    ]


def test_a_stage_that_takes_longer_than_the_deferral_is_written_while_it_runs(root: Path) -> None:
    def body(_: Tracker) -> None:
        deadline = time.monotonic() + 60
        while not runs(root, "train") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert runs(root, "train")[0].info.status == "RUNNING"

    Stage(root, "train").run(body, defer=0.1)
    assert runs(root, "train")[0].info.status == "FINISHED"

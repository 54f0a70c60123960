"""Searches with a real Ray and trials that take no time: what is run, what is not run again, what is ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from stage_runner import TEXT

from components.core.errors import EnvironmentFault
from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.search import search
from components.stages.tune.searchers import asker
from components.stages.tune.study import MonitoredMetric, Study
from components.training.fit_config import FitConfig
from components.training.params import FitParams
from tests.components.small_ray import small_ray

Report = Callable[[Mapping[str, float]], None]
WATCHED = MonitoredMetric("validation_f", "max")
SPACE = {"learning_rate": {"uniform": [0.1, 0.9]}}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of two CPUs of our own."""
    with small_ray():
        yield


class Bench:
    """A study and its trials: each notes its epochs in a file; the figure is the learning rate."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "tokens").mkdir()
        (root / "tokens" / "manifest.json").write_text("a")
        self.train = section_model("train", TEXT).model_validate({"architecture": "textcnn"})

    def run(
        self, trick: Callable[[float, int], None] = lambda rate, epoch: None, **knobs: Any
    ) -> tuple[str, Study]:
        """Search; `trick` is called with the learning rate before each epoch."""
        params = TuneParams.model_validate(
            {
                "space": SPACE,
                "trials": 4,
                "epochs": 3,
                "searcher": "random",
                "scheduler": "none",
                **knobs,
            }
        )
        job = Job(
            "tune",
            TEXT,
            7,
            self.root,
            params,
            {"train": self.train},
            {"tokens": self.root / "tokens"},
            {},
            self.root / "tune" / "key",
        )
        study, log = Study(job), self.root / "log"

        def spec_of(values: dict[str, Any], state: Path) -> FitConfig:
            return FitConfig(
                TEXT,
                self.root,
                "textcnn",
                {},
                FitParams(learning_rate=values["learning_rate"]),
                {},
                7,
                state,
            )

        def work(spec: FitConfig, report: Report) -> None:
            for epoch in range(1, params.epochs + 1):
                (spec.state / "checkpoints").mkdir(exist_ok=True)
                with log.open("a") as stream:
                    stream.write(f"{int(spec.state.name)} {epoch} {os.getpid()}\n")
                trick(spec.params.learning_rate, epoch)
                report({"epoch": float(epoch), "validation_f": spec.params.learning_rate})

        return search(
            study, asker(params, self.train, 7, WATCHED), spec_of, WATCHED, params, work
        ), study

    def log(self) -> list[tuple[int, ...]]:
        """(trial, epoch, process) in the order run."""
        return [
            tuple(map(int, line.split())) for line in (self.root / "log").read_text().splitlines()
        ]

    def said(self) -> str:
        return (self.root / "tune/key/journal.jsonl").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def outcomes(study: Study) -> dict[int, Any]:
    return {number: trial.outcome for number, trial in sorted(study.trials.items())}


def gone(processes: set[int]) -> bool:
    """Whether all of them end, within a moment."""
    deadline = time.monotonic() + 60
    while left := [
        process
        for process in processes
        if psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    ]:
        if time.monotonic() > deadline:
            return not left
        time.sleep(0.2)
    return True


def test_a_search_runs_each_trial_once_and_is_extended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray must not count its callbacks: it would import MLflow for their names.
    monkeypatch.delattr("ray.air._internal.usage._count_callbacks")
    # when a search of four trials runs to its end
    by, study = bench.run(scheduler="asha", reduction_factor=4)
    # then each trial ran, in few processes, and left no checkpoints
    assert by == "trials"
    assert set(outcomes(study).values()) <= {"finished", "stopped"}
    assert "finished" in outcomes(study).values()
    assert len({process for *_, process in bench.log()}) <= 2
    assert not list(study.state.glob("trials/*/checkpoints"))
    assert "4 trials, 2 at once" in bench.said()
    # and when two more are asked for, only these run
    before = bench.log()
    _, study = bench.run(scheduler="asha", reduction_factor=4, trials=6)
    assert {trial for trial, *_ in bench.log()[len(before) :]} == {4, 5}
    assert "4 of 6 trials are finished already and are not run again; 2 more" in bench.said()
    # and a third call runs nothing, and starts no Tune
    before, began = bench.log(), time.monotonic()
    bench.run(scheduler="asha", reduction_factor=4, trials=6)
    assert bench.log() == before
    assert time.monotonic() - began < 1


def test_trials_shorter_than_the_start_of_a_worker_use_all_workers(bench: Bench) -> None:
    _, study = bench.run(lambda rate, epoch: time.sleep(0.2), trials=24, epochs=1)
    assert set(outcomes(study).values()) == {"finished"}
    assert sorted(trial for trial, *_ in bench.log()) == list(range(24))
    assert len({process for *_, process in bench.log()}) == 2


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
def test_other_schedulers_stop_the_worse(bench: Bench, scheduler: str) -> None:
    def slow_when_good(rate: float, epoch: int) -> None:
        time.sleep(0.05)

    by, study = bench.run(
        slow_when_good, scheduler=scheduler, trials=8, epochs=4, searcher="optuna"
    )
    ends = outcomes(study)
    assert by == "trials"
    assert len(ends) == 8
    assert "finished" in ends.values()
    assert "stopped" in ends.values()
    assert "failed" not in ends.values()
    best = max(study.trials.values(), key=lambda trial: trial.values["learning_rate"])
    assert best.outcome == "finished"
    for trial in study.trials.values():
        assert [row["epoch"] for row in trial.rows] == list(range(1, len(trial.rows) + 1))


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
def test_a_trial_that_raises_is_recorded_and_the_search_goes_on(
    bench: Bench, scheduler: str
) -> None:
    def trick(rate: float, epoch: int) -> None:
        if rate < 0.5:
            raise ValueError("too low\nfor me")

    _, study = bench.run(trick, scheduler=scheduler, trials=6)
    for trial in study.trials.values():
        low = trial.values["learning_rate"] < 0.5
        assert (trial.outcome == "failed") == low
        assert trial.error == ("ValueError: too low" if low else "")
        assert low or trial.rows
    assert {trial.outcome for trial in study.trials.values()} >= {"failed", "finished"}


def test_a_trial_that_hangs_is_ended_and_burns_no_cpu(bench: Bench) -> None:
    def trick(rate: float, epoch: int) -> None:
        while rate < 0.5 and epoch == 2:
            sum(range(1000))

    by, study = bench.run(trick, trial_timeout_s=3, trials=3)
    low = {number for number, trial in study.trials.items() if trial.values["learning_rate"] < 0.5}
    assert low
    assert by == "trials"
    for number, trial in study.trials.items():
        assert trial.outcome == ("failed" if number in low else "finished")
        assert trial.error == (
            "it reported nothing for 3 s (tune.trial_timeout_s) and was ended"
            if number in low
            else ""
        )
        assert len(trial.rows) == (1 if number in low else 3)
    assert len(bench.log()) == 2 * len(low) + 3 * (3 - len(low))  # none was begun again
    assert gone({process for trial, _, process in bench.log() if trial in low})


def test_a_trial_whose_worker_is_lost_is_begun_again(bench: Bench) -> None:
    marker = bench.root / "died"

    def trick(rate: float, epoch: int) -> None:
        if epoch == 2 and not marker.exists():
            marker.touch()
            os._exit(1)

    _, study = bench.run(trick, trials=2)
    assert set(outcomes(study).values()) == {"finished"}
    assert [len(trial.rows) for trial in study.trials.values()] == [3, 3]


def test_budgets_end_a_search_and_more_of_it_goes_on(bench: Bench) -> None:
    # by epochs
    by, study = bench.run(total_epochs=5)
    assert by == "epochs"
    assert sum(len(trial.rows) for trial in study.trials.values()) == 5
    assert "ended by its budget of epochs" in bench.said()
    # the same again runs nothing; with more, only what was cut or not begun
    before = len(bench.log())
    assert bench.run(total_epochs=5)[0] == "epochs"
    assert len(bench.log()) == before
    ended = {number for number, outcome in outcomes(study).items() if outcome}
    # one after the other, in one process
    by, study = bench.run(cpus_per_trial=2)
    assert by == "trials"
    assert set(outcomes(study).values()) == {"finished"}
    assert not {trial for trial, *_ in bench.log()[before:]} & ended


def test_a_budget_of_time_ends_even_a_long_epoch(bench: Bench) -> None:
    began = time.monotonic()
    by, study = bench.run(
        lambda rate, epoch: time.sleep(0.1 if epoch == 1 else 300),
        time_budget_s=20,
        cpus_per_trial=2,
    )
    assert by == "time"
    assert time.monotonic() - began < 280  # the epoch
    assert outcomes(study) == dict.fromkeys(study.trials)
    assert gone({process for *_, process in bench.log()})


def test_a_search_that_finds_no_room_says_so(bench: Bench) -> None:
    import ray

    @ray.remote(num_cpus=2)
    class Squatter:
        def ready(self) -> None: ...

    squatter = Squatter.remote()
    ray.get(squatter.ready.remote())
    try:
        with pytest.raises(
            EnvironmentFault, match=r"tune.pending_timeout_s: no trial could start for 2 s"
        ):
            bench.run(pending_timeout_s=2)
    finally:
        ray.kill(squatter)
    with pytest.raises(EnvironmentFault, match="the largest node has 2"):
        bench.run(cpus_per_trial=3)

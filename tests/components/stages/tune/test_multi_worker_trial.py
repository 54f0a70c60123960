"""Trials of two workers, with a real Ray: both take each step, one that is stopped frees the other, and one that loses a worker is begun again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from stage_runner import TEXT, StageRunner

from components.core.job import Job
from components.stages.tune.params import TuneParams
from components.stages.tune.search import _fit, search
from components.stages.tune.searchers import asker
from components.stages.tune.study import MonitoredMetric, Study
from components.training import micro_batches
from components.training.fit_config import FitConfig
from tests.components.small_ray import small_ray

WATCHED = MonitoredMetric("validation_macro_f1", "max")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of two CPUs of our own."""
    with small_ray():
        yield


def run(
    reviews: StageRunner,
    root: Path,
    work: Callable[[FitConfig, Callable[[Mapping[str, float]], None]], None] | None = None,
    **knobs: Any,
) -> Study:
    """A search over real fits of two workers each."""
    space = {"learning_rate": {"choice": [0.01, 1e-8, 0.005]}}
    params = TuneParams.model_validate(
        {
            "space": space,
            "trials": 3,
            "epochs": 2,
            "searcher": "grid",
            "scheduler": "asha",
            "workers_per_trial": 2,
            **knobs,
        }
    )
    study = Study(
        Job(
            "tune",
            TEXT,
            7,
            root,
            params,
            {"train": reviews.sections["train"]},
            {"tokens": reviews.root / "tokens"},
            {},
            root / "key",
        )
    )

    def spec_of(values: dict[str, Any], state: Path) -> FitConfig:
        return reviews.spec(state, workers=2, epochs=2, **values)

    search(
        study, asker(params, reviews.sections["train"], 7, WATCHED), spec_of, WATCHED, params, work
    )
    return study


def test_two_workers_run_a_trial_and_one_that_is_lost_is_replaced(
    reviews: StageRunner, tmp_path: Path
) -> None:
    # given a trial whose second worker dies in the first epoch, once
    log, died, room = tmp_path / "log", tmp_path / "died", tmp_path / "room"

    def work(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
        def tell(row: Mapping[str, float]) -> None:
            from components.stages.tune import multi_worker_trial

            with log.open("a") as stream:
                stream.write(f"{spec.state.name} {os.getpid()} {len(multi_worker_trial._peers)}\n")
            if not died.exists():
                died.touch()
                for child in psutil.Process(os.getpid()).parent().children():  # type: ignore[union-attr]
                    if "_Peer" in " ".join(child.cmdline()):
                        child.kill()
            report(row)

        real = micro_batches.MicroBatches.run

        def cramped(
            parts: micro_batches.MicroBatches, rows: Any, lengths: Any, step: Callable[[Any], float]
        ) -> float:
            def limited(given: Any) -> float:
                import torch

                with room.open("a") as stream:
                    stream.write(
                        f"{os.getpid()} {max(int(lengths[each].sum()) for each in given)}\n"
                    )
                if any(lengths[each].sum() > 400 for each in given):
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return step(given)

            return real(parts, rows, lengths, limited)

        if (
            spec.params.learning_rate == 0.005
        ):  # and another one whose first worker has room for 60 tokens
            micro_batches.MicroBatches.run = cramped  # type: ignore[assignment]
        try:
            _fit(spec, tell)
        finally:
            micro_batches.MicroBatches.run = real  # type: ignore[method-assign]

    # when the search runs
    study = run(reviews, tmp_path, work)

    # then it is begun again and comes to its end with the rows that one worker would have had; the one that learns nothing is stopped, and those after it run
    told = [line.split() for line in log.read_text().splitlines()]
    assert len({process for name, process, _ in told if name == "0000"}) == 2
    assert {peers for *_, peers in told} == {"1"}
    assert {
        number: (trial.outcome, trial.error, len(trial.rows))
        for number, trial in study.trials.items()
        if number < 2
    } == {0: ("finished", "", 2), 1: ("stopped", "", 1)}
    assert study.trials[2].outcome in ("finished", "stopped")
    parts = [tuple(map(int, line.split())) for line in room.read_text().splitlines()]
    assert (
        not study.trials[2].error
        and parts[0][1] > 400 >= parts[-1][1]
        and parts[0][0] != parts[-1][0]
    )
    from components.training.loop import fit

    alone = fit(reviews.spec(tmp_path / "alone", workers=1, epochs=2, learning_rate=0.01))
    assert [row["train_loss"] for row in study.trials[0].rows] == pytest.approx(
        [row["train_loss"] for row in alone.curve], rel=0.1
    )

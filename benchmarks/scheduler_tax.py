"""Row "scheduler tax, 1,000 trials of 0.5 s".

A whole search of trials that sleep, against trials x seconds / CPUs. Sleeping trials cost no CPU,
so other programs on the machine change the tax little. The CPU time of the search itself comes on
top.

python benchmarks/scheduler_tax.py [trials]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel

from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.search import search
from components.stages.tune.searchers import asker
from components.stages.tune.study import MonitoredMetric, Study
from components.training.fit_config import FitConfig
from components.training.params import FitParams

TASK = "text_classification"
SECONDS = 0.5
CPUS = 2
WATCHED = MonitoredMetric("validation_macro_f1", "max")


def make_spec(values: dict[str, Any], state: Path) -> FitConfig:
    """Return the config of a trial."""
    params = FitParams(learning_rate=values["learning_rate"])
    return FitConfig(TASK, state, "textcnn", {}, params, {}, 7, state)


def sleep(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
    """Sleep in place of a fit, then report metrics."""
    time.sleep(SECONDS)
    report(
        {
            "epoch": 1.0,
            "train_loss": 0.5,
            "validation_loss": 0.6,
            WATCHED.name: spec.params.learning_rate,
        }
    )


def make_study(root: Path, params: TuneParams, train: BaseModel) -> Study:
    """Return a study whose tokens are never read."""
    (root / "tokens").mkdir()
    (root / "tokens" / "manifest.json").write_text("{}")
    inputs = {"tokens": root / "tokens"}
    state = root / "tune" / "key"
    return Study(Job("tune", TASK, 7, root, params, {"train": train}, inputs, {}, state))


def main(trials: int) -> None:
    """Run the search and print the row."""
    ray.init(
        address="local",
        num_cpus=CPUS,
        include_dashboard=False,
        logging_level="WARNING",
        log_to_driver=False,
    )
    space = {"learning_rate": {"loguniform": [1e-4, 1e-2]}, "batch_size": {"choice": [64, 128]}}
    params = TuneParams.model_validate(
        {
            "space": space,
            "trials": trials,
            "epochs": 1,
            "searcher": "random",
            "scheduler": "none",
        }
    )
    train = section_model("train", TASK).model_validate({"architecture": "textcnn"})
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), params, train)
        start = time.perf_counter()
        search(study, asker(params, train, 7, WATCHED), make_spec, WATCHED, params, sleep)
        took = time.perf_counter() - start
    assert len(study.trials) == trials
    assert all(trial.outcome == "finished" for trial in study.trials.values())
    ideal = trials * SECONDS / CPUS
    print(
        f"| {trials:,} trials of {SECONDS} s, {CPUS} at once | {ideal:.1f} s | {took:.1f} s "
        f"| {took / ideal - 1:+.1%} |"
    )
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)

"""`tune.trials: 0`: no search, and what later stages need is there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.core.job import Job
from components.core.params import read_yaml
from components.core.skipped_steps import NOTE
from components.stages.evaluate.candidates import find_bundles
from components.stages.tune import stage
from components.stages.tune.params import TuneParams
from components.stages.tune.stage import table
from components.stages.tune.study import MonitoredMetric
from tests.structure.import_graph import ROOT

SPACE = {"learning_rate": {"uniform": [1e-4, 1e-2]}}


def run(root: Path, **knobs: Any) -> tuple[Job, str]:
    params = TuneParams.model_validate({"trials": 0, "space": SPACE, **knobs})
    outputs = {"tuned": root / "models" / "tuned"} | {
        name: root / name for name in ("trials", "search", "report")
    }
    job = Job(
        "tune",
        "text_classification",
        7,
        root,
        params,
        {},
        {},
        outputs,
        root / "state",
        {"params_file": "pipelines/a/params.yaml"},
    )
    stage.run(job)
    return job, job.journal.path.read_text(encoding="utf-8")


def test_it_is_said_with_the_way_to_force_it(tmp_path: Path) -> None:
    _, journal = run(tmp_path)
    assert (
        "search skipped: tune.trials is 0. To force it, write tune.trials: 8 to "
        "pipelines/a/params.yaml" in journal
    )


def test_all_outputs_are_there_and_hold_no_candidate(tmp_path: Path) -> None:
    job, _ = run(tmp_path)
    assert [path.name for path in job.outputs["tuned"].iterdir()] == [NOTE]
    assert find_bundles({"tuned": job.outputs["tuned"]}) == {}
    assert json.loads(job.outputs["search"].read_text(encoding="utf-8")) == {
        "skipped": "tune.trials is 0",
        "trials": [],
    }
    assert json.loads(job.outputs["report"].read_text(encoding="utf-8"))["trials"] == 0
    with job.outputs["trials"].open(encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == []


@pytest.mark.parametrize(
    "knobs",
    [
        {"warm_start": 3},
        {"scheduler": "pbt"},
        {"searcher": "grid", "space": {"batch_size": {"choice": [8, 16]}}},
        {"time_budget_s": 1.0},
    ],
)
def test_whatever_else_the_section_says(tmp_path: Path, knobs: dict[str, Any]) -> None:
    _, journal = run(tmp_path, **knobs)
    assert "tune.trials is 0" in journal


def test_fewer_than_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        TuneParams.model_validate({"trials": -1, "space": SPACE})


def test_it_imports_neither_torch_nor_ray_tune(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from components.core.job import Job
from components.core.params import read_yaml
from components.stages.tune import stage
from components.stages.tune.params import TuneParams
from components.stages.tune.stage import table
from components.stages.tune.study import MonitoredMetric
from tests.structure.import_graph import ROOT
root = Path(sys.argv[1])
params = TuneParams.model_validate({{"trials": 0, "space": {SPACE}}})
outputs = {{name: root / name for name in ("tuned", "trials", "search", "report")}}
stage.run(Job("tune", "text_classification", 7, root, params, {{}}, {{}}, outputs, root / "s"))
sys.exit(any(name in sys.modules for name in ("torch", "ray.tune")))
"""
    assert (
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 0
    )


@pytest.mark.parametrize("name", ["validation_macro_f1", "validation_rmse"])
def test_the_plot_of_trials_finds_its_column_for_each_metric(name: str) -> None:
    (plot,) = (
        settings
        for entry in read_yaml(ROOT / "dvc.yaml")["plots"]
        for title, settings in entry.items()
        if title == "trials"
    )
    (plotted,) = plot["y"].values()
    columns = table([], MonitoredMetric(name, "max")).strip().split(",")
    assert {plot["x"], name, *plotted} <= set(columns)

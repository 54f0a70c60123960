"""Recipes that params switch off: nothing is computed for them, and what is left says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from stage_runner import StageRunner

from components.core.job import Job
from components.core.skipped_steps import NOTE
from components.stages.compress import recipes, stage
from components.stages.compress.params import CompressParams, check_recipes
from components.stages.compress.steps import StepInput

ALL: dict[str, Any] = {"prune": None, "quantize": None, "distill": None}
STUDENT = {"architecture": "textcnn", "nets": {}}


def run(root: Path, tokens: Path | None = None, **knobs: Any) -> tuple[Path, dict[str, Any], str]:
    """Compress with these params; returns the output folder, the report and the journal."""
    params = CompressParams.model_validate(ALL | knobs)
    inputs = {name: root / name for name in ("trained", "tuned")}
    inputs["tokens"] = tokens or root / "tokens"
    outputs = {"compressed": root / "compressed", "report": root / "compress.json"}
    job = Job(
        "compress",
        "text_classification",
        7,
        root,
        params,
        {},
        inputs,
        outputs,
        root / "state",
        {"params_file": "pipelines/a/params.yaml"},
    )
    stage.run(job)
    report = json.loads(outputs["report"].read_text(encoding="utf-8"))
    return outputs["compressed"], report, job.journal.path.read_text(encoding="utf-8")


def test_without_recipes_there_is_a_note_for_dvc_and_a_line_for_each(tmp_path: Path) -> None:
    folder, report, journal = run(tmp_path)
    assert [path.name for path in folder.iterdir()] == [NOTE]
    assert set(json.loads((folder / NOTE).read_text(encoding="utf-8"))["skipped"]) == {
        "pruned",
        "int8",
        "distilled",
    }
    assert report == {"skipped": 3, "energy_j": 0.0}
    for key in ("prune", "quantize", "distill"):
        assert f"compress.{key} is null" in journal
    assert "compress.quantize: {calibration_rows: 256} to pipelines/a/params.yaml" in journal


def test_two_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    notes = [(run(tmp_path / name)[0] / NOTE).read_bytes() for name in ("first", "second")]
    assert notes[0] == notes[1]


def test_only_the_recipes_that_are_left_run_and_trained_is_their_parent(
    reviews: StageRunner, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Path]] = []

    def make(name: str, given: StepInput, params: Any) -> str:
        made.append((name, given.source))
        shutil.copytree(given.source, given.out)
        return ""

    monkeypatch.setattr(recipes, "run_step", make)
    (tmp_path / "trained").symlink_to(network.parent)
    (tmp_path / "tuned").mkdir()
    folder, report, journal = run(
        tmp_path, reviews.root / "tokens", quantize={"calibration_rows": 16}
    )
    assert made == [("quantize", tmp_path / "trained" / "network")]
    assert report["int8_bytes"] == report["parent_bytes"]
    assert sorted(path.name for path in folder.iterdir()) == ["int8", stage.RECIPES, NOTE]
    assert "the better of the two" not in journal


def test_nobody_checks_a_student_that_is_not_there() -> None:
    assert check_recipes(CompressParams.model_validate(ALL), {}) == []
    assert check_recipes(CompressParams.model_validate(ALL | {"distill": STUDENT}), {}) != []


def test_skipping_needs_no_torch(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; from components.stages.compress import stage; "
        "from components.stages.compress.params import CompressParams; "
        "from components.core.job import Job; root = Path(sys.argv[1]); "
        "params = CompressParams.model_validate({'prune': None, 'quantize': None, 'distill': "
        "None}); "
        "stage.run(Job('compress', 't', 7, root, params, {}, {}, {'compressed': root / 'c', "
        "'report': root / 'r'}, root / 's')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 0
    )

"""Folds and shares: which rows each fit sees, that none is fitted twice, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from stage_runner import IMAGE, TINY, StageRunner, pictures, sentences

from components.core.errors import EnvironmentFault, InputError, ParamsError
from components.core.job import Job
from components.core.tables import read_table, write_table
from components.orchestration.pipeline_params import load
from components.stages.evaluate import refits, resampling
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.resampling import group_positions, mean_and_error, resample
from tests.structure.import_graph import ROOT

NETWORK = {"name": "small", "title": "textcnn", "origin": ["train", "int8"]}
BASELINE = {"name": "classical", "title": "classical (fit)", "origin": ["fit"]}


def params(**values: Any) -> EvaluateParams:
    return EvaluateParams.model_validate({"resamples": 100, **values})


@pytest.fixture
def job(reviews: StageRunner, network: Path, tmp_path: Path) -> Job:
    """A job of evaluate on the network of `reviews`."""
    train = type(reviews.sections["train"]).model_validate(
        {
            "architecture": "textcnn",
            "workers": 1,
            "epochs": 2,
            "batch_size": 32,
            "nets": {"textcnn": TINY["textcnn"]},
        }
    )
    folders = ["clean", "augmented", "tokens", "trained", "tuned"]
    made = reviews.job("evaluate", folders, [], params(folds=3, learning_curve=[0.5, 1.0]))
    return replace(made, sections={**reviews.sections, "train": train}, state=tmp_path / "state")


def groups_of(job: Job, split: str, folder: Path) -> set[str]:
    """The groups of the rows of clean that a fold's tokens have, those of augmented rows too."""
    rows = refits.rows_to_divide(job)
    group_of = dict(zip(rows["id"].to_pylist(), rows["group"].to_pylist(), strict=True))
    augmented = read_table(job.inputs["augmented"], "train")
    parents = zip(augmented["id"].to_pylist(), augmented["parent"].to_pylist(), strict=True)
    group_of |= {name: group_of[parent] for name, parent in parents}
    return {group_of[name] for name in read_table(folder / "tokens", split)["id"].to_pylist()}


def test_each_row_is_judged_once_by_a_fit_that_saw_none_of_its_group(
    job: Job, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_test(folder: Path, part: str | None = None, *columns: Any) -> pa.Table:
        assert part in ("train", "validation")
        return read_table(folder, part, *columns)

    monkeypatch.setattr(refits, "read_table", without_test)
    result = resample(job, NETWORK, job.root / "compressed" / "small")
    assert result.recipe == "trained"
    rows = refits.rows_to_divide(job)
    assert sum(fold.cases for fold in result.folds) == rows.num_rows
    folders = sorted((job.state / "refits").glob("fold-*"))
    assert len(folders) == 3
    seen = [groups_of(job, "train", folder) for folder in folders]
    stopping = [groups_of(job, "validation", folder) for folder in folders]
    everything = set(rows["group"].to_pylist())
    judged = []
    for train, stops in zip(seen, stopping, strict=True):
        assert not train & stops
        judged.append(everything - train - stops)
    assert not judged[0] & judged[1]
    assert set.union(*judged) == everything
    encoders = {next((folder / "tokens" / "encoder").iterdir()).read_bytes() for folder in folders}
    assert len(encoders) == 3


def test_shares_are_nested_and_judged_on_validation(job: Job, network: Path) -> None:
    result = resample(job, NETWORK, network)
    half, whole = result.curve
    parts = {name: read_table(job.inputs["clean"], name) for name in ("train", "validation")}
    assert (half.cases, whole.cases) == (parts["validation"].num_rows,) * 2
    assert whole.train_rows == parts["train"].num_rows
    assert half.train_rows == pytest.approx(whole.train_rows / 2, abs=3)
    folders = [next((job.state / "refits").glob(f"share-{share}-*")) for share in ("0.5", "1")]
    names = [set(read_table(folder / "tokens", "train")["id"].to_pylist()) for folder in folders]
    assert names[0] < names[1]
    low, high = result.gain or (1.0, -1.0)
    assert low <= high


def test_fits_that_ended_before_a_kill_are_not_repeated(
    job: Job, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []
    fit = refits.fit_distributed

    def killed_at_the_third(spec: Any, journal: Any) -> Any:
        fitted.append(spec.state.parent.name.rpartition("-")[0])
        if len(fitted) == 3:
            raise EnvironmentFault("killed", where="here", remedy="go on")
        return fit(spec, journal)

    monkeypatch.setattr(refits, "fit_distributed", killed_at_the_third)
    with pytest.raises(EnvironmentFault):
        resample(job, NETWORK, network)
    result = resample(job, NETWORK, network)
    assert fitted == ["fold-1", "fold-2", "fold-3", "fold-3", "share-0.5", "share-1"]
    monkeypatch.setattr(refits, "fit_distributed", None)
    assert resample(job, NETWORK, network) == result


def test_a_baseline_that_wins_is_fitted_again(bars: StageRunner, tmp_path: Path) -> None:
    from components.stages.train.stage import _fit_baseline

    made = bars.job("evaluate", ["clean", "augmented", "tokens"], [], params(folds=2))
    trained = tmp_path / "trained"
    train_job = replace(made, params=bars.sections["train"], outputs={"trained": trained})
    _fit_baseline(replace(train_job, state=tmp_path), "classical")
    folders = {**made.inputs, "trained": tmp_path / "no", "tuned": tmp_path / "no"}
    result = resample(
        replace(made, inputs=folders, state=tmp_path / "state"), BASELINE, trained / "classical"
    )
    assert result.recipe == "classical"
    assert [fold.name for fold in result.folds] == ["fold-1", "fold-2"]
    assert all((fold.metrics["accuracy"] or 0) > 0.8 for fold in result.folds)
    mean, error = mean_and_error([fold.metrics["macro_f1"] for fold in result.folds]) or (0, 0)
    journal = (tmp_path / "state" / "journal.jsonl").read_text(encoding="utf-8")
    assert f"2 folds of classical: macro_f1 {mean:.4f} ± {error:.4f}" in journal
    # Nothing of a share was asked for.
    assert (result.curve, result.gain) == ([], None)


def test_nothing_is_fitted_unless_params_ask_for_it(job: Job, tmp_path: Path) -> None:
    assert not resample(replace(job, params=params()), NETWORK, tmp_path).folds
    assert not (job.state / "refits").exists()


def test_rows_of_a_group_are_together_and_each_fold_has_its_share_of_each_stratum(
    tmp_path: Path,
) -> None:
    rows = [{**row, "group": f"g{number // 3}"} for number, row in enumerate(pictures(600))]
    runner = StageRunner.make(tmp_path, rows, IMAGE).clean()
    job = runner.job("evaluate", ["clean"], [], params())
    table = refits.rows_to_divide(job)
    positions = group_positions(job, table, seed=3)
    of_group: dict[str, set[float]] = {}
    for group, position in zip(table["group"].to_pylist(), positions, strict=True):
        of_group.setdefault(group, set()).add(position)
    assert all(len(values) == 1 for values in of_group.values())
    sizes = np.bincount((positions * 5).astype(int), minlength=5)
    assert sizes.max() - sizes.min() <= 12
    assert (group_positions(job, table, seed=3) == positions).all()
    assert (group_positions(job, table, seed=4) != positions).any()


def test_more_folds_than_groups_are_refused(job: Job, network: Path, tmp_path: Path) -> None:
    rows = [{**row, "group": f"g{number % 12}"} for number, row in enumerate(sentences(120))]
    runner = StageRunner.make(tmp_path, rows).clean()
    few = replace(job, inputs={**job.inputs, "clean": runner.root / "clean"})
    with pytest.raises(
        InputError, match=r"groups of rows, too few for 40 folds\n.*set it to at most"
    ):
        resample(replace(few, params=params(folds=40)), NETWORK, network)
    with pytest.raises(InputError, match=r"the share 0\.001 of \d+ train rows has no row"):
        resample(replace(few, params=params(learning_curve=[0.001])), NETWORK, network)


def test_train_rows_that_are_all_alike_are_refused(job: Job, network: Path, tmp_path: Path) -> None:
    """A split with one row of the second kind cannot be learned without it."""
    parts: dict[str, pa.Table] = {}
    for name in ("train", "validation"):
        table = read_table(job.inputs["clean"], name)
        is_first = np.array(table["label"].to_pylist()) == table["label"][0].as_py()
        parts[name] = table.filter(pa.array(is_first))
    other = read_table(job.inputs["clean"], "validation").filter(pa.array(~is_first)).slice(0, 1)
    parts["validation"] = pa.concat_tables([parts["validation"], other])
    write_table(tmp_path / "clean", parts, {"classes": job_classes(job)})
    alone = replace(job, inputs={**job.inputs, "clean": tmp_path / "clean"})
    with pytest.raises(InputError, match=r"train rows of share-1 all have the same label"):
        resample(replace(alone, params=params(learning_curve=[1.0])), NETWORK, network)


def job_classes(job: Job) -> Any:
    from components.core.tables import read_manifest

    return read_manifest(job.inputs["clean"])["classes"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 1}, "leaves no rows to learn from"),
        ({"folds": -2}, "greater than or equal to 0"),
        ({"learning_curve": [0.5, 0.1]}, "must rise from share to share"),
        ({"learning_curve": [0.5, 0.5]}, "must rise from share to share"),
        ({"learning_curve": [0.0, 1.0]}, "greater than 0"),
        ({"learning_curve": [2.0]}, "less than or equal to 1"),
    ],
)
def test_params_of_no_use_are_refused(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        params(**values)


def test_folds_of_rows_in_time_are_refused_before_the_run(tmp_path: Path) -> None:
    text = (ROOT / "pipelines" / "flights" / "params.yaml").read_text(encoding="utf-8")
    assert "split_by: time" in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("\nevaluate:", "\nevaluate:\n  folds: 5", 1), encoding="utf-8")
    with pytest.raises(ParamsError, match="folds would learn from later rows"):
        load(path)


def test_the_mean_of_folds_has_a_standard_error() -> None:
    assert mean_and_error([0.8, 0.9, 1.0]) == pytest.approx((0.9, 0.1 / np.sqrt(3)))
    assert mean_and_error([1.0, 1.0, 1.0]) == (1.0, 0.0)
    assert mean_and_error([0.8, None]) is None
    assert mean_and_error([]) is None
    fold = refits.RefitResult("fold-1", 10, 5, {"rmse": 2.0}, [1.0, 3.0], {"error": [1.0]})
    found = resampling.Resampling("x", [fold, replace(fold, name="fold-2", metrics={"rmse": 4.0})])
    assert resampling.fold_metrics(found, ["rmse"])["rmse"] == {
        "mean": 3.0,
        "standard_error": pytest.approx(1.0),
        "fold-1": 2.0,
        "fold-2": 4.0,
    }
    assert "stats" not in resampling.as_json(found)["folds"][0]

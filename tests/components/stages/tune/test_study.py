"""Studies: what goes on, what is new and why, and what is kept of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stage_runner import TEXT

from components.core.errors import EnvironmentFault
from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.stage import ended, table, winner
from components.stages.tune.study import MonitoredMetric, Study, Trial

SPACE = {"learning_rate": {"loguniform": [1e-4, 1e-2]}}
WATCHED = MonitoredMetric("validation_f", "max")


def study(root: Path, key: str, data: str = "a", rate: float = 1e-3, **knobs: Any) -> Study:
    """A study under a key, as the stage opens it."""
    (root / "tokens").mkdir(exist_ok=True)
    (root / "tokens" / "manifest.json").write_text(data)
    train = section_model("train", TEXT).model_validate(
        {"architecture": "textcnn", "learning_rate": rate}
    )
    job = Job(
        "tune",
        TEXT,
        7,
        root,
        TuneParams.model_validate({"space": SPACE, **knobs}),
        {"train": train},
        {"tokens": root / "tokens"},
        {},
        root / "tune" / key,
    )
    return Study(job)


def filled(found: Study, count: int = 3) -> Study:
    """With trials: finished, failed, and one that is under way."""
    for number in range(count):
        found.begin(number, {"learning_rate": 0.001 * (number + 1)})
        found.add(number, {"epoch": 1.0, "validation_f": number / 10})
    found.end(0, "finished")
    found.end(1, "failed", "ValueError: no")
    return found


def test_a_killed_search_is_read_again_whole(tmp_path: Path) -> None:
    before = filled(study(tmp_path, "k1"))
    before.spend(12.5)
    again = study(tmp_path, "k1")
    assert again.trials == before.trials
    assert (again.spent, again.before) == (12.5, 2)
    assert (
        again.welcome(8)
        == "going on with study k1: 2 of 8 trials are finished already and are not run again; 6 more"
    )


def test_a_finished_study_is_extended_and_its_folder_may_go(tmp_path: Path) -> None:
    import shutil

    # given a study that came to its end, and whose state is gone
    done = filled(study(tmp_path, "k1"))
    done.close()
    shutil.rmtree(done.state)
    # when it is opened again
    again = study(tmp_path, "k1", trials=12)
    # then what had ended is known, with files as if it had run here, and a point on MLflow's curves; what was cut is not
    assert again.trials == {number: trial for number, trial in done.trials.items() if trial.outcome}
    assert (again.folder(0) / "rows.json").exists()
    assert again.journal.path.read_text().count('"kind": "metrics"') == 2
    assert "2 of 12 trials are finished already" in again.welcome(12)
    # and opened once more, nothing is told twice
    assert study(tmp_path, "k1").journal.path.read_text().count('"kind": "metrics"') == 2


def test_a_new_study_says_what_was_changed(tmp_path: Path) -> None:
    assert study(tmp_path, "k1").welcome(8) == "a new study k1: the first of this pipeline"
    filled(study(tmp_path, "k1")).close()
    assert study(tmp_path, "k2", epochs=5).welcome(8) == "a new study k2: tune.epochs changed"
    assert study(tmp_path, "k2", data="b").welcome(8) == "a new study k2: the data changed"
    assert (
        study(tmp_path, "k2", rate=0.1, searcher="optuna").welcome(8)
        == "a new study k2: train.learning_rate, tune.searcher changed"
    )
    assert (
        study(tmp_path, "k2", trials=99, total_epochs=3).welcome(8)
        == "a new study k2: the code of net, loss or encoder changed"
    )
    # the newest one is what a person remembers, whether it came to its end or not
    filled(study(tmp_path, "k3", epochs=6))
    os.utime(tmp_path / "tune/k3/study.json", (2e9, 2e9))
    assert study(tmp_path, "k2", epochs=5).welcome(8) == "a new study k2: tune.epochs changed"
    assert (
        study(tmp_path, "k2", epochs=6, data="b").welcome(8) == "a new study k2: the data changed"
    )


def test_only_the_newest_studies_are_kept_and_no_checkpoints(tmp_path: Path) -> None:
    for number in range(23):
        found = filled(study(tmp_path, f"k{number}"))
        found.close()
        os.utime(tmp_path / f"tune/studies/k{number}.json", (1e9 + number, 1e9 + number))
    kept = {path.name for path in (tmp_path / "tune/studies").iterdir()}
    assert kept == {f"k{number}.json" for number in range(3, 23)}

    for name in ("checkpoints/step-1.pt", "best.safetensors", "fitted.json", "failure.json"):
        (found.folder(0) / name).parent.mkdir(exist_ok=True)
        (found.folder(0) / name).write_text("0")
    found.clear(0)
    assert {path.name for path in found.folder(0).iterdir()} == {
        "values.json",
        "rows.json",
        "outcome.json",
    }


def test_a_row_that_is_known_is_not_added_again(tmp_path: Path) -> None:
    found = filled(study(tmp_path, "k1"))
    for epoch in (1.0, 2.0, 1.0, 2.0):
        found.add(2, {"epoch": epoch, "validation_f": epoch})
    found.add(0, {"epoch": 2.0, "validation_f": 9.0})  # it has ended
    assert [row["validation_f"] for row in found.trials[2].rows] == [0.2, 2.0]
    assert len(found.trials[0].rows) == 1


def test_what_is_written_behind_is_there_at_the_end_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (before := study(tmp_path, "k1")).behind():
        filled(before)
    assert study(tmp_path, "k1").trials == before.trials

    def full(*_: Any) -> None:
        raise EnvironmentFault("cannot be written: no space", where="disk", remedy="free some")

    with pytest.raises(EnvironmentFault, match="no space"), before.behind():
        monkeypatch.setattr("components.stages.tune.study.write_atomic", full)
        before.add(2, {"epoch": 2.0, "validation_f": 0.3})


ROW = {"epoch": 1.0, "validation_f": 0.5}
TRIALS = [
    Trial(0, {"a": [1, 2]}, [ROW], "finished"),
    Trial(1, {"b": "x"}, [ROW, {"epoch": 2.0, "validation_f": 0.4}]),
    Trial(2, {"a": 1}),
    Trial(3, {}, [], "failed", "E: no"),
]


def test_what_a_budget_cut_counts_as_stopped_and_what_had_no_figure_not_at_all() -> None:
    assert [(trial.number, trial.outcome) for trial in ended(TRIALS, "time")] == [
        (0, "finished"),
        (1, "stopped"),
        (3, "failed"),
    ]
    assert [(trial.number, trial.outcome, trial.error) for trial in ended(TRIALS, "trials")][2] == (
        2,
        "failed",
        "it ended without a word",
    )
    assert table(ended(TRIALS, "epochs"), WATCHED).splitlines() == [
        "trial,monitored_metric,validation_f,epochs,outcome,a,b",
        '0,0.5,0.5,1,finished,"[1, 2]",',
        "1,0.5,0.5,2,stopped,,x",
        "3,,,0,failed,,",
    ]


def test_the_winner_is_the_first_of_the_best() -> None:
    assert winner(TRIALS, WATCHED).number == 0
    assert winner(TRIALS, MonitoredMetric("validation_f", "min")).number == 1
    with pytest.raises(Exception, match="all 1 trials failed; the first said: E: no"):
        winner(TRIALS[3:], WATCHED)
    with pytest.raises(Exception, match="budget was used up"):
        winner([], WATCHED)

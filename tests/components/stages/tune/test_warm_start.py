"""Warm start: what of earlier searches is tried first, what is left out, and that a study keeps to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from stage_runner import TEXT

from components.core.errors import EnvironmentFault
from components.core.job import Job
from components.orchestration.pipeline_params import section_model
from components.registry.tracking.trials import LoggedTrial
from components.stages.tune import warm_start
from components.stages.tune.params import TuneParams
from components.stages.tune.search_space import Values
from components.stages.tune.searchers import asker
from components.stages.tune.study import MonitoredMetric, Study
from components.stages.tune.warm_start import before, first_tried, fitting

WATCHED = MonitoredMetric("validation_f", "max")
TRAIN: BaseModel = section_model("train", TEXT).model_validate(
    {"architecture": "textcnn", "workers": 2}
)
SPACE: dict[str, Any] = {
    "architecture": {"choice": ["textcnn", "transformer"]},
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "batch_size": {"choice": [2, 64]},  # two workers need four rows: train refuses the first
    "nets.textcnn.kernels": {"choice": [[1, 2], [1, 2, 3]]},
    "nets.transformer.layers": {"int": [1, 3]},
    "compile": {"choice": [True, False]},
    "warmup_steps": {"choice": [None, 5], "when": {"compile": [True]}},
}
CONVOLUTION: Values = {
    "architecture": "textcnn",
    "learning_rate": 0.00123456789,
    "batch_size": 64,
    "nets.textcnn.kernels": [1, 2, 3],
    "compile": False,
}
ATTENTION: Values = {
    "architecture": "transformer",
    "learning_rate": 1e-4,
    "batch_size": 64,
    "nets.transformer.layers": 3,
    "compile": True,
    "warmup_steps": None,
}


def texts(values: Values) -> dict[str, str]:
    """As MLflow has them."""
    return {path: str(value) for path, value in values.items()}


def params(**knobs: Any) -> TuneParams:
    return TuneParams.model_validate({"space": SPACE, "warm_start": 3, **knobs})


@pytest.mark.parametrize("values", [CONVOLUTION, ATTENTION])
def test_what_the_space_can_draw_is_read_as_it_was_drawn(values: Values) -> None:
    read = fitting(texts(values), params().space, TRAIN)
    assert read == values
    assert {path: type(value) for path, value in (read or {}).items()} == {
        path: type(value) for path, value in values.items()
    }


@pytest.mark.parametrize(
    ("change", "left_out"),
    [
        ({"optimizer": "adam"}, "a path that the space has not"),
        ({"batch_size": None}, "a path that is missing"),
        ({"learning_rate": "0.02"}, "outside the range"),
        ({"learning_rate": "nan"}, "no number"),
        ({"learning_rate": "fast"}, "no number"),
        ({"nets.textcnn.kernels": "[1]"}, "not one of the choices"),
        ({"warmup_steps": "5"}, "its `when` is not met"),
        ({"compile": "True"}, "a `when` is met and the path is missing"),
        ({"nets.transformer.layers": "2"}, "of another net"),
        ({"batch_size": "2"}, "train refuses it"),
    ],
)
def test_what_the_space_cannot_draw_is_left_out(
    change: dict[str, str | None], left_out: str
) -> None:
    told = {path: text for path, text in (texts(CONVOLUTION) | change).items() if text is not None}
    assert fitting(told, params().space, TRAIN) is None, left_out


class Store:
    """Earlier trials, the best first, and a stage that asks for them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.found, self.asked = root, list[LoggedTrial](), 0
        (root / "tokens").mkdir()
        (root / "tokens" / "manifest.json").write_text("a")
        monkeypatch.setattr(warm_start, "best_trials", self.best_trials)

    def best_trials(self, *_: Any) -> list[LoggedTrial]:
        self.asked += 1
        return self.found

    def open(self, **knobs: Any) -> tuple[Study, list[Values]]:
        """A study, and what it tries first."""
        job = Job(
            "tune",
            TEXT,
            7,
            self.root,
            params(**knobs),
            {"train": TRAIN},
            {"tokens": self.root / "tokens"},
            {},
            self.root / "tune" / "key",
            {"pipeline": "default"},
        )
        study = Study(job)
        return study, first_tried(study, job, TRAIN, WATCHED)

    def said(self) -> str:
        path = self.root / "tune/key/journal.jsonl"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(tmp_path, monkeypatch)


def test_the_best_that_fit_are_tried_first_and_stay_the_same(earlier: Store) -> None:
    # given trials of three searches: one twice, two that do not fit, one more than is asked for
    third = CONVOLUTION | {"learning_rate": 0.002}
    rows = [
        ("s1", {"width": 1}),
        ("s1", CONVOLUTION),
        ("s2", CONVOLUTION),
        ("s2", {}),
        ("s3", ATTENTION),
        ("s3", third),
        ("s3", third | {"compile": True}),
    ]
    earlier.found = [LoggedTrial(search, texts(values)) for search, values in rows]
    # when a study is new
    study, first = earlier.open()
    assert first == [CONVOLUTION, ATTENTION, third]
    assert (
        "warm start: 3 of the 5 best configurations of 3 earlier searches fit this space and are tried first"
        in earlier.said()
    )
    # then a kill, whether a trial was begun or not, and other earlier searches and knobs change nothing
    earlier.found = []
    assert earlier.open()[1] == first
    study.begin(0, first[0])
    assert earlier.open(warm_start=1, trials=50)[1] == first
    study.end(0, "finished")
    # and neither does the end of the search, which is extended
    study.close()
    shutil.rmtree(study.state)
    assert earlier.open()[1] == first
    assert earlier.asked == 1


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_the_searcher_goes_on_after_them(searcher: str) -> None:
    own = asker(params(searcher=searcher), TRAIN, 7, WATCHED)
    ask = before([ATTENTION, CONVOLUTION, CONVOLUTION | {"batch_size": 2}], own, TRAIN)
    assert [ask(number, []) for number in range(2)] == [ATTENTION, CONVOLUTION]
    # the third was allowed with fewer workers
    assert [ask(number, []) for number in (2, 3)] == [own(number, []) for number in (2, 3)]


def test_a_study_that_goes_on_is_not_altered(earlier: Store) -> None:
    study, first = earlier.open(warm_start=0)
    assert (first, earlier.asked, earlier.said()) == ([], 0, "")
    study.begin(0, CONVOLUTION)
    assert earlier.open()[1] == []
    assert earlier.asked == 0
    assert "warm start: not in a study that goes on" in earlier.said()


def test_without_anything_that_fits_a_search_begins_cold_and_says_so(
    earlier: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> list[LoggedTrial]:
        raise EnvironmentFault("the MLflow database cannot be used: database is locked", where="db")

    def cold() -> str:
        study, first = earlier.open()
        assert first == []
        said = earlier.said()
        assert earlier.open()[1] == []  # it stays so after a kill, and is said once
        assert earlier.said() == said
        shutil.rmtree(study.state)
        return said

    assert (
        "warm start: MLflow knows no earlier search of this task; the search begins cold" in cold()
    )
    earlier.found = [LoggedTrial("s", {"width": "1"})]
    assert (
        "warm start: none of the 1 best configurations of an earlier search fits this space; the search begins cold"
        in cold()
    )
    monkeypatch.setattr(warm_start, "best_trials", away)
    assert (
        "warm start: the MLflow database cannot be used: database is locked; the search begins cold"
        in cold()
    )


def test_a_grid_takes_none(earlier: Store) -> None:
    counted = {"space": {"batch_size": {"choice": [64]}}, "searcher": "grid"}
    assert params(**counted, warm_start=0).warm_start == 0
    with pytest.raises(ValidationError, match="warm_start is for searcher random and optuna"):
        params(**counted)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        params(warm_start=-1)

"""The space of a search: checked beforehand, and a trial is a function of seed and number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError
from stage_runner import TEXT

from components.core.errors import ParamsError
from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.search_space import check_space, with_values
from components.stages.tune.searchers import draw

TRAIN: BaseModel = section_model("train", TEXT).model_validate({"architecture": "textcnn"})
SPACE: dict[str, Any] = {
    "architecture": {"choice": ["textcnn", "transformer"]},
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "label_smoothing": {"uniform": [0.0, 0.2]},
    "batch_size": {"choice": [32, 64]},
    "nets.textcnn.channels": {"int": [32, 40]},
    "nets.transformer.layers": {"int": [1, 3]},
}


def space(tree: dict[str, Any]) -> Any:
    """As params.yaml gives it."""
    return TuneParams.model_validate({"space": tree}).space


def test_a_trial_is_a_function_of_seed_and_number() -> None:
    first = [draw(space(SPACE), TRAIN, 7, number) for number in range(6)]
    backwards = dict(reversed(SPACE.items()))
    assert [draw(space(backwards), TRAIN, 7, number) for number in reversed(range(6))] == first[
        ::-1
    ]
    assert len({str(values) for values in first}) == 6
    assert draw(space(SPACE), TRAIN, 8, 0) != first[0]


def test_draws_stay_in_the_space_and_leave_out_the_other_net() -> None:
    drawn = [draw(space(SPACE), TRAIN, 1, number) for number in range(200)]
    for values in drawn:
        other = {"textcnn": "nets.transformer.layers", "transformer": "nets.textcnn.channels"}[
            values["architecture"]
        ]
        assert set(values) == set(SPACE) - {other}
        assert 1e-4 <= values["learning_rate"] <= 1e-2
        assert 0 <= values["label_smoothing"] <= 0.2
        assert values["batch_size"] in (32, 64)
        with_values(TRAIN, values)
    assert {values.get("nets.transformer.layers") for values in drawn} == {
        None,
        1,
        2,
        3,
    }  # both ends included
    assert 40 < sum(values["architecture"] == "textcnn" for values in drawn) < 160
    logs = np.log10([values["learning_rate"] for values in drawn])
    assert 60 < (logs < -3).sum() < 140  # each order of magnitude as likely


def test_without_a_choice_of_architecture_the_nets_of_train_are_drawn() -> None:
    values = draw(
        space({key: value for key, value in SPACE.items() if key != "architecture"}), TRAIN, 1, 0
    )
    assert "nets.textcnn.channels" in values
    assert "nets.transformer.layers" not in values


def test_what_train_refuses_is_drawn_again_and_given_up_in_the_end() -> None:
    narrow = space({"batch_size": {"choice": [2, 64]}})  # two workers need four rows
    assert {draw(narrow, TRAIN, 1, number)["batch_size"] for number in range(20)} == {64}
    with pytest.raises(ParamsError, match="no allowed combination"):
        draw(space({"batch_size": {"choice": [2]}}), TRAIN, 1, 0)


def test_settled_puts_values_at_their_paths_and_leaves_the_rest() -> None:
    made: Any = with_values(TRAIN, {"nets.transformer.layers": 3, "epochs": 2})
    assert (made.nets.transformer.layers, made.epochs) == (3, 2)
    assert made.nets.textcnn == TRAIN.nets.textcnn  # type: ignore[attr-defined]
    assert TRAIN.epochs == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"lerning_rate": {"choice": [1e-3]}},
            r"tune.space.lerning_rate: train has no 'lerning_rate' there.*; known: .*learning_rate",
        ),
        (
            {"nets.textcnn.chanels": {"int": [1, 2]}},
            r"tune.space.nets.textcnn.chanels: train has no 'chanels' there.*; known: channels, .*kernels",
        ),
        (
            {"epochs.more": {"int": [1, 2]}},
            r"tune.space.epochs.more: train has no 'more' there; known: nothing",
        ),
        (
            {"architecture": {"choice": ["textcnn", "rnn"]}},
            r"tune.space.architecture: 'rnn': Input should be 'ngrams', 'textcnn', 'counted', 'recurrent', 'transformer' or 'pretrained'",
        ),
        (
            {"learning_rate": {"loguniform": [1e-3, 100]}},
            r"tune.space.learning_rate: 100.0: .*less than or equal to 10",
        ),
        (
            {"batch_size": {"uniform": [32, 64]}},
            r"tune.space.batch_size: 32.0: Input should be a valid integer",
        ),
        (
            {"momentum": {"uniform": [0.5, 0.9], "when": {"optimiser": ["sgd"]}}},
            r"tune.space.momentum.when.optimiser: train has no 'optimiser' there .did you mean 'optimizer'",
        ),
        (
            {"momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": ["sgdd"]}}},
            r"tune.space.momentum.when.optimizer: 'sgdd': Input should be",
        ),
        (
            {"momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": ["sgd"]}}},
            r"when.optimizer: never holds: train.optimizer is 'adamw', and tune.space does not vary it",
        ),
        (
            {
                "optimizer": {"choice": ["adam", "sgd"]},
                "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": ["muon"]}},
            },
            r"momentum.when.optimizer: 'muon' is not in tune.space.optimizer",
        ),
        (
            {
                "batch_size": {"int": [32, 64]},
                "momentum": {"uniform": [0.5, 0.9], "when": {"batch_size": [65]}},
            },
            r"momentum.when.batch_size: 65 is not in tune.space.batch_size",
        ),
        (
            {
                "epochs": {"int": [1, 2], "when": {"patience": [1]}},
                "patience": {"int": [1, 2], "when": {"epochs": [1]}},
            },
            r"the conditions of epochs -> patience -> epochs go in a circle",
        ),
        (
            {"nets.transformer.heads": {"choice": [4, 5]}},
            r"tune.space.nets.transformer.heads: 5: .*even multiple",
        ),
    ],
)
def test_mistakes_are_named(tree: dict[str, Any], message: str) -> None:
    (found, *_) = check_space(space(tree), TRAIN)
    assert re.search(message, found)


def test_a_right_space_has_no_mistakes_and_all_mistakes_come_at_once() -> None:
    assert check_space(space(SPACE), TRAIN) == []
    assert (
        len(
            check_space(
                space({"a": {"choice": [1]}, "b": {"choice": [1]}, "epochs": {"choice": [0, -1]}}),
                TRAIN,
            )
        )
        == 4
    )


@pytest.mark.parametrize(
    "dimension",
    [
        {"uniform": [1, 1]},
        {"int": [3, 2]},
        {"loguniform": [0, 1]},
        {"loguniform": [-1, 1]},
        {"choice": []},
        {"normal": [0, 1]},
        {"int": [1, 2, 3]},
        {"uniform": ["a", "b"]},
        {},
        {"choice": [1e-3], "uniform": [0.1, 0.2]},
        {"when": {"optimizer": ["sgd"]}},
    ],
    ids=str,
)
def test_dimensions_that_say_nothing_are_refused(dimension: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        space({"learning_rate": dimension})


def test_the_grace_cannot_outlast_the_trials() -> None:
    with pytest.raises(ValidationError, match="grace_epochs 5 is more than epochs 4"):
        TuneParams.model_validate({"space": SPACE, "grace_epochs": 5})


def test_a_dimension_is_drawn_only_when_its_condition_holds() -> None:
    tree = {
        "optimizer": {"choice": ["adam", "sgd"]},
        "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": ["sgd", "muon"]}},
        "l1": {"uniform": [0.0, 0.1], "when": {"momentum": [0.9]}},
    }
    drawn = [
        draw(space({key: tree[key] for key in ("optimizer", "momentum")}), TRAIN, 3, number)
        for number in range(40)
    ]
    assert {(values["optimizer"], "momentum" in values) for values in drawn} == {
        ("adam", False),
        ("sgd", True),
    }
    # what is not drawn counts with train's own value, which for momentum is 0.9
    assert all(
        ("l1" in values) == ("momentum" not in values)
        for values in (draw(space(tree), TRAIN, 3, number) for number in range(40))
    )


def test_a_dimension_is_written_down_as_a_person_wrote_it() -> None:
    written = {
        "learning_rate": {"loguniform": (1e-4, 1e-2)},
        "momentum": {"uniform": (0.5, 0.9), "when": {"optimizer": ["sgd"]}},
    }
    assert TuneParams.model_validate({"space": written}).model_dump()["space"] == written

"""Recipes in params: what they resolve to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from components.stages.compress.params import (
    CompressParams,
    Prune,
    Step,
    Target,
    check_recipes,
    resolved_recipes,
)
from components.tasks import base

ARCHITECTURES = base.models("text_classification").architectures
STUDENT = {"architecture": "textcnn", "nets": {}}


def params(**knobs: Any) -> CompressParams:
    return CompressParams.model_validate({"distill": STUDENT} | knobs)


def test_by_default_each_step_is_a_recipe_of_its_own() -> None:
    recipes, skipped = resolved_recipes(params())
    assert {name: [step.name for step in steps] for name, steps in recipes.items()} == {
        "pruned": ["prune"],
        "int8": ["quantize"],
        "distilled": ["distill"],
    }
    assert skipped == {}


def test_a_recipe_changes_some_settings_of_a_step() -> None:
    given = params(prune={"share": 0.3, "epochs": 7}, recipes={"a": [{"prune": {"share": 0.9}}]})
    recipes, _ = resolved_recipes(given)
    assert recipes == {"a": [Step("prune", Prune(share=0.9, epochs=7))]}


def test_a_recipe_with_a_step_that_is_null_is_skipped() -> None:
    given = params(quantize=None, recipes={"a": ["prune", "quantize"], "b": ["prune"]})
    recipes, skipped = resolved_recipes(given)
    assert list(recipes) == ["b"]
    assert skipped == {"a": "quantize"}


def test_settings_in_a_recipe_bring_back_a_step_that_is_null() -> None:
    given = params(prune=None, recipes={"a": [{"prune": {"share": 0.2}}, "export"]})
    recipes, skipped = resolved_recipes(given)
    assert recipes == {"a": [Step("prune", Prune(share=0.2)), Step("export", None)]}
    assert skipped == {}


def test_a_student_of_an_ensemble_may_be_cut() -> None:
    given = params(recipes={"a": ["ensemble", "distill", "prune", "finetune", "quantize"]})
    assert check_recipes(given, ARCHITECTURES) == []


def test_a_mapping_is_a_target() -> None:
    recipes, _ = resolved_recipes(params(recipes={"fast": {"speedup": 8, "max_drop": 0.02}}))
    assert recipes == {"fast": Target(speedup=8.0, max_drop=0.02)}


@pytest.mark.parametrize(
    ("recipes", "mistake"),
    [
        (
            {"a": ["prone"]},
            "compress.recipes.a[0]: 'prone' is not one of ensemble, prune, finetune, quantize, "
            "distill, export",
        ),
        (
            {"a": ["quantize", "prune"]},
            "compress.recipes.a[0]: quantize must be the last step: a graph cannot be fitted",
        ),
        (
            {"a": [{"quantize": {"bits": 4}}]},
            "bits: 4 needs method: weights; static has 8 bits",
        ),
        (
            {"a": [{"quantize": {"method": "fp16", "max_drop": 0.01}}]},
            "max_drop: needs integers; set it to null for method: fp16",
        ),
        (
            {"a": [{"quantize": {"method": "weights", "bits": 2}}]},
            "compress.recipes.a[0].quantize.bits",
        ),
        ({"a": []}, "compress.recipes.a: has no steps; remove it, or name one of ensemble"),
        ({"a": [3]}, "compress.recipes.a[0]: 3 is not a step; write its name"),
        (
            {"../a": ["prune"]},
            "compress.recipes.../a: a name has lower-case letters, digits, - and _, at most 40",
        ),
        ({"tuned": ["prune"]}, "name other models; choose another name"),
        (
            {"a": [{"prune": {"share": 2}}]},
            "compress.recipes.a[0].prune.share: 2: input should be less than 1",
        ),
        ({"a": [{"prune": {"shore": 0.2}}]}, "compress.recipes.a[0].prune.shore"),
        (
            {"a": [{"prune": {"share": 0}}]},
            "share and layers are both 0, which cuts nothing; set one of them",
        ),
        (
            {"a": [{"prune": {"layers": 1}}]},
            "compress.recipes.a[0].prune.layers: 1: input should be less than 1",
        ),
        (
            {"a": [{"quantize": {"method": "weights", "qat": {}}}]},
            "qat: needs method: static; set it to null for weights",
        ),
        (
            {"a": [{"quantize": {"qat": {"epochs": 0}}}]},
            "compress.recipes.a[0].quantize.qat.epochs: 0: input should be",
        ),
        (
            {"a": [{"prune": {"method": "unstructured", "layers": 0.5}}]},
            "method: unstructured cuts weights by magnitude; set layers to 0",
        ),
        (
            {"a": [{"prune": {"method": "2:4", "score": "taylor"}}]},
            "method: 2:4 cuts weights by magnitude; set layers to 0 and score to magnitude",
        ),
        (
            {"a": [{"prune": {"method": "2:4", "share": 0.7}}]},
            "method: 2:4 cuts half of the weights at once; leave share and rounds",
        ),
        ({"a": [{"prune": 0.2}]}, "takes no settings of this kind: 0.2"),
        (
            {"a": [{"export": {"format": "onnx"}}]},
            "compress.recipes.a[0].export: takes no settings",
        ),
        (
            {"a": [{"distill": {"architecture": "lstm"}}]},
            "compress.recipes.a[0].distill.architecture: 'lstm' is not one of",
        ),
        (
            {"a": ["distill", "ensemble"]},
            "compress.recipes.a[1]: ensemble must be the first step: it takes the fitted networks",
        ),
        (
            {"a": ["ensemble", "prune"]},
            "compress.recipes.a[1]: prune cannot follow ensemble, which is no single network; "
            "write distill between them",
        ),
        (
            {"a": [{"ensemble": {"fits": 2}}, {"finetune": {"epochs": 1}}]},
            "compress.recipes.a[1]: finetune cannot follow ensemble",
        ),
        (
            {"a": [{"ensemble": {"fits": 0}}]},
            "compress.recipes.a[0].ensemble.fits: 0: input should be greater than or equal to 1",
        ),
        (
            {"a": [{"ensemble": {"fits": 31}}]},
            "compress.recipes.a[0].ensemble.fits: 31: input should be less than or equal to 30",
        ),
        ({"a": [{"ensemble": {"picks": 1}}]}, "compress.recipes.a[0].ensemble.picks: 1"),
        ({"a": {"max_drop": 0.1}}, "asks for nothing; give it speedup or max_size_mb"),
        (
            {"a": {"speedup": 0.5}},
            "compress.recipes.a.speedup: 0.5: input should be greater than 1",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_place(recipes: dict[str, Any], mistake: str) -> None:
    mistakes = check_recipes(params(recipes=recipes), ARCHITECTURES)
    assert len(mistakes) == 1
    assert mistake in mistakes[0]

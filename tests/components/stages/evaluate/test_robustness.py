"""Small changes of queries: what they change, and how the winner's answers are compared."""

from __future__ import annotations

import base64
from difflib import SequenceMatcher
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_runner import StageRunner, png

from components.core.tables import read_table
from components.fields.base import Reject
from components.fields.image import decode
from components.inference.predictor import load
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.robustness import measure_changes
from components.tasks import base
from components.tasks.base import AnsweredSplit
from components.tasks.image_classification.evaluator import Query as Picture
from components.tasks.image_classification.picture_noise import PICTURE_NOISE, noisy, rotated
from components.tasks.text_classification.evaluator import Query as Text
from components.tasks.text_classification.typing_noise import TYPING_NOISE

PARAMS = EvaluateParams(resamples=100)
SWAP, DROP, DOUBLE = TYPING_NOISE


def typed(change: base.QueryChange, text: str, seed: int = 0) -> str:
    return str(change.apply(Text(text=text), np.random.default_rng(seed)).text)


def test_a_mistake_is_in_the_middle_of_a_word() -> None:
    for seed in range(20):
        assert typed(SWAP, "abcd", seed) == "acbd"
        assert typed(DROP, "abcd", seed) == "acd"
        assert typed(DOUBLE, "abcd", seed) == "abbcd"
        word = typed(DROP, "recommended", seed)
        assert (word[0], word[-1], len(word)) == ("r", "d", 10)


def test_a_tenth_of_the_words_has_a_mistake() -> None:
    text = " ".join(["abcdef"] * 40)
    changed = typed(DROP, text).split()
    assert len(changed) == 40
    assert sum(word != "abcdef" for word in changed) == 4


@pytest.mark.parametrize("text", ["物流很快，书也不错", "ok", "123456", "とても良い", "a b c"])
def test_texts_without_long_words_of_letters_stay(text: str) -> None:
    assert {typed(change, text) for change in TYPING_NOISE} == {text}


@given(st.text(min_size=1, max_size=80), st.integers(0, 9))
def test_any_text_stays_nearly_the_same(text: str, seed: int) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    for change in TYPING_NOISE:
        changed = typed(change, text, seed)
        assert changed
        assert SequenceMatcher(None, text, changed, autojunk=False).ratio() > 0.7
        assert typed(change, text, seed) == changed


def test_pictures_keep_their_size_and_most_of_their_pixels() -> None:
    rng = np.random.default_rng(0)
    for shape in ((8, 8), (1, 1), (40, 64), (64, 40, 3)):
        pixels = rng.integers(0, 255, shape).astype(np.uint8)
        query = Picture(image=base64.b64encode(png(pixels)).decode())
        for change in PICTURE_NOISE:
            changed = change.apply(query, np.random.default_rng(1))
            assert decode(base64.b64decode(changed.image), 1).shape[:2] == shape[:2]
    shift = PICTURE_NOISE[0].apply(query, np.random.default_rng(1))
    before, after = (decode(base64.b64decode(one.image), 3) for one in (query, shift))
    moves = [np.roll(before, (y, x), (0, 1)) for y, x in ((2, 0), (-2, 0), (0, 1), (0, -1))]
    assert max(np.mean(move == after) for move in moves) > 0.9


def test_noise_has_its_size_and_a_rotation_its_corners() -> None:
    gray = np.full((64, 64, 3), 128, np.uint8)
    noise = noisy(gray, np.random.default_rng(0)).astype(float)
    assert noise.std() == pytest.approx(8, rel=0.1)
    assert (noise[:, :, 0] == noise[:, :, 2]).all()
    # A plain picture has corners of its own color.
    assert (rotated(gray, np.random.default_rng(0)) == gray).all()


@pytest.fixture
def answered(reviews: StageRunner, network: Path) -> tuple[Any, AnsweredSplit]:
    """The network of `reviews` and its answers to the test cases."""
    predictor = load(network)
    cases = list(predictor.evaluator.cases(read_table(reviews.root / "clean", "test")))
    return predictor, AnsweredSplit(predictor.predict([case.query for case in cases]), cases)


def test_the_same_cases_are_compared(answered: tuple[Any, AnsweredSplit]) -> None:
    predictor, test = answered
    results = measure_changes(PARAMS, predictor, test, seed=3)
    assert results == measure_changes(PARAMS, predictor, test, seed=3)
    assert [result.name for result in results] == [change.name for change in TYPING_NOISE]
    for result in results:
        # Chinese texts are not changed.
        assert 0 < result.cases < len(test.cases)
        low, high = result.difference
        assert low <= result.after - result.before <= high
        assert 0 <= result.flipped <= result.cases
    few = measure_changes(PARAMS.model_copy(update={"robustness_cases": 3}), predictor, test, 3)
    assert all(result.cases <= 3 for result in few)
    assert not measure_changes(
        PARAMS.model_copy(update={"robustness_cases": 0}), predictor, test, 3
    )


def test_a_change_that_costs_answers_is_seen(answered: tuple[Any, AnsweredSplit]) -> None:
    """The change turns every text into that of another class."""
    predictor, test = answered
    right = [
        (answer, case)
        for answer, case in zip(test.answers, test.cases, strict=True)
        if answer.label == case.truth
    ]
    texts = {case.truth: case.query.text for _, case in right}
    first, second = texts.values()
    swap = base.QueryChange(
        "other", "别的", lambda query, _: Text(text=second if query.text == first else first)
    )
    evaluator = type("Swaps", (type(predictor.evaluator),), {"query_changes": (swap,)})()
    fooled = SimpleNamespace(evaluator=evaluator, predict=predictor.predict)
    pairs = [pair for pair in right if pair[1].query.text in (first, second)]
    split = AnsweredSplit([answer for answer, _ in pairs], [case for _, case in pairs])
    (result,) = measure_changes(PARAMS, fooled, split, seed=0)  # type: ignore[arg-type]
    assert (result.before, result.after, result.flipped) == (1.0, 0.0, len(pairs))
    assert result.difference == (-1.0, -1.0)


def test_a_changed_query_of_no_use_is_left_out(answered: tuple[Any, AnsweredSplit]) -> None:
    predictor, test = answered

    def predict(queries: list[Any]) -> list[Any]:
        if any(query.text.startswith("x") for query in queries):
            raise Reject("too_short")
        return list(predictor.predict(queries))

    def cut(query: Any, rng: np.random.Generator) -> Any:
        return replace_text(query, ("x" if rng.random() < 0.5 else "y") + query.text)

    def replace_text(query: Any, text: str) -> Any:
        return query.model_copy(update={"text": text})

    for change, left in ((cut, True), (lambda query, _: replace_text(query, "x"), False)):
        changes = (base.QueryChange("cut", "截断", change),)
        evaluator = type("Cuts", (type(predictor.evaluator),), {"query_changes": changes})()
        fooled = SimpleNamespace(evaluator=evaluator, predict=predict)
        results = measure_changes(PARAMS, fooled, test, seed=0)  # type: ignore[arg-type]
        assert bool(results) == left
        assert all(0 < result.cases < len(test.cases) for result in results)


def test_a_task_without_changes_has_no_results(answered: tuple[Any, AnsweredSplit]) -> None:
    predictor, test = answered
    evaluator = base.evaluator("tabular_regression")
    tables = SimpleNamespace(evaluator=evaluator, predict=predictor.predict)
    assert measure_changes(PARAMS, tables, test, seed=0) == []  # type: ignore[arg-type]

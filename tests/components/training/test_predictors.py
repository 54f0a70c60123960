"""A bundle answers alike alone and in company, whatever runs it, and only if it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as load_arrays
from stage_runner import StageRunner

from components.core.bundles import Card, add_to_profile
from components.core.errors import InputError
from components.core.tables import read_table
from components.fields.base import Reject
from components.inference.abstention import KEY
from components.inference.predictor import ARRAYS, WEIGHTS, Predictor, load
from components.metrics.selective_prediction import abstention_table, threshold
from components.tasks import base
from components.training.bundle_writer import save_numpy
from components.training.evaluation import validation_score

TEXTS = [
    "房间很干净,满意!",
    "the hotel was noisy and dirty",
    "好",
    "a",
    "从来没有见过的字 饕餮 zzz",
    " ".join(["lovely room"] * 40),
]


@pytest.fixture(scope="module")
def bundles(
    reviews: StageRunner, network: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A network and the baselines. (A network in ONNX: tests of compress.)"""
    root, classes = tmp_path_factory.mktemp("bundles"), ["好评", "差评"]
    for name, baseline in base.baselines(reviews.task).baselines.items():
        arrays, files = baseline.fit(
            read_table(reviews.root / "clean", "train"),
            {"classes": classes},
            reviews.sections["train"],
            reviews.sections["clean"],
            7,
        )
        save_numpy(
            root / name,
            Card(reviews.task, "numpy", name, {}, {"classes": classes}, 7, "d", "p", ["fit"]),
            arrays,
            files,
        )
    return {"torch": network, "classical": root / "classical", "trivial": root / "trivial"}


def answers(predictor: Predictor, texts: list[str]) -> np.ndarray:
    """Probabilities (n, c)."""
    return np.array(
        [
            list(each.probabilities.values())
            for each in predictor.predict([predictor.evaluator.Query(text=text) for text in texts])
        ]
    )


each = pytest.mark.parametrize("name", ["torch", "classical", "trivial"])


@each
def test_answers_sum_to_one_and_name_the_most_probable(bundles: dict[str, Path], name: str) -> None:
    predictor = load(bundles[name])
    for answer in predictor.predict([predictor.evaluator.Query(text=text) for text in TEXTS]):
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-9)
        assert list(answer.probabilities) == ["好评", "差评"]
        assert (
            answer.probability
            == max(answer.probabilities.values())
            == answer.probabilities[answer.label]
        )
    assert list(predictor.predict([])) == []


@each
def test_company_changes_no_answer(bundles: dict[str, Path], name: str) -> None:
    predictor = load(bundles[name])
    alone = np.concatenate([answers(predictor, [text]) for text in TEXTS])
    np.testing.assert_allclose(alone, answers(predictor, TEXTS), atol=1e-6)
    if name != "trivial":
        assert np.ptp(alone[:, 0]) > 0.1


def test_queries_are_normalised_like_training_rows(bundles: dict[str, Path]) -> None:
    for name in ("torch", "classical"):
        predictor = load(bundles[name])
        np.testing.assert_allclose(
            answers(predictor, ["The  &amp;amp; hotel<br>was\u200b noisy"]),
            answers(predictor, ["The & hotel was noisy"]),
            atol=1e-12,
        )
        with pytest.raises(Reject):
            answers(predictor, ["fine", "!!!"])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torch", WEIGHTS),
        ("torch", "encoder/tokenizer.json"),
        ("classical", ARRAYS),
        ("classical", "encoder/tfidf.json"),
    ],
)
def test_an_altered_bundle_does_not_answer(bundles: dict[str, Path], name: str, file: str) -> None:
    path = bundles[name] / file
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(InputError, match="altered"):
            load(bundles[name])
    finally:
        path.write_bytes(whole)
    load(bundles[name])


def test_the_watched_figure_is_that_of_the_validation_answers(
    reviews: StageRunner, network: Path
) -> None:
    from sklearn.metrics import f1_score

    rows, predictor = reviews.rows("clean", "validation"), load(network)
    labels = [
        answer.label
        for answer in predictor.predict(
            [predictor.evaluator.Query(text=row["text"]) for row in rows]
        )
    ]
    assert validation_score(network, reviews.root / "tokens") == pytest.approx(
        f1_score([row["label"] for row in rows], labels, average="macro")
    )


@each
def test_answers_below_the_threshold_are_marked_and_keep_their_label(
    bundles: dict[str, Path], name: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles[name], bundle)
    with pytest.raises(InputError, match="before abstention"):
        load(bundle, 0.1)
    plain = load(bundle)
    queries = [plain.evaluator.Query(text=text) for text in TEXTS]
    before = plain.predict(queries)
    assert not any(answer.abstained for answer in before)
    middle = float(np.median([answer.probability for answer in before]))
    table = abstention_table([middle] * 200 + [middle / 2] * 200, [True] * 200 + [False] * 200)
    add_to_profile(bundle, {KEY: table})
    assert threshold(table, 0.1) == middle
    after = load(bundle, 0.1).predict(queries)
    assert [answer.abstained for answer in after] == [
        answer.probability < middle for answer in before
    ]
    assert [(answer.label, answer.probabilities) for answer in after] == [
        (answer.label, answer.probabilities) for answer in before
    ]
    assert all(
        answer.abstained for answer in load(bundle, 0.0001).predict(queries)
    )  # no threshold can promise that


def test_arrays_are_saved_in_any_order_of_memory(tmp_path: Path) -> None:
    card = Card("text_classification", "numpy", "prior", {}, {"classes": ["a"]}, 7, "", "", ["fit"])
    arrays = {"turned": np.arange(6.0).reshape(2, 3).T, "scalar": np.array(3)}
    save_numpy(tmp_path / "bundle", card, arrays, {})
    saved = load_arrays((tmp_path / "bundle" / ARRAYS).read_bytes())
    for name, array in arrays.items():
        assert saved[name].shape == array.shape
        assert saved[name].tolist() == array.tolist()

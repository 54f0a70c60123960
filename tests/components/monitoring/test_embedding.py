"""Where pictures and texts lie among those of training, and how rare the words of texts are: the same bytes each time, moved traffic found, older bundles as before."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from stage_runner import IMAGE, TEXT, png, sentences

from components.fields.text import Text
from components.monitoring.drift import drift_results
from components.monitoring.embedding import (
    COMPONENTS,
    TOPICS,
    Space,
    describe_points,
    learn,
    learn_words,
    words,
)
from components.monitoring.profile import Profiler, profile_of
from components.monitoring.request_log import AnswerLogger, read_log
from components.tasks.base import evaluator, schema

CLEAN = schema(IMAGE).options["clean"].model_validate({})
MADE = """
import io, json
import numpy as np
from PIL import Image as Pillow
from components.fields.image import Image
from components.fields.text import Text
from components.monitoring.profile import profile_of
rng, files = np.random.default_rng(0), [io.BytesIO() for _ in range(600)]
for file in files:
    Pillow.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(file, "PNG")
rows = {"text": ["".join(map(chr, rng.integers(0x4e00, 0x4f00, 20))) for _ in range(600)], "image": [file.getvalue() for file in files]}
print(json.dumps(profile_of(rows, {"text": Text(), "image": Image()}, {})))
"""


def columns(task: str, profile: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    profiler = Profiler(task, profile)
    facts = [profiler.features(row) for row in rows]
    return {name: [each[name] for each in facts] for name in facts[0]}


def shining(count: int) -> list[Any]:
    """Noise (8, 8), brighter in its upper rows."""
    rng, shine = np.random.default_rng(0), np.repeat([90, 0], [3, 5])[:, None]
    return [(rng.integers(0, 150, (8, 8)) + shine).astype(np.uint8) for _ in range(count)]


def pictured(views: list[Any]) -> dict[str, Any]:
    field = schema(IMAGE).fields(CLEAN)["image"]
    return profile_of(
        {"image": [field.normalize(png(view)) for view in views]},
        {"image": field},
        CLEAN.model_dump(mode="json"),
    )


def test_a_profile_is_the_same_bytes_whatever_the_threads() -> None:
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", MADE],
            env={**os.environ, **path, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        )
        for threads in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout
    made = json.loads(told[0].stdout)
    assert made["spaces"]["image"]["axes"] and made["spaces"]["text"]["axes"]
    assert len(json.dumps([made["rarity"], made["spaces"]])) < 50_000, "a bundle carries it"


def test_pictures_that_stand_on_their_head_are_found_and_told() -> None:
    made = shining(600)
    told = pictured(made[:400])
    assert len(told["fields"]["image.embedding"]["mean"]) == COMPONENTS
    usual, turned = (
        [{"image": png(view)} for view in views]
        for views in (made[400:], [np.flipud(each) for each in made[400:]])
    )
    assert not [
        each for each in drift_results(told, columns(IMAGE, told, usual), 0.01) if each.drifted
    ]
    found = {each.field: each for each in drift_results(told, columns(IMAGE, told, turned), 0.01)}
    assert {name: each.drifted for name, each in found.items()} == {
        "image.brightness": False,
        "image.contrast": False,
        "image.embedding": True,
    }
    assert found["image.embedding"].change.startswith("mean moved by ")


def test_rows_that_axes_were_learnt_from_are_no_measure_of_new_ones() -> None:
    """Of 120 pictures of noise in 64 dimensions the axes fit their own rows; new rows must be compared with others."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(40):
        made = [rng.normal(size=64).astype(np.float32) for _ in range(300)]
        told, points = learn(made[:120])
        axes = np.frombuffer(base64.b64decode(told["axes"]), dtype=np.int8).reshape(64, -1) / 127
        assert len(points) == 60
        alarms += drift_results(
            {"fields": {"a": describe_points(points)}},
            {"a": [tuple(each @ axes) for each in made[120:]]},
            0.05,
        )[0].drifted
    assert alarms <= 7


def talk(rng: np.random.Generator, share: float, count: int) -> list[str]:
    """Texts of two topics of 150 words each, so many words that the share of each single one hardly tells; `share`: of the first topic."""
    topics = [[chr(start + i) for i in range(150)] for start in (0x4E00, 0x5E00)]
    return [" ".join(rng.choice(topics[int(rng.random() >= share)], 12)) for _ in range(count)]


def test_topics_in_another_mixture_are_found_though_no_word_is_new_or_rare() -> None:
    rng = np.random.default_rng(2)
    told = profile_of(
        {"text": talk(rng, 0.5, 2000)},
        {"text": Text()},
        {"min_characters": 2, "max_characters": 2000},
    )
    assert len(told["fields"]["text.embedding"]["mean"]) == TOPICS
    for share, drifted in ((0.5, []), (0.65, ["text.embedding"])):
        found = drift_results(
            told, columns(TEXT, told, [{"text": text} for text in talk(rng, share, 300)]), 0.01
        )
        assert [each.field for each in found if each.drifted] == drifted


def test_texts_that_axes_were_learnt_from_are_no_measure_of_new_ones() -> None:
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(40):
        made = [rng.choice(5000, 12, replace=False) for _ in range(400)]
        told, points = learn_words(made[:200])
        alarms += drift_results(
            {"fields": {"a": describe_points(points)}},
            {"a": [Space(told).at(words(each)) for each in made[200:]]},
            0.05,
        )[0].drifted
    assert alarms <= 7


@pytest.mark.parametrize(
    "rows",
    [[[1, 2, 3]] * 300, [[]] * 300, [[1, 2], [2, 3]] * 20, [[place] for place in range(300)]],
    ids=["alike", "without words", "few", "nothing shared"],
)
def test_texts_that_tell_nothing_have_no_embedding_or_one_that_holds(rows: list[list[int]]) -> None:
    told, points = learn_words([np.array(each, dtype=np.int64) for each in rows])
    assert bool(told) == bool(points)
    assert np.isfinite(np.array(points)).all()
    if points:
        assert (
            0
            <= drift_results(
                {"fields": {"a": describe_points(points)}},
                {
                    "a": [
                        Space(told).at(words(np.array(each, dtype=np.int64))) for each in rows[:50]
                    ]
                },
                0.01,
            )[0].p
            <= 1
        )


def test_hotellings_test_of_one_direction_is_students() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    before, now = rng.normal(size=(400, 1)), rng.normal(0.2, 1, (80, 1))
    (found,) = drift_results(
        {"fields": {"a": describe_points([tuple(row) for row in before])}},
        {"a": now.tolist()},
        0.01,
    )
    assert found.p == pytest.approx(ttest_ind(before[:, 0], now[:, 0]).pvalue)


@pytest.mark.parametrize("views", [[np.full((8, 8), 7, dtype=np.uint8)] * 200, shining(20)])
def test_pictures_that_tell_nothing_have_no_embedding(views: list[Any]) -> None:
    told = pictured(views)
    assert set(told["fields"]) == {"image.brightness", "image.contrast"}
    assert drift_results(
        told, columns(IMAGE, told, [{"image": png(view)} for view in shining(60)]), 0.01
    )


def test_rare_words_are_drift_though_all_of_them_are_known() -> None:
    rng = np.random.default_rng(4)
    words, chances = [chr(0x4E00 + i) for i in range(300)], 1 / np.arange(1, 301)
    made = [" ".join(rng.choice(words, 12, p=chances / chances.sum())) for _ in range(1200)]
    told = profile_of(
        {"text": made}, {"text": Text()}, {"min_characters": 2, "max_characters": 2000}
    )
    usual = [" ".join(rng.choice(words, 12, p=chances / chances.sum())) for _ in range(300)]
    strange = [*usual[:280], *(" ".join(rng.choice(words[200:], 12)) for _ in range(20))]
    for texts, drifted in ((usual, False), (strange, True)):
        found = {
            each.field: each.drifted
            for each in drift_results(
                told, columns(TEXT, told, [{"text": text} for text in texts]), 0.01
            )
        }
        assert found["text.rarity"] is drifted
        assert not found["text.unknown"]


def test_training_looks_no_more_usual_than_new_rows_of_its_kind(profile: dict[str, Any]) -> None:
    found = {
        each.field: each
        for each in drift_results(
            profile,
            columns(TEXT, profile, [{"text": row["text"]} for row in sentences(300, 9)]),
            0.05,
        )
    }
    assert found["text.rarity"].p > 0.001


def test_a_bundle_from_before_says_what_it_said(profile: dict[str, Any]) -> None:
    old = {
        **profile,
        "fields": {
            name: each
            for name, each in profile["fields"].items()
            if name not in ("text.rarity", "text.embedding")
        },
    }
    del old["spaces"], old["rarity"]
    assert set(Profiler(TEXT, old).features({"text": "房间很干净"})) == {
        "text.length",
        "text.script",
        "text.unknown",
        "text.words",
    }


def test_the_log_keeps_the_place_of_a_picture(traffic) -> None:
    told = pictured(shining(200))
    log, rules = traffic.log(), evaluator(IMAGE)
    query = rules.Query(image=base64.b64encode(png(shining(1)[0])).decode())
    answer = rules.Answer(label="x", probability=1.0, probabilities={"x": 1.0})
    AnswerLogger(log, "1", Profiler(IMAGE, told), rules).log_sample("a" * 32, [query], [answer])
    log.flush()
    (row,) = read_log(traffic.folder, "1").to_pylist()
    assert row["image.embedding"] == pytest.approx(
        Profiler(IMAGE, told).features({"image": png(shining(1)[0])})["image.embedding"]
    )

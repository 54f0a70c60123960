"""Rows "false alarms over 1,000 windows of undrifted traffic" and "drift of a stated size found within 500 requests", on the real reviews.

False alarms: in each of 100 rounds all reviews are divided anew, 5,000 are traffic (ten windows of 500 that share no review) and the rest is training, whose profile is made
as tokenize makes it. What was predicted is of validation and test, which the model has not seen, divided anew likewise. Power: windows of 500 drawn from what the training
split's profile has not seen. Level 0.01 a window, over all its fields.

python benchmarks/drift.py [--data data] [--bundle FOLDER] [--rounds 100] [--windows 200]
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from components.fields.text import Text
from components.inference.predictor import load
from components.monitoring.drift import compare
from components.monitoring.profile import Facts, Profiler, predictions_of, profile_of
from components.tasks import base
from components.training import evaluation

TASK, WINDOW, LEVEL = "text_classification", 500, 0.01
CLEAN = {"min_characters": 2, "max_characters": 2000}
HOTEL, BOOK = (
    re.compile("酒店|宾馆|房间|前台|早餐"),
    re.compile("这本|本书|作者|此书|读者|书中|小说"),
)
Row = Mapping[str, Any]


class Remembered(Text):
    """Texts are looked at in many windows, each only once."""

    normalize = cache(Text.normalize)
    profile = cache(Text.profile)
    pieces = cache(Text.pieces)


FIELD = Remembered(**CLEAN)


def rows_of(data: Path, split: str) -> list[Row]:
    """The cases of a split, with their texts."""
    return [
        row
        for path in sorted((data / "clean").glob(f"{split}-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def profile(texts: Sequence[str], predictions: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the bundle of a model of these texts would carry."""
    return profile_of({"text": texts}, {"text": FIELD}, CLEAN) | (
        {"predictions": predictions} if predictions else {}
    )


def profiler_of(told: Mapping[str, Any]) -> Callable[[str], Facts]:
    """Of a service; each text is looked at once."""
    made = Profiler(TASK, told)
    made._fields = {"text": FIELD}
    return cache(lambda text: made.facts({"text": text}))


def window(
    profiler: Callable[[str], Facts], texts: Sequence[str], answers: Sequence[Any] = ()
) -> dict[str, list[Any]]:
    """Columns as the log has them."""
    facts = [profiler(text) for text in texts]
    columns: dict[str, list[Any]] = {name: [each.get(name) for each in facts] for name in facts[0]}
    return columns | {
        "prediction.label": [each.label for each in answers],
        "prediction.probability": [each.probability for each in answers],
    }


def false_alarms(
    texts: Sequence[str], answers: Sequence[Any], right: Sequence[bool], rounds: int, seed: int
) -> None:
    """Undrifted traffic: how many windows raise an alarm, and by which field."""
    rng, alarms, looks, by = np.random.default_rng(seed), 0, 0, dict[str, int]()
    for _ in range(rounds):
        order, asked = rng.permutation(len(texts)), rng.permutation(len(answers))
        seen, later = asked[: len(asked) // 2], asked[len(asked) // 2 :]
        known = predictions_of(
            [answers[i].label for i in seen],
            [answers[i].probability for i in seen],
            [right[i] for i in seen],
        )
        told = profile([texts[i] for i in order[10 * WINDOW :]], known)
        profiler = profiler_of(told)
        for place in range(10):
            traffic = [texts[i] for i in order[place * WINDOW : (place + 1) * WINDOW]]
            mine = rng.choice(later, WINDOW, replace=False)
            found = compare(
                told,
                window(profiler, traffic, [answers[i] for i in mine]),
                LEVEL,
                (sum(right[i] for i in mine), WINDOW),
            )
            drifted = [each.field for each in found if each.drifted]
            alarms, looks = alarms + bool(drifted), looks + 1
            for field in drifted:
                by[field] = by.get(field, 0) + 1
    print(
        f"false alarms: {alarms} of {looks} windows ({alarms / looks:.1%}) at level {LEVEL:.0%}; by field: {by}",
        flush=True,
    )


def power(
    name: str,
    told: Mapping[str, Any],
    draw: Callable[[np.random.Generator], Sequence[str]],
    windows: int,
) -> None:
    """Drifted traffic: how many windows raise an alarm, and by which fields; and how many would if the profile had no embedding."""
    rng, profiler, found, by = np.random.default_rng(11), profiler_of(told), 0, dict[str, int]()
    fewer = {
        **told,
        "fields": {
            field: known for field, known in told["fields"].items() if field != "text.embedding"
        },
    }
    before = 0
    for _ in range(windows):
        columns = window(profiler, draw(rng))
        drifted = [each.field for each in compare(told, columns, LEVEL) if each.drifted]
        found, before = (
            found + bool(drifted),
            before + any(each.drifted for each in compare(fewer, columns, LEVEL)),
        )
        for field in drifted:
            by[field] = by.get(field, 0) + 1
    shares = ", ".join(
        f"{field} {count / windows:.0%}"
        for field, count in sorted(by.items(), key=lambda item: -item[1])
    )
    print(f"| {name} | {found / windows:.0%} | {before / windows:.0%} | {shares} |", flush=True)


def mixed(
    usual: Sequence[str], other: Sequence[str], share: float, size: int = WINDOW
) -> Callable[[np.random.Generator], Sequence[str]]:
    """Traffic of which a share is another one."""

    def draw(rng: np.random.Generator) -> Sequence[str]:
        count = round(share * size)
        return [
            *rng.choice(usual, size - count, replace=False),
            *rng.choice(other, count, replace=count > len(other)),
        ]

    return draw


def shortened(usual: Sequence[str], share: float) -> Callable[[np.random.Generator], Sequence[str]]:
    """Traffic whose texts have lost their ends."""
    return lambda rng: [
        text[: max(4, int(len(text) * share))] for text in rng.choice(usual, WINDOW, replace=False)
    ]


def answered(bundle: Path, cases: Sequence[Row]) -> tuple[list[Any], list[bool]]:
    """What a model says to cases that it was not trained on."""
    evaluator = base.evaluator(TASK)
    asked = [
        base.Case(
            row["id"], evaluator.query({**row, "title": row.get("title") or ""}), row["label"], {}
        )
        for row in cases
    ]
    given = list(evaluation.answer(load(bundle), asked))
    return given, [
        evaluator.is_correct(answer, case.truth) for answer, case in zip(given, asked, strict=True)
    ]


def accuracy(known: Mapping[str, Any], rows: int, before: float, now: float, windows: int) -> None:
    """Labels arrive, and the model is right less often than on validation."""
    rng = np.random.default_rng(5)
    found = [
        compare({"predictions": known}, {}, LEVEL, (int(rng.binomial(rows, now)), rows))[0].drifted
        for _ in range(windows)
    ]
    print(
        f"| accuracy {before:.0%} -> {now:.0%}, {rows} labels | {np.mean(found):.0%} | | accuracy |",
        flush=True,
    )


def powers(
    data: Path,
    train: Sequence[str],
    later: list[str],
    answers: Sequence[Any],
    right: Sequence[bool],
    windows: int,
) -> None:
    """The table of drifts."""
    half = len(rows_of(data, "validation"))
    known = predictions_of(
        [each.label for each in answers[:half]],
        [each.probability for each in answers[:half]],
        right[:half],
    )
    print(
        "| drift, 500 requests | found | without embedding | by |\n| --- | --- | --- | --- |",
        flush=True,
    )
    shipped = profile(train)
    english = [
        each
        for topic in pydoc_data.topics.topics.values()
        for each in re.split(r"(?<=[.:])\s+", topic)
        if 20 <= len(each) <= 300
    ]
    power("none (one pool of test and validation)", shipped, mixed(later, english, 0.0), windows)
    for share in (0.02, 0.05, 0.1, 1.0):
        power(
            f"{share:.0%} English prose into the Chinese model",
            shipped,
            mixed(later, english, share),
            windows,
        )
    hotels, books = (
        [text for text in later if one.search(text) and not other.search(text)]
        for one, other in ((HOTEL, BOOK), (BOOK, HOTEL))
    )
    bookish = profile([text for text in train if BOOK.search(text) and not HOTEL.search(text)])
    for share in (0.05, 0.1, 0.2):
        power(
            f"{share:.0%} hotel reviews into a model of book reviews",
            bookish,
            mixed(books * 2, hotels, share),
            windows,
        )
    staying = profile([text for text in train if HOTEL.search(text) and not BOOK.search(text)])
    for share in (0.02, 0.05, 0.1):
        power(
            f"{share:.0%} book reviews into a model of hotel reviews",
            staying,
            mixed(hotels, books, share),
            windows,
        )
    for share in (0.1, 0.15, 0.2):
        power(
            f"{share:.0%} of all exchanged for hotel reviews, model of all reviews",
            shipped,
            mixed(later, hotels, share),
            windows,
        )
    power(
        "hotel reviews only, model of all reviews", shipped, mixed(hotels * 2, hotels, 0.0), windows
    )
    for share in (0.8, 0.7, 0.6):
        power(
            f"texts cut to {share:.0%} of their length", shipped, shortened(later, share), windows
        )
    rate = known["right"] / known["rows"]
    for rows, loss in ((100, 0.1), (100, 0.2), (500, 0.05), (500, 0.1)):
        accuracy(known, rows, rate, rate - loss, windows)


def main() -> None:
    """Run both rows."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--data", type=Path, default=Path("data"))
    reader.add_argument("--bundle", type=Path, help="whose predictions; the winner, unless given")
    reader.add_argument("--rounds", type=int, default=100)
    reader.add_argument("--windows", type=int, default=200)
    reader.add_argument("--seed", type=int, default=7, help="of the divisions")
    told = reader.parse_args()
    train, unseen = (
        [row["text"] for row in rows_of(told.data, "train")],
        [*rows_of(told.data, "validation"), *rows_of(told.data, "test")],
    )
    later = [row["text"] for row in unseen]
    answers, right = answered(told.bundle or told.data / "models" / "winner", unseen)
    if told.windows:
        powers(told.data, train, later, answers, right, told.windows)
    if told.rounds:
        false_alarms([*train, *later], answers, right, told.rounds, told.seed)


if __name__ == "__main__":
    main()

"""Rows "false alarms over 1,000 windows of undrifted traffic" and "drift of a stated size found
within 500 requests".

Both are measured on the real reviews. False alarms: in each of 100 rounds all reviews are divided
anew. 5,000 are traffic (ten windows of 500 that share no review) and the rest is training, whose
profile is made as tokenize makes it. The predictions are those of validation and test, which the
model has not seen, also divided anew. Power: windows of 500 are drawn from reviews that the
training split's profile has not seen. The level is 0.01 a window, over all its fields.

python benchmarks/drift.py [--data data] [--bundle FOLDER] [--rounds 100] [--windows 200]
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from components.fields.text import Text
from components.inference.predictor import load
from components.monitoring.drift import drift_results, outcome_test
from components.monitoring.profile import Features, Profiler, predictions_of, profile_of
from components.tasks import base
from components.training import evaluation

TASK = "text_classification"
EVALUATOR = base.evaluator(TASK)
WINDOW = 500
LEVEL = 0.01
CLEAN = {"min_characters": 2, "max_characters": 2000}
HOTEL = re.compile("酒店|宾馆|房间|前台|早餐")
BOOK = re.compile("这本|本书|作者|此书|读者|书中|小说")
Row = Mapping[str, Any]
# Draws the texts of a window.
Draw = Callable[[np.random.Generator], Sequence[str]]


class Remembered(Text):
    """Stores the results for a text, which occurs in many windows."""

    normalize = cache(Text.normalize)
    profile = cache(Text.profile)
    pieces = cache(Text.pieces)


FIELD = Remembered(CLEAN["min_characters"], CLEAN["max_characters"])


def rows_of(data: Path, split: str) -> list[Row]:
    """Return the cases of a split, with their texts."""
    rows: list[Row] = []
    for path in sorted((data / "clean").glob(f"{split}-*.parquet")):
        rows += pq.read_table(path).to_pylist()
    return rows


def profile(texts: Sequence[str], predictions: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the profile in the bundle of a model that was trained on these texts."""
    content = profile_of({"text": texts}, {"text": FIELD}, CLEAN)
    if predictions:
        content = content | {"predictions": predictions}
    return content


def profiler_of(trained: Mapping[str, Any]) -> Callable[[str], Features]:
    """Return the profiler of a service. It stores the result for each text."""
    profiler = Profiler(TASK, trained)
    profiler._fields = {"text": FIELD}
    return cache(lambda text: profiler.features({"text": text}))


def window(
    profiler: Callable[[str], Features],
    texts: Sequence[str],
    answers: Sequence[Any] = (),
) -> dict[str, list[Any]]:
    """Return the columns of a window as the log has them."""
    rows = [profiler(text) for text in texts]
    columns: dict[str, list[Any]] = {}
    for name in rows[0]:
        columns[name] = [row.get(name) for row in rows]
    columns["prediction.label"] = [answer.label for answer in answers]
    columns["prediction.probability"] = [answer.probability for answer in answers]
    return columns


def false_alarms(
    texts: Sequence[str],
    answers: Sequence[Any],
    truths: Sequence[str],
    rounds: int,
    seed: int,
) -> None:
    """Print how many windows of undrifted traffic raise an alarm, and by which field."""
    rng = np.random.default_rng(seed)
    alarms = 0
    checks = 0
    counts: dict[str, int] = {}
    for _ in range(rounds):
        order = rng.permutation(len(texts))
        asked = rng.permutation(len(answers))
        half = len(asked) // 2
        known = predictions_at(answers, truths, asked[:half].tolist())
        trained = profile([texts[i] for i in order[10 * WINDOW :]], known)
        profiler = profiler_of(trained)
        for start in range(0, 10 * WINDOW, WINDOW):
            traffic = [texts[i] for i in order[start : start + WINDOW]]
            chosen = rng.choice(asked[half:], WINDOW, replace=False)
            columns = window(profiler, traffic, [answers[i] for i in chosen])
            pairs = [(answers[i].label, truths[i]) for i in chosen]
            test = outcome_test(EVALUATOR.feedback, trained, pairs)
            findings = drift_results(trained, columns, LEVEL, test)
            drifted = [finding.field for finding in findings if finding.drifted]
            alarms += bool(drifted)
            checks += 1
            for field in drifted:
                counts[field] = counts.get(field, 0) + 1
    print(
        f"false alarms: {alarms} of {checks} windows ({alarms / checks:.1%}) "
        f"at level {LEVEL:.0%}; by field: {counts}",
        flush=True,
    )


def predictions_at(
    answers: Sequence[Any],
    truths: Sequence[str],
    positions: Sequence[int],
) -> Mapping[str, Any]:
    """Return the profile of the predictions at some positions."""
    return predictions_of(
        EVALUATOR, [answers[i] for i in positions], [truths[i] for i in positions]
    )


def power(
    name: str,
    trained: Mapping[str, Any],
    draw: Draw,
    windows: int,
) -> None:
    """Print how many windows of drifted traffic raise an alarm, and by which fields.

    The second figure is without the embedding in the profile.
    """
    rng = np.random.default_rng(11)
    profiler = profiler_of(trained)
    fields = {
        field: known for field, known in trained["fields"].items() if field != "text.embedding"
    }
    without_embedding = {**trained, "fields": fields}
    alarms = 0
    alarms_without = 0
    counts: dict[str, int] = {}
    for _ in range(windows):
        columns = window(profiler, draw(rng))
        findings = drift_results(trained, columns, LEVEL)
        drifted = [finding.field for finding in findings if finding.drifted]
        alarms += bool(drifted)
        findings = drift_results(without_embedding, columns, LEVEL)
        alarms_without += any(finding.drifted for finding in findings)
        for field in drifted:
            counts[field] = counts.get(field, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{field} {count / windows:.0%}" for field, count in ranked)
    print(
        f"| {name} | {alarms / windows:.0%} | {alarms_without / windows:.0%} | {shares} |",
        flush=True,
    )


def mixed(
    usual: Sequence[str],
    other: Sequence[str],
    share: float,
    size: int = WINDOW,
) -> Draw:
    """Return a draw of traffic in which a share of the texts are others."""

    def draw(rng: np.random.Generator) -> Sequence[str]:
        count = round(share * size)
        return [
            *rng.choice(usual, size - count, replace=False),
            *rng.choice(other, count, replace=count > len(other)),
        ]

    return draw


def shortened(usual: Sequence[str], share: float) -> Draw:
    """Return a draw of traffic whose texts are cut to a share of their lengths."""

    def draw(rng: np.random.Generator) -> Sequence[str]:
        texts = rng.choice(usual, WINDOW, replace=False)
        return [text[: max(4, int(len(text) * share))] for text in texts]

    return draw


def answered(bundle: Path, cases: Sequence[Row]) -> tuple[list[Any], list[str]]:
    """Return a model's answers to cases that it was not trained on, and their labels."""
    asked = []
    for row in cases:
        query = EVALUATOR.query({**row, "title": row.get("title") or ""})
        asked.append(base.Case(row["id"], query, row["label"], {}))
    answers = list(evaluation.answer(load(bundle), asked))
    return answers, [case.truth for case in asked]


def accuracy(
    known: Mapping[str, Any],
    rows: int,
    before: float,
    now: float,
    windows: int,
) -> None:
    """Print how often a loss of accuracy is found when labels arrive."""
    rng = np.random.default_rng(5)
    trained = {"predictions": known}
    alarms = []
    for _ in range(windows):
        right = int(rng.binomial(rows, now))
        pairs = [("right", "right")] * right + [("wrong", "right")] * (rows - right)
        test = outcome_test(EVALUATOR.feedback, trained, pairs)
        alarms.append(drift_results(trained, {}, LEVEL, test)[0].drifted)
    print(
        f"| accuracy {before:.0%} -> {now:.0%}, {rows} labels "
        f"| {np.mean(alarms):.0%} | | accuracy |",
        flush=True,
    )


def english_sentences() -> list[str]:
    """Return sentences of Python's documentation."""
    sentences = []
    for topic in pydoc_data.topics.topics.values():
        for sentence in re.split(r"(?<=[.:])\s+", topic):
            if 20 <= len(sentence) <= 300:
                sentences.append(sentence)
    return sentences


def about(texts: Sequence[str], topic: re.Pattern[str], other: re.Pattern[str]) -> list[str]:
    """Return the texts about one topic and not about the other."""
    return [text for text in texts if topic.search(text) and not other.search(text)]


def powers(
    data: Path,
    train: Sequence[str],
    later: list[str],
    answers: Sequence[Any],
    truths: Sequence[str],
    windows: int,
) -> None:
    """Print the table of drifts."""
    known = predictions_at(answers, truths, range(len(rows_of(data, "validation"))))
    print(
        "| drift, 500 requests | found | without embedding | by |\n| --- | --- | --- | --- |",
        flush=True,
    )
    for name, trained, draw in drifts(train, later):
        power(name, trained, draw, windows)
    rate = known["right"] / known["rows"]
    for rows, loss in ((100, 0.1), (100, 0.2), (500, 0.05), (500, 0.1)):
        accuracy(known, rows, rate, rate - loss, windows)


def drifts(train: Sequence[str], later: list[str]) -> Iterator[tuple[str, dict[str, Any], Draw]]:
    """Yield the name, the profile of training and the traffic of each drift."""
    every = profile(train)
    english = english_sentences()
    yield "none (one pool of test and validation)", every, mixed(later, english, 0.0)
    for share in (0.02, 0.05, 0.1, 1.0):
        name = f"{share:.0%} English prose into the Chinese model"
        yield name, every, mixed(later, english, share)
    hotels = about(later, HOTEL, BOOK)
    books = about(later, BOOK, HOTEL)
    of_books = profile(about(train, BOOK, HOTEL))
    for share in (0.05, 0.1, 0.2):
        name = f"{share:.0%} hotel reviews into a model of book reviews"
        yield name, of_books, mixed(books * 2, hotels, share)
    of_hotels = profile(about(train, HOTEL, BOOK))
    for share in (0.02, 0.05, 0.1):
        name = f"{share:.0%} book reviews into a model of hotel reviews"
        yield name, of_hotels, mixed(hotels, books, share)
    for share in (0.1, 0.15, 0.2):
        name = f"{share:.0%} of all exchanged for hotel reviews, model of all reviews"
        yield name, every, mixed(later, hotels, share)
    name = "hotel reviews only, model of all reviews"
    yield name, every, mixed(hotels * 2, hotels, 0.0)
    for share in (0.8, 0.7, 0.6):
        yield f"texts cut to {share:.0%} of their length", every, shortened(later, share)


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--bundle", type=Path, help="whose predictions; the winner, unless given")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument(
        "--seed",
        type=int,
        default=7,
        help="of the divisions",
    )
    options = parser.parse_args()
    train = [row["text"] for row in rows_of(options.data, "train")]
    unseen = [*rows_of(options.data, "validation"), *rows_of(options.data, "test")]
    later = [row["text"] for row in unseen]
    bundle = options.bundle or options.data / "models" / "winner"
    answers, truths = answered(bundle, unseen)
    if options.windows:
        powers(options.data, train, later, answers, truths, options.windows)
    if options.rounds:
        false_alarms([*train, *later], answers, truths, options.rounds, options.seed)


if __name__ == "__main__":
    main()

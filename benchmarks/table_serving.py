"""Rows of a table asked of the classical baseline, against LightGBM called directly.

    gristmill serve diamonds --port 8000 &
    python benchmarks/table_serving.py PROJECT diamonds http://127.0.0.1:8000

PROJECT: one whose pipeline has run, with `classical` as the winner.

"directly": `Booster.predict` in one thread, with the same trees, on rows that are a matrix already.
The parts take turns in each round. The table has medians of the rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.core.bundles import read_bundle
from components.core.tables import read_table
from components.inference.predictor import ARRAYS, bundled_encoder_files, load
from components.tasks import base
from components.tasks.shared.baselines.tables.boosting import feature_matrix
from components.tasks.shared.baselines.tables.trees import Trees

ROUNDS = 7
QUESTIONS = 300
BATCH = 1000
PREFIXES = ("plain.trees.", "log.trees.")
Matrix = NDArray[np.float64]


def direct_scorer(arrays: Any, features: int) -> Callable[[Matrix], None]:
    """Return a function that asks LightGBM for the scores of all trees of a bundle."""
    scorers = []
    for prefix in PREFIXES:
        if f"{prefix}leaves" in arrays:
            scorers.append(Trees.from_arrays(arrays, prefix).scorer(features, 1))

    def score(rows: Matrix) -> None:
        """Score rows (n, features)."""
        for scorer in scorers:
            scorer(rows)

    return score


def milliseconds(ask: Callable[[int], object], questions: int) -> float:
    """Return the median time of single questions."""
    times = []
    for number in range(questions):
        start = time.perf_counter()
        ask(number)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def rate(ask: Callable[[], object], rows: int) -> float:
    """Return rows per second of one call."""
    start = time.perf_counter()
    ask()
    return rows / (time.perf_counter() - start)


def main(words: Sequence[str]) -> None:
    """Measure, and print a table."""
    from safetensors.numpy import load as load_arrays

    project, name, url = words
    data = Path(project) / "data" / name
    card, files = read_bundle(data / "models" / "winner")
    if card.architecture != "classical":
        sys.exit(f"the winner of {name} is {card.title}, not the classical baseline")
    predictor = load(data / "models" / "winner")
    evaluator = base.evaluator(card.task)
    rows = read_table(data / "clean", "test").slice(0, BATCH)
    queries = [case.query for case in evaluator.cases(rows)]
    bodies = [query.model_dump_json() for query in queries]
    prepare = (
        base.baselines(card.task).baselines["classical"].featurizer(bundled_encoder_files(files))
    )
    arrays = prepare(evaluator.columns(queries))
    matrix = feature_matrix(arrays["numbers"], arrays["categories"])
    direct = direct_scorer(load_arrays(files[ARRAYS]), matrix.shape[1])
    headers = {"Content-Type": "application/json"}
    results: dict[str, list[float]] = {}
    with httpx.Client(base_url=url, headers=headers) as client:

        def over_http(number: int) -> None:
            """Ask the service about one row."""
            client.post("/v1/predict", content=bodies[number % BATCH]).raise_for_status()

        for _ in range(ROUNDS):
            figures = {
                "one row directly, ms": milliseconds(
                    lambda number: direct(matrix[number : number + 1]), QUESTIONS
                ),
                "one row by the predictor, ms": milliseconds(
                    lambda number: predictor.predict([queries[number]]), QUESTIONS
                ),
                "one row over HTTP, ms": milliseconds(over_http, QUESTIONS),
                "batches of 1,000 directly, rows/s": rate(lambda: direct(matrix), BATCH),
                "batches of 1,000 by the predictor, rows/s": rate(
                    lambda: predictor.predict(queries), BATCH
                ),
            }
            for key, value in figures.items():
                results.setdefault(key, []).append(value)
    for key, values in results.items():
        print(
            f"{key:44} {statistics.median(values):10,.3f}  {min(values):,.3f} to {max(values):,.3f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

"""Row "release and rollback under load".

At least 10,000 requests while a version is released, by canary, and rolled back. Each request
asks three reviews whose answers differ between the versions. An answer in which they do not all
belong to the version that it names is mixed.

python benchmarks/serving_release.py PROJECT

PROJECT: one that has run
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import load
from benchmarks.served import Service, reviews
from components.inference.predictor import load as load_bundle

WANTED = 10_000
CONNECTIONS = 6
TOLERANCE = 1e-4
CANARY = {"share": 0.2, "requests": 300, "watch_minutes": 0.1}
# Version -> class -> probability, for each query.
Expected = dict[str, list[Any]]


def predict_all(bundles: list[Path], queries: list[dict[str, Any]]) -> Expected:
    """Return the answers of each version to all queries."""
    expected: Expected = {}
    for number, bundle in enumerate(bundles, 1):
        predictor = load_bundle(bundle)
        model = predictor.evaluator.Query
        answers = predictor.predict([model.model_validate(query) for query in queries])
        expected[str(number)] = [answer.probabilities for answer in answers]
    return expected


def distinguishable(expected: Expected) -> list[int]:
    """Return the queries to which the versions give clearly different answers."""
    indexes = []
    for index, (first, second) in enumerate(zip(expected["1"], expected["2"], strict=True)):
        difference = max(abs(first[name] - second[name]) for name in first)
        if difference > 100 * TOLERANCE:
            indexes.append(index)
    return indexes


def main(project: Path) -> None:
    """Print the row."""
    bundles = [project / "data" / "models" / name for name in ("winner", "compressed/distilled")]
    queries = reviews(project, 150)
    expected = predict_all(bundles, queries)
    indexes = distinguishable(expected)
    groups = [indexes[start : start + 3] for start in range(0, len(indexes) - 2, 3)]
    is_moving = True
    answers: list[load.Answer] = []
    with Service(
        Path(tempfile.mkdtemp(prefix="gm-release-")) / "p",
        bundles,
        queries[:3],
        {},
        replicas=2,
        poll_s=1.0,
        canary=CANARY,
    ) as service:
        questions = []
        for group in groups:
            questions.append(load.post(service.url, [queries[index] for index in group]))

        def goes_on(done: int) -> bool:
            return is_moving or done < WANTED

        def client() -> None:
            asked = load.ask(service.url, questions, CONNECTIONS, goes_on)
            answers.extend(asyncio.run(asked))

        thread = threading.Thread(target=client)
        thread.start()
        moves = move_versions(service)
        is_moving = False
        thread.join()
    show(answers, groups, expected, moves)


def move_versions(service: Service) -> dict[str, float]:
    """Release version 2 and roll back to version 1. Return the seconds of both."""
    seconds = {}
    for name, version, move in (("release", 2, service.release), ("rollback", 1, service.back)):
        began = time.monotonic()
        move(version)
        service.says(f"version {version} gets all requests")
        seconds[name] = time.monotonic() - began
        service.says(f"version {version} serves alone")
    return seconds


def is_mixed(answer: dict[str, Any], group: list[int], expected: Expected) -> bool:
    """Return whether an answer differs from those of the version that it names."""
    version = answer["model"]["version"]
    differences = []
    for prediction, index in zip(answer["predictions"], group, strict=True):
        for name, value in expected[version][index].items():
            differences.append(abs(prediction["probabilities"][name] - value))
    return bool(max(differences) > TOLERANCE)


def show(
    answers: list[load.Answer],
    groups: list[list[int]],
    expected: Expected,
    moves: dict[str, float],
) -> None:
    """Check every answer, then print the row."""
    mixed = 0
    versions = Counter[str]()
    errors = Counter[tuple[int, bytes]]()
    for answer in answers:
        if answer.status != 200:
            errors[answer.status, answer.body[:80]] += 1
            continue
        content = json.loads(answer.body)
        versions[content["model"]["version"]] += 1
        mixed += is_mixed(content, groups[answer.question], expected)
    failed = errors.total()
    print(
        "| requests | failed | mixed | by version | p50, p99, worst ms "
        "| alias to all traffic: release, rollback |\n| --- | --- | --- | --- | --- | --- |"
    )
    times = ", ".join(f"{load.percentile(answers, share):.1f}" for share in (0.5, 0.99, 1.0))
    print(
        f"| {len(answers):,} | {failed} | {mixed} | {dict(sorted(versions.items()))} | {times} "
        f"| {moves['release']:.1f} s (with canary), {moves['rollback']:.1f} s |"
    )
    assert len(answers) >= WANTED and not failed and not mixed, errors


if __name__ == "__main__":
    main(Path(sys.argv[1]))

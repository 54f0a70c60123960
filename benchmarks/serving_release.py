"""Row "release and rollback under load": at least 10,000 requests while a version is released, by canary, and rolled back.

Each request asks three reviews whose answers differ between the versions; an answer in which they do not all belong to the version it names is mixed.

python benchmarks/serving_release.py PROJECT     PROJECT: one that has run
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

import load
from served import Service, reviews

from components.inference.predictor import load as load_bundle

WANTED, CONNECTIONS, TOLERANCE = 10_000, 6, 1e-4
CANARY = {"share": 0.2, "requests": 300, "watch_minutes": 0.1}


def main(project: Path) -> None:
    """Print the row."""
    bundles = [project / "data" / "models" / name for name in ("winner", "compressed/distilled")]
    queries = reviews(project, 150)
    predictors = {str(number): load_bundle(bundle) for number, bundle in enumerate(bundles, 1)}
    expected = {
        version: [
            answer.probabilities
            for answer in predictor.predict(
                [predictor.evaluator.Query.model_validate(query) for query in queries]
            )
        ]
        for version, predictor in predictors.items()
    }
    told_apart = [
        index
        for index in range(len(queries))
        if max(
            abs(expected["1"][index][name] - expected["2"][index][name])
            for name in expected["1"][index]
        )
        > 100 * TOLERANCE
    ]
    groups = [told_apart[start : start + 3] for start in range(0, len(told_apart) - 2, 3)]
    moving, answers = True, []
    with Service(
        Path(tempfile.mkdtemp(prefix="gm-release-")) / "p",
        bundles,
        queries[:3],
        {},
        replicas=2,
        poll_s=1.0,
        canary=CANARY,
    ) as service:
        questions = [
            load.post(service.url, [queries[index] for index in group]) for group in groups
        ]
        thread = threading.Thread(
            target=lambda: answers.extend(
                asyncio.run(
                    load.ask(
                        service.url, questions, CONNECTIONS, lambda done: moving or done < WANTED
                    )
                )
            )
        )
        thread.start()
        moves = {}
        for name, version, move in (("release", 2, service.release), ("rollback", 1, service.back)):
            began = time.monotonic()
            move(version)
            service.says(f"version {version} gets all requests")
            moves[name] = time.monotonic() - began
            service.says(f"version {version} serves alone")
        moving = False
        thread.join()
    tell(answers, groups, expected, moves)


def tell(
    answers: list[load.Answer],
    groups: list[list[int]],
    expected: dict[str, list[Any]],
    moves: dict[str, float],
) -> None:
    """Check every answer, print the row."""
    mixed, versions = 0, Counter[str]()
    for answer in answers:
        if answer.status != 200:
            continue
        told = json.loads(answer.body)
        version = told["model"]["version"]
        versions[version] += 1
        gaps = [
            abs(given["probabilities"][name] - value)
            for given, index in zip(told["predictions"], groups[answer.question], strict=True)
            for name, value in expected[version][index].items()
        ]
        mixed += max(gaps) > TOLERANCE
    wrong = Counter((answer.status, answer.body[:80]) for answer in answers if answer.status != 200)
    failed = wrong.total()
    print(
        "| requests | failed | mixed | by version | p50, p99, worst ms | alias to all traffic: release, rollback |\n| --- | --- | --- | --- | --- | --- |"
    )
    times = ", ".join(f"{load.percentile(answers, share):.1f}" for share in (0.5, 0.99, 1.0))
    print(
        f"| {len(answers):,} | {failed} | {mixed} | {dict(sorted(versions.items()))} | {times} | {moves['release']:.1f} s (with canary), {moves['rollback']:.1f} s |"
    )
    assert len(answers) >= WANTED and not failed and not mixed, wrong


if __name__ == "__main__":
    main(Path(sys.argv[1]))

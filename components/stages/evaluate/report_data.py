"""What the report tells, gathered from what the stages left."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.job import Job
from components.core.tables import read_manifest, read_table
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report import Facts
from components.tasks import base
from components.tasks.base import Case
from components.training import evaluation

_EXAMPLES, _MISTAKES = 4, 12


def gather(
    job: Job,
    rows: Sequence[dict[str, Any]],
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
    leak: Mapping[str, Any],
    coverage: Mapping[str, Any],
) -> Facts:
    """All facts of the report.

    Args:
        rows: the leaderboard.
        answers: the winner's, to the test cases.
        coverage: see `Facts`.
    """
    evaluator, clean = base.evaluator(job.task), read_manifest(job.inputs["clean"])
    tokens = read_manifest(job.inputs["tokens"])
    books = clean["books"]
    search: dict[str, Any] = json.loads(job.inputs["search"].read_text(encoding="utf-8"))
    learning = base.learning(job.task)
    return Facts(
        pipeline=job.tags["pipeline"],
        task=job.task,
        data_hash=tokens["data_hash"],
        seed=job.seed,
        classes=clean["classes"],
        decided_by=evaluator.metrics[0].name,
        leaderboard=rows,
        confidence=job.params.confidence,
        counts={
            "raw": books["rows_in"],
            "quarantined": {
                reason: n
                for reason, n in clean["reasons"].items()
                if reason not in ("boilerplate", "conflicting_labels")
            },
            "exact_duplicates": books["deduplicated"],
            "conflicting": clean["reasons"].get("conflicting_labels", 0),
            "filtered": books["filtered"],
            "clean": books["rows_out"],
            "near_duplicate_pairs": clean["near_duplicate_pairs"],
            "equality": clean["equality"],
        },
        account=[
            *({"stage": "clean", **entry} for entry in clean["account"]),
            *({"stage": "tokenize", **entry} for entry in tokens["account"]),
        ],
        quarantine=_quarantine(job.inputs["clean"] / "quarantine"),
        splits=clean["splits"],
        lengths=_lengths(tokens),
        confusion=confusion(answers, cases, clean["classes"]),
        curves=_curve(job.inputs["curve"], f"validation_{learning.monitored_metric}"),
        trials=[_trial(trial, learning.watch_goal) for trial in search["trials"]],
        search=search,
        watch_goal=learning.watch_goal,
        watch=learning.monitored_metric.replace("_", " "),
        slices=slices(job.params, evaluator, answers, cases, job.seed),
        mistakes=_mistakes(evaluator, answers, cases),
        leak=leak,
        coverage=coverage,
        compression=_compression(rows),
    )


def confusion(
    answers: Sequence[Any], cases: Sequence[Case[Any]], classes: Sequence[str]
) -> list[list[int]]:
    """Counts (c, c); rows are truths."""
    index = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    for answer, case in zip(answers, cases, strict=True):
        counts[index[case.truth], index[answer.label]] += 1
    matrix: list[list[int]] = counts.tolist()
    return matrix


def slices(
    params: EvaluateParams,
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Accuracy with its interval on each slice of the test cases."""
    groups: dict[str, list[int]] = defaultdict(list)
    for position, case in enumerate(cases):
        for kind, value in case.slices.items():
            groups[f"{kind}: {value}"].append(position)
    metric = next(each for each in evaluator.metrics if each.name == "accuracy")
    result = {}
    for name, positions in sorted(groups.items()):
        stats = {
            metric.name: evaluation.per_example_stats(
                metric, [answers[i] for i in positions], [cases[i] for i in positions]
            )
        }
        interval = evaluation.intervals([metric], stats, params.resamples, params.confidence, seed)[
            metric.name
        ]
        result[name] = {
            "n": len(positions),
            "accuracy": metric.value(stats[metric.name]),
            "interval": list(interval) if interval else None,
        }
    return result


def _mistakes(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], cases: Sequence[Case[Any]]
) -> list[dict[str, Any]]:
    wrong = [
        (answer, case)
        for answer, case in zip(answers, cases, strict=True)
        if not evaluator.is_correct(answer, case.truth)
    ]
    wrong.sort(key=lambda pair: (-pair[0].probability, pair[1].id))
    return [
        {
            "shown": evaluator.show(case),
            "truth": case.truth,
            "predicted": answer.label,
            "probability": answer.probability,
        }
        for answer, case in wrong[:_MISTAKES]
    ]


def _quarantine(folder: Path) -> dict[str, list[str]]:
    examples: dict[str, list[str]] = defaultdict(list)
    for row in read_table(folder).to_pylist():
        if len(examples[row["reason"]]) < _EXAMPLES and row["excerpt"]:
            examples[row["reason"]].append(f"{row['origin']}: {row['excerpt']}")
    return {reason: some for reason, some in examples.items() if some}


def _lengths(tokens: Mapping[str, Any]) -> dict[str, Any]:
    sizes = np.array([int(length) for length in tokens["histogram"]])
    weights = np.array(list(tokens["histogram"].values()))
    counts, edges = np.histogram(sizes, bins=min(40, max(1, len(sizes))), weights=weights)
    return {
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "percentiles": {name: value for name, value in tokens["lengths"].items() if name != "mean"},
    }


def _curve(path: Path, watch: str) -> list[dict[str, Any]]:
    return [
        {
            "arm": "trained",
            "epoch": float(row["epoch"]),
            "train_loss": float(row["train_loss"]),
            "validation_loss": float(row["validation_loss"]),
            "watch": float(row[watch]),
        }
        for row in _csv(path)
    ]


def _trial(trial: Mapping[str, Any], goal: str) -> dict[str, Any]:
    curve = trial["curve"]
    return {
        **trial,
        "watch": (min if goal == "min" else max)(curve) if curve else None,
        "epochs": len(curve),
    }


def _compression(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of each compressed candidate to the one it was made from: the one whose title its own begins with, for a student the best network."""
    networks = [row for row in rows if row["name"] in ("trained", "tuned")]
    result = []
    for row in rows:
        steps = row["title"].split("(")[-1].rstrip(")").split(" + ")
        if len(steps) < 2:
            continue
        parent = next((each for each in networks if each["title"].endswith(f"({steps[0]})")), None)
        if parent:
            ratio = {
                "size": row["size_bytes"] / parent["size_bytes"],
                "latency": row["latency_ms"]["p50"] / parent["latency_ms"]["p50"],
                "accuracy": row["test"]["accuracy"] / parent["test"]["accuracy"],
            }
            result.append({"name": row["name"], "parent": parent["name"], **ratio})
    return result


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

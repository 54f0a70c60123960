"""Data of the report, read from the outputs of the stages."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.job import Job
from components.core.tables import read_manifest, read_table
from components.fields.text import FILTER_REASONS
from components.metrics import bootstrap
from components.stages.evaluate.behavior import BehaviorResult
from components.stages.evaluate.explanations import explanation_section
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report import ReportData, ShownCase, WorstCases
from components.stages.evaluate.resampling import Resampling
from components.stages.evaluate.robustness import ChangeResult
from components.tasks import base
from components.tasks.base import AnsweredSplit, Case
from components.training import evaluation

_EXAMPLES = 4
_WORST_CASES = 12

# What each recipe did, written by compress.
_RECIPES = "recipes.json"


def gather(
    job: Job,
    rows: Sequence[dict[str, Any]],
    *,
    validation: AnsweredSplit,
    test: AnsweredSplit,
    leak: Mapping[str, Any],
    abstention: Mapping[str, Any],
    predict: Callable[[Sequence[Any]], Sequence[Any]],
    behavior: Sequence[BehaviorResult],
    changes: Sequence[ChangeResult],
    resampling: Resampling,
    bundle: Path,
    failed: Sequence[Mapping[str, str]],
) -> ReportData:
    """Return the data of the report.

    Args:
        rows: the leaderboard.
        validation: answers of the winner.
        test: answers of the winner.
        leak, failed: see `ReportData`.
        abstention: table of the winner on validation; empty where answers cannot abstain.
        predict: queries -> answers of the winner.
        behavior: results of the winner in the behavior tests.
        changes: results of the winner on changed test cases.
        resampling: results of further fits.
        bundle: of the winner.
    """
    evaluator = base.evaluator(job.task)
    clean = read_manifest(job.inputs["clean"])
    tokens = read_manifest(job.inputs["tokens"])
    search: dict[str, Any] = json.loads(job.inputs["search"].read_text(encoding="utf-8"))
    learning = base.learning(job.task)
    rules = base.schema(job.task).targets
    targets = rules.info(clean)
    report = evaluator.report
    answers = test.answers
    cases = test.cases
    by_name = {metric.name: metric for metric in evaluator.metrics}
    sections: list[base.ReportSection | None] = []
    if isinstance(report, base.ReportsProbabilities):
        sections.append(report.probability_section(validation, test, targets))
    sections.append(report.confidence_section(abstention, answers, cases))
    sections += _model_sections(job, evaluator, predict, bundle, test)
    return ReportData(
        pipeline=job.tags["pipeline"],
        task=job.task,
        data_hash=tokens["data_hash"],
        seed=job.seed,
        deciding_metric=evaluator.metrics[0],
        report_metric=evaluator.report_metric,
        metrics=[by_name[name] for name in report.columns],
        leaderboard=rows,
        failed=failed,
        data_details=report.data_details(targets),
        test_cases=len(cases),
        confidence=job.params.confidence,
        counts=_counts(clean, rules.conflict_reason),
        account=_account(clean, tokens),
        quarantine=_quarantine(job.inputs["clean"] / "quarantine"),
        data_panels=report.data_panels(clean),
        lengths=_lengths(tokens),
        winner_panels=report.winner_panels(answers, cases, targets),
        winner_sections=[section for section in sections if section],
        curves=_curve(job.inputs["curve"], f"validation_{learning.monitored_metric}"),
        trials=[_trial(trial, learning.monitored_goal) for trial in search["trials"]],
        search=search,
        monitored_goal=learning.monitored_goal,
        watch=learning.monitored_metric.replace("_", " "),
        slices=slices(job.params, evaluator, answers, cases, job.seed),
        worst=_worst_cases(evaluator, answers, cases),
        leak=leak,
        behavior=behavior,
        changes=changes,
        resampling=resampling,
        compression=_compression(rows, evaluator.report_metric.name),
        recipes=_recipes(job.inputs["compressed"] / _RECIPES),
        energy_j=_fit_energy(job),
    )


def _fit_energy(job: Job) -> float | None:
    """Return the joules of train, tune and compress together; None if one of them is unknown."""
    total = 0.0
    for name in ("train_report", "tune_report", "compress_report"):
        report: dict[str, Any] = json.loads(job.inputs[name].read_text(encoding="utf-8"))
        joules = report.get("energy_j")
        if joules is None:
            return None
        total += joules
    return total


def _model_sections(
    job: Job,
    evaluator: base.TaskEvaluator,
    predict: Callable[[Sequence[Any]], Sequence[Any]],
    bundle: Path,
    test: AnsweredSplit,
) -> list[base.ReportSection | None]:
    """Return the sections about what the winner does with its inputs, see `gather`."""
    sections = []
    if isinstance(evaluator, base.InspectsModel):
        sections.append(evaluator.model_section(predict, test.cases, job.seed))
    sections.append(explanation_section(job.params, evaluator, bundle, predict, test, job.seed))
    return sections


def _counts(clean: Mapping[str, Any], conflict_reason: str) -> dict[str, Any]:
    """Return how many rows each step of clean removed.

    Args:
        clean: manifest of clean.
        conflict_reason: of rows with equal inputs and different targets.
    """
    # These are listed under other keys.
    apart = ("boilerplate", *FILTER_REASONS, conflict_reason)
    row_accounting = clean["books"]
    reasons: dict[str, int] = clean["reasons"]
    quarantined = {name: rows for name, rows in reasons.items() if name not in apart}
    return {
        "raw": row_accounting["rows_in"],
        "quarantined": quarantined,
        "exact_duplicates": row_accounting["deduplicated"],
        "conflicting": reasons.get(conflict_reason, 0),
        "conflict_reason": conflict_reason,
        "filtered": row_accounting["filtered"],
        "embargoed": row_accounting.get("embargoed"),
        "held_out": row_accounting.get("held_out"),
        "clean": row_accounting["rows_out"],
        "near_duplicate_pairs": clean["near_duplicate_pairs"],
        "equality": clean["equality"],
    }


def _account(clean: Mapping[str, Any], tokens: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what clean and tokenize did to the rows, in order."""
    entries: list[dict[str, Any]] = []
    for entry in clean["account"]:
        # The message has their number: pairs are no rows.
        whole = None if entry["what"] == "near_duplicates" else entry["of"]
        entries.append({"stage": "clean", **entry, "of": whole})
    entries.extend({"stage": "tokenize", **entry} for entry in tokens["account"])
    return entries


def slices(
    params: EvaluateParams,
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the report metric with its interval on each slice of the test cases.

    Args:
        params: of the stage.
        evaluator: of the task.
        answers: to the test cases.
        cases: the test cases.
        seed: of the bootstrap.

    Returns:
        "kind: value" -> {"n", "value", "interval": [low, high] or None}.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for position, case in enumerate(cases):
        for kind, value in case.slices.items():
            groups[f"{kind}: {value}"].append(position)
    metric = evaluator.report_metric
    result = {}
    for name, positions in sorted(groups.items()):
        slice_answers = [answers[i] for i in positions]
        slice_cases = [cases[i] for i in positions]
        stats = evaluation.per_example_stats(metric, slice_answers, slice_cases)
        intervals = bootstrap.intervals(
            [metric],
            {metric.name: stats},
            params.resamples,
            params.confidence,
            seed,
        )
        interval = intervals[metric.name]
        result[name] = {
            "n": len(positions),
            "value": metric.value(stats),
            "interval": list(interval) if interval else None,
        }
    return result


def slices_of_weak_results(
    measured: Mapping[str, Mapping[str, Any]], scale: MetricScale, overall: Any
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the slices whose interval is worse than the result on all cases, the worst first.

    Args:
        measured: of `slices`.
        scale: of the report metric.
        overall: the result on all cases.
    """
    weak = []
    for name, row in measured.items():
        ends = row["interval"]
        if ends and max(scale.sign * end for end in ends) < scale.sign * overall:
            weak.append((name, row))
    return sorted(weak, key=lambda named: -scale.rank(named[1]["value"]))


def _worst_cases(
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
) -> WorstCases:
    """Return the cases that the winner answered worst, as the report shows them.

    Args:
        evaluator: of the task.
        answers: of the winner.
        cases: of test.
    """
    worst = evaluator.report.worst_answers(answers, cases, _WORST_CASES)
    shown = [ShownCase(evaluator.show(answer.case), answer.verdict) for answer in worst.answers]
    return WorstCases(worst.title, worst.note, shown)


def _quarantine(folder: Path) -> dict[str, list[str]]:
    """Return a few excerpts of quarantined rows for each reason."""
    examples: dict[str, list[str]] = defaultdict(list)
    for row in read_table(folder).to_pylist():
        if len(examples[row["reason"]]) < _EXAMPLES and row["excerpt"]:
            examples[row["reason"]].append(f"{row['origin']}: {row['excerpt']}")
    return {reason: excerpts for reason, excerpts in examples.items() if excerpts}


def _lengths(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Return the histogram and the percentiles of the encoded lengths.

    Args:
        tokens: manifest of tokenize.
    """
    sizes = np.array([int(length) for length in tokens["histogram"]])
    weights = np.array(list(tokens["histogram"].values()))
    bins = min(40, max(1, len(sizes)))
    counts, edges = np.histogram(sizes, bins=bins, weights=weights)
    percentiles = dict(tokens["lengths"])
    percentiles.pop("mean", None)
    return {
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "percentiles": percentiles,
    }


def _curve(path: Path, metric: str) -> list[dict[str, Any]]:
    """Return the learning curve of train, a row for each epoch.

    Args:
        path: of the CSV that train wrote.
        metric: name of the column of the monitored metric.
    """
    return [
        {
            "arm": "trained",
            "epoch": float(row["epoch"]),
            "train_loss": float(row["train_loss"]),
            "validation_loss": float(row["validation_loss"]),
            "watch": float(row[metric]),
        }
        for row in _read_csv(path)
    ]


def _trial(trial: Mapping[str, Any], goal: str) -> dict[str, Any]:
    """Return a trial with its best metric and its number of epochs."""
    curve = trial["curve"]
    if goal == "min":
        best = min
    else:
        best = max
    return {
        **trial,
        "watch": best(curve) if curve else None,
        "epochs": len(curve),
    }


def _recipes(path: Path) -> list[dict[str, Any]]:
    """Return a row for each step of the recipes of compress; none where compress wrote none.

    Args:
        path: the file of compress.
    """
    if not path.is_file():
        return []
    recipes: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, steps in recipes.items():
        for step in steps:
            given = {key: value for key, value in step["settings"].items() if value is not None}
            settings = [f"{key} {value}" for key, value in given.items()]
            outcome = step["reason"] or "kept"
            if step["reason"] and not step["kept"]:
                outcome = f"dropped: {step['reason']}"
            rows.append(
                {
                    "recipe": name,
                    "step": step["step"],
                    "settings": ", ".join(settings),
                    "size_bytes": step["size_bytes"],
                    "outcome": outcome,
                }
            )
    return rows


def _compression(rows: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Return the ratios of each compressed candidate to its parent.

    The parent is the network that the first step of the candidate's origin made.

    Args:
        rows: of the leaderboard.
        metric: name of the report metric.
    """
    networks = [row for row in rows if row["name"] in ("trained", "tuned")]
    result = []
    for row in rows:
        first, *further = row["origin"]
        if not further:
            continue
        parent = next((network for network in networks if network["origin"] == [first]), None)
        if parent:
            result.append(
                {
                    "name": row["name"],
                    "parent": parent["name"],
                    "size": row["size_bytes"] / parent["size_bytes"],
                    "latency": row["latency_ms"]["p50"] / parent["latency_ms"]["p50"],
                    "metric": _quotient(row["test"][metric], parent["test"][metric]),
                }
            )
    return result


def _quotient(value: float | None, parent: float | None) -> float | None:
    """Return the ratio of two metrics; None where one is missing or the parent's is 0."""
    if value is None or not parent:
        return None
    return value / parent


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

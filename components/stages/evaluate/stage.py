"""evaluate: all candidates measured alike; validation chooses the winner, test is looked at once, to report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core import escaping
from components.core.bundles import CARD, add_to_profile, read_bundle
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_table, write_table
from components.inference.abstention import KEY, abstention_table, coverage_report
from components.monitoring.profile import predictions_of
from components.stages.evaluate.candidates import BASELINE, Measured, assess, choose, find
from components.stages.evaluate.leakage import leaked_rows, naive_claim
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report import write_report
from components.stages.evaluate.report_data import gather
from components.tasks import base
from components.training import evaluation


def run(job: Job) -> None:
    """Write the leaderboard, the winner, its metrics and answers, and the report."""
    import torch

    torch.set_num_threads(1)  # as a replica that serves has
    params: EvaluateParams = job.params
    evaluator = base.evaluator(job.task)
    validation, test = (
        list(evaluator.cases(read_table(job.inputs["clean"], split)))
        for split in ("validation", "test")
    )
    bundles = find({name: job.inputs[name] for name in ("trained", "tuned", "compressed")})
    measured = _measured(job, bundles, validation, test)
    rows = [each.row for each in measured.values()]
    winner = choose(rows, evaluator.metrics[0])
    for row in rows:
        row["winner"] = row is winner
    best, baseline = (measured[name].decisive for name in (winner["name"], BASELINE))
    winner["over_baseline"] = list(
        evaluation.paired_interval(
            evaluator.metrics[0], best, baseline, params.resamples, params.confidence, job.seed
        )
    )
    rows.sort(
        key=lambda row: (
            row["name"] != winner["name"],
            -row["validation"][evaluator.metrics[0].name],
        )
    )

    job.journal.progress(len(bundles), len(bundles), "the naive split")
    classes = list(read_bundle(bundles[winner["name"]])[0].classes)
    honest = next(row["test"]["accuracy"] for row in rows if row["name"] == BASELINE)
    leak = naive_claim(job, classes, honest, read_bundle(bundles[BASELINE])[1])
    answers = measured[winner["name"]].answers
    table = _abstention(evaluator, measured[winner["name"]].before, validation)
    coverage = _coverage(evaluator, table, answers, test)
    facts = gather(job, rows, answers, test, leak, coverage)
    leaked = leaked_rows(job)

    shutil.copytree(bundles[winner["name"]], job.outputs["winner"])
    add_to_profile(
        job.outputs["winner"],
        {
            "predictions": _habits(evaluator, measured[winner["name"]].before, validation),
            **({KEY: table} if table else {}),
        },
    )
    winner["bundle_sha256"] = sha256(job.outputs["winner"] / CARD)
    write_table(job.outputs["answers"], {"test": _answers(evaluator, answers, test)})
    write_atomic(
        job.outputs["leaderboard"],
        to_json(
            {
                "deciding_metric": evaluator.metrics[0].name,
                "goal": evaluator.metrics[0].goal,
                "leaked_rows": leaked,
                "candidates": rows,
            }
        ),
    )
    write_atomic(job.outputs["metrics"], to_json(_metrics(winner, leaked, leak)))
    write_atomic(job.outputs["confusion"], _confusion_csv(answers, test))
    write_report(job.outputs["html"], facts)
    figures = {f"test_{name}": value for name, value in winner["test"].items() if value is not None}
    job.journal.result({"winner": winner["name"]}, figures)
    _say(job, evaluator.metrics[0].name, winner, leaked, leak)


def _measured(
    job: Job,
    bundles: Mapping[str, Path],
    validation: Sequence[base.Case[Any]],
    test: Sequence[base.Case[Any]],
) -> dict[str, Measured]:
    """Return what each candidate reaches, by its name, and log its validation metrics."""
    measured = {}
    for number, (name, bundle) in enumerate(bundles.items()):
        job.journal.progress(number, len(bundles), f"candidates ({name})")
        shown = str(bundle.relative_to(bundle.parents[2]))
        candidate = assess(name, bundle, shown, validation, test, job.params, job.seed)
        measured[name] = candidate
        metrics = {
            f"validation_{key}": value
            for key, value in candidate.row["validation"].items()
            if value is not None
        }
        job.journal.metrics(metrics, step=0, child=name)
    return measured


def _confusion_csv(answers: Sequence[Any], cases: Sequence[base.Case[Any]]) -> str:
    """Return actual and predicted classes as CSV, for DVC's confusion matrix."""
    lines = ["actual,predicted"]
    for answer, case in zip(answers, cases, strict=True):
        lines.append(f"{_quoted(case.truth)},{_quoted(answer.label)}")
    return "\n".join(lines) + "\n"


def _say(
    job: Job, metric: str, winner: Mapping[str, Any], leaked: int, leak: Mapping[str, Any]
) -> None:
    """Print the winner, and what a naive split would have claimed."""
    low, high = winner["test_interval"][metric]
    interval = f"{job.params.confidence:.0%} interval {low:.4f} to {high:.4f}"
    job.journal.log(
        f"winner: {winner['name']}, chosen on validation; "
        f"test {metric} {winner['test'][metric]:.4f} ({interval}), {leaked} leaked rows"
    )
    job.journal.log(
        f"a naive split would have claimed {leak['naive']:.4f} for the classical baseline; "
        f"honest is {leak['honest']:.4f}"
    )


def _habits(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], cases: Sequence[base.Case[Any]]
) -> dict[str, Any]:
    """How the winner answers to what it was not trained on, for the service to compare its answers with."""
    right = [
        evaluator.is_correct(answer, case.truth)
        for answer, case in zip(answers, cases, strict=True)
    ]
    return predictions_of(
        [str(answer.label) for answer in answers],
        [evaluator.confidence(answer) for answer in answers],
        right,
    )


def _abstention(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], cases: Sequence[base.Case[Any]]
) -> dict[str, Any]:
    """Return how sure the winner was on validation and how often wrongly; nothing of a task whose answers state no confidence."""
    confidence = [evaluator.confidence(answer) for answer in answers]
    stated = [value for value in confidence if value is not None]
    right = [
        evaluator.is_correct(answer, case.truth)
        for answer, case in zip(answers, cases, strict=True)
    ]
    return abstention_table(stated, right) if stated and len(stated) == len(confidence) else {}


def _coverage(
    evaluator: base.TaskEvaluator,
    table: dict[str, Any],
    answers: Sequence[Any],
    cases: Sequence[base.Case[Any]],
) -> dict[str, Any]:
    """Return coverage against accuracy on test, for the report."""
    if not table:
        return {}
    right = [
        evaluator.is_correct(answer, case.truth)
        for answer, case in zip(answers, cases, strict=True)
    ]
    return coverage_report(
        table, [float(evaluator.confidence(answer) or 0.0) for answer in answers], right
    )


def _answers(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], cases: Sequence[base.Case[Any]]
) -> pa.Table:
    """Per test case id, query, answer (JSON), whether it is right, how sure it was and the slices (JSON): what serve compares with, and what the gates judge."""
    pairs = list(zip(answers, cases, strict=True))
    return pa.table(
        {
            "id": [case.id for _, case in pairs],
            "query": [case.query.model_dump_json() for _, case in pairs],
            "truth": [str(case.truth) for _, case in pairs],
            "answer": [answer.model_dump_json() for answer, _ in pairs],
            "right": [evaluator.is_correct(answer, case.truth) for answer, case in pairs],
            "confidence": pa.array(
                [evaluator.confidence(answer) for answer, _ in pairs], pa.float64()
            ),
            "slices": [json.dumps(dict(case.slices), ensure_ascii=False) for _, case in pairs],
        }
    )


def _metrics(winner: dict[str, object], leaked: int, leak: dict[str, object]) -> dict[str, object]:
    """Flat figures of the winner: test under plain names, validation prefixed."""
    test, validation, interval = (
        dict(winner[key])  # type: ignore[call-overload]
        for key in ("test", "validation", "test_interval")
    )
    latency: dict[str, float] = dict(winner["latency_ms"])  # type: ignore[call-overload]
    return {
        "winner": winner["name"],
        **test,
        "accuracy_low": interval["accuracy"][0],
        "accuracy_high": interval["accuracy"][1],
        **{f"validation_{name}": value for name, value in validation.items()},
        "size_bytes": winner["size_bytes"],
        "latency_p50_ms": latency["p50"],
        "latency_p95_ms": latency["p95"],
        "throughput_per_s": winner["throughput_per_s"],
        "leaked_rows": leaked,
        "naive_split_accuracy": leak["naive"],
    }


def _quoted(text: object) -> str:
    return '"' + escaping.script(str(text)).replace('"', '""') + '"'

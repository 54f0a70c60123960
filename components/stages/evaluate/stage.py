"""Stage evaluate: measure all candidates in the same way.

Validation chooses the winner. The test split is used once, to report.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core import escaping
from components.core.bundles import CARD, add_to_profile, read_bundle
from components.core.errors import GristmillError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.inference.abstention import KEY
from components.inference.predictor import load
from components.metrics import bootstrap
from components.metrics.selective_prediction import abstention_table
from components.monitoring.profile import predictions_of
from components.stages.evaluate.answer_costs import measure_costs
from components.stages.evaluate.behavior import BehaviorResult, run_tests
from components.stages.evaluate.candidates import (
    BASELINE,
    CandidateResult,
    find_bundles,
    measure_candidate,
)
from components.stages.evaluate.croissant import write_croissant
from components.stages.evaluate.leakage import leaked_rows, naive_claim
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.model_cards import gather_cards, write_cards
from components.stages.evaluate.parameter_count import count_parameters
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.process_costs import ProcessCosts
from components.stages.evaluate.report import write_report
from components.stages.evaluate.report_data import gather
from components.stages.evaluate.resampling import as_json, fold_metrics, resample
from components.stages.evaluate.robustness import measure_changes
from components.stages.evaluate.winner_choice import choose_winner
from components.tasks import base


def run(job: Job) -> None:
    """Write the leaderboard, the winner, its metrics and answers, and the report."""
    import torch

    # A replica that serves has one thread too.
    torch.set_num_threads(1)
    evaluator = base.evaluator(job.task)
    metric = evaluator.metrics[0]
    clean = job.inputs["clean"]
    inputs = base.chosen_inputs(read_manifest(clean))
    validation = list(evaluator.cases(read_table(clean, "validation"), inputs))
    test = list(evaluator.cases(read_table(clean, "test"), inputs))
    bundles = find_bundles({name: job.inputs[name] for name in ("trained", "tuned", "compressed")})
    results, failed = _results(job, bundles, validation, test)
    rows = _ranked_rows(job, metric, results)
    winner = rows[0]
    winner_bundle = bundles[winner["name"]]
    job.journal.progress(len(bundles), len(bundles), "the naive split")
    targets = read_bundle(winner_bundle)[0].targets
    honest = results[BASELINE].row["test"][evaluator.report_metric.name]
    leak = naive_claim(job, targets, honest, read_bundle(bundles[BASELINE])[1])
    answers = results[winner["name"]].test_answers
    validation_answers = results[winner["name"]].validation_answers
    abstention = _abstention(evaluator, validation_answers, validation)
    predictor = load(winner_bundle)
    behavior = run_tests(job.params.behavior, evaluator, predictor.predict, targets)
    answered = base.AnsweredSplit(answers, test)
    changes = measure_changes(job.params, predictor, answered, job.seed)
    resampling = resample(job, winner, winner_bundle)
    data = gather(
        job,
        rows,
        validation=base.AnsweredSplit(validation_answers, validation),
        test=answered,
        leak=leak,
        abstention=abstention,
        predict=predictor.predict,
        behavior=behavior,
        changes=changes,
        resampling=resampling,
        bundle=winner_bundle,
        failed=failed,
    )
    leaked = leaked_rows(job)

    shutil.copytree(winner_bundle, job.outputs["winner"])
    truths = [case.truth for case in validation]
    predictions = predictions_of(evaluator, validation_answers, truths)
    profile = {"predictions": predictions, **results[winner["name"]].profile}
    if abstention:
        profile[KEY] = abstention
    add_to_profile(job.outputs["winner"], profile)
    winner["bundle_sha256"] = sha256(job.outputs["winner"] / CARD)
    write_table(job.outputs["answers"], {"test": _answers(evaluator, answers, test)})
    metrics = _metrics(winner, evaluator.report_metric.name, leaked, leak)
    metrics["fit_energy_j"] = data.energy_j
    leaderboard = {
        "deciding_metric": metric.name,
        "goal": metric.goal,
        "leaked_rows": leaked,
        "fit_energy_j": data.energy_j,
        "behavior": [_behavior_row(result) for result in behavior],
        "robustness": [vars(result) for result in changes],
        "candidates": rows,
        "failed": failed,
    }
    if resampling.recipe:
        leaderboard["resampling"] = as_json(resampling)
    if resampling.folds:
        metrics["folds"] = fold_metrics(resampling, [metric.name, evaluator.report_metric.name])
    write_atomic(job.outputs["leaderboard"], to_json(leaderboard))
    write_atomic(job.outputs["metrics"], to_json(metrics))
    write_atomic(job.outputs["confusion"], _plot_csv(evaluator.report.plot_rows(answers, test)))
    write_report(job.outputs["html"], data)
    write_cards(job.outputs["cards"], gather_cards(job, data, winner_bundle, leaked))
    write_croissant(job.outputs["cards"], job.inputs["clean"], job.params.card)
    job.journal.result({"winner": winner["name"]}, _prefixed("test", winner["test"]))
    _log_winner(job, winner, leaked, leak)
    _log_behavior(job, behavior)


def _results(
    job: Job,
    bundles: Mapping[str, Path],
    validation: Sequence[base.Case[Any]],
    test: Sequence[base.Case[Any]],
) -> tuple[dict[str, CandidateResult], list[dict[str, str]]]:
    """Return the results of each candidate with its costs, and log its validation metrics.

    Args:
        bundles: name -> folder of each candidate.
        validation: cases of validation.
        test: cases of test.

    Returns:
        name -> results, and rows {"name", "reason"} of the candidates that failed.

    Raises:
        GristmillError: the baseline failed, to which all are compared.
    """
    queries = [case.query for case in validation]
    results = {}
    process_costs = {}
    failed = []
    with ProcessCosts(bundles, queries) as processes:
        for number, (name, bundle) in enumerate(bundles.items()):
            job.journal.progress(number, len(bundles), f"candidates ({name})")
            try:
                process_costs[name] = processes.of(name)
            except GristmillError as error:
                if name == BASELINE:
                    raise
                failed.append({"name": name, "reason": error.what})
                job.journal.log(f"{name}: failed, no candidate: {error.what}")
                continue
            shown = str(bundle.relative_to(bundle.parents[2]))
            result = measure_candidate(name, bundle, shown, validation, test, job.params, job.seed)
            results[name] = result
            metrics = _prefixed("validation", result.row["validation"])
            job.journal.metrics(metrics, step=0, child=name)
    job.journal.progress(len(bundles), len(bundles), "the cost of answers")
    predictors = {name: result.predictor for name, result in results.items()}
    costs = measure_costs(predictors, queries, job.params)
    for name, result in results.items():
        result.row.update(costs[name])
        result.row.update(process_costs[name])
        result.row["parameters"] = count_parameters(bundles[name])
    return results, failed


def _prefixed(split: str, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that are defined, named after the split."""
    return {f"{split}_{name}": value for name, value in metrics.items() if value is not None}


def _ranked_rows(
    job: Job,
    metric: base.Metric,
    results: Mapping[str, CandidateResult],
) -> list[dict[str, Any]]:
    """Return the rows of the leaderboard: the winner first, then the others by validation.

    Args:
        metric: the deciding one.
        results: of all candidates.
    """
    params: EvaluateParams = job.params
    rows = [result.row for result in results.values()]
    stats = {name: result.validation_stats for name, result in results.items()}
    winner = choose_winner(rows, stats, metric, params, job.seed)
    for row in rows:
        row["winner"] = row is winner
    over_baseline = bootstrap.paired_interval(
        metric,
        results[winner["name"]].deciding_stats,
        results[BASELINE].deciding_stats,
        params.resamples,
        params.confidence,
        job.seed,
    )
    winner["over_baseline"] = list(over_baseline)

    scale = MetricScale(metric)

    def rank(row: dict[str, Any]) -> tuple[bool, float]:
        """Return the sort key of a row: the winner first, then the best on validation."""
        return row["name"] != winner["name"], scale.rank(row["validation"][metric.name])

    return sorted(rows, key=rank)


def _behavior_row(result: BehaviorResult) -> dict[str, Any]:
    """Return the numbers of a behavior test for the leaderboard."""
    return {
        "name": result.name,
        "kind": result.kind,
        "cases": result.cases,
        "failed": len(result.failed),
    }


def _plot_csv(rows: Sequence[tuple[str, str]]) -> str:
    """Return the true and the predicted value of each case as CSV, for the plots of DVC."""
    lines = ["actual,predicted"]
    for actual, predicted in rows:
        lines.append(f"{_quoted(actual)},{_quoted(predicted)}")
    return "\n".join(lines) + "\n"


def _log_winner(
    job: Job,
    winner: Mapping[str, Any],
    leaked: int,
    leak: Mapping[str, Any],
) -> None:
    """Log the winner, and what a naive split would have claimed.

    Args:
        winner: its row of the leaderboard.
        leaked: number of leaked rows.
        leak: of `naive_claim`.
    """
    evaluator = base.evaluator(job.task)
    metric = evaluator.metrics[0]
    value = base.metric_text(metric, winner["test"][metric.name])
    ends = winner["test_interval"][metric.name]
    interval = "no interval"
    if ends:
        interval = f"{job.params.confidence:.0%} interval {base.interval_text(metric, ends)}"
    job.journal.log(
        f"winner: {winner['name']}, {winner['choice']['reason']}; "
        f"test {metric.name} {value} ({interval}), {leaked} leaked rows"
    )
    honest = base.metric_text(evaluator.report_metric, leak["honest"])
    line = f"classical baseline: {evaluator.report_metric.name} {honest}"
    if leak["is_split"]:
        naive = base.metric_text(evaluator.report_metric, leak["naive"])
        line += f". A random split of all rows would show {naive}"
    job.journal.log(line)


def _log_behavior(job: Job, behavior: Sequence[BehaviorResult]) -> None:
    """Log how many cases of the behavior tests failed, if there are such tests."""
    if behavior:
        failures = sum(len(result.failed) for result in behavior)
        cases = sum(result.cases for result in behavior)
        job.journal.log(f"behavior tests: {failures} of {cases} cases failed")


def _abstention(
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    cases: Sequence[base.Case[Any]],
) -> dict[str, Any]:
    """Return the abstention table of the winner on validation.

    It is empty for a task whose answers cannot abstain.

    Args:
        evaluator: of the task.
        answers: of the winner.
        cases: of validation.
    """
    if not isinstance(evaluator, base.Abstains):
        return {}
    confidence = [evaluator.confidence(answer) for answer in answers]
    stated = [value for value in confidence if value is not None]
    if not stated or len(stated) < len(confidence):
        return {}
    return abstention_table(stated, _correct(evaluator, answers, cases))


def _correct(
    evaluator: base.Abstains,
    answers: Sequence[Any],
    cases: Sequence[base.Case[Any]],
) -> list[bool]:
    """Return for each answer whether it is correct."""
    return [
        evaluator.is_correct(answer, case.truth)
        for answer, case in zip(answers, cases, strict=True)
    ]


def _answers(
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    cases: Sequence[base.Case[Any]],
) -> pa.Table:
    """Return the table of the winner's answers to the test cases.

    Serve compares its answers with it, and the gates read it. Query, answer and slices are JSON.

    Args:
        evaluator: of the task.
        answers: of the winner.
        cases: of test.
    """
    return pa.table(
        {
            "id": [case.id for case in cases],
            "query": [case.query.model_dump_json() for case in cases],
            "truth": [str(case.truth) for case in cases],
            "answer": [answer.model_dump_json() for answer in answers],
            **evaluator.case_stats(answers, [case.truth for case in cases]),
            "slices": [json.dumps(dict(case.slices), ensure_ascii=False) for case in cases],
        }
    )


def _metrics(
    winner: Mapping[str, Any],
    report_metric: str,
    leaked: int,
    leak: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metrics of the winner: test under plain names, validation prefixed.

    Args:
        winner: its row of the leaderboard.
        report_metric: name of the metric that has an interval.
        leaked: number of leaked rows.
        leak: of `naive_claim`.
    """
    low, high = winner["test_interval"][report_metric] or (None, None)
    validation = winner["validation"]
    energy = winner["energy_j_per_1000"]
    return {
        "winner": winner["name"],
        **winner["test"],
        f"{report_metric}_low": low,
        f"{report_metric}_high": high,
        **{f"validation_{name}": value for name, value in validation.items()},
        "size_bytes": winner["size_bytes"],
        "latency_p50_ms": winner["latency_ms"]["p50"],
        "latency_p95_ms": winner["latency_ms"]["p95"],
        "latency_p99_ms": winner["latency_ms"]["p99"],
        "throughput_per_s": winner["throughput_per_s"],
        "energy_j_per_1000": energy["weighted"][0] if energy else None,
        "parameters": winner["parameters"],
        "load_ms": winner["load_ms"],
        "peak_memory_bytes": winner["peak_memory_bytes"],
        "leaked_rows": leaked,
        f"naive_split_{report_metric}": leak["naive"],
    }


def _quoted(text: object) -> str:
    """Return a text as a quoted CSV field."""
    plain = escaping.script(str(text))
    return '"' + plain.replace('"', '""') + '"'

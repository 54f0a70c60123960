"""Check for leaks between splits, and what a leaking split would have claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.bundles import Card
from components.core.job import Job
from components.core.tables import read_manifest, read_table
from components.inference.predictor import Predictor, bundled_encoder_files
from components.stages.evaluate.candidates import BASELINE
from components.tasks import base
from components.training import evaluation


def leaked_rows(job: Job) -> int:
    """Return the number of rows of validation and test that are in an earlier split too.

    They are counted anew from the output of clean. Rows with equal inputs are the same, or where
    each row is a case of its own, rows of one group.
    """
    schema = _schema(job)
    fields = schema.fields(job.sections["clean"])
    inputs = base.input_names(schema)
    by_group = _rows_are_cases(job)
    columns = ["group"] if by_group else inputs
    seen: set[str] = set()
    leaked = 0
    for split in ("train", "validation", "test"):
        table = read_table(job.inputs["clean"], split, columns)
        if by_group:
            keys = table["group"].to_pylist()
        else:
            keys = [base.row_key(fields, inputs, row) for row in table.to_pylist()]
        leaked += sum(key in seen for key in keys)
        seen.update(keys)
    return leaked


def naive_claim(
    job: Job,
    targets: base.TargetInfo,
    honest: float,
    fitted: Mapping[str, bytes],
) -> dict[str, Any]:
    """Return what the classical baseline scores on a random split of the rows before deduplication.

    Args:
        targets: of the winner.
        honest: report metric of the classical baseline.
        fitted: its files. What it chose on validation is taken here too: both claims are of the
            same model, and this one is fitted once.

    Returns:
        {"honest", "naive": of the report metric, "leaked_rows", "test_rows", "is_split": whether
        the random split puts equal or similar rows on both sides}. A leaked row is a test row with
        an equal row in train; there is no number where these are cases of their own.
    """
    test, validation, train = _random_split(job, _naive_rows(job, targets))
    chosen = bundled_encoder_files(fitted)
    predictor = fit_baseline(job, BASELINE, train, validation, targets, chosen)
    evaluator = base.evaluator(job.task)
    cases = list(evaluator.cases(test))
    answers = evaluation.answer(predictor, cases)
    metric = evaluator.report_metric
    stats = evaluation.per_example_stats(metric, answers, cases)
    leaked = _rows_in_train(job, test, train)
    return {
        "honest": honest,
        "naive": metric.value(stats),
        "leaked_rows": leaked,
        "test_rows": len(cases),
        "is_split": leaked != 0 or _has_similar_rows(job),
    }


def _has_similar_rows(job: Job) -> bool:
    """Return whether clean has found similar rows, which a random split may divide."""
    return bool(read_manifest(job.inputs["clean"])["near_duplicate_pairs"])


def _naive_rows(job: Job, targets: base.TargetInfo) -> pa.Table:
    """Return the rows before deduplication that the winner can be judged on."""
    rows = read_table(job.inputs["audit"], "naive")
    manifest = read_manifest(job.inputs["clean"])
    return base.schema(job.task).targets.select(rows, manifest, targets)


def _random_split(job: Job, rows: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return test, validation and train rows of a random split.

    Args:
        job: evaluate, whose seed draws the order.
        rows: to split.
    """
    order = np.random.default_rng(job.seed).permutation(rows.num_rows)
    shares: Any = job.sections["clean"]
    test_rows = int(rows.num_rows * shares.test_share)
    test_end = max(1, test_rows)
    validation_rows = int(rows.num_rows * shares.validation_share)
    validation_end = test_end + max(1, validation_rows)
    test = rows.take(order[:test_end])
    validation = rows.take(order[test_end:validation_end])
    train = rows.take(order[validation_end:])
    return test, validation, train


def fit_baseline(
    job: Job,
    name: str,
    train: pa.Table,
    validation: pa.Table,
    targets: base.TargetInfo,
    chosen: Mapping[str, bytes] | None = None,
) -> Predictor:
    """Return a baseline that is fitted to other rows than those of train.

    Args:
        job: evaluate.
        name: of the baseline.
        train: rows to learn from.
        validation: rows that choose what the params leave open.
        targets: of the winner.
        chosen: see `base.Baseline.fit`.
    """
    baseline = base.baselines(job.task).baselines[name]
    arrays, files = baseline.fit(
        train,
        targets,
        job.sections["train"],
        job.sections["clean"],
        job.seed,
        validation,
        chosen,
        _schema(job).chosen,
    )
    card = Card(job.task, "numpy", name, {}, targets, job.seed, "", "", ["fit"])
    return Predictor(card, baseline.featurizer(files), baseline.scorer(arrays))


def _rows_in_train(job: Job, test: pa.Table, train: pa.Table) -> int | None:
    """Return the number of test rows with an equal row in train; None where these are cases."""
    if _rows_are_cases(job):
        return None
    schema = _schema(job)
    fields = schema.fields(job.sections["clean"])
    inputs = base.input_names(schema)
    train_rows = train.select(inputs).to_pylist()
    train_keys = {base.row_key(fields, inputs, row) for row in train_rows}
    test_rows = test.select(inputs).to_pylist()
    return sum(base.row_key(fields, inputs, row) in train_keys for row in test_rows)


def _rows_are_cases(job: Job) -> bool:
    """Return whether rows with equal inputs are cases of their own."""
    return bool(read_manifest(job.inputs["clean"]).get(base.ROWS_ARE_CASES))


def _schema(job: Job) -> base.Schema:
    """Return the schema of the pipeline."""
    return base.schema_of(job.task, read_manifest(job.inputs["clean"]))

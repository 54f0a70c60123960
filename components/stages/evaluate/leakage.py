"""Leaks: that there are none, and what they would have claimed."""

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
    """Rows of validation and test that stand in an earlier split too, counted anew from clean itself."""
    fields = base.schema(job.task).fields(job.sections["clean"])
    inputs = [role.name for role in base.schema(job.task).roles if role.role == "input"]
    seen: set[str] = set()
    leaked = 0
    for split in ("train", "validation", "test"):
        keys = [
            base.row_key(fields, inputs, row)
            for row in read_table(job.inputs["clean"], split, inputs).to_pylist()
        ]
        leaked += sum(key in seen for key in keys)
        seen.update(keys)
    return leaked


def naive_claim(
    job: Job,
    classes: list[str],
    honest: float,
    fitted: Mapping[str, bytes],
) -> dict[str, Any]:
    """Return what the classical baseline scores on a random split of the rows before deduplication.

    Args:
        job: evaluate.
        classes: of the winner.
        honest: accuracy of the classical baseline.
        fitted: its files. What it chose on validation is taken here too: both claims are of the
            same model, and this one is fitted once.

    Returns:
        {"honest", "naive": accuracies, "leaked_rows", "test_rows"}; leaked: test rows whose equal stands in train.
    """
    task = base.schema(job.task)
    rows = read_table(job.inputs["audit"], "naive")
    merged = read_manifest(job.inputs["clean"])["merged_classes"]
    rows = rows.set_column(
        rows.schema.get_field_index("label"),
        "label",
        pa.array([merged.get(label, label) for label in rows["label"].to_pylist()]),
    )
    rows = rows.filter(
        pa.array([label in set(classes) for label in rows["label"].to_pylist()])
    )  # a class may have vanished since
    order = np.random.default_rng(job.seed).permutation(rows.num_rows)
    shares: Any = job.sections["clean"]
    cut = max(1, int(rows.num_rows * shares.test_share))
    second = cut + max(1, int(rows.num_rows * shares.validation_share))
    test, validation, train = (rows.take(part) for part in np.split(order, [cut, second]))
    baseline = base.baselines(job.task).baselines[BASELINE]
    arrays, files = baseline.fit(
        train,
        classes,
        job.sections["train"],
        job.sections["clean"],
        job.seed,
        validation,
        bundled_encoder_files(fitted),
    )
    predictor = Predictor(
        Card(job.task, "numpy", BASELINE, {}, classes, job.seed, "", "", ["naive"]),
        baseline.featurizer(files),
        baseline.scorer(arrays),
    )
    evaluator = base.evaluator(job.task)
    cases = list(evaluator.cases(test))
    answers = evaluation.answer(predictor, cases)
    right = sum(
        evaluator.is_correct(answer, case.truth)
        for answer, case in zip(answers, cases, strict=True)
    )
    fields = task.fields(job.sections["clean"])
    inputs = [role.name for role in task.roles if role.role == "input"]
    stored = {base.row_key(fields, inputs, row) for row in train.select(inputs).to_pylist()}
    leaked = sum(
        base.row_key(fields, inputs, row) in stored for row in test.select(inputs).to_pylist()
    )
    return {
        "honest": honest,
        "naive": right / len(cases),
        "leaked_rows": leaked,
        "test_rows": len(cases),
    }

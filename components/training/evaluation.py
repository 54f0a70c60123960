"""Measure candidates: answers, and metrics on any subset of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.inference.predictor import Predictor
from components.metrics.bootstrap import PerExampleStats
from components.tasks import base
from components.tasks.base import Case, Metric

_ROWS_AT_ONCE = 128


def answer(predictor: Predictor, cases: Sequence[Case[Any]], batch: int = 64) -> list[Any]:
    """Return the answers to all cases, in order.

    Cases of similar size are predicted together, so that little padding is computed.

    Args:
        predictor: the model.
        cases: the cases.
        batch: cases of a batch.
    """
    order = sorted(range(len(cases)), key=lambda i: len(cases[i].query.model_dump_json()))
    answers: list[Any] = [None] * len(cases)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        predictions = predictor.predict([cases[row].query for row in rows])
        for row, prediction in zip(rows, predictions, strict=True):
            answers[row] = prediction
    return answers


def per_example_stats(
    metric: Metric, answers: Sequence[Any], cases: Sequence[Case[Any]]
) -> PerExampleStats:
    """Return a metric's statistics of all cases: name -> (cases, ...)."""
    pairs = zip(answers, cases, strict=True)
    per_case = [metric.example_stats(prediction, case.truth) for prediction, case in pairs]
    result = {}
    for name in per_case[0]:
        result[name] = np.array([stats[name] for stats in per_case])
    return result


def compute_metrics(
    metrics: Sequence[Metric], stats: Mapping[str, PerExampleStats]
) -> dict[str, float | None]:
    """Return each metric over all cases. None: the metric is not defined on them.

    Args:
        metrics: the metrics.
        stats: name of a metric -> its statistics.
    """
    return {metric.name: _finite(metric.value(stats[metric.name])) for metric in metrics}


def validation_score(bundle: Path, tokens: Path) -> float:
    """Return the monitored metric of a torch or ONNX bundle on validation.

    Larger is better: the value is negated where the task minimizes it.
    """
    from components.core.bundles import read_card
    from components.inference.graph_module import load_network

    return module_score(load_network(bundle), tokens, read_card(bundle).card.task)


def module_score(module: Any, tokens: Path, task: str) -> float:
    """Return the monitored metric of a network on validation. Larger is better.

    Args:
        module: the network, in evaluation mode.
        tokens: folder of encoded tables.
        task: name of the task.
    """
    import torch

    from components.training.batches import EncodedRows, in_order, load_encoder

    learning = base.learning(task)
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    totals: dict[str, Any] = {}
    with torch.inference_mode():
        for numbers in in_order(rows.lengths, 256):
            arrays = rows.batch(numbers)
            batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
            for name, value in learning.accumulate(module, batch).items():
                totals[name] = totals[name] + value if name in totals else value
    return monitored_score(task, totals)


def monitored_score(task: str, totals: Mapping[str, Any]) -> float:
    """Return the monitored metric of a task from sums over rows. Larger is better.

    Args:
        task: name of the task.
        totals: name -> tensor, of `Learning.accumulate`.
    """
    learning = base.learning(task)
    metrics = learning.compute({name: value.numpy() for name, value in totals.items()})
    metric = metrics[learning.monitored_metric]
    return metric if learning.monitored_goal == "max" else -metric


def row_outputs(module: Any, rows: Any, device: Any = "cpu") -> NDArray[np.float32]:
    """Return the outputs (rows, ...) of a network for all rows, in their order.

    Args:
        module: the network, in evaluation mode, on the device.
        rows: the `EncodedRows`.
        device: that computes.
    """
    import torch

    from components.training.batches import in_order

    outputs: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for numbers in in_order(rows.lengths, _ROWS_AT_ONCE):
            arrays = dict(rows.batch(numbers))
            del arrays["target"]
            inputs = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
            answers = module(**inputs).float().cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(rows), *answers.shape[1:]), np.float32)
            outputs[numbers] = answers
    assert outputs is not None
    return outputs


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

"""Distillation: the loss against a teacher, whose answers are computed once or in each step.

They are computed once where the rows are the same in all epochs. What the loss is, a task says.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.core.files import write_atomic
from components.inference.predictor import load_module
from components.tasks import base
from components.tasks.base import Batch
from components.training.batches import TEACHER, EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.precision import Precision, resolve
from components.training.train_step import LossFunction

_ROWS_AT_ONCE = 128


def distillation_loss(spec: FitConfig, learning: base.Learning) -> LossFunction:
    """Return the loss against a teacher, whose answers are in the batch or computed here.

    Args:
        spec: the fit.
        learning: the loss of the task.
    """
    assert spec.teacher is not None
    teacher = None if spec.teacher_answers else load_module(spec.teacher)

    def loss(module: torch.nn.Module, batch: Batch) -> base.Loss:
        apart = ("target", "weight", TEACHER)
        inputs = {name: value for name, value in batch.items() if name not in apart}
        if teacher is None:
            answers = batch[TEACHER]
        else:
            with torch.no_grad():
                answers = teacher.to(batch["target"].device)(**inputs)
        return learning.distillation_loss(
            module(**inputs), answers, batch, spec.temperature, spec.teacher_weight
        )

    return loss


def write_teacher_answers(spec: FitConfig, path: Path) -> None:
    """Write the teacher's outputs (rows, ...) for all rows that a fit learns from.

    They are float32 in a .npy file. A file that is there is complete, and stays.

    Args:
        spec: the fit.
        path: of the file.
    """
    if path.exists():
        return
    assert spec.teacher is not None
    rows = EncodedRows(spec.tokens, spec.splits, load_encoder(spec.tokens, spec.task))
    module = load_module(spec.teacher)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device)
    precision = Precision(resolve(spec.params.precision, module), device)
    answers: NDArray[np.float32] | None = None
    with torch.inference_mode(), precision.context():
        for numbers in in_order(rows.lengths, _ROWS_AT_ONCE):
            arrays = dict(rows.batch(numbers))
            del arrays["target"]
            inputs = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
            outputs = module(**inputs).float().cpu().numpy()
            if answers is None:
                answers = np.zeros((len(rows), *outputs.shape[1:]), np.float32)
            answers[numbers] = outputs
    assert answers is not None
    content = io.BytesIO()
    np.save(content, answers, allow_pickle=False)
    write_atomic(path, content.getvalue())

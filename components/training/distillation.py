"""Distillation: the loss against a teacher, whose answers are computed once or in each step.

They are computed once where the rows are the same in all epochs. What the loss is, a task says.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from components.core.files import write_atomic
from components.inference.predictor import load_module
from components.tasks import base
from components.tasks.base import Batch
from components.training.batches import TEACHER, EncodedRows, load_encoder
from components.training.evaluation import row_outputs
from components.training.fit_config import FitConfig
from components.training.precision import Precision, resolve
from components.training.train_step import LossFunction


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
    with precision.context():
        answers = row_outputs(module, rows, device)
    content = io.BytesIO()
    np.save(content, answers, allow_pickle=False)
    write_atomic(path, content.getvalue())

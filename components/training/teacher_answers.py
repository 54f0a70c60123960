"""Compute a teacher's answers once, where the rows are the same in all epochs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.core.files import write_atomic
from components.inference.predictor import load_module
from components.training.batches import EncodedRows, in_order, load_encoder
from components.training.fit_config import FitConfig
from components.training.loop import learns_from
from components.training.precision import Precision, resolve

_ROWS_AT_ONCE = 128


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
    rows = EncodedRows(spec.tokens, learns_from(spec), load_encoder(spec.tokens, spec.task))
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

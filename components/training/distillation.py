"""Distillation: the loss against a teacher, whose answers are computed once or in each step.

They are computed once where the rows are the same in all epochs. What the loss is, a task says.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from components.core.files import write_atomic
from components.inference.predictor import load_module
from components.tasks import base
from components.tasks.base import Batch
from components.training.batches import TEACHER, EncodedRows, load_encoder
from components.training.evaluation import row_outputs
from components.training.fit_config import FitConfig
from components.training.precision import Precision, resolve
from components.training.train_step import LossFunction

# Factor of the cosines of states: the root of 64, the width of a head of BERT.
_SHARPNESS = 8.0


def distillation_loss(
    spec: FitConfig, learning: base.Learning, student: torch.nn.Module
) -> LossFunction:
    """Return the loss against a teacher, whose answers are in the batch or computed here.

    Args:
        spec: the fit.
        learning: the loss of the task.
        student: the network that learns, which is perhaps wrapped when the loss is computed.
    """
    assert spec.teacher is not None
    teacher = None if spec.teacher_answers else load_module(spec.teacher)
    networks = [student, teacher] if spec.hidden_weight else []
    recorded = [_recorded_states(network) for network in networks]

    def loss(module: torch.nn.Module, batch: Batch) -> base.Loss:
        apart = ("target", "weight", TEACHER)
        inputs = {name: value for name, value in batch.items() if name not in apart}
        if teacher is None:
            answers = batch[TEACHER]
        else:
            with torch.no_grad():
                answers = teacher.to(batch["target"].device)(**inputs)
        result = learning.distillation_loss(
            module(**inputs), answers, batch, spec.temperature, spec.teacher_weight
        )
        if not recorded:
            return result
        of_student, of_teacher = (states() for states in recorded)
        distance = relation_loss(of_student, of_teacher, batch["mask"])
        distance = distance * batch.get("weight", torch.ones_like(distance))
        return replace(result, total=result.total + spec.hidden_weight * distance.sum())

    return loss


def relation_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return how far the relations between the tokens of each row are from the teacher's.

    A relation is the softmax of the scaled cosines of a token's state with all states of the row.
    Its KL divergence from the teacher's is averaged over tokens. That is the matching of relations
    of MiniLM (Wang et al. 2020, arXiv:2002.10957) with the states of the last layer in place of
    the values of its heads. So depths and widths may differ.

    Args:
        student: states (n, t, width).
        teacher: states (n, t, another width).
        mask: (n, t), 1 where there is a token.

    Returns:
        (n,)
    """
    expected = _log_relations(teacher, mask)
    divergence = F.kl_div(
        _log_relations(student, mask), expected, reduction="none", log_target=True
    )  # (n, t, t)
    of_token = divergence.sum(2) * mask  # (n, t)
    return of_token.sum(1) / mask.sum(1).clamp(min=1)


def _log_relations(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return log probabilities (n, t, t) of tokens by their cosines, from states (n, t, width)."""
    directions = F.normalize(states.float(), dim=2)
    cosines = directions @ directions.transpose(1, 2)
    # Padding is no token. A finite number keeps 0 * -inf out of the divergence.
    return (_SHARPNESS * cosines - 1e4 * (1 - mask[:, None, :])).log_softmax(2)


def _recorded_states(network: Any) -> Callable[[], torch.Tensor]:
    """Return a function that returns the token states (n, t, width) of the last forward pass.

    A second pass for the states would take its time again, and DDP expects one.

    Args:
        network: one with `HasTokenStates`, whose method is replaced.
    """
    last: list[torch.Tensor] = []
    compute = network.states

    def states(*args: Any, **inputs: Any) -> torch.Tensor:
        last[:] = [compute(*args, **inputs)]
        return last[0]

    network.states = states
    return last.pop


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

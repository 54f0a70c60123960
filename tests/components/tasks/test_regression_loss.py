"""What a regression minimizes, imitates and watches, against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.tasks.shared.loss.regression.loss import RegressionLearning
from components.tasks.shared.loss.regression.params import NumberLossParams

OUTPUTS = np.array([[0.5], [-1.0], [3.0], [0.0]])
TARGET = np.array([0.0, -1.5, 0.5, 0.0])
ERRORS = OUTPUTS[:, 0] - TARGET
LEARNING = RegressionLearning()


class Fixed(torch.nn.Module):
    """Answers given outputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


BATCH = {"x": torch.tensor(OUTPUTS), "target": torch.tensor(TARGET, dtype=torch.float32)}


def test_the_loss_is_a_sum_of_squares() -> None:
    loss = LEARNING.loss(Fixed(), BATCH, None)
    assert float(loss.total) == pytest.approx((ERRORS**2).sum())
    assert float(loss.count) == 4
    weighted = LEARNING.loss(Fixed(), {**BATCH, "weight": torch.tensor([1.0, 0, 2, 0])}, None)
    assert float(weighted.total) == pytest.approx(0.25 + 2 * 6.25)
    assert float(weighted.count) == 3


def test_large_errors_count_linearly_beyond_the_delta() -> None:
    loss = LEARNING.loss(Fixed(), BATCH, NumberLossParams(huber_delta=1.0))
    assert float(loss.total) == pytest.approx(0.25 + 0.25 + (2 * 2.5 - 1))
    squared = LEARNING.loss(Fixed(), BATCH, NumberLossParams(huber_delta=100.0))
    assert float(squared.total) == pytest.approx((ERRORS**2).sum())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_student_is_near_the_teacher_and_the_truth(weight: float) -> None:
    teacher = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    loss = LEARNING.distillation_loss(torch.tensor(OUTPUTS), teacher, BATCH, 2.0, weight)
    soft = ((OUTPUTS - teacher.numpy()) ** 2).sum()
    assert float(loss.total) == pytest.approx(weight * soft + (1 - weight) * (ERRORS**2).sum())
    assert float(loss.count) == 4


def test_a_row_without_a_number_learns_the_teachers_answer_alone() -> None:
    outputs = torch.tensor(OUTPUTS, requires_grad=True)
    teacher = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    target = torch.tensor([0.0, torch.nan, 0.5, 0.0])
    loss = LEARNING.distillation_loss(outputs, teacher, {"target": target}, 2.0, 0.3)
    soft = (OUTPUTS - teacher.numpy())[:, 0] ** 2
    mixed = 0.3 * soft + 0.7 * ERRORS**2
    mixed[1] = soft[1]
    assert float(loss.total.detach()) == pytest.approx(mixed.sum())
    loss.total.backward()
    assert outputs.grad is not None and bool(outputs.grad.isfinite().all())


def test_sums_of_parts_add_up_to_that_of_the_whole() -> None:
    whole = LEARNING.accumulate(Fixed(), BATCH)
    parts = [
        LEARNING.accumulate(Fixed(), {name: value[rows] for name, value in BATCH.items()})
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)
    metrics = LEARNING.compute({name: value.numpy() for name, value in whole.items()})
    assert metrics["loss"] == pytest.approx(np.mean(ERRORS**2))
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(ERRORS**2)))
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(ERRORS)))
    assert LEARNING.monitored_metric in metrics and LEARNING.monitored_goal == "min"


def test_rows_weigh_the_same_and_are_not_transformed() -> None:
    assert LEARNING.row_weights(TARGET, {}, None) is None
    assert LEARNING.transform(BATCH, torch.Generator(), NumberLossParams()) is BATCH


def test_half_precision_is_summed_in_full() -> None:
    batch = {"x": torch.tensor(OUTPUTS, dtype=torch.bfloat16), "target": BATCH["target"]}
    assert LEARNING.loss(Fixed(), batch, None).total.dtype == torch.float32
    assert LEARNING.accumulate(Fixed(), batch)["squares"].dtype == torch.float64

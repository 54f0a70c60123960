"""What is minimized, imitated and watched, against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stage_runner import IMAGE

from components.tasks import base
from components.tasks.image_classification.schema import OnlineTransforms
from components.tasks.shared.loss.classification.loss import ClassificationLearning
from components.tasks.shared.loss.classification.params import LossParams

STUDENT = np.array([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0], [1.0, 1.0, 1.0], [-3.0, 2.0, 0.0]])
TEACHER = np.array([[1.0, 0.0, -1.0], [2.0, 2.5, 0.0], [-1.0, 4.0, 0.2], [0.0, 1.0, 0.0]])
TARGET = np.array([0, 1, 2, 1])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))


class Fixed(torch.nn.Module):
    """Answers given logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


BATCH = {"x": torch.tensor(STUDENT), "target": torch.tensor(TARGET)}


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (2.0, 0.7), (5.0, 0.0)])
def test_imitation_is_hintons(temperature: float, weight: float) -> None:
    p, q = (log_softmax(logits / temperature) for logits in (TEACHER, STUDENT))
    soft = (np.exp(p) * (p - q)).sum() * temperature**2
    hard = -log_softmax(STUDENT)[np.arange(4), TARGET].sum()
    loss = ClassificationLearning().distillation_loss(
        torch.tensor(STUDENT), torch.tensor(TEACHER), BATCH, temperature, weight
    )
    assert float(loss.total) == pytest.approx(weight * soft + (1 - weight) * hard)
    assert float(loss.count) == 4


def test_a_row_without_a_label_learns_the_teachers_answer_alone() -> None:
    target = torch.tensor(TARGET)
    target[1] = -1
    learning = ClassificationLearning()

    def loss(rows: list[int], labels: torch.Tensor, weight: float) -> float:
        student, teacher = torch.tensor(STUDENT)[rows], torch.tensor(TEACHER)[rows]
        batch = {"target": labels[rows]}
        return float(learning.distillation_loss(student, teacher, batch, 2.0, weight).total)

    labeled = loss([0, 2, 3], torch.tensor(TARGET), 0.7)
    unlabeled = loss([1], torch.tensor(TARGET), 1.0)
    assert loss([0, 1, 2, 3], target, 0.7) == pytest.approx(labeled + unlabeled)


def test_weights_of_classes_are_of_the_rows_with_a_label() -> None:
    learning = ClassificationLearning()
    balanced = LossParams(class_weights="balanced")
    classes = {"classes": ["a", "b"]}
    weights = learning.row_weights(np.array([0, 0, 0, 1]), classes, balanced)
    mixed = learning.row_weights(np.array([-1, 0, 0, 0, 1, -1]), classes, balanced)
    assert weights is not None and mixed is not None
    assert mixed.tolist() == [1.0, *weights.tolist(), 1.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_a_sum_of_cross_entropies(smoothing: float) -> None:
    logs = log_softmax(STUDENT)
    wanted = np.full((4, 3), smoothing / 3)
    wanted[np.arange(4), TARGET] += 1 - smoothing
    loss = ClassificationLearning().loss(Fixed(), BATCH, LossParams(label_smoothing=smoothing))
    assert float(loss.total) == pytest.approx(-(wanted * logs).sum())
    assert float(loss.count) == 4


def test_tallies_of_parts_add_up_to_that_of_the_whole() -> None:
    learning = ClassificationLearning()
    whole = learning.accumulate(Fixed(), BATCH)
    parts = [
        learning.accumulate(Fixed(), {name: value[rows] for name, value in BATCH.items()})
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)
    figures = learning.compute({name: value.numpy() for name, value in whole.items()})
    assert figures["accuracy"] == 0.75  # of three equal logits the first is taken
    assert figures["loss"] == pytest.approx(-log_softmax(STUDENT)[np.arange(4), TARGET].mean())
    assert learning.monitored_metric in figures


def turned(degrees: float, pixels: float, seed: int = 0) -> torch.Tensor:
    image = torch.zeros(3, 1, 9, 9)
    image[:, :, 4, 1:8] = 1
    rng = torch.Generator().manual_seed(seed)
    return base.learning(IMAGE).transform(
        {"pixels": image, "target": torch.zeros(3)},
        rng,
        OnlineTransforms(rotate_degrees=degrees, shift_pixels=pixels),
    )["pixels"]


def test_pictures_are_turned_and_shifted_as_far_as_asked_and_each_on_its_own() -> None:
    still = turned(0, 0)
    torch.testing.assert_close(still[0, 0, 4], torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 0.0]))
    moved = turned(0, 2)
    rows = moved.sum(dim=(1, 3)).argmax(dim=1)
    assert all(abs(int(row) - 4) <= 2 for row in rows)
    assert not torch.allclose(moved[0], moved[1])
    assert not torch.allclose(turned(20, 0), still, atol=0.1)
    torch.testing.assert_close(turned(20, 2, seed=3), turned(20, 2, seed=3))

"""Learning one class out of a few: cross-entropy, distillation, and the figures watched after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional as F

from components.metrics.classification import accuracy, macro_f1
from components.tasks.base import Batch, Loss, Objective


class ClassificationLearning:
    """Facet loss.py of classification tasks."""

    monitored_metric: ClassVar[str] = "macro_f1"
    watch_goal: ClassVar[Literal["min", "max"]] = "max"

    def logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """(n, c), in single precision at least; everything in the batch but target and weight is an input of the net."""
        result: torch.Tensor = module(
            **{name: value for name, value in batch.items() if name not in ("target", "weight")}
        )
        return result.to(torch.promote_types(result.dtype, torch.float32))

    def loss(self, module: torch.nn.Module, batch: Batch, objective: Objective) -> Loss:
        """Cross-entropy with smoothed labels (Szegedy et al. 2016), times (1 - p)^gamma of the true class (Lin et al. 2017, arXiv:1708.02002), summed over weighted rows."""
        logits, target = self.logits(module, batch), batch["target"]
        each = F.cross_entropy(
            logits, target, reduction="none", label_smoothing=objective.label_smoothing
        )  # (n,)
        if objective.focal_gamma:
            each = (
                each
                * (1 - logits.softmax(1).gather(1, target[:, None])[:, 0]) ** objective.focal_gamma
            )
        weight = batch.get("weight", torch.ones_like(each))
        return Loss((each * weight).sum(), weight.sum())

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,
        weight: float,
    ) -> Loss:
        """weight * T^2 * KL(teacher || student) + (1 - weight) * cross-entropy, summed over rows (Hinton et al. 2015, eq. 4)."""
        soft = (
            F.kl_div(
                F.log_softmax(student / temperature, 1),
                F.log_softmax(teacher / temperature, 1),
                reduction="none",
                log_target=True,
            ).sum(1)
            * temperature**2
        )  # (n,)
        each = weight * soft + (1 - weight) * F.cross_entropy(
            student, batch["target"], reduction="none"
        )
        rows = batch.get("weight", torch.ones_like(each))
        return Loss((each * rows).sum(), rows.sum())

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:  # noqa: ARG002
        """Nothing on the fly."""
        return batch

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Confusion counts (c * c), summed loss (1,), rows (1,)."""
        logits = self.logits(module, batch)
        classes, target = logits.shape[1], batch["target"]
        pairs = target * classes + logits.argmax(1)
        loss = F.cross_entropy(logits, target, reduction="sum")
        return {
            "confusion": torch.bincount(pairs, minlength=classes**2).double(),
            "loss": loss.double().reshape(1),
            "rows": torch.tensor([float(len(target))], dtype=torch.float64),
        }

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Loss per row, accuracy, macro F1."""
        side = round(len(tallies["confusion"]) ** 0.5)
        confusion = tallies["confusion"].reshape(side, side)
        return {
            "loss": float(tallies["loss"][0] / max(1.0, tallies["rows"][0])),
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
        }

"""Define the losses of classification, and the metrics that are monitored after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional as F

from components.metrics.classification import accuracy, macro_f1
from components.tasks.base import Batch, Loss, TargetInfo
from components.tasks.shared.loss.classification.params import LossParams


def _or_defaults(loss_params: BaseModel | None) -> LossParams:
    """Return the params of the loss, or their defaults."""
    if loss_params is None:
        return LossParams()
    assert isinstance(loss_params, LossParams)
    return loss_params


class ClassificationLearning:
    """Facet loss.py of classification tasks."""

    monitored_metric: ClassVar[str] = "macro_f1"
    monitored_goal: ClassVar[Literal["min", "max"]] = "max"

    def logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return logits (n, c) of a batch, in fp32 or a wider type.

        All of the batch but target and weight is input of the network.

        Args:
            module: the network.
            batch: inputs of the network, "target" (n,) and perhaps "weight" (n,).
        """
        inputs = {name: value for name, value in batch.items() if name not in ("target", "weight")}
        result: torch.Tensor = module(**inputs)
        return result.to(torch.promote_types(result.dtype, torch.float32))

    def loss(self, module: torch.nn.Module, batch: Batch, loss_params: BaseModel | None) -> Loss:
        """Return the cross-entropy with smoothed labels (Szegedy et al. 2016).

        It is multiplied by (1 - p)^gamma of the true class (Lin et al. 2017, arXiv:1708.02002)
        and summed over weighted rows.

        Args:
            module: the network.
            batch: inputs of the network, "target" (n,) and perhaps "weight" (n,).
            loss_params: the `LossParams`. None: their defaults.

        Returns:
            The weighted sum of the losses; the sum of the weights.
        """
        logits = self.logits(module, batch)
        target = batch["target"]
        params = _or_defaults(loss_params)
        losses = F.cross_entropy(
            logits, target, reduction="none", label_smoothing=params.label_smoothing
        )  # (n,)
        if params.focal_gamma:
            probability = logits.softmax(1).gather(1, target[:, None])[:, 0]
            losses = losses * (1 - probability) ** params.focal_gamma
        weight = batch.get("weight", torch.ones_like(losses))
        return Loss((losses * weight).sum(), weight.sum())

    def row_weights(
        self, target: NDArray[Any], targets: TargetInfo, loss_params: BaseModel | None
    ) -> NDArray[np.float32] | None:
        """Return (n,) weights inverse to class frequency, with mean 1 over the rows.

        A row without a label weighs 1.

        Args:
            target: (n,) class numbers, or -1 where there is no label.
            targets: with the classes.
            loss_params: the `LossParams`, which say whether rows are weighed.
        """
        if _or_defaults(loss_params).class_weights != "balanced":
            return None
        known = target >= 0
        counts = np.bincount(target[known], minlength=len(targets["classes"]))
        occurring = max(1, np.count_nonzero(counts))
        weights = known.sum() / (occurring * np.maximum(counts, 1))
        result = np.ones(len(target), np.float32)
        result[known] = weights[target[known]]
        return result

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,
        weight: float,
    ) -> Loss:
        """Return the distillation loss (Hinton et al. 2015, eq. 4), summed over rows.

        It is weight * T^2 * KL(teacher || student) + (1 - weight) * cross-entropy. A row without a
        label has the first term with weight 1.

        Args:
            student: logits (n, c).
            teacher: logits (n, c).
            batch: with "target", -1 where there is no label, and perhaps "weight", both (n,).
            temperature: T.
            weight: of the teacher against the labels.
        """
        divergence = F.kl_div(
            F.log_softmax(student / temperature, 1),
            F.log_softmax(teacher / temperature, 1),
            reduction="none",
            log_target=True,
        )
        soft = divergence.sum(1) * temperature**2  # (n,)
        target = batch["target"]
        # It is 0 where there is no label.
        hard = F.cross_entropy(student, target, reduction="none", ignore_index=-1)  # (n,)
        soft_weight = torch.where(target < 0, 1.0, weight)
        losses = soft_weight * soft + (1 - weight) * hard
        row_weights = batch.get("weight", torch.ones_like(losses))
        return Loss((losses * row_weights).sum(), row_weights.sum())

    def mean_output(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the logarithm (n, c) of the weighted mean of the probabilities.

        Its softmax is that mean.

        Args:
            outputs: logits (m, n, c) of m networks.
            weights: (m,) of the networks, positive, with sum 1.
        """
        return (outputs.log_softmax(2) + weights.log()[:, None, None]).logsumexp(0)

    def transform(
        self,
        batch: Batch,
        rng: torch.Generator,  # noqa: ARG002
        options: BaseModel,  # noqa: ARG002
    ) -> Batch:
        """Return the batch unchanged: nothing is transformed on the fly."""
        return batch

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return confusion counts (c * c), the summed loss (1,) and the number of rows (1,).

        Args:
            module: the network.
            batch: inputs of the network and "target" (n,).
        """
        logits = self.logits(module, batch)
        classes = logits.shape[1]
        target = batch["target"]
        pairs = target * classes + logits.argmax(1)
        loss = F.cross_entropy(logits, target, reduction="sum")
        return {
            "confusion": torch.bincount(pairs, minlength=classes**2).double(),
            "loss": loss.double().reshape(1),
            "rows": torch.tensor([float(len(target))], dtype=torch.float64),
        }

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Return the loss per row, accuracy and macro F1.

        Args:
            tallies: sums over batches of what `accumulate` returns.
        """
        side = round(len(tallies["confusion"]) ** 0.5)
        confusion = tallies["confusion"].reshape(side, side)
        return {
            "loss": float(tallies["loss"][0] / max(1.0, tallies["rows"][0])),
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
        }

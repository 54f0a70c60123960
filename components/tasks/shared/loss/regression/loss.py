"""Define the losses of regression, and the metrics that are monitored after each epoch.

All of them are of standardized numbers: a target is (value - center) / scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional as F

from components.tasks.base import Batch, Loss, TargetInfo
from components.tasks.shared.loss.regression.params import NumberLossParams


def _or_defaults(loss_params: BaseModel | None) -> NumberLossParams:
    """Return the params of the loss, or their defaults."""
    if loss_params is None:
        return NumberLossParams()
    assert isinstance(loss_params, NumberLossParams)
    return loss_params


class RegressionLearning:
    """Facet loss.py of regression tasks."""

    monitored_metric: ClassVar[str] = "rmse"
    monitored_goal: ClassVar[Literal["min", "max"]] = "min"

    def predictions(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the standardized answers (n,) to a batch, in fp32 or a wider type.

        All of the batch but target and weight is input of the network.

        Args:
            module: the network, whose outputs are (n, 1).
            batch: inputs of the network, "target" (n,) and perhaps "weight" (n,).
        """
        inputs = {name: value for name, value in batch.items() if name not in ("target", "weight")}
        outputs: torch.Tensor = module(**inputs)
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))[:, 0]

    def loss(self, module: torch.nn.Module, batch: Batch, loss_params: BaseModel | None) -> Loss:
        """Return the squared errors, summed over weighted rows.

        With `huber_delta`, errors beyond it count linearly (Huber 1964): 2 delta |e| - delta^2.

        Args:
            module: the network.
            batch: inputs of the network, "target" (n,) and perhaps "weight" (n,).
            loss_params: the `NumberLossParams`. None: their defaults.

        Returns:
            The weighted sum of the losses; the sum of the weights.
        """
        predictions = self.predictions(module, batch)
        target = batch["target"].to(predictions.dtype)
        delta = _or_defaults(loss_params).huber_delta
        if delta is None:
            losses = (predictions - target).square()
        else:
            # torch has half of the square.
            losses = 2 * F.huber_loss(predictions, target, reduction="none", delta=delta)
        return _weighted(losses, batch)

    def row_weights(
        self,
        target: NDArray[Any],  # noqa: ARG002
        targets: TargetInfo,  # noqa: ARG002
        loss_params: BaseModel | None,  # noqa: ARG002
    ) -> NDArray[np.float32] | None:
        """Return None: all rows weigh the same."""
        return None

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,  # noqa: ARG002
        weight: float,
    ) -> Loss:
        """Return a mean of the squared distances from the teacher and from the truth.

        It is weight * (student - teacher)^2 + (1 - weight) * (student - target)^2. A row without a
        number has the first term with weight 1.

        Args:
            student: outputs (n, 1).
            teacher: outputs (n, 1).
            batch: with "target", NaN where there is none, and perhaps "weight", both (n,).
            temperature: not used, because numbers have no softmax.
            weight: of the teacher against the targets.
        """
        soft = (student - teacher)[:, 0].square()  # (n,)
        # Where there is no target, the teacher's answer takes its place.
        target = torch.where(batch["target"].isnan(), teacher[:, 0], batch["target"])
        hard = (student[:, 0] - target).square()  # (n,)
        return _weighted(weight * soft + (1 - weight) * hard, batch)

    def mean_output(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean (n, 1) of the answers.

        Args:
            outputs: (m, n, 1) of m networks.
            weights: (m,) of the networks, positive, with sum 1.
        """
        return (outputs * weights[:, None, None]).sum(0)

    def transform(
        self,
        batch: Batch,
        rng: torch.Generator,  # noqa: ARG002
        options: BaseModel,  # noqa: ARG002
    ) -> Batch:
        """Return the batch unchanged: nothing is transformed on the fly."""
        return batch

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the sums of the squared and of the absolute errors, and of the rows, each (1,).

        Args:
            module: the network.
            batch: inputs of the network and "target" (n,).
        """
        errors = self.predictions(module, batch).double() - batch["target"].double()
        return {
            "squares": errors.square().sum().reshape(1),
            "sizes": errors.abs().sum().reshape(1),
            "rows": torch.tensor([float(len(errors))], dtype=torch.float64),
        }

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Return the mean squared error as loss, its root, and the mean absolute error.

        Args:
            tallies: sums over batches of what `accumulate` returns.
        """
        rows = max(1.0, float(tallies["rows"][0]))
        loss = float(tallies["squares"][0]) / rows
        return {"loss": loss, "rmse": loss**0.5, "mae": float(tallies["sizes"][0]) / rows}


def _weighted(losses: torch.Tensor, batch: Batch) -> Loss:
    """Return the sum of the losses (n,), weighted where the batch has a "weight"."""
    weight = batch.get("weight", torch.ones_like(losses))
    return Loss((losses * weight).sum(), weight.sum())

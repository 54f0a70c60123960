"""Define the losses of text: that of classification, and masked tokens for pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional as F

from components.models.masked_lm import hide
from components.tasks.base import Batch, Encoder, Loss, TargetInfo
from components.tasks.shared.loss.classification.loss import ClassificationLearning
from components.tasks.text_classification.encode import TextEncoder

_INPUTS = ("ids", "mask", "lengths", "chosen")


class MaskedTokens:
    """Masked-language modeling on text with or without labels.

    Args:
        encoder: the encoder of the tokens.
        share: of the tokens that are masked.
    """

    monitored_metric: ClassVar[str] = "loss"
    monitored_goal: ClassVar[Literal["min", "max"]] = "min"

    def __init__(self, encoder: Encoder, share: float) -> None:
        text = cast(TextEncoder, encoder)
        self._share = share
        self._tokens = text.vocabulary
        self._mask = text.mask
        self._spared = torch.tensor(text.special)

    def _masked(self, batch: Batch, rng: torch.Generator) -> Batch:
        """Return the batch with random tokens masked, and the hidden ones beside them."""
        return hide(batch, self._share, self._mask, self._spared, self._tokens, rng)

    def _logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return logits (k, tokens) of k masked tokens, in fp32 or a wider type."""
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        result: torch.Tensor = module(**inputs)
        return result.to(torch.promote_types(result.dtype, torch.float32))

    def loss(
        self,
        module: torch.nn.Module,
        batch: Batch,
        loss_params: BaseModel | None,  # noqa: ARG002
    ) -> Loss:
        """Return the cross-entropy summed over the masked tokens.

        Args:
            module: the network.
            batch: masked, with "hidden" the true tokens and "chosen" the mask.
            loss_params: not used.

        Returns:
            The sum of the losses; the number of masked tokens.
        """
        targets = batch["hidden"][batch["chosen"]]
        total = F.cross_entropy(self._logits(module, batch), targets, reduction="sum")
        # A worker without rows of its own computes one row of weight 0.
        weight = batch["weight"].mean() if "weight" in batch else torch.ones_like(total)
        return Loss(total * weight, len(targets) * weight)

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
        temperature: float,
        weight: float,
    ) -> Loss:
        """Raise NotImplementedError: pretraining has no teacher."""
        raise NotImplementedError

    def mean_output(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Raise NotImplementedError: pretraining has no ensembles."""
        raise NotImplementedError

    def transform(
        self,
        batch: Batch,
        rng: torch.Generator,
        options: BaseModel,  # noqa: ARG002
    ) -> Batch:
        """Mask random tokens of a batch.

        Args:
            batch: "ids" and "mask" (n, length), among others.
            rng: source of the random draws.
            options: not used.
        """
        return self._masked(batch, rng)

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the summed loss, hits and masked tokens, each (1,).

        The same tokens of a batch are masked at each epoch.

        Args:
            module: the network.
            batch: not masked yet.
        """
        generator = torch.Generator().manual_seed(int(batch["ids"].sum()))
        batch = self._masked(batch, generator)
        logits = self._logits(module, batch)
        targets = batch["hidden"][batch["chosen"]]
        sums = {
            "loss": F.cross_entropy(logits, targets, reduction="sum"),
            "hits": (logits.argmax(1) == targets).sum(),
            "tokens": torch.tensor(len(targets)),
        }
        return {name: value.double().cpu().reshape(1) for name, value in sums.items()}

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Return the loss per masked token, and the share that was predicted.

        Args:
            tallies: sums over batches of what `accumulate` returns.
        """
        tokens = max(1.0, float(tallies["tokens"][0]))
        return {
            "loss": float(tallies["loss"][0]) / tokens,
            "guessed": float(tallies["hits"][0]) / tokens,
        }


LOSS = ClassificationLearning()
PRETRAINING = MaskedTokens

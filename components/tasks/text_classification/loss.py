"""Learning: nothing that other classification does not do; and learning from text alone, before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional as F

from components.models.masked_lm import hide
from components.tasks.base import Batch, Encoder, Loss, Objective
from components.tasks.classification.loss import ClassificationLearning
from components.tasks.text_classification.encode import TextEncoder

_INPUTS = ("ids", "mask", "lengths", "chosen")


class MaskedTokens:
    """Guess tokens that are hidden, in text with labels or without.

    Args:
        encoder: whose tokens.
        share: of the tokens that is hidden.
    """

    monitored_metric: ClassVar[str] = "loss"
    watch_goal: ClassVar[Literal["min", "max"]] = "min"

    def __init__(self, encoder: Encoder, share: float) -> None:
        text = cast(TextEncoder, encoder)
        self._share, self._tokens, self._mask, self._spared = (
            share,
            text.vocabulary,
            text.mask,
            torch.tensor(text.special),
        )

    def _hidden(self, batch: Batch, rng: torch.Generator) -> Batch:
        return hide(batch, self._share, self._mask, self._spared, self._tokens, rng)

    def _logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """(k, tokens), in single precision at least."""
        result: torch.Tensor = module(**{name: batch[name] for name in _INPUTS if name in batch})
        return result.to(torch.promote_types(result.dtype, torch.float32))

    def loss(self, module: torch.nn.Module, batch: Batch, objective: Objective) -> Loss:  # noqa: ARG002
        """Cross-entropy, summed over the hidden tokens."""
        wanted = batch["hidden"][batch["chosen"]]
        total = F.cross_entropy(self._logits(module, batch), wanted, reduction="sum")
        counts = (
            batch["weight"].mean() if "weight" in batch else torch.ones_like(total)
        )  # a worker without rows of its own takes part with one of weight 0
        return Loss(total * counts, len(wanted) * counts)

    def distillation_loss(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        batch: Batch,
        temperature: float,
        weight: float,
    ) -> Loss:
        """Nobody teaches."""
        raise NotImplementedError

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:  # noqa: ARG002
        """Hide other tokens each time."""
        return self._hidden(batch, rng)

    def accumulate(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Summed loss, hits and hidden tokens (1,), the same tokens of a batch at each epoch."""
        batch = self._hidden(batch, torch.Generator().manual_seed(int(batch["ids"].sum())))
        logits, wanted = self._logits(module, batch), batch["hidden"][batch["chosen"]]
        figures = {
            "loss": F.cross_entropy(logits, wanted, reduction="sum"),
            "hits": (logits.argmax(1) == wanted).sum(),
            "tokens": torch.tensor(len(wanted)),
        }
        return {name: value.double().cpu().reshape(1) for name, value in figures.items()}

    def compute(self, tallies: Mapping[str, NDArray[np.float64]]) -> Mapping[str, float]:
        """Loss per hidden token, and the share that is guessed."""
        tokens = max(1.0, float(tallies["tokens"][0]))
        return {
            "loss": float(tallies["loss"][0]) / tokens,
            "guessed": float(tallies["hits"][0]) / tokens,
        }


LOSS = ClassificationLearning()
PRETRAINING = MaskedTokens

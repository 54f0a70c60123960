"""Knobs of a fit; imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class FitParams(Strict):
    """How a network is fitted."""

    workers: int = Field(2, ge=1, le=10_000)
    min_workers: int | None = Field(
        None, ge=1
    )  # go on with as few where the cluster has lost some; None: exactly `workers`
    sharding: Literal["none", "fsdp"] = (
        "none"  # fsdp: weights, gradients and the optimizer's state are divided among the workers
    )
    epochs: int = Field(8, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1)  # rows per optimizer step, over all workers
    batch_tokens: int | None = Field(
        None, ge=1
    )  # if set, a step ends at so many tokens (pixels) instead, if batch_size is not reached before
    micro_batch_tokens: int = Field(
        16_384, ge=1
    )  # computed at once by a worker; what is more is accumulated, and the step stays the same
    optimizer: Literal["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd (Nesterov), rmsprop and muon
    schedule: Literal[
        "constant", "linear", "exponential", "step", "cosine", "one_cycle", "plateau"
    ] = "cosine"
    schedule_factor: float = Field(
        0.1, gt=0, lt=1
    )  # exponential: what is left at the end; step: after each third; plateau: after each epoch without gain
    warmup_share: float = Field(0.06, ge=0, lt=1)  # of all steps
    warmup_steps: int | None = Field(None, ge=0)  # in steps, instead of the share
    weight_decay: float = Field(
        0.01, ge=0, le=10
    )  # decoupled in adamw and muon, an L2 penalty in the others
    l1: float = Field(0.0, ge=0)  # of the weights' absolute values, added to the loss
    clip_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    focal_gamma: float = Field(0.0, ge=0, le=10)  # 0: cross-entropy
    class_weights: Literal["none", "balanced"] = "none"
    ema: float = Field(
        0.0, ge=0, lt=1
    )  # decay of the average of weights that is judged and kept; 0: none
    precision: Literal["auto", "fp32", "bf16", "fp16"] = (
        "auto"  # of the products; weights and sums stay in fp32
    )
    compile: bool = False
    patience: int = Field(2, ge=1)
    checkpoint_steps: int = Field(100, ge=1)
    checkpoint_keep: int = Field(2, ge=1)
    checkpoint_disk_mb: int = Field(
        4096, gt=0
    )  # of all checkpoints that are kept; one is always kept

    @model_validator(mode="after")
    def _shares(self) -> FitParams:
        if self.batch_size < 2 * self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} leaves workers ({self.workers}) without rows; it must be at least {2 * self.workers}"
            )
        if (self.min_workers or 0) > self.workers:
            raise ValueError(
                f"min_workers {self.min_workers} is more than workers ({self.workers})"
            )
        if self.sharding == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "optimizer muon needs whole matrices, sharding fsdp cuts them: set sharding to none, or optimizer to adamw"
            )
        return self

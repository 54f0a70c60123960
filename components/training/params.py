"""Params of a fit that hold for every task. Imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.core.params import Strict


class FitParams(Strict):
    """How a network is fitted."""

    workers: int = Field(
        2, ge=1, le=10_000, description="DDP ranks, which share the rows of each batch."
    )
    min_workers: int | None = Field(
        None,
        ge=1,
        description="Fewest workers to go on with after a node is lost (null: all).",
    )
    sharding: Literal["none", "fsdp"] = Field(
        "none",
        description="Sharding of weights, gradients and optimizer state.",
    )
    epochs: int = Field(
        8,
        ge=1,
        le=100_000,
        description="Passes over the train rows; early stopping may end the fit sooner.",
    )
    batch_size: int = Field(64, ge=1, description="Rows per optimizer step, over all workers.")
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens or pixels that also end a step (null: only rows count).",
    )
    micro_batch_tokens: int = Field(
        16_384,
        ge=1,
        description="Tokens a worker computes at once; larger batches are accumulated.",
    )
    optimizer: Literal["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"] = Field(
        "adamw", description="Optimizer of the weights."
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Peak learning rate.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of sgd (Nesterov), rmsprop and muon."
    )
    schedule: Literal[
        "constant", "linear", "exponential", "step", "cosine", "one_cycle", "plateau"
    ] = Field("cosine", description="Course of the learning rate after the warmup.")
    schedule_factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=(
            "Rate factor at the end (exponential), per third (step), per stalled epoch (plateau)."
        ),
    )
    warmup_share: float = Field(
        0.06, ge=0, lt=1, description="Share of all steps in which the learning rate rises."
    )
    warmup_steps: int | None = Field(
        None, ge=0, description="Warmup in steps (null: warmup_share counts)."
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        le=10,
        description="Decoupled decay in adamw and muon, an L2 penalty in the others.",
    )
    l1: float = Field(0.0, ge=0, description="Penalty on the absolute values of the weights.")
    clip_norm: float = Field(
        1.0, gt=0, description="Largest norm of the gradient; larger ones are scaled down."
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the weight average that is evaluated and kept (0: none).",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of products (sums and weights stay in fp32)."
    )
    compile: bool = Field(
        False,
        description="Use torch.compile: pays on GPUs and long fits, needs a C++ compiler on CPUs.",
    )
    patience: int = Field(
        2, ge=1, description="Epochs without a better validation metric before the fit stops."
    )
    checkpoint_steps: int = Field(
        100, ge=1, description="Steps between checkpoints, which a killed fit repeats at most."
    )
    checkpoint_keep: int = Field(2, ge=1, description="Checkpoints of a fit that are kept.")
    checkpoint_disk_mb: int = Field(
        4096, gt=0, description="Megabytes of a fit's checkpoints; the newest is always kept."
    )

    @model_validator(mode="after")
    def _check_workers(self) -> FitParams:
        smallest_batch = 2 * self.workers
        if self.batch_size < smallest_batch:
            raise ValueError(
                f"batch_size {self.batch_size} leaves workers ({self.workers}) without rows; "
                f"it must be at least {smallest_batch}"
            )
        if (self.min_workers or 0) > self.workers:
            raise ValueError(
                f"min_workers {self.min_workers} is more than workers ({self.workers})"
            )
        if self.sharding == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "optimizer muon needs whole matrices, sharding fsdp cuts them: "
                "set sharding to none, or optimizer to adamw"
            )
        return self

"""Describe a fit with plain values and paths.

So it can be sent to any worker, and it names the state that can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.files import to_json, write_atomic
from components.core.tables import read_manifest
from components.tasks import base
from components.training.batches import load_encoder
from components.training.params import FitParams

# A file in the state folder of a fit that ran out of memory.
MEMORY_FILE = "micro_batch_tokens.json"
# The params of a search's best fit, beside the folder of its network.
PARAMS_FILE = "fit.json"


@dataclass(frozen=True)
class FitConfig:
    """Config of one fit. Paths are absolute, and all workers see them.

    Args:
        task: name of the task.
        tokens: folder of encoded tables.
        architecture: name of the architecture.
        config: config of the network.
        params: params of the fit.
        online: params of the task's transforms on the fly.
        seed: of every random choice.
        state: folder of checkpoints and results. A fit continues from the checkpoints in it.
        initial: safetensors to start from. They may lack the head.
        mask_share: share of the tokens that is masked and predicted, in rows with and without
            targets. 0: the task itself is learned.
        teacher: bundle whose logits are the distillation targets.
        temperature: of the distillation.
        teacher_weight: weight of the teacher against the true targets.
        teacher_answers: .npy file of the teacher's outputs (rows, ...) for all rows to learn from.
            None: the teacher is asked in each step.
        hidden_weight: weight of the teacher's relations between the states of tokens. 0: they are
            not learned. Otherwise `teacher_answers` must be None.
        teacher_embeddings: whether the token embeddings begin as the teacher's, reduced.
        keep_zeros: whether weights that are 0 in `initial` stay 0.
        fake_int8: whether weights and inputs are rounded to int8 in each step.
        unlabeled: whether the teacher's answers to rows without a target are learned too.
        loss_params: params of the task's loss. None: their defaults.
        until: epochs after which the fit ends early. The schedule stays that of all epochs.
    """

    task: str
    tokens: Path
    architecture: str
    config: Mapping[str, Any]
    params: FitParams
    online: Mapping[str, Any]
    seed: int
    state: Path
    initial: Path | None = None
    mask_share: float = 0.0
    teacher: Path | None = None
    temperature: float = 1.0
    teacher_weight: float = 0.0
    teacher_answers: Path | None = None
    hidden_weight: float = 0.0
    teacher_embeddings: bool = False
    keep_zeros: bool = False
    fake_int8: bool = False
    unlabeled: bool = False
    loss_params: BaseModel | None = None
    until: int | None = None

    @property
    def done(self) -> Path:
        """Return the file that exists once the fit is complete."""
        return self.state / "fitted.json"

    @property
    def splits(self) -> list[str]:
        """Return the splits to train on; rows without targets are one if they are learned too."""
        takes_unlabeled = self.unlabeled or self.mask_share
        if takes_unlabeled and read_manifest(self.tokens)["parts"].get("unlabelled"):
            return ["train", "unlabelled"]
        return ["train"]

    @property
    def memory_record(self) -> str:
        """Return the micro-batch size that was stored after memory ran out, as JSON.

        It is "" if memory never ran out.
        """
        path = self.state / MEMORY_FILE
        return path.read_text(encoding="utf-8") if path.exists() else ""


@dataclass(frozen=True)
class FitResult:
    """Result of a fit.

    Args:
        weights: safetensors file of the best epoch.
        curve: one row per epoch.
        best: the row of the best epoch.
        world: number of workers at the end.
        parameters: number of parameters of the network.
    """

    weights: Path
    curve: list[dict[str, float]]
    best: dict[str, float]
    world: int
    parameters: int

    @property
    def workers(self) -> str:
        """Return how many workers there were, e.g. "2, from epoch 3 on 1"."""
        text = ""
        before = 0.0
        for row in self.curve:
            workers = row["workers"]
            if workers == before:
                continue
            if text:
                text += f", from epoch {row['epoch']:.0f} on {workers:.0f}"
            else:
                text = f"{workers:.0f}"
            before = workers
        return text


def save_params(spec: FitConfig, folder: Path) -> None:
    """Write the params of a fit, which the card of its network does not have.

    Args:
        spec: the fit.
        folder: that gets the file.
    """
    loss = spec.loss_params.model_dump(mode="json") if spec.loss_params else {}
    tree = {"fit": spec.params.model_dump(mode="json"), "loss": loss}
    write_atomic(folder / PARAMS_FILE, to_json(tree))


def with_saved_params(spec: FitConfig, folder: Path) -> FitConfig:
    """Return a fit with the params that `save_params` wrote; unchanged where it wrote none.

    Args:
        spec: the fit.
        folder: that may have the file.
    """
    path = folder / PARAMS_FILE
    if not path.is_file():
        return spec
    tree = json.loads(path.read_text(encoding="utf-8"))
    loss_params = base.models(spec.task).loss_params.model_validate(tree["loss"])
    params = FitParams.model_validate(tree["fit"])
    return replace(spec, params=params, loss_params=loss_params)


def check(spec: FitConfig) -> None:
    """Refuse a fit that cannot begin, before anything long has begun.

    Raises:
        GristmillError: the network does not match the tokens, or a library is missing.
    """
    architecture = base.models(spec.task).architectures[spec.architecture]
    if isinstance(architecture, base.UsesPretrainedWeights):
        config = architecture.Config.model_validate(dict(spec.config))
        architecture.check(config, load_encoder(spec.tokens, spec.task))

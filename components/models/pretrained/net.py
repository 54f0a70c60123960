"""A pretrained Transformer encoder (Devlin et al. 2019, arXiv:1810.04805, and what followed) under a linear head, and the ways to fine-tune it.

All weights, lower layers more slowly (Howard and Ruder 2018, arXiv:1801.06146; by a factor a layer: Clark et al. 2020, arXiv:2003.10555); the head alone; or
low-rank adapters beside all linear layers (Hu et al. 2022, arXiv:2106.09685), which are added into the weights that are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.core.errors import InputError
from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.pretrained.config import PretrainedConfig

_LAYER = re.compile(r"\.(\d+)\.")  # the first number in a parameter's name
_ADAPTER = "default"


class Pretrained(nn.Module):
    """Token ids to logits.

    Args:
        config: how the encoder is used.
        encoder: its own config.json.
        outputs: classes.
    """

    def __init__(self, config: PretrainedConfig, encoder: Mapping[str, Any], outputs: int) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        self.config = config
        changed = {} if config.feedforward is None else {"intermediate_size": config.feedforward}
        settings = AutoConfig.for_model(
            encoder["model_type"],
            **{
                name: value
                for name, value in {**encoder, **changed}.items()
                if name != "model_type"
            },
        )
        self.encoder = _headless(
            AutoModel.from_config(settings, trust_remote_code=False, dtype=torch.float32)
        )
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(settings.hidden_size, outputs)
        self.frozen = False

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        x = self.states(ids, mask)  # (n, t, width)
        if self.config.pooling == "first":
            pooled = x[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(x.dtype)  # (n, t, 1)
            pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(n, t, width): the encoder's last layer."""
        states: torch.Tensor = self.encoder(
            input_ids=ids, attention_mask=mask.long()
        ).last_hidden_state
        return states

    def table(self) -> nn.Embedding:
        """Where ids become vectors."""
        table: nn.Embedding = self.encoder.get_input_embeddings()
        return table

    def train(self, mode: bool = True) -> Pretrained:
        """A frozen encoder computes in training as it will when it is asked: without dropout."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def adapt(self) -> None:
        """Make ready what is to learn, once the weights are there."""
        self.frozen = self.config.way == "head"
        if self.frozen:
            self.encoder.requires_grad_(False)
        elif self.config.way == "lora":
            from peft import LoraConfig, inject_adapter_in_model

            knobs = self.config.lora
            lora = LoraConfig(
                r=knobs.rank,
                lora_alpha=knobs.alpha,
                lora_dropout=knobs.dropout,
                target_modules="all-linear",
            )
            inject_adapter_in_model(lora, self.encoder, _ADAPTER)  # freezes all but the adapters

    def rates(self) -> dict[str, float]:
        """Parameter -> factor of the learning rate: 1 for the head, less by `layer_decay` from each layer to the one below, embeddings at the bottom."""
        names = [name for name, _ in self.named_parameters()]
        depth = {
            name: int(found[1]) + 1 if (found := _LAYER.search(name)) else 0
            for name in names
            if name.startswith("encoder.")
        }
        top = max(depth.values(), default=0) + 1
        return {
            name: float(self.config.layer_decay ** (top - depth.get(name, top))) for name in names
        }

    def kept(self) -> dict[str, torch.Tensor]:
        """The weights under the names of a net without adapters, these added in."""
        state = {name: value for name, value in self.state_dict().items() if ".lora_" not in name}
        for name, layer in self.named_modules():
            if hasattr(layer, "get_delta_weight"):
                weight, delta = (
                    state.pop(f"{name}.base_layer.weight"),
                    layer.get_delta_weight(_ADAPTER),
                )
                state[f"{name}.weight"] = weight + delta
                if f"{name}.base_layer.bias" in state:
                    state[f"{name}.bias"] = state.pop(f"{name}.base_layer.bias")
        return state


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights under the names that `Pretrained` gives them; the head has none.

    Raises:
        InputError: weights are missing, so that a part of the encoder would be random.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    loaded: Any = AutoModel.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    model, told = loaded
    if missing := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
        raise InputError(
            f"lacks {len(missing)} weights of the encoder, {missing[0]} first",
            where=str(folder),
            remedy="take a folder whose config.json and weights belong together",
        )
    return {f"encoder.{name}": value for name, value in _headless(model).state_dict().items()}


def _headless(model: Any) -> Any:
    """Without BERT's pooler, which this net does not ask: DDP takes no parameter without a gradient."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


class PretrainedPruningSpec:
    """Hidden units of the feed-forward can go, alike in all layers, where the encoder is built as BERT's."""

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """One Dim per layer; none for encoders of another build."""
        assert isinstance(module, Pretrained)
        found = []
        for name, inner in module.named_modules():
            layer = name.removesuffix(".intermediate.dense")
            if layer != name and isinstance(inner, nn.Linear):
                places = [
                    (f"{name}.weight", 0, 0, 1),
                    (f"{name}.bias", 0, 0, 1),
                    (f"{layer}.output.dense.weight", 1, 0, 1),
                ]
                found.append(PrunableDim(layer, inner.out_features, places, minimum=8))
        return found

    def resize(self, config: PretrainedConfig, widths: Mapping[str, int]) -> PretrainedConfig:
        """All layers keep as many units: their sizes and the share were the same."""
        return config.model_copy(
            update={"feedforward": max(widths.values(), default=config.feedforward)}
        )

"""Fine-tune a pretrained Transformer encoder under a linear head.

The encoder is BERT (Devlin et al. 2019, arXiv:1810.04805) or a later one. There are three ways
to fine-tune it:

- All weights, with lower learning rates for lower layers (Howard and Ruder 2018,
  arXiv:1801.06146), by a factor per layer (Clark et al. 2020, arXiv:2003.10555).
- The head alone.
- Low-rank adapters on all linear layers (Hu et al. 2022, arXiv:2106.09685). They are merged
  into the weights that are saved.
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

# The first number in a parameter's name.
_LAYER = re.compile(r"\.(\d+)\.")
_ADAPTER = "default"


class Pretrained(nn.Module):
    """Network from token ids to logits.

    Args:
        config: how the encoder is used.
        encoder: content of the encoder's config.json.
        outputs: number of logits.
    """

    def __init__(self, config: PretrainedConfig, encoder: Mapping[str, Any], outputs: int) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__()
        self.config = config
        settings = dict(encoder)
        if config.feedforward is not None:
            settings["intermediate_size"] = config.feedforward
        model_type = settings.pop("model_type")
        encoder_config = AutoConfig.for_model(model_type, **settings)
        model = AutoModel.from_config(encoder_config, trust_remote_code=False, dtype=torch.float32)
        self.encoder = _without_pooler(model)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(encoder_config.hidden_size, outputs)
        self.frozen = False

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits (n, c) from ids (n, t) and mask (n, t), 1 where there is a token."""
        x = self.states(ids, mask)  # (n, t, width)
        if self.config.pooling == "first":
            pooled = x[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(x.dtype)  # (n, t, 1)
            pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the encoder's last layer (n, t, width)."""
        output = self.encoder(input_ids=ids, attention_mask=mask.long())
        states: torch.Tensor = output.last_hidden_state
        return states

    def table(self) -> nn.Embedding:
        """Return the embedding of the token ids."""
        table: nn.Embedding = self.encoder.get_input_embeddings()
        return table

    def train(self, mode: bool = True) -> Pretrained:
        """Set the training mode. A frozen encoder stays in evaluation mode, without dropout."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def adapt(self) -> None:
        """Freeze or adapt the encoder, once the initial weights are loaded."""
        self.frozen = self.config.way == "head"
        if self.frozen:
            self.encoder.requires_grad_(False)
        elif self.config.way == "lora":
            from peft import LoraConfig, inject_adapter_in_model

            params = self.config.lora
            lora = LoraConfig(
                r=params.rank,
                lora_alpha=params.alpha,
                lora_dropout=params.dropout,
                target_modules="all-linear",
            )
            # This freezes all parameters but the adapters.
            inject_adapter_in_model(lora, self.encoder, _ADAPTER)

    def rates(self) -> dict[str, float]:
        """Return parameter name -> factor of the learning rate.

        It is 1 for the head. From each layer to the one below it is multiplied by
        `layer_decay`. The embeddings are below all layers.
        """
        names = [name for name, _ in self.named_parameters()]
        depths: dict[str, int] = {}
        for name in names:
            if name.startswith("encoder."):
                match = _LAYER.search(name)
                depths[name] = int(match[1]) + 1 if match else 0
        top = max(depths.values(), default=0) + 1
        factors = {}
        for name in names:
            layers_below_top = top - depths.get(name, top)
            factors[name] = float(self.config.layer_decay**layers_below_top)
        return factors

    def saved_weights(self) -> dict[str, torch.Tensor]:
        """Return the weights with the adapters merged, under the names without adapters."""
        state = {name: value for name, value in self.state_dict().items() if ".lora_" not in name}
        for name, layer in self.named_modules():
            if hasattr(layer, "get_delta_weight"):
                weight = state.pop(f"{name}.base_layer.weight")
                delta = layer.get_delta_weight(_ADAPTER)
                state[f"{name}.weight"] = weight + delta
                if f"{name}.base_layer.bias" in state:
                    state[f"{name}.bias"] = state.pop(f"{name}.base_layer.bias")
        return state


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the encoder's weights under their names in `Pretrained`, without a head.

    Args:
        folder: with config.json and safetensors.

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
    model, info = loaded
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise InputError(
            f"lacks {len(missing)} weights of the encoder, {missing[0]} first",
            where=str(folder),
            remedy="take a folder whose config.json and weights belong together",
        )
    state = _without_pooler(model).state_dict()
    return {f"encoder.{name}": value for name, value in state.items()}


def _without_pooler(model: Any) -> Any:
    """Return a model without BERT's pooler.

    The pooler is not used here, and DDP refuses parameters without a gradient.
    """
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


class PretrainedPruningSpec:
    """Pruning of the feed-forward's hidden units, for encoders with BERT's module names.

    All layers keep the same number.
    """

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return one dimension per layer, none for encoders with other module names."""
        assert isinstance(module, Pretrained)
        result = []
        for name, inner in module.named_modules():
            layer = name.removesuffix(".intermediate.dense")
            if layer != name and isinstance(inner, nn.Linear):
                slices = [
                    (f"{name}.weight", 0, 0, 1),
                    (f"{name}.bias", 0, 0, 1),
                    (f"{layer}.output.dense.weight", 1, 0, 1),
                ]
                result.append(
                    PrunableDim(layer, inner.out_features, slices, minimum=8, group="feedforward")
                )
        return result

    def resize(self, config: PretrainedConfig, widths: Mapping[str, int]) -> PretrainedConfig:
        """Return the config with fewer units.

        All layers keep the same number, because their sizes and the share were the same.
        """
        feedforward = max(widths.values(), default=config.feedforward)
        return config.model_copy(update={"feedforward": feedforward})

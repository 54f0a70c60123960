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

from components.core.errors import InputError, ParamsError
from components.models.base import PrunableDim
from components.models.dropout import Dropout
from components.models.input_layers import InputLayer, by_token
from components.models.pretrained.config import PretrainedConfig

# The first number in a parameter's name.
_LAYER = re.compile(r"\.(\d+)\.")
# The layers of an encoder with BERT's module names, and the hidden units of one.
_LAYERS = "encoder.encoder.layer"
_UNITS = re.compile(rf"{re.escape(_LAYERS)}\.\d+")
_ADAPTER = "default"
# Linear layers of an attention that have a part for each head.
_PROJECTIONS = ("query", "key", "value")


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
        if isinstance(config.feedforward, int):
            settings["intermediate_size"] = config.feedforward
        model_type = settings.pop("model_type")
        encoder_config = AutoConfig.for_model(model_type, **settings)
        if config.layers is not None:
            if config.layers > encoder_config.num_hidden_layers:
                total = encoder_config.num_hidden_layers
                raise _no_fit(f"layers: {config.layers} of an encoder with {total} layers")
            encoder_config.num_hidden_layers = config.layers
        model = AutoModel.from_config(encoder_config, trust_remote_code=False, dtype=torch.float32)
        self.encoder = _without_pooler(model)
        _resize(self.encoder, config)
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

    def input_layers(self) -> Sequence[InputLayer]:
        """Return the embedding of the tokens."""
        return [InputLayer(self.table(), by_token)]

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


def _resize(model: Any, config: PretrainedConfig) -> None:
    """Give each layer its numbers of heads and hidden units, in place.

    Args:
        model: an encoder with random weights.
        config: with `heads` and `feedforward`.

    Raises:
        ParamsError: the encoder has other module names, or other numbers of layers.
    """
    per_layer = config.feedforward if isinstance(config.feedforward, list) else None
    if config.heads is None and per_layer is None:
        return
    blocks = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(blocks, nn.ModuleList):
        raise _no_fit("the encoder has no layers with BERT's module names")
    for name, counts in (("heads", config.heads), ("feedforward", per_layer)):
        if counts is not None and len(counts) != len(blocks):
            raise _no_fit(f"{name} has {len(counts)} numbers for {len(blocks)} layers")
    resized: list[Any] = list(blocks)
    for block, count in zip(resized, config.heads or [], strict=False):
        _set_heads(block.attention, count)
    for block, count in zip(resized, per_layer or [], strict=False):
        width = block.output.dense.out_features
        block.intermediate.dense = nn.Linear(width, count)
        block.output.dense = nn.Linear(count, width)


def _set_heads(attention: Any, count: int) -> None:
    """Give an attention of BERT another number of heads of the same width, in place.

    Raises:
        ParamsError: the attention has other module names.
    """
    if not _has_heads(attention):
        raise _no_fit("the encoder has no attention with BERT's module names")
    inner = attention.self
    width = attention.output.dense.out_features
    size = count * inner.attention_head_size
    for name in _PROJECTIONS:
        setattr(inner, name, nn.Linear(width, size))
    inner.num_attention_heads = count
    inner.all_head_size = size
    attention.output.dense = nn.Linear(size, width)


def _has_heads(attention: Any) -> bool:
    """Return whether a module is an attention with BERT's module names."""
    inner = getattr(attention, "self", None)
    projections = [getattr(inner, name, None) for name in _PROJECTIONS]
    return (
        all(isinstance(projection, nn.Linear) for projection in projections)
        and hasattr(inner, "num_attention_heads")
        and isinstance(getattr(getattr(attention, "output", None), "dense", None), nn.Linear)
    )


def _no_fit(what: str) -> ParamsError:
    """Return the error for a config that does not fit the encoder."""
    return ParamsError(
        what,
        where="train.nets.pretrained",
        remedy="set layers, heads and feedforward to null, or to the encoder's shape",
    )


class PretrainedPruningSpec:
    """Pruning of layers, and of their heads and hidden units. The width of the encoder stays.

    The encoder has BERT's module names.
    """

    def dims(self, module: nn.Module) -> Sequence[PrunableDim]:
        """Return the layers and two dimensions of each, none for other module names."""
        assert isinstance(module, Pretrained)
        blocks = getattr(getattr(module.encoder, "encoder", None), "layer", None)
        if not isinstance(blocks, nn.ModuleList):
            return []
        result = [PrunableDim(_LAYERS, len(blocks), (), modules=True)]
        layers: list[Any] = list(blocks)
        for i, block in enumerate(layers):
            name = f"{_LAYERS}.{i}"
            if _has_heads(getattr(block, "attention", None)):
                result.append(_heads(f"{name}.attention", block.attention.self))
            inner = getattr(getattr(block, "intermediate", None), "dense", None)
            if isinstance(inner, nn.Linear):
                slices = [
                    (f"{name}.intermediate.dense.weight", 0, 0, 1),
                    (f"{name}.intermediate.dense.bias", 0, 0, 1),
                    (f"{name}.output.dense.weight", 1, 0, 1),
                ]
                result.append(PrunableDim(name, inner.out_features, slices, minimum=8))
        return result

    def resize(self, config: PretrainedConfig, widths: Mapping[str, int]) -> PretrainedConfig:
        """Return the config with the layers that stay, and their heads and hidden units."""
        stay = {name: size for name, size in widths.items() if size}
        heads = [size for name, size in stay.items() if name.endswith(".attention")]
        hidden = [size for name, size in stay.items() if _UNITS.fullmatch(name)]
        sizes = {
            "layers": stay.get(_LAYERS, config.layers),
            "heads": heads or config.heads,
            "feedforward": hidden or config.feedforward,
        }
        return config.model_copy(update=sizes)


def _heads(name: str, inner: Any) -> PrunableDim:
    """Return the heads of an attention.

    Args:
        name: of the attention.
        inner: its part with queries, keys and values.
    """
    per_head = inner.attention_head_size
    slices = []
    for projection in _PROJECTIONS:
        for parameter in ("weight", "bias"):
            slices.append((f"{name}.self.{projection}.{parameter}", 0, 0, per_head))
    slices.append((f"{name}.output.dense.weight", 1, 0, per_head))
    return PrunableDim(name, inner.num_attention_heads, slices)

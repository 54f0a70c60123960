"""The networks that fit text in, one class out. Imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel

from components.core.params import Strict
from components.nets.base import Surgery
from components.nets.textcnn.config import TextCNNConfig
from components.nets.transformer.config import TransformerConfig
from components.tasks.base import Architecture, Encoder, Graph
from components.tasks.text_classification.encode import TextEncoder

if TYPE_CHECKING:
    import torch


class Nets(Strict):
    """The configs, by architecture."""

    textcnn: TextCNNConfig = TextCNNConfig()
    transformer: TransformerConfig = TransformerConfig()


class TextTrain(Strict):
    """Knobs of `train`."""

    architecture: Literal["textcnn", "transformer"] = "textcnn"
    nets: Nets = Nets()


class _Text:
    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """ids and mask (batch, length) to logits."""
        return {"forward": Graph(module, {"ids": ("batch", "length"), "mask": ("batch", "length")}, ["logits"])}


class TextCNNArchitecture(_Text):
    """Filters over embeddings."""

    Config: type[BaseModel] = TextCNNConfig
    packs = False  # one convolution over padded rows of like length is faster on CPU than windows gathered row by row (58 against 77 ms a step of 64 rows)

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh TextCNN."""
        from components.nets.textcnn.net import TextCNN

        return TextCNN(cast(TextCNNConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes))

    def surgery(self) -> Surgery:
        """Filters can go."""
        from components.nets.textcnn.net import TextCNNSurgery

        return TextCNNSurgery()


class TransformerArchitecture(_Text):
    """Attention over embeddings."""

    Config: type[BaseModel] = TransformerConfig
    packs = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh Transformer."""
        from components.nets.transformer.net import Transformer

        text = cast(TextEncoder, encoder)
        return Transformer(cast(TransformerConfig, config), text.vocabulary, len(text.classes), text.max_length)

    def surgery(self) -> Surgery:
        """Heads and hidden units can go."""
        from components.nets.transformer.net import TransformerSurgery

        return TransformerSurgery()


class TextModels:
    """Facet models.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextTrain}
    architectures: Mapping[str, Architecture] = {"textcnn": TextCNNArchitecture(), "transformer": TransformerArchitecture()}


MODELS = TextModels()

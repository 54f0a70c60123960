"""The networks that fit text in, one class out. Imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel

from components.core.params import Strict
from components.nets.base import Surgery
from components.nets.ngrams.config import NgramsConfig
from components.nets.recurrent.config import RecurrentConfig
from components.nets.textcnn.config import TextCNNConfig
from components.nets.transformer.config import TransformerConfig
from components.tasks.base import Architecture, Encoder, Graph
from components.tasks.text_classification.encode import TextEncoder

if TYPE_CHECKING:
    import torch


class Nets(Strict):
    """The configs, by architecture."""

    ngrams: NgramsConfig = NgramsConfig()
    textcnn: TextCNNConfig = TextCNNConfig()
    recurrent: RecurrentConfig = RecurrentConfig()
    transformer: TransformerConfig = TransformerConfig()


class TextTrain(Strict):
    """Knobs of `train`."""

    architecture: Literal["ngrams", "textcnn", "recurrent", "transformer"] = "textcnn"
    nets: Nets = Nets()


class _Text:
    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """ids and mask (batch, length) to logits."""
        return {"forward": Graph(module, {"ids": ("batch", "length"), "mask": ("batch", "length")}, ["logits"])}


class NgramsArchitecture(_Text):
    """Mean of the embeddings of tokens and n-grams."""

    Config: type[BaseModel] = NgramsConfig
    packs = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh bag of n-grams."""
        from components.nets.ngrams.net import Ngrams

        return Ngrams(cast(NgramsConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes))

    def surgery(self) -> Surgery:
        """Elements of the embedding can go."""
        from components.nets.ngrams.net import NgramsSurgery

        return NgramsSurgery()


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


class RecurrentArchitecture(_Text):
    """LSTM or GRU in both directions, pooled by attention."""

    Config: type[BaseModel] = RecurrentConfig
    packs = False  # torch's packed sequences take twice as long a step on CPU (239 against 99 ms for 64 rows of 40 to 48 tokens)

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh recurrent network."""
        from components.nets.recurrent.net import Recurrent

        return Recurrent(cast(RecurrentConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes))

    def surgery(self) -> Surgery:
        """Units of each direction and of the pooling's score can go."""
        from components.nets.recurrent.net import RecurrentSurgery

        return RecurrentSurgery()


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
    architectures: Mapping[str, Architecture] = {
        "ngrams": NgramsArchitecture(),
        "textcnn": TextCNNArchitecture(),
        "recurrent": RecurrentArchitecture(),
        "transformer": TransformerArchitecture(),
    }


MODELS = TextModels()

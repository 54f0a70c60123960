"""The networks that fit text in, one class out. Imports without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, Field

from components.core.errors import EnvironmentFault, InputError, ParamsError
from components.core.files import sha256
from components.core.params import Strict
from components.core.tables import PRETRAINED, read_manifest
from components.models.base import PruningSpec
from components.models.counted.config import CountedConfig
from components.models.ngrams.config import NgramsConfig
from components.models.pretrained.config import PretrainedConfig
from components.models.recurrent.config import RecurrentConfig
from components.models.textcnn.config import TextCNNConfig
from components.models.transformer.config import TransformerConfig
from components.tasks.base import ARCHITECTURE, NETS, Architecture, Batch, Encoder, Graph
from components.tasks.text_classification.encode import TextEncoder

if TYPE_CHECKING:
    import torch


class Nets(Strict):
    """The configs, by architecture."""

    ngrams: NgramsConfig = Field(NgramsConfig(), description="Bag of hashed n-grams.")
    textcnn: TextCNNConfig = Field(TextCNNConfig(), description="Convolutions over tokens.")
    counted: CountedConfig = Field(
        CountedConfig(), description="Weights of counted n-grams, alone or beside a TextCNN."
    )
    recurrent: RecurrentConfig = Field(
        RecurrentConfig(), description="Recurrent network in both directions."
    )
    transformer: TransformerConfig = Field(
        TransformerConfig(), description="Transformer encoder that starts from random weights."
    )
    pretrained: PretrainedConfig = Field(
        PretrainedConfig(), description="Pretrained encoder, named in tokenize.pretrained."
    )


class TextTrain(Strict):
    """Params of `train`."""

    architecture: Literal[
        "ngrams", "textcnn", "counted", "recurrent", "transformer", "pretrained"
    ] = Field("textcnn", description=ARCHITECTURE)
    nets: Nets = Field(Nets(), description=NETS)


class _Text:
    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """ids and mask (batch, length) to logits."""
        return {
            "forward": Graph(
                module, {"ids": ("batch", "length"), "mask": ("batch", "length")}, ["logits"]
            )
        }


class _Reading(_Text):
    """A network with a state per token."""

    def masked(self, module: torch.nn.Module) -> torch.nn.Module:
        """It guesses hidden tokens."""
        from components.models.masked_lm import Masked, Reads

        return Masked(cast(Reads, module))


class NgramsArchitecture(_Text):
    """Mean of the embeddings of tokens and n-grams."""

    Config: type[BaseModel] = NgramsConfig
    packs = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh bag of n-grams."""
        from components.models.ngrams.net import Ngrams

        return Ngrams(
            cast(NgramsConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes)
        )

    def surgery(self) -> PruningSpec:
        """Elements of the embedding can go."""
        from components.models.ngrams.net import NgramsSurgery

        return NgramsSurgery()


class TextCNNArchitecture(_Text):
    """Filters over embeddings."""

    Config: type[BaseModel] = TextCNNConfig
    packs = False  # one convolution over padded rows of like length is faster on CPU than windows gathered row by row (58 against 77 ms a step of 64 rows)

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh TextCNN."""
        from components.models.textcnn.net import TextCNN

        return TextCNN(
            cast(TextCNNConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes)
        )

    def surgery(self) -> PruningSpec:
        """Filters can go."""
        from components.models.textcnn.net import TextCNNSurgery

        return TextCNNSurgery()


class CountedArchitecture(_Text):
    """Weights for the n-grams that occur in enough train rows, and filters over embeddings beside them."""

    Config: type[BaseModel] = CountedConfig
    packs = False  # as TextCNN

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A network that knows no n-grams yet."""
        from components.models.counted.net import Counted

        return Counted(
            cast(CountedConfig, config), cast(TextEncoder, encoder).vocabulary, len(encoder.classes)
        )

    def count(self, module: torch.nn.Module, batches: Iterator[Batch]) -> None:
        """Its table."""
        from components.models.counted.net import Counted

        cast(Counted, module).count(batches)

    def surgery(self) -> PruningSpec:
        """Filters can go."""
        from components.models.counted.net import CountedSurgery

        return CountedSurgery()


class RecurrentArchitecture(_Text):
    """LSTM or GRU in both directions, pooled by attention."""

    Config: type[BaseModel] = RecurrentConfig
    packs = False  # torch's packed sequences take twice as long a step on CPU (239 against 99 ms for 64 rows of 40 to 48 tokens)

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh recurrent network."""
        from components.models.recurrent.net import Recurrent

        return Recurrent(
            cast(RecurrentConfig, config),
            cast(TextEncoder, encoder).vocabulary,
            len(encoder.classes),
        )

    def surgery(self) -> PruningSpec:
        """Units of each direction and of the pooling's score can go."""
        from components.models.recurrent.net import RecurrentSurgery

        return RecurrentSurgery()


class TransformerArchitecture(_Reading):
    """Attention over embeddings."""

    Config: type[BaseModel] = TransformerConfig
    packs = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh Transformer."""
        from components.models.transformer.net import Transformer

        text = cast(TextEncoder, encoder)
        return Transformer(
            cast(TransformerConfig, config), text.vocabulary, len(text.classes), text.max_length
        )

    def surgery(self) -> PruningSpec:
        """Heads and hidden units can go."""
        from components.models.transformer.net import TransformerSurgery

        return TransformerSurgery()


class PretrainedArchitecture(_Reading):
    """The encoder whose vocabulary the tokens are of."""

    Config: type[BaseModel] = PretrainedConfig
    packs = False  # transformers' encoders take padded rows

    def check(self, config: BaseModel, encoder: Encoder) -> None:
        """The tokens are of an encoder, and the libraries are there."""
        needed = (
            ["transformers", "peft"]
            if cast(PretrainedConfig, config).way == "lora"
            else ["transformers"]
        )
        if missing := [name for name in needed if find_spec(name) is None]:
            what = f"architecture pretrained needs {' and '.join(missing)}, not installed here"
            raise EnvironmentFault(
                what,
                where="train.architecture",
                remedy="pip install -c constraints.txt -e '.[pretrained]'",
            )
        if (network := cast(TextEncoder, encoder).network) is None:
            what = "architecture pretrained takes the tokens of its own encoder; these are of a vocabulary that was fitted to the train rows"
            raise ParamsError(
                what,
                where="train.architecture",
                remedy="name the encoder in tokenize.pretrained (a folder or a hub id), or take another architecture",
            )
        from transformers import CONFIG_MAPPING

        if network["model_type"] not in CONFIG_MAPPING:
            raise ParamsError(
                f"transformers knows no model_type {network['model_type']!r}",
                where="tokenize.pretrained",
                remedy="take an encoder that it knows, such as BERT, RoBERTa or MiniLM",
            )

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """The encoder with random weights, and a fresh head."""
        from components.models.pretrained.net import Pretrained

        self.check(config, encoder)
        text = cast(TextEncoder, encoder)
        assert text.network is not None
        return Pretrained(cast(PretrainedConfig, config), text.network, len(text.classes))

    def weights(self, tokens: Path) -> Mapping[str, torch.Tensor]:
        """Of the network beside the tokens, compared with the manifest first."""
        from components.models.pretrained.net import weights_of

        for name, expected in read_manifest(tokens)["pretrained"].items():
            path = tokens / PRETRAINED / name
            if not path.is_file() or sha256(path) != expected:
                raise InputError(
                    "is missing or was altered",
                    where=str(path),
                    remedy="dvc checkout tokens, or dvc repro tokenize",
                )
        return weights_of(tokens / PRETRAINED)

    def surgery(self) -> PruningSpec:
        """Hidden units can go, in encoders built as BERT's."""
        from components.models.pretrained.net import PretrainedSurgery

        return PretrainedSurgery()


class TextModels:
    """Facet models.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextTrain}
    architectures: Mapping[str, Architecture] = {
        "ngrams": NgramsArchitecture(),
        "textcnn": TextCNNArchitecture(),
        "counted": CountedArchitecture(),
        "recurrent": RecurrentArchitecture(),
        "transformer": TransformerArchitecture(),
        "pretrained": PretrainedArchitecture(),
    }


MODELS = TextModels()

"""Define the architectures for text classification. This imports without torch."""

from __future__ import annotations

import copy
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
from components.tasks.shared.loss.classification.params import LossParams
from components.tasks.text_classification.encode import TextEncoder

if TYPE_CHECKING:
    import torch

    from components.models.pretrained.net import Pretrained


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


class TextTrain(LossParams):
    """Params of `train`."""

    architecture: Literal[
        "ngrams", "textcnn", "counted", "recurrent", "transformer", "pretrained"
    ] = Field("textcnn", description=ARCHITECTURE)
    nets: Nets = Field(Nets(), description=NETS)


class _TextArchitecture:
    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graph from ids and mask (batch, length) to logits."""
        axes = ("batch", "length")
        return {"forward": Graph(module, {"ids": axes, "mask": axes}, ["logits"])}


class _TokenStateArchitecture(_TextArchitecture):
    """A network with a state per token."""

    def masked(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module under a head that predicts masked tokens."""
        from components.models.masked_lm import Masked, Reads

        return Masked(cast(Reads, module))


class NgramsArchitecture(_TextArchitecture):
    """Mean of the embeddings of tokens and n-grams."""

    Config: type[BaseModel] = NgramsConfig
    supports_packing = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new bag of n-grams."""
        from components.models.ngrams.net import Ngrams

        return Ngrams(
            cast(NgramsConfig, config),
            cast(TextEncoder, encoder).vocabulary,
            len(encoder.targets["classes"]),
        )

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of the embedding's width."""
        from components.models.ngrams.net import NgramsPruningSpec

        return NgramsPruningSpec()


class TextCNNArchitecture(_TextArchitecture):
    """Filters over embeddings."""

    Config: type[BaseModel] = TextCNNConfig
    # One convolution over padded rows of similar length is faster on a CPU than windows
    # gathered row by row: 58 ms a step of 64 rows, against 77 ms.
    supports_packing = False

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new TextCNN."""
        from components.models.textcnn.net import TextCNN

        return TextCNN(
            cast(TextCNNConfig, config),
            cast(TextEncoder, encoder).vocabulary,
            len(encoder.targets["classes"]),
        )

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of filters."""
        from components.models.textcnn.net import TextCNNPruningSpec

        return TextCNNPruningSpec()


class CountedArchitecture(_TextArchitecture):
    """Weights of n-grams that occur in enough train rows, and filters over embeddings."""

    Config: type[BaseModel] = CountedConfig
    # See TextCNN.
    supports_packing = False

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new network, whose n-grams are not counted yet."""
        from components.models.counted.net import Counted

        return Counted(
            cast(CountedConfig, config),
            cast(TextEncoder, encoder).vocabulary,
            len(encoder.targets["classes"]),
        )

    def count(self, module: torch.nn.Module, batches: Iterator[Batch]) -> None:
        """Fill the table of n-grams."""
        from components.models.counted.net import Counted

        cast(Counted, module).count(batches)

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of filters."""
        from components.models.counted.net import CountedPruningSpec

        return CountedPruningSpec()


class RecurrentArchitecture(_TextArchitecture):
    """LSTM or GRU in both directions, pooled by attention."""

    Config: type[BaseModel] = RecurrentConfig
    # torch's packed sequences take twice as long a step on a CPU: 239 ms for 64 rows of 40 to
    # 48 tokens, against 99 ms.
    supports_packing = False

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new recurrent network."""
        from components.models.recurrent.net import Recurrent

        return Recurrent(
            cast(RecurrentConfig, config),
            cast(TextEncoder, encoder).vocabulary,
            len(encoder.targets["classes"]),
        )

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of each direction's units and of the attention's."""
        from components.models.recurrent.net import RecurrentPruningSpec

        return RecurrentPruningSpec()


class TransformerArchitecture(_TokenStateArchitecture):
    """Attention over embeddings."""

    Config: type[BaseModel] = TransformerConfig
    supports_packing = True

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new Transformer."""
        from components.models.transformer.net import Transformer

        text = cast(TextEncoder, encoder)
        return Transformer(
            cast(TransformerConfig, config),
            text.vocabulary,
            len(text.targets["classes"]),
            text.max_length,
        )

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of heads and hidden units."""
        from components.models.transformer.net import TransformerPruningSpec

        return TransformerPruningSpec()


class PretrainedArchitecture(_TokenStateArchitecture):
    """The pretrained encoder whose vocabulary the tokens come from."""

    Config: type[BaseModel] = PretrainedConfig
    # The encoders of transformers take padded rows.
    supports_packing = False

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graph from ids and mask (batch, length) to logits.

        Its attention is written as plain products, which ONNX needs fewer operators for.
        """
        plain = copy.deepcopy(module)
        cast("Pretrained", plain).encoder.set_attn_implementation("eager")
        return super().graphs(plain)

    def check(self, config: BaseModel, encoder: Encoder) -> None:
        """Refuse tokens of another vocabulary, and missing libraries.

        Raises:
            EnvironmentFault: a library is missing.
            ParamsError: the tokens are of no pretrained encoder, or of an unsupported one.
        """
        needed = ["transformers"]
        if cast(PretrainedConfig, config).way == "lora":
            needed.append("peft")
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            what = f"architecture pretrained needs {' and '.join(missing)}, not installed here"
            raise EnvironmentFault(
                what,
                where="train.architecture",
                remedy="pip install -c constraints.txt -e '.[pretrained]'",
            )
        network = cast(TextEncoder, encoder).network
        if network is None:
            raise ParamsError(
                "architecture pretrained takes the tokens of its own encoder; "
                "these are of a vocabulary that was fitted to the train rows",
                where="train.architecture",
                remedy=(
                    "name the encoder in tokenize.pretrained (a folder or a hub id), "
                    "or take another architecture"
                ),
            )
        from transformers import CONFIG_MAPPING

        if network["model_type"] not in CONFIG_MAPPING:
            raise ParamsError(
                f"transformers knows no model_type {network['model_type']!r}",
                where="tokenize.pretrained",
                remedy="take an encoder that it knows, such as BERT, RoBERTa or MiniLM",
            )

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return the encoder with random weights, under a new head."""
        from components.models.pretrained.net import Pretrained

        self.check(config, encoder)
        text = cast(TextEncoder, encoder)
        assert text.network is not None
        return Pretrained(
            cast(PretrainedConfig, config), text.network, len(text.targets["classes"])
        )

    def weights(self, tokens: Path) -> Mapping[str, torch.Tensor]:
        """Return the weights of the network in the tokens folder.

        Raises:
            InputError: a file is missing, or its hash is not the one in the manifest.
        """
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

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of heads and hidden units, for encoders with BERT's module names."""
        from components.models.pretrained.net import PretrainedPruningSpec

        return PretrainedPruningSpec()


class TextModels:
    """Facet models.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": TextTrain}
    loss_params: type[BaseModel] = LossParams
    architectures: Mapping[str, Architecture] = {
        "ngrams": NgramsArchitecture(),
        "textcnn": TextCNNArchitecture(),
        "counted": CountedArchitecture(),
        "recurrent": RecurrentArchitecture(),
        "transformer": TransformerArchitecture(),
        "pretrained": PretrainedArchitecture(),
    }


MODELS = TextModels()

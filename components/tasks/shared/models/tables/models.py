"""Define the architectures for tables. This imports without torch.

A network has one output where the target is a number, and one for each class otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.models.base import PruningSpec
from components.models.ft_transformer.config import FTTransformerConfig
from components.models.mlp.config import MLPConfig
from components.models.table_resnet.config import TableResNetConfig
from components.tasks.base import ARCHITECTURE, NETS, Architecture, Encoder, Graph
from components.tasks.shared.encode.tables.table_encoder import TableEncoder

if TYPE_CHECKING:
    import torch

    from components.models.feature_layout import FeatureLayout


class TableNets(Strict):
    """The configs, by architecture."""

    mlp: MLPConfig = Field(MLPConfig(), description="Multilayer perceptron.")
    table_resnet: TableResNetConfig = Field(TableResNetConfig(), description="Residual network.")
    ft_transformer: FTTransformerConfig = Field(
        FTTransformerConfig(), description="Transformer over the columns."
    )


class TableNetParams(Strict):
    """Params of `train` that choose the network."""

    architecture: Literal["mlp", "table_resnet", "ft_transformer"] = Field(
        "mlp", description=ARCHITECTURE
    )
    nets: TableNets = Field(TableNets(), description=NETS)


def _layout(encoder: TableEncoder) -> FeatureLayout:
    """Return the layout of the features that an encoder makes."""
    from components.models.feature_layout import FeatureLayout

    return FeatureLayout(encoder.number_width, list(encoder.columns.sizes))


class _TableArchitecture:
    # Rows have one width, so there is nothing to pack.
    supports_packing = False

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graph from features (batch, width) to logits."""
        width = self._features(module).layout.width
        return {"forward": Graph(module, {"features": ("batch", width)}, ["logits"])}

    def _features(self, module: torch.nn.Module) -> Any:
        """Return the part of a network that reads the features."""
        return module.embedding


class MLPArchitecture(_TableArchitecture):
    """Linear layers over embedded columns."""

    Config: type[BaseModel] = MLPConfig

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new multilayer perceptron."""
        from components.models.mlp.net import MLP

        table = cast(TableEncoder, encoder)
        return MLP(cast(MLPConfig, config), _layout(table), table.outputs)

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of hidden units."""
        from components.models.mlp.net import MLPPruningSpec

        return MLPPruningSpec()


class TableResNetArchitecture(_TableArchitecture):
    """Residual blocks over embedded columns."""

    Config: type[BaseModel] = TableResNetConfig

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new residual network."""
        from components.models.table_resnet.net import TableResNet

        table = cast(TableEncoder, encoder)
        return TableResNet(cast(TableResNetConfig, config), _layout(table), table.outputs)

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of hidden units."""
        from components.models.table_resnet.net import TableResNetPruningSpec

        return TableResNetPruningSpec()


class FTTransformerArchitecture(_TableArchitecture):
    """Attention between columns."""

    Config: type[BaseModel] = FTTransformerConfig

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new Transformer."""
        from components.models.ft_transformer.net import FTTransformer

        table = cast(TableEncoder, encoder)
        return FTTransformer(cast(FTTransformerConfig, config), _layout(table), table.outputs)

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of hidden units."""
        from components.models.ft_transformer.net import FTTransformerPruningSpec

        return FTTransformerPruningSpec()

    def _features(self, module: torch.nn.Module) -> Any:
        return module.tokens


class TableModels:
    """Facet models.py of a task on tables.

    Args:
        train: params of `train`, which are `TableNetParams` and those of the loss.
        loss_params: params of the loss.
    """

    architectures: Mapping[str, Architecture] = {
        "mlp": MLPArchitecture(),
        "table_resnet": TableResNetArchitecture(),
        "ft_transformer": FTTransformerArchitecture(),
    }

    def __init__(self, train: type[TableNetParams], loss_params: type[BaseModel]) -> None:
        self.options: Mapping[str, type[BaseModel]] = {"train": train}
        self.loss_params = loss_params

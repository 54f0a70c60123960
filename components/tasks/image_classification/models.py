"""Define the architectures for image classification. This imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.models.base import PruningSpec
from components.models.convnet.config import ConvNetConfig
from components.tasks.base import ARCHITECTURE, NETS, Architecture, Encoder, Graph
from components.tasks.image_classification.encode import ImageEncoder
from components.tasks.shared.loss.classification.params import LossParams

if TYPE_CHECKING:
    import torch


class ImageNets(Strict):
    """The configs, by architecture."""

    convnet: ConvNetConfig = Field(ConvNetConfig(), description="Convolutional network.")


class ImageTrain(LossParams):
    """Params of `train`."""

    architecture: Literal["convnet"] = Field("convnet", description=ARCHITECTURE)
    nets: ImageNets = Field(ImageNets(), description=NETS)


class ConvNetArchitecture:
    """Convolutions over pixels."""

    Config: type[BaseModel] = ConvNetConfig
    supports_packing = False

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """Return a new ConvNet."""
        from components.models.convnet.net import ConvNet

        images = cast(ImageEncoder, encoder)
        convnet_config = cast(ConvNetConfig, config)
        return ConvNet(convnet_config, images.channels, images.size, len(images.targets["classes"]))

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """Return the graph from pixels (batch, channels, size, size) to logits."""
        channels = int(module.convs[0].in_channels)  # type: ignore[union-attr, index]
        side = int(module.size)  # type: ignore[arg-type]
        axes = ("batch", channels, side, side)
        return {"forward": Graph(module, {"pixels": axes}, ["logits"])}

    def pruning_spec(self) -> PruningSpec:
        """Return the pruning of channels and hidden units."""
        from components.models.convnet.net import ConvNetPruningSpec

        return ConvNetPruningSpec()


class ImageModels:
    """Facet models.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": ImageTrain}
    loss_params: type[BaseModel] = LossParams
    architectures: Mapping[str, Architecture] = {"convnet": ConvNetArchitecture()}


MODELS = ImageModels()

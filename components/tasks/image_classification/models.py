"""The networks that fit a small picture in, one class out. Imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.models.base import PruningSpec
from components.models.convnet.config import ConvNetConfig
from components.tasks.base import ARCHITECTURE, NETS, Architecture, Encoder, Graph
from components.tasks.image_classification.encode import ImageEncoder

if TYPE_CHECKING:
    import torch


class Nets(Strict):
    """The configs, by architecture."""

    convnet: ConvNetConfig = Field(ConvNetConfig(), description="Convolutional network.")


class ImageTrain(Strict):
    """Params of `train`."""

    architecture: Literal["convnet"] = Field("convnet", description=ARCHITECTURE)
    nets: Nets = Field(Nets(), description=NETS)


class ConvNetArchitecture:
    """Convolutions over pixels."""

    Config: type[BaseModel] = ConvNetConfig
    packs = False

    def build(self, config: BaseModel, encoder: Encoder) -> torch.nn.Module:
        """A fresh ConvNet."""
        from components.models.convnet.net import ConvNet

        pictures = cast(ImageEncoder, encoder)
        return ConvNet(
            cast(ConvNetConfig, config), pictures.channels, pictures.size, len(pictures.classes)
        )

    def graphs(self, module: torch.nn.Module) -> Mapping[str, Graph]:
        """pixels (batch, channels, size, size) to logits."""
        channels, side = module.convs[0].in_channels, module.size  # type: ignore[union-attr,index]
        return {
            "forward": Graph(
                module,
                {"pixels": ("batch", int(channels), int(side), int(side))},  # type: ignore[arg-type]
                ["logits"],
            )
        }

    def surgery(self) -> PruningSpec:
        """Channels and hidden units can go."""
        from components.models.convnet.net import ConvNetSurgery

        return ConvNetSurgery()


class ImageModels:
    """Facet models.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": ImageTrain}
    architectures: Mapping[str, Architecture] = {"convnet": ConvNetArchitecture()}


MODELS = ImageModels()

"""Define the loss of images: that of classification, with random transforms on the fly."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel
from torch.nn import functional as F

from components.tasks.base import Batch
from components.tasks.image_classification.schema import OnlineTransforms
from components.tasks.shared.loss.classification.loss import ClassificationLearning


class ImageLearning(ClassificationLearning):
    """Facet loss.py."""

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:
        """Rotate, shift, zoom and mirror each image by a random amount.

        Sampling is bilinear, and edges are repeated.

        Args:
            batch: with "pixels" (n, channels, size, size).
            rng: source of the random draws.
            options: the largest amounts.
        """
        assert isinstance(options, OnlineTransforms)
        # (n, channels, size, size)
        pixels = batch["pixels"]
        matrix = _matrices(
            len(pixels),
            pixels.shape[-1],
            rng,
            options,
        ).to(pixels.device)
        grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
        moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        return {**batch, "pixels": moved}


def _matrices(
    n: int,
    size: int,
    rng: torch.Generator,
    options: OnlineTransforms,
) -> torch.Tensor:
    """Return affine maps (n, 2, 3) from positions in the new image to positions in the old one.

    Args:
        n: number of images.
        size: side length in pixels.
        rng: source of the random draws.
        options: the largest amounts.
    """
    angle = (torch.rand(n, generator=rng) * 2 - 1) * math.radians(options.rotate_degrees)
    # The image spans [-1, 1].
    reach = 2 * options.shift_pixels / size
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * reach
    cos = angle.cos()
    sin = angle.sin()
    across = torch.stack([cos, -sin], 1)
    down = torch.stack([sin, cos], 1)
    if options.zoom:
        draws = torch.rand(n, 1, generator=rng) * 2 - 1
        factor = 1 + draws * options.zoom
        across = across / factor
        down = down / factor
    if options.flip:
        mirrored = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
        across = across * mirrored[:, None]
    rows = [torch.cat([across, shift[:, :1]], 1), torch.cat([down, shift[:, 1:]], 1)]
    return torch.stack(rows, 1)


LOSS = ImageLearning()

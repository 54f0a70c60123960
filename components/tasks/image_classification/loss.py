"""Learning: as other classification, with pictures turned and shifted on the fly."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel
from torch.nn import functional as F

from components.tasks.base import Batch
from components.tasks.classification.loss import ClassificationLearning
from components.tasks.image_classification.schema import Online


class ImageLearning(ClassificationLearning):
    """Facet loss.py."""

    def transform(self, batch: Batch, rng: torch.Generator, options: BaseModel) -> Batch:
        """Turn and shift each picture by its own random amount, bilinear, edges repeated."""
        assert isinstance(options, Online)
        pixels = batch["pixels"]  # (n, channels, size, size)
        n, size = len(pixels), pixels.shape[-1]
        angle = (torch.rand(n, generator=rng) * 2 - 1) * math.radians(options.rotate_degrees)
        shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * (2 * options.shift_pixels / size)  # grid units: the picture spans [-1, 1]
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)  # (n, 2, 3)
        grid = F.affine_grid(matrix.to(pixels.device), list(pixels.shape), align_corners=False)
        return {**batch, "pixels": F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)}


LOSS = ImageLearning()

"""Encode images as normalized pixels.

The mean and deviation of each channel are fitted on train.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.params import Strict
from components.fields.image import Fit, Image, decode
from components.tasks.base import NO_INPUTS, Arrays, TargetInfo
from components.tasks.image_classification.schema import ImageClean


class ImageTokenize(Strict):
    """No params."""


class ImageEncoderMetadata(Strict):
    """Content of encoder.json."""

    classes: list[str] = Field(min_length=1)
    channels: Literal[1, 3]
    size: int = Field(ge=1, le=4096)
    fit: Fit = "squeeze"
    mean: list[float] = Field(min_length=1, max_length=3)
    deviation: list[float] = Field(min_length=1, max_length=3)


class ImageEncoder:
    """Channel statistics and the class names.

    Rows hold integer levels, which take a quarter of the memory. `collate` normalizes them.

    Args:
        metadata: {"classes", "channels", "size", "fit", "mean", "deviation"}. The statistics are of
            pixels in [0, 1], one per channel. Older encoders have no "fit" and squeeze.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = dict(metadata)
        self.targets: TargetInfo = {"classes": list(metadata["classes"])}
        self.channels = int(metadata["channels"])
        self.size = int(metadata["size"])
        self._field = Image(self.channels, self.size, metadata.get("fit", "squeeze"))
        self._mean = np.asarray(metadata["mean"], dtype=np.float32).reshape(-1, 1, 1)
        self._deviation = np.asarray(metadata["deviation"], dtype=np.float32).reshape(-1, 1, 1)

    def _pixels(self, png: bytes) -> NDArray[np.uint8]:
        """Return levels 0-255 (channels * size * size)."""
        pixels = decode(png, self.channels).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels).ravel()

    def encode(self, rows: pa.Table) -> pa.Table:
        """Return a table with the columns id, pixels (channels * size * size) and target.

        The target is the class index, or -1 for a row without a label.

        Args:
            rows: of the clean table, with "id", "image" and "label".
        """
        index = {name: i for i, name in enumerate(self.targets["classes"])} | {None: -1}
        pixels = [self._pixels(png) for png in rows["image"].to_pylist()]
        target = [index[name] for name in rows["label"].to_pylist()]
        return pa.table(
            {
                "id": rows["id"],
                "pixels": pa.array(pixels, pa.list_(pa.uint8())),
                "target": pa.array(target, pa.int64()),
            }
        )

    def collate(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return "pixels" (n, channels, size, size) float32, normalized.

        Args:
            rows: {"pixels": n arrays (channels * size * size)} of levels 0-255.
        """
        levels = np.stack([np.asarray(row, dtype=np.float32) for row in rows["pixels"]])
        pixels = levels.reshape(-1, self.channels, self.size, self.size) / 255
        return {"pixels": (pixels - self._mean) / self._deviation}

    def pack(self, rows: Mapping[str, Sequence[NDArray[Any]]]) -> Arrays:
        """Return the same as `collate`, because images have one size and need no padding."""
        return self.collate(rows)

    def rows(self, inputs: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Return "pixels" with n rows, normalized as in clean and then encoded.

        Raises:
            Reject: an image is of no use.

        Args:
            inputs: {"image": n images as bytes}.
        """
        pixels = []
        for value in inputs["image"]:
            pixels.append(self._pixels(self._field.normalize(value)))
        return {"pixels": pixels}

    def elements(
        self,
        inputs: Mapping[str, Sequence[Any]],  # noqa: ARG002
        contributions: NDArray[np.float64],
    ) -> Sequence[NDArray[np.float64]]:
        """Return the contributions of the pixels of each picture, (size, size).

        Args:
            inputs: not used.
            contributions: (n, size, size).
        """
        return list(contributions)

    def files(self) -> Mapping[str, bytes]:
        """Return encoder.json."""
        return {"encoder.json": to_json(self._metadata).encode()}

    def lengths(self, rows: pa.Table) -> NDArray[np.int64]:
        """Return (n,) the cost of each row, which is the same for all images."""
        return np.full(rows.num_rows, self.channels * self.size * self.size, dtype=np.int64)


class ImageEncoding:
    """Facet encode.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"tokenize": ImageTokenize}

    def fit(
        self,
        rows: Iterator[pa.RecordBatch],
        targets: TargetInfo,
        options: BaseModel,  # noqa: ARG002
        clean: BaseModel,
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> ImageEncoder:
        """Return an encoder with the mean and deviation of each channel over all train pixels.

        Args:
            rows: batches of train rows.
            targets: of clean, with the classes in the order of their indices.
            options: not used.
            clean: params of `clean`: channels, size and fit.
            inputs: not used.
        """
        assert isinstance(clean, ImageClean)
        count = 0
        total = np.zeros(clean.channels)
        squares = np.zeros(clean.channels)
        for batch in rows:
            for png in batch.column("image").to_pylist():
                pixels = decode(png, clean.channels).reshape(-1, clean.channels) / 255
                count += len(pixels)
                total = total + pixels.sum(0)
                squares = squares + (pixels**2).sum(0)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
        metadata = {
            "classes": list(targets["classes"]),
            "channels": clean.channels,
            "size": clean.size,
            "fit": clean.fit,
            "mean": mean.tolist(),
            "deviation": deviation.tolist(),
        }
        return ImageEncoder(metadata)

    def load(self, files: Mapping[str, bytes]) -> ImageEncoder:
        """Return the encoder of a bundle or of tokens/.

        Raises:
            ValidationError: encoder.json is invalid.

        Args:
            files: encoder files by name.
        """
        metadata = ImageEncoderMetadata.model_validate_json(files["encoder.json"])
        return ImageEncoder(metadata.model_dump(exclude_unset=True))


ENCODING = ImageEncoding()

"""Read, encode and answer in exported folders, without gristmill. See `orchestration/export`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.image import _FITS, _upright
from components.tasks.shared.standalone.classification.class_answers import (
    ANSWER_FIELDS,
    answer_of,
)

__all__ = [
    "ANSWER_FIELDS",
    "QUERY",
    "USAGE",
    "answer_of",
    "open_rows",
    "requirements",
    "unsupported",
]
QUERY = "the path of a picture"
USAGE = "photo.png"


def requirements(files: Mapping[str, bytes]) -> tuple[str, ...]:  # noqa: ARG001
    """Return the packages that read, encode and answer."""
    return ("numpy", "pillow")


def unsupported(files: Mapping[str, bytes]) -> str:  # noqa: ARG001
    """Return "": a short script can encode every picture."""
    return ""


class PictureRows:
    """The size and the statistics of pixels of encoder.json.

    Args:
        folder: of the encoder's files.
    """

    def __init__(self, folder: Path) -> None:
        self._settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))

    def read(self, argument: str) -> dict[str, Any]:
        """Return the query of an argument of the command line, which is the path of a picture."""
        return {"image": base64.b64encode(Path(argument).read_bytes()).decode()}

    def encode(self, query: Mapping[str, Any] | bytes | str) -> dict[str, NDArray[Any]]:
        """Return "pixels" (1, channels, size, size), normalized.

        Args:
            query: the path of a picture, its bytes, or {"image": its bytes in base64}.

        Raises:
            Reject: the bytes are no picture that can be read.
        """
        content: Any = query
        if isinstance(query, str):
            content = Path(query).read_bytes()
        elif not isinstance(query, bytes):
            content = base64.b64decode(query["image"])
        channels = self._settings["channels"]
        size = self._settings["size"]
        fit = _FITS[self._settings.get("fit", "squeeze")]
        picture = fit(_upright(content, channels, size), size)
        levels = np.asarray(picture, dtype=np.float32).reshape(size, size, channels)
        shape = (-1, 1, 1)
        mean = np.array(self._settings["mean"], dtype=np.float32).reshape(shape)
        deviation = np.array(self._settings["deviation"], dtype=np.float32).reshape(shape)
        pixels = (levels.transpose(2, 0, 1) / 255 - mean) / deviation
        return {"pixels": np.ascontiguousarray(pixels[None], dtype=np.float32)}


open_rows = PictureRows

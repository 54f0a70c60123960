"""Source `sklearn`: data sets that scikit-learn ships."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa

from components.core.errors import InputError
from components.stages.ingest.columns import Layout
from components.stages.ingest.formats import Found
from components.stages.ingest.params import Sklearn
from components.stages.ingest.source_files import locate
from components.stages.ingest.source_rows import Record, Unit

_WHITE = 16  # of load_digits


def units(source: Sklearn, root: Path) -> list[Unit]:
    """Return the data set as one unit."""
    locate(source.path, root)
    return [Unit(f"sklearn/{source.dataset}", (), "digits")]


def digits(unit: Unit, wanted: Layout, used: set[str]) -> Found:  # noqa: ARG001
    """Yield 1,797 gray pictures (8, 8) as PNG with values 0..255, and their digit."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    if wanted.input.type != pa.binary():
        raise InputError(
            f"holds pictures, but the task's input is {wanted.input.name!r}",
            where=unit.name,
            remedy="set ingest.source, or take another task",
        )
    data = load_digits()
    pixels = np.rint(data.images * (255 / _WHITE)).astype(np.uint8)
    for row, (picture, digit) in enumerate(zip(pixels, data.target.tolist(), strict=True), 1):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        yield Record(row, wanted.values(stream.getvalue(), str(digit)))

"""Define the rows of image classification and their cleaning.

Images are transformed on the fly, so no rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from components.core.params import Strict
from components.fields.base import Field as Kind
from components.fields.image import Fit, Image
from components.tasks.base import Augmenter, FixedInputs, Role, SplitRule
from components.tasks.shared.schema.classification.class_name import ClassName
from components.tasks.shared.schema.classification.rules import ClassTargets


class ImageClean(Strict):
    """Params of `clean`."""

    size: int = Field(
        8,
        ge=8,
        le=512,
        description="Side of the square image in pixels, to which others are resampled.",
    )
    channels: Literal[1, 3] = Field(1, description="Color channels (gray or RGB).")
    fit: Fit = Field(
        "squeeze",
        description="Treatment of oblong images (pad: in the border's color; crop: to the middle).",
    )


class OnlineTransforms(Strict):
    """Random transforms of train batches."""

    rotate_degrees: float = Field(
        10.0, ge=0, le=180, description="Largest rotation to either side in degrees."
    )
    shift_pixels: float = Field(1.0, ge=0, description="Largest shift in each direction in pixels.")
    zoom: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Largest change of the size (0.1: larger or smaller by a tenth).",
    )
    flip: bool = Field(False, description="Mirror half of the images, left for right.")


class ImageAugment(Strict):
    """Params of `augment`."""

    online: OnlineTransforms = Field(
        OnlineTransforms(), description="Random transforms of train images, made on the fly."
    )


class ImageSchema(FixedInputs):
    """Facet schema.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {
        "clean": ImageClean,
        "augment": ImageAugment,
    }
    roles = (Role("image", Image(), "input"), Role("label", ClassName(), "target"))
    targets = ClassTargets()
    split = SplitRule("stratified", near_duplicates=True)

    def fields(self, options: BaseModel) -> Mapping[str, Kind]:
        """Return the fields image and label, with the size of `clean`."""
        assert isinstance(options, ImageClean)
        return {"image": Image(options.channels, options.size, options.fit), "label": ClassName()}

    def augmenters(self, options: BaseModel) -> Mapping[str, Augmenter]:  # noqa: ARG002
        """Return no augmenters: images are transformed in `loss.py`."""
        return {}


SCHEMA = ImageSchema()

"""Logistic regression on pixels: fitted by scikit-learn, kept as arrays, scored in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.params import Strict
from components.fields.image import Image, decode
from components.tasks.base import Arrays, Baseline, Scorer
from components.tasks.classification.baselines import Prior, linear_arrays
from components.tasks.image_classification.schema import ImageClean


class Classical(Strict):
    """Knobs of the linear model."""

    C: float = Field(1.0, gt=0)


class ImageClassical(Strict):
    """Knobs of `train`."""

    classical: Classical = Classical()


class PixelLinear:
    """The classical baseline."""

    def fit(
        self,
        rows: pa.Table,
        classes: Sequence[str],
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Multinomial logistic regression on pixels in [0, 1]."""
        from sklearn.linear_model import LogisticRegression

        assert isinstance(options, ImageClassical)
        assert isinstance(clean, ImageClean)
        index = {name: i for i, name in enumerate(classes)}
        model = LogisticRegression(C=options.classical.C, max_iter=2000, random_state=seed)
        model.fit(_flat(rows["image"].to_pylist(), clean.channels), [index[name] for name in rows["label"].to_pylist()])
        return linear_arrays(model, len(classes)), {"pixels.json": to_json({"channels": clean.channels, "size": clean.size}).encode()}

    def featuriser(self, files: Mapping[str, bytes]) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Pictures to {"pixels": (n, features)}."""
        facts = json.loads(files["pixels.json"])
        field = Image(facts["channels"], facts["size"])
        return lambda inputs: {"pixels": _flat([field.normalise(value) for value in inputs["image"]], facts["channels"])}

    def scorer(self, arrays: Arrays) -> Scorer:
        """Linear scores as logits (n, c)."""
        weights, intercept = arrays["coefficients"].T.astype(np.float64), arrays["intercept"].astype(np.float64)
        return lambda graph, batch: {"logits": batch["pixels"] @ weights + intercept}  # noqa: ARG005


def _flat(pictures: Sequence[bytes], channels: int) -> NDArray[np.float64]:
    return np.stack([decode(png, channels).ravel() / 255 for png in pictures])


class ImageBaselines:
    """Facet baselines.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": ImageClassical}
    baselines: Mapping[str, Baseline] = {"trivial": Prior(), "classical": PixelLinear()}


BASELINES = ImageBaselines()

"""Fit the classical baseline of images: a linear model on gradients and patches, in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from components.core.files import to_json
from components.core.mapped_tables import take_rows
from components.core.params import Strict
from components.fields.image import Image, decode
from components.fields.patches import (
    LARGEST_SIDE,
    FilterBank,
    draw_filters,
    features,
)
from components.tasks.base import (
    CLASSICAL,
    NO_INPUTS,
    STRENGTH,
    Arrays,
    Baseline,
    Scorer,
    TargetInfo,
)
from components.tasks.image_classification.schema import ImageClean
from components.tasks.shared.baselines.classification.baselines import Prior, linear_arrays
from components.tasks.shared.baselines.classification.doubtful_labels import DoubtsLabels

Floats = NDArray[np.float32]
# Strengths that are tried on validation rows, from strong to weak penalties.
_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_WITHOUT_VALIDATION = 0.003
_FEATURES_FILE = "features.json"
# What bundles had before: plain pixels.
_PIXELS_FILE = "pixels.json"


class PatchLinearParams(Strict):
    """Params of the linear model."""

    C: float | None = Field(None, gt=0, description=STRENGTH)
    rows: int = Field(20_000, ge=10, description="Most train rows that the baseline is fitted on.")


class ImageClassical(Strict):
    """Params of `train`."""

    classical: PatchLinearParams = Field(PatchLinearParams(), description=CLASSICAL)


class PatchLinear:
    """The classical baseline."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        seed: int,
        validation: pa.Table | None = None,
        chosen: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Fit multinomial logistic regression on standardized features.

        Args:
            rows: train rows of the clean table.
            targets: of clean, with the classes in the order of their indices.
            options: params of `train`.
            clean: params of `clean`.
            seed: of the drawn rows and patches, and of the solver.
            validation: rows that choose C, unless it is given.
            chosen: encoder files of an earlier fit, whose C is taken over.
            inputs: not used.

        Returns:
            The arrays of the bundle; its encoder files by name.
        """
        assert isinstance(options, ImageClassical)
        assert isinstance(clean, ImageClean)
        rng = np.random.default_rng(seed)
        index = {name: number for number, name in enumerate(targets["classes"])}
        train = _subsample(rows, options.classical.rows, rng)
        pixels = _pixels(train["image"].to_pylist(), clean.channels)
        bank = draw_filters(pixels, rng)
        table = features(pixels, bank)
        center = table.mean(axis=0)
        # A feature that hardly varies stays small.
        scale = table.std(axis=0) + 0.01 * table.std()
        train_truth = np.array([index[name] for name in train["label"].to_pylist()])
        strength = options.classical.C
        if chosen is not None:
            strength = json.loads(chosen[_FEATURES_FILE]).get("C")
        held_out = None
        if strength is None and validation is not None and validation.num_rows:
            part = _subsample(validation, options.classical.rows, rng)
            held_out_table = features(_pixels(part["image"].to_pylist(), clean.channels), bank)
            truth = np.array([index[name] for name in part["label"].to_pylist()])
            held_out = ((held_out_table - center) / scale, truth)
        model = _fitted((table - center) / scale, train_truth, strength, held_out, seed)
        arrays = linear_arrays(model, len(index))
        # The standardization becomes part of the weights.
        arrays["coefficients"] = (arrays["coefficients"] / scale).astype(np.float32)
        intercept = arrays["intercept"] - arrays["coefficients"] @ center
        arrays["intercept"] = intercept.astype(np.float32)
        metadata = {
            "channels": clean.channels,
            "size": clean.size,
            "fit": clean.fit,
            # For information, and for a fit on other rows.
            "C": float(model.C),
        }
        return {**arrays, **bank.arrays()}, {_FEATURES_FILE: to_json(metadata).encode()}

    def featurizer(
        self, files: Mapping[str, bytes]
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function from images to {"pixels": ...}.

        The pixels are flat and in [0, 1] for bundles of plain pixels.

        Args:
            files: encoder files of a bundle by name.
        """
        plain = _PIXELS_FILE in files
        name = _PIXELS_FILE if plain else _FEATURES_FILE
        metadata = json.loads(files[name])
        field = Image(metadata["channels"], metadata["size"], metadata.get("fit", "squeeze"))
        shape = _flat if plain else _pixels

        def prepared(inputs: Mapping[str, Sequence[Any]]) -> Arrays:
            """Return {"pixels": ...} of the values of "image"."""
            pictures = [field.normalize(value) for value in inputs["image"]]
            return {"pixels": shape(pictures, metadata["channels"])}

        return prepared

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer of linear scores as logits (n, c).

        Args:
            arrays: arrays of the bundle: "coefficients" (c, features), "intercept" (c,), and the
                filters. A bundle of plain pixels has no filters.
        """
        weights = arrays["coefficients"].T.astype(np.float64)
        intercept = arrays["intercept"].astype(np.float64)
        bank = FilterBank.of(arrays) if "filter_weights" in arrays else None

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            """Return {"logits": (n, c)} of pixels."""
            pixels = batch["pixels"]
            table = pixels if bank is None else features(pixels, bank)
            return {"logits": table @ weights + intercept}

        return score


def _fitted(
    table: Floats,
    targets: NDArray[np.int64],
    strength: float | None,
    held_out: tuple[Floats, NDArray[np.int64]] | None,
    seed: int,
) -> Any:
    """Return logistic regression with the given C, or with the best one on held-out rows.

    Args:
        table: (n, features) standardized features of the train rows.
        targets: (n,) class indices.
        strength: C; None: it is chosen.
        held_out: features and class indices of the rows that choose.
        seed: of the solver.
    """
    from sklearn.linear_model import LogisticRegression

    def fitted(value: float) -> Any:
        """Return the model of one value of C."""
        model = LogisticRegression(C=value, max_iter=200, tol=1e-3, random_state=seed)
        return model.fit(table, targets)

    if strength is not None or held_out is None:
        return fitted(strength or _WITHOUT_VALIDATION)
    best = None
    highest = -1.0
    for value in _STRENGTHS:
        model = fitted(value)
        share = float(model.score(*held_out))
        # Accuracy rises to one maximum. After it nothing better follows.
        if share < highest:
            break
        if share > highest:
            best = model
            highest = share
    return best


def _subsample(rows: pa.Table, most: int, rng: np.random.Generator) -> pa.Table:
    """Return at most `most` rows, drawn at random, in their order.

    Args:
        rows: from which rows are drawn.
        most: number of rows.
        rng: of the draw.
    """
    if rows.num_rows <= most:
        return rows
    drawn = rng.choice(rows.num_rows, most, replace=False)
    return take_rows(rows, np.sort(drawn))


def _flat(pictures: Sequence[bytes], channels: int) -> NDArray[np.float64]:
    """Return flat pixels in [0, 1], (n, height * width * channels)."""
    return np.stack([decode(png, channels).ravel() / 255 for png in pictures])


def _pixels(pictures: Sequence[bytes], channels: int) -> Floats:
    """Return levels 0-255 (n, side, side, channels), of at most LARGEST_SIDE.

    Args:
        pictures: n PNG images of one size.
        channels: 1 or 3.
    """
    return np.stack([_bounded(decode(png, channels)) for png in pictures])


def _bounded(pixels: NDArray[np.uint8]) -> Floats:
    """Return levels 0-255 as float32, shrunk to LARGEST_SIDE where the picture is larger.

    Args:
        pixels: (side, side, channels).
    """
    from PIL import Image as Pillow

    side = pixels.shape[0]
    if side <= LARGEST_SIDE:
        return pixels.astype(np.float32)
    target = (LARGEST_SIDE, LARGEST_SIDE)
    is_gray = pixels.shape[2] == 1
    picture = Pillow.fromarray(pixels[:, :, 0] if is_gray else pixels)
    smaller = picture.resize(target, Pillow.Resampling.BOX)
    shrunk = np.asarray(smaller, dtype=np.float32)
    return shrunk.reshape(LARGEST_SIDE, LARGEST_SIDE, -1)


class ImageBaselines(DoubtsLabels):
    """Facet baselines.py."""

    options: ClassVar[Mapping[str, type[BaseModel]]] = {"train": ImageClassical}
    baselines: Mapping[str, Baseline] = {"trivial": Prior(), "classical": PatchLinear()}


BASELINES = ImageBaselines()

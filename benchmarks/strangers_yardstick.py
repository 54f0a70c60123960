"""Yardsticks: what a careful person's first attempt with scikit-learn or a plain CNN reaches.

Every choice is made on validation. Nothing here uses code of the pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion
from sklearn.svm import SVC, LinearSVC
from torch import nn

SEED = 7
LOGISTIC_C = (2.0, 8.0, 32.0)
LINEAR_SVC_C = (0.1, 0.3, 1.0)
RBF_C = (2.0, 5.0, 20.0)
SVC_ROWS = 10_000
MOST_FEATURES = 200_000
EPOCHS = 10
BATCH = 64
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Hold the inputs of one split: texts or pixels (n, height, width, channels); classes (n,)."""

    inputs: Any
    labels: Labels


@dataclass(frozen=True)
class Attempt:
    """Hold the predictions of one fitted model."""

    name: str
    validation: Labels
    test: Labels


@dataclass(frozen=True)
class Yardstick:
    """Hold the attempt that was best on validation."""

    name: str
    validation_accuracy: float
    test: Labels
    seconds: float


def best_on_validation(attempts: Iterator[Attempt], truth: Labels) -> Yardstick:
    """Return the attempt with the highest accuracy on validation; the first one wins a tie."""
    start = time.monotonic()
    best: Attempt | None = None
    best_accuracy = -1.0
    for attempt in attempts:
        accuracy = float((attempt.validation == truth).mean())
        if accuracy > best_accuracy:
            best = attempt
            best_accuracy = accuracy
    if best is None:
        raise ValueError("there is no attempt to choose from")
    return Yardstick(best.name, best_accuracy, best.test, time.monotonic() - start)


# --- texts --------------------------------------------------------------------------------------


def text_features(rows: int, chinese: bool) -> FeatureUnion:
    """Return TF-IDF of characters 1-4 for Chinese, of words 1-2 and char_wb 2-5 for others."""
    options: dict[str, Any] = {
        "sublinear_tf": True,
        "min_df": 2 if rows > 1000 else 1,
        "max_features": MOST_FEATURES,
        "dtype": np.float32,
    }
    if chinese:
        character = TfidfVectorizer(
            analyzer="char",
            ngram_range=(1, 4),
            **options,
        )
        return FeatureUnion([("character", character)])
    word = TfidfVectorizer(
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",
        **options,
    )
    character = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(2, 5),
        **options,
    )
    return FeatureUnion([("word", word), ("character", character)])


def _linear_models() -> Iterator[tuple[str, Any]]:
    for strength in LINEAR_SVC_C:
        yield f"linear SVC, C {strength:g}", LinearSVC(C=strength, random_state=SEED)
    for strength in LOGISTIC_C:
        model = LogisticRegression(
            C=strength,
            solver="liblinear",
            random_state=SEED,
        )
        yield f"logistic regression, C {strength:g}", OneVsRestClassifier(model)


def _text_attempts(
    train: Part,
    validation: Part,
    test: Part,
    chinese: bool,
) -> Iterator[Attempt]:
    features = text_features(len(train.labels), chinese)
    fitted = features.fit_transform(train.inputs)
    validation_features = features.transform(validation.inputs)
    test_features = features.transform(test.inputs)
    for name, model in _linear_models():
        model.fit(fitted, train.labels)
        yield Attempt(name, model.predict(validation_features), model.predict(test_features))


def text_yardstick(
    train: Part,
    validation: Part,
    test: Part,
    chinese: bool,
) -> Yardstick:
    """Fit TF-IDF with linear SVC and logistic regression, and choose kind and C on validation."""
    attempts = _text_attempts(train, validation, test, chinese)
    return best_on_validation(attempts, validation.labels)


# --- pictures -----------------------------------------------------------------------------------


def plain_cnn(
    channels: int,
    height: int,
    width: int,
    classes: int,
) -> nn.Module:
    """Return two convolutions of 32 and 64 filters with pooling and a dense layer of 128."""
    flat = 64 * (height // 4) * (width // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def _pixels(inputs: NDArray[np.uint8]) -> torch.Tensor:
    """Return floats (n, channels, height, width) between 0 and 1."""
    scaled = inputs.astype(np.float32) / 255
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def _predict(net: nn.Module, inputs: NDArray[np.uint8]) -> Labels:
    net.eval()
    parts = [net(_pixels(inputs[at : at + 256])).argmax(1) for at in range(0, len(inputs), 256)]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.int64)


def cnn_attempt(
    train: Part,
    validation: Part,
    test: Part,
    epochs: int = EPOCHS,
) -> Attempt:
    """Train a plain CNN with Adam for ten epochs."""
    torch.manual_seed(SEED)
    _, height, width, channels = train.inputs.shape
    classes = int(train.labels.max()) + 1
    net = plain_cnn(channels, height, width, classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    labels = torch.from_numpy(train.labels)
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            logits = net(_pixels(train.inputs[chosen.numpy()]))
            loss = nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    name = f"plain CNN, {epochs} epochs"
    return Attempt(name, _predict(net, validation.inputs), _predict(net, test.inputs))


def shrunk(pictures: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return pictures whose longer side is at most `side`, by averaging blocks of pixels."""
    factor = -(-max(pictures.shape[1:3]) // side)
    if factor == 1:
        return pictures
    rows, height, width, channels = pictures.shape
    height -= height % factor
    width -= width % factor
    shape = (rows, height // factor, factor, width // factor, factor, channels)
    blocks = pictures[:, :height, :width].reshape(shape)
    return np.asarray(blocks.mean(axis=(2, 4)).round(), dtype=np.uint8)


def svc_attempts(train: Part, validation: Part, test: Part) -> Iterator[Attempt]:
    """Fit an SVC with RBF kernel on at most 10,000 train rows for each C."""

    def flat(part: Part) -> NDArray[np.float32]:
        small = shrunk(part.inputs, 32)
        return np.asarray(small.reshape(len(small), -1) / 255, dtype=np.float32)

    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(len(train.labels))[:SVC_ROWS]
    fitted = flat(Part(train.inputs[chosen], train.labels[chosen]))
    validation_features = flat(validation)
    test_features = flat(test)
    for strength in RBF_C:
        model = SVC(
            C=strength,
            gamma="scale",
            cache_size=1000,
        )
        model.fit(fitted, train.labels[chosen])
        predictions = (model.predict(features) for features in (validation_features, test_features))
        yield Attempt(f"SVC with RBF, C {strength:g}", *predictions)


def _picture_attempts(train: Part, validation: Part, test: Part) -> Iterator[Attempt]:
    yield cnn_attempt(train, validation, test)
    yield from svc_attempts(train, validation, test)


def picture_yardstick(train: Part, validation: Part, test: Part) -> Yardstick:
    """Fit a plain CNN and an SVC, and choose on validation."""
    return best_on_validation(_picture_attempts(train, validation, test), validation.labels)


# --- comparison ---------------------------------------------------------------------------------


def macro_f1(truth: Labels, predicted: Labels) -> float:
    """Return the mean F1 over the classes that stand in the truth, between 0 and 1.

    Args:
        truth: class indices (n,).
        predicted: class indices (n,).
    """
    classes = int(max(truth.max(), predicted.max())) + 1
    support = np.bincount(truth, minlength=classes)
    answered = np.bincount(predicted, minlength=classes)
    hits = np.bincount(truth[truth == predicted], minlength=classes)
    present = support > 0
    return float((2 * hits[present] / (support + answered)[present]).mean())


def paired_interval(
    difference: Callable[[Labels], float],
    rows: int,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the 95% paired bootstrap interval of a difference.

    Args:
        difference: computes it from the indices of resampled test rows.
        rows: number of test rows.
        resamples: number of bootstrap samples.
    """
    rng = np.random.default_rng(SEED)
    values = [difference(rng.integers(0, rows, rows)) for _ in range(resamples)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def verdict(low: float, high: float) -> str:
    """Return whether a paired interval lies above zero, below it, or holds it."""
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "tie"

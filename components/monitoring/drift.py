"""Whether a window of what a service was asked and answered is still what its model was trained on.

Each field has a test of its own, exact or conservative but for the last one: numbers the two-sample Kolmogorov-Smirnov test at the quantiles that the profile keeps, and
Fisher's exact test near both ends; names and words (is it in the text?) Fisher's exact test of the share of each, with Bonferroni's correction, for a chi-square test must
merge what training hardly had, which is what drift is made of; accuracy Fisher's exact test, one-sided; points of an embedding Hotelling's test of their mean, whose level
holds for windows of hundreds of rows. Over the fields Holm's correction (1979) holds the chance of any false alarm in a window at the level, however they depend on one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.monitoring.profile import OTHER

ACCURACY = "accuracy"
_SHOWN = 3
_ENDS = (0.01, 0.05, 0.95, 0.99)  # shares of the training rows


@dataclass(frozen=True)
class DriftResult:
    """What one field shows."""

    field: str
    rows: int  # in the window
    p: float  # of its own test
    adjusted: float  # by Holm: at or below the level, it has drifted
    drifted: bool
    change: str  # for a person: training -> now

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    profile: Mapping[str, Any],
    window: Mapping[str, Sequence[Any]],
    level: float,
    labelled: tuple[int, int] | None = None,
) -> list[DriftResult]:
    """Compare a window with training.

    Args:
        profile: of a bundle's card.
        window: columns of logged rows; a field that none of them has is not judged.
        level: chance of a false alarm in this window, over all fields.
        labeled: (right, all) of the answers with labels, if there are enough of them.

    Returns:
        A finding for each field, in the profile's order.
    """
    predictions: Mapping[str, Any] = profile.get("predictions", {})
    fields = {**profile.get("fields", {}), **predictions.get("fields", {})}
    told: list[tuple[str, int, float, str]] = []
    for name, known in fields.items():
        values = [value for value in window.get(name, ()) if value is not None]
        if values:
            told.append((name, len(values), *_TESTS[known["kind"]](known, values)))
    if labelled and predictions:
        told.append((ACCURACY, labelled[1], *_accuracy(predictions, *labelled)))
    adjusted = holm([p for _, _, p, _ in told])
    return [
        DriftResult(name, rows, p, each, each <= level, change)
        for (name, rows, p, change), each in zip(told, adjusted, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): at or below a level, the chance of any false one among them is at most that level."""
    order = np.argsort(p, kind="stable")
    adjusted, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def _numbers(known: Mapping[str, Any], values: Sequence[float]) -> tuple[float, str]:
    """Kolmogorov-Smirnov, two samples, at the edges that are kept (looking at fewer places, or ties, make it conservative), and Fisher's exact tests of how many lie beyond
    those near the ends, which see a few strange rows that move no middle; Bonferroni."""
    from scipy.stats import kstwo

    ranked, n, m = np.sort(np.asarray(values, dtype=float)), len(values), known["rows"]
    edges, counts = np.asarray(known["edges"]), np.asarray(known["below"])
    below, now = counts / m, np.searchsorted(ranked, edges + 1e-9, side="right")
    gap = float(np.abs(now / n - below).max())
    gap = max(
        gap, float(np.searchsorted(ranked, edges[0] - 1e-9, side="left")) / n
    )  # of what is less than anything before
    ends = np.unique(np.searchsorted(below, _ENDS).clip(max=len(edges) - 1))
    p = min(
        float(kstwo.sf(gap, max(1, round(n * m / (n + m))))) if gap > 0 else 1.0,
        _shares(counts[ends], now[ends], m, n, len(ends)),
    )
    middle = edges[min(int(np.searchsorted(below, 0.5)), len(edges) - 1)]
    return min(1.0, 2 * p), f"median {middle:.3g} -> {float(np.median(ranked)):.3g}"


def _names(known: Mapping[str, Any], values: Sequence[str]) -> tuple[float, str]:
    """Fisher's exact test for the share of each value; what training never had is one value, "other"."""
    before: Mapping[str, int] = known["counts"]
    now, seen = Counter(values), Counter(value if value in before else OTHER for value in values)
    names = sorted({*before, *seen})
    shares = {
        name: (before.get(name, 0) / known["rows"], now[name] / len(values))
        for name in {*before, *now}
    }
    return _shares(
        [before.get(name, 0) for name in names],
        [seen[name] for name in names],
        known["rows"],
        len(values),
        max(1, len(names) - (len(names) == 2)),
    ), _moved(shares, 1)


def _words(known: Mapping[str, Any], values: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Fisher's exact test for the share of texts with each word."""
    words = sorted(known["counts"])
    counted = Counter(word for each in values for word in set(each))
    before, now = [known["counts"][word] for word in words], [counted[word] for word in words]
    shares = {
        word: (before[place] / known["rows"], now[place] / len(values))
        for place, word in enumerate(words)
    }
    return _shares(before, now, known["rows"], len(values), len(words)), _moved(shares, _SHOWN)


def _shares(
    before: Sequence[int] | NDArray[np.int64],
    now: Sequence[int] | NDArray[np.int64],
    m: int,
    n: int,
    tests: int,
) -> float:
    """The least p value of Fisher's exact tests, two-sided by doubling, times their number (Bonferroni)."""
    from scipy.stats import hypergeom

    if not len(before):
        return 1.0
    total, seen = np.array(before) + np.array(now), np.array(now)
    tails = np.minimum(
        hypergeom.cdf(seen, n + m, total, n), hypergeom.sf(seen - 1, n + m, total, n)
    )
    return min(1.0, 2 * tests * float(tails.min()))


def _cloud(known: Mapping[str, Any], values: Sequence[Sequence[float]]) -> tuple[float, str]:
    """Hotelling's test (1931), two samples: whether the mean has moved, in all directions at once, measured by how rows scatter in each."""
    from scipy.stats import f

    now, n, m = np.asarray(values, dtype=float), len(values), known["rows"]
    size = now.shape[1]
    scatter = (
        (m - 1) * np.asarray(known["covariance"]) + (n - 1) * np.atleast_2d(np.cov(now.T))
    ) / (n + m - 2)
    moved = now.mean(0) - np.asarray(known["mean"])
    distance = float(moved @ np.linalg.pinv(scatter, rcond=1e-9, hermitian=True) @ moved)
    rest = n + m - size - 1
    return float(
        f.sf(distance * n * m / (n + m) * rest / ((n + m - 2) * size), size, rest)
    ), f"mean moved by {distance**0.5:.2g} standard deviations"


def _accuracy(known: Mapping[str, Any], right: int, rows: int) -> tuple[float, str]:
    """Fisher's exact test, one-sided: fewer right answers than on validation."""
    from scipy.stats import hypergeom

    p = float(hypergeom.cdf(right, rows + known["rows"], right + known["right"], rows))
    return p, f"{known['right'] / known['rows']:.1%} -> {right / rows:.1%}"


def _moved(shares: Mapping[str, tuple[float, float]], count: int) -> str:
    largest = sorted(shares.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))[
        :count
    ]
    return ", ".join(f"{name} {before:.1%} -> {now:.1%}" for name, (before, now) in largest)


_TESTS: Mapping[str, Callable[[Any, Any], tuple[float, str]]] = {
    "numbers": _numbers,
    "names": _names,
    "words": _words,
    "cloud": _cloud,
}

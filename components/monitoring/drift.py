"""Compare a window of requests and answers with the data that the model was trained on.

Each field has a test of its own. All tests but the last one are exact or conservative.

- Numbers: the two-sample Kolmogorov-Smirnov test at the quantiles that the profile keeps, and
  Fisher's exact test near both ends.
- Names, and words (is a word in the text?): Fisher's exact test of the share of each value, with
  Bonferroni's correction. A chi-square test would have to merge values that are rare in training,
  and drift consists of such values.
- Accuracy: Fisher's exact test, one-sided.
- Points of an embedding: Hotelling's test of their mean. Its level holds for windows of hundreds
  of rows.

Holm's correction (1979) over the fields holds the chance of any false alarm in a window at the
level, however the fields depend on one another.
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
# shares of the training rows
_ENDS = (0.01, 0.05, 0.95, 0.99)


@dataclass(frozen=True)
class DriftResult:
    """The result of the test of one field.

    Attributes:
        field: the name of the field.
        rows: the rows of the window that have the field.
        p: the p value of the field's own test.
        adjusted: the p value after Holm's correction; at or below the level, the field has drifted.
        drifted: whether it has drifted.
        change: training -> now, as text for a person.
    """

    field: str
    rows: int
    p: float
    adjusted: float
    drifted: bool
    change: str

    def as_row(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def drift_results(
    profile: Mapping[str, Any],
    window: Mapping[str, Sequence[Any]],
    level: float,
    labelled: tuple[int, int] | None = None,
) -> list[DriftResult]:
    """Compare a window with training.

    Args:
        profile: of a bundle's card.
        window: columns of logged rows; a field that none of them has is not tested.
        level: chance of a false alarm in this window, over all fields.
        labelled: (right, all) of the answers with labels, if there are enough of them.

    Returns:
        A result for each field, in the profile's order.
    """
    predictions: Mapping[str, Any] = profile.get("predictions", {})
    fields = {**profile.get("fields", {}), **predictions.get("fields", {})}
    tests: list[tuple[str, int, float, str]] = []
    for name, training in fields.items():
        values = [value for value in window.get(name, ()) if value is not None]
        if values:
            p, change = _TESTS[training["kind"]](training, values)
            tests.append((name, len(values), p, change))
    if labelled and predictions:
        right, answers = labelled
        p, change = _accuracy(predictions, right, answers)
        tests.append((ACCURACY, answers, p, change))
    adjusted = holm([p for _, _, p, _ in tests])
    return [
        DriftResult(name, rows, p, corrected, corrected <= level, change)
        for (name, rows, p, change), corrected in zip(tests, adjusted, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted after Holm (1979).

    Where values at or below a level count as significant, the chance of any false one among them
    is at most that level.
    """
    order = np.argsort(p, kind="stable")
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(order):
        corrected = min(1.0, (len(p) - rank) * p[index])
        largest = max(largest, corrected)
        adjusted[index] = largest
    return adjusted


def _numbers(training: Mapping[str, Any], values: Sequence[float]) -> tuple[float, str]:
    """Return the p value of the tests of a number, and the change of its median.

    The tests are Kolmogorov-Smirnov for two samples at the stored edges, and Fisher's exact tests
    of how many values lie beyond the edges near the ends. The first is conservative with ties and
    with few edges. The second sees a few strange rows that do not move the middle. Bonferroni's
    correction joins both.
    """
    from scipy.stats import kstwo

    ranked = np.sort(np.asarray(values, dtype=float))
    edges = np.asarray(training["edges"])
    counts = np.asarray(training["below"])
    n = len(values)
    m = training["rows"]
    below = counts / m
    now = np.searchsorted(ranked, edges + 1e-9, side="right")
    # the share of what is less than anything in training counts too
    under_all = float(np.searchsorted(ranked, edges[0] - 1e-9, side="left")) / n
    distance = max(float(np.abs(now / n - below).max()), under_all)
    ks_p = 1.0
    if distance > 0:
        ks_p = float(kstwo.sf(distance, max(1, round(n * m / (n + m)))))
    ends = np.unique(np.searchsorted(below, _ENDS).clip(max=len(edges) - 1))
    ends_p = _least_p(counts[ends], now[ends], m, n, len(ends))
    middle = edges[min(int(np.searchsorted(below, 0.5)), len(edges) - 1)]
    change = f"median {middle:.3g} -> {float(np.median(ranked)):.3g}"
    return min(1.0, 2 * min(ks_p, ends_p)), change


def _names(training: Mapping[str, Any], values: Sequence[str]) -> tuple[float, str]:
    """Return the p value of Fisher's exact tests of the share of each value, and the change.

    All values that training never had count as one value, "other".
    """
    before: Mapping[str, int] = training["counts"]
    now = Counter(values)
    merged = Counter(value if value in before else OTHER for value in values)
    names = sorted({*before, *merged})
    shares = {
        name: (before.get(name, 0) / training["rows"], now[name] / len(values))
        for name in {*before, *now}
    }
    p = _least_p(
        [before.get(name, 0) for name in names],
        [merged[name] for name in names],
        training["rows"],
        len(values),
        # the shares of two values are one test
        max(1, len(names) - (len(names) == 2)),
    )
    return p, _largest_changes(shares, 1)


def _words(training: Mapping[str, Any], values: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Return the p value of Fisher's exact tests of the share of texts with each word."""
    words = sorted(training["counts"])
    counted: Counter[str] = Counter()
    for text_words in values:
        counted.update(set(text_words))
    before = [training["counts"][word] for word in words]
    now = [counted[word] for word in words]
    shares = {
        word: (before[position] / training["rows"], now[position] / len(values))
        for position, word in enumerate(words)
    }
    p = _least_p(before, now, training["rows"], len(values), len(words))
    return p, _largest_changes(shares, _SHOWN)


def _least_p(
    before: Sequence[int] | NDArray[np.int64],
    now: Sequence[int] | NDArray[np.int64],
    m: int,
    n: int,
    tests: int,
) -> float:
    """Return the least p value of Fisher's exact tests times their number (Bonferroni).

    The tests are two-sided by doubling.

    Args:
        before: (values,) counts in training.
        now: (values,) counts in the window.
        m: rows of training.
        n: rows of the window.
        tests: the number of tests to correct for.
    """
    from scipy.stats import hypergeom

    if not len(before):
        return 1.0
    in_window = np.array(now)
    total = np.array(before) + in_window
    lower = hypergeom.cdf(in_window, n + m, total, n)
    upper = hypergeom.sf(in_window - 1, n + m, total, n)
    tails = np.minimum(lower, upper)
    return min(1.0, 2 * tests * float(tails.min()))


def _cloud(training: Mapping[str, Any], values: Sequence[Sequence[float]]) -> tuple[float, str]:
    """Return the p value of Hotelling's test (1931) for two samples, and how far the mean moved.

    The test looks at all directions at once, measured by how rows scatter in each direction.
    """
    from scipy.stats import f

    points = np.asarray(values, dtype=float)
    n = len(values)
    m = training["rows"]
    size = points.shape[1]
    before = (m - 1) * np.asarray(training["covariance"])
    now = (n - 1) * np.atleast_2d(np.cov(points.T))
    scatter = (before + now) / (n + m - 2)
    shift = points.mean(0) - np.asarray(training["mean"])
    distance = float(shift @ np.linalg.pinv(scatter, rcond=1e-9, hermitian=True) @ shift)
    freedom = n + m - size - 1
    statistic = distance * n * m / (n + m) * freedom / ((n + m - 2) * size)
    p = float(f.sf(statistic, size, freedom))
    return p, f"mean moved by {distance**0.5:.2g} standard deviations"


def _accuracy(training: Mapping[str, Any], right: int, rows: int) -> tuple[float, str]:
    """Return the p value of Fisher's exact test, one-sided, and the change of the accuracy.

    The test asks whether fewer answers are right than on validation.
    """
    from scipy.stats import hypergeom

    all_rows = rows + training["rows"]
    all_right = right + training["right"]
    p = float(hypergeom.cdf(right, all_rows, all_right, rows))
    return p, f"{training['right'] / training['rows']:.1%} -> {right / rows:.1%}"


def _largest_changes(shares: Mapping[str, tuple[float, float]], count: int) -> str:
    def rank(item: tuple[str, tuple[float, float]]) -> tuple[float, str]:
        name, (before, now) = item
        return -abs(now - before), name

    largest = sorted(shares.items(), key=rank)[:count]
    return ", ".join(f"{name} {before:.1%} -> {now:.1%}" for name, (before, now) in largest)


_TESTS: Mapping[str, Callable[[Any, Any], tuple[float, str]]] = {
    "numbers": _numbers,
    "names": _names,
    "words": _words,
    "cloud": _cloud,
}

"""Compare a window of requests and answers with the data that the model was trained on.

Each field has a test of its own. All tests but the last one are exact or conservative.

- Numbers: the two-sample Kolmogorov-Smirnov test at the quantiles that the profile keeps, and
  Fisher's exact test near both ends.
- Names, and words (is a word in the text?): Fisher's exact test of the share of each value, with
  Bonferroni's correction. A chi-square test would have to merge values that are rare in training,
  and drift consists of such values.
- Answers whose truth is known: a test of the task, one-sided.
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

from components.metrics.distributions import OTHER
from components.tasks.base import TaskFeedback

_SHOWN = 3
# shares of the training rows
_ENDS = (0.01, 0.05, 0.95, 0.99)


@dataclass(frozen=True)
class FieldTest:
    """The test of one field, before the correction over all fields.

    Attributes:
        field: the name of the field.
        rows: the rows of the window that have the field.
        p: the p value.
        change: training -> now, as text for a person.
    """

    field: str
    rows: int
    p: float
    change: str


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
    outcome: FieldTest | None = None,
) -> list[DriftResult]:
    """Compare a window with training.

    Args:
        profile: of a bundle's card.
        window: columns of logged rows; a field that none of them has is not tested.
        level: chance of a false alarm in this window, over all fields.
        outcome: the test of the answers whose truth is known, if there are enough of them.

    Returns:
        A result for each field, in the profile's order.
    """
    predictions: Mapping[str, Any] = profile.get("predictions", {})
    fields = {**profile.get("fields", {}), **predictions.get("fields", {})}
    tests: list[FieldTest] = []
    for name, training in fields.items():
        values = [value for value in window.get(name, ()) if value is not None]
        if values:
            p, change = _TESTS[training["kind"]](training, values)
            tests.append(FieldTest(name, len(values), p, change))
    if outcome:
        tests.append(outcome)
    adjusted = holm([test.p for test in tests])
    results = []
    for test, corrected in zip(tests, adjusted, strict=True):
        drifted = corrected <= level
        results.append(
            DriftResult(
                test.field,
                test.rows,
                test.p,
                corrected,
                drifted,
                test.change,
            )
        )
    return results


def outcome_test(
    feedback: TaskFeedback, profile: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> FieldTest | None:
    """Return the test whether answers are worse than those to the validation split.

    Args:
        feedback: of the task.
        profile: of a bundle's card; None is returned where it has no predictions.
        pairs: (n,) the text of an answer, and that of its truth.
    """
    predictions = profile.get("predictions")
    if not predictions:
        return None
    p, change = feedback.worse(predictions, pairs)
    return FieldTest(feedback.outcome, len(pairs), p, change)


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

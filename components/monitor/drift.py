"""Whether a window of what a service was asked and answered is still what its model was trained on.

Each field has a test of its own, exact or conservative: numbers the two-sample Kolmogorov-Smirnov test at the quantiles that the profile keeps, names a chi-square
test with values of small expected counts merged, words (is it in the text?) Fisher's exact test for each with Bonferroni's correction, accuracy Fisher's exact test,
one-sided. Over the fields Holm's correction (1979) holds the chance of any false alarm in a window at the level, however the fields depend on one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.monitor.profile import OTHER

ACCURACY = "accuracy"
_EXPECTED = 5.0  # in each cell of a chi-square test (Cochran 1954)
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
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


def compare(profile: Mapping[str, Any], window: Mapping[str, Sequence[Any]], level: float, labelled: tuple[int, int] | None = None) -> list[Finding]:
    """Compare a window with training.

    Args:
        profile: of a bundle's card.
        window: columns of logged rows; a field that none of them has is not judged.
        level: chance of a false alarm in this window, over all fields.
        labelled: (right, all) of the answers with labels, if there are enough of them.

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
    return [Finding(name, rows, p, each, each <= level, change) for (name, rows, p, change), each in zip(told, adjusted, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): at or below a level, the chance of any false one among them is at most that level."""
    order = np.argsort(p, kind="stable")
    adjusted, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def _numbers(known: Mapping[str, Any], values: Sequence[float]) -> tuple[float, str]:
    """Kolmogorov-Smirnov, two samples, at the edges that are kept; looking at fewer places, or ties, make it conservative."""
    from scipy.stats import kstwo

    ranked, n, m = np.sort(np.asarray(values, dtype=float)), len(values), known["rows"]
    edges, below = np.asarray(known["edges"]), np.asarray(known["below"]) / m
    gap = float(np.abs(np.searchsorted(ranked, edges + 1e-9, side="right") / n - below).max())
    gap = max(gap, float(np.searchsorted(ranked, edges[0] - 1e-9, side="left")) / n)  # of what is less than anything before
    middle = edges[min(int(np.searchsorted(below, 0.5)), len(edges) - 1)]
    return float(kstwo.sf(gap, max(1, round(n * m / (n + m))))) if gap > 0 else 1.0, f"median {middle:.3g} -> {float(np.median(ranked)):.3g}"


def _names(known: Mapping[str, Any], values: Sequence[str]) -> tuple[float, str]:
    """Chi-square of two samples; values that would be rare in the window are one value."""
    from scipy.stats import chi2_contingency

    before: Mapping[str, int] = known["counts"]
    now = Counter(value if value in before else OTHER for value in values) if OTHER in before else Counter(values)
    n, m = len(values), known["rows"]
    expected = {name: n * (before.get(name, 0) + now[name]) / (n + m) for name in {*before, *now}}
    kept = sorted(name for name, count in expected.items() if count >= _EXPECTED)
    rare = [name for name in expected if name not in set(kept)]
    if rare and kept and sum(expected[name] for name in rare) < _EXPECTED:
        rare.append(kept.pop(min(range(len(kept)), key=lambda place: expected[kept[place]])))
    groups = [[name] for name in kept] + ([rare] if rare else [])
    table = np.array([[sum(counts.get(name, 0) for name in group) for group in groups] for counts in (before, now)])
    p = float(chi2_contingency(table, correction=False).pvalue) if len(groups) > 1 else 1.0
    shares = {name: (before.get(name, 0) / m, now[name] / n) for name in expected}
    return p, _moved(shares, 1)


def _words(known: Mapping[str, Any], values: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Fisher's exact test for each word, two-sided by doubling; Bonferroni over the words."""
    from scipy.stats import hypergeom

    words, n, m = sorted(known["counts"]), len(values), known["rows"]
    if not words:
        return 1.0, ""
    counted = Counter(word for each in values for word in set(each))
    before, now = (np.array([counts.get(word, 0) for word in words]) for counts in (known["counts"], counted))
    low, high = hypergeom.cdf(now, n + m, before + now, n), hypergeom.sf(now - 1, n + m, before + now, n)
    p = min(1.0, 2 * len(words) * float(np.minimum(low, high).min()))
    return p, _moved({word: (before[place] / m, now[place] / n) for place, word in enumerate(words)}, _SHOWN)


def _accuracy(known: Mapping[str, Any], right: int, rows: int) -> tuple[float, str]:
    """Fisher's exact test, one-sided: fewer right answers than on validation."""
    from scipy.stats import hypergeom

    p = float(hypergeom.cdf(right, rows + known["rows"], right + known["right"], rows))
    return p, f"{known['right'] / known['rows']:.1%} -> {right / rows:.1%}"


def _moved(shares: Mapping[str, tuple[float, float]], count: int) -> str:
    largest = sorted(shares.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))[:count]
    return ", ".join(f"{name} {before:.1%} -> {now:.1%}" for name, (before, now) in largest)


_TESTS: Mapping[str, Callable[[Any, Any], tuple[float, str]]] = {"numbers": _numbers, "names": _names, "words": _words}

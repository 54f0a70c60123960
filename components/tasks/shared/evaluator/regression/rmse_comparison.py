"""Judge the answers of regression: how large their errors are, and whether intervals hold.

The functions read these statistics of n cases, which the task's evaluator makes:

    {"error": float, "target": float, "covered": bool | None, "coverage": float | None}

    error     (n,) answer minus truth
    target    (n,) truths
    covered   (n,) whether the truth is within the interval; None where the answer states none
    coverage  (n,) probability that the interval states; likewise
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from components.core.number_axis import Values, number_text
from components.metrics.exact_tests import mcnemar, share_interval
from components.metrics.regression import relative_gain
from components.tasks.base import Calibration, CaseStats, Comparison, Suspicion

# "truth" is the name of a column of the table of answers.
STATISTICS = ("error", "target", "covered", "coverage")

# With fewer cases calibration cannot be measured.
_MIN_CASES = 100
# With fewer feedback no order of its answers is against chance.
_MIN_FEEDBACK = 10
# Resamples beyond a bound, so that it is not that of one or two of them.
_BEYOND = 4
_RESAMPLES = 2000
_MOST_RESAMPLES = 10_000
# More cases are resampled in blocks: a bootstrap of 100,000 takes seconds.
_MOST_BLOCKS = 10_000
# A gain is a number of JSON, also over a model without any error.
_LEAST_GAIN = -1e6


class RegressionComparison:
    """Judgments on the root mean squared error."""

    statistics: Sequence[str] = ("error",)

    def compare(self, mine: CaseStats, theirs: CaseStats, alpha: float) -> Comparison:
        """Return by which share of the other model's RMSE the RMSE is smaller.

        The bounds are those of a paired bootstrap.

        Args:
            mine: "error" (n,).
            theirs: "error" (n,) of the other model on the same cases.
            alpha: chance that a bound does not hold, each.
        """
        gain, low, high = _relative_gain(mine["error"], theirs["error"], alpha)
        pairs = list(zip(mine["error"], theirs["error"], strict=True))
        nearer = sum(abs(error) < abs(other) for error, other in pairs)
        farther = sum(abs(error) > abs(other) for error, other in pairs)
        levels = f"RMSE {number_text(self.level(mine))} against {number_text(self.level(theirs))}"
        return Comparison(
            gain=gain,
            low=low,
            high=high,
            counted=f"{levels}, nearer to {nearer} and farther from {farther} true values",
            test=f"sign test p = {mcnemar(nearer, farther):.3g}",
        )

    def compare_with_all(self, part: CaseStats, whole: CaseStats, alpha: float) -> Comparison:
        """Return by how much the RMSE of a slice is below that of all cases.

        The unit is the standard deviation of all truths, or the RMSE of all cases where that is
        larger. A slice of large numbers mostly has larger errors than others. It is judged by how
        far they are from those of an answer that knows nothing, not by their ratio to small ones.

        The bounds are those of a bootstrap of the slice, as if the RMSE of all cases were known.

        Args:
            part: "error" (n,) of the slice.
            whole: "error" and "target" (m,) of all cases.
            alpha: chance that a bound does not hold, each.
        """
        level = self.level(whole)
        deviation = _deviation(whole["target"])
        unit = max(level, deviation)
        share = level / unit if unit else 0.0
        gains = _relative_gain(part["error"], [level] * len(part["error"]), alpha)
        gain, low, high = (share * gain for gain in gains)
        name = "standard deviation of the true values" if deviation == unit else "RMSE of all"
        return Comparison(
            gain=gain,
            low=low,
            high=high,
            counted=f"against {number_text(level)} of all cases, {gain:+.1%} of the {name}",
        )

    def level(self, stats: CaseStats) -> float:
        """Return the RMSE."""
        errors = stats["error"]
        largest = max(map(abs, errors))
        if not largest:
            return 0.0
        # Squares of very large and very small errors are no numbers of 64 bits.
        total = math.fsum((error / largest) ** 2 for error in errors)
        return float(largest * math.sqrt(total / len(errors)))

    def describe_level(self, stats: CaseStats) -> str:
        """Return the RMSE with its name."""
        return f"RMSE {number_text(self.level(stats))}"

    def calibration(self, stats: CaseStats, alpha: float) -> Calibration | str:
        """Return how far the intervals' coverage is from what they state, or why there is none.

        The bounds are exact (Clopper and Pearson 1934). Where intervals state different
        probabilities, the bounds are wider than they need be (Hoeffding 1956).

        Args:
            stats: "covered" and "coverage" (n,).
            alpha: chance that a bound does not hold, each.
        """
        pairs = zip(stats.get("covered", ()), stats.get("coverage", ()), strict=True)
        known = [pair for pair in pairs if None not in pair]
        count = len(known)
        if not count:
            return "answers state no interval"
        if count < _MIN_CASES:
            return f"{count} cases with an interval are too few to tell"
        inside = sum(covered for covered, _ in known)
        mean = sum(stated for _, stated in known) / count
        least, largest = share_interval(inside, count, alpha)
        return Calibration(
            error=abs(inside / count - mean),
            low=max(0.0, least - mean, mean - largest),
            high=max(abs(least - mean), abs(largest - mean)),
            detail=f"intervals that state {mean:.1%} hold {inside} of {count} true values",
        )

    def suspect_feedback(
        self,
        stats: CaseStats,
        slices: Mapping[str, Sequence[int]],  # noqa: ARG002
        alpha: float,
    ) -> Suspicion | None:
        """Return a suspicion where the answers are in the opposite order of the feedback, or None.

        Data that are new to a model make its errors larger, and at worst its answers say nothing
        about the truths. Truths that are turned round, or of other rows, do more: small answers
        have large truths. A challenger that learned them would win on the cases that were drawn
        from them. The test is that of Kendall's rank correlation (1938), one-sided.

        Args:
            stats: "error" and "target" (n,) of the feedback.
            slices: slice -> positions of its cases among the n; they are not used.
            alpha: chance to suspect feedback that is as good as any.
        """
        from scipy.stats import kendalltau

        truths = np.asarray(stats["target"], dtype=np.float64)
        answers = truths + np.asarray(stats["error"], dtype=np.float64)
        if len(truths) < _MIN_FEEDBACK:
            return None
        test = kendalltau(answers, truths, alternative="less")
        # It is NaN where all answers or all truths are equal.
        if not test.pvalue <= alpha:
            return None
        detail = (
            f"answers the {len(truths)} test cases that are feedback in the opposite order "
            f"(rank correlation {test.statistic:.2f}), worse than by chance: "
            "are their values turned round, or those of other rows?"
        )
        return Suspicion(float(test.statistic), 0.0, detail)


def _relative_gain(
    mine: Sequence[float], theirs: Sequence[float], alpha: float
) -> tuple[float, float, float]:
    """Return by which share the RMSE is smaller than another one, with one-sided bounds.

    See `components.metrics.regression.relative_gain`. All three are finite.

    Args:
        mine: (n,) errors.
        theirs: (n,) errors on the same cases.
        alpha: chance that a bound does not hold, each.
    """
    errors = np.array([mine, theirs], dtype=np.float64)
    largest = np.abs(errors).max()
    if largest:
        errors /= largest
    resamples = min(_MOST_RESAMPLES, max(_RESAMPLES, math.ceil(_BEYOND / alpha)))
    blocks = _blocks(errors)
    gains = relative_gain(blocks[0], blocks[1], alpha, resamples)
    gain, low, high = (max(_LEAST_GAIN, gain) for gain in gains)
    return gain, low, high


def _blocks(errors: Values) -> Values:
    """Return errors (2, n), or where n is large the errors of 10,000 blocks of cases.

    The mean square of the blocks is that of the cases.
    """
    count = errors.shape[1]
    if count <= _MOST_BLOCKS:
        return errors
    starts = np.linspace(0, count, _MOST_BLOCKS + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.square(errors), starts, axis=1)
    joined: Values = np.sqrt(sums * _MOST_BLOCKS / count)
    return joined


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation; 0 where it is no finite number."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(np.std(np.asarray(values, dtype=np.float64)))
    return deviation if math.isfinite(deviation) else 0.0

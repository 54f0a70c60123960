"""Judge the answers of classification: right or wrong, and how probable they say they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from components.metrics.calibration import calibration_error
from components.metrics.exact_tests import lower_bound, mcnemar, share_interval, upper_share
from components.tasks.base import Calibration, CaseStats, Comparison, Suspicion

# With fewer cases calibration cannot be measured.
_MIN_CASES = 100


class ClassificationComparison:
    """Judgments on whether answers are right."""

    statistics: Sequence[str] = ("right",)

    def compare(self, mine: CaseStats, theirs: CaseStats, alpha: float) -> Comparison:
        """Return the difference of the accuracies, with McNemar's exact test and bounds.

        Args:
            mine: "right" (n,).
            theirs: "right" (n,) of the other model on the same cases.
            alpha: chance that a bound does not hold, each.
        """
        pairs = list(zip(mine["right"], theirs["right"], strict=True))
        count = len(pairs)
        wins = sum(right and not other for right, other in pairs)
        losses = sum(other and not right for right, other in pairs)
        return Comparison(
            gain=(wins - losses) / count,
            low=lower_bound(wins, losses, count, alpha),
            high=-lower_bound(losses, wins, count, alpha),
            counted=f"{wins} won, {losses} lost",
            test=f"McNemar p = {mcnemar(wins, losses):.3g}",
        )

    def compare_with_all(self, part: CaseStats, whole: CaseStats, alpha: float) -> Comparison:
        """Return by how much the accuracy of a slice is above that of all cases.

        Its bounds are exact (Clopper and Pearson 1934), as if that of all cases were known.

        Args:
            part: "right" (n,) of the slice.
            whole: "right" (m,) of all cases.
            alpha: chance that a bound does not hold, each.
        """
        count = len(part["right"])
        right = sum(part["right"])
        level = self.level(whole)
        low, high = share_interval(right, count, alpha)
        return Comparison(
            gain=right / count - level,
            low=low - level,
            high=high - level,
            counted=f"below all cases ({level:.4f})",
        )

    def level(self, stats: CaseStats) -> float:
        """Return the accuracy."""
        return sum(stats["right"]) / len(stats["right"])

    def describe_level(self, stats: CaseStats) -> str:
        """Return the accuracy with its name."""
        return f"accuracy {self.level(stats):.4f}"

    def calibration(self, stats: CaseStats, alpha: float) -> Calibration | str:
        """Return the root mean square calibration error over ten bins, or why there is none."""
        import numpy as np

        if "confidence" not in stats:
            return "answers state no probability"
        count = len(stats["right"])
        if count < _MIN_CASES:
            return f"{count} cases are too few to tell"
        error, low, high = calibration_error(
            np.array(stats["confidence"]), np.array(stats["right"]), alpha
        )
        detail = "stated probability against what came true, ten bins"
        return Calibration(error, low, high, detail)

    def suspect_feedback(
        self, stats: CaseStats, slices: Mapping[str, Sequence[int]], alpha: float
    ) -> Suspicion | None:
        """Return a suspicion where the feedback is answered worse than by guessing, or None.

        Data that are new to a model bring it down to guessing. Labels that are flipped bring it
        below that, and a challenger that learned them would win on the cases that were drawn from
        them.

        Guessing, or one answer to everything, is right in the k-th part of the cases on average
        over k classes, however many cases a class has. The bound of that average is the average of
        the classes' bounds (exact, after Bonferroni).

        Args:
            stats: "right" (n,) of the feedback.
            slices: "class: x" -> positions of its cases among the n.
            alpha: chance to suspect feedback that is as good as any.
        """
        classes = [rows for name, rows in slices.items() if rows and name.startswith("class: ")]
        if len(classes) < 2:
            return None
        count = len(classes)
        right = [_count_right(stats, rows) for rows in classes]
        bounds = [
            upper_share(rights, len(rows), alpha / count)
            for rights, rows in zip(right, classes, strict=True)
        ]
        if sum(bounds) >= 1:
            return None
        shares = [rights / len(rows) for rights, rows in zip(right, classes, strict=True)]
        detail = (
            f"is right in {sum(right)} of the {len(stats['right'])} test cases "
            "that are feedback, worse than guessing: are their labels turned round?"
        )
        return Suspicion(sum(shares) / count, 1 / count, detail)


def _count_right(stats: CaseStats, positions: Iterable[int]) -> int:
    return sum(stats["right"][position] for position in positions)

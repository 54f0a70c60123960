"""Compute exact tests and bounds of paired answers and of a share."""

from __future__ import annotations


def mcnemar(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947) for paired answers.

    Args:
        wins: cases that only the first answers correctly.
        losses: cases that only the second answers correctly.
    """
    from scipy.special import bdtr

    if wins + losses == 0:
        return 1.0
    one_sided = float(bdtr(min(wins, losses), wins + losses, 0.5))
    return min(1.0, 2 * one_sided)


def lower_bound(wins: int, losses: int, cases: int, alpha: float) -> float:
    """Return the lower bound of the difference of two paired accuracies.

    It is McNemar's exact test as a bound: that of Clopper and Pearson (1934) for the share of
    wins among the cases that differ. It is above zero exactly where the one-sided test rejects.

    Args:
        wins: cases that only the first answers correctly.
        losses: cases that only the second answers correctly.
        cases: number of all cases.
        alpha: 1 - confidence.
    """
    from scipy.special import betaincinv

    share = float(betaincinv(wins, losses + 1, alpha)) if wins else 0.0
    return (wins + losses) * (2 * share - 1) / cases


def upper_share(right: int, cases: int, alpha: float) -> float:
    """Return the upper bound of an accuracy (Clopper and Pearson 1934).

    Args:
        right: cases that are answered correctly.
        cases: number of all cases.
        alpha: 1 - confidence.
    """
    from scipy.special import betaincinv

    if right >= cases:
        return 1.0
    return float(betaincinv(right + 1, cases - right, 1 - alpha))


def share_interval(right: int, cases: int, tail: float) -> tuple[float, float]:
    """Return the exact interval of an accuracy (Clopper and Pearson 1934).

    It has a width even where all cases are answered correctly, or none.

    Args:
        right: cases that are answered correctly.
        cases: number of all cases.
        tail: chance that the accuracy is below the interval, and that it is above.
    """
    return 1 - upper_share(cases - right, cases, tail), upper_share(right, cases, tail)


def share_decrease(right: int, cases: int, earlier_right: int, earlier_cases: int) -> float:
    """Return the p value of Fisher's exact test (1922) that an accuracy fell, one-sided.

    Args:
        right: cases that are answered correctly now.
        cases: number of all cases now.
        earlier_right: cases that were answered correctly before.
        earlier_cases: number of all cases before.
    """
    from scipy.stats import hypergeom

    all_cases = cases + earlier_cases
    all_right = right + earlier_right
    return float(hypergeom.cdf(right, all_cases, all_right, cases))

"""The learning rate of a step, as a function of the step: nothing to keep, nothing to restore."""

from __future__ import annotations

import math

from components.training.params import FitParams

_ONE_CYCLE_START, _ONE_CYCLE_END = 25.0, 1e4


def warmup_steps(total: int, knobs: FitParams) -> int:
    """Steps until the full rate is reached."""
    return (
        knobs.warmup_steps if knobs.warmup_steps is not None else round(total * knobs.warmup_share)
    )


def learning_rate_at(step: int, total: int, knobs: FitParams, reductions: int = 0) -> float:
    """Learning rate of a step: linear warm-up, then the schedule.

    Args:
        step: from 0.
        total: steps of the whole fit.
        reductions: how often a plateau was met so far.

    cosine: half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983). one_cycle: a cosine up from 1/25 over the warm-up, a cosine down to
    1/10000 (Smith and Topin 2018, arXiv:1708.07120). step: times the factor after each third. exponential: down to the factor. plateau: times the
    factor after each epoch without gain.
    """
    warm = warmup_steps(total, knobs)
    if step < warm:
        share = (step + 1) / warm
        return knobs.learning_rate * (
            _between(1 / _ONE_CYCLE_START, 1.0, share) if knobs.schedule == "one_cycle" else share
        )
    share = min(1.0, (step - warm) / max(1, total - warm))
    factor: float = {
        "constant": 1.0,
        "linear": 1 - share,
        "exponential": knobs.schedule_factor**share,
        "step": knobs.schedule_factor ** int(share * 3),
        "cosine": _between(1.0, 0.0, share),
        "one_cycle": _between(1.0, 1 / _ONE_CYCLE_END, share),
        "plateau": knobs.schedule_factor**reductions,
    }[knobs.schedule]
    return knobs.learning_rate * factor


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))

"""Compute the learning rate of a step as a function of the step, without any state."""

from __future__ import annotations

import math

from components.training.params import FitParams

_ONE_CYCLE_START = 25.0
_ONE_CYCLE_END = 1e4


def warmup_steps(total: int, params: FitParams) -> int:
    """Return the number of steps until the full learning rate is reached.

    Args:
        total: steps of the whole fit.
        params: the fit's params.
    """
    if params.warmup_steps is not None:
        return params.warmup_steps
    return round(total * params.warmup_share)


def learning_rate_at(step: int, total: int, params: FitParams, reductions: int = 0) -> float:
    """Return the learning rate at a step: linear warm-up, then the schedule.

    - cosine: half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983).
    - one_cycle: a cosine up from 1/25 over the warm-up, then a cosine down to 1/10000
      (Smith and Topin 2018, arXiv:1708.07120).
    - step: times the factor after each third.
    - exponential: down to the factor.
    - plateau: times the factor after each epoch without gain.

    Args:
        step: from 0.
        total: steps of the whole fit.
        params: the fit's params.
        reductions: how many plateaus were met so far.
    """
    warmup = warmup_steps(total, params)
    if step < warmup:
        share = (step + 1) / warmup
        if params.schedule == "one_cycle":
            return params.learning_rate * _cosine(1 / _ONE_CYCLE_START, 1.0, share)
        return params.learning_rate * share
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    factor: float = {
        "constant": 1.0,
        "linear": 1 - share,
        "exponential": params.schedule_factor**share,
        "step": params.schedule_factor ** int(share * 3),
        "cosine": _cosine(1.0, 0.0, share),
        "one_cycle": _cosine(1.0, 1 / _ONE_CYCLE_END, share),
        "plateau": params.schedule_factor**reductions,
    }[params.schedule]
    return params.learning_rate * factor


def _cosine(start: float, end: float, share: float) -> float:
    """Return the value of half a cosine from `start` to `end`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))

"""Knobs of `train` that hold for every task: those of a fit. The task adds its architectures and its baseline."""

from __future__ import annotations

from components.engine.params import FitParams


class TrainParams(FitParams):
    """How the first network is fitted."""

    architecture: str

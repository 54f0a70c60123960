"""Distributions of numbers of any size."""

from __future__ import annotations

import numpy as np
import pytest

from components.metrics.distributions import NumbersDistribution, numbers


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e-6, 1e-3, 1.0, 1e6, 1e15])
def test_edges_of_numbers_of_any_size_differ(scale: float) -> None:
    values = (np.arange(-50, 51) * scale).tolist()
    described = numbers(values)
    assert described["edges"] == pytest.approx(values, rel=1e-9)
    assert len(set(described["edges"])) == 101
    NumbersDistribution.model_validate(described)


def test_ordinary_numbers_have_nine_decimals() -> None:
    values = [0.0, 0.000123456789123, 1 / 3, 2.0]
    assert numbers(values)["edges"] == [0.0, 0.000123457, 0.333333333, 2.0]
    assert numbers([1.5e-12, 1 / 3])["edges"] == [1.5e-12, 0.333333333]

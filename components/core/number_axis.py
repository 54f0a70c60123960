"""Write numbers of any size for people, as texts and as ticks of an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.page_templates import is_finite

Values = NDArray[np.float64]

_MISSING = "–"
_MINUS = str.maketrans("-", "−")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Numbers of these powers of ten are written out; others have an exponent.
_PLAIN_POWERS = range(-5, 9)
# The same where there is less room, as in a plot.
_PLOT_POWERS = range(-3, 6)
# A wider range of positive numbers is drawn on a logarithmic axis.
_WIDE = 100.0
# With fewer values each one is drawn within the axes.
_ENOUGH_TO_CUT = 50
# Ticks show the difference to an offset where the axis is shorter than this share of its values.
_SHORT = 1e-5
_MOST_DECADES = 6
# Share of an axis beyond the values at either end.
_MARGIN = 0.03


def number_text(value: float | None, digits: int = 4) -> str:
    """Return a number for people: 326, 1,204, 0.004213, 1.2 × 10¹⁸; a dash for none.

    Args:
        value: the number.
        digits: significant digits; those before the decimal point are always shown.
    """
    return _text(value, digits, _PLAIN_POWERS)


def plot_text(value: float | None) -> str:
    """Return a number for a plot, with three digits and little width."""
    return _text(value, 3, _PLOT_POWERS)


def _text(value: float | None, digits: int, plain: range) -> str:
    """Return a number for people.

    Args:
        value: the number.
        digits: significant digits.
        plain: powers of ten of the numbers that are written without an exponent.
    """
    if not is_finite(value):
        return _MISSING
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if power not in plain:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{_trimmed(mantissa)}\u202f×\u202f{_power_text(int(exponent))}"
    return _trimmed(f"{value:,.{max(0, digits - 1 - power)}f}")


def _trimmed(text: str) -> str:
    """Return a number without zeros at its end, with a sign as wide as a digit."""
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.translate(_MINUS)


def _power_text(power: int) -> str:
    """Return a power of ten."""
    return f"10{str(power).translate(_SUPERSCRIPT)}"


@dataclass(frozen=True)
class NumberAxis:
    """An axis of numbers. Positions on it are from 0 to 1.

    Args:
        low: value at position 0.
        high: value at position 1.
        is_logarithmic: whether positions are those of logarithms; then `low` is above 0.
    """

    low: float
    high: float
    is_logarithmic: bool = False

    def positions(self, values: Values) -> Values:
        """Return (n,) where values (n,) are drawn; those beyond an end are drawn at the end."""
        clipped = np.clip(values, self.low, self.high)
        if self.is_logarithmic:
            shares = np.log(clipped / self.low) / np.log(self.high / self.low)
        else:
            shares = (clipped - self.low) / (self.high - self.low)
        return np.asarray(shares, dtype=np.float64)

    def beyond(self, values: Values) -> NDArray[np.bool_]:
        """Return (n,) whether values (n,) are beyond an end."""
        return (values < self.low) | (values > self.high)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Return positions and texts of the ticks."""
        if self.is_logarithmic:
            marks, texts = self._decades()
        else:
            marks, texts = self._steps()
        return self.positions(np.array(marks)).tolist(), texts

    def title(self, name: str) -> str:
        """Return the title of the axis, with the unit in which its ticks are."""
        if self.is_logarithmic:
            return f"{name} (log scale)"
        offset = self._offset()
        power = self._power()
        parts = []
        if power:
            parts.append(f"× {_power_text(power)}")
        if offset:
            parts.append(f"+ {offset:,.15g}".translate(_MINUS))
        if parts:
            return f"{name} ({' '.join(parts)})"
        return name

    def _steps(self) -> tuple[list[float], list[str]]:
        """Return values and texts of ticks at equal distances."""
        step = self._step()
        offset = self._offset()
        power = self._power()
        decimals = max(0, -_power_of(step / 10.0**power))
        first = math.ceil((self.low - offset) / step - 1e-9)
        last = math.floor((self.high - offset) / step + 1e-9)
        marks = []
        texts = []
        for number in range(first, last + 1):
            difference = number * step
            marks.append(offset + difference)
            text = f"{difference / 10.0**power:,.{decimals}f}"
            texts.append(text.translate(_MINUS))
        return marks, texts

    def _step(self) -> float:
        """Return the distance of ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** _power_of(rough)
        for factor in (1, 2, 5):
            if factor * unit >= rough * (1 - 1e-9):
                return factor * unit
        return 10 * unit

    def _offset(self) -> float:
        """Return what ticks leave out: 0 unless the axis is a short piece far from 0."""
        far = max(abs(self.low), abs(self.high))
        if self.high - self.low >= _SHORT * far:
            return 0.0
        unit = 10.0 ** (_power_of(self._step()) + 1)
        return math.floor(self.low / unit) * unit

    def _power(self) -> int:
        """Return the power of ten by which ticks are divided: 0 or a multiple of 3."""
        offset = self._offset()
        power = _power_of(max(abs(self.low - offset), abs(self.high - offset)))
        if power in _PLOT_POWERS:
            return 0
        return 3 * (power // 3)

    def _decades(self) -> tuple[list[float], list[str]]:
        """Return values and texts of ticks at powers of ten."""
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, math.ceil((last - first) / _MOST_DECADES))
        powers = range(first, last + 1, stride)
        is_plain = first >= _PLOT_POWERS.start and last <= _PLOT_POWERS.stop
        texts = []
        for power in powers:
            if is_plain:
                texts.append(number_text(10.0**power))
            else:
                texts.append(_power_text(power))
        return [10.0**power for power in powers], texts


def axis_of(values: Values, may_be_logarithmic: bool = False) -> NumberAxis:
    """Return an axis for values. Values far from nearly all others are beyond its ends.

    Args:
        values: (n,) finite; at least one.
        may_be_logarithmic: whether positive values of a wide range may be on a logarithmic axis.
    """
    low = float(values.min())
    high = float(values.max())
    if may_be_logarithmic and low > 0:
        near, far = np.quantile(values, [0.01, 0.99])
        if far >= _WIDE * near:
            return NumberAxis(low / 1.1, high * 1.1, True)
    if len(values) >= _ENOUGH_TO_CUT:
        near, far = (float(end) for end in np.quantile(values, [0.005, 0.995]))
        if far > near:
            low = max(low, 2 * near - far)
            high = min(high, 2 * far - near)
    margin = _MARGIN * (high - low)
    # So few units in the last place cannot be told apart on an axis.
    if margin <= 1e-13 * max(abs(low), abs(high)):
        margin = 0.05 * max(abs(low), abs(high)) or 1.0
    return NumberAxis(low - margin, high + margin)


def axis_with_zero(values: Values) -> NumberAxis:
    """Return an axis for values (n,) that 0 is on."""
    axis = axis_of(values)
    return NumberAxis(min(axis.low, -_MARGIN * axis.high), max(axis.high, -_MARGIN * axis.low))


def _power_of(value: float) -> int:
    """Return the power of ten of the first digit of a positive number."""
    return math.floor(math.log10(value) + 1e-12)

"""Numbers as people read them: digits that hide no value, and a minus sign that isn't a hyphen."""

from __future__ import annotations

import math

import numpy as np

_SMALLEST = 1e-5  # written in full; smaller ones take a power of ten


def significant(value: float, digits: int = 4) -> str:
    """Round to significant digits: 0.00002298; counts as they are, and a dash for NaN."""
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 0 < abs(value) < _SMALLEST:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-").replace("-", "−")


def readable(value: float) -> str:
    """Format a score: three digits after the point, four significant ones where these would hide it, counts as such."""
    if isinstance(value, int) or not math.isfinite(value) or 0 < abs(value) < 0.001:
        return significant(value)
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def nats(value: float) -> str:
    """Format nats: two digits after the point, and a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def signed(value: float) -> str:
    """Format a correlation with its sign."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")

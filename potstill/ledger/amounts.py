"""Sums of money and spans of time in words, for plans and questions; too small an amount reads "under", never zero."""

from __future__ import annotations

SMALLEST_USD = 0.0001


def usd_amount(usd: float) -> str:
    """A sum of US dollars, as `usd_range` has it."""
    return usd_range(usd, usd)


def usd_range(low: float, high: float) -> str:
    """A range of US dollars: "$0.0010 to $0.0268", "up to $0.0268", "$0.0268", "under $0.0001", or "$0"."""
    if high <= 0:
        return "$0"
    if high < SMALLEST_USD:
        return f"under ${SMALLEST_USD}"
    if low < SMALLEST_USD:
        return f"up to ${high:.4f}"
    least, most = f"${low:.4f}", f"${high:.4f}"
    return most if least == most else f"{least} to {most}"


def seconds_range(low_s: float, high_s: float) -> str:
    """A range of seconds in the unit that fits: "3 to 12 seconds", "up to 2 minutes", "under a second"."""
    if high_s < 1:
        return "under a second"
    if high_s < 120:
        return _span(f"{low_s:.0f}", f"{high_s:.0f}", "second")
    if high_s < 7200:
        return _span(f"{low_s / 60:.0f}", f"{high_s / 60:.0f}", "minute")
    return _span(f"{low_s / 3600:.1f}", f"{high_s / 3600:.1f}", "hour")


def _span(least: str, most: str, unit: str) -> str:
    units = unit if most == "1" else f"{unit}s"
    if least == most:
        return f"{most} {units}"
    return f"up to {most} {units}" if not float(least) else f"{least} to {most} {units}"

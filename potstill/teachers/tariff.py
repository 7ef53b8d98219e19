"""What a hosted or a served model costs: the user's own figures first, then the dated public list, else a refusal.

Covers rates per token and, for a server on this machine, its time. Does not cover batch discounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from potstill.errors import BadSpec, UnknownPrice, did_you_mean
from potstill.money import Price, Rates, listed_price

_FIGURES = tuple(field.name for field in fields(Rates) if field.name != "source")


def price_of(model: str, provider: str | None, prices: Mapping[str, Any], on_this_machine: bool = False) -> Price:
    """The price of `model`.

    Args:
        model: its name at the provider.
        provider: whose public list applies; None if nobody knows.
        prices: the `[prices]` table of the spec: `[prices."MODEL"]` wins; for a server on this machine a bare
            `usd_per_hour` prices its time, and its tokens are then free by the user's word.
        on_this_machine: True for a server on loopback.

    Raises:
        UnknownPrice: nobody said what it costs.
        BadSpec: a figure that is no sum.
    """
    own = prices.get(model)
    if own is not None:
        if not isinstance(own, Mapping):
            raise BadSpec(f"[prices.{model!r}] is not a table.", "Give it usd_per_million_input and _output.")
        return _tokens_free(rates(own, f"[prices.{model!r}] of the spec"))
    if provider is not None:
        return listed_price(provider, model)
    if on_this_machine and "usd_per_hour" in prices:
        return _tokens_free(rates({"usd_per_hour": prices["usd_per_hour"]}, "[prices] usd_per_hour of the spec"))
    raise UnknownPrice(
        f"No price is known for the model {model!r} at this server.",
        f"Set [prices.{model!r}] usd_per_million_input and usd_per_million_output in the spec"
        + (", or [prices] usd_per_hour for its machine time." if on_this_machine else "."),
    )


def rates(table: Mapping[str, Any], source: str) -> Rates:
    """The rates of one table of the spec.

    Raises:
        BadSpec: a key that is no rate, a figure that is negative or not a number.
    """
    figures: dict[str, Decimal] = {}
    for name, value in table.items():
        if name not in _FIGURES:
            raise BadSpec(f"{source} has no key {name!r}.", did_you_mean(name, _FIGURES))
        try:
            figures[name] = Decimal(str(value))
        except InvalidOperation:
            figures[name] = Decimal("NaN")
        if isinstance(value, bool) or not figures[name].is_finite() or figures[name] < 0:
            raise BadSpec(f"{name} = {value!r} in {source} is not a rate.", "Give US dollars, zero or more.")
    if not figures:
        raise BadSpec(f"{source} names no rate.", f"Give one of: {', '.join(_FIGURES)}.")
    return Rates(source, **figures)


def _tokens_free(given: Rates) -> Rates:
    """With `usd_per_hour` alone, tokens cost nothing more: time is what the user pays."""
    if given.usd_per_hour is None or given.usd_per_million_input is not None:
        return given
    return replace(given, usd_per_million_input=Decimal(0), usd_per_million_output=Decimal(0))

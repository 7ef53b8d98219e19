"""What a hosted or a served model costs: the user's own figures first, then the dated public list, else a refusal.

Covers rates per token, the price of a batch queue and, for a server on this machine, its time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from potstill.errors import BadSpec, UnknownPrice, did_you_mean
from potstill.ledger.prices import ListedPrice, Rates, listed_price

BATCH_PRICE_FACTOR = "batch_price_factor"
_FIGURES = tuple(field.name for field in fields(Rates) if field.name != "source")


def model_price(
    model: str, provider: str | None, prices: Mapping[str, Any], on_this_machine: bool = False
) -> Rates | ListedPrice:
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
        figures = {name: value for name, value in own.items() if name != BATCH_PRICE_FACTOR}
        return _tokens_free(parse_rates(figures, f"[prices.{model!r}] of the spec"))
    if provider is not None:
        return listed_price(provider, model)
    if on_this_machine and "usd_per_hour" in prices:
        return _tokens_free(parse_rates({"usd_per_hour": prices["usd_per_hour"]}, "[prices] usd_per_hour of the spec"))
    raise UnknownPrice(
        f"No price is known for the model {model!r} at this server.",
        f"Set [prices.{model!r}] usd_per_million_input and usd_per_million_output in the spec"
        + (", or [prices] usd_per_hour for its machine time." if on_this_machine else "."),
    )


def provider_for_url(url: str) -> str | None:
    """Whose public price list applies to a server, by its address; None if nobody's."""
    from genai_prices.data import providers

    for provider in providers:
        if re.match(provider.api_pattern, url):
            return str(provider.id)
    return None


def batch_queue_price(
    model: str, provider: str | None, prices: Mapping[str, Any], *, default_factor: float = 1.0
) -> Rates | ListedPrice:
    """The price of `model` in its provider's batch queue; parameters as for `price_of`.

    Rates of the user's are multiplied by `[prices."MODEL"] batch_price_factor`, by default `default_factor`.

    Raises:
        UnknownPrice: nobody said what it costs.
        BadSpec: a share that is none, or a model that is priced by the hour.
    """
    price = model_price(model, provider, prices)
    if isinstance(price, ListedPrice):
        return replace(price, source=f"{price.source}, batch", batch=True)
    if price.usd_per_hour is not None:
        raise BadSpec(
            f"The model {model!r} is priced by the hour; a batch has no time.", "Ask directly, without batch."
        )
    share = _figure(BATCH_PRICE_FACTOR, prices[model].get(BATCH_PRICE_FACTOR, default_factor), price.source)
    if share > 1:
        raise BadSpec(
            f"{BATCH_PRICE_FACTOR} = {share} in {price.source} is more than all.", "Give a share from 0 to 1."
        )
    figures = {name: rate * share for name in _FIGURES if (rate := getattr(price, name)) is not None}
    return replace(price, source=f"{price.source}, {share} of it for a batch", **figures)


def parse_rates(table: Mapping[str, Any], source: str) -> Rates:
    """The rates of one table of the spec.

    Raises:
        BadSpec: a key that is no rate, a figure that is negative or not a number.
    """
    figures: dict[str, Decimal] = {}
    for name, value in table.items():
        if name not in _FIGURES:
            raise BadSpec(f"{source} has no key {name!r}.", did_you_mean(name, _FIGURES))
        figures[name] = _figure(name, value, source)
    if not figures:
        raise BadSpec(f"{source} names no rate.", f"Give one of: {', '.join(_FIGURES)}.")
    return Rates(source, **figures)


def _figure(name: str, value: Any, source: str) -> Decimal:
    try:
        figure = Decimal(str(value))
    except InvalidOperation:
        figure = Decimal("NaN")
    if isinstance(value, bool) or not figure.is_finite() or figure < 0:
        raise BadSpec(f"{name} = {value!r} in {source} is not a rate.", "Give US dollars, zero or more.")
    return figure


def _tokens_free(given: Rates) -> Rates:
    """With `usd_per_hour` alone, tokens cost nothing more: time is what the user pays."""
    if given.usd_per_hour is None or given.usd_per_million_input is not None:
        return given
    return replace(given, usd_per_million_input=Decimal(0), usd_per_million_output=Decimal(0))

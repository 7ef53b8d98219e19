"""The `[prices]` table of a spec, and the price of a model: the user's rates, else the dated public list.

Covers rates per token, batch queues, labels by people, and machine time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

from potstill.errors import BadSpec, UnknownPrice, did_you_mean
from potstill.ledger.prices import ListedPrice, Rates, listed_price

BATCH_PRICE_FACTOR = "batch_price_factor"
MAX_RATE_USD = 10**9
RATE_NAMES = tuple(field.name for field in fields(Rates) if field.name != "source")


@dataclass(frozen=True)
class ModelPrice:
    """A table `[prices."MODEL"]`: the user's rates, and what part of them a batch costs (None: what is usual)."""

    rates: Rates
    batch_price_factor: Decimal | None = None

    @classmethod
    def parse(cls, model: str, table: Mapping[str, object]) -> ModelPrice:
        """Read the table. Raises BadSpec as `PriceOptions.parse` does."""
        source = f"[prices.{model!r}] of the spec"
        known = (*RATE_NAMES, BATCH_PRICE_FACTOR)
        for name in table:
            if name not in known:
                raise BadSpec(f"{source} has no key {name!r}.", did_you_mean(name, known))
        rates = parse_rates({name: value for name, value in table.items() if name != BATCH_PRICE_FACTOR}, source)
        if BATCH_PRICE_FACTOR not in table:
            return cls(_tokens_free(rates))
        factor = _figure(BATCH_PRICE_FACTOR, table[BATCH_PRICE_FACTOR], source)
        if factor > 1:
            raise BadSpec(f"{BATCH_PRICE_FACTOR} = {factor} in {source} is more than 1.", "Give a factor from 0 to 1.")
        return cls(_tokens_free(rates), factor)


@dataclass(frozen=True)
class PriceOptions:
    """The `[prices]` table of a spec, in US dollars.

    Attributes:
        models: model -> the user's rates for it.
        usd_per_hour: machine time.
        gpu_usd_per_hour: time of a machine with a GPU.
        usd_per_label: a label by a person.
        usd_per_labelling_hour: an hour of a person who labels.
    """

    models: Mapping[str, ModelPrice] = field(default_factory=dict)
    usd_per_hour: Decimal | None = None
    gpu_usd_per_hour: Decimal | None = None
    usd_per_label: Decimal | None = None
    usd_per_labelling_hour: Decimal | None = None

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> PriceOptions:
        """Read the table.

        Raises:
            BadSpec: a key that does not exist, or a figure that is negative or not a number.
        """
        models = {name: ModelPrice.parse(name, value) for name, value in table.items() if isinstance(value, Mapping)}
        names = [each.name for each in fields(cls) if each.name != "models"]
        figures: dict[str, Decimal] = {}
        for name, value in table.items():
            if name in names:
                figures[name] = _figure(name, value, "[prices]")
            elif name not in models:
                raise BadSpec(f"[prices] has no key {name!r}.", did_you_mean(name, names))
        return cls(models, **figures)


def model_price(
    model: str, provider: str | None, prices: PriceOptions, on_this_machine: bool = False
) -> Rates | ListedPrice:
    """The price of `model`.

    Args:
        model: its name at the provider.
        provider: whose public list applies; None if unknown.
        prices: `[prices."MODEL"]` wins; for a server on this machine `usd_per_hour` prices its time, and its tokens
            are then free.
        on_this_machine: True for a server on loopback.

    Raises:
        UnknownPrice: the price is not known.
    """
    own = prices.models.get(model)
    if own is not None:
        return own.rates
    if provider is not None:
        return listed_price(provider, model)
    if on_this_machine and prices.usd_per_hour is not None:
        return _tokens_free(Rates("[prices] usd_per_hour of the spec", usd_per_hour=prices.usd_per_hour))
    raise UnknownPrice(
        f"No price is known for the model {model!r} at this server.",
        f"Set [prices.{model!r}] usd_per_million_input and usd_per_million_output in the spec"
        + (", or [prices] usd_per_hour for its machine time." if on_this_machine else "."),
    )


def provider_for_url(url: str) -> str | None:
    """The provider whose public price list applies to a server, by its exact host; None if there is none."""
    from genai_prices.data import providers

    for provider in providers:
        if _is_address_of(provider.api_pattern, url):
            return str(provider.id)
    return None


def _is_address_of(pattern: str, url: str) -> bool:
    """Whether the whole host fits the pattern; some patterns of the list are beginnings, or may match in a path."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port not in (None, 443):
        return False
    origin = f"{parts.scheme}://{parts.hostname}"
    if re.fullmatch(pattern, origin) or re.fullmatch(pattern, f"{origin}/"):
        return True
    found = re.match(pattern, origin + parts.path)  # a provider that is known by a path, too
    elsewhere = any(re.match(pattern, f"{parts.scheme}://{host}{parts.path}") for host in ("host", "host.invalid"))
    return found is not None and found.end() > len(origin) and not elsewhere


def batch_queue_price(
    model: str, provider: str | None, prices: PriceOptions, *, default_factor: float = 1.0
) -> Rates | ListedPrice:
    """The price of `model` in its provider's batch queue; arguments as for `model_price`.

    The user's own rates are multiplied by their `batch_price_factor`, by default `default_factor`.

    Raises:
        UnknownPrice: the price is not known.
        BadSpec: the model is priced by the hour.
    """
    price = model_price(model, provider, prices)
    if isinstance(price, ListedPrice):
        return replace(price, source=f"{price.source}, batch", batch=True)
    if price.usd_per_hour is not None:
        raise BadSpec(
            f"The model {model!r} is priced by the hour; a batch has no time.", "Ask directly, without batch."
        )
    given = prices.models[model].batch_price_factor
    factor = Decimal(str(default_factor)) if given is None else given
    rates = {name: rate * factor for name in RATE_NAMES if (rate := getattr(price, name)) is not None}
    return replace(price, source=f"{price.source}, {factor} of it for a batch", **rates)


def parse_rates(table: Mapping[str, object], source: str) -> Rates:
    """The rates of one table of the spec.

    Raises:
        BadSpec: a key that is no rate, a figure that is negative or not a number.
    """
    rates: dict[str, Decimal] = {}
    for name, value in table.items():
        if name not in RATE_NAMES:
            raise BadSpec(f"{source} has no key {name!r}.", did_you_mean(name, RATE_NAMES))
        rates[name] = _figure(name, value, source)
    if not rates:
        raise BadSpec(f"{source} names no rate.", f"Give one of: {', '.join(RATE_NAMES)}.")
    return Rates(source, **rates)


def _figure(name: str, value: object, source: str) -> Decimal:
    try:
        figure = Decimal(str(value))
    except InvalidOperation:
        figure = Decimal("NaN")
    if isinstance(value, bool) or not figure.is_finite() or not 0 <= figure <= MAX_RATE_USD:
        raise BadSpec(
            f"{name} = {str(value)[:80]!r} in {source} is not a rate.",
            f"Give US dollars, zero or more, at most {MAX_RATE_USD:,}.",
        )
    return figure


def _tokens_free(given: Rates) -> Rates:
    """With `usd_per_hour` alone, tokens cost nothing more: time is what the user pays."""
    if given.usd_per_hour is None or given.usd_per_million_input is not None:
        return given
    return replace(given, usd_per_million_input=Decimal(0), usd_per_million_output=Decimal(0))

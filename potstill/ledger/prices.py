"""Money: its units, prices, and the records a ledger is made of. Holding and settling is in `ledger.py`.

Sums are integer micro-dollars (`_micros`; one dollar is 1,000,000). A price is rounded up, so that many small
calls never cost more than was counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Literal, Protocol

from potstill.errors import BadSpec, UnknownPrice

Category = Literal["llm", "human", "compute"]
Purpose = Literal["teach", "train", "measure", "plan"]
# How a purchase is made: texts are labelled by direct calls, by a provider's batch API or by people, taken from the
# workspace's answers, or generated; machine time trains a student.
CallMode = Literal["direct", "batch", "labels", "cached", "generate", "train"]
CATEGORIES: tuple[Category, ...] = ("llm", "human", "compute")
MICROS_PER_USD = 1_000_000
# Anthropic documents this for a cache of five minutes; others charge the price of input or less.
CACHE_WRITE_SHARE = Decimal("1.25")


@dataclass(frozen=True)
class Usage:
    """What one call consumed.

    Attributes:
        input_tokens: prompt tokens in all; `cached_tokens` of them came from the provider's prompt cache and
            `cache_write_tokens` of them were written to it.
        output_tokens: generated tokens in all, reasoning included.
        seconds: machine time.
        labels: labels given by a human.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    labels: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, float]:
        """The units that are not zero."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


class Price(Protocol):
    """Turns usage into money."""

    @property
    def source(self) -> str:
        """Where the figures come from and of what date."""

    def cost_micros(self, usage: Usage) -> int:
        """The price of `usage`, rounded up. Raises UnknownPrice for a unit that has no rate."""


class ExactPrice(Price, Protocol):
    """A price that can be summed over many small calls before it is rounded."""

    def exact_micros(self, usage: Usage) -> Decimal:
        """The price of `usage` in micro-dollars, not rounded. Raises UnknownPrice as `cost_micros` does."""


def round_up_micros(exact: Decimal) -> int:
    """An exact sum as integer micro-dollars, rounded up."""
    return int(exact.to_integral_value(ROUND_CEILING))


@dataclass(frozen=True)
class Rates:
    """A price given as rates, in USD; None means unknown, which is refused when used.

    Attributes:
        source: where the figures come from.
        usd_per_million_input, usd_per_million_output: token rates.
        usd_per_million_cached: rate of cached prompt tokens; None charges them as ordinary input.
        usd_per_million_cache_write: rate of prompt tokens written to a cache; None charges `CACHE_WRITE_SHARE` of
            the input rate.
        usd_per_hour: rate of machine time.
        usd_per_label: rate of a human label.
    """

    source: str
    usd_per_million_input: Decimal | None = None
    usd_per_million_output: Decimal | None = None
    usd_per_million_cached: Decimal | None = None
    usd_per_hour: Decimal | None = None
    usd_per_label: Decimal | None = None
    usd_per_million_cache_write: Decimal | None = None

    def cost_micros(self, usage: Usage) -> int:
        """The price of `usage` in micro-dollars, rounded up. Raises UnknownPrice for a unit that has no rate."""
        return round_up_micros(self.exact_micros(usage))

    def exact_micros(self, usage: Usage) -> Decimal:
        """The price of `usage` in micro-dollars, not rounded."""
        written_rate = self.usd_per_million_cache_write
        if written_rate is None and self.usd_per_million_input is not None:
            written_rate = self.usd_per_million_input * CACHE_WRITE_SHARE
        plain = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        cached_rate = self.usd_per_million_cached
        if cached_rate is None:
            cached_rate = self.usd_per_million_input
        # A rate per million tokens in dollars is a rate per token in micro-dollars.
        parts = [
            ("input tokens", Decimal(plain), self.usd_per_million_input),
            ("cached tokens", Decimal(usage.cached_tokens), cached_rate),
            ("cache writes", Decimal(usage.cache_write_tokens), written_rate),
            ("output tokens", Decimal(usage.output_tokens), self.usd_per_million_output),
            ("compute time", Decimal(repr(usage.seconds)) * MICROS_PER_USD / 3600, self.usd_per_hour),
            ("human labels", Decimal(usage.labels) * MICROS_PER_USD, self.usd_per_label),
        ]
        total = Decimal(0)
        for unit, amount, rate in parts:
            if not amount:
                continue
            if rate is None:
                raise UnknownPrice(
                    f"No price is known for {unit} ({self.source}).", "Set it under [prices] in a potstill.toml."
                )
            total += amount * rate
        return total


@dataclass(frozen=True)
class ListedPrice:
    """A provider's public price, from the dated list of the `genai-prices` package.

    Attributes:
        provider, model: as that list names them.
        source: where the figures come from.
        batch: the price of the provider's batch API; a model that has none is listed at its ordinary price.
    """

    provider: str
    model: str
    source: str
    batch: bool = False

    def cost_micros(self, usage: Usage) -> int:
        """The list price of `usage` in micro-dollars, rounded up; cached tokens and price tiers included."""
        return round_up_micros(self.exact_micros(usage))

    def exact_micros(self, usage: Usage) -> Decimal:
        """The list price of `usage` in micro-dollars, not rounded. Tiers are those of one request."""
        if usage.seconds or usage.labels:
            raise UnknownPrice(
                f"{self.source} has no price for hours or labels.", "Set one under [prices] in a potstill.toml."
            )
        from genai_prices import Usage as ListUsage
        from genai_prices import calc_price

        listed = calc_price(
            ListUsage(
                input_tokens=max(usage.input_tokens, usage.cached_tokens + usage.cache_write_tokens),
                cache_read_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                output_tokens=usage.output_tokens,
            ),
            model_ref=self.model,
            provider_id=self.provider,
            price_context={"processing": "batch"} if self.batch else None,
        )
        return Decimal(listed.total_price * MICROS_PER_USD)


def listed_price(provider: str, model: str) -> ListedPrice:
    """The list price of `model` at `provider`.

    Raises:
        UnknownPrice: the list does not have it; the hint tells how to set one.
    """
    from importlib.metadata import version

    price = ListedPrice(provider, model, f"genai-prices {version('genai-prices')}: {provider}/{model}")
    try:
        price.cost_micros(Usage(input_tokens=1, output_tokens=1))
    except LookupError:
        raise UnknownPrice(
            f"No price is known for the model {model!r} at {provider!r}.",
            f"Set [prices.{model!r}] usd_per_million_input and usd_per_million_output in a potstill.toml.",
        ) from None
    return price


def parse_usd(usd: object) -> int:
    """A budget in USD (a number, or a text such as "20", "20 USD", "$0.05") as micro-dollars.

    Raises:
        BadSpec: not a finite sum above zero, or another currency.
    """
    text = str(usd).strip().removeprefix("$").upper().removesuffix("USD").strip()
    try:
        sum_usd = Decimal(text)
    except InvalidOperation:
        sum_usd = Decimal("NaN")
    if not sum_usd.is_finite() or sum_usd <= 0:
        raise BadSpec(f"{usd!r} is not a budget.", "Give a sum in US dollars above zero, such as 20 or 0.05.")
    # Compared before it is multiplied: 1e999999 is a Decimal, and a million of them is none.
    micros = int(sum_usd * MICROS_PER_USD) if sum_usd < MICROS_PER_USD**2 else 2**53
    if not 1 <= micros < 2**53:
        raise BadSpec(f"A budget of {usd} USD is out of range.", "Give between 0.000001 and a billion dollars.")
    return micros


def micros_to_usd(micros: int) -> float:
    """Micro-dollars as dollars, for display and JSON; never for sums."""
    return micros / MICROS_PER_USD


@dataclass(frozen=True)
class LedgerTotals:
    """The state of a ledger, in micro-dollars.

    Attributes:
        limit, held, charged, paid: the four sums; `held + charged <= limit` always.
        by_category: charged per category.
        by_purpose: charged per purpose.
        lost: the part of `charged` that bought nothing (crashes).
        calls: settled calls.
    """

    limit: int
    held: int
    charged: int
    paid: int
    by_category: Mapping[str, int]
    by_purpose: Mapping[str, int]
    lost: int
    calls: int

    @property
    def free(self) -> int:
        """Neither held nor charged."""
        return self.limit - self.held - self.charged


@dataclass(frozen=True)
class Purchase:
    """What a hold pays for.

    Attributes:
        category: what is paid for: a language model, human labels, or machine time.
        purpose: to teach the student, to train it, to measure, or to plan.
        description: a few words for the reader of the ledger; no program parses them.
        n_texts: how many texts it covers.
        micros_per_second: price of machine time with a heartbeat: a crash then loses the time until the last beat, not
            the whole hold.
        teacher: name of the teacher that is asked; empty for the training of a student.
        mode: how the purchase is made.
    """

    category: Category
    purpose: Purpose
    description: str
    n_texts: int = 1
    micros_per_second: float | None = None
    teacher: str = ""
    mode: CallMode = "direct"


@dataclass(frozen=True)
class NewBatchJob:
    """A job whose answers are fetched later, perhaps by another process.

    Attributes:
        teacher_key: key of the teacher that does it.
        client_id: our own id of the job, under which the provider's record of it can be found.
        keys: the store keys of its answers, in order.
        samples: replies requested for each text.
        max_usage: upper bound of the usage of one of its texts.
    """

    teacher_key: str
    client_id: str
    keys: tuple[str, ...]
    samples: int = 1
    max_usage: Usage = Usage()

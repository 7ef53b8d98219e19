"""Prices and sums: exact, rounded up, and an unknown price is never zero."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadSpec, UnknownPrice
from potstill.ledger.prices import Rates, Usage, listed_price, micros_to_usd, parse_usd

usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 10**7),
    output_tokens=st.integers(0, 10**6),
    seconds=st.floats(0, 10**5, allow_nan=False).map(lambda s: round(s, 9)),
    labels=st.integers(0, 10**5),
).map(lambda u: Usage(u.input_tokens, u.input_tokens // 3, u.output_tokens, u.seconds, u.labels))
ALL = Rates("a test", Decimal("0.15"), Decimal("0.60"), Decimal("0.075"), Decimal("1.875"), Decimal("0.11"))


@given(usages)
def test_a_price_is_the_exact_sum_rounded_up_to_the_next_micro_dollar(usage):
    exact = (
        (usage.input_tokens - usage.cached_tokens) * Fraction("0.15")
        + usage.cached_tokens * Fraction("0.075")
        + usage.output_tokens * Fraction("0.6")
        + Fraction(repr(usage.seconds)) * 1_000_000 / 3600 * Fraction("1.875")
        + usage.labels * 110_000
    )
    assert exact <= ALL.cost_micros(usage) < exact + 1 + Fraction(1, 10**6)


@given(usages, usages)
def test_two_calls_never_cost_less_than_both_in_one(a, b):
    assert ALL.cost_micros(a) + ALL.cost_micros(b) >= ALL.cost_micros(a + b)


@pytest.mark.parametrize(
    "usage", [Usage(input_tokens=1), Usage(output_tokens=1), Usage(seconds=0.1), Usage(labels=1)], ids=str
)
def test_a_unit_without_a_rate_is_refused_and_never_free(usage):
    with pytest.raises(UnknownPrice, match="No price is known"):
        Rates("nothing known").cost_micros(usage)


def test_cached_tokens_without_a_rate_cost_what_fresh_ones_do():
    rates = Rates("a test", usd_per_million_input=Decimal(2))
    assert rates.cost_micros(Usage(input_tokens=10, cached_tokens=10)) == 20


@given(st.integers(0, 10**7), st.integers(0, 10**6))
def test_a_listed_price_is_the_price_lists_own(prompt, output):
    ours = listed_price("openai", "gpt-5-mini").cost_micros(
        Usage(input_tokens=prompt, cached_tokens=prompt // 2, output_tokens=output)
    )
    usage = ListUsage(input_tokens=prompt, cache_read_tokens=prompt // 2, output_tokens=output)
    theirs = calc_price(usage, model_ref="gpt-5-mini", provider_id="openai").total_price * 1_000_000
    assert theirs <= ours < theirs + 1


def test_a_model_that_is_on_no_list_is_refused_with_what_to_write_in_the_spec():
    with pytest.raises(UnknownPrice) as refused:
        listed_price("openai", "gpt-99-imaginary")
    assert "[prices.'gpt-99-imaginary']" in refused.value.hint


def test_a_listed_model_has_no_price_by_the_hour_or_the_label():
    for usage in (Usage(seconds=1), Usage(labels=1)):
        with pytest.raises(UnknownPrice):
            listed_price("openai", "gpt-5-mini").cost_micros(usage)


def test_the_source_of_a_listed_price_names_the_list_and_its_version():
    assert "genai-prices" in listed_price("openai", "gpt-5-mini").source


@pytest.mark.parametrize(
    ("given_", "micros"), [(20, 20_000_000), ("$0.05", 50_000), ("2 USD", 2_000_000), (0.1, 100_000)]
)
def test_a_budget_may_be_a_number_or_dollars_in_words(given_, micros):
    assert parse_usd(given_) == micros


@pytest.mark.parametrize("wrong", [0, -1, "20 EUR", "", "nan", float("inf"), None, "1e30", "0.0000001", [], True + 0j])
def test_other_values_are_no_budget(wrong):
    with pytest.raises(BadSpec):
        parse_usd(wrong)


@pytest.mark.parametrize("usd", ["1e999999", "1e300", "9" * 400, "1e-999999", 10**400])
def test_a_sum_out_of_range_is_refused(usd):
    with pytest.raises(BadSpec, match="range"):
        parse_usd(usd)


@given(st.integers(1, 2**52))
def test_micro_dollars_survive_the_way_to_dollars_and_back(micros):
    assert parse_usd(f"{micros_to_usd(micros):.6f}") == micros

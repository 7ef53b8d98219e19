"""Which columns are the text and the label: the content decides before the name does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from potstill.data.column_guess import guess_columns
from potstill.data.tables import Table

TEXTS = [f"the thing number {i} broke and I want my money back please" for i in range(40)]
LABELS = ["billing", "delivery"] * 20
LONG_LABELS = [
    "Customers who ask about an invoice that they do not understand, or that they do not want to pay",
    "Customers who wait for a parcel that did not come on the day that the shop promised to them",
] * 20
FACTS = {
    "message_id": [f"MSG-{i:06d}-of-the-year-2024-from-the-web-form" for i in range(40)],
    "message_hash": [f"{i * 7919 * 10**9:064x}" for i in range(40)],
    "comment_date": [f"2024-03-{i % 28 + 1:02d} 10:11:12" for i in range(40)],
    "comment_at": [f"2024-03-{i % 28 + 1:02d}T10:11:12.000Z" for i in range(40)],
    "review_date": [f"March {i % 28 + 1}, 2024" for i in range(40)],
    "review_day": [f"{i % 28 + 1}. March 2024" for i in range(40)],
    "content_url": [f"https://shop.example/a/very/long/path/that/goes/on/{i}?page=1" for i in range(40)],
    "content": [f"https://shop.example/a/very/long/path/that/goes/on/{i}?page=1" for i in range(40)],
    "message_from": [f"ann.example.{i}@shop.example" for i in range(40)],
    "message_phone": [f"+49 30 1234 {i:04d}" for i in range(40)],
    "text_length": [str(i * 1000) for i in range(40)],
    "review_author": [f"Ann Example the {i}th of the family" for i in range(40)],
}


def guessed(**columns: Sequence[str]) -> tuple[str, str | None, str | None]:
    guess = guess_columns(Table.from_columns(columns))
    return guess.text, guess.text_b, guess.label


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("text", ["notes", "description", "message_body"])
def test_ids_dates_numbers_and_addresses_are_no_text(name: str, text: str) -> None:
    assert guessed(**{name: FACTS[name], text: TEXTS, "category": LABELS}) == (text, None, "category")


def test_two_columns_are_a_pair_only_without_a_single_text() -> None:
    first, second = [f"{i} Long Street" for i in range(40)], [f"Flat {i} in the back" for i in range(40)]
    assert guessed(address1=first, address2=second, message=TEXTS, label=LABELS) == ("message", None, "label")
    assert guessed(address1=first, address2=second, label=LABELS) == ("address1", "address2", "label")
    assert guessed(question1=TEXTS, question2=TEXTS[::-1], comment=first, label=LABELS)[:2] == (
        "question1",
        "question2",
    )


def test_a_column_named_label_is_the_label_however_long_its_cells_are() -> None:
    assert guessed(text=TEXTS, label=LONG_LABELS) == ("text", None, "label")
    assert guessed(q=[f"short {i}" for i in range(40)], category=LABELS, label=LONG_LABELS) == ("q", None, "label")


def test_a_short_title_is_not_the_text_beside_a_description() -> None:
    assert guessed(title=["Broken", "Late"] * 20, description=TEXTS, label=LABELS)[0] == "description"


def test_texts_of_digits_are_texts_where_nothing_else_is() -> None:
    assert guessed(text=[str(i) for i in range(40)], label=LABELS) == ("text", None, "label")

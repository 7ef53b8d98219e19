"""Groups of texts by question word or length."""

from __future__ import annotations

import pytest

from potstill.evaluation.text2text.text_groups import GroupScore, group_scores, group_texts, question_word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Who wrote Faust?", "who"),
        ("whose book is it?", "who"),
        ("in which year did it end", "which"),
        ("how many cantons are there", "how many"),
        ("How  much is it?", "how many"),
        ("And then, after all of that, why?", "why"),
        ("He said what he knew, and left.", "what"),
        ("The man is tall, and he knows what he wants.", ""),
        ("Add 5 ml.", ""),
        ("", ""),
    ],
)
def test_a_question_word_counts_where_a_text_asks(text: str, word: str) -> None:
    assert question_word(text) == word


def test_texts_are_grouped_by_question_word_if_most_have_one_and_else_by_length() -> None:
    asked = ["who is it?", "where is it?", "Tell me."]
    assert group_texts(asked) == ["who", "where", "other texts"]
    lengths = group_texts(["a " * n for n in range(1, 9)])
    assert lengths == ["up to 2 words"] * 2 + ["3 to 4 words"] * 2 + ["5 to 6 words"] * 2 + ["more than 6 words"] * 2
    assert group_texts([]) == []


def test_the_weakest_group_comes_first_and_a_single_one_says_nothing() -> None:
    texts, gold = ["who is it?", "who was it?", "where is it?"], [["a"], ["b"], ["c"]]
    found = group_scores("exact_match", texts, ["a", "x", "c"], gold)
    assert found == (GroupScore("who", 0.5, 2), GroupScore("where", 1.0, 1))
    assert group_scores("bleu", texts[:2], ["a", "x"], gold[:2]) == ()

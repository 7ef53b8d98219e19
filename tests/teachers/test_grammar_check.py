"""A grammar has every rule that it names."""

from __future__ import annotations

import pytest

from potstill.errors import TeacherError
from potstill.teachers.grammar_check import check_grammar
from potstill.teachers.label_prompt import text_grammar
from potstill.teachers.llamacpp import Completion

JSON = r"""
root ::= "{" ws "\"label\":" ws label ("," ws text-value){1,3} "}"  # names: nothing
label ::= "\"pos\"" | "\"n[eg\""
text-value ::= "\"" [^"\\\]\n]{1,64} "\""
ws ::= [ \t]*
"""


@pytest.mark.parametrize("grammar", [JSON, text_grammar(16), text_grammar(16, in_list=True), "root ::= <think> [a-z]+"])
def test_a_grammar_with_all_its_rules_passes(grammar: str) -> None:
    check_grammar(grammar)


@pytest.mark.parametrize(
    ("grammar", "missing", "near"),
    [
        (JSON.replace("ws ::=", "white ::="), "'ws'", "ws ::= ..."),
        (JSON.replace("text-value ::=", "text_value ::="), "'text-value'", "Did you mean 'text_value'?"),
        ("answer ::= [a-z]", "'root'", "root ::= ..."),
        ("", "'root'", "root ::= ..."),
    ],
)
def test_a_grammar_that_names_a_missing_rule_is_refused_before_a_model_writes(
    grammar: str, missing: str, near: str
) -> None:
    with pytest.raises(TeacherError, match=f"names the rule {missing} and does not have it") as refused:
        Completion(8, 1, {"grammar": grammar})
    assert near in refused.value.hint

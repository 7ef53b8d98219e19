"""Checks that a grammar in GBNF has every rule that it names: llama.cpp ignores one that has not, and writes anything.

Does not check the syntax, which llama.cpp refuses itself.
"""

from __future__ import annotations

import re

from potstill.errors import TeacherError, did_you_mean

# What may hold letters that name no rule: literals, classes of characters, tokens, comments.
_NO_NAMES = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|<[^>\n]*>|#[^\n]*', re.DOTALL)
_DEFINED = re.compile(r"([A-Za-z][\w-]*)\s*::=")
_NAMED = re.compile(r"(?<![\w-])[A-Za-z][\w-]*")


def check_grammar(grammar: str) -> None:
    """Raise TeacherError if a grammar names a rule that it does not have, or has no rule `root`."""
    bare = _NO_NAMES.sub(" ", grammar)
    rules = set(_DEFINED.findall(bare))
    missing = sorted({"root", *_NAMED.findall(bare)} - rules)
    if missing:
        raise TeacherError(
            f"A grammar for llama.cpp names the rule {missing[0]!r} and does not have it.",
            f"{did_you_mean(missing[0], rules, otherwise='')} Write it: {missing[0]} ::= ...".strip(),
        )

"""The prompt for new texts of one label, as a conversation or as a list to continue, its grammar and its parser.

What it says was compared in `bench/writer.py`: texts of the label and "in other words, about other situations" help a
small model; texts of labels that are easily confused with it, as what not to write, harm, so none are shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.models.causal_lm import one_line
from potstill.models.chat_template import ChatTemplate
from potstill.teachers.prompts import sanitize_text

EXAMPLES = 4
EXAMPLE_TOKENS, EXAMPLE_CHARACTERS = 64, 400
# At least a few words and no markup; the grammar of llama.cpp counts characters, the token limit ends longer texts.
GRAMMAR = 'root ::= ({lines})\nline ::= "- " [^ \\t\\n\\r<>|-] [^\\n\\r<>|]{{7,{max_characters}}} "\\n"'
_LINE = re.compile(r"^- (\S.*\S)\s*$")
# What a vocabulary may read as a control token, such as <|im_end|>, </s> or [INST]; the marks of a text stay.
_CONTROL_TOKEN = re.compile(r"<(?=[|/\w])(?!/?text>)|\[(?=/?[A-Z_]+\])")


def lines_grammar(n: int, max_tokens: int) -> str:
    """A GBNF grammar for exactly `n` lines that begin with "- "."""
    return GRAMMAR.format(lines=" ".join(["line"] * n), max_characters=max(8, 4 * max_tokens))


def parse_lines(reply: str, n: int) -> list[str]:
    """At most `n` texts of a reply, in order: whole lines only, without repetitions."""
    complete = reply.split("\n")[:-1]  # a line without a line break was cut at the token limit
    texts = [match[1] for line in complete if (match := _LINE.match(line))]
    return list(dict.fromkeys(texts))[:n]


def label_question(task: Task, request: GenerationRequest, n: int, *, other_words: bool = True) -> str:
    """Asks for `n` texts of the request's label; with `other_words`, such that differ from those it shows."""
    name, meaning = request.label.replace("_", " "), " ".join(task.descriptions.get(request.label, "").split())
    examples = _example_lines(request)
    texts = "one new text" if n == 1 else f"{n} different new texts"
    parts = [f'Texts of the kind "{name}":', *examples] if examples else []
    parts += [f"This kind means: {meaning}"] if meaning else []
    differs = ", in other words and about other situations" if examples and other_words else ""
    parts.append(f'Write {texts} of the kind "{name}"{differs}.')
    if differs:
        parts.append("Write as the same people would, and do not repeat the texts above.")
    if request.feedback and request.feedback.style:
        parts.append(f"This time: {request.feedback.style}.")
    parts.append('Answer with the texts alone, one a line, each after "- ".')
    return "\n".join(parts)


def label_list(task: Task, request: GenerationRequest) -> str:
    """A list of texts of the request's label, for a model without a chat template to continue."""
    name, meaning = request.label.replace("_", " "), " ".join(task.descriptions.get(request.label, "").split())
    head = f'Different texts of the kind "{name}"' + (f" ({meaning})" if meaning else "")
    return "\n".join([f"{head}:", "", *_example_lines(request), ""])


def _example_lines(request: GenerationRequest) -> list[str]:
    own = [each for each in request.examples if each.label == request.label] or list(request.examples)
    return [f"- {_clean(each)}" for each in own[:EXAMPLES]]


def _clean(each: LabelledText) -> str:
    return sanitize_text(one_line(each.text, EXAMPLE_TOKENS))[:EXAMPLE_CHARACTERS]


def render_chat(template: ChatTemplate, roles: Sequence[str], contents: Sequence[str]) -> str:
    """A conversation up to the model's turn. A content cannot end its turn: marks of control tokens are broken up.

    Raises:
        BadInput: the template cannot render such a conversation.
    """
    rendered = template.render(roles, ask=True)
    if rendered.system_joined:
        contents = [f"{contents[0]}\n\n{contents[1]}", *contents[2:]]
    safe = [_CONTROL_TOKEN.sub(lambda found: f"{found[0]} ", content) for content in contents]
    parts = [piece for pair in zip(rendered.markup, [*safe, ""], strict=True) for piece in pair]
    return "".join(parts)

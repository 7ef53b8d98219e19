"""The prompt for a new text of one label, as a conversation or as a list to continue, and the grammar of a reply.

Real texts are shown as if the model had written them when it was asked: it goes on in their manner, where a list with
an instruction made it answer the texts, or write about something else (`docs/log.md`). Texts of labels that are easily
confused, as what not to write, harm, so none are shown.
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
SYSTEM = "You write texts of the kind that you are asked for, as their authors would. You never answer a text."
# At least a few words and no markup; the grammar of llama.cpp counts characters, the token limit ends longer texts.
GRAMMAR = "root ::= {head}[^ \\t\\n\\r<>|-] [^\\n\\r<>|]{{7,{max_characters}}}{tail}"
# What a vocabulary may read as a control token: <|im_end|>, </s>, <\uff5cUser\uff5c>, [INST]; the marks of a text stay.
_CONTROL_TOKEN = re.compile(r"<(?=[|\uff5c/\w])(?!/?text>)|\[(?=/?[A-Z_0-9]*[A-Z][A-Z_0-9]*\]|\|)")


def text_grammar(max_tokens: int, *, in_list: bool = False) -> str:
    """A GBNF grammar for one line of text; `in_list`, the rest of a line that "-" begins, and its end."""
    head, tail = ('" " ', ' "\\n"') if in_list else ("", "")
    return GRAMMAR.format(head=head, tail=tail, max_characters=max(8, 4 * max_tokens))


def label_conversation(
    task: Task, request: GenerationRequest, *, other_words: bool = True
) -> tuple[list[str], list[str]]:
    """Roles and contents of a conversation that asks for one more text of the request's label.

    Args:
        task: the labels and their descriptions.
        request: its examples, those of other labels first, are the model's earlier answers.
        other_words: whether a text is to differ from the one before.
    """
    examples = sorted(request.examples[:EXAMPLES], key=lambda each: each.label == request.label)
    labels = [*(each.label for each in examples), request.label]
    questions = [_question(task, label, before == label and other_words, label not in labels[:i])
                 for i, (label, before) in enumerate(zip(labels, ["", *labels], strict=False))]  # fmt: skip
    if request.feedback and request.feedback.style:
        questions[-1] += f" This time: {request.feedback.style}."
    roles, contents = ["system"], [SYSTEM]
    for question, example in zip(questions, examples, strict=False):
        roles += ["user", "assistant"]
        contents += [question, _clean(example)]
    return [*roles, "user"], [*contents, questions[-1]]


def _question(task: Task, label: str, is_repeated: bool, is_first: bool) -> str:
    name, meaning = label.replace("_", " "), " ".join(task.descriptions.get(label, "").split())
    means = f" It means: {meaning}" if meaning and is_first else ""
    return (
        f'Another one of the kind "{name}", in other words.'
        if is_repeated
        else f'Write a text of the kind "{name}".{means}'
    )


def label_list(task: Task, request: GenerationRequest) -> str:
    """A list of texts of the request's label, for a model without a chat template to continue."""
    name, meaning = request.label.replace("_", " "), " ".join(task.descriptions.get(request.label, "").split())
    head = f'Different texts of the kind "{name}"' + (f" ({meaning})" if meaning else "")
    own = [each for each in request.examples[:EXAMPLES] if each.label == request.label]
    return "\n".join([f"{head}:", "", *(f"- {_clean(each)}" for each in own), "-"])


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
    safe = [break_control_tokens(content) for content in contents]
    parts = [piece for pair in zip(rendered.markup, [*safe, ""], strict=True) for piece in pair]
    return "".join(parts)


def break_control_tokens(content: str) -> str:
    """The content with a blank after the first mark of each control token, so that it is read as characters."""
    return _CONTROL_TOKEN.sub(lambda found: f"{found[0]} ", content)

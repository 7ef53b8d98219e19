"""The prompt for a one-line description of a label: for a chat model behind a server, and for one on this machine.

Shows the names of all labels, since a description has to tell one from the others, and a few texts: of the label, or
unlabelled ones, whose label is "". The reply is a text like that of `generation_prompts`, in the same JSON.
"""

from __future__ import annotations

from potstill.data.task import DescriptionRequest, LabelledText, Task
from potstill.teachers.prompts import DATA_NOTICE, QUOTED_CHARACTERS, Message, sanitize_text

ROLE = "You describe the labels of a text classifier for the people who label texts with them."
QUESTION = (
    "In one sentence of at most 25 words, say what a text with the label {label} is about, so that it is not mistaken "
    "for a text of another label. Do not quote the texts."
)
REPLY_FORMAT = '{"texts": ["the sentence"]}'
TEXT_CHARACTERS = 400
MAX_CHARACTERS = 240  # of a description


def description_messages(task: Task, request: DescriptionRequest, previous_reply: str | None = None) -> list[Message]:
    """The conversation for the description of `request.label`, also after a reply that was not JSON."""
    head = [ROLE, _labels(task), DATA_NOTICE, f"Answer with JSON only: {REPLY_FORMAT}"]
    messages: list[Message] = [
        {"role": "system", "content": "\n\n".join(part for part in head if part)},
        {"role": "user", "content": "\n\n".join(_question(request))},
    ]
    if previous_reply is not None:
        messages += [
            {"role": "assistant", "content": sanitize_text(previous_reply)[:QUOTED_CHARACTERS] or "(nothing)"},
            {"role": "user", "content": f"That is not JSON of the form {REPLY_FORMAT}. Send it alone."},
        ]
    return messages


def description_conversation(task: Task, request: DescriptionRequest) -> tuple[list[str], list[str]]:
    """Roles and contents of the conversation with a model on this machine, which answers with the sentence alone."""
    head = "\n\n".join([ROLE, _labels(task), DATA_NOTICE])
    return ["system", "user"], [head, "\n\n".join(_question(request))]


def description_list(task: Task, request: DescriptionRequest) -> str:
    """A list of labels and what they mean for a model without a chat template to continue."""
    return "\n\n".join([_labels(task), *_texts(request), f"What {_name(request.label)} means, in one sentence:"])


def clean_description(text: str, label: str) -> str:
    """The description in one line, without quotes around it; empty if it says no more than the label."""
    line = " ".join(text.split()).strip("\"'`“”‘’ ")
    if len(line) > MAX_CHARACTERS:
        line = f"{line[:MAX_CHARACTERS].rsplit(' ', 1)[0]} ..."
    said = line.casefold().replace("_", " ").strip(".: ")
    return "" if said in ("", label.casefold(), _name(label).casefold()) else line


def _labels(task: Task) -> str:
    lines = ["The labels:"]
    for label in task.labels:
        meaning = " ".join(task.descriptions.get(label, "").split())
        lines.append(f"- {_name(label)}" + (f": {meaning}" if meaning else ""))
    decides = [f"What is decided about each text: {task.instruction}"] if task.instruction else []
    return "\n".join([*lines, *decides])


def _question(request: DescriptionRequest) -> list[str]:
    return [*_texts(request), QUESTION.format(label=_name(request.label))]


def _texts(request: DescriptionRequest) -> list[str]:
    own = [each for each in request.examples if each.label]
    others = [each for each in request.examples if not each.label]
    blocks = [(f"Texts with the label {_name(request.label)}:", own), ("Texts of any of the labels:", others)]
    return ["\n".join([title, *map(_line, texts)]) for title, texts in blocks if texts]


def _line(each: LabelledText) -> str:
    return f"- <text>{' '.join(sanitize_text(each.text).split())[:TEXT_CHARACTERS]}</text>"


def _name(label: str) -> str:
    return " ".join(label.replace("_", " ").split())

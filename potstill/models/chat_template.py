"""Chat templates: the Jinja template that a model's publisher wrote for conversations, rendered in a sandbox.

What the template writes and what a message says are kept apart: a conversation is rendered with place marks for the
contents, so that a text can neither end its turn nor begin another one. Does not cover tools, images, or thinking,
which is switched off where a template lets it be.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potstill.errors import BadInput
from potstill.models.gguf_metadata import read_gguf_metadata
from potstill.models.weights import Weights

_MARK = "\ue000{n}\ue001"  # private characters: in no template, and no tokenizer sees them
_MARKS = re.compile("\ue000(\\d+)\ue001")
MAX_TEMPLATE_CHARACTERS, MAX_HEADER_BYTES = 200_000, 100_000_000


@dataclass(frozen=True)
class RenderedChat:
    """A conversation of N messages as a model reads it, without their contents.

    Attributes:
        markup: (N + 1) pieces that the template writes: before the first content, between each two, after the last.
        system_joined: the template takes no system message, so that its content stands before that of the first user
            and N is one less.
    """

    markup: tuple[str, ...]
    system_joined: bool = False


def find_chat_template(weights: Weights) -> str:
    """The chat template that comes with a causal language model; empty if there is none.

    Raises:
        BadInput: a GGUF file whose metadata cannot be read.
    """
    if weights.kind == "gguf":
        return read_gguf_metadata(weights.path).chat_template
    file = weights.folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if template := _in_json(weights, name):
            return template
    return ""


def count_parameters(weights: Weights) -> int:
    """Number of weights of a causal language model, by the headers of its files; 0 if they cannot be read."""
    if weights.kind == "gguf":
        return read_gguf_metadata(weights.path).n_parameters
    total = 0
    try:
        for file in weights.folder.glob("*.safetensors"):
            with file.open("rb") as opened:
                header = json.loads(opened.read(min(int.from_bytes(opened.read(8), "little"), MAX_HEADER_BYTES)))
            total += sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    return total


def _in_json(weights: Weights, name: str) -> str:
    try:
        record = json.loads((weights.folder / name).read_text(encoding="utf-8"))
        found = record.get("chat_template")
        if isinstance(found, list):  # several by name
            found = {each["name"]: each["template"] for each in found}.get("default")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


class ChatTemplate:
    """A chat template.

    Args:
        source: the Jinja template.
        special_tokens: name -> token, such as "bos_token" -> "<s>"; templates write them.

    Raises:
        BadInput: it is no template of a conversation.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
        )
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        environment.globals["raise_exception"] = _raise
        try:
            if len(source) > MAX_TEMPLATE_CHARACTERS:
                raise TemplateError(f"it has {len(source)} characters")
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise _unusable(error) from None
        self._special_tokens = special_tokens

    def render(self, roles: Sequence[str], *, ask: bool) -> RenderedChat:
        """A conversation of messages of these roles ("system", "user" or "assistant"); with `ask`, up to an answer.

        Raises:
            BadInput: the template cannot render such a conversation.
        """
        try:
            return RenderedChat(self._render(roles, ask))
        except BadInput:
            if roles[0] != "system":
                raise
            return RenderedChat(self._render(roles[1:], ask), system_joined=True)

    def _render(self, roles: Sequence[str], ask: bool) -> tuple[str, ...]:
        messages = [{"role": role, "content": _MARK.format(n=n)} for n, role in enumerate(roles)]
        try:
            text = self._template.render(
                messages=messages, add_generation_prompt=ask, enable_thinking=False, tools=None, **self._special_tokens
            )
        except Exception as error:  # a template is a program, which can fail in any way
            raise _unusable(error) from None
        pieces = _MARKS.split(text)
        if pieces[1::2] != [str(n) for n in range(len(roles))]:
            raise _unusable(ValueError("it leaves messages out or moves them"))
        return tuple(pieces[::2])


def _unusable(error: Exception) -> BadInput:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BadInput(
        f"The model's chat template cannot be used: {reason}.", 'Write prompt_format = "plain" under [teacher].'
    )


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _generation_tag() -> Any:
    """The block {% generation %}, with which some templates mark what an assistant wrote; it changes nothing."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return GenerationTag

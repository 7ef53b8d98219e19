"""The prompt of a language model on this machine that follows instructions: a conversation through its chat template.

A system message says what to do; a user's message holds the question, the labels with their descriptions, and the text;
the model's answer is a label and the end of its turn. Gold examples are earlier turns of the same conversation, so that
an example and a text are treated alike. Where a text may have several labels, each label is a question of its own
behind the text, answered with yes or no. Builds it as text (`ChatPrompt`) and as token ids (`TokenizedChatPrompt`).
Does not cover models behind a server (see `prompts`), or the scoring itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from potstill.data.task import LabelledText, Task
from potstill.models.causal_lm import CausalLM
from potstill.models.chat_template import ChatTemplate
from potstill.teachers.completion_prompt import (
    CONTEXT_CHARACTERS,
    TEMPLATE,
    lines_of_text,
    plain_label_words,
    split_template,
)

SYSTEM = "You label texts. Answer with one of the labels and nothing else."
YES_NO = ("yes", "no")
QUESTION = "Which label fits the text best?"
SYSTEM_MULTI_LABEL = "You label texts. Answer yes or no and nothing else."
QUESTION_MULTI_LABEL = "Does the label that stands after the text fit it? Several labels may fit, or none."
QUESTION_PAIR = "Which label fits the two texts best?"


@dataclass(frozen=True)
class ChatPrompt:
    """The words of a conversation about one text.

    Attributes:
        template: the source of the chat template.
        system: the system message.
        head, tail: what stands before and after a text in the user's message.
        label_words: K answers, in the task's label order.
        multi_label: each label word ends the user's message, after `tail`, and the answer is yes or no.
    """

    template: str
    system: str
    head: str
    tail: str
    label_words: tuple[str, ...]
    multi_label: bool = False

    @property
    def key_parts(self) -> tuple[object, ...]:
        """What changes answers."""
        kind = ("multi",) if self.multi_label else ()
        return "chat", self.template, self.system, self.head, self.tail, self.label_words, *kind

    @classmethod
    def for_task(cls, task: Task, source: str, text_template: str, label_words: Mapping[str, str]) -> ChatPrompt:
        """The prompt for a task: its instruction or a question, its labels, and its descriptions, where it has any.

        Args:
            task: the K labels.
            source: of the chat template.
            text_template: what surrounds a text, with {text} in it; that of a prompt without a chat counts as none.
            label_words: label -> what to score for it; by default its name with "_" read as a space.

        Raises:
            BadSpec: a template without {text}, or words for something that is no label.
        """
        words = plain_label_words(task, label_words)
        head, tail = split_template("Text: {text}" if text_template == TEMPLATE else text_template)
        multi = task.kind == "multi"
        question = QUESTION_MULTI_LABEL if multi else QUESTION_PAIR if task.kind == "pair" else QUESTION
        asked = [" ".join(task.instruction.split())] if task.instruction.strip() else [question]
        if multi and asked != [question]:
            asked.append(question)
        lines = [*asked, *_label_lines(task, words), head.rstrip(" ")]
        tail = "\nLabel:" if multi else tail.rstrip()
        return cls(source, SYSTEM_MULTI_LABEL if multi else SYSTEM, "\n".join(lines), tail, words, multi)


def _label_lines(task: Task, words: Sequence[str]) -> list[str]:
    meanings = [" ".join(task.descriptions.get(label, "").split()) for label in task.labels]
    if not any(meanings):
        return [f"Labels: {', '.join(words)}."]
    lines = (f"- {word}: {meaning}" if meaning else f"- {word}" for word, meaning in zip(words, meanings, strict=True))
    return ["Labels:", *lines]


@dataclass
class TokenizedChatPrompt:
    """The conversation in one model's token ids.

    Attributes:
        model: whose tokens.
        text: the words.
        labels: K label names.
        max_text_tokens: a longer text loses its end.
    """

    model: CausalLM
    text: ChatPrompt
    labels: Sequence[str]
    max_text_tokens: int

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.text.template, self.model.special_tokens)

    @cached_property
    def _answer_start(self) -> str:
        """What the template writes between a question and its answer.

        As it begins a turn that is to be written, which may open and close a thought; else as in a turn of the past.
        """
        asked = self._template.render(_roles(0), ask=True).markup[-1]
        answered = self._template.render((*_roles(0), "assistant"), ask=False).markup[-2]
        return asked if asked.startswith(answered) else answered

    @cached_property
    def _own_tail(self) -> list[int]:
        return self.model.encode([self.text.tail], "x")[0] if self.text.tail else []

    @cached_property
    def tail(self) -> list[int]:
        """All that stands between a text and the first token of what is `scored`."""
        return self._own_tail if self.text.multi_label else [*self._own_tail, *self._markup_ids(self._answer_start)]

    @cached_property
    def label_words(self) -> list[list[int]]:
        """K answers as token sequences, as they stand behind `tail`."""
        return self._answers(self.text.label_words)

    def _answers(self, words: Sequence[str]) -> list[list[int]]:
        start = self._answer_start.rstrip(" ")
        gap = self._answer_start[len(start) :]
        return self.model.encode([gap + word for word in words], start[-CONTEXT_CHARACTERS:])

    @cached_property
    def questions(self) -> list[list[int]]:
        """In a multi-label task the K ends of a question, each a label and what begins the answer; else empty."""
        if not self.text.multi_label:
            return []
        words = self.model.encode([f" {word}" for word in self.text.label_words], self.text.tail[-CONTEXT_CHARACTERS:])
        return [[*word, *self._markup_ids(self._answer_start)] for word in words]

    @cached_property
    def scored(self) -> list[list[int]]:
        """K token sequences whose log-probabilities are a label's score: the answer and the end of the turn.

        In a multi-label task 2 K: after each of `questions`, yes and no.
        """
        if self.text.multi_label:
            yes, no = self._answers(YES_NO)
            return [[*question, *answer] for question in self.questions for answer in (yes, no)]
        end = self._markup_ids(self._template.render((*_roles(0), "assistant"), ask=False).markup[-1])
        return [[*word, *(end[:1] or [self.model.end_token])] for word in self.label_words]

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's own tokens and the tail; longer texts are cut, see `is_cut`."""
        return [[*ids, *self.tail] for ids in self._text_ids(texts)]

    def _text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        limit = self.max_text_tokens
        space = "" if self.text.head.endswith("\n") else " "
        cleaned = [space + lines_of_text(text, limit + 1) for text in texts]
        return [ids[:limit] for ids in self.model.encode(cleaned, self.text.head[-CONTEXT_CHARACTERS:])]

    def is_cut(self, ids: Sequence[int]) -> bool:
        """True if a row of `texts` is as long as can be: at least its last token may be missing."""
        return len(ids) - len(self.tail) >= self.max_text_tokens

    def prompt(self, examples: Sequence[LabelledText]) -> list[int]:
        """The constant part: everything up to where a text begins.

        Raises:
            BadInput: the template cannot render such a conversation.
        """
        rendered = self._template.render(_roles(len(examples)), ask=True)
        words = dict(zip(self.labels, self.label_words, strict=True))
        opening = [] if rendered.system_joined else [self.text.system]
        questions = [self.text.head] * (len(examples) + 1)
        if rendered.system_joined:
            questions[0] = f"{self.text.system}\n\n{self.text.head}"
        ids: list[int] = []
        markup = iter(rendered.markup)  # the last piece follows a text: it is in `tail`
        for content in opening:
            ids += self._content_ids(next(markup), content, first=True)
        texts = self._text_ids([each.text for each in examples])
        for question, example, text in zip(questions, examples, texts, strict=False):
            ids += [*self._content_ids(next(markup), question, first=not ids), *text, *self._own_tail]
            ids += [*self._markup_ids(next(markup)), *words[example.label]]
        return [*ids, *self._content_ids(next(markup), questions[-1], first=not ids)]

    def _content_ids(self, markup: str, content: str, *, first: bool) -> list[int]:
        """Token ids of what the template wrote, and of the content after it, which takes a blank before it along."""
        start = markup.rstrip(" ")
        blanks = markup[len(start) :]
        return [*self._markup_ids(start, first=first), *self.model.encode([blanks + content], "\n")[0]]

    def _markup_ids(self, markup: str, *, first: bool = False) -> list[int]:
        """Token ids of what the template wrote, control tokens included; a blank before an answer belongs to it."""
        return self.model.encode_markup(markup.rstrip(" "), after_text=not first)


def _roles(n_examples: int) -> tuple[str, ...]:
    return ("system", *("user", "assistant") * n_examples, "user")

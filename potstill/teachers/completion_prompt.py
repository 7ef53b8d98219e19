"""The prompt of a model that continues text: examples, then a text, then the position of its label.

Builds it as text (`PromptTemplate`) and as token ids (`TokenizedPrompt`); both treat an example exactly as a text.
Does not cover chat models (see `prompts`), or the scoring itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from potstill.data.pairs import is_pair, split_pair
from potstill.data.task import LabelledText, Task
from potstill.errors import BadSpec
from potstill.models.causal_lm import CausalLM, one_line
from potstill.models.label_trie import needs_end_token

TEMPLATE = "Text: {text}\nLabel:"
SECOND_TEXT = "\nText 2: "  # before the second text of a pair; the first stands where a single one would
FITS = "\nFits:"  # after a label of which there may be several
EXAMPLE_SEPARATOR = "\n\n"  # stands between examples, so it also is what follows a label
CONTEXT_CHARACTERS = 12  # of what stands before a label: enough for any tokenizer to settle


@dataclass(frozen=True)
class PromptTemplate:
    """The words around a text.

    Attributes:
        opening: what stands before the first example.
        head, tail: what stands before and after each text.
        label_words: K strings, each with the space it needs, in the task's label order.
        multi_label: each label word stands after `tail`, and a yes or no after it.
    """

    opening: str
    head: str
    tail: str
    label_words: tuple[str, ...]
    multi_label: bool = False

    @property
    def key_parts(self) -> tuple[object, ...]:
        """What changes answers."""
        kind = ("multi",) if self.multi_label else ()
        return self.opening, self.head, self.tail, self.label_words, *kind

    @classmethod
    def from_examples(
        cls, task: Task, template: str, label_words: Mapping[str, str], examples: Sequence[LabelledText]
    ) -> PromptTemplate:
        """The prompt for a task. Labels are listed only if the examples do not show them all.

        Args:
            task: its instruction and descriptions stand at the beginning, where it has any.
            template: what surrounds a text, with {text} in it; the label follows at its end.
            label_words: label -> what to score for it; by default its name with "_" read as a space.
            examples: those the prompt will show.

        Raises:
            BadSpec: a template without {text}, or words for something that is no label.
        """
        plain = plain_label_words(task, label_words)
        head, tail = split_template(template)
        tail = tail or "\n"
        lines = [" ".join(task.instruction.split())] if task.instruction.strip() else []
        if {each.label for each in examples} < set(task.labels):
            lines.append(f"Labels: {', '.join(plain)}.")
        lines += [
            f"{word}: {' '.join(task.descriptions[label].split())}"
            for label, word in zip(task.labels, plain, strict=True)
            if task.descriptions.get(label)
        ]
        gap = "" if tail[-1].isspace() else " "
        words = tuple(gap + word for word in plain)
        return cls("\n".join(lines), head.rstrip(" "), tail, words, task.kind == "multi")


def pick_examples(
    examples: Sequence[LabelledText], labels: Sequence[str], shots: int | None, prompts: int
) -> list[list[LabelledText]]:
    """The examples of each of `prompts` prompts, in the order they were offered.

    Each prompt shows `shots` of each label, other ones than the prompt before while there are any. None deals all
    the examples out, so that together the prompts show every one.
    """
    by_label = {label: [row for row, each in enumerate(examples) if each.label == label] for label in labels}
    if shots is None:
        shots = -(-max(map(len, by_label.values())) // prompts)
    picked = []
    for nth in range(prompts):
        chosen = set()
        for rows in by_label.values():
            chosen.update((rows[nth * shots :] + rows)[: min(shots, len(rows))])
        picked.append([examples[row] for row in sorted(chosen)])
    return picked


@dataclass
class TokenizedPrompt:
    """The prompt in one model's token ids.

    Attributes:
        model: whose tokens.
        text: the words.
        labels: K label names.
        max_text_tokens: a longer text loses its end.
    """

    model: CausalLM
    text: PromptTemplate
    labels: Sequence[str]
    max_text_tokens: int

    @cached_property
    def between(self) -> list[int]:
        """What is between a label and the next text, encoded as one: two line breaks alone can be another token."""
        return self.model.encode([EXAMPLE_SEPARATOR + self.text.head], "x")[0]

    @cached_property
    def tail(self) -> list[int]:
        """What stands after a text."""
        return self.model.encode([self.text.tail], "x")[0]

    @cached_property
    def label_words(self) -> list[list[int]]:
        """K label token sequences, as they stand behind `tail`."""
        return self.model.encode(self.text.label_words, self.text.tail.strip()[-CONTEXT_CHARACTERS:] or "x")

    @cached_property
    def questions(self) -> list[list[int]]:
        """In a multi-label task the K ends of a question, each a label and `FITS`; else empty."""
        fits = self.model.encode([FITS], "x")[0] if self.text.multi_label else []
        return [[*word, *fits] for word in self.label_words] if self.text.multi_label else []

    @cached_property
    def scored(self) -> list[list[int]]:
        """K token sequences whose log-probabilities are a label's score; with an end where one label begins another.

        In a multi-label task 2 K: after each of `questions`, yes and no.
        """
        if self.text.multi_label:
            answers = self.model.encode([" yes", " no"], FITS)
            return [[*question, *answer] for question in self.questions for answer in answers]
        if not needs_end_token(self.label_words):
            return self.label_words
        return [[*word, self.between[0]] for word in self.label_words]

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's own tokens and the tail; longer texts are cut, see `is_cut`."""
        limit = self.max_text_tokens
        space = " " if self.text.head else ""
        cleaned = [space + lines_of_text(text, limit + 1) for text in texts]
        return [[*ids[:limit], *self.tail] for ids in self.model.encode(cleaned, self.text.head)]

    def is_cut(self, ids: Sequence[int]) -> bool:
        """True if a row of `texts` is as long as can be: at least its last token may be missing."""
        return len(ids) - len(self.tail) >= self.max_text_tokens

    def prompt(self, examples: Sequence[LabelledText]) -> list[int]:
        """The constant part: everything up to where a text begins."""
        start = self.text.opening + EXAMPLE_SEPARATOR + self.text.head if self.text.opening else self.text.head
        prompt = [*self.model.prefix_ids, *(self.model.encode([start])[0] if start else [])]
        words = dict(zip(self.labels, self.label_words, strict=True))
        for example, ids in zip(examples, self.texts([each.text for each in examples]), strict=True):
            prompt += [*ids, *words[example.label], *self.between]
        return prompt


def split_template(template: str) -> tuple[str, str]:
    """What stands before and after {text}. Raises BadSpec without it."""
    if template.count("{text}") != 1:
        raise BadSpec("The teacher's template needs {text} in it, exactly once.", f"For example {TEMPLATE!r}.")
    head, _, tail = template.partition("{text}")
    return head, tail


def plain_label_words(task: Task, label_words: Mapping[str, str]) -> tuple[str, ...]:
    """K words to score, in the task's label order: those given, else a label's name with "_" read as a space.

    Raises:
        BadSpec: words for something that is no label.
    """
    if strangers := sorted(set(label_words) - set(task.labels)):
        raise BadSpec(f"label_words names {strangers[0]!r}, which is no label of the task.", "Name the task's labels.")
    return tuple(label_words.get(label, label.replace("_", " ")).strip() for label in task.labels)


def lines_of_text(text: str, max_tokens: int) -> str:
    """The text on one line; of a pair each on its own, neither longer than half of what is read."""
    if not is_pair(text):
        return one_line(text, max_tokens)
    first, second = (one_line(one, max(max_tokens // 2, 1)) for one in split_pair(text))
    return f"{first}{SECOND_TEXT}{second}"

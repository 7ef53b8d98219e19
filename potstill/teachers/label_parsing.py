"""Parses a chat model's reply strictly: as a code, a label or an alias; anything else is unparsable.

If a reply may be a set of labels, each has a weight, and one invalid weight makes the whole reply unparsable.

Also computes soft labels: from token log-probabilities over the codes, from the votes of several samples, or from one
label with a given confidence. Functions of texts and numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.teachers.reply_frames import cut_end_marks, cut_thinking, unframed

# A code that the server did not list gets at least this probability.
MIN_PROBABILITY = 1e-6
# No name of a label with its weight is longer.
MAX_NAME_LENGTH = 500

CODE_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*?)\n?```$", re.DOTALL)
# Fields of a JSON object that name the label; others, such as a confidence or a reason, may stand beside them.
LABEL_FIELDS = frozenset({"label", "answer", "category", "class", "classification", "code", "prediction", "intent"})
_PAIR = re.compile(r"^[\[(]?(\w+)\s*[:.)\]\-]\s*(.+)$", re.DOTALL)
STRIP_CHARACTERS = " \t\r\n\"'`*"
_WEIGHT = re.compile(r"\d{1,3}(?:\.\d{1,6})?\s*%?")
_GAPS = re.compile(r"[\s_\-]+")


@dataclass(frozen=True)
class ParsedLabel:
    """A label parsed from a reply.

    Attributes:
        column: its index in the task's labels.
        code_offset: where its code begins in the reply, in characters; None if the reply has the label's name, or the
            code was written with escapes.
        weights: column -> share of each of several labels, which sum to one; empty for a single label.
        columns: all labels of the text in a multi-label task; `column` is then one of them, or -1.
    """

    column: int
    code_offset: int | None
    weights: Mapping[int, float] = field(default_factory=dict)
    columns: frozenset[int] | None = None


@dataclass(frozen=True)
class TokenLogprobs:
    """One generated token and its likeliest alternatives.

    Attributes:
        token: the text of the token.
        top_logprobs: token text -> natural-log probability, the generated one included if it was listed.
    """

    token: str
    top_logprobs: Mapping[str, float]


def _loose(name: str) -> str:
    return _GAPS.sub(" ", name).strip().casefold()


class LabelParser:
    """Parses replies to one prompt.

    Args:
        labels: K label names.
        codes: K codes, all of one length.
        aliases: other name -> label.
        candidates: whether a reply may be a set of labels with weights.
    """

    def __init__(
        self,
        labels: Sequence[str],
        codes: Sequence[str],
        aliases: Mapping[str, str] | None = None,
        candidates: bool = False,
    ) -> None:
        self._candidates = candidates
        self.labels = tuple(labels)
        self.codes = tuple(codes)
        self._by_code = {code: column for column, code in enumerate(codes)}
        self._by_label = {label: column for column, label in enumerate(labels)}
        loose: dict[str, int | None] = {}
        named = [*((label, label) for label in labels), *(aliases or {}).items()]
        for name, label in named:
            column = self._by_label[label]
            # Two labels that differ only in case or in spaces have no loose name.
            loose[_loose(name)] = column if loose.get(_loose(name), column) == column else None
        for code, column in self._by_code.items():
            loose.setdefault(_loose(code), column)
        self._loose = loose

    def parse(self, reply: str) -> ParsedLabel | None:
        """The label of a reply: bare, in quotes, in a code fence, as `{"label": ...}` or as "CODE: label".

        Thinking before it is left out, and frames such as "Answer: A", "[A]" and "A<eos>"; see `reply_frames`.
        """
        for piece in unframed(reply):
            found = self._parse_bare(piece)
            if found is not None:
                if piece == reply or found.code_offset is None:
                    return found
                return replace(found, code_offset=reply.rfind(piece) + found.code_offset)
        return None

    def _parse_bare(self, reply: str) -> ParsedLabel | None:
        """As `parse`, without frames."""
        bare = reply.strip()
        fenced = CODE_FENCE.match(bare)
        if fenced:
            bare = fenced[1].strip()
        if self._candidates:
            several = _weighed(bare)
            if several is not None:
                return self._set(several, reply)
        if bare.startswith("{"):
            return self._labelled(bare, reply)
        name = bare.strip(STRIP_CHARACTERS).removesuffix(".").strip(STRIP_CHARACTERS)
        return self._named(name, reply) or self._pair(name, reply)

    def _set(self, several: Sequence[tuple[str, float]], reply: str) -> ParsedLabel | None:
        """The labels of a set: all known, none twice, and weights that have a sum."""
        found = [self._named(name, reply) for name, _ in several]
        total = sum(weight for _, weight in several)
        columns = [each.column for each in found if each is not None]
        if None in found or len(set(columns)) < len(several) or not 0 < total < math.inf:
            return None
        weights = {column: weight / total for column, (_, weight) in zip(columns, several, strict=True) if weight > 0}
        top = max(weights, key=weights.__getitem__)
        return ParsedLabel(top, None, weights if len(weights) > 1 else {})

    def _labelled(self, bare: str, reply: str) -> ParsedLabel | None:
        """The label of a JSON object with one; None if another of its fields names another label."""
        record = read_object(bare)
        named = [value for name, value in (record or {}).items() if name.casefold() in LABEL_FIELDS]
        strings = [value for value in named if isinstance(value, str)]
        if record is None or not named or len(strings) < len(named):
            return None
        found = self._named(strings[0], reply)
        others = [name for name in record if name.casefold() not in LABEL_FIELDS]  # "label" may be a label's name, too
        if found is None or self.named_columns([*others, *record.values()]) != {found.column}:
            return None
        # A code that is also written elsewhere is not looked up among the tokens.
        return found if list(record) == ["label"] or reply.count(strings[0]) == 1 else replace(found, code_offset=None)

    def named_columns(self, record: Any) -> set[int]:
        """The labels that the strings of a JSON value name, field names included."""
        parts, columns = [record], set()
        while parts:
            part = parts.pop()
            if isinstance(part, dict):
                parts += [*part, *part.values()]
            elif isinstance(part, list):
                parts += part
            elif isinstance(part, str) and (found := self._named(part, part)) is not None:
                columns.add(found.column)
        return columns

    def _named(self, name: str, reply: str) -> ParsedLabel | None:
        if name in self._by_code:
            return ParsedLabel(self._by_code[name], _offset(reply.rfind(name)))
        column = self._by_label.get(name)
        if column is None:
            column = self._loose.get(_loose(name))
        return None if column is None else ParsedLabel(column, None)

    def _pair(self, name: str, reply: str) -> ParsedLabel | None:
        pair = _PAIR.match(name)
        if pair is None or pair[1] not in self._by_code:
            return None
        column = self._by_code[pair[1]]
        # The two must agree: "B: Sports" where B is another label is no answer.
        label = pair[2].strip(STRIP_CHARACTERS)
        agrees = self._by_label.get(label, self._loose.get(_loose(label))) == column
        return ParsedLabel(column, _offset(reply.find(pair[1]))) if agrees else None


def _offset(found: int) -> int | None:
    """Where a code begins; None if the reply spells it otherwise, such as with JSON's escapes."""
    return None if found < 0 else found


def read_object(reply: str) -> dict[str, Any] | None:
    """A JSON object; None for anything else, and where a field comes twice."""
    try:
        record = json.loads(reply, object_pairs_hook=_unique_fields)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a field comes twice")
    return record


def _weighed(bare: str) -> list[tuple[str, float]] | None:
    """Names and weights of `{"candidates": [{"label": ..., "weight": ...}, ...]}` or of "A=70, B=30"; else None."""
    if bare.startswith("{"):
        try:
            record = json.loads(bare)
        except (ValueError, RecursionError):
            return None
        rows = record.get("candidates") if isinstance(record, dict) and list(record) == ["candidates"] else None
        if not isinstance(rows, list) or not rows:
            return None
        pairs = [(row.get("label"), row.get("weight")) for row in rows if isinstance(row, dict) and len(row) == 2]
        sound = [
            (name, float(weight))
            for name, weight in pairs
            if isinstance(name, str)
            and isinstance(weight, int | float)
            and not isinstance(weight, bool)
            and 0 <= weight <= 1e6
        ]
        return sound if len(sound) == len(rows) else None
    parts = [part.strip(STRIP_CHARACTERS) for part in bare.strip(STRIP_CHARACTERS).removesuffix(".").split(",")]
    if max(map(len, parts)) > MAX_NAME_LENGTH:
        return None
    found: list[tuple[str, float]] = []
    for part in parts:
        name, _, weight = part.rpartition("=")
        if not name.strip() or not _WEIGHT.fullmatch(weight.strip()):
            return None
        found.append((name.strip(STRIP_CHARACTERS), float(weight.strip().rstrip("%"))))
    return found


def scores_from_logprobs(
    steps: Sequence[TokenLogprobs], code_at: int, codes: Sequence[str]
) -> tuple[float, ...] | None:
    """(K,) log-probabilities of the codes, from the tokens the reply was made of.

    Read at the token where the code begins. Tokens that are not codes are left out and the rest is scaled to one. If a
    code has several tokens, the generated path is followed; an alternative that begins several codes is shared equally
    among them. A code the server did not list gets an equal share of the probability it did not list, at most that of
    the least likely token listed and at least `MIN_PROBABILITY`.

    Args:
        steps: the reply's tokens.
        code_at: where the code begins in the reply, in characters.
        codes: K codes, all of one length.

    Returns:
        None if the tokens do not add up to the reply, or no listed token is a code.
    """
    found = _step_at(steps, code_at)
    if found is None:
        return None
    first, lead = found
    mass = dict.fromkeys(codes, 0.0)
    prefix, path = "", 1.0
    for step in steps[first:]:
        for token, log_probability in step.top_logprobs.items():
            piece = prefix + (token.lstrip(STRIP_CHARACTERS + "{:") if not prefix else token)
            _share(mass, piece, path * math.exp(min(log_probability, 0.0)), whole_only=token == step.token)
        chosen = prefix + (step.token[lead:] if not prefix else step.token)
        if not any(code.startswith(chosen) and code != chosen for code in codes):
            break
        path *= math.exp(min(step.top_logprobs.get(step.token, 0.0), 0.0))
        prefix, lead = chosen, 0
    listed = [math.exp(min(value, 0.0)) for value in steps[first].top_logprobs.values()]
    if not listed or not sum(mass.values()):
        return None
    unseen = [code for code, probability in mass.items() if probability <= 0]
    if unseen:
        share = max(0.0, 1 - sum(listed)) / len(unseen)
        mass |= dict.fromkeys(unseen, max(MIN_PROBABILITY, min(share, min(listed))))
    total = sum(mass.values())
    return tuple(math.log(max(mass[code], MIN_PROBABILITY * 1e-3) / total) for code in codes)


def locate_code(steps: Sequence[TokenLogprobs], reply: str, code_at: int, length: int) -> int | None:
    """Where the code at `code_at` of the reply is in the text of its tokens, in characters; None if that is unclear.

    A server may leave what the model thought, a code fence or blanks out of the reply, and list all its tokens.

    Args:
        steps: the reply's tokens.
        reply: what the server calls the reply.
        code_at: where the code begins in it.
        length: of the code.
    """
    written, bare = "".join(step.token for step in steps), reply.strip()
    begin = written.rfind(bare)
    if begin >= 0:
        return begin + code_at - (len(reply) - len(reply.lstrip()))
    # A token may hold a part of a character, and is then no part of the reply: what counts is what comes before it.
    return code_at if written.startswith(reply[: code_at + length]) else None


def _step_at(steps: Sequence[TokenLogprobs], at: int) -> tuple[int, int] | None:
    """The step whose token covers the character `at` of the reply, and how far into the token that is."""
    begin = 0
    for number, step in enumerate(steps):
        if begin <= at < begin + len(step.token):
            return number, at - begin
        begin += len(step.token)
    return None


def _share(mass: dict[str, float], piece: str, probability: float, whole_only: bool) -> None:
    whole = piece.rstrip(STRIP_CHARACTERS + "}.,:")
    if whole in mass:
        mass[whole] += probability
    elif whole and whole == piece and not whole_only:
        begun = [code for code in mass if code.startswith(whole)]
        for code in begun:
            mass[code] += probability / len(begun)


def scores_from_votes(columns: Sequence[int], n_labels: int) -> tuple[float, ...]:
    """(K,) log-probabilities from the labels of several samples, smoothed by one pseudo-vote shared by K labels."""
    counts = [1 / n_labels] * n_labels
    for column in columns:
        counts[column] += 1
    return tuple(math.log(count / (len(columns) + 1)) for count in counts)


def scores_from_label(column: int, n_labels: int, confidence: float) -> tuple[float, ...]:
    """(K,) log-probabilities: `confidence` (below 1) for one label, the rest shared equally."""
    rest = math.log((1 - confidence) / (n_labels - 1))
    return tuple(math.log(confidence) if i == column else rest for i in range(n_labels))


def scores_from_weights(weights: Mapping[int, float], n_labels: int, confidence: float) -> tuple[float, ...]:
    """(K,) log-probabilities: `confidence` for a set of labels together, the rest shared equally by the others.

    Args:
        weights: column -> share, which sum to one.
        n_labels: K.
        confidence: below 1.
    """
    others = n_labels - len(weights)
    within = confidence if others else 1.0
    rest = max((1 - within) / others if others else 0.0, MIN_PROBABILITY)
    shares = [max(within * weights[i], MIN_PROBABILITY) if i in weights else rest for i in range(n_labels)]
    return tuple(math.log(share / sum(shares)) for share in shares)


def parse_texts(reply: str, limit: int) -> tuple[str, ...] | None:
    """The texts of `{"texts": [...]}` or of a bare JSON list: stripped, no empty or repeated ones, at most `limit`.

    None if the reply is not such JSON.
    """
    bare = cut_end_marks(cut_thinking(reply)).strip()
    fenced = CODE_FENCE.match(bare)
    try:
        record: Any = json.loads(fenced[1] if fenced else bare)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict):
        record = record.get("texts")
    if not isinstance(record, list) or not all(isinstance(item, str) for item in record):
        return None
    return tuple(dict.fromkeys(text.strip() for text in record if text.strip()))[:limit]

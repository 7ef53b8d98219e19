"""Replaces what identifies a person by placeholders, before a text leaves this machine.

E-mail addresses, phone numbers, payment cards, IBANs, IPv4 and IPv6 addresses become placeholders such as [EMAIL];
python-stdnum checks the numbers that carry a checksum. The time grows linearly with the length of the text. Does NOT
cover names, postal addresses, dates of birth, passport or tax numbers, keys and passwords, or anything spelt out
("jo at example dot com"): Presidio (`redactor("presidio")`) finds some of these, and nothing finds all.

Phone numbers are found where they begin with + or 00, are written the North American way, begin with a trunk 0 and are
grouped or look like a mobile, or follow a word such as "call" or "Tel."; a bare run of digits is left as it is.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from potstill.errors import MissingWeights, missing_extra

RedactionMode = Literal["own", "presidio"]

# First digits and lengths of the cards people hold; one number in ten passes Luhn by chance, so that is not enough.
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[0-8]|6\d)\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}"
    r"|6\d{17,18}"
)
MIN_IBAN, MAX_IBAN = 15, 34
_GAP = " -\u00a0\u202f"

# Every pattern reads a bounded stretch, or a run that it enters at its beginning only (possessively): linear time.
_LOCAL = r"[\w.+%&'=~-]"
_EMAIL = re.compile(rf"(?<!{_LOCAL}){_LOCAL}++@(?:[\w-]++\.)+[^\W\d_]{{2,63}}+")
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d\d(?=[ \u00a0\u202f-]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![^\W_])(?<!\d[.,])\d(?=[ \-\u00a0\u202f]?\d)")
_IPV6 = re.compile(r"(?<![0-9A-Fa-f:.])[0-9A-Fa-f]{0,4}+:[0-9A-Fa-f:.]++")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")

_SEP = r"[ \u00a0\u202f.\-/()]"
_AHEAD = r"(?<![\w+])(?<![\d][.,:/-])"
_OPEN = r"(?:\((?=\d{1,6}\)))?"
_PLUS = re.compile(rf"(?<![\w+])\+ ?\(?[1-9](?:{_SEP}{{0,3}}\d){{6,14}}(?!\d)")
_ZEROS = re.compile(rf"{_AHEAD}00 ?[1-9](?:{_SEP}{{0,2}}\d){{8,13}}(?!\w)")
_AMERICAN = re.compile(
    rf"{_AHEAD}(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .\-\u00a0])[2-9]\d\d[ .\-\u00a0]\d{{4}}(?!\w|[.,-]\d)"
)
_AREA = re.compile(rf"{_AHEAD}\(\d{{2,5}}\)[ -]?\d{{3,5}}[ .-]?\d{{3,5}}(?!\w)")
_TRUNK = re.compile(rf"{_AHEAD}{_OPEN}0[1-9](?:{_SEP}{{0,2}}\d){{7,10}}(?!\w)")
_INDIAN = re.compile(rf"{_AHEAD}[6-9]\d{{4}}[ -]\d{{5}}(?!\w|[.,-]\d)")
_CUED = re.compile(rf"{_AHEAD}{_OPEN}\d(?:{_SEP}{{0,2}}\d){{6,14}}(?!\w)")
_MOBILE = re.compile(r"0(?:[4-79]\d|1[5-7])\d{7,8}")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}(?!\d|[./-]\d)")
_WINDOW = 28
_CUE = re.compile(
    r"\b(?:t[eé]l(?:ephone|[eé]fon[oe]?|efone?)?|phone|fon|call(?: \w+)?|ring|mobile?|m[oó]vil|handy|cell(?:ulare?)?"
    r"|fax|whats ?app|sms|text me|ruf\w*|nummer|dial|hotline)\b[^\d\n]{0,14}$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"(?:#|\b(?:order|bestell\w*|invoice|rechnung\w*|ticket|ref(?:erence)?|tracking|booking|case|sku|isbn|article"
    r"|artikel\w*|item|serial|account|konto\w*|customer|kunden\w*)\b)[^\d\n]{0,14}$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RedactedText:
    """A text without what was found in it.

    Attributes:
        text: the text with placeholders.
        counts: kind ("email", "phone", "card", "iban", "ipv4", "ipv6", or Presidio's names) -> how many.
    """

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)


Redactor = Callable[[str], RedactedText]
# The end of the entity that starts at a match; 0 if its validation fails.
Measure = Callable[[str, re.Match[str]], int]


def redact(text: str) -> RedactedText:
    """The text with every e-mail address, IBAN, card, IP address and phone number as a placeholder."""
    counts: Counter[str] = Counter()
    if "@" in text:
        text = _taken_out(text, "email", _EMAIL, _whole, counts)
    if text.count(":") >= 2:
        text = _taken_out(text, "ipv6", _IPV6, _ipv6_end, counts)
    if any(character.isdigit() for character in text):
        text = _taken_out(text, "iban", _IBAN, _iban_end, counts)
        text = _taken_out(text, "card", _CARD, _card_end, counts)
        text = _taken_out(text, "ipv4", _IPV4, _ipv4_end, counts)
        for pattern, measure in _PHONES:
            text = _taken_out(text, "phone", pattern, measure, counts)
    return RedactedText(text, dict(counts))


def redactor(mode: RedactionMode) -> Redactor:
    """`redact`, or `redact` followed by Microsoft Presidio, which also knows names and places (English).

    Raises:
        MissingExtra: python-stdnum or Presidio is not installed.
        MissingWeights: none of spaCy's English models is; Presidio would download one by itself.
    """
    if find_spec("stdnum") is None:
        raise missing_extra("python-stdnum", "openai", "redact = true")
    if mode == "own":
        return redact
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
        from spacy.util import is_package
    except ModuleNotFoundError:
        raise missing_extra("presidio-analyzer", "pii", 'redact = "presidio"') from None
    models = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
    model = next((name for name in models if is_package(name)), None)
    if model is None:
        raise MissingWeights(
            'redact = "presidio" needs an English model of spaCy and none is installed.',
            "Run: python -m spacy download en_core_web_lg",
        )
    settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine())

    lock = threading.Lock()

    def both(text: str) -> RedactedText:
        own = redact(text)
        with lock:  # its documentation does not promise thread safety
            found = engine.analyze(text=own.text, language="en")
        return _without_spans(own, [(each.start, each.end, str(each.entity_type)) for each in found])

    return both


def _without_spans(own: RedactedText, spans: list[tuple[int, int, str]]) -> RedactedText:
    """Spans replaced from the left, the longest first; what overlaps one already taken, or a placeholder, is left."""
    counts, kept, pieces, at = Counter(own.counts), own.text, [], 0
    placeholders = [match.span() for match in re.finditer(r"\[[A-Z0-9]+\]", kept)]
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start < at or any(start < right and left < end for left, right in placeholders):
            continue
        pieces += [kept[at:start], f"[{kind}]"]
        counts[kind.lower()] += 1
        at = end
    return RedactedText("".join([*pieces, kept[at:]]), dict(counts))


def _taken_out(text: str, kind: str, pattern: re.Pattern[str], measure: Measure, counts: Counter[str]) -> str:
    pieces, kept, at = [], 0, 0
    while match := pattern.search(text, at):
        end = measure(text, match)
        if end:
            pieces += [text[kept : match.start()], f"[{kind.upper()}]"]
            counts[kind] += 1
            kept = at = end
        else:
            at = match.start() + 1
    return "".join([*pieces, text[kept:]]) if kept else text


def _whole(text: str, match: re.Match[str]) -> int:
    return match.end()


def _run(text: str, at: int, most: int, wanted: Callable[[str], bool]) -> list[int]:
    """Where each of up to `most` wanted characters ends, from `at` on, over single gaps between them."""
    ends: list[int] = []
    while len(ends) < most and at < len(text):
        if text[at] in _GAP and ends and at + 1 < len(text) and ends[-1] == at:
            at += 1
        if not wanted(text[at]):
            break
        at += 1
        ends.append(at)
    return ends


def _closed(text: str, end: int) -> bool:
    """Whether no letter or digit goes on at `end`."""
    return end == len(text) or not text[end].isalnum()


def _iban_end(text: str, match: re.Match[str]) -> int:
    from stdnum import iban

    ends = _run(text, match.start(), MAX_IBAN, lambda character: character.isascii() and character.isalnum())
    letters = "".join(text[end - 1] for end in ends).upper()
    for length in range(len(ends), MIN_IBAN - 1, -1):
        # The length and the structure depend on the country; the checks of a country's own banks are left out.
        sums = _closed(text, ends[length - 1]) and _remainder(letters[4:length] + letters[:4]) == 1
        if sums and iban.is_valid(letters[:length], check_country=False):
            return ends[length - 1]
    return 0


def _remainder(letters: str) -> int:
    """The checksum of an IBAN (ISO 7064, modulo 97), before the slower checks; 1 if it is right."""
    return int("".join(str(int(letter, 36)) for letter in letters)) % 97


def _card_end(text: str, match: re.Match[str]) -> int:
    from stdnum import luhn

    ends = _run(text, match.start(), 19, str.isdecimal)
    digits = "".join(str(int(text[end - 1])) for end in ends)
    for length in range(len(ends), 12, -1):
        if _CARDS.fullmatch(digits, 0, length) and _closed(text, ends[length - 1]) and luhn.is_valid(digits[:length]):
            return ends[length - 1]
    return 0


def _ipv6_end(text: str, match: re.Match[str]) -> int:
    begins_inside = match.start() > 0 and text[match.start() - 1].isalnum() and match[0][0] != ":"
    run = match[0].rstrip(".")
    # Short and without a digit, such as face::bad, it is more likely code than an IPv6 address.
    if begins_inside or len(run) > 45 or run.count(":") < 2 or not (run.count(":") >= 7 or any(map(str.isdigit, run))):
        return 0
    for candidate in (run, run.removesuffix(":"), run[1:], run[1:].removesuffix(":")):
        try:
            ipaddress.IPv6Address(candidate)
        except ValueError:
            continue
        return match.start() + run.index(candidate) + len(candidate) if _closed(text, match.end()) else 0
    return 0


def _ipv4_end(text: str, match: re.Match[str]) -> int:
    return match.end() if all(int(part) <= 255 for part in match[0].split(".")) else 0


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - _WINDOW) : match.start()]


def _trunk_end(text: str, match: re.Match[str]) -> int:
    number = match[0]
    if _DATE.match(number) or _REFERENCE.search(_before(text, match)):
        return 0
    grouped = not number.isdecimal()
    return match.end() if grouped or _MOBILE.fullmatch(number) else 0


def _national_end(text: str, match: re.Match[str]) -> int:
    return 0 if _REFERENCE.search(_before(text, match)) else match.end()


def _cued_end(text: str, match: re.Match[str]) -> int:
    return 0 if _DATE.match(match[0]) or not _CUE.search(_before(text, match)) else match.end()


_PHONES: tuple[tuple[re.Pattern[str], Measure], ...] = (
    (_PLUS, _whole),
    (_ZEROS, _national_end),
    (_AMERICAN, _national_end),
    (_TRUNK, _trunk_end),
    (_AREA, _national_end),
    (_INDIAN, _national_end),
    (_CUED, _cued_end),
)

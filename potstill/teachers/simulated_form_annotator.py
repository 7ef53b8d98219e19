"""Simulated people who mark entities or answer texts: known answers are revealed at the price of a label.

The sibling of `simulated_human.py`; a simulation. Every answer is right, and none takes time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from potstill.data.free_text.pool import References
from potstill.errors import BadSpec
from potstill.evaluation.text2text.entities import Entities
from potstill.ledger.prices import Price
from potstill.registry import read_options
from potstill.teachers.base import TeacherSetup
from potstill.teachers.human_labels import HUMAN_CAPABILITIES, HumanOptions, human_price
from potstill.teachers.labelled_file import normalize_whitespace
from potstill.teachers.replay_entities import EntityReplayTeacher, FormReplaySettings, MarkedText, read_gold_entities
from potstill.teachers.replay_free_text import FreeTextReplayTeacher, read_gold_answers
from potstill.teachers.simulated_human import FROM_POOL

HUMAN_NAME = "human"
REVEALED = FormReplaySettings(
    accuracy=1.0, failure_rate=0.0, latency_ms=0.0, prompt_tokens=0, is_human=True, batch_size=64, parallel=1
)


def open_form_annotator(
    setup: TeacherSetup, hidden: Mapping[str, object]
) -> EntityReplayTeacher | FreeTextReplayTeacher | None:
    """Simulated people by the options of `human`; None if these name no simulation.

    Args:
        setup: the task, the price under `[prices]`, and the options.
        hidden: text -> its entities, or its references, for `simulate_from = "pool"`.

    Raises:
        UnknownPrice: a label has no price.
        BadSpec: "pool", and no gold is held back; or an option that simulated answers do not have.
        BadData: a file that cannot be used.
    """
    options = read_options(HumanOptions, "teacher 'human'", setup.options)
    price = human_price(setup.prices)
    return open_simulated_answers(setup, options, price, hidden) if options.simulate_from else None


def open_simulated_answers(
    setup: TeacherSetup, options: HumanOptions, price: Price, hidden: Mapping[str, object] | None
) -> EntityReplayTeacher | FreeTextReplayTeacher:
    """Simulated people from the source that `options` names.

    Args:
        setup: the task.
        options: of `human`, checked.
        price: of an answer.
        hidden: see `open_form_annotator`.

    Raises:
        BadSpec: "pool", and no gold is held back; or an option that simulated answers do not have.
        BadData: a file that cannot be used.
    """
    source = options.simulate_from
    if options.error_rate or options.annotators_per_text > 1:
        raise BadSpec("Simulated answers are right, and one a text.", "Leave error_rate and annotators_per_text out.")
    if source == FROM_POOL and not hidden and setup.will_call:
        raise BadSpec("No answer of the pool is held back to reveal.", "Name a file: simulate_from = FILE.")
    files = () if source == FROM_POOL else (source,) if isinstance(source, str) else source
    made = _annotator(setup, options, price, (hidden or {}) if source == FROM_POOL else {}, files)
    made.name, made.capabilities = HUMAN_NAME, HUMAN_CAPABILITIES
    return made


def _annotator(
    setup: TeacherSetup, options: HumanOptions, price: Price, hidden: Mapping[str, object], files: Sequence[str]
) -> EntityReplayTeacher | FreeTextReplayTeacher:
    if setup.task.form == "free":
        answers = {normalize_whitespace(text): cast(References, own)[0] for text, own in hidden.items()}
        for file in files:
            answers = read_gold_answers(setup.workspace / file, options) | answers
        return FreeTextReplayTeacher(setup, REVEALED, answers, price, "people, simulated")
    gold = {normalize_whitespace(text): MarkedText(text, cast(Entities, own)) for text, own in hidden.items()}
    for file in files:
        gold = read_gold_entities(setup.workspace / file, options, setup.task) | gold
    return EntityReplayTeacher(setup, REVEALED, gold, price, "people, simulated")

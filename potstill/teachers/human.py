"""People as a teacher: real ones, or simulated ones that reveal labels or answers which were known all along."""

from __future__ import annotations

from potstill.registry import read_options
from potstill.teachers.base import Teacher, TeacherKind, TeacherSetup
from potstill.teachers.human_labels import HUMAN_CAPABILITIES, HumanOptions, HumanTeacher, human_price
from potstill.teachers.simulated_form_annotator import open_simulated_answers
from potstill.teachers.simulated_human import open_simulated_human


def open_teacher(setup: TeacherSetup) -> Teacher:
    """`human`, priced under `[prices]` by `usd_per_label` or by `usd_per_labelling_hour`.

    With `simulate_from` it is a simulation that answers at once.

    Raises:
        UnknownPrice: neither price is there.
        BadSpec: both are, or an option that cannot be.
    """
    options = read_options(HumanOptions, "teacher 'human'", setup.options)
    price = human_price(setup.prices)
    if options.simulate_from and setup.task.form is not None:
        return open_simulated_answers(setup, options, price, setup.hidden_gold)
    if options.simulate_from:
        return open_simulated_human(setup, options, price)
    return HumanTeacher(setup, options, price)


KIND = TeacherKind(open_teacher, HUMAN_CAPABILITIES, HumanOptions)

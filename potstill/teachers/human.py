"""People as a teacher: real ones, or simulated ones that reveal labels which were known all along."""

from __future__ import annotations

from potstill.teachers.base import Setup, Teacher
from potstill.teachers.options import read_options
from potstill.teachers.people import Human, HumanOptions, price_of_people
from potstill.teachers.revealing import open_revealing


def open_teacher(setup: Setup) -> Teacher:
    """`human`, priced under `[prices]` by `usd_per_label` or by `usd_per_labelling_hour`.

    With `reveals` it is a simulation that answers at once. A procedure may hand over `known`: text -> column.

    Raises:
        UnknownPrice: neither price is there.
        BadSpec: both are, or an option that cannot be.
    """
    given = dict(setup.options)
    known = given.pop("known", None)
    options = read_options(HumanOptions, "human", given)
    price = price_of_people(setup.prices)
    if options.reveals:
        return open_revealing(setup, options, price, known)
    return Human(setup, options, price)

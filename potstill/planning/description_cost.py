"""What label descriptions cost that a teacher writes for `init --describe`, beside the budget of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potstill.data.task import DescriptionRequest
from potstill.ledger.prices import micros_to_usd
from potstill.planning.cost import CostPlan
from potstill.run.describe_labels import description_requests
from potstill.run.inputs import RunInputs
from potstill.teachers.base import Teacher


def estimate_description_usd(teacher: Teacher, requests: Sequence[DescriptionRequest]) -> tuple[float, float]:
    """(Least, most) US dollars of these requests."""
    usages = [teacher.estimate_generation_usage(request) for request in requests]
    low = sum(teacher.price.cost_micros(each.low) for each in usages)
    high = sum(teacher.price.cost_micros(each.high) for each in usages)
    return micros_to_usd(low), micros_to_usd(high)


def with_descriptions(cost: CostPlan, inputs: RunInputs, teacher: Teacher) -> CostPlan:
    """The plan with the price of the missing descriptions.

    A teacher that writes none is left out, and one on this machine, which would be loaded and timed for it.
    """
    can_write = teacher.capabilities.describes_labels and teacher.capabilities.remote
    if not can_write or inputs.task.form is not None:
        return cost
    requests = description_requests(inputs.task, inputs.pool, inputs.spec.seed)
    low, high = estimate_description_usd(teacher, requests)
    return replace(cost, n_undescribed=len(requests), low_description_usd=low, high_description_usd=high)

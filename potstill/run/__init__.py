"""Asking a teacher: each text bought once, directly or by a ticket that is fetched later, always through the ledger."""

from potstill.run.answer_cache import Had, bought_before
from potstill.run.ask import Answers, Asking, Silent, Teller

__all__ = ["Answers", "Asking", "Had", "Silent", "Teller", "bought_before"]

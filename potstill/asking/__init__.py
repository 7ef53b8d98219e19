"""Asking a teacher: each text bought once, directly or by a ticket that is fetched later, always through the ledger."""

from potstill.asking.ask import Answers, Asking, Silent, Teller
from potstill.asking.before import Had, bought_before

__all__ = ["Answers", "Asking", "Had", "Silent", "Teller", "bought_before"]

"""Asking a teacher: each text bought once, directly or by a ticket that is fetched later, always through the ledger."""

from potstill.asking.ask import Answers, Asking, Silent, Teller

__all__ = ["Answers", "Asking", "Silent", "Teller"]

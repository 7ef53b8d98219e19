"""Runs: the spec, the inputs, and buying each answer once, directly or by a job, always through the ledger."""

from potstill.run.answer_cache import CachedAnswers, find_cached_answers
from potstill.run.ask import Answers, ProgressReporter, SilentReporter, TeacherClient

__all__ = ["Answers", "CachedAnswers", "ProgressReporter", "SilentReporter", "TeacherClient", "find_cached_answers"]

"""Replies of a language model that name no label: asking ends if none of the first can be read; a few are stored.

Covers teachers asked directly and by batch. Does not parse: the teacher has said which of its answers are unparsable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from potstill.data.task import Answer
from potstill.errors import TeacherError
from potstill.ledger.store import RunStore
from potstill.run.notes import UnreadableReplies
from potstill.teachers.base import Teacher

MAX_UNREADABLE = 12  # replies in a row, from the first on, that name no label; then asking ends
N_SHOWN, SHOWN_CHARACTERS = 3, 200


class UnreadableCheck:
    """The unreadable replies of one run's teachers."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._replies: dict[str, dict[str, str]] = {}  # teacher key -> store key -> reply
        self._readable: set[str] = set()  # keys of teachers with a reply that could be read
        self._new: dict[str, list[str]] = {}  # teacher key -> replies that no note has yet

    def add(self, teacher: Teacher, answers: Mapping[str, Answer], *, new: bool = True) -> None:
        """Count answers.

        Args:
            teacher: the teacher that gave them.
            answers: by store key.
            new: they were not in the run's store before.

        Raises:
            TeacherError: none of the teacher's first `MAX_UNREADABLE` replies names a label.
        """
        if not _is_language_model(teacher):
            return
        unparsable = {key: answer.raw for key, answer in answers.items() if answer.state == "unparsable"}
        replies = self._replies.setdefault(teacher.key, {})
        replies |= unparsable
        if new:
            self._new.setdefault(teacher.key, []).extend(unparsable.values())
        if any(answer.state == "ok" for answer in answers.values()):
            self._readable.add(teacher.key)
        if teacher.key in self._readable or not unparsable or len(replies) < MAX_UNREADABLE:
            return
        self.record(teacher)
        raise TeacherError(
            f"None of the first {len(replies)} replies of {teacher.name} can be read. "
            f"It answered: {'; '.join(ascii(reply[:100]) for reply in _different(replies.values()))}.",
            "Take another model, or if the replies are labels by other names, name them under aliases; "
            "if the server itself was mended, give a new folder with -o.",
        )

    def record(self, teacher: Teacher) -> None:
        """Store a note with the unreadable replies that no note has yet, if there are any."""
        replies = self._new.pop(teacher.key, [])
        if replies:
            note = UnreadableReplies(teacher.name, len(replies), tuple(_different(replies)))
            self._store.note(note.name, note.to_json())


def _is_language_model(teacher: Teacher) -> bool:
    """Whether it writes what has to be read; a teacher on this machine's time is one, too."""
    able = teacher.capabilities
    return (able.generates or able.writes_answers) and not teacher.simulated


def _different(replies: Iterable[str]) -> list[str]:
    """The first replies that differ."""
    return [reply[:SHOWN_CHARACTERS] for reply in dict.fromkeys(replies)][:N_SHOWN]

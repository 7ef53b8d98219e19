"""Rows of a label file -> labels of a run: all of the file is checked before anything of it is taken in.

One reader a kind of file (`sheet.py`, `labelstudio.py`) makes `Entry`s of it; what can be wrong with them is told here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from potstill.data.task import Task
from potstill.errors import BadData, BadSpec, did_you_mean
from potstill.ledger.store import Annotation, AnnotationStore, LabelRequest

UNSURE = "?"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class LabelEntry:
    """A label as a file has it.

    Attributes:
        where: "line 5".
        id: what the file calls the text; "" where it does not say.
        text: the text beside it; None where it does not say.
        label: the label, `UNSURE`, or "" where it is still open.
        annotator: who; "" where the file does not say.
        seconds: how long it took; 0 where the file does not say.
    """

    location: str
    id: str
    text: str | None
    label: str
    annotator: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class ImportResult:
    """What became of a label file.

    Attributes:
        file: its name.
        new, same, changed: labels that were not there, were there, replaced another of the same person.
        open: rows without a label yet.
        surplus: labels of texts that had as many as were ordered; `disagree` of them say something else.
        late: changes of labels that the run has taken already.
    """

    file: str
    new: int
    unchanged: int
    changed: int
    unlabelled: int
    surplus: int
    n_disagreeing: int
    too_late: int

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    def to_text(self) -> str:
        """A line or two."""
        lines = [
            f"{self.new} new labels from {self.file}; {self.unchanged} were there already, {self.unlabelled} are still open."
        ]
        if self.changed:
            lines.append(f"{self.changed} labels replaced others of the same person.")
        if self.surplus:
            lines.append(
                f"{self.surplus} were left out: their texts have as many labels as were ordered, and {self.n_disagreeing} "
                "of them disagree. More labels a text: annotators = 2 under [teacher]."
            )
        if self.too_late:
            lines.append(f"{self.too_late} came too late: the run has taken those texts' labels.")
        return "\n".join(lines)


def import_labels(
    entries: Sequence[LabelEntry], labels: AnnotationStore, task: Task, *, file: str, way: str, annotator: str = ""
) -> ImportResult:
    """Check every entry, then write all labels down in one step.

    Args:
        entries: the file's rows.
        labels: the run's.
        task: whose labels are known.
        file: its name, for messages.
        way: "csv" or "label-studio".
        annotator: who, where the file does not say.

    Raises:
        BadData: a label the task has not; a text of another task or run; an id or a text that was edited; the same
            text twice by the same person. Nothing is taken in.
        BadSpec: several people label each text, and nobody's name is on a label.
    """
    asked = {question.id: question for question in labels.requests()}
    given: list[Annotation] = []
    lines: dict[tuple[str, str], str] = {}
    for entry in entries:
        question = _question(entry, asked, task, file)
        label = _label(entry, task, file)
        if label is None:
            continue
        who = entry.annotator or annotator
        if not who and question.n_annotators > 1:
            raise BadSpec(
                f"{file}, {entry.location}: nobody's name is on the label, and {question.n_annotators} people label each text.",
                "Fill the column annotator, or give --annotator NAME.",
            )
        made = Annotation(question.id, who or ANONYMOUS, label, max(0.0, entry.seconds), source=way)
        if (made.id, made.annotator) in lines:
            before = lines[made.id, made.annotator]
            raise BadData(
                f"{file}: {before} and {entry.location} have the same id and the same annotator.",
                "Keep one of them, or name who said what in the column annotator.",
            )
        lines[made.id, made.annotator] = entry.location
        given.append(made)
    known: dict[str, set[str]] = {}
    for each in labels.annotations():
        known.setdefault(each.id, set()).add(each.label)
    said = labels.add_all(given)
    found = Counter(said)
    disagree = sum(s == "surplus" and g.label not in known.get(g.id, ()) for s, g in zip(said, given, strict=True))
    return ImportResult(
        file=file,
        new=found["new"],
        unchanged=found["same"],
        changed=found["changed"],
        unlabelled=len(entries) - len(given),
        surplus=found["surplus"],
        n_disagreeing=disagree,
        too_late=found["taken"],
    )


def _question(entry: LabelEntry, asked: Mapping[str, LabelRequest], task: Task, file: str) -> LabelRequest:
    at = f"{file}, {entry.location}"
    if not entry.id:
        found = [each for each in asked.values() if entry.text is not None and _plain(each.text) == _plain(entry.text)]
        if not found:
            raise BadData(f"{at}: no id, and the text is none of this run's.", "Take the file this run exported.")
        return found[0]
    if entry.id not in asked:
        mark = entry.id.partition("-")[0]
        if mark != task.key[:6]:
            what = "was exported for another task" if len(mark) == 6 else "has an id that no run gave"
            raise BadData(f"{at}: {entry.id!r} {what}.", "Take the file that this run exported.")
        raise BadData(
            f"{at}: {entry.id!r} is no text of this run; the id was edited, or another run exported it.",
            "Take the file that this run exported.",
        )
    question = asked[entry.id]
    if entry.text is not None and _plain(entry.text) != _plain(question.text):
        raise BadData(
            f"{at}: the text is not the one that was exported as {entry.id!r}; one of them was edited.",
            "Undo that edit, or export again and copy the labels over.",
        )
    return question


def _label(entry: LabelEntry, task: Task, file: str) -> str | None:
    """The label; "" for unsure, None for a row that is still open."""
    label = entry.label.strip()
    if not label:
        return None
    if label in task.labels:
        return label
    if label == UNSURE:
        return ""
    raise BadData(f"{file}, {entry.location}: {label!r} is not a label of the task.", did_you_mean(label, task.labels))


def _plain(text: str) -> str:
    """A text as spreadsheets leave it: white space collapsed, no quote in front."""
    return " ".join(text.split()).removeprefix("'")

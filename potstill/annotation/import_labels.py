"""Imports a label file into a run: every row is checked before any label is stored.

One reader for each kind of file (`spreadsheet.py`, `labelstudio.py`, of answers `form_table.py` and
`form_labelstudio.py`) turns it into `LabelEntry` records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from potstill.annotation.session import clean_annotator_name
from potstill.data.form_annotations import form_annotations
from potstill.data.label_values import LabelMatcher, normalise_label
from potstill.data.pool.label_files import unknown_label_error
from potstill.data.task import JsonObject, Task
from potstill.data.text2text_rows import UnreadableAnswerError
from potstill.errors import BadData, BadSpec
from potstill.ledger.store import Annotation, AnnotationStore, LabelRequest

UNSURE = "?"
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class LabelEntry:
    """One row of a label file.

    Attributes:
        location: where it is in the file, as in "line 5".
        id: the text's id; "" if the file has none.
        text: the text beside it; None if the file has none.
        label: the label, `UNSURE`, or "" if unlabelled; of answers a cell that `FormAnnotations.read_cell` reads.
        annotator: the annotator's name; "" if the file has none.
        seconds: how long the label took; 0 if unknown.
    """

    location: str
    id: str
    text: str | None
    label: str
    annotator: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class LabelEntries:
    """The rows of a label file, and sentences on what of it was recognised and left out."""

    rows: tuple[LabelEntry, ...]
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """What an import changed, in labels.

    Attributes:
        file: the file's name.
        new: stored for the first time.
        unchanged: stored before, and the same.
        changed: stored in place of another label of the same annotator.
        unlabelled: rows without a label.
        surplus: not stored, since their texts have as many labels as were ordered.
        n_disagreeing: surplus labels that no stored label of their text equals.
        too_late: not stored, since the run has collected their texts' labels.
        notes: sentences on what was recognised, read in another spelling, and left out.
        noun: "labels" or "answers".
    """

    file: str
    new: int
    unchanged: int
    changed: int
    unlabelled: int
    surplus: int
    n_disagreeing: int
    too_late: int
    notes: tuple[str, ...] = ()
    noun: str = "labels"

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """A line for each count that matters."""
        noun = self.noun
        lines = [
            f"{self.new} new {noun} from {self.file}; {self.unchanged} were stored before, "
            f"{self.unlabelled} rows have no {noun.removesuffix('s')} yet."
        ]
        if self.changed:
            lines.append(f"{self.changed} {noun} replaced others of the same annotator.")
        if self.surplus:
            lines.append(
                f"{self.surplus} were left out: their texts have as many {noun} as were ordered, and "
                f"{self.n_disagreeing} of them disagree. More {noun} a text: annotators_per_text = 2 under [teacher]."
            )
        if self.too_late:
            lines.append(f"{self.too_late} came too late: the run has used the {noun} of those texts already.")
        return "\n".join([*self.notes, *lines])


def import_labels(
    entries: LabelEntries, labels: AnnotationStore, task: Task, *, file: str, source: str, annotator: str = ""
) -> ImportResult:
    """Check every entry, then store all labels in one transaction.

    Args:
        entries: the rows of the file, and what was said of it.
        labels: the run's label store.
        task: the run's task.
        file: the file's name, for messages.
        source: "csv" or "label-studio".
        annotator: whose labels they are if the file does not say.

    Raises:
        BadData: a label that is not the task's, a text of another task or run, an edited id or text, or two labels of
            one annotator for one text. No label is stored then.
        BadSpec: several annotators were ordered for each text, and a label has no annotator.
    """
    parser = _LabelParser(task) if task.form is None else _AnswerParser(task)
    new = _check_entries(entries.rows, labels, task, parser, file=file, source=source, annotator=annotator)
    stored: dict[str, set[str]] = {}
    for each in labels.annotations():
        stored.setdefault(each.id, set()).add(each.label)
    outcomes = labels.add_all(new)
    counts = Counter(outcomes)
    return ImportResult(
        file=file,
        new=counts["new"],
        unchanged=counts["same"],
        changed=counts["changed"],
        unlabelled=len(entries.rows) - len(new),
        surplus=counts["surplus"],
        n_disagreeing=sum(
            outcome == "surplus" and each.label not in stored.get(each.id, ())
            for outcome, each in zip(outcomes, new, strict=True)
        ),
        too_late=counts["collected"],
        notes=(*entries.sentences, *parser.sentences(file)),
        noun="labels" if task.form is None else "answers",
    )


def _check_entries(
    entries: Sequence[LabelEntry],
    labels: AnnotationStore,
    task: Task,
    parser: _LabelParser | _AnswerParser,
    *,
    file: str,
    source: str,
    annotator: str,
) -> list[Annotation]:
    """The labels of all entries; raises if any entry is wrong, see `import_labels`."""
    requests = {request.id: request for request in labels.requests()}
    new: list[Annotation] = []
    locations: dict[tuple[str, str], str] = {}
    for entry in entries:
        request = _find_request(entry, requests, task, file)
        label = parser.parse(entry, request, file)
        if label is None:
            continue
        name = entry.annotator or annotator
        if not name and request.n_annotators > 1:
            raise BadSpec(
                f"{file}, {entry.location}: the label has no annotator, and {request.n_annotators} annotators label "
                "each text.",
                "Fill the column annotator, or give --annotator NAME.",
            )
        try:
            name = clean_annotator_name(name or ANONYMOUS)
        except BadSpec as error:
            raise BadData(f"{file}, {entry.location}: {error.message}", error.hint) from None
        annotation = Annotation(request.id, name, label, max(0.0, entry.seconds), source=source)
        key = (annotation.id, annotation.annotator)
        if key in locations:
            raise BadData(
                f"{file}: {locations[key]} and {entry.location} have the same id and the same annotator.",
                "Keep one of them, or fill the column annotator.",
            )
        locations[key] = entry.location
        new.append(annotation)
    return new


def _find_request(entry: LabelEntry, requests: Mapping[str, LabelRequest], task: Task, file: str) -> LabelRequest:
    """The request an entry answers: by its id, or without one by its text."""
    at = f"{file}, {entry.location}"
    if not entry.id:
        text = None if entry.text is None else _normalised(entry.text)
        found = next((each for each in requests.values() if text is not None and _normalised(each.text) == text), None)
        if found is None:
            raise BadData(f"{at}: no id, and the text is none of this run's.", "Use the file this run exported.")
        return found
    if entry.id not in requests:
        prefix = entry.id.partition("-")[0]
        if prefix != task.key[:6]:
            what = "was exported for another task" if len(prefix) == 6 else "is not an id of any run"
            raise BadData(f"{at}: {entry.id!r} {what}.", "Use the file that this run exported.")
        raise BadData(
            f"{at}: {entry.id!r} is not a text of this run; the id was edited, or another run exported it.",
            "Use the file that this run exported.",
        )
    request = requests[entry.id]
    if entry.text is not None and _normalised(entry.text) != _normalised(request.text):
        raise BadData(
            f"{at}: the text is not the one that was exported as {entry.id!r}; one of them was edited.",
            "Undo that edit, or export again and copy the labels over.",
        )
    return request


class _LabelParser:
    """Reads the labels of entries."""

    def __init__(self, task: Task) -> None:
        self._matcher = LabelMatcher(task.labels)

    def parse(self, entry: LabelEntry, request: LabelRequest, file: str) -> str | None:
        """The label; "" for unsure, None if unlabelled."""
        label, matcher = normalise_label(entry.label), self._matcher
        if not label:
            return None
        if label == UNSURE and label not in matcher.labels:
            return ""
        found = matcher.find(label)
        if found is None:
            raise unknown_label_error(f"{file}, {entry.location}", label, matcher.labels)
        return found

    def sentences(self, file: str) -> tuple[str, ...]:
        """What was read in another spelling."""
        return self._matcher.sentences(file)


class _AnswerParser:
    """Reads the answers of entries in a text-to-text task."""

    def __init__(self, task: Task) -> None:
        self._form = form_annotations(task)

    def parse(self, entry: LabelEntry, request: LabelRequest, file: str) -> str | None:
        """The answer as it is stored; "" for unsure, None if there is none."""
        if entry.label.strip() in ("", UNSURE):
            return "" if entry.label.strip() else None
        try:
            return self._form.read_cell(request.text, entry.label)
        except UnreadableAnswerError as error:
            raise BadData(f"{file}, {entry.location} {error}.", self._form.mend) from None

    def sentences(self, file: str) -> tuple[str, ...]:
        """What was read in another spelling."""
        return self._form.sentences(file)


def _normalised(text: str) -> str:
    """A text as a spreadsheet may change it: white space collapsed, without the quote that protects from formulas."""
    return " ".join(text.split()).removeprefix("'")

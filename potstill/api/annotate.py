"""`annotate` and `suspects`: people label the texts a run asks about; labels that are probably wrong are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from potstill.annotation import Desk, Summary, Taken
    from potstill.annotation.label_errors import Suspects
    from potstill.run import Teller

JSON = ".json"  # Label Studio's; every other suffix is a table


@dataclass(frozen=True)
class Labelled:
    """What `annotate` did: the state of the labels, what came in from a file, what went out to one."""

    folder: Path
    summary: Summary
    taken: Taken | None = None
    written: Path | None = None
    open: int = 0
    closed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "run": str(self.folder),
            "summary": self.summary.to_json(),
            "taken": None if self.taken is None else self.taken.to_json(),
            "written": None if self.written is None else str(self.written),
            "open": self.open,
            "closed": self.closed,
        }

    def to_text(self) -> str:
        """What was done, then how the labels stand and what comes next."""
        lines = []
        if self.taken is not None:
            lines += [self.taken.to_text(), ""]
        if self.written is not None:
            lines += [f"{self.open} texts without a label are in {self.written}.", ""]
        if self.closed is not None:
            lines += [f"{self.closed} texts are asked about no more.", ""]
        lines.append(self.summary.to_text())
        if self.summary.full == self.summary.texts or self.closed is not None:
            lines += ["", "Now run the same distill command again: it takes the labels up."]
        return "\n".join(lines)


def annotate(
    run: Annotated[Path, "The folder of a run that waits for people (begun with --teacher human)."],
    *,
    export: Annotated[Path | None, "Write the texts to a table, or to FILE.json for Label Studio."] = None,
    take: Annotated[Path | None, "Read labels from such a file.", "--import"] = None,
    annotator: Annotated[str | None, "Whose labels they are; with --export, whose turn it is.", "-a"] = None,
    port: Annotated[int | None, "Where the page is; else any free port."] = None,
    enough: Annotated[bool | None, "Ask no more: the run goes on with the labels there are."] = None,
    tell: Teller | None = None,
) -> Labelled:
    """Label the texts a run asks people about: on a page in the browser, or in a file.

    Without --export, --import or --enough a page is served on this machine until Ctrl-C. Each label is on the disk
    before the page shows the next text, so nothing is lost, however it ends. Ends with who labelled how much, and how
    far people agree.

    Raises:
        BadData: the run asks no people, or a file's labels cannot be taken in; then none is.
        MissingExtra: the page's libraries are not installed.
    """
    from potstill.annotation import Desk, summarise

    desk = Desk(Path(run))
    try:
        taken = None if take is None else _take(desk, Path(take), annotator or "")
        n_open = 0 if export is None else _write(desk, Path(export), annotator or "")
        closed = desk.labels.close_rest() if enough else None
        if take is None and export is None and not enough:
            _serve(desk, port or 0, tell)
        return Labelled(Path(run), summarise(desk.labels, desk.task), taken, export, n_open, closed)
    finally:
        desk.close()


def _take(desk: Desk, path: Path, annotator: str) -> Taken:
    from potstill.annotation.import_labels import take_in
    from potstill.annotation.labelstudio import read_tasks
    from potstill.annotation.session import name_of
    from potstill.annotation.spreadsheet import read_sheet

    studio = path.suffix.lower() == JSON
    entries = read_tasks(path) if studio else read_sheet(path)
    who = name_of(annotator) if annotator else ""
    way = "label-studio" if studio else "csv"
    return take_in(entries, desk.labels, desk.task, file=path.name, way=way, annotator=who)


def _write(desk: Desk, path: Path, annotator: str) -> int:
    from potstill.annotation.labelstudio import write_tasks
    from potstill.annotation.session import name_of
    from potstill.annotation.spreadsheet import write_sheet

    who = name_of(annotator) if annotator else ""
    if path.suffix.lower() == JSON:
        return write_tasks(path, desk.labels, desk.task, who)
    return write_sheet(path, desk.labels, who)


def _serve(desk: Desk, port: int, tell: Teller | None) -> None:
    from potstill.annotation.web.app import annotate_app
    from potstill.annotation.web.server import serve

    def ready(url: str) -> None:
        if tell is not None:
            tell.say(f"Label at {url}   (Ctrl-C ends it; every label is kept)")

    serve(annotate_app(desk), port, ready)


def suspects(
    data: Annotated[Path, "The file with the texts and labels, or a potstill.toml."],
    *,
    out: Annotated[Path | None, "A table to write all of them to.", "-o"] = None,
    student: Annotated[str, "Who doubts: linear, static[:WEIGHTS], encoder[:WEIGHTS].", "-s"] = "linear",
    text: Annotated[str | None, "The column with the text; else guessed."] = None,
    label: Annotated[str | None, "The column with the label; else guessed."] = None,
    seed: Annotated[int, "Draws the folds."] = 0,
) -> Suspects:
    """List the labels of a data file that are probably wrong, before anything is taught them.

    Five students each learn four fifths of the labelled texts and judge the rest; confident learning (cleanlab) says
    which labels they contradict too surely. A list to look at, not to believe: on a file with a fifth of its labels
    wrong, some of what it lists is right.

    Raises:
        BadData: the file cannot be read, or has too few labels.
        MissingExtra: cleanlab is not installed.
    """
    from potstill.annotation.label_errors import find_suspects
    from potstill.run.inputs import take_order

    given: dict[str, Any] = {name: value for name, value in (("text", text), ("label", label)) if value}
    order = take_order(Path(data), None, {"budget": 1, "data": {**given, "test_share": 0, "validation_share": 0}})
    found = find_suspects(order.pool.labelled("train"), order.task, student=student, seed=seed)
    return found if out is None else found.write(Path(out))

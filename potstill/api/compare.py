"""`compare`: procedures, backbones, label counts and seeds side by side, and a recommendation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from potstill.data.paths import as_path, as_path_or_none, folder_name, utf8_folder
from potstill.reports.console import terminal_options

if TYPE_CHECKING:
    from potstill.data.task import JsonObject, OutputForm
    from potstill.run import ProgressReporter
    from potstill.study.cell import Recipes
    from potstill.study.records import StudyResult


@dataclass(frozen=True)
class CompareResult:
    """The study, and the folder with its page, its JSON and its CSV."""

    folder: Path
    study: StudyResult

    def to_json(self) -> JsonObject:
        """Every cell, and the recommendations."""
        from potstill.study.tables import study_record

        return study_record(self.study).to_json()

    def to_text(self) -> str:
        """The study for a terminal."""
        from potstill.study.terminal import render_study

        return render_study(self.study, page=str(self.folder / "compare.html"), **terminal_options())


def compare(
    study: Annotated[str | Path, "The study: a TOML file, such as those in studies/."],
    *,
    out: Annotated[str | Path | None, "The study's folder; else runs/NAME. The same command resumes it.", "-o"] = None,
    data: Annotated[str | Path | None, "The folder of its data paths; else the study's own."] = None,
    budget: Annotated[
        str | float | None, "US dollars for compute and model calls; else the study's.", "-b", "=USD"
    ] = None,
    max_hours: Annotated[float | None, "Stop cleanly after so many hours."] = None,
    allow_leak: Annotated[bool | None, "Go on although test texts are in train as well."] = None,
    reporter: ProgressReporter | None = None,
) -> CompareResult:
    """Compare fine-tuning, prompting and distillation over model and label counts, on your data.

    Of labels, of entities or of answers in words; prompting is for labels alone.

    Every cell of the grid is run once and stored: the same command resumes after an interruption, and an added seed,
    size or backbone runs only the new cells. Shows the quality of each cell beside its costs: labels, compute, latency,
    size. Writes compare.html, compare.json and cells.csv.

    Raises:
        BadInput: the study, its data or its backbones cannot be used; nothing was run.
        RunConflict: another process works in the folder.
    """
    from potstill.data.atomic import atomic_file
    from potstill.study.page import render_page
    from potstill.study.run_study import StudyLimits, run_study
    from potstill.study.spec import StudySpec
    from potstill.study.tables import write_tables

    spec = StudySpec.from_toml(as_path(study), {} if budget is None else {"budget": budget})
    folder = utf8_folder(as_path(out or Path("runs") / folder_name(spec.name)))
    done = run_study(
        spec,
        folder,
        study_recipes(spec.procedures, spec.form),
        StudyLimits(max_hours, bool(allow_leak), as_path_or_none(data)),
        reporter,
    )
    write_tables(done, folder)
    with atomic_file(folder / "compare.html") as path:
        path.write_text(render_page(done), encoding="utf-8")
    return CompareResult(folder, done)


def study_recipes(procedures: Iterable[str] = (), form: OutputForm | None = None) -> Recipes:
    """The recipe of each procedure of the papers, and of the other `procedures`, which are names of recipes.

    Args:
        procedures: of the study.
        form: of its answers; None for labels.

    Raises:
        UnknownName: no recipe has this name.
        BadSpec: a recipe that cannot give answers of this form.
    """
    from potstill.data.task import ANSWERS
    from potstill.errors import BadSpec
    from potstill.procedures import finetune, kd, prompt, trained_teacher_kd
    from potstill.procedures.kinds import recipe_kind

    papers: Recipes = {
        "ft": finetune.RECIPE,
        "p": prompt.RECIPE,
        "ft+kd": trained_teacher_kd.FT_KD if form is None else kd.RECIPE,
        "p+kd": trained_teacher_kd.P_KD,
        "llm+kd": kd.RECIPE,
    }
    others = {name: recipe_kind(name) for name in procedures if name not in papers}
    unable = next((name for name, recipe in others.items() if form is not None and form not in recipe.forms), None)
    if form is not None and unable is not None:
        raise BadSpec(
            f"The procedure {unable!r} cannot do a study of {ANSWERS[form]}.", "Take ft, ft+kd or llm+kd instead."
        )
    return {**papers, **others}

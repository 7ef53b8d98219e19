"""Runs a study: every cell once, into one folder; results of earlier sessions are read from it.

Each gold subset is a `Run` of its own, in which all procedures share answers and students: the teacher of FT + KD is
the model of that FT cell, and its soft labels are computed once for all students. The results of a data set are in the
store of its run without gold, under keys of all they depend on. Cells run one after the other: the seeds of torch
are the process's, and two at once would not give the same numbers again.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path

from potstill.data.pool import Pool
from potstill.data.task import content_key
from potstill.engines.kinds import open_engine
from potstill.errors import BudgetExceeded, PotstillError, RunConflict, Waiting, unknown_name
from potstill.ledger.prices import micros_to_usd
from potstill.ledger.store import RUN_FILE, RunStore, decoded
from potstill.run import ProgressReporter, SilentReporter
from potstill.run.open_teacher import open_teacher
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec
from potstill.students.base import TrainedModel
from potstill.study import sentences
from potstill.study.backbones import StudyBackbones
from potstill.study.cell import CellContext, Recipes
from potstill.study.cell_kind import cell_kind
from potstill.study.dataset import StudyDataset
from potstill.study.grid import make_grid
from potstill.study.records import Cell, CellResult, DatasetSummary, Footprint, StudyResult, footprint_key
from potstill.study.spec import StudySpec
from potstill.teachers.base import Teacher

SUBSETS_FOLDER = "subsets"
FOOTPRINT_VERSION = 2  # raised when a footprint would have other values or fields
LARGE_STUDENT_PARAMETERS = 100_000_000  # from here on a student's footprint is measured on one data set for all


@dataclass(frozen=True)
class StudyLimits:
    """Limits of a session.

    Attributes:
        max_hours: after which no cell is started.
        allow_leak: whether test texts may be in train.
        data: the folder of the data; None takes the study's own.
    """

    max_hours: float | None = None
    allow_leak: bool = False
    data: Path | None = None


@dataclass
class _Clock:
    """Durations of cells by procedure and backbone, to estimate the remaining time."""

    deadline: float | None
    pending: list[Cell]
    done: int = 0
    durations: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, cell: Cell, seconds: float) -> None:
        """Record a finished cell."""
        self.durations.setdefault((cell.procedure, cell.backbone), []).append(seconds)
        self.done += 1

    def is_late(self, cell: Cell) -> bool:
        """Whether the cell would end after the deadline, if it takes as long as the slowest of its kind."""
        longest = max(self.durations.get((cell.procedure, cell.backbone), [0.0]))
        return self.deadline is not None and time.monotonic() + longest >= self.deadline

    def remaining_seconds(self) -> float:
        """An estimate for all pending cells; one of a new kind counts as the mean of all."""
        durations = [each for those in self.durations.values() for each in those]
        mean = sum(durations) / len(durations) if durations else 0.0
        return sum(
            sum(those) / len(those) if (those := self.durations.get((cell.procedure, cell.backbone))) else mean
            for cell in self.pending[self.done :]
        )


def run_study(
    study: StudySpec,
    folder: Path,
    recipes: Recipes,
    limits: StudyLimits = StudyLimits(),
    reporter: ProgressReporter | None = None,
) -> StudyResult:
    """Run the cells of a study that have no result yet, and return the results of all.

    Args:
        study: the specification.
        folder: the study's own; made if it does not exist.
        recipes: procedure of the study -> recipe.
        limits: when to stop.
        reporter: prints progress.

    Raises:
        BadInput: the data or the backbones cannot be used; nothing was run.
        RunConflict: another process works in the folder.
    """
    for name in study.procedures:
        if name not in recipes:
            raise unknown_name("procedure", name, recipes)
    reporter = reporter or SilentReporter()
    kind, data = cell_kind(study.form), limits.data or study.folder
    backbones = {name: kind.backbones(study, name) for name in study.data}
    datasets = {name: kind.read(name, spec, study, data, limits.allow_leak) for name, spec in study.data.items()}
    sizes = {name: kind.sizes(dataset, study) for name, dataset in datasets.items()}
    for dataset in datasets.values():
        for note in kind.size_notes(dataset, study):
            reporter.info(note)
    cells = make_grid(study, backbones, sizes, {name: each.task.n_labels for name, each in datasets.items()})
    return _StudyRun(study, folder, backbones, datasets, recipes, reporter).run(cells, sizes, limits)


class _StudyRun:
    def __init__(
        self,
        study: StudySpec,
        folder: Path,
        backbones: Mapping[str, StudyBackbones],
        datasets: Mapping[str, StudyDataset],
        recipes: Recipes,
        reporter: ProgressReporter,
    ) -> None:
        self.study, self.folder, self.backbones, self.datasets = study, folder, backbones, datasets
        self.recipes, self.reporter = recipes, reporter
        self.kind = cell_kind(study.form)
        self.spec = Spec(
            budget=study.budget,
            student=self.kind.base_student,
            procedure=ComponentSpec(name=recipes["ft"].name),
            prices={**study.prices, "usd_per_hour": study.usd_per_hour},
            engine=study.engine,
        ).with_folder(study.folder)
        self.charged = {each.name: _charged(each) for each in (folder / SUBSETS_FOLDER).glob("*")}
        self.spent = sum(self.charged.values())
        self.footprints: dict[str, Footprint] = {}
        self.results: dict[Cell, CellResult] = {}
        self.keys: dict[Cell, str] = {}

    def run(self, cells: list[Cell], sizes: Mapping[str, tuple[int, ...]], limits: StudyLimits) -> StudyResult:
        """Run all cells, or as many as the limits allow."""
        began, stop_reason = time.monotonic(), ""
        with ExitStack() as stack:
            base_runs = {
                name: stack.enter_context(self._open_run(name, 0, 0, dataset.without_gold))
                for name, dataset in self.datasets.items()
            }
            self._load(cells, base_runs)
            pending = [cell for cell in cells if self.results[cell].state != "done"]
            clock = _Clock(None if limits.max_hours is None else began + 3600 * limits.max_hours, pending)
            if pending:
                self._report_egress()
                n_done = len(cells) - len(pending)
                self.reporter.info(f"{len(cells)} cells{f', {n_done} of them done already' * bool(n_done)}.")
            for _, group in groupby(pending, key=lambda cell: (cell.data, cell.n, cell.seed)):
                stop_reason = self._run_subset(list(group), base_runs, clock)
                if stop_reason:
                    n_pending = sum(result.state == "pending" for result in self.results.values())
                    self.reporter.info(f"{stop_reason} {n_pending} cells are pending: the same command goes on.")
                    break
        return self._result(sizes, stop_reason, time.monotonic() - began)

    def _load(self, cells: list[Cell], base_runs: Mapping[str, Run]) -> None:
        """Compute the key of each cell, and read the results and footprints that are stored."""
        pool_keys: dict[tuple[str, int, int], str] = {}
        for cell in cells:
            subset = (cell.data, cell.n, cell.seed if cell.n else 0)
            if subset not in pool_keys:
                pool_keys[subset] = self._subset_pool(cell, base_runs[cell.data].pool).key
            self.keys[cell] = self.kind.key(cell, self.study, self.backbones[cell.data], pool_keys[subset])
        for name, base_run in base_runs.items():
            keys = {cell: key for cell, key in self.keys.items() if cell.data == name}
            footprint_keys = {footprint_key(cell): self._footprint_store_key(cell) for cell in keys}
            stored = base_run.store.load([*keys.values(), *map(_failed, keys.values()), *footprint_keys.values()])
            read = partial(self.kind.read_result, self.datasets[name])
            for cell, key in keys.items():
                if (done := decoded(read, stored.get(key))) is not None:
                    self.results[cell] = done
                elif _failed(key) in stored:
                    self.results[cell] = CellResult("failed", reason=stored[_failed(key)])
                else:
                    self.results[cell] = CellResult("pending")
            for key, store_key in footprint_keys.items():
                if (footprint := decoded(Footprint.from_json, stored.get(store_key))) is not None:
                    self.footprints[key] = footprint

    def _subset_pool(self, cell: Cell, without_gold: Pool) -> Pool:
        dataset = self.datasets[cell.data]
        return self.kind.subset(dataset, cell.n, cell.seed, self.study) if cell.n else without_gold

    def _run_subset(self, cells: list[Cell], base_runs: Mapping[str, Run], clock: _Clock) -> str:
        """Run all cells of one gold subset; returns why the study stops here, or an empty string."""
        first = cells[0]
        base_run = base_runs[first.data]
        with ExitStack() as stack:
            run = base_run
            if first.n:
                pool = self._subset_pool(first, base_run.pool)
                run = stack.enter_context(self._open_run(first.data, first.n, first.seed, pool))
            context = CellContext(
                study=self.study,
                backbones=self.backbones[first.data],
                dataset=self.datasets[first.data],
                base_run=base_run,
                run=run,
                recipes=self.recipes,
                reporter=self.reporter,
            )
            engine = open_engine(self.study.engine, self.reporter.info)
            for cell, result in engine.map(lambda cell: (cell, self._run_cell(cell, context, clock)), cells):
                if result.state == "pending":
                    return result.reason
                self.results[cell] = result
                key = self.keys[cell]
                done = result.state == "done"
                base_run.store.save({key: result.to_json()} if done else {_failed(key): result.reason})
            # Results and soft labels are kept; the weights of a hundred students would fill the disk.
            shutil.rmtree(run.folder / "students", ignore_errors=True)
        return ""

    def _run_cell(self, cell: Cell, context: CellContext, clock: _Clock) -> CellResult:
        title = f"{cell.data}, {cell.n} labels, seed {cell.seed}: {cell.title}"
        if clock.is_late(cell):
            return CellResult("pending", reason="The time is up.")
        remaining = f"about {_duration(clock.remaining_seconds())} of work left"
        self.reporter.progress("cells", clock.done, len(clock.pending), f"{title}; {remaining}")
        before = context.committed_micros()
        context.set_allowance(self.study.limit_micros - self.spent)
        started = time.monotonic()
        try:
            result, student = self.kind.run(cell, context)
            if student is not None:
                self._measure_footprint(cell, student, context)
        except BudgetExceeded as error:
            budget = sentences.format_usd(micros_to_usd(self.study.limit_micros))
            return CellResult("pending", reason=f"The budget of {budget} does not reach further. {error.message}")
        except (Waiting, RunConflict):
            raise
        except PotstillError as error:
            result = CellResult("failed", reason=str(error))
        except Exception as error:  # an error in one cell must not stop the others
            result = CellResult("failed", reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        finally:
            self.spent += context.committed_micros() - before
        if result.state == "failed":
            self.reporter.info(f"Failed: {title}: {result.reason}")
        clock.add(cell, time.monotonic() - started)
        self.reporter.progress("cells", clock.done, len(clock.pending))
        return result

    def _measure_footprint(self, cell: Cell, student: TrainedModel, context: CellContext) -> None:
        """Measure the student's bundle, unless one with the same footprint was measured."""
        key = footprint_key(cell)
        if key in self.footprints:
            return
        on_other_data = [each for name, each in self.footprints.items() if _without_data(name) == _without_data(key)]
        large = (each for each in on_other_data if (each.parameters or 0) >= LARGE_STUDENT_PARAMETERS)
        footprint = next(large, None)
        if footprint is None:
            footprint = self.kind.footprint(student, context.dataset, f"measured on {cell.data}, {cell.title}")
        self.footprints[key] = footprint
        context.base_run.store.save({self._footprint_store_key(cell): asdict(footprint)})

    def _footprint_store_key(self, cell: Cell) -> str:
        backbones = [each for each in self.backbones[cell.data].backbones if each.name == cell.backbone]
        students = [
            [None if student is None else student.model_dump() for student in (each.finetuned, each.prompted)]
            for each in backbones
        ]
        return content_key("footprint", FOOTPRINT_VERSION, footprint_key(cell), students)

    def _open_run(self, data: str, n: int, seed: int, pool: Pool) -> Run:
        task = self.datasets[data].task
        own = [] if task.form is None else [task.key]  # what students learn depends on the metric and the instruction
        digest = content_key(pool.key, self.spec.identity(), *own)[:10]
        folder = self.folder / SUBSETS_FOLDER / f"{data}-{n}-{seed}-{digest}"
        spec = self.spec.model_copy(update={"seed": seed})
        run = Run.open(folder, spec, task, pool, QuietReporter(self.reporter))
        # What a killed session held is booked as lost when its run is opened again.
        self.spent += run.store.committed() - self.charged.get(folder.name, 0)
        return run

    def _result(self, sizes: Mapping[str, tuple[int, ...]], stop_reason: str, seconds: float) -> StudyResult:
        study = self.study
        return StudyResult(
            name=study.name,
            data={name: self._summary(name, dataset, sizes[name]) for name, dataset in self.datasets.items()},
            results=self.results,
            footprints=self.footprints,
            usd_per_label=study.usd_per_label,
            usd_per_hour=study.usd_per_hour,
            seeds=study.seeds,
            per=study.per,
            layout=study.layout,
            spec=study.model_dump(mode="json", exclude_none=True),
            charged_usd=micros_to_usd(self.spent),
            seconds=seconds,
            stop_reason=stop_reason,
            simulation=f"Simulation: the teacher replays known {_answers(study)}." if self._is_simulated() else "",
            machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        )

    def _is_simulated(self) -> bool:
        teacher = self._planned_teacher()
        return teacher is not None and teacher.simulated

    def _planned_teacher(self) -> Teacher | None:
        if self.study.teacher is None:
            return None
        task = next(iter(self.datasets.values())).task
        return open_teacher(self.spec, task, self.study.teacher)

    def _report_egress(self) -> None:
        """Say where texts go, before the first does."""
        teacher = self._planned_teacher()
        if teacher is not None and (host := teacher.metadata.host):
            self.reporter.info(f"Texts go to {host}.")

    def _summary(self, name: str, dataset: StudyDataset, sizes: tuple[int, ...]) -> DatasetSummary:
        return DatasetSummary(
            name=name,
            labels=dataset.task.labels,
            metric=self.study.metric_of(name),
            gold=self.kind.gold(dataset),
            sizes=sizes,
            unlabelled=len(dataset.pool.subset("pool")),
            train=len(dataset.pool.subset("train")),
            source=dataset.source,
            notes=(*dataset.notes, *self.kind.size_notes(dataset, self.study)),
            leaks=dataset.leaks,
            form=dataset.task.form,
        )


def _answers(study: StudySpec) -> str:
    return "labels" if study.form is None else "answers"


def _failed(key: str) -> str:
    """The key that the reason of a failed cell is stored under."""
    return f"{key} failed"


def _without_data(key: str) -> str:
    """A footprint key without the name of the data set."""
    return key.partition(" ")[2]


class QuietReporter(SilentReporter):
    """Passes on the questions of a cell's run, and nothing else."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter

    def confirm(self, question: str) -> bool:
        """The answer of the study's reporter."""
        return self._reporter.confirm(question)


def _charged(folder: Path) -> int:
    """Micro-dollars charged to a subset's run, without what a killed session held."""
    if not (folder / RUN_FILE).exists():
        return 0
    store = RunStore(folder, write=False)
    try:
        return store.totals(0).charged
    finally:
        store.close()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"

"""A study, run: every cell once, by content, into one folder; what was done before is read again.

Each gold subset is a `Run` of its own, in which all procedures share what was bought and learnt: the teacher of FT + KD
is the very model of that FT cell, and its soft labels are computed once for all students. Results of a data set lie in
the store of its run without gold, under keys of all they depend on. Cells run one after the other: the seeds of torch
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
from itertools import groupby
from pathlib import Path
from typing import Any

from potstill.data.pool import Pool
from potstill.data.task import content_key
from potstill.engines.kinds import open_engine
from potstill.errors import BudgetExceeded, PotstillError, RunConflict, Waiting
from potstill.ledger.prices import micros_to_usd
from potstill.ledger.store import RUN_FILE, RunStore
from potstill.run import ProgressReporter, SilentReporter
from potstill.run.run import Run
from potstill.run.spec import Spec
from potstill.students.base import Student
from potstill.study import sentences as words
from potstill.study.backbones import StudyBackbones, resolve_backbones
from potstill.study.cell import CellContext, Recipes, cell_key, run_cell
from potstill.study.dataset import StudyDataset, gold_subset, read_dataset, subset_sizes
from potstill.study.footprint import measure_footprint
from potstill.study.grid import make_grid
from potstill.study.records import Cell, CellResult, DatasetSummary, Footprint, StudyResult, footprint_key
from potstill.study.spec import StudySpec

SUBSETS_FOLDER = "subsets"
LARGE_STUDENT_PARAMETERS = (
    100_000_000  # parameters from which on a student is exported and measured on one data set for all
)


@dataclass(frozen=True)
class StudyLimits:
    """How far a study may go: hours of this session, and whether test texts may be in train."""

    max_hours: float | None = None
    allow_leak: bool = False
    data: Path | None = None


@dataclass
class _Clock:
    """What cells of a kind took, to say how long the rest will take, and whether one more fits."""

    until: float | None
    total: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    took: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def expect(self, cell: Cell) -> float | None:
        """Seconds a cell will take, by the slowest of its kind so far; None if none was run."""
        seen = self.took.get((cell.procedure, cell.backbone))
        return max(seen) if seen else None

    def late(self, cell: Cell) -> bool:
        """Whether the cell would end after the time is up."""
        return self.until is not None and time.monotonic() + (self.expect(cell) or 0.0) >= self.until

    def left(self, cells: list[Cell]) -> float:
        """Seconds for the cells that are left, a kind not seen yet counted as the mean of those that were."""
        seen = [each for some in self.took.values() for each in some]
        mean = sum(seen) / len(seen) if seen else 0.0
        return sum(
            sum(some) / len(some) if (some := self.took.get((cell.procedure, cell.backbone))) else mean
            for cell in cells
        )


def run_study(
    study: StudySpec,
    folder: Path,
    recipes: Recipes,
    limits: StudyLimits = StudyLimits(),
    reporter: ProgressReporter | None = None,
) -> StudyResult:
    """Run what is left of a study; the study as far as it got.

    Args:
        study: what was asked.
        folder: the study's own; made if it is not there.
        recipes: procedure of the study -> recipe.
        bounds: where to stop.
        tell: hears how it goes.

    Raises:
        BadInput: the data or the backbones cannot be used; nothing was run.
        RunBusy: another process works in the folder.
    """
    reporter = reporter or SilentReporter()
    casts = {name: resolve_backbones(study, name) for name in study.data}
    lies = limits.data or study.folder
    worlds = {name: read_dataset(name, asked, study, lies, limits.allow_leak) for name, asked in study.data.items()}
    sizes = {name: subset_sizes(world, study) for name, world in worlds.items()}
    cells = make_grid(study, casts, sizes, {name: world.task.n_labels for name, world in worlds.items()})
    return _Conduct(study, folder, casts, worlds, recipes, reporter).run(cells, sizes, limits)


class _Conduct:
    def __init__(
        self,
        study: StudySpec,
        folder: Path,
        casts: Mapping[str, StudyBackbones],
        worlds: Mapping[str, StudyDataset],
        recipes: Recipes,
        reporter: ProgressReporter,
    ) -> None:
        self.study, self.folder, self.casts, self.worlds = study, folder, casts, worlds
        self.recipes, self.tell = recipes, reporter
        record: dict[str, Any] = {"budget": str(study.budget), "student": "linear", "procedure": "finetune"}
        self.spec = Spec.from_dict(
            {**record, "prices": {**study.prices, "usd_per_hour": study.usd_per_hour}, "engine": study.engine}
        )
        self.spec._folder = study.folder
        self.charged = {each.name: _charged(each) for each in (folder / SUBSETS_FOLDER).glob("*")}
        self.spent = sum(self.charged.values())
        self.footprints: dict[str, Footprint] = {}

    def run(self, cells: list[Cell], sizes: Mapping[str, tuple[int, ...]], limits: StudyLimits) -> StudyResult:
        """All cells, or as many as the bounds allow."""
        began, stopped = time.monotonic(), ""
        results: dict[Cell, CellResult] = {}
        with ExitStack() as opened:
            bases = {name: opened.enter_context(self._open(name, 0, 0, world.without_gold)) for name, world in
                     self.worlds.items()}  # fmt: skip
            keys = self._known(cells, bases, results)
            todo = [cell for cell in cells if results[cell].state != "done"]
            until = None if limits.max_hours is None else began + 3600 * limits.max_hours
            clock = _Clock(until, len(todo))
            if todo:
                known = len(cells) - len(todo)
                self.tell.info(
                    f"{len(cells)} cells, {known} of them known already." if known else f"{len(cells)} cells."
                )
            groups = (list(some) for _, some in groupby(todo, key=lambda cell: (cell.data, cell.n, cell.seed)))
            for group in groups:
                stopped = self._group(group, bases[group[0].data], keys, results, clock, todo)
                if stopped:
                    break
            if stopped:
                left = sum(result.state == "left" for result in results.values())
                self.tell.info(f"{stopped} {left} cells are left: the same command goes on.")
        return self._told(results, sizes, stopped, time.monotonic() - began)

    def _known(self, cells: list[Cell], bases: Mapping[str, Run], results: dict[Cell, CellResult]) -> dict[Cell, str]:
        """Fill in what is in the stores; returns the key of each cell."""
        pools: dict[tuple[str, int, int], str] = {}
        keys = {}
        for cell in cells:
            of = (cell.data, cell.n, cell.seed if cell.n else 0)
            if of not in pools:
                world = self.worlds[cell.data]
                pools[of] = (
                    gold_subset(world, cell.n, cell.seed, self.study).key if cell.n else bases[cell.data].pool.key
                )
            keys[cell] = cell_key(cell, self.study, self.casts[cell.data], pools[of])
        for name, base in bases.items():
            mine = {cell: key for cell, key in keys.items() if cell.data == name}
            wanted = {footprint_key(cell): self._weight_key(cell) for cell in mine}
            found = base.store.load([*mine.values(), *(f"{key} failed" for key in mine.values()), *wanted.values()])
            for cell, key in mine.items():
                failed = found.get(f"{key} failed")
                results[cell] = CellResult("left") if failed is None else CellResult("failed", reason=failed)
                if key in found:
                    results[cell] = CellResult.from_json(found[key])
            for key, kept in wanted.items():
                if kept in found:
                    self.footprints[key] = Footprint.from_json(found[kept])
        return keys

    def _group(
        self, group: list[Cell], base: Run, keys: Mapping[Cell, str], results: dict[Cell, CellResult], clock: _Clock,
        todo: list[Cell],
    ) -> str:  # fmt: skip
        """All cells of one subset; why the study stops here, or nothing."""
        first = group[0]
        world = self.worlds[first.data]
        with ExitStack() as opened:
            run = base
            if first.n:
                pool = gold_subset(world, first.n, first.seed, self.study)
                run = opened.enter_context(self._open(first.data, first.n, first.seed, pool))
            bench = CellContext(self.study, self.casts[first.data], world, base, run, self.recipes, self.tell)
            engine = open_engine(self.study.engine, self.tell.info)
            for cell, result in engine.map(lambda cell: self._one(cell, bench, clock, todo), group):
                if result.state == "left":
                    return result.reason
                results[cell] = result
                failed = {f"{keys[cell]} failed": result.reason}
                base.store.save({keys[cell]: result.to_json()} if result.state == "done" else failed)
            # Results and soft labels stay; the weights of a hundred students would fill the disk.
            shutil.rmtree(run.folder / "students", ignore_errors=True)
        return ""

    def _one(self, cell: Cell, bench: CellContext, clock: _Clock, todo: list[Cell]) -> tuple[Cell, CellResult]:
        if clock.late(cell):
            return cell, CellResult("left", reason="The time is up.")
        self.tell.progress(
            "cells", clock.done, clock.total,
            f"{cell.data}, {cell.n} labels, seed {cell.seed}: {cell.title}; about "
            f"{_duration(clock.left(todo[clock.done :]))} of work left",
        )  # fmt: skip
        before = bench.committed_micros()
        bench.set_allowance(self.study.limit_micros - self.spent)
        started = time.monotonic()
        try:
            result, student = run_cell(cell, bench)
            if student is not None:
                self._weigh(cell, student, bench)
        except BudgetExceeded as error:
            budget = words.format_usd(micros_to_usd(self.study.limit_micros))
            return cell, CellResult("left", reason=f"The budget of {budget} does not reach further. {error.message}")
        except (Waiting, RunConflict):
            raise
        except PotstillError as error:
            result = CellResult("failed", reason=str(error))
        except Exception as error:  # a fault in one cell must not cost the others
            result = CellResult("failed", reason=f"{type(error).__name__}: {str(error).splitlines()[:1]}")
        finally:
            self.spent += bench.committed_micros() - before
        if result.state == "failed":
            self.tell.info(f"Failed: {cell.data}, {cell.n} labels, seed {cell.seed}, {cell.title}: {result.reason}")
        clock.took.setdefault((cell.procedure, cell.backbone), []).append(time.monotonic() - started)
        clock.done += 1
        self.tell.progress("cells", clock.done, clock.total)
        return cell, result

    def _weigh(self, cell: Cell, student: Student, bench: CellContext) -> None:
        """Measure the student as it ships, if none built like it was measured."""
        key = footprint_key(cell)
        if key in self.footprints:
            return
        test = bench.dataset.pool.subset("test")
        alike = [each for name, each in self.footprints.items() if name.partition(" ")[2] == key.partition(" ")[2]]
        found = next(
            (each for each in alike if (each.parameters or 0) >= LARGE_STUDENT_PARAMETERS), None
        )  # its note names its data set
        if found is None:
            found = measure_footprint(student, bench.dataset.task, test.texts, f"measured on {cell.data}, {cell.title}")
        self.footprints[key] = found
        bench.base_run.store.save({self._weight_key(cell): asdict(found)})

    def _weight_key(self, cell: Cell) -> str:
        who = [
            (each.finetuned, each.prompted) for each in self.casts[cell.data].backbones if each.name == cell.backbone
        ]
        options = [[None if named is None else named.model_dump() for named in pair] for pair in who]
        return content_key("footprint", 1, footprint_key(cell), options)

    def _open(self, data: str, n: int, seed: int, pool: Pool) -> Run:
        mark = content_key(pool.key, self.spec.identity())[:10]
        folder = self.folder / SUBSETS_FOLDER / f"{data}-{n}-{seed}-{mark}"
        spec = self.spec.model_copy(update={"seed": seed})
        spec._folder = self.study.folder
        run = Run.open(folder, spec, self.worlds[data].task, pool, QuietReporter(self.tell))
        # What a killed session was at is booked as lost only now.
        self.spent += run.store.committed() - self.charged.get(folder.name, 0)
        return run

    def _told(
        self, results: dict[Cell, CellResult], sizes: Mapping[str, tuple[int, ...]], stopped: str, seconds: float
    ) -> StudyResult:
        facts = {}
        for name, world in self.worlds.items():
            facts[name] = DatasetSummary(
                name=name,
                labels=world.task.labels,
                metric=self.study.data[name].metric or self.study.metric,
                gold=world.pool.subset("test").gold,
                sizes=sizes[name],
                unlabelled=len(world.pool.subset("pool")),
                train=len(world.pool.subset("train")),
                source=world.source,
                notes=world.notes,
                leaks=world.leaks,
            )
        teacher = self.study.teacher
        simulated = teacher is not None and teacher.kind == "replay"
        return StudyResult(
            name=self.study.name,
            data=facts,
            results=results,
            footprints=self.footprints,
            usd_per_label=self.study.usd_per_label,
            usd_per_hour=self.study.usd_per_hour,
            seeds=self.study.seeds,
            per=self.study.per,
            layout=self.study.layout,
            spec=self.study.model_dump(mode="json", exclude_none=True),
            charged_usd=micros_to_usd(self.spent),
            seconds=seconds,
            stop_reason=stopped,
            simulation="Simulation: the teacher replays labels that were known." if simulated else "",
            machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        )


class QuietReporter(SilentReporter):
    """Passes on what a cell's run has to say of money and answers, and keeps its training to itself."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._tell = reporter

    def confirm(self, question: str) -> bool:
        """As the study's own teller."""
        return self._tell.confirm(question)


def _charged(folder: Path) -> int:
    """Micro-dollars a subset has cost; what a killed session held is not in it."""
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

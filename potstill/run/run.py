"""The neck: one attempt, one folder, five verbs - `ask`, `write`, `learn`, `judge`, `note`.

Every verb looks in the store first, so running the same recipe again takes up where it was cut: recipes hold no
resume code. Everything that costs goes through the ledger here. A run decides nothing: what is asked, learnt and
when to stop is the recipe's.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from potstill.data.atomic import atomic_folder
from potstill.data.pool import Pool, Subset
from potstill.data.task import GenerationRequest, LabelledText, Task, content_key
from potstill.engines.kinds import open_engine
from potstill.errors import BadSpec, PotstillError, RunNotFound, SpecMismatch
from potstill.evaluation.calibration import Calibration
from potstill.evaluation.metrics import EvaluationResult
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase, Purpose, Usage, micros_to_usd
from potstill.ledger.store import RUN_FILE, AnswerCache, RunStore
from potstill.run import Answers, ProgressReporter, SilentReporter, TeacherClient, notes
from potstill.run.evaluate_student import evaluate_student
from potstill.run.notes import NoteRecord, TimedNote
from potstill.run.spec import ComponentSpec, Spec, diff_specs
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import CLASS_WEIGHTS, FeatureHint, Floats, Student, StudentConfig, TrainingData
from potstill.students.kinds import revision
from potstill.students.training_data import apply_class_weights
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.kinds import teacher_kind

RecordT = TypeVar("RecordT", bound=NoteRecord)


@dataclass(frozen=True)
class TeacherRecord:
    """Who taught the student: the teacher, how its scores are read, and what it said of the pool."""

    teacher: Teacher
    calibration: Calibration
    answers: Answers


class Run:
    """One attempt. Make it with `Run.open`, and use it in a `with` block."""

    def __init__(self, folder: Path, spec: Spec, task: Task, pool: Pool, reporter: ProgressReporter) -> None:
        self.folder = folder
        self.spec = spec
        self.task = task
        self.pool = pool
        self.reporter = reporter
        self._fresh = not (folder / RUN_FILE).exists()
        self.store = RunStore(folder, write=True)
        try:
            self._check_same()
            engine = open_engine(spec.engine, reporter.info)
            self.ledger = Ledger(self.store, spec.limit_micros, reporter.info)
            self._cache = AnswerCache(folder.absolute().parent) if spec.cache else None
            self.asker = TeacherClient(task, self.store, self.ledger, self._cache, reporter, engine)
            self.note(notes.Opened(micros_to_usd(spec.limit_micros)))
        except BaseException:
            self.store.close()
            raise
        self.teacher_record: TeacherRecord | None = None
        self.simulated_teachers: set[str] = set()  # names of the teachers asked here that only replay what was known
        self._left = 0
        # Held weakly: a loop learns dozens of students and returns one.
        self._learnt: dict[int, tuple[ref[Student], str]] = {}
        self._order: dict[str, None] = {}

    @classmethod
    def open(cls, folder: Path, spec: Spec, task: Task, pool: Pool, reporter: ProgressReporter | None = None) -> Self:
        """The run in `folder`, begun now or taken up again.

        Args:
            folder: made if it does not exist.
            spec: all that was asked.
            task: what to decide.
            pool: the texts.
            tell: hears what happens.

        Raises:
            NotARun: the folder holds something else.
            RunBusy: another process works in it.
            SpecChanged: it was begun with other options or data; the message names them.
        """
        if folder.exists() and not folder.is_dir():
            raise RunNotFound(f"{folder} is a file.", "Give a new folder with -o.")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / RUN_FILE).exists():
            raise RunNotFound(f"{folder} is not a run and is not empty.", "Give a new folder with -o.")
        return cls(folder, spec, task, pool, reporter or SilentReporter())

    def _check_same(self) -> None:
        asked = {**self.spec.identity(), "data": self.pool.key, "task": self.task.key}
        begun = self.store.get_meta("identity")
        if begun is None:
            self.store.set_meta("identity", asked)
            self.store.set_meta("task", self.task.to_json())
        elif begun != asked:
            changes = diff_specs(begun, asked)
            raise SpecMismatch(
                f"{self.folder} was begun with other options: {'; '.join(changes[:3])}.",
                "Give a new folder with -o, or the old options.",
            )
        self.store.set_meta("limit_micros", self.spec.limit_micros)

    def variant(self, **over: Any) -> Self:
        """This attempt with other fields of its spec (student, teacher, procedure, seed), on the same pool and ledger.

        What one variant bought or learnt is in the store for the next: for studies that compare recipes on one pool.
        """
        other = copy(self)
        other.spec = self.spec.model_copy(update=over)
        other.teacher_record = None
        other._learnt, other._order = {}, {}
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        refused = kind is not None and issubclass(kind, PotstillError)
        in_vain = refused and self._fresh and not self.store.calls()
        if self._cache is not None:
            self._cache.close()
        self.store.close()
        if in_vain:
            shutil.rmtree(self.folder)  # begun a moment ago, with options that cannot be: as if it never was

    # --- whom to ask, whom to teach ----------------------------------------------------------------------

    def teacher(self, examples: Sequence[LabelledText] = (), **options: Any) -> Teacher:
        """The spec's teacher, showing `examples` in its prompt; `options` are laid over the spec's own."""
        named = self.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
        self.store.set_meta("examples", [[each.text, each.label] for each in examples])  # `bench` opens it like this
        return self.open_teacher(named, examples, **options)

    def open_teacher(self, named: ComponentSpec, examples: Sequence[LabelledText] = (), **options: Any) -> Teacher:
        """Any teacher on the menu."""
        return open_teacher(self.spec, self.task, named, examples, folder=self.folder, **options)

    @property
    def training_reserve(self) -> int:
        """Micro-dollars that asking leaves for training."""
        return training_reserve(self.spec)

    # --- the five verbs ----------------------------------------------------------------------------------

    def ask(
        self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose = "teach", reserve_micros: int = 0
    ) -> Answers:
        """What `teacher` says of each text; asked once, then remembered.

        Asking stops quietly when the next call does not fit into the budget less `leave_micros`: the rest
        is "unasked". Raises Waiting where the answers have to be fetched later.
        """
        if teacher.simulated:
            self.simulated_teachers.add(teacher.name)
        asked = self.asker.ask(teacher, texts, purpose=purpose, reserve_micros=reserve_micros)
        if asked.n_new:
            by_state = asked.answers.state_counts
            self.note(notes.AskFinished(purpose, teacher.name, asked.n_new, by_state, asked.seconds))
        return asked.answers

    def copy_answers(self, teacher: Teacher, texts: Sequence[str], other: Run) -> None:
        """Let another run of the same task have what `teacher` said here of these texts, without paying again."""
        self.asker.copy(teacher, texts, other.store)

    def write(self, teacher: Teacher, brief: GenerationRequest, *, reserve_micros: int = 0) -> tuple[LabelledText, ...]:
        """Texts that `teacher` writes to the brief; asked once, then remembered.

        Raises:
            OverBudget: its bound does not fit into the budget less `leave_micros`.
        """
        if teacher.simulated:
            self.simulated_teachers.add(teacher.name)
        return self.asker.generate(teacher, brief, reserve_micros)

    def learn(
        self,
        texts: Sequence[str],
        targets: Floats,
        *,
        weights: Floats | None = None,
        noisy: NDArray[np.bool_] | None = None,
        student: ComponentSpec | None = None,
        purpose: Purpose = "train",
        init_from: Student | FeatureHint | None = None,
    ) -> Student:
        """A student taught from `texts` and `targets` (N, K); trained once, then remembered.

        `weights` (N,) says how much a row counts, `doubtful` (N,) whether its target may be wrong, `start` a student of
        this run whose weights it goes on from, or a likeness to one's vectors; see `Lesson`.

        Training may use all the money that is free, stops cleanly when that is used up, and is charged the
        time it took.

        Raises:
            OverBudget: there is not a micro-dollar left to train with.
        """
        named = student or self.spec.student
        like, init_from = (init_from, None) if isinstance(init_from, FeatureHint) else (None, init_from)
        begun = [] if init_from is None else [self.student_key(init_from)]
        begun += [] if like is None else [f"{self.student_key(like.teacher)} {like.loss_weight}"]
        begun += [f"revision {turn}"] if (turn := revision(named.kind)) > 1 else []
        key = content_key(
            "learn", named.name, named.options, self.spec.seed, _digest(texts, targets, weights, noisy), *begun
        )
        kind = STUDENTS.resolve(named.kind)
        folder = self.folder / "students" / key
        if key in self.store.load([key]) and folder.is_dir():
            return self._remember(kind.load(folder), key)
        wish = named.options.get(CLASS_WEIGHTS)
        weights = apply_class_weights(targets, weights, wish, self.task.labels, multi=self.task.kind == "multi")
        made = kind(
            StudentConfig(
                labels=self.task.labels,
                weights=named.model,
                descriptions=self.task.descriptions,
                options=named.options,
                kind=self.task.kind,
            )
        )
        made.check_requirements()
        rates = self.spec.compute_rates
        purchase = Purchase("compute", purpose, f"train {named.name} on {len(texts)} texts", len(texts))
        with self.ledger.hold_compute(max(self.ledger.free - self._left, 1), rates, purchase) as hold:
            made.fit(
                TrainingData(
                    texts=texts,
                    targets=np.asarray(targets, dtype=np.float32),
                    sample_weight=weights,
                    noisy=noisy,
                    init_from=init_from,
                    hint=like,
                    seed=self.spec.seed,
                    time_limit_s=hold.deadline_s,
                    progress=lambda share, words: self.reporter.progress(f"training {named.name}", share, 1.0, words),
                )
            )
            with atomic_folder(folder) as unfinished:
                made.save(unfinished)
            hold.settle({key: {"student": named.name, "n": len(texts), "seconds": hold.seconds}})
        return self._remember(made, key)

    @contextmanager
    def reserving(self, micros: int) -> Iterator[None]:
        """What is learnt in this block leaves so many micro-dollars for what comes after it."""
        before, self._left = self._left, micros
        try:
            yield
        finally:
            self._left = before

    def judge(self, student: Student, part: Subset, name: str = "") -> EvaluationResult:
        """How good `student` is on a labelled part; computed once, then remembered. Measuring here costs nothing."""
        learnt = self.student_key(student)
        key = content_key("judge", learnt, _digest(part.texts, part.gold))
        known = self.store.load([key])
        if key not in known:
            held_out = self.pool.subset("validation")
            known = {key: evaluate_student(self.task, student, part, held_out).to_json()}
            self.store.save(known)
            self.note(notes.Judged(name, len(part.texts), known[key]["accuracy"]["value"]))
        return EvaluationResult.from_json(known[key])

    def note(self, record: NoteRecord) -> None:
        """Append a note for the report."""
        self.store.note(record.name, record.to_json())

    def notes(self) -> list[TimedNote]:
        """All notes of the run, oldest first."""
        return notes.read_notes(self.store)

    def record_teacher(self, teacher: Teacher, reading: Calibration, answers: Answers) -> None:
        """Say who taught, and how its scores were read, so that the teacher can be measured the same way."""
        self.teacher_record = TeacherRecord(teacher, reading, answers)
        self.note(notes.TeacherRecorded(teacher.name, reading.offsets, reading.temperature))

    def _remember(self, student: Student, key: str) -> Student:
        self._learnt[id(student)] = (ref(student), key)
        self._order[key] = None
        return student

    def student_key(self, student: Student) -> str:
        """The content key under which `learn` remembers this student."""
        alive, key = self._learnt[id(student)]
        if alive() is not student:
            raise KeyError("this student was not learnt here")
        return key

    def training_seconds(self, student: Student) -> float:
        """How long `learn` took for this student, whenever that was."""
        key = self.student_key(student)
        return float(self.store.load([key])[key]["seconds"])

    def decide(self, record_type: type[RecordT], compute: Callable[[], RecordT], *key_parts: Any) -> RecordT:
        """A decision that depends on more than content (money left, time taken): made once, stored and noted.

        Args:
            record_type: the decision's record; its `name` is a part of the key.
            compute: makes the decision.
            key_parts: JSON values that tell this decision from others of its type.

        Returns:
            The stored decision if there is one, else that of `compute`.
        """
        key = content_key("decide", record_type.name, *key_parts)
        found = self.store.load([key])
        if key in found:
            return record_type.from_json(found[key])
        decision = compute()
        self.store.save({key: decision.to_json()})
        self.note(decision)
        return decision

    @property
    def student_keys(self) -> tuple[str, ...]:
        """The content keys of all that was learnt through this object, in order."""
        return tuple(self._order)


def open_teacher(
    spec: Spec,
    task: Task,
    named: ComponentSpec,
    examples: Sequence[LabelledText] = (),
    *,
    asks: bool = True,
    folder: Path | None = None,
    **options: Any,
) -> Teacher:
    """A teacher of the menu, opened for a task; `options` are laid over its own. Without `asks` only to plan.

    `folder` is the run's, for a teacher that leaves something in it.
    """
    kind = teacher_kind(named.kind)
    if task.kind not in kind.capabilities.task_kinds:
        raise BadSpec(
            f"The teacher {named.name!r} cannot answer about a task of the kind {task.kind!r}.",
            "Take another with --teacher, or --procedure finetune.",
        )
    setup = TeacherSetup(
        task=task,
        model=named.model,
        examples=tuple(examples),
        options={**named.options, **options},
        prices=spec.prices,
        workspace=spec.folder,
        seed=spec.seed,
        will_call=asks,
        run_folder=folder,
    )
    return kind(setup)


def training_reserve(spec: Spec) -> int:
    """Micro-dollars that asking leaves for training: half an hour of this machine, at most two fifths of the budget."""
    half_hour = spec.compute_rates.cost_micros(Usage(seconds=1800))
    return min(half_hour, spec.limit_micros * 2 // 5)


def _digest(texts: Sequence[str], *arrays: NDArray[Any] | None) -> str:
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    for array in arrays:
        if array is not None:
            digest.update(str((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]

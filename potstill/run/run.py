"""A run: one attempt at a task in one folder.

Its verbs are `ask`, `generate`, `learn`, `evaluate`, `compute_once` and `note`.

Every verb looks in the store first, so that running the same recipe again continues where it was interrupted: recipes
have no resume code. Every purchase goes through the ledger here. What is asked and learnt, and when to stop, is the
recipe's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import ref

import numpy as np

from potstill.data.atomic import atomic_folder, remove_unfinished
from potstill.data.pool import Pool, Subset
from potstill.data.task import GenerationRequest, LabelledText, Task, content_key
from potstill.engines.kinds import open_engine
from potstill.errors import PotstillError, RunNotFound, SpecMismatch
from potstill.evaluation.calibration import Calibration
from potstill.evaluation.metrics import EvaluationResult
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase, Purpose, micros_to_usd
from potstill.ledger.store import RUN_FILE, AnswerCache, RunStore, decoded, holds_no_run, remove_start
from potstill.run import Answers, ProgressReporter, SilentReporter, TeacherClient, notes
from potstill.run.ask import AskedTexts, AskResult
from potstill.run.evaluate_student import evaluate_student
from potstill.run.learn_record import LearnRecord, training_digest
from potstill.run.notes import NoteRecord, TimedNote
from potstill.run.open_teacher import open_teacher, training_reserve
from potstill.run.spec import ComponentSpec, Spec, diff_specs
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import (
    CLASS_WEIGHTS,
    FeatureHint,
    Floats,
    RowTrust,
    Student,
    StudentConfig,
    TrainedModel,
    TrainingData,
)
from potstill.students.kinds import revision
from potstill.students.saved_student import load_saved
from potstill.students.training_data import apply_class_weights
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TrainedStudent

RecordT = TypeVar("RecordT", bound=NoteRecord)
ModelT = TypeVar("ModelT", bound=TrainedModel)


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher of a student: the teacher, the calibration of its scores, and its answers about the pool."""

    teacher: Teacher
    calibration: Calibration
    answers: AskedTexts


class Run:
    """One attempt. Make it with `Run.open`, and use it in a `with` block."""

    def __init__(self, folder: Path, spec: Spec, task: Task, pool: Pool, reporter: ProgressReporter) -> None:
        self.folder = folder
        self.spec = spec
        self.task = task
        self.pool = pool
        self.reporter = reporter
        self._in_fold = False
        self._made_folder, self._is_new = not folder.exists(), holds_no_run(folder)
        self.store = RunStore(folder, write=True)
        self.store.report = reporter.info
        remove_unfinished(folder)
        remove_unfinished(folder / "students")
        try:
            self.is_finished = self._check_same()
            engine = open_engine(spec.engine, reporter.info)
            self.ledger = Ledger(self.store, spec.limit_micros, reporter.info)
            self.ledger.is_closed = self.is_finished
            self._cache = AnswerCache(folder.absolute().parent, reporter.info) if spec.cache else None
            self.client = TeacherClient(task, self.store, self.ledger, self._cache, reporter, engine)
            self.note(notes.Opened(micros_to_usd(spec.limit_micros)))
        except BaseException:
            self.store.close()
            raise
        self.teacher_record: TeacherRecord | None = None
        self.simulated_teachers: set[str] = set()  # names of the teachers asked here that only replay known labels
        # Weak references: a loop trains dozens of students and returns one.
        self._keys_by_id: dict[int, tuple[ref[TrainedModel], str]] = {}
        self._student_keys: dict[str, None] = {}

    @classmethod
    def open(cls, folder: Path, spec: Spec, task: Task, pool: Pool, reporter: ProgressReporter | None = None) -> Self:
        """Start a run in `folder`, or resume the run that is there: after a crash, a kill, or exit code 75.

        Nothing has to be restored. The recipe starts from the top, and each verb returns what `RunStore` already has
        under its key, so no call is paid twice; a provider's batch that was submitted is fetched, not submitted again.

        Args:
            folder: made if it does not exist; with a run in it, that run is resumed.
            spec: the options.
            task: the task.
            pool: the texts.
            reporter: shows the progress.

        Raises:
            RunNotFound: the folder contains something else.
            RunBusy: another process works in it.
            SpecMismatch: the run was started with other options or data; the message names them.
        """
        if folder.exists() and not folder.is_dir():
            raise RunNotFound(f"{folder} is a file.", "Give a new folder with -o.")
        if folder.is_dir() and not (folder / RUN_FILE).exists() and not holds_no_run(folder):
            raise RunNotFound(f"{folder} is not a run and is not empty.", "Give a new folder with -o.")
        return cls(folder, spec, task, pool, reporter or SilentReporter())

    def _check_same(self) -> bool:
        """Check that the options and the data are those it was begun with.

        Returns:
            Whether it was finished with this budget or a larger one.
        """
        identity = {**self.spec.identity(), "data": self.pool.key, "task": self.task.key}
        stored = self.store.get_meta("identity")
        if stored is None:
            begun = {"identity": identity, "task": self.task.to_json(), "limit_micros": self.spec.limit_micros}
            self.store.set_metas(begun)
            return False
        if stored != identity:
            changes = diff_specs(stored, identity)
            raise SpecMismatch(
                f"{self.folder} was begun with other options: {'; '.join(changes[:3])}.",
                "Give a new folder with -o, or the old options.",
            )
        # Runs of older versions do not say with which budget they were finished.
        finished_limit = self.store.get_meta("finished_limit_micros") or self.store.get_meta("limit_micros") or 0
        self.store.set_metas({"task": self.task.to_json(), "limit_micros": self.spec.limit_micros})
        return self.store.get_meta("finished") is not None and self.spec.limit_micros <= finished_limit

    def set_finished(self, student: TrainedModel) -> None:
        """Store that the run is finished with this student: with the same budget it buys nothing more."""
        self.store.check_there()
        self.store.set_metas({"finished_limit_micros": self.spec.limit_micros, "finished": self.student_key(student)})

    def variant(self, **overrides: Any) -> Self:
        """The same attempt with other fields of its spec (student, teacher, procedure, seed), same pool and ledger.

        The variants share the store, for studies that compare recipes on one pool.
        """
        other = copy(self)
        other.spec = self.spec.model_copy(update=overrides)
        other.teacher_record = None
        other._keys_by_id, other._student_keys = {}, {}
        return other

    def fold(self, pool: Pool) -> Self:
        """The same attempt on a part of its pool, for cross-validation: it notes nothing, and trains to measure."""
        other = self.variant()
        other.pool, other.reporter, other._in_fold = pool, SilentReporter(), True
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None = None, at: TracebackType | None = None
    ) -> None:
        if isinstance(error, KeyboardInterrupt) and (lost := self.ledger.interruption()):
            error.add_note(lost)
        refused = kind is not None and issubclass(kind, PotstillError)
        unused = refused and self._is_new and not self.store.calls()
        if self._cache is not None:
            if refused:
                with suppress(PotstillError):  # also if the run's folder is gone: what was paid for is kept there
                    self.client.publish_answers()
            self._cache.close()
        self.store.close()
        if unused:
            remove_start(self.folder, made=self._made_folder)

    # --- teachers ---------------------------------------------------------------------------------------

    def teacher(
        self, examples: Sequence[LabelledText] = (), *, student: TrainedStudent | None = None, **options: Any
    ) -> Teacher:
        """The spec's teacher, with `examples` in its prompt, or with a `student`; `options` override the spec's."""
        named = self.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
        self.store.set_meta("examples", [[each.text, each.label] for each in examples])  # read by `potstill bench`
        return self.open_teacher(named.with_options(options), examples, student=student)

    def open_teacher(
        self,
        named: ComponentSpec,
        examples: Sequence[LabelledText] = (),
        *,
        hidden_gold: Mapping[str, object] | None = None,
        student: TrainedStudent | None = None,
    ) -> Teacher:
        """Any teacher of the registry, opened for this run."""
        return open_teacher(
            self.spec, self.task, named, examples, folder=self.folder, hidden_gold=hidden_gold, student=student
        )

    def record_teacher(self, teacher: Teacher, calibration: Calibration, answers: AskedTexts) -> None:
        """Record the student's teacher and the calibration of its scores, so that it is evaluated the same way."""
        self.teacher_record = TeacherRecord(teacher, calibration, answers)
        self.note(notes.TeacherRecorded(teacher.name, calibration.offsets, calibration.temperature))

    def reserve_training(self) -> AbstractContextManager[None]:
        """Inside the block, purchases leave the money that training needs; see `training_reserve`."""
        return self.ledger.reserve("training", training_reserve(self.spec))

    # --- the verbs --------------------------------------------------------------------------------------

    def ask(self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose = "teach") -> Answers:
        """The teacher's answers about the texts; each is asked once, then read from the store.

        Asking stops if the next call does not fit into the available money: the rest of the texts is "unasked". Raises
        Waiting if the answers have to be fetched later.
        """
        return self.fetch_answers(teacher, texts, purpose=purpose).scores(self.task.n_labels)

    def fetch_answers(self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose = "teach") -> AskResult:
        """As `ask`, for answers of any form."""
        if teacher.simulated:
            self.simulated_teachers.add(teacher.name)
        asked = self.client.ask(teacher, texts, purpose=purpose)
        if asked.n_new:
            self.note(notes.AskFinished(purpose, teacher.name, asked.n_new, asked.by_state, asked.seconds))
        return asked

    def copy_answers(self, teacher: Teacher, texts: Sequence[str], other: Run) -> None:
        """Copy the teacher's answers into another run of the same task, without paying again."""
        self.client.copy(teacher, texts, other.store)

    def generate(self, teacher: Teacher, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """Texts that the teacher generates; requested once, then read from the store.

        Raises:
            BudgetExceeded: the upper bound of the call does not fit into the money that is available.
        """
        if teacher.simulated:
            self.simulated_teachers.add(teacher.name)
        return self.client.generate(teacher, request)

    def learn(
        self,
        texts: Sequence[str],
        targets: Floats,
        *,
        trust: RowTrust = RowTrust(),  # noqa: B008 - frozen
        student: ComponentSpec | None = None,
        purpose: Purpose = "train",
        init_from: Student | None = None,
        hint: FeatureHint | None = None,
    ) -> Student:
        """Train a student; trained once, then loaded from the run's folder.

        Training may use all available money, stops at that deadline, and is charged the time it took.

        Args:
            texts: N texts.
            targets: (N, K) label probabilities.
            trust: sample weights of the rows, and which targets may be wrong.
            student: its kind and options; None takes the spec's.
            purpose: what the training is for.
            init_from: a student of this run whose weights are the initial ones.
            hint: adds a loss that draws the student's vectors to those of a student of this run.

        Raises:
            BudgetExceeded: no money is available.
        """
        weights, noisy = trust.weights, trust.noisy
        named = student or self.spec.student
        key_parts = [] if init_from is None else [self.student_key(init_from)]
        key_parts += [] if hint is None else [f"{self.student_key(hint.teacher)} {hint.loss_weight}"]
        key_parts += [f"revision {number}"] if (number := revision(named.kind)) > 1 else []
        digest = training_digest(texts, targets, weights, noisy)
        key = content_key("learn", named.name, named.options, self.spec.seed, digest, *key_parts)
        class_weights = named.options.get(CLASS_WEIGHTS)
        multi = self.task.kind == "multi"
        data = TrainingData(
            texts=texts,
            targets=np.asarray(targets, dtype=np.float32),
            sample_weight=apply_class_weights(targets, weights, class_weights, self.task.labels, multi=multi),
            noisy=noisy,
            init_from=init_from,
            hint=hint,
            seed=self.spec.seed,
            progress=lambda share, detail: self.reporter.progress(f"training {named.name}", share, 1.0, detail),
        )
        kind: type[Student] = STUDENTS.resolve(named.kind)
        return self.train_once(
            kind, named, key, len(texts), lambda s, limit: s.fit(replace(data, time_limit_s=limit)), purpose
        )

    def train_once(
        self,
        kind: type[ModelT],
        named: ComponentSpec,
        key: str,
        n_texts: int,
        fit: Callable[[ModelT, float | None], object],
        purpose: Purpose = "train",
    ) -> ModelT:
        """The student stored under `key`, or one that `fit` trains within a number of seconds, on held money."""
        folder = self.folder / "students" / key
        if key in self.store.load([key]) and folder.is_dir():
            return self._register(load_saved(kind, folder), key)
        task = self.task
        own = (task.kind, task.instruction, task.output)
        student = kind(StudentConfig(task.labels, named.model, task.descriptions, named.options, *own))
        student.check_requirements()
        purpose = "measure" if self._in_fold else purpose
        purchase = Purchase("compute", purpose, f"train {named.name} on {n_texts} texts", n_texts, mode="train")
        with self.ledger.hold_compute(max(self.ledger.available, 1), self.spec.compute_rates, purchase) as hold:
            fit(student, hold.deadline_s)
            self.store.check_there()
            with atomic_folder(folder) as unfinished:
                student.save(unfinished)
            hold.settle({key: LearnRecord(named.name, n_texts, hold.seconds).to_json()})
        return self._register(student, key)

    def evaluate(self, student: Student, part: Subset, name: str = "") -> EvaluationResult:
        """Evaluate a student on a labelled part; computed once, then read from the store. Costs nothing."""
        # "judge" is the former name of this verb; runs of older versions have their evaluations under it.
        key = content_key("judge", self.student_key(student), training_digest(part.texts, part.gold))
        if (stored := decoded(EvaluationResult.from_json, self.store.load([key]).get(key))) is not None:
            return stored
        result = evaluate_student(self.task, student, part, self.pool.subset("validation"))
        self.store.save({key: result.to_json()})
        self.note(notes.Evaluated(name, len(part.texts), result.accuracy.value))
        return result

    def compute_once(self, record_type: type[RecordT], compute: Callable[[], RecordT], *key_parts: Any) -> RecordT:
        """A record that depends on more than content, such as a decision by the money left: stored and noted once.

        Args:
            record_type: its type, whose `name` is a part of the key.
            compute: makes the record.
            key_parts: JSON values that tell this record from others of its type.

        Returns:
            The stored record if there is one, else that of `compute`.
        """
        key = content_key("decide", record_type.name, *key_parts)
        if (stored := decoded(record_type.from_json, self.store.load([key]).get(key))) is not None:
            return stored
        record = compute()
        self.store.save({key: record.to_json()})
        self.note(record)
        return record

    def note(self, record: NoteRecord) -> None:
        """Append a note for the report; nothing in a fold."""
        if self._in_fold:
            return
        self.store.note(record.name, record.to_json())

    def notes(self) -> list[TimedNote]:
        """All notes of the run, oldest first."""
        return notes.read_notes(self.store)

    # --- trained students -------------------------------------------------------------------------------

    def _register(self, student: ModelT, key: str) -> ModelT:
        self._keys_by_id[id(student)] = (ref(student), key)
        self._student_keys[key] = None
        return student

    def student_key(self, student: TrainedModel) -> str:
        """The content key of a student that `learn` returned."""
        alive, key = self._keys_by_id[id(student)]
        if alive() is not student:
            raise KeyError("this student was not trained in this run")
        return key

    def learn_records(self, keys: Iterable[str]) -> dict[str, LearnRecord]:
        """The records of trained students, by content key."""
        return {key: LearnRecord.from_json(record) for key, record in self.store.load(keys).items()}

    def training_seconds(self, student: TrainedModel) -> float:
        """How long the training of a student took, in this session or an earlier one."""
        key = self.student_key(student)
        return self.learn_records([key])[key].seconds

    @property
    def student_keys(self) -> tuple[str, ...]:
        """The content keys of all students trained through this object, in order."""
        return tuple(self._student_keys)

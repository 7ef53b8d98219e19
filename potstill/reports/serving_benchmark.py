"""The serving benchmark (`potstill bench`): student and teacher timed and priced on the same texts on this machine.

A teacher on this machine is asked again, which costs time and no money. One behind an API is not: its times and price
are those of the run's real calls, or of the price list if there were none. Does not measure quality.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import compress
from pathlib import Path
from statistics import median, quantiles

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.layout import precision_of
from potstill.bundle.record import BundleRecord
from potstill.bundle.text_columns import read_texts
from potstill.data.pairs import split_pair
from potstill.data.tables import ReadOptions
from potstill.data.task import LabelledText, Task
from potstill.errors import BadData, BadInput, BadSpec, PotstillError, RunNotFound
from potstill.evaluation import energy
from potstill.evaluation.latency import BATCH, PredictFunction, measure_latency
from potstill.ledger.prices import MICROS_PER_USD, Rates, Usage, micros_to_usd
from potstill.ledger.store import RUN_FILE, CallRecord, RunStore
from potstill.reports.serving_table import BreakEven, ServingRow, ServingTable, break_even
from potstill.reports.teacher_calls import (
    JOB_MODES,
    labelling_calls,
    micros_per_text,
    single_call_seconds,
    texts_per_second,
)
from potstill.run.open_teacher import open_teacher
from potstill.run.spec import Spec
from potstill.teachers.base import Teacher
from potstill.teachers.kinds import teacher_kind

Reporter = Callable[[str], None]
TIMING_SECONDS = 3.0
MAX_USD_PER_HOUR = 1e6
MIN_TEXTS = 64
MAX_TEACHER_SECONDS = 60.0  # a teacher that would take longer for all texts is timed on fewer


@dataclass(frozen=True)
class RunRecord:
    """A run in its store: its spec, the texts kept for timing, its calls and its money."""

    folder: Path
    spec: Spec
    task: Task
    texts: tuple[str, ...]
    examples: tuple[LabelledText, ...]
    calls: tuple[CallRecord, ...]
    charged_usd: float


def benchmark_serving(
    folder: Path,
    texts: Sequence[str] = (),
    *,
    usd_per_hour: float | None = None,
    gpu_usd_per_hour: float | None = None,
    reporter: Reporter = lambda sentence: None,
) -> ServingTable:
    """Time and price the student of a run or bundle, and the teacher of a run, on the same texts.

    Args:
        folder: a run's, or a bundle's.
        texts: to time on; if empty, test texts that the run kept.
        usd_per_hour: price of this machine; else the run's, or the assumed one.
        gpu_usd_per_hour: price of this machine with its GPU; without it the GPU rows have no price.
        reporter: called with a sentence before each timing.

    Raises:
        RunNotFound: the folder holds neither a run nor a bundle.
        BadInput: there are no texts to time on.
    """
    bundle = load(folder)
    run = _read_run(folder)
    chosen = tuple(texts) or (run.texts if run is not None else ())
    if not chosen:
        raise BadInput(f"{folder} has no texts to time on.", "Give some with --texts FILE.")
    origin = "given" if texts else "of the run's test part"
    while len(chosen) < MIN_TEXTS:
        chosen += chosen
        origin += ", repeated"
    rates = _rates(usd_per_hour, run)
    rows = list(_students(bundle, chosen, rates, gpu_usd_per_hour, reporter))
    teacher = None if run is None else _teacher(run, chosen, rates, reporter)
    paid_back: BreakEven | None = None
    if run is not None and teacher is not None:
        rows.append(teacher)
        paid_back = break_even(run.charged_usd, rows[0], teacher)
    simulated = teacher is not None and teacher.note.startswith("Simulation")
    return ServingTable(
        source=str(folder),
        texts=len(chosen),
        texts_from=origin,
        mean_characters=sum(map(len, chosen)) / len(chosen),
        rows=tuple(rows),
        break_even=paid_back,
        simulation="Simulation: the teacher replays known labels; its price and speed are assumed."
        if simulated
        else "",
    )


def read_sample_texts(
    file: Path,
    record: BundleRecord,
    named: Sequence[str] = (),
    *,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    max_texts: int = 2000,
    reporter: Reporter = lambda sentence: None,
) -> tuple[str, ...]:
    """The first texts of a table, or in a pair task its first pairs.

    Args:
        file: the table.
        record: of the bundle, with the columns it was trained on.
        named: the columns the user named instead.
        read: how the file is read.
        max_texts: how many at most.
        reporter: called with a sentence about the columns that are read.

    Raises:
        BadData: the file cannot be read, has no such column, or no text.
    """
    cells, columns = read_texts(file, record, named, read)
    reporter(f"Texts are read from {columns} of {file.name}.")
    whole = (all(map(str.strip, split_pair(text))) if len(columns.names) == 2 else text.strip() for text in cells)
    texts = tuple(compress(cells, whole))[:max_texts]
    if not texts:
        raise BadData(f"{file.name} has no text in {columns}.", "Name another column: --text COLUMN")
    return texts


# --- the student -----------------------------------------------------------------------------------------------


def _students(
    bundle: Bundle, texts: Sequence[str], rates: Rates, gpu_usd: float | None, reporter: Reporter
) -> Iterator[ServingRow]:
    graphs = sorted((name for name in bundle.record.files if name.endswith(".onnx")), key=lambda g: g != bundle.graph)
    for graph in graphs:
        name = f"student {precision_of(graph)}"
        reporter(f"Timing the {name} on the CPU.")
        served = ", the graph that is served" if graph == bundle.graph and len(graphs) > 1 else ""
        row = _timed(load(bundle.folder, graph=graph).predict_logits, texts, rates, energy.cpu_meter())
        yield replace(row, name=name, note=f"Preprocessor: {bundle.record.preprocessor.name}{served}.")
    gpu = _on_gpu(bundle)
    if gpu is not None:
        reporter("Timing the student on the GPU.")
        priced = Rates("--gpu-usd-per-hour", usd_per_hour=_price_per_hour(gpu_usd)) if gpu_usd is not None else None
        row = _timed(gpu, texts, priced, energy.gpu_meter())
        yield replace(row, name="student fp32", device="gpu")


def _on_gpu(bundle: Bundle) -> PredictFunction | None:
    """The fp32 graph on a GPU; None without a GPU build of onnxruntime. Token ids are made on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    fp32 = load(bundle.folder, graph="fp32")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(bundle.folder / fp32.graph), providers=providers)
    if session.get_providers()[0] != providers[0]:
        return None
    fp32.session = session
    return fp32.predict_logits


def _timed(
    predict: PredictFunction, texts: Sequence[str], rates: Rates | None, meter: energy.EnergyMeter | None
) -> ServingRow:
    """A row for a model that runs on this machine."""
    speed = measure_latency(predict, texts, seconds=TIMING_SECONDS, batch=True, meter=meter)
    per_text = None
    if rates is not None:
        per_text = float(rates.exact_micros(Usage(seconds=1.0 / speed.texts_per_s))) / MICROS_PER_USD
    joules = None if speed.joules_per_text is None else 1000 * speed.joules_per_text
    return ServingRow(
        name="",
        role="student",
        device=_cpu(),
        speed_from=f"measured here; {speed.n_single} single texts",
        price_from="" if rates is None else f"${rates.usd_per_hour}/hour ({rates.source}) x time in bulk",
        batch_s=speed.batch_s,
        texts_per_s=speed.texts_per_s,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        usd_per_million=None if per_text is None else per_text * 1e6,
        joules_per_thousand=joules,
        energy="not measured: no counter here" if meter is None else meter.source,
    )


def _cpu() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"cpu, {platform.machine()}, {cores} cores"


# --- the teacher -----------------------------------------------------------------------------------------------


def _teacher(run: RunRecord, texts: Sequence[str], rates: Rates, reporter: Reporter) -> ServingRow | None:
    """The run's teacher: asked again if it is on this machine, else from the run's calls and the price list."""
    named = run.spec.teacher
    if named is None:
        return None
    try:
        teacher = open_teacher(run.spec, run.task, named, run.examples)
    except (PotstillError, TypeError) as error:  # TypeError: a teacher that is made of a student
        reason = error.message if isinstance(error, PotstillError) else "it is made of a student of the run"
        row = _from_calls(run, named.name, here=_runs_here(named.kind))
        return replace(row, note=f"It was not asked again: {reason}")
    if teacher.simulated:  # its speed is an assumption: there is nothing to time
        row = ServingRow(name=teacher.name, role="teacher", device="simulated", note="Simulation.")
        return _priced(row, teacher, run, texts)
    if not (teacher.capabilities.remote or teacher.capabilities.human):
        reporter(f"Timing {teacher.name} on the CPU.")
        sample = _affordable(teacher, texts)
        row = _timed(_asking(teacher), sample, rates, energy.cpu_meter())
        note = f"Timed on {len(sample)} of the texts." if len(sample) < len(texts) else ""
        return replace(row, role="teacher", name=teacher.name, note=note)
    return _priced(_from_calls(run, teacher.name, teacher.parallel), teacher, run, texts)


def _runs_here(kind: str) -> bool:
    """Whether teachers of this kind compute on this machine."""
    capabilities = teacher_kind(kind).capabilities
    return not (capabilities.remote or capabilities.human)


def _asking(teacher: Teacher) -> PredictFunction:
    def ask(texts: Sequence[str]) -> None:
        for at in range(0, len(texts), teacher.batch_size):
            teacher.answer(texts[at : at + teacher.batch_size])

    return ask


def _affordable(teacher: Teacher, texts: Sequence[str]) -> Sequence[str]:
    """As many texts as it answers in a minute, estimated on a few; `BATCH` at least."""
    import time

    _asking(teacher)(texts[:4])  # reads the weights
    started = time.perf_counter()
    _asking(teacher)(texts[:16])
    rate = 16 / max(time.perf_counter() - started, 1e-9)
    return texts[: max(BATCH, int(rate * MAX_TEACHER_SECONDS))]


def _from_calls(run: RunRecord, name: str, parallel: int = 1, *, here: bool = False) -> ServingRow:
    """Speed and price by the run's calls; cached answers have a price and took no time."""
    calls = labelling_calls(run.calls, name)
    row = ServingRow(name=name, role="teacher", device="elsewhere")
    if calls:
        n_texts = sum(call.n_texts for call in calls)
        row = replace(row, usd_per_million=micros_per_text(calls), price_from=f"the run's calls ({n_texts:,} texts)")
    per_s = texts_per_second(calls, parallel)
    if per_s is None:
        return row
    n_jobs, n_direct = (sum(call.mode in modes for call in calls) for modes in (JOB_MODES, ("direct",)))
    single_ms = [1000 * seconds for seconds in single_call_seconds(calls)]
    return replace(
        row,
        device=_cpu() if here else "elsewhere",
        speed_from=f"the run's calls ({n_jobs} jobs)"
        if n_jobs
        else f"the run's calls ({n_direct}, {parallel} at once)",
        texts_per_s=per_s,
        batch_s=BATCH / per_s,
        p50_ms=median(single_ms) if single_ms else None,
        p99_ms=quantiles(single_ms, n=100)[98] if len(single_ms) > 1 else None,
    )


def _priced(row: ServingRow, teacher: Teacher, run: RunRecord, texts: Sequence[str]) -> ServingRow:
    """The row with the price of the run's calls, or if there were none, of the texts by the teacher's price list."""
    paid = _from_calls(run, teacher.name, teacher.parallel)
    if paid.usd_per_million is not None:
        return replace(row, usd_per_million=paid.usd_per_million, price_from=paid.price_from)
    usages = [teacher.estimate_usage([text]).high for text in texts[:BATCH]]
    micros = sum(float(teacher.price.cost_micros(_thousand(usage))) / 1000 for usage in usages) / len(usages)
    return replace(
        row, usd_per_million=micros, price_from=f"price list x expected tokens, at most: {teacher.price.source}"
    )


def _thousand(usage: Usage) -> Usage:
    """A thousand times the usage, so that rounding up to a micro-dollar does not matter."""
    return Usage(**{name: value * 1000 for name, value in usage.__dict__.items()})


# --- the run ---------------------------------------------------------------------------------------------------


def _read_run(folder: Path) -> RunRecord | None:
    """The run in `folder`; None if it is a bundle."""
    if not (folder / RUN_FILE).exists():
        return None
    store = RunStore(folder, write=False)
    try:
        identity = store.get_meta("identity")
        if identity is None:
            raise RunNotFound(f"{folder} was not started by this version.", "Give the folder of a finished run.")
        limit = store.get_meta("limit_micros") or 1
        record = {name: value for name, value in identity.items() if name not in ("data", "task")}
        kept = store.get_meta("bench") or {}
        spec = Spec.from_dict({**record, "budget": micros_to_usd(limit)}).with_folder(Path(kept.get("folder", ".")))
        return RunRecord(
            folder=folder,
            spec=spec,
            task=Task.from_json(store.get_meta("task")),
            texts=tuple(kept.get("texts", ())),
            examples=tuple(LabelledText(*each) for each in store.get_meta("examples") or ()),
            calls=tuple(store.calls()),
            charged_usd=micros_to_usd(store.totals(limit).charged),
        )
    finally:
        store.close()


def _rates(usd_per_hour: float | None, run: RunRecord | None) -> Rates:
    if usd_per_hour is not None:
        return Rates("--usd-per-hour", usd_per_hour=_price_per_hour(usd_per_hour))
    spec = run.spec if run is not None else Spec(budget=Decimal(1))
    return spec.compute_rates


def _price_per_hour(usd: float) -> Decimal:
    if not 0 <= usd < MAX_USD_PER_HOUR:
        raise BadSpec(f"{usd} is no price of an hour in USD.", "Give a sum of zero or more, such as 0.10.")
    return Decimal(str(usd))

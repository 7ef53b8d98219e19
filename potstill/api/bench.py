"""`bench`: the cost of serving, student beside teacher, timed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

from potstill.api.table_options import COLUMN, FileOptions, file_reading
from potstill.data.paths import as_path

if TYPE_CHECKING:
    from potstill.reports.serving_table import ServingTable
    from potstill.run import ProgressReporter


def bench(
    model: Annotated[str | Path, "A run's folder, or a bundle's."],
    *,
    texts: Annotated[str | Path | None, "A table of texts to time on; else test texts stored in the run."] = None,
    text: Annotated[str | None, "The column with the text; else the one the student was trained on.", COLUMN] = None,
    text_b: Annotated[str | None, "The column with the second text, if the student compares pairs.", COLUMN] = None,
    usd_per_hour: Annotated[float | None, "The price of an hour of this machine; else as in the run, or 0.10."] = None,
    gpu_usd_per_hour: Annotated[float | None, "The price of an hour of this machine with its GPU."] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[FileOptions],
) -> ServingTable:
    """Time and price the student, and the teacher of a run, on the same texts on this machine.

    Times the student on the CPU as fp32 and int8, and on a GPU if onnxruntime has one: 64 texts at once, texts a
    second, a single text, dollars for a million texts, joules if the machine counts them. A teacher on this machine is
    asked again; one behind an API is not: its times and prices are those of the run's calls, or of the price list. At
    the end it shows after how many predictions the distillation has paid for itself.

    Raises:
        RunNotFound: the folder holds no bundle.
        BadInput: there are no texts to time on.
        BadData: the file cannot be read, or has no such column.
    """
    from potstill.bundle.bundle import load
    from potstill.bundle.text_columns import named_columns
    from potstill.reports.serving_benchmark import benchmark_serving, read_sample_texts

    say = (lambda sentence: None) if reporter is None else reporter.info
    sample: tuple[str, ...] = ()
    if texts is not None:
        bundle = load(model)
        named = named_columns(text, text_b, pairs=bundle.takes_pairs)
        read = file_reading(options)
        sample = read_sample_texts(as_path(texts), bundle.record, named, read=read, reporter=say)
    return benchmark_serving(
        as_path(model), sample, usd_per_hour=usd_per_hour, gpu_usd_per_hour=gpu_usd_per_hour, reporter=say
    )

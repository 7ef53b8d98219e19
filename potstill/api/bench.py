"""`bench`: what answering costs from now on, student beside teacher, timed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from potstill.reports.serving_table import ServingTable
    from potstill.run import ProgressReporter


def bench(
    model: Annotated[Path, "A run's folder, or a bundle's."],
    *,
    texts: Annotated[Path | None, "A table of texts to time on; else test texts that the run kept."] = None,
    text: Annotated[str | None, "The column with the text, or first,second; else guessed."] = None,
    usd_per_hour: Annotated[float | None, "What an hour of this machine costs; else as in the run, or 0.10."] = None,
    gpu_usd_per_hour: Annotated[float | None, "What an hour of this machine with its GPU costs."] = None,
    reporter: ProgressReporter | None = None,
) -> ServingTable:
    """Time and price the student, and the teacher of a run, on the same texts on this machine.

    Student on the CPU as fp32 and int8, and on a GPU where onnxruntime has one: 64 texts at once, texts a second, one
    text alone, dollars for a million texts, joules where the machine counts them. A teacher on this machine is asked
    again; one behind an API is not: its times and prices are the run's real calls', or the price list's. Then after
    how many predictions the distillation has paid for itself.

    Raises:
        NotARun: the folder holds no bundle.
        BadInput: there are no texts to time on.
        BadData: the file cannot be read, or has no such column.
    """
    from potstill.bundle.bundle import load
    from potstill.reports.serving_benchmark import benchmark_serving, read_sample_texts

    some = () if texts is None else read_sample_texts(Path(texts), text, pairs=load(model).takes_pairs)
    say = (lambda sentence: None) if reporter is None else reporter.info
    return benchmark_serving(
        Path(model), some, usd_per_hour=usd_per_hour, gpu_usd_per_hour=gpu_usd_per_hour, reporter=say
    )

"""Cost and latency, as in table 5 of the PGKD paper (Palo et al. 2024): students beside the models they replace.

    python bench/papers/cost_latency.py [--data ../shared/data] [--seconds 20] [--answers 400]

AG News on one machine: `potstill distill` makes a student from the answers of `local:qwen-1.5b`, and a fine-tuned one
of the size of the paper's BERT-base (`encoder:mpnet`); `potstill bench` times both as fp32 and int8, 64 texts at once
and a single text at a time. Language models on this machine are timed on the same kind of texts. Models behind an API
are priced by their price lists and never asked, so they have no time. The GPU column is that of `bench/gpu.py`, if it
was run. Wants an idle machine and the weights qwen-1.5b, qwen-0.5b, minilm and mpnet (`potstill fetch`). Runs are kept
in `--runs` and go on where they stopped; timings are made anew. Writes `bench/results/cost_latency.json` and a section.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sections import commit, table, write_section

import potstill
from potstill.data.task import LabelledText, Task
from potstill.errors import PotstillError
from potstill.evaluation.latency import BATCH, measure_latency
from potstill.ledger.prices import MICROS_PER_USD, Usage
from potstill.reports.serving_table import BreakEven, ServingRow, ServingTable, break_even
from potstill.run.open_teacher import open_teacher
from potstill.run.spec import Spec

RESULTS = Path(__file__).parents[1] / "results" / "cost_latency.json"
GPU_RESULTS = Path(__file__).parents[1] / "results" / "gpu.json"
TEACHER: dict[str, Any] = {"name": "local:qwen-1.5b", "label_words": {"Sci/Tech": "Technology"}}
TEXTS = 256
API_MODELS = (
    "openai:gpt-6-luna",
    "openai:gpt-6-sol",
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-sonnet-5-5",
)
USD_PER_HOUR = Decimal("0.10")


def make_run(name: str, record: dict[str, Any], folder: Path) -> potstill.Report:
    """The report of a run of the ordinary command, which goes on where it stopped."""
    from potstill.reports.console import ConsoleReporter

    spec = folder / f"{name}.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    toml = spec.with_suffix(".toml")
    toml.write_text(as_toml(record), encoding="utf-8")
    return potstill.distill(toml, out=spec.with_suffix(""), reporter=ConsoleReporter())


def as_toml(record: dict[str, Any], prefix: str = "") -> str:
    """A nested dictionary as TOML; JSON's scalars, lists and strings are TOML's."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in record.items() if not isinstance(value, dict)]
    for key, value in record.items():
        if isinstance(value, dict):
            name = f"{prefix}{json.dumps(key)}"
            lines += [f"[{name}]", as_toml(value, f"{name}.")]
    return "\n".join(lines)


def local_row(name: str, texts: list[str], task: Task, shown: list[LabelledText], seconds: float) -> ServingRow:
    """A language model on this machine, timed on the texts."""
    spec = Spec.from_dict({"budget": 1, "teacher": {**TEACHER, "name": name}})
    assert spec.teacher is not None
    teacher = open_teacher(spec, task, spec.teacher, shown)

    def ask(chunk: Any) -> None:
        for at in range(0, len(chunk), teacher.batch_size):
            teacher.answer(chunk[at : at + teacher.batch_size])

    speed = measure_latency(ask, texts[:BATCH], seconds=seconds, batch=True)
    micros = float(spec.compute_rates.exact_micros(Usage(seconds=1 / speed.texts_per_s)))
    return ServingRow(
        name=name,
        role="teacher",
        device="",
        speed_from=f"measured here; {speed.n_single} single texts",
        batch_s=speed.batch_s,
        texts_per_s=speed.texts_per_s,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        usd_per_million=micros / MICROS_PER_USD * 1e6,
    )


def api_row(name: str, texts: list[str], task: Task) -> ServingRow | None:
    """A model behind an API by its price list; None where the list does not know it. It is not asked."""
    spec = Spec.from_dict({"budget": 1, "teacher": {"name": name}})
    assert spec.teacher is not None
    try:
        teacher = open_teacher(spec, task, spec.teacher, ())
    except PotstillError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
        return None
    ends = []
    for end in ("low", "high"):
        usages = [getattr(teacher.estimate_usage([text]), end) for text in texts[:BATCH]]
        thousand = [Usage(**{key: value * 1000 for key, value in usage.__dict__.items()}) for usage in usages]
        ends.append(sum(float(teacher.price.cost_micros(each)) for each in thousand) / 1000 / len(thousand))
    return ServingRow(
        name=name,
        role="teacher",
        device="elsewhere",
        usd_per_million=sum(ends) / 2,
        price_from=f"{teacher.price.source}: ${ends[0]:,.0f} to ${ends[1]:,.0f}",
    )


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Runs, timings and prices."""
    data = given.data.absolute() / "ag_news"
    files = {"train": str(data / "train.parquet"), "test": str(data / "test.parquet"), "validation_share": 0}
    common = {"budget": 1, "task": {"name": "ag news"}}
    distilled = {
        **common,
        "data": {**files, "gold": 32, "limit": given.answers},
        "teacher": TEACHER,
        "student": {"name": "encoder:minilm"},
        "procedure": {"name": "kd"},
    }
    tuned = {
        **common,
        "data": {**files, "gold": 200, "limit": given.answers},
        "student": {"name": "encoder:mpnet"},
        "procedure": {"name": "finetune"},
    }
    texts_of = {}
    found: dict[str, Any] = {}
    for name, record in (("minilm", distilled), ("mpnet", tuned)):
        report = make_run(name, record, given.runs).to_json()
        serving: ServingTable = potstill.bench(given.runs / name)
        found[name] = {
            "rows": [asdict(row) for row in serving.rows],
            "charged_usd": report["money"]["charged_usd"],
            "accuracy": report["student"]["accuracy"],
            "seconds": report["seconds"],
        }
        texts_of[name] = serving.texts
    import pyarrow.parquet as pq

    rows = pq.read_table(data / "test.parquet").slice(0, TEXTS).to_pydict()
    task = Task(tuple(sorted(set(rows["label"]))), name="ag news")
    llm = [local_row(name, rows["text"], task, [], given.seconds) for name in ("local:qwen-1.5b", "local:qwen-0.5b")]
    apis = [row for name in API_MODELS if (row := api_row(name, rows["text"], task))]
    found["models"] = [asdict(row) for row in llm]
    found["apis"] = [asdict(row) for row in apis]
    found["machine"] = f"{platform.machine()}, {potstill.__version__}"
    found["commit"] = commit()
    return found


def page(found: dict[str, Any]) -> str:
    """The section of the results."""
    students = [
        replace(ServingRow(**row), name=f"{name}, {row['name'].split()[-1]}")
        for name in ("minilm", "mpnet")
        for row in found[name]["rows"]
        if row["role"] == "student"
    ]
    models = [ServingRow(**row) for row in found["models"]]
    apis = [ServingRow(**row) for row in found["apis"]]
    charged = found["minilm"]["charged_usd"]
    served = students[0]
    body = []
    for row in [*students, *models, *apis]:
        back: BreakEven | None = None if row.role == "student" else break_even(charged, served, row)
        body.append(
            [
                row.name,
                number(row.batch_s, 3),
                number(row.texts_per_s, 1),
                number(row.p50_ms, 1),
                number(row.p99_ms, 1),
                "" if row.usd_per_million is None else f"{row.usd_per_million:,.3f}",
                ratio(row.batch_s, served.batch_s) if row.role == "teacher" else "",
                ratio(row.usd_per_million, served.usd_per_million) if row.role == "teacher" else "",
                "" if back is None or back.predictions is None else f"{back.predictions:,}",
            ]
        )
    head = ["model", "64 texts, s", "texts/s", "p50 ms", "p99 ms", "$ a million", "slower", "dearer", "break-even"]
    lines = [
        "## Cost and latency of serving (table 5 of Palo et al. 2024)",
        "",
        f"`python bench/papers/cost_latency.py`, commit {found['commit']}, one machine ({found['machine']}, two cores, "
        f"CPU only), AG News, ${USD_PER_HOUR} an hour. 'Slower' (by the time of 64 texts) and 'dearer' are beside the "
        "first row, the served student. Models behind an API are priced by their list for the same texts, at the "
        "middle of what a request can cost, and were not asked. Break-even: the predictions after which the "
        f"${charged:.4f} that the distillation of the first row was charged are saved.",
        "",
        table(head, body),
        "",
        *(
            f"- {name}: {100 * found[name]['accuracy']['value']:.1f} % "
            f"[{100 * found[name]['accuracy']['low']:.1f}, {100 * found[name]['accuracy']['high']:.1f}] of the test "
            f"texts, made in {found[name]['seconds']:.0f} s for ${found[name]['charged_usd']:.4f}."
            for name in ("minilm", "mpnet")
        ),
        *(f"- {row.name}: {row.price_from}." for row in apis),
        gpu_sentence(),
    ]
    return "\n".join(lines)


def gpu_sentence() -> str:
    """Where the GPU column is."""
    if GPU_RESULTS.exists():
        return "- The GPU column: section 'gpu' of this page."
    return "- No GPU was at hand: `python bench/gpu.py` makes that column."


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(teacher: float | None, student: float | None) -> str:
    return "" if not teacher or not student else f"{teacher / student:,.0f}x"


def main() -> None:
    ask_for = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for.add_argument("--data", type=Path, default=Path("../shared/data"))
    ask_for.add_argument("--runs", type=Path, default=Path("runs/cost_latency"))
    ask_for.add_argument("--answers", type=int, default=400, help="rows read of the training file")
    ask_for.add_argument("--seconds", type=float, default=20, help="of each timing of a language model")
    ask_for.add_argument("--page", action="store_true", help="only write the section from the stored figures")
    given = ask_for.parse_args()
    if not given.page:
        RESULTS.write_text(json.dumps(measure(given), indent=1) + "\n", encoding="utf-8")
    text = page(json.loads(RESULTS.read_text(encoding="utf-8")))
    write_section("cost-latency", text)
    print(text)


if __name__ == "__main__":
    main()

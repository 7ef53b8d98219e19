"""The section of RESULTS.md that `serving.py` writes. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sections import table

HEAD = ["server", "clients", "texts a request", "texts/s", "of in-process", "p50 ms", "p99 ms"]
CPU = ["server µs/text", "in-process/server", "client µs/text", "not 200"]


def section_of(record: Mapping[str, Any]) -> str:
    """The section, of the record that goes into `results/serving.json`."""
    local = record["in_process"]
    whole, parts = local["all"], local["64"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "## `potstill serve` under load\n",
        f"BANKING77's test texts, `{record['weights']}` int8 (head on frozen embeddings); commit `{record['commit']}`, "
        f"{record['when'][:10]}, {record['machine']} (load average {record['busy']}), {record['threads']} thread(s), "
        f"`python bench/serving.py`; {versions}. Median of {record['rounds']} interleaved rounds of "
        f"{record['seconds']:g} s a row. The clients run on the same processors, over loopback.\n",
        table(HEAD + CPU, [_row(row, whole) for row in record["rows"]]),
        "",
        f"- In-process, without HTTP: {whole['texts_per_s']:,.0f} texts/s and {whole['cpu_us']:.0f} µs of a processor "
        f"a text, all texts in one call; {parts['texts_per_s']:,.0f} and {parts['cpu_us']:.0f} with 64 texts a call. "
        '"in-process/server" is the share of the server\'s processor time that the model alone needs.',
        f"- Rivals on the same weights (PyTorch, fp32): {record['rivals']}. No figure of text-embeddings-inference for "
        "a classifier on a CPU was found to quote, and its server is not run here.",
        f"- A slim copy of this bundle has {record['slim_mb']} MB.",
    ]
    if "overload" in record:
        lines.append(f"- {_overload(record['overload'])}")
    if "soak" in record:
        lines.append(f"- {_soak(record['soak'])}")
    if "soak_static" in record:
        run = record["soak_static"]
        lines.append(f"- A static student, whose texts cost little, commit `{run['commit']}`. {_soak(run)}")
    if record["busy"] > record["threads"] + 0.5:
        lines.append("- The machine was busy with other work: compare rows, and processor time rather than texts/s.")
    return "\n".join(lines)


def _row(row: Mapping[str, Any], local: Mapping[str, float]) -> list[str]:
    return [
        row["server"],
        str(row["clients"]),
        str(row["texts_a_request"]),
        f"{row['texts_per_s']:,.0f}",
        f"{row['texts_per_s'] / local['texts_per_s']:.2f}",
        f"{row['p50_ms']:.1f}",
        f"{row['p99_ms']:.1f}",
        f"{row['server_cpu_us']:.0f}",
        f"{local['cpu_us'] / row['server_cpu_us']:.2f}" if row["server_cpu_us"] else "-",
        f"{row['client_cpu_us']:.0f}",
        str(row["others"]),
    ]


def _overload(run: Mapping[str, Any]) -> str:
    size, seconds, statuses = run["texts_a_request"], run["seconds"], dict(run["statuses"])
    answered, refused = statuses.pop("200", 0), statuses.pop("429", 0)
    rest = ", ".join(f"{n} {status}" for status, n in statuses.items()) or "nothing else"
    times = {status: run["milliseconds"].get(status, {"p50": 0.0, "p99": 0.0}) for status in ("200", "429")}
    offered, done = (f"{size * n / seconds:,.0f} texts/s" for n in (run["offered"], answered))
    return (
        f"Overload: {offered} were offered ({run['clients']} clients, {size} texts a request, "
        f"{run['asked'] / run['capacity']:.0f} times the {run['capacity']:,.0f} of the best row asked for): {done} "
        f"answered (p99 {times['200']['p99']:,.0f} ms), {refused:,} requests got 429 (p50 {times['429']['p50']:.1f} "
        f"ms, p99 {times['429']['p99']:.1f}), {rest}; afterwards one client got its answers in "
        f"{run['after_p50_ms']:.1f} ms (p50)."
    )


def _soak(run: Mapping[str, Any]) -> str:
    memory: Sequence[float] = run["memory_mb"]
    statuses = ", ".join(f"{n:,} x {status}" for status, n in run["statuses"].items())
    return (
        f"Soak: {run['requests']:,} requests of one text, 64 in flight, {run['seconds']:,.0f} s: {statuses}. Resident "
        f"memory {memory[0]:.0f} MB at first, {memory[len(memory) // 10]:.0f} after a tenth, {max(memory):.0f} at "
        f"most, {memory[-1]:.0f} at the end: {run['growth_mb']:+.1f} MB after the first tenth."
    )

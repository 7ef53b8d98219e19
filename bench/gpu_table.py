"""The table of `gpu.py`: what each step measured, and what a million costs at the price of the machine."""

from __future__ import annotations

from typing import Any

from sections import table


def page(record: dict[str, Any], usd_per_hour: float) -> str:
    """The section: what was measured on what, and the costs."""
    here, rows = record["machine"], record["rows"]
    lines = [line for name, row in rows.items() for line in table_lines(name, row, usd_per_hour)]
    head = ["what", "on the GPU", "this machine's CPU", "parity", "$ a million, GPU"]
    commits = ", ".join(sorted({row["commit"] for row in rows.values()} - {""})) or "an unknown commit"
    small = " **Tiny random models: this only shows that every step runs.**" if record["small"] else ""
    return (
        f"## On a GPU\n\n`python bench/gpu.py` on {commits}; {here['gpu']}, {here['cores']} cores, torch "
        f"{here['torch']}.{small} Money is counted at ${usd_per_hour:.2f} an hour, which is given and not looked up. "
        "Parity is with float32 on the CPU: the same label, and how far the scores are apart at most (nats).\n\n"
        + table(head, lines)
    )


def table_lines(name: str, row: dict[str, Any], usd_per_hour: float) -> list[list[str]]:
    """The lines of one step."""

    def usd(per_s: float) -> str:
        return f"${1e6 / max(per_s, 1e-9) * usd_per_hour / 3600:,.2f}"

    if name.startswith("score"):
        exact, own = row["float32"], row[row["dtype"]]
        agree = (
            f"float32 {exact['same_label']:.1%}, {exact['max_apart']:.4f}; "
            f"{row['dtype']} {own['same_label']:.1%}, {own['max_apart']:.2f}"
        )
        rate = row["texts_per_s"]
        return [[name, f"{rate:,.0f} texts/s", f"{row['cpu_texts_per_s']:,.1f} (float32)", agree, usd(rate)]]
    if name.startswith("train"):
        cpu, same = row.get("cpu_seconds"), row["parity"]
        agree = f"{same['same_label']:.1%}, {same['max_apart']:.4f}; accuracy {row['accuracy']:.1%}"
        rate = row["texts_per_s"]
        return [
            [f"{name}, {row['n']:,} texts", f"{row['seconds']:,.1f} s", f"{cpu:,.1f} s" if cpu else "–", agree, "–"],
            [f"{name}: predict", f"{rate:,.0f} texts/s", "–", "", usd(rate)],
        ]
    rate = row["tokens_per_s"]
    agree = f"{row['same_first_tokens']} of the first {row['first_tokens']} tokens"
    alone = f"{rate:,.0f} tokens/s ({row['tokens_per_s_alone']:,.0f} alone)"
    cpu_rate = f"{row['cpu_tokens_per_s']:,.0f} (float32, alone)"
    lines = [[f"{name}, {row['through']}", alone, cpu_rate, agree, f"{usd(rate)} (tokens)"]]
    if "llama_cpp_device" in row:
        where, own = row["llama_cpp_device"], row["llama_cpp_tokens_per_s"]
        shown = f"{own:,.0f} tokens/s"
        gpu = where != "CPU"
        cells = [shown if gpu else "–", "–" if gpu else shown, "", f"{usd(own)} (tokens)" if gpu else "–"]
        lines.append([f"{name}, llama.cpp on {where}", *cells])
    return lines

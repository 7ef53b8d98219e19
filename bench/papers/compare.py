"""The claims of Aina et al. 2022 on prompting, fine-tuning and distillation, tested on cells of this library.

    python bench/papers/compare.py [--data ../shared/data] [--study FILE.toml] [--out FOLDER] [--max-hours H]

Runs the study (cells that are in --out already are not run again) and prints for each claim what the data say and
whether it held. A claim is judged by the bootstrap over test texts and seeds: "held" and "did not hold" where the 95 %
interval is on one side, else "undecided". Not covered: the paper's own models, and training cost, which it leaves out.
The paper compares FT and P of one masked language model; here FT is of sentence encoders and static vectors, P of a
causal language model, and FT of that same model a head on its frozen states (same_model.py): no masked language model
with its head is in a package registry.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from same_model import NAME, rows
from sections import commit, write_section

from potstill.api.compare import compare
from potstill.evaluation.metrics import Score
from potstill.reports.console import ConsoleReporter
from potstill.study.analysis import GridPoint, PointScore, crossovers, point_scores
from potstill.study.records import StudyResult
from potstill.study.sentences import crossover_sentence, format_percent, point_title
from potstill.study.spec import StudySpec
from potstill.study.tables import study_record

RESULTS = Path(__file__).parents[1] / "results" / "compare.json"
NEAR = 0.02  # "within 1-2 points"
MIN_SEEDS = 3  # with fewer, an interval covers only the texts
LARGE = 300  # "many labels": the paper has P ahead below 320
NAMES = "gte-small + names"
COMMAND = "python bench/papers/compare.py"


@dataclass(frozen=True)
class Finding:
    """One claim on one data set: the evidence, and "held", "did not hold", "undecided" or "not measured"."""

    claim: str
    data: str
    evidence: str
    verdict: str


CLAIMS = {
    "a": "with few labels P beats FT of the same model",
    "a'": "with few labels P beats FT of the best sentence encoder or static model",
    "b": "with many labels FT and P are both fine (within 2 points)",
    "c": "the smallest P+KD student comes within 2 points of the much larger P model",
    "c'": "the next larger P+KD student does",
    "d": "P+KD is on the joint front of compute, labels and quality",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--study", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--out", type=Path, default=Path("runs/bench-compare"))
    parser.add_argument("--max-hours", type=float)
    parser.add_argument("--no-same", action="store_true", help="without FT of the language model itself")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    done = compare(
        options.study, out=options.out, data=options.data, max_hours=options.max_hours, reporter=ConsoleReporter()
    )
    spec = StudySpec.from_toml(options.study)
    prompted = {cell.data for cell, at in done.study.results.items() if cell.procedure == "p" and at.state == "done"}
    names = set() if options.no_same else prompted
    others = rows(spec, names, options.data, options.out / "same_model.json")
    study = replace(done.study, results={**done.study.results, **others})
    findings = [finding for name in study.data for finding in judge(study, name)]
    print(done.to_text())
    print("\n".join(findings_text(findings)))
    if options.no_write:
        return
    record = study_record(study).to_json()
    record.pop("cells")  # a line a seed: what is kept are the means, the footprints and the findings
    record |= {"commit": commit(), "command": COMMAND, "findings": [asdict(each) for each in findings]}
    RESULTS.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    write_section("compare", "\n".join(section(study, findings)))


def judge(study: StudyResult, data: str) -> Iterator[Finding]:
    """The four claims on one data set."""
    means = point_scores(study, data)
    seeds = min((mean.seeds for point, mean in means.items() if point.procedure == "p"), default=0)
    for found in (
        prompting_wins(means, data, "a"),
        prompting_wins(means, data, "a'"),
        both_fine(means, data),
        small_is_near(means, data, 0),
        small_is_near(means, data, 1),
        on_the_front(means, data),
    ):
        few = seeds < MIN_SEEDS and found.verdict in ("held", "did not hold")
        yield replace(found, verdict=f"undecided ({seeds} seed, else {found.verdict})") if few else found


def _best(means: Mapping[GridPoint, PointScore], procedure: str, n: int) -> PointScore | None:
    there = [mean for point, mean in means.items() if (point.procedure, point.n) == (procedure, n)]
    return max(there, key=lambda mean: mean.score.value) if there else None


def _gap(a: PointScore, b: PointScore) -> Score:
    low, high = np.percentile(a.draws - b.draws, [2.5, 97.5])
    return Score(a.score.value - b.score.value, float(low), float(high))


def _format_gap(gap: Score) -> str:
    return f"{100 * gap.value:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _verdict(low: float, high: float) -> str:
    return "held" if low > 0 else "did not hold" if high < 0 else "undecided"


def prompting_wins(means: Mapping[GridPoint, PointScore], data: str, claim: str) -> Finding:
    """(a), (a'): at the smallest size, and where the curves cross. FT that reads label names is not in the paper."""
    mine = {
        point: mean
        for point, mean in means.items()
        if point.procedure != "ft" or (point.backbone == NAME if claim == "a" else point.backbone not in (NAME, NAMES))
    }
    sizes = sorted({point.n for point in mine if point.procedure == "p"})
    p, ft = (_best(mine, how, sizes[0]) if sizes else None for how in ("p", "ft"))
    if p is None or ft is None:
        return Finding(claim, data, "P or FT was not run", "not measured")
    gap = _gap(p, ft)
    evidence = f"at {sizes[0]} labels {point_title(p.point)} {format_percent(p.score.value)}, {point_title(ft.point)} "
    evidence += f"{format_percent(ft.score.value)}: {_format_gap(gap)}. " + " ".join(
        crossover_sentence(each) for each in crossovers(mine)
    )
    return Finding(claim, data, evidence.strip(), _verdict(gap.low, gap.high))


def both_fine(means: Mapping[GridPoint, PointScore], data: str) -> Finding:
    """(b): at the largest size that both have, is the better of the two less than 2 points ahead?"""
    sizes = sorted({a.n for a in means if a.procedure == "p"} & {b.n for b in means if b.procedure == "ft"})
    if not sizes or sizes[-1] < LARGE:
        evidence = f"P was run up to {sizes[-1] if sizes else 0} labels only"
        return Finding("b", data, evidence, "not measured")
    means = {point: mean for point, mean in means.items() if point.backbone != NAMES}
    p, ft = _best(means, "p", sizes[-1]), _best(means, "ft", sizes[-1])
    assert p is not None
    assert ft is not None
    gap = _gap(p, ft)
    evidence = f"at {sizes[-1]} labels {point_title(p.point)} {format_percent(p.score.value)}, "
    evidence += f"{point_title(ft.point)} {format_percent(ft.score.value)}: "
    if gap.low >= -NEAR and gap.high <= NEAR:
        verdict = "held"
    else:
        verdict = "did not hold" if gap.low > NEAR or gap.high < -NEAR else "undecided"
    return Finding("b", data, evidence + _format_gap(gap), verdict)


def small_is_near(means: Mapping[GridPoint, PointScore], data: str, rank: int) -> Finding:
    """(c), (c'): the smallest P+KD student, or the next, beside its teacher; judged where the teacher is best."""
    claim = ("c", "c'")[rank]
    pairs = []
    for point, mean in means.items():
        teacher = _best(means, "p", point.n)
        if point.procedure == "p+kd" and teacher is not None:
            pairs.append((mean.footprint.parameters or 0, mean, teacher))
    students = sorted({size for size, _, _ in pairs})
    if len(students) <= rank:
        return Finding(claim, data, "P+KD was not run", "not measured")
    rows = sorted(((m, t) for size, m, t in pairs if size == students[rank]), key=lambda row: row[0].point.n)
    gaps = [_gap(mean, teacher) for mean, teacher in rows]
    evidence = "; ".join(
        f"{mean.point.n} labels: {point_title(mean.point)} {format_percent(mean.score.value)}, "
        f"{point_title(teacher.point)} {format_percent(teacher.score.value)}, {_format_gap(gap)}"
        for (mean, teacher), gap in zip(rows, gaps, strict=True)
    )
    near = [_verdict(gap.low + NEAR, gap.high + NEAR) for gap in gaps]
    best = max(range(len(rows)), key=lambda i: rows[i][1].score.value)
    return Finding(
        claim, data, f"{evidence}. Judged where the teacher is best, at {rows[best][0].point.n} labels", near[best]
    )


def on_the_front(means: Mapping[GridPoint, PointScore], data: str) -> Finding:
    """(d): is a P+KD point beaten by nothing in FLOPs a text, labels and quality at once? In how many of the draws?"""
    rows = [mean for point, mean in means.items() if point.n and mean.footprint.flops is not None]
    mine = [i for i, mean in enumerate(rows) if mean.point.procedure == "p+kd"]
    if not mine:
        return Finding("d", data, "P+KD was not run", "not measured")
    cost = np.array([[mean.footprint.flops or 0.0, mean.point.n] for mean in rows])
    values = np.array([mean.score.value for mean in rows])
    draws = np.stack([mean.draws for mean in rows], axis=1)
    front = pareto_front(values, cost)
    share = float(np.mean([bool(set(pareto_front(row, cost)) & set(mine)) for row in draws]))
    there = [rows[i].point for i in mine if i in front]
    evidence = f"{len(there)} of {len(mine)} P+KD points are on it" + (": " if there else "")
    evidence += ", ".join(f"{point_title(point)} at {point.n}" for point in there)
    evidence += f"; one is in {share:.0%} of the draws"
    return Finding("d", data, evidence, "held" if share > 0.975 else "did not hold" if share < 0.025 else "undecided")


def pareto_front(values: Any, cost: Any) -> list[int]:
    """The points that no other dominates: at least as good in all three, better in one."""
    front = []
    for i in range(len(values)):
        no_worse = (values >= values[i]) & (cost <= cost[i]).all(axis=1)
        better = (values > values[i]) | (cost < cost[i]).any(axis=1)
        if not (no_worse & better).any():
            front.append(i)
    return front


def findings_text(findings: list[Finding]) -> Iterator[str]:
    """The claims with their evidence, for a terminal."""
    for key, claim in CLAIMS.items():
        yield f"\n({key}) {claim}"
        for each in findings:
            if each.claim == key:
                yield f"  {each.data}: {each.verdict.upper()}. {each.evidence}"


def section(study: StudyResult, findings: list[Finding]) -> Iterator[str]:
    """The section of RESULTS.md: verdicts, then evidence, then the means."""
    yield "## Prompting, fine-tuning and distillation (Aina et al. 2022)\n"
    yield f"`{COMMAND}` on commit `{commit()}`, {len(study.seeds)} seeds, {study.machine}. FT is a head on"
    yield "frozen vectors of sentence encoders (static vectors fine-tuned), P is LoRA on SmolLM2-135M with a pattern;"
    yield "the paper compares both on one masked language model. KD learns without gold, from so many unlabelled texts:"
    yield ", ".join(f"{name} {facts.unlabelled:,}" for name, facts in study.data.items()) + "."
    yield "Verdicts are by 95 % intervals over texts and seeds.\n"
    if study.stop_reason:
        left = sum(result.state != "done" for result in study.results.values())
        yield f"The run was stopped: {left} of {len(study.results)} cells are missing.\n"
    yield "| claim | " + " | ".join(study.data) + " |"
    yield "|---|" + "---|" * len(study.data)
    for key, claim in CLAIMS.items():
        verdicts = {each.data: each.verdict for each in findings if each.claim == key}
        yield f"| ({key}) {claim} | " + " | ".join(verdicts.get(name, "") for name in study.data) + " |"
    yield ""
    for each in findings:
        yield f"- ({each.claim}) {each.data}, {each.verdict}: {each.evidence}"
    for name in study.data:
        yield from _means(study, name)


def _means(study: StudyResult, name: str) -> Iterator[str]:
    means = point_scores(study, name)
    sizes = sorted({point.n for point in means if point.n})
    if not sizes:
        return
    yield f"\n{name}, {len(study.data[name].gold)} test texts, accuracy in % by gold labels in all:\n"
    yield "| | " + " | ".join(map(str, sizes)) + " |"
    yield "|---" * (len(sizes) + 1) + "|"
    for who in dict.fromkeys((point.procedure, point.backbone) for point in means):
        alone = means.get(GridPoint(*who, 0))
        row = [means.get(GridPoint(*who, n)) for n in sizes] if alone is None else [alone]
        cells = ["" if each is None else f"{100 * each.score.value:.1f} ± {_sd(each)}" for each in row]
        yield f"| {point_title(GridPoint(*who, 0))} | " + " | ".join([*cells, *[""] * (len(sizes) - len(cells))]) + " |"


def _sd(mean: PointScore) -> str:
    return "–" if np.isnan(mean.sd) else f"{100 * mean.sd:.1f}"


if __name__ == "__main__":
    main()

"""The claims of Aina et al. 2022 on prompting, fine-tuning and distillation, tested on cells of this library.

    python bench/papers/compare.py [--data ../shared/data] [--studies NAME ...] [--out FOLDER] [--max-hours H]

Runs the studies compare*.toml beside this file (cells that are in --out already are not run again; with --max-hours 0
none is) and prints for each claim what the data say and whether it held: see compare_claims.py. All studies have the
same test texts and gold subsets, so their cells are judged together. The paper's own models are not here: P is of
causal language models, and FT of those same models, by the same LoRA under a head.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from compare_claims import CLAIMS, Finding, judge_all
from sections import commit, write_section

from potstill.api.compare import compare
from potstill.reports.console import ConsoleReporter
from potstill.study.analysis import GridPoint, PointScore, joint_front, point_scores
from potstill.study.records import StudyResult
from potstill.study.sentences import format_count, format_ms, point_title
from potstill.study.tables import study_record

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "compare.json"
STUDIES = ("compare", "compare_large", "compare_llm_0", "compare_llm_1")
COMMAND = "python bench/papers/compare.py"
DOCS = HERE.parents[1] / "docs" / "papers.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-papers-compare"), help="a folder for each study")
    parser.add_argument("--max-hours", type=float, help="for each study")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    done = [
        compare(
            HERE / f"{name}.toml",
            out=options.out / name,
            data=options.data,
            max_hours=options.max_hours,
            reporter=ConsoleReporter(),
        ).study
        for name in options.studies
    ]
    study = joined(done)
    findings = judge_all(study)
    print("\n".join(findings_text(findings)))
    if options.no_write:
        return
    record = study_record(study).to_json()
    record.pop("cells")  # a line a seed: what is kept are the means, the footprints and the findings
    record["spec"] = [each.spec for each in done]
    record |= {"commit": commit(), "command": COMMAND, "findings": [asdict(each) for each in findings]}
    RESULTS.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    write_section("compare", "\n".join(section(study, findings)))
    write_section("aina-verdicts", "\n".join(verdicts(study, findings)), DOCS)


def joined(studies: Sequence[StudyResult]) -> StudyResult:
    """The first study with the cells of the others, whose data sets have to be the same texts."""
    first, results, footprints = studies[0], {}, {}
    data = dict(first.data)
    for study in studies:
        for name, summary in study.data.items():
            here = data.setdefault(name, summary)
            if not np.array_equal(here.gold, summary.gold):
                raise SystemExit(f"The studies have other test texts of {name}.")
            data[name] = replace(here, sizes=tuple(sorted({*here.sizes, *summary.sizes})))
        results |= {cell: each for cell, each in study.results.items() if each.state == "done" or cell not in results}
        footprints |= study.footprints
    reasons = [study.stop_reason for study in studies if study.stop_reason]
    seconds, charged = (sum(getattr(study, name) for study in studies) for name in ("seconds", "charged_usd"))
    return replace(
        first,
        data=data,
        results=results,
        footprints=footprints,
        stop_reason=" ".join(dict.fromkeys(reasons)),
        seconds=seconds,
        charged_usd=charged,
    )


def findings_text(findings: Sequence[Finding]) -> Iterator[str]:
    """The claims with their evidence, for a terminal."""
    for key, claim in CLAIMS.items():
        yield f"\n({key}) {claim}"
        yield from (f"  {each.data}: {each.verdict.upper()}. {each.evidence}" for each in findings if each.claim == key)


def section(study: StudyResult, findings: Sequence[Finding]) -> Iterator[str]:
    """The section of RESULTS.md: verdicts, then evidence, then the means with what they cost."""
    yield "## Prompting, fine-tuning and distillation (Aina et al. 2022)\n"
    yield f"`{COMMAND}` on commit `{commit()}`, {len(study.seeds)} seeds, {study.machine}. FT and P of a language"
    yield "model are the same LoRA in the same steps, once under a new head and once by the label's words; encoders and"
    yield "static vectors are fine-tuned in full. KD learns without gold, LLM+KD with it, from these unlabelled texts:"
    yield ", ".join(f"{name} {facts.unlabelled:,}" for name, facts in study.data.items()) + "."
    yield "Verdicts are by 95 % intervals over texts and seeds. FLOPs are counted; p50 was taken beside other work.\n"
    states = [result.state for result in study.results.values()]
    yield f"{states.count('done')} of {len(states)} cells are done, {states.count('failed')} failed; for the others"
    minutes = sum(each.usage.seconds for each in study.results.values()) / 60
    yield f"there was no time. Training and asking took {minutes:.0f} minutes of a shared machine, each cell alone.\n"
    yield "| claim | " + " | ".join(study.data) + " |"
    yield "|---|" + "---|" * len(study.data)
    for key, claim in CLAIMS.items():
        verdicts = {
            name: "; ".join(each.verdict for each in findings if (each.claim, each.data) == (key, name))
            for name in study.data
        }
        yield f"| ({key}) {claim} | " + " | ".join(verdicts.values()) + " |"
    yield "\nSeveral verdicts of one claim are of several models or students, in the order of the evidence.\n"
    for each in findings:
        if each.verdict != "not measured":
            yield f"- ({each.claim}) {each.data}, {each.verdict}: {each.evidence}"
    failed = {(cell.data, cell.title, each.reason) for cell, each in study.results.items() if each.state == "failed"}
    yield from (f"- failed: {data}, {title}: {reason}" for data, title, reason in sorted(failed))
    for name in study.data:
        yield from _means(study, name)


def verdicts(study: StudyResult, findings: Sequence[Finding]) -> Iterator[str]:
    """The table of docs/papers.md: a verdict for each claim and data set, with the figure that decides it."""
    done = sum(result.state == "done" for result in study.results.values())
    minutes = sum(each.usage.seconds for each in study.results.values()) / 60
    yield f"{done} of {len(study.results)} cells are done (commit `{commit()}`; {minutes:.0f} minutes of a shared"
    yield "machine).\n"
    yield "| claim of the paper | " + " | ".join(study.data) + " |"
    yield "|---|" + "---|" * len(study.data)
    for key, claim in CLAIMS.items():
        cells = []
        for name in study.data:
            mine = [each for each in findings if (each.claim, each.data) == (key, name)]
            cells.append("; ".join(f"**{each.verdict}** {each.figure}".strip() for each in mine))
        yield f"| {claim} | " + " | ".join(cells) + " |"


def _means(study: StudyResult, name: str) -> Iterator[str]:
    means = point_scores(study, name)
    sizes = sorted({point.n for point in means if point.n})
    if not sizes:
        return
    front = {mean.point for mean in joint_front(means).points}
    yield f"\n{name}, {len(study.data[name].gold)} test texts, accuracy in % by gold labels in all; bold is on the"
    yield "joint front of FLOPs, labels and accuracy:\n"
    yield "| | parameters | FLOPs a text | p50 | " + " | ".join(map(str, sizes)) + " |"
    yield "|---" * (len(sizes) + 4) + "|"
    for who in dict.fromkeys((point.procedure, point.backbone) for point in means):
        alone = means.get(GridPoint(*who, 0))
        row = [means.get(GridPoint(*who, n)) for n in sizes] if alone is None else [alone]
        cells = ["" if each is None else _cell(each, each.point in front) for each in row]
        cost = next(each.footprint for each in row if each is not None)
        weight = f"{format_count(cost.parameters)} | {format_count(cost.flops)} | {format_ms(cost.p50_ms)}"
        filled = [*cells, *[""] * (len(sizes) - len(cells))]
        yield f"| {point_title(GridPoint(*who, 0))} | {weight} | " + " | ".join(filled) + " |"


def _cell(mean: PointScore, on_front: bool) -> str:
    spread = "" if np.isnan(mean.sd) else f" ± {100 * mean.sd:.1f}"
    score = f"{100 * mean.score.value:.1f}"
    return f"**{score}**{spread}" if on_front else score + spread


if __name__ == "__main__":
    main()

"""The claims of Aina et al. 2022 judged on the cells of a study: evidence and a verdict for each data set.

A claim is judged by the bootstrap over test texts and seeds: "held" and "did not hold" where the 95 % interval of what
decides it is on one side, else "undecided"; "not measured" where its cells are missing. Does not run anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from potstill.evaluation.metrics import Score
from potstill.study.analysis import GridPoint, PointScore, crossovers, joint_front, point_scores
from potstill.study.records import StudyResult
from potstill.study.sentences import crossover_sentence, format_percent, point_title

NEAR = 0.02  # "within 1-2 points"
MIN_SEEDS = 3  # with fewer, an interval covers only the texts
LARGE = 300  # "many labels": the paper has P ahead below 320
FROM_ZERO = ", head from zero"  # in the name of a backbone: FT by the common recipe
CLAIMS = {
    "a": "with few labels P beats FT of the same model",
    "a0": "with few labels P beats FT of the same model whose head starts from zero",
    "a'": "with few labels P beats FT of the best encoder or static model",
    "b": "with many labels FT and P of the same model are both fine (within 2 points)",
    "c": "the smallest P+KD student comes within 2 points of the much larger P model",
    "c'": "the next larger P+KD student does",
    "d": "P+KD is on the joint front of compute, labels and quality",
    "e": "the smallest FT+KD student comes within 2 points of the much larger FT model",
    "e'": "the next larger FT+KD student does",
    "f": "with few labels P+KD beats FT+KD into the same student",
    "g": "with few labels P+KD beats FT of the same student",
    "h": "with few labels FT+KD beats FT of the same student",
    "i": "a student of a language model in context beats FT of the same student",
}
Means = Mapping[GridPoint, PointScore]
Pair = tuple[PointScore, PointScore]


@dataclass(frozen=True)
class Finding:
    """One claim on one data set: the evidence, and "held", "did not hold", "undecided" or "not measured".

    `figure` is what decides it, in a few words.
    """

    claim: str
    data: str
    evidence: str
    verdict: str
    figure: str = ""


def judge(study: StudyResult, data: str) -> Iterator[Finding]:
    """All claims on one data set."""
    means = point_scores(study, data)
    models = dict.fromkeys(point.backbone for point in means if point.procedure == "p")
    for model in models:
        yield _few(means, data, "a", _same(means, ("p", model), ("ft", model)))
        yield _few(means, data, "a0", _same(means, ("p", model), ("ft", model + FROM_ZERO)))
        yield _both_fine(data, _same(means, ("p", model), ("ft", model)))
    yield _few(means, data, "a'", _against_encoders(means, set(models)))
    for teacher in models:
        for rank, (p_claim, ft_claim) in enumerate((("c", "e"), ("c'", "e'"))):
            yield _near(means, data, p_claim, ("p+kd", "p"), teacher, rank)
            yield _near(means, data, ft_claim, ("ft+kd", "ft"), teacher, rank)
    yield _on_the_front(means, data)
    students = dict.fromkeys(point.backbone for point in means if point.procedure in ("p+kd", "ft+kd", "llm+kd"))
    for student in students:
        alone = student.partition(" of ")[0]
        yield _few(means, data, "f", _same(means, ("p+kd", student), ("ft+kd", student)))
        yield _few(means, data, "g", _same(means, ("p+kd", student), ("ft", alone)))
        yield _few(means, data, "h", _same(means, ("ft+kd", student), ("ft", alone)))
        yield _few(means, data, "i", _same(means, ("llm+kd", student), ("ft", alone)))


def judge_all(study: StudyResult) -> list[Finding]:
    """All claims on all data sets; those of one claim that were not measured are one finding."""
    found: list[Finding] = []
    for data in study.data:
        mine = list(judge(study, data))
        for claim in CLAIMS:
            some = [each for each in mine if each.claim == claim]
            measured = [each for each in some if each.verdict != "not measured"]
            found += measured or some[:1] or [Finding(claim, data, "its cells were not run", "not measured")]
    return found


def _same(means: Means, one: tuple[str, str], other: tuple[str, str]) -> list[Pair]:
    """The pairs of two series at the sizes that both have, by size."""
    sizes = sorted(point.n for point in means if (point.procedure, point.backbone) == one)
    pairs = [(means[GridPoint(*one, n)], means.get(GridPoint(*other, n))) for n in sizes]
    return [(a, b) for a, b in pairs if b is not None]


def _against_encoders(means: Means, models: set[str]) -> list[Pair]:
    """The best P, and the best FT of a backbone that has no P, at each size."""
    pairs = []
    for n in sorted({point.n for point in means if point.procedure == "p"}):
        p = [mean for point, mean in means.items() if (point.procedure, point.n) == ("p", n)]
        ft = [
            mean
            for point, mean in means.items()
            if (point.procedure, point.n) == ("ft", n) and point.backbone.removesuffix(FROM_ZERO) not in models
        ]
        if p and ft:
            pairs.append(tuple(max(those, key=lambda mean: mean.score.value) for those in (p, ft)))
    return pairs  # type: ignore[return-value]


def _few(means: Means, data: str, claim: str, pairs: list[Pair]) -> Finding:
    """Is the first of a pair ahead of the second at the smallest size? The evidence has all sizes."""
    if not pairs:
        return Finding(claim, data, "one of the two was not run", "not measured")
    first, second = pairs[0]
    evidence = f"{point_title(first.point)} beside {point_title(second.point)}: "
    evidence += "; ".join(_beside(a, b) for a, b in pairs)
    if claim in ("a", "a0"):
        mine = {mean.point: mean for pair in pairs for mean in pair}
        evidence += ". " + " ".join(crossover_sentence(each) for each in crossovers(mine))
    gap = _gap(first, second)
    finding = Finding(claim, data, evidence.strip(), _verdict(gap.low, gap.high), _figure(first, second))
    return _with_seeds(finding, pairs[0])


def _both_fine(data: str, pairs: list[Pair]) -> Finding:
    """At the largest size that both have, is the better of the two less than 2 points ahead?"""
    if not pairs or pairs[-1][0].point.n < LARGE:
        n = pairs[-1][0].point.n if pairs else 0
        return Finding("b", data, f"both were run up to {n} labels only", "not measured")
    a, b = pairs[-1]
    gap = _gap(a, b)
    if gap.low >= -NEAR and gap.high <= NEAR:
        verdict = "held"
    else:
        verdict = "did not hold" if gap.low > NEAR or gap.high < -NEAR else "undecided"
    evidence = f"{point_title(a.point)} beside {point_title(b.point)}: {_beside(a, b)}"
    return _with_seeds(Finding("b", data, evidence, verdict, _figure(a, b)), (a, b))


def _near(means: Means, data: str, claim: str, how: tuple[str, str], teacher: str, rank: int) -> Finding:
    """A distilled student beside the model that taught it; judged at the size where the teacher is best."""
    taught = {
        point.backbone: mean.footprint.parameters or 0
        for point, mean in means.items()
        if point.procedure == how[0] and teacher_of(point.backbone) == teacher
    }
    students = sorted(taught, key=lambda name: taught[name])
    pairs = _same(means, (how[0], students[rank]), (how[1], teacher)) if len(students) > rank else []
    if not pairs:
        return Finding(claim, data, "its cells were not run", "not measured")
    best = max(pairs, key=lambda pair: pair[1].score.value)
    gap = _gap(*best)
    evidence = f"{point_title(pairs[0][0].point)} beside {point_title(pairs[0][1].point)}: "
    evidence += "; ".join(_beside(a, b) for a, b in pairs) + f". Judged at {best[0].point.n} labels"
    verdict = _verdict(gap.low + NEAR, gap.high + NEAR)
    return _with_seeds(Finding(claim, data, evidence, verdict, _figure(*best)), best)


def teacher_of(student: str) -> str:
    """The backbone that teaches a student: "minilm of qwen-0.5b" says it, and smollm2 teaches the others."""
    return student.partition(" of ")[2] or "smollm2"


def _on_the_front(means: Means, data: str) -> Finding:
    """Is a P+KD point beaten by nothing in FLOPs a text, labels and quality at once? In how many of the draws?"""
    front = joint_front(means)
    share = front.shares.get("p+kd")
    if share is None:
        return Finding("d", data, "P+KD was not run", "not measured")
    there = [mean.point for mean in front.points if mean.point.procedure == "p+kd"]
    n = sum(point.procedure == "p+kd" for point in means)
    evidence = f"{len(there)} of {n} P+KD points are on it" + (": " if there else "")
    evidence += ", ".join(f"{point_title(point)} at {point.n}" for point in there)
    shares = ", ".join(f"{name} {value:.0%}" for name, value in sorted(front.shares.items()))
    evidence += f"; share of the draws in which a procedure is on it: {shares}"
    verdict = "held" if share > 0.975 else "did not hold" if share < 0.025 else "undecided"
    return Finding("d", data, evidence, verdict, f"in {share:.0%} of the draws")


def _gap(a: PointScore, b: PointScore) -> Score:
    low, high = np.percentile(a.draws - b.draws, [2.5, 97.5])
    return Score(a.score.value - b.score.value, float(low), float(high))


def _figure(a: PointScore, b: PointScore) -> str:
    gap = _gap(a, b)
    return (
        f"{a.point.backbone}, {a.point.n} labels: {100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    )


def _beside(a: PointScore, b: PointScore) -> str:
    gap = _gap(a, b)
    scores = f"{format_percent(a.score.value)} and {format_percent(b.score.value)}"
    return f"{a.point.n} labels {scores}, {100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _verdict(low: float, high: float) -> str:
    return "held" if low > 0 else "did not hold" if high < 0 else "undecided"


def _with_seeds(finding: Finding, pair: Pair) -> Finding:
    seeds = min(mean.seeds for mean in pair)
    if seeds >= MIN_SEEDS or finding.verdict not in ("held", "did not hold"):
        return finding
    return replace(finding, verdict=f"undecided ({seeds} seed{'s' * (seeds > 1)}, else {finding.verdict})")

"""The sentences and figures of a report as text. Every number comes from its records; None reads "not measured"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import floor, log10

from potstill.data.printable import escape_controls
from potstill.evaluation.guarantees import scored_texts
from potstill.evaluation.metrics import Score
from potstill.evaluation.reliability import Reliability
from potstill.evaluation.text2text.answer_metrics import KIND as ANSWERS
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES
from potstill.evaluation.text2text.entities import KIND, EntityScores
from potstill.reports.records import Baseline, Report, UnreadableSummary

_STATES = {
    "ok": "answered",
    "unparsable": "without a label in the reply",
    "refused": "refused by the provider",
    "failed": "failed",
    "unasked": "not asked, as the budget ended",
}
_SOURCES = {
    "gold": "gold labels",
    "scored": "the probability of each label",
    "logprobs": "log-probabilities of the reply",
    "votes": "votes of several replies",
    "stated": "stated confidences",
    "one-hot": "the label alone",
}
_PURPOSES = {"teach": "the teacher’s answers", "train": "training the student", "measure": "measuring"}
MAX_REPLY = 200  # characters of a reply that could not be read
NOT_MEASURED = "not measured"
OUT_OF_FOLD_NOTE = (
    " They were fitted on training texts, each scored by a student trained without it on fewer labels than the "
    "student has: what holds is expected, and not guaranteed."
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def strip_control_characters(text: str) -> str:
    """The text without control characters, direction overrides and lone surrogates: safe to print and to encode."""
    return _UNPRINTABLE.sub("\ufffd", text)


def one_line(text: str, limit: int = 240) -> str:
    """The text on one clean line of at most `limit` characters."""
    line = strip_control_characters(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def nonbreaking(text: str) -> str:
    """The text with its figures and units held together, so that a line does not break between them."""
    return re.sub(r"(?<=[\d<=]) (?=%|MB\b|kB\b|ms\b|texts/s|\d)| (?=–)|(?<=of) (?=\$)", "\u00a0", text)


def percent(share: float | None) -> str:
    """0.841 -> "84.1 %"."""
    return NOT_MEASURED if share is None else f"{100 * share:.1f} %"


def interval(score: Score | None) -> str:
    """A share's 95 % interval: "81.8–86.3 %"."""
    return NOT_MEASURED if score is None else f"{100 * score.low:.1f}–{100 * score.high:.1f} %"


def with_interval(score: Score) -> str:
    """A share and its 95 % interval in percent: "84.1 (81.8–86.3)"."""
    return f"{100 * score.value:.1f} ({100 * score.low:.1f}–{100 * score.high:.1f})"


def number(value: float | None) -> str:
    """1850.3 -> "1,850", 46.2 -> "46", 1.72 -> "1.7", 0.0213 -> "0.021"."""
    if value is None:
        return NOT_MEASURED
    if round(abs(value), 1) >= 10 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{_decimals(value)}f}"


def usd(sum_usd: float | None) -> str:
    """20 -> "$20.00", 0.0061 -> "$0.0061", 0.02 -> "$0.02", 0 -> "$0"."""
    if sum_usd is None:
        return NOT_MEASURED
    if sum_usd == 0:
        return "$0"
    if abs(sum_usd) >= 1:
        return f"${sum_usd:,.2f}"
    whole, cents = f"{sum_usd:.{max(2, _decimals(sum_usd))}f}".split(".")
    return f"${whole}.{cents.rstrip('0'):0<2}"


def texts_per_s(rate: float | None) -> str:
    """46.2 -> "46 texts/s"."""
    return NOT_MEASURED if rate is None else f"{number(rate)} texts/s"


def milliseconds(value: float | None) -> str:
    """1.72 -> "1.7 ms"."""
    return NOT_MEASURED if value is None else f"{number(value)} ms"


def megabytes(value: float | None) -> str:
    """22.9 -> "23 MB", 0.04 -> "40 kB"."""
    if value is None:
        return NOT_MEASURED
    return f"{number(1000 * value)} kB" if value < 0.1 else f"{number(value)} MB"


def duration(seconds: float | None) -> str:
    """42 -> "42 s", 252 -> "4 min 12 s", 7500 -> "2 h 5 min"."""
    if seconds is None:
        return NOT_MEASURED
    if round(seconds) < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock(iso: str) -> str:
    """Shorten "2026-11-30T09:28:21+00:00" to "2026-11-30 09:28"; anything else stays."""
    return iso[:16].replace("T", " ") if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", iso) else iso


def format_ratio(ratio: float) -> str:
    """40.2 -> "40×", 1.53 -> "1.5×"."""
    return f"{ratio:,.0f}×" if round(ratio, 1) >= 10 else f"{ratio:.1f}×"


def main_metric_name(report: Report) -> str:
    """The name of the main score: accuracy, micro F1 in a multi-label task, entity F1, or a metric of answers."""
    result = report.student.evaluation
    if report.free_text is not None:
        return METRIC_NAMES[report.free_text.metric]
    if result is not None and result.kind == KIND:
        return "entity F1"
    return "micro F1" if result is not None and result.micro_f1 is not None else "accuracy"


def headline(report: Report) -> str:
    """The result in one sentence: the student, its teacher, the money. What was not measured is left out."""
    student, teacher, money = report.student, report.teacher, report.money
    sentence = f"A {megabytes(student.size_mb)} student" if student.size_mb is not None else "A student"
    answers = [f"answers {texts_per_s(student.texts_per_s)}"] if student.texts_per_s is not None else []
    if student.evaluation is not None:
        share = f"{percent(student.evaluation.main_score.value)} {main_metric_name(report)}"
        answers.append(f"at {share}" if answers else f"reached {share}")
    sentence = f"{sentence} {' '.join(answers) or 'was trained'}"
    if teacher is not None and teacher.evaluation is not None:
        sentence += f" – its teacher reached {percent(teacher.evaluation.main_score.value)}"
        if teacher.texts_per_s is not None:
            sentence += f" at {texts_per_s(teacher.texts_per_s)}"
    elif teacher is not None and teacher.texts_per_s is not None and not _people_taught(report):
        sentence += f" – its teacher answered {texts_per_s(teacher.texts_per_s)}"
    return f"{sentence}; {usd(money.charged_usd)} of {usd(money.limit_usd)} spent."


def test_set_sentence(report: Report) -> str:
    """The number of texts that student and teacher were evaluated on; empty if the student was not."""
    student = report.student.evaluation
    if student is None:
        return ""
    name = main_metric_name(report)
    sentence = f"{name[0].upper()}{name[1:]} on {student.n:,} test texts, none of them used for training"
    teacher = report.teacher.evaluation if report.teacher is not None else None
    if teacher is not None and teacher.n != student.n:
        sentence += f"; the teacher was asked about {teacher.n:,} of them"
    if student.kind == KIND:
        sentence += f". In {percent(student.accuracy.value)} of them every entity is right and none is too many"
    elif student.kind == ANSWERS:
        sentence += f". {percent(student.accuracy.value)} of them are answered exactly"
    elif student.lrap is not None:
        exact = f"The student’s set of labels is exactly right for {percent(student.accuracy.value)}"
        sentence += f". {exact}; label ranking average precision {percent(student.lrap.value)}"
    elif student.accuracy.value == 1:  # then every resample of the bootstrap is all right, and its interval a point
        bound = percent(0.05 ** (1 / student.n))
        sentence += (
            f". All are right: on other texts like these it is at least {bound} (exact binomial, 95 % confidence)"
        )
    return f"{sentence}."


def entity_sentence(scores: EntityScores) -> str:
    """Precision, recall, the score of spans alone, and the lenient score."""
    return (
        f"Precision {percent(scores.precision)}, recall {percent(scores.recall)} ({scores.n_gold:,} gold entities, "
        f"{scores.n_predicted:,} found); spans whatever their type {percent(scores.span_f1.value)} "
        f"({interval(scores.span_f1)}); lenient score {percent(scores.lenient_f1.value)} "
        f"({interval(scores.lenient_f1)})."
    )


def simulation_sentence(report: Report) -> str:
    """The simulation sentence, which begins with that word; empty if nothing was simulated."""
    sentence = report.simulation.strip()
    return sentence if not sentence or sentence.lower().startswith("simulat") else f"Simulated: {sentence}"


def comparison_sentences(report: Report) -> tuple[str, ...]:
    """Sentences on how much faster and cheaper than its teacher the student is, and whether it beats it and others."""
    sentences = (_speed_and_price(report), _against_teacher(report), _against_baselines(report))
    return tuple(sentence for sentence in sentences if sentence)


def reliability_sentences(report: Report) -> tuple[str, ...]:
    """How reliable the student's confidence is: the threshold, the label sets, the calibration."""
    found = report.reliability
    if found is None:
        return ()
    return tuple(sentence for sentence in (_threshold(found), _label_sets(found), _calibration(found)) if sentence)


def _threshold(found: Reliability) -> str:
    if not found.n_held_out:
        return (
            "Too few labelled texts were held out to calibrate its probabilities and to guarantee a threshold: they "
            "order its answers, and are no frequencies."
        )
    precision, held_out = _whole(found.target_precision), scored_texts(found.n_held_out, found.n_folds)
    if found.threshold is None:
        return f"No threshold could be shown to make {precision} of the labels right on {held_out}."
    word = "expectation" if found.n_folds else "guarantee"
    guarantee = f"the {word}, from {held_out} with {_whole(found.confidence)} confidence, is at least {precision}"
    begin = f"It is confident from a probability of {found.threshold:.2f} on"
    if found.confident_accuracy is None or found.confident_share is None:
        return f"{begin} ({guarantee}), which no test text reaches."
    right = f"{percent(found.confident_accuracy.value)} ({interval(found.confident_accuracy)}) of"
    if found.confident_share == 1:
        return f"It need not abstain: {right} its labels are right; {guarantee}."
    covered = f"that is {percent(found.confident_share)} of the test texts"
    return f"{begin}: {covered}, and {right} those labels are right; {guarantee}."


def _label_sets(found: Reliability) -> str:
    if found.set_coverage is None or found.mean_set_size is None:
        return ""
    sets = f"Its label sets for a coverage of {_whole(found.target_coverage)} have {found.mean_set_size:.2f} labels"
    reached = f"{percent(found.set_coverage.value)} ({interval(found.set_coverage)})"
    return f"{sets} on average and contain the right one for {reached} of the test texts."


def _calibration(found: Reliability) -> str:
    how = "" if found.method == "none" else f", calibrated by {found.method} scaling,"
    ece = f"a calibration error (ECE) of {percent(found.ece.value)} ({interval(found.ece)})"
    brier = f"Brier score {found.brier.value:.3f} ({found.brier.low:.3f}–{found.brier.high:.3f})"
    return f"Its probabilities{how} have {ece}; {brier}."


def _whole(share: float) -> str:
    """0.95 -> "95 %", 0.995 -> "99.5 %"."""
    return f"{100 * share:.6g} %"


def answer_state(state: str) -> str:
    """The state of a teacher's answers in words; a state of a plug-in stays as it is."""
    return _STATES.get(state, state)


def score_sources(sources: str) -> str:
    """What the scores of answers were computed from ("logprobs, one-hot") in words."""
    return ", ".join(_SOURCES.get(source, source) for source in sources.split(", "))


def spending_by_purpose(by_purpose: Mapping[str, float]) -> str:
    """The sums of a run by purpose, in the order in which they are spent; empty without any."""
    known = [*_PURPOSES, *(name for name in by_purpose if name not in _PURPOSES)]
    return ", ".join(
        f"{usd(by_purpose[name])} for {_PURPOSES.get(name, name)}" for name in known if by_purpose.get(name)
    )


def unreadable_sentence(summary: UnreadableSummary) -> str:
    """How many replies of a teacher name no label, and what to do about it."""
    one = summary.n_replies == 1
    replies, name, were = ("reply", "names", "It was") if one else ("replies", "name", "They were")
    return (
        f"{summary.n_replies:,} {replies} of {summary.teacher} {name} no label of the task. {were} paid for and "
        "not used. If the replies are labels by other names, give these under [teacher.aliases]; if they are cut off, "
        "raise max_tokens under [teacher]; otherwise take another model."
    )


def unreadable_reply(reply: str) -> str:
    """A reply as it is shown: on one line, in quotes, with control characters as escapes."""
    return f"“{one_line(escape_controls(reply), MAX_REPLY)}”" if reply.strip() else "(an empty reply)"


def method_notes(report: Report) -> tuple[str, ...]:
    """The footnotes: how each figure was measured."""
    result = report.student.evaluation
    notes = []
    if result is not None:
        notes.append(
            "Test texts were used neither for training nor for tuning. Intervals are 95 % percentile bootstrap "
            f"intervals over texts ({result.n_resamples:,} resamples): they cover other texts drawn the same way, not "
            "other seeds."
        )
    if result is not None and report.free_text is None:
        notes.append(
            "Macro F1 is the unweighted mean of F1 over the labels that occur in the gold labels or in the predictions."
        )
    if report.free_text is not None:
        notes.append(
            "Exact match and token F1 leave out case, punctuation and articles, as SQuAD’s script does; ROUGE is F1 "
            "without stemming, BLEU is of all texts together and smoothed as sacrebleu’s. The best reference counts."
        )
    if report.entities is not None:
        notes.append(
            "An entity is right if its characters and its type are; entity F1 is the micro average. The lenient score "
            "(Kang et al. 2023) asks for the type of each gold entity’s words, wherever they were found, and entities "
            "that are too many cost nothing: it is not comparable with the others."
        )
    if report.reliability is not None and report.reliability.n_held_out:
        notes.append(
            "The threshold was found by fixed-sequence testing with exact binomial tails, the label sets are split "
            "conformal (LAC). Both guarantees are for texts drawn like the held-out ones."
            + (OUT_OF_FOLD_NOTE if report.reliability.n_folds else "")
        )
    if report.mcnemar is not None:
        notes.append(
            "Student and teacher are compared on the texts both were evaluated on, by McNemar’s two-sided mid-p test."
        )
    speeds = [report.student.texts_per_s, report.student.p50_ms, report.teacher and report.teacher.texts_per_s]
    if any(speed is not None for speed in speeds):
        machine = f" on {report.settings.machine}" if report.settings.machine else ""
        notes.append(
            f"Speeds were measured{machine}: texts/s in batches; p50 is the median latency of a single text."
            " The teacher’s texts/s are those of the run’s calls."
        )
    notes.append(
        "Charged is what this run costs on its own; paid is the cash it cost now (answers from the cache are charged "
        "at their recorded price and paid at zero). Lost is the part of charged that bought nothing, after a crash."
    )
    return tuple(notes)


def p_value(p: float) -> str:
    """0.0004 -> "p < 0.001", 0.034 -> "p = 0.034"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _speed_and_price(report: Report) -> str:
    """How many times as fast and as cheap the student is; empty unless speeds and prices of both were measured."""
    student, teacher, money = report.student, report.teacher, report.money
    if teacher is None or _people_taught(report) or not (student.texts_per_s and teacher.texts_per_s):
        return ""
    fast = f"{format_ratio(student.texts_per_s / teacher.texts_per_s)} as fast as its teacher"
    prices = money.teacher_usd_per_million_texts, money.student_usd_per_million_texts
    cheap = f" and {format_ratio(prices[0] / prices[1])} as cheap" if prices[0] and prices[1] else ""
    host = teacher.metadata.get("host")
    where = f"here, the teacher at {host}" if host else "both on this machine"
    return f"The student is {fast}{cheap}, {where}."


def _people_taught(report: Report) -> bool:
    """Whether people's answers were bought and no model's: their pace is no speed to compare with."""
    spent = report.money.by_category
    return bool(spent["human"]) and not spent["llm"]


def _against_teacher(report: Report) -> str:
    test = report.mcnemar
    if test is None:
        return ""
    gains = (
        f"the student is right on {test.only_a:,} texts that the teacher gets wrong, the teacher on {test.only_b:,} "
        f"that the student gets wrong (McNemar {p_value(test.p_mid)})"
    )
    if test.p_mid >= 0.05:
        return f"Student and teacher are too close to call: {gains}."
    return f"The student {'beats' if test.only_a > test.only_b else 'is behind'} its teacher: {gains}."


def _against_baselines(report: Report) -> str:
    scored = [(b.main_score.value, _described(b)) for b in report.baselines if b.main_score is not None]
    student = report.student.evaluation
    if not scored or student is None:
        return ""
    value, name = max(scored)
    if value >= student.main_score.value:
        worth = ": here the teacher’s answers were not worth it" if report.teacher is not None else ""
        return f"The baseline {name} is at least as good, at {percent(value)}{worth}."
    return f"The best baseline, {name}, reaches {percent(value)}."


def _described(baseline: Baseline) -> str:
    return f"“{baseline.name}”" + (f" ({baseline.description})" if baseline.description else "")


def _decimals(value: float) -> int:
    # Two significant digits below one, one decimal from one to ten.
    return 1 if abs(value) >= 1 else 1 - floor(log10(abs(value)))

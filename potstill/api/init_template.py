"""A first potstill.toml for a data file: every guess as a value, the other keys as comments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.data.paths import as_text
from potstill.data.tables import WITH_HEADER, guess_of, is_stream
from potstill.data.task import JsonObject, Task
from potstill.data.toml_file import comment, quoted
from potstill.errors import BadSpec
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES
from potstill.ledger.prices import parse_usd
from potstill.procedures import LABELS_ONLY_PROCEDURE
from potstill.procedures.cold_start import DEFAULT_COLD_START
from potstill.procedures.kinds import recipe_kind
from potstill.run.inputs import RunInputs, read_inputs
from potstill.students import DEFAULT_STUDENT, FORM_STUDENTS
from potstill.teachers import DEFAULT_TEACHER, TRAINED_TEACHER

SPEC_FILE = "potstill.toml"
SHOWN_LABELS = 30
# What of a file's layout is written, and what it means.
LAYOUT_KEYS = {
    "format": "csv, tsv, jsonl, json, parquet, excel, conll (a word and its tag a line) or txt (one text a line)",
    "sheet": "of the workbook: a name, or a number from 1",
    "encoding": "of the file's bytes",
    "delimiter": 'between the cells: one character, or "tab"',
    "quotes": "cells: a quote opens a cell, over lines, too; text: quotes are part of the texts",
    "escape": "the character before a quote that is part of a cell",
    "header": "false: the first line is a row; the columns are column_1, column_2, ...",
    "skip_rows": "lines above the header",
}
# These are comments unless they were named or guessed: as values they would keep the reader from looking at the file.
COMMENTED = ("format", "sheet", "quotes", "escape", "skip_rows")
TEACHER = """[teacher]
name = {}  # or "openai:MODEL", "trained:BACKBONE"
{}
"""
STUDENT = f'{quoted(DEFAULT_STUDENT)}  # or "static", "linear"'
OTHER_RECIPES = '  # or "finetune", "selftrain", "pgkd", "allocate", "annotate"'
MULTI_RECIPES = '  # the labels alone; or "kd", with the [teacher] above'
MULTI_KD_RECIPES = '  # or "finetune", the labels alone'
NO_POOL_RECIPES = '  # the labels alone; or "kd", with texts without a label for a teacher: pool = "..." under [data]'
NO_POOL = (
    "Every text has {0}, so the file says finetune, which learns them without a teacher, and [teacher] is commented "
    'out. A teacher is asked about texts without {0}: name them with pool = "FILE" under [data], and take the '
    "procedure kd."
)
NO_MULTI_TEACHER = (
    "A text may have several labels and no teacher is named, so the file says finetune, which learns the labels alone, "
    "and [teacher] is commented out. For a teacher's answers about the unlabelled texts name one, and take the "
    "procedure kd."
)
DESCRIPTIONS = """
[task.descriptions]  # one sentence a label helps every teacher
{}
"""
FIRST_TEXTS = f"""# cold_start = "{DEFAULT_COLD_START}"  # annotate, allocate: the texts people label first; or "random"
"""
MISSING = '# missing = ["nan", "N/A"]  # words in a label cell that mean: no label; without this line the usual ones'


@dataclass(frozen=True)
class SpecTemplate:
    """A TOML file before it is written.

    Attributes:
        file: where it belongs.
        toml: its text.
        inputs: the run it describes, as read from the data.
        note: why it proposes another procedure than the default, in words; empty if it does not.
    """

    file: Path
    toml: str
    inputs: RunInputs
    note: str = ""


def spec_template(
    data: Sequence[Path], out: Path | None, overrides: JsonObject, *, force: bool, describe: bool = False
) -> SpecTemplate:
    """The TOML file for `data`, one file or several.

    `overrides` are the options of the command as a spec has them; `describe` says that it asks for descriptions, too.

    Raises:
        BadData: a file cannot be read, or has no text column.
        BadSpec: the TOML file exists already, or the data are standard input.
    """
    if any(map(is_stream, data)):
        raise BadSpec(
            "A TOML file cannot name standard input for init.", "Store it first: cat > data.csv; potstill init data.csv"
        )
    out = out or data[0].parent / SPEC_FILE
    if out.exists() and not force:
        also = f", or add descriptions to it: potstill init {as_text(out)} --describe"
        mend = f"Give another name with -o, or --force{also if describe and out.suffix == '.toml' else ''}."
        raise BadSpec(f"{out} exists already.", mend)
    budget = overrides.get("budget")
    if budget is not None:
        parse_usd(budget)
    order = read_inputs(data[0] if len(data) == 1 else data, None, {"budget": 1, **overrides})
    beside = out.absolute().parent
    files = [path.name if path.absolute().parent == beside else str(path.absolute()) for path in data]
    if odd := next((name for name in files if as_text(Path(name)) != name), None):
        raise BadSpec(f"The name {odd!r} is not UTF-8, and a TOML file cannot hold it.", "Rename the file.")
    return SpecTemplate(out, _toml(order, files, budget, out.name), order, _note(order))


def _data_lines(order: RunInputs) -> Iterator[str]:
    """The keys of `[data]`, each with the reason if it was guessed."""
    given = order.spec.data.model_dump(mode="json", exclude_none=True, exclude={"file"})
    found = dict(order.layout.to_json())
    if order.layout.format in WITH_HEADER:
        found.setdefault("skip_rows", 0)
    for name, about in LAYOUT_KEYS.items():
        if name in given or name not in found:
            continue
        guess = guess_of(order.guesses, name)
        why = about if guess is None else f"guessed: {comment(guess.reason)}; {about}"
        mark = "# " if guess is None and name in COMMENTED else ""
        yield f"{mark}{name} = {quoted(found[name])}  # {why}"
    for name, value in {**given, **order.columns}.items():
        guess = None if name in given else guess_of(order.guesses, name)
        yield f"{name} = {quoted(value)}" + (f"  # guessed: {comment(guess.reason)}" if guess else "")
    if (no_label := guess_of(order.guesses, "label")) is not None and not no_label.value:
        yield f'# label = "COLUMN"  # guessed: none, {comment(no_label.reason)}'
    if "missing" not in given:
        yield MISSING


def _answer_lines(task: Task) -> Iterator[str]:
    """The keys of `[task]` about labels, types or answers."""
    if task.output is not None:
        yield f"form = {quoted(task.output.form)}  # of the answers"
    if task.form == "free":
        yield f"metric = {quoted(task.output and task.output.metric)}  # or one of {', '.join(METRIC_NAMES)}"
        limit = task.output and task.output.max_tokens
        yield f"{'# ' if limit is None else ''}max_tokens = {limit or 64}  # of an answer; else that of the longest one"
        yield '# instruction = "Answer the question."'
        return
    labels = ",\n  ".join(quoted(label) for label in task.labels)
    yield f"labels = [\n  {labels},\n]"
    yield '# instruction = "Decide what the customer wants."'


def _lacks_pool(order: RunInputs) -> bool:
    """Whether the default procedure needs unlabelled texts, and there are none and no teacher was named."""
    recipe = recipe_kind(order.spec.procedure.name)
    return recipe.needs_pool and order.spec.teacher is None and not order.pool.subset("pool").texts


def _asks_teacher(order: RunInputs) -> bool:
    """Whether the file proposes a procedure that asks a teacher; of the labels of one text each, it is the default."""
    if order.task.kind in ("multi", "text2text"):
        return order.spec.teacher is not None and bool(order.pool.subset("pool").texts)
    return not _lacks_pool(order)


def _note(order: RunInputs) -> str:
    """Why the file proposes no teacher, in words; empty if it does, or if none was to be expected."""
    if _asks_teacher(order) or (order.task.form is not None and order.spec.teacher is None):
        return ""
    if not order.pool.subset("pool").texts:
        return NO_POOL.format("a label" if order.task.form is None else "an answer")
    return NO_MULTI_TEACHER


def _teacher_lines(order: RunInputs) -> str:
    """`[teacher]`: the one that was named, with its options, or the default; commented out if it is not asked."""
    named, default = order.spec.teacher, TRAINED_TEACHER if order.task.kind == "multi" else DEFAULT_TEACHER
    if named is None and order.task.form is not None:
        return ""
    options = {} if named is None else named.options
    lines = "".join(f"{name} = {quoted(value)}\n" for name, value in options.items())
    table = TEACHER.format(quoted(default if named is None else named.name), lines)
    if _asks_teacher(order):
        return table
    return "".join(f"# {line}\n" for line in table.strip().split("\n")) + "\n"


def _hour_line(order: RunInputs) -> str:
    given = order.spec.prices.get("usd_per_hour")
    return "# usd_per_hour = 0.10" if given is None else f"usd_per_hour = {quoted(given)}"


def _toml(order: RunInputs, files: Sequence[str], budget: str | float | None, file_name: str) -> str:
    task, form = order.task, order.task.form
    descriptions = "\n".join(f'# {quoted(label)} = ""' for label in task.labels[:SHOWN_LABELS])
    asks = _asks_teacher(order)
    student = STUDENT if form is None else f'{quoted(FORM_STUDENTS[form])}  # or "{FORM_STUDENTS[form]}:WEIGHTS"'
    recipe = quoted(order.spec.procedure.name if asks else LABELS_ONLY_PROCEDURE)
    if task.kind == "multi":
        recipe += MULTI_KD_RECIPES if asks else MULTI_RECIPES
    elif form is None:
        recipe += OTHER_RECIPES if asks else NO_POOL_RECIPES
    first = FIRST_TEXTS if task.kind in ("single", "pair") and len(order.pool.subset("pool")) else ""
    sum_usd = f"budget = {quoted(str(budget))}" if budget is not None else "budget = 1.00"
    return f"""# The settings of a run. Start it with: potstill distill {comment(file_name)}
{sum_usd}  # US dollars for everything: model calls, labels, compute

[task]
name = {quoted(task.name)}
kind = {quoted(task.kind)}  # one text and one label (single), two texts (pair), several labels (multi), or text2text
{chr(10).join(_answer_lines(task))}
{"" if form == "free" else DESCRIPTIONS.format(descriptions)}
[data]
file = {quoted(files[0] if len(files) == 1 else list(files))}  # or: train = "...", pool = "...", test = "..."
{chr(10).join(_data_lines(order))}
# on_conflict = "drop"  # one text with two labels: drop, first, error
# on_leak = "drop"      # a training text that is also in test: drop, error, allow

{_teacher_lines(order)}[student]
name = {student}

[procedure]
name = {recipe}
{first}
[prices]
{_hour_line(order)}  # this machine
"""

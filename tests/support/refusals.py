"""Files and options that a command refuses, and what a placeholder in the hint stands for. Not a test itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ROWS = [f"{a} {b},{label}" for label in ("pos", "neg") for a in f"{label}a {label}b {label}c".split() for b in "uvwxyz"]
GOOD = "text,label\n" + "\n".join(ROWS) + "\n"
OPEN = "text,label\n" + "\n".join(f"{row.partition(',')[0]}," for row in ROWS) + "\n"  # no label
MIXED = GOOD + "one more,\n"
SOME = "\n".join(GOOD.splitlines()[:9])
TEXTS = "text\n" + "\n".join(f"one more {i}" for i in range(9))
PEOPLE = ["--teacher", "human", "--procedure", "annotate"]
LLM = ["--teacher", "openai:gpt-6-luna", "--yes"]  # its key is missing, which is the next sentence


@dataclass(frozen=True)
class Refusal:
    """What is refused.

    Attributes:
        content: of data.csv.
        arguments: of the command, beside the file and what makes it fast.
        command: the command.
        values: placeholder in the hint -> value.
        ends: one of the named flags is enough; otherwise they lead to the next sentence.
    """

    content: str | bytes
    arguments: Sequence[str] = ()
    command: str = "distill"
    values: Mapping[str, str] = field(default_factory=dict)
    ends: bool = True


def leads_on(content: str | bytes, arguments: Sequence[str] = (), command: str = "distill", **values: str) -> Refusal:
    """A refusal after whose mend the next sentence comes."""
    return Refusal(content, arguments, command, values, ends=False)


BAD_ROW = GOOD + "a,b,c\n"
NUMBERS = "id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(30))
CONFLICTS = "text,label\n" + "".join(f"good {i // 2},{'ab'[i % 2]}\n" for i in range(40))
SOME_CONFLICTS = GOOD + "posa u,neg\n"
LISTS = "text,label\n" + "".join(f'{row.partition(",")[0]},"[""pos"", ""{row[:4]}""]"\n' for row in ROWS)
BITS = "text,label\n" + "".join(f'{row.partition(",")[0]},"[{int("pos" in row)}, 1]"\n' for row in ROWS)
TWO_TEXTS = "note,remark\n" + "posa is good,some other text\n" * 3
SEVERAL = GOOD.replace(",pos", ",pos|x")
SPLITS = "text,label,split\n" + "\n".join(row + (",train" if "pos" in row else ",holdout") for row in ROWS)
REFUSALS = {
    "a row with too many cells": Refusal(BAD_ROW),
    "a row with too many cells, in init": Refusal(BAD_ROW, command="init"),
    "a row with too many cells, in label-errors": Refusal(BAD_ROW, command="label-errors"),
    "a row with too many cells, in bench": Refusal(BAD_ROW, command="bench"),
    "a row with too many cells, in predict": Refusal(BAD_ROW, ["--on-bad-row", "error"], "predict"),
    "UTF-16 without a mark": Refusal(GOOD.encode("utf-16-le")),
    "UTF-16 without a mark, the other way": Refusal(GOOD.encode("utf-16-be")),
    "no header": Refusal("\n".join([*ROWS, ROWS[0]]), values={"N": "1", "COLUMN": ROWS[0].partition(",")[0]}),
    "a title above the header": Refusal("Export of today\n" + GOOD, values={"N": "1", "COLUMN": "text"}),
    "an open quote": Refusal(GOOD + '"good,pos\n'),
    "an open quote, in predict": Refusal(GOOD + '"good,pos\n', command="predict"),
    "no text column": Refusal(NUMBERS, values={"COLUMN": "id"}),
    "no label": leads_on(OPEN, COLUMN="text", **{"a,b,c": "pos,neg"}),
    "one label": leads_on(GOOD.replace(",neg", ",pos"), COLUMN="text"),
    "an unknown split": Refusal(SPLITS, values={"COLUMN": "label"}),
    "labels beside those named": Refusal(GOOD, ["--labels", "pos,negative"]),
    "only conflicting labels": leads_on(CONFLICTS, ["--kind", "single"]),
    "conflicting labels that are refused": Refusal(SOME_CONFLICTS, ["--on-conflict", "error"]),
    "train and test are the same": Refusal(GOOD, ["--test", "data.csv"]),
    "texts of train that are in test": Refusal(GOOD, ["--test", "some.csv", "--on-leak", "error"]),
    "one column for a pair": leads_on(GOOD, ["--kind", "pair"], COLUMN="text"),
    "two texts in a task of one": leads_on(GOOD, ["--kind", "single", "--text", "text", "--text-b", "label"]),
    "a separator in a task of one": Refusal(SEVERAL, ["--kind", "single", "--label-separator", "|"]),
    "a separator that no label has": Refusal(SEVERAL, ["--label-separator", ";"]),
    "lists in a task of one": Refusal(LISTS, ["--kind", "single"]),
    "lists of zeros and ones": Refusal(BITS, values={"FIRST,SECOND,": "pos,neg"}),
    "a label cell that is half a list": Refusal(LISTS + 'more,"[""pos"","\n'),
    "one column for text and label": leads_on(GOOD, ["--label", "text"], COLUMN="text"),
    "a delimiter of two characters": leads_on(GOOD, ["--delimiter", ";;"]),
    "a small budget": leads_on(MIXED, [*PEOPLE, "--usd-per-label", "3"], USD="9"),
    "people without a price": leads_on(MIXED, PEOPLE),
    "no pool": Refusal(GOOD, ["--procedure", "kd", *LLM], values={"FILE": "more.csv"}),
    "no pool for people": leads_on(GOOD, [*PEOPLE, "--usd-per-label", "1"], FILE="more.csv"),
    "people and distilling": leads_on(MIXED, ["--teacher", "human", "--procedure", "kd", "--usd-per-label", "0"]),
    "no labels to train on": leads_on(OPEN, ["--labels", "pos,neg"]),
    "prompts for a classifier": Refusal(GOOD, ["--procedure", "prompt"]),
    "a recipe that cannot do several labels": leads_on(SEVERAL, ["--procedure", "selftrain"]),
    "a TOML file that exists": Refusal(GOOD, ["-o", "exists.toml"], "init"),
    "a file without the column": Refusal(TWO_TEXTS, command="predict", values={"COLUMN": "note"}),
    "rows with too few cells": leads_on("text;a;b\nposa u;1\n", command="predict", CHARACTER=",", N="1"),
    "a label named twice": Refusal(GOOD, ["--labels", "pos,pos"]),
    "a second text for one": leads_on(GOOD, ["--text", "text", "--text-b", "label"], "predict"),
    "no texts to time": leads_on(OPEN, ["--text", "label"], "bench"),
    "a page about several labels": Refusal(SEVERAL, ["--kind", "multi", "--page", "page.html"], "plan"),
    "measuring with several labels": Refusal(SEVERAL, ["--kind", "multi", "--measure"], "plan"),
    "measuring with few labels": leads_on(SOME, ["--measure"], "plan"),
}

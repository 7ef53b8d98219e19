"""What a table file is: its format and how its cells are laid out, as the user names it and as it is found.

`Layout` is both: what is None in a named one is guessed, and the one that a reader returns is complete. Each guess is a
record with its reason and the flag that overrules it, so that it can be said, written into a TOML file, and stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "excel", "txt", "conll"]
FORMATS: tuple[Format, ...] = get_args(Format)
Quotes = Literal["cells", "text"]
OnBadRow = Literal["error", "skip"]
TEXT_FORMATS = ("csv", "tsv", "jsonl", "json", "txt", "conll")
WITH_HEADER = ("csv", "tsv", "excel")


@dataclass(frozen=True)
class Layout:
    """How a file is laid out; what is None is guessed.

    Attributes:
        format: what the file holds; None takes its first bytes and its name.
        sheet: the name or the number (from 1) of a workbook's sheet; None takes the first one with rows.
        delimiter: of CSV and TSV: one character, or "tab".
        quotes: `cells`: a quote at the start of a cell opens it, as in RFC 4180; `text`: quotes are part of the text.
            None is `cells`, but for a cell that runs over lines which look like rows.
        escape: the character before a quote that is part of a quoted cell; "" if there is none, and quotes are doubled.
        header: whether the first line names the columns; without one they are `column_1`, `column_2`, ...
        skip_rows: number of lines above the header that are left out.
        encoding: of a text file; None takes the byte-order mark, or UTF-8 without one.
        compression: of the file's bytes: gzip, bzip2, xz, zstd or zip; "" if there is none. Always found, never named.
    """

    delimiter: str | None = None
    quotes: Quotes | None = None
    header: bool | None = None
    skip_rows: int = 0
    escape: str | None = None
    sheet: str | None = None
    format: Format | None = None
    encoding: str | None = None
    compression: str = ""

    def to_json(self) -> Mapping[str, str | bool | int]:
        """What is known and not empty; `Layout.from_json` reads it."""
        empty = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in vars(self).items() if value != empty[name] and value != ""}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Layout:
        """Read what `to_json` returned; keys of a later version are left out.

        Raises:
            ValueError: a value is of another kind.
        """
        kinds = {"header": bool, "skip_rows": int}
        known = {each.name: kinds.get(each.name, str) for each in fields(cls)}
        given = {name: value for name, value in record.items() if name in known}
        wrong = next((name for name, value in given.items() if type(value) is not known[name]), None)
        if wrong is not None:
            raise ValueError(f"layout.{wrong} is {given[wrong]!r}")
        return cls(**given)

    @classmethod
    def shared(cls, layouts: Sequence[Layout]) -> Layout:
        """What several files have in common; the rest is None."""
        names = [each.name for each in fields(cls) if len({getattr(layout, each.name) for layout in layouts}) == 1]
        return cls(**{name: getattr(layouts[0], name) for name in names})

    def over(self, other: Layout) -> Layout:
        """This layout, with the values of `other` where it has none."""
        named = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        return replace(other, **named)


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read.

    Attributes:
        encoding: of a text file; None uses the byte-order mark, or UTF-8 without one.
        layout: what the user named of the file.
        on_bad_row: `error` or `skip`; None takes what is usual where the file is read.
    """

    encoding: str | None = None
    layout: Layout = Layout()
    on_bad_row: OnBadRow | None = None


@dataclass(frozen=True)
class Guess:
    """A property of a table that the user did not name.

    Attributes:
        key: the option's name, as in a TOML file.
        value: what was taken.
        reason: why, as a part of a sentence.
    """

    key: str
    value: str
    reason: str

    @property
    def flag(self) -> str:
        """The option of the command line that overrules the guess."""
        return f"--{self.key.replace('_', '-')}"

    def to_text(self, table: str) -> str:
        """One line: the table, what was taken, why, and the flag."""
        return f"{table}: {self.key.replace('_', ' ')} '{self.value}', {self.reason}; {self.flag} overrules this."

    def to_json(self) -> Mapping[str, str]:
        """A JSON object."""
        return dict(vars(self))


def guess_of(guesses: Iterable[Guess], key: str) -> Guess | None:
    """The guess about `key`; None if there is none."""
    return next((guess for guess in guesses if guess.key == key), None)

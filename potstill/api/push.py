"""`push`: a bundle as a repository of the Hugging Face hub."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from potstill.data.paths import as_path, as_text
from potstill.errors import BadInput, RunNotFound

if TYPE_CHECKING:
    from potstill.bundle.push import PushedCommit
    from potstill.bundle.record import BundleRecord
    from potstill.data.task import JsonObject
    from potstill.run import ProgressReporter


@dataclass(frozen=True)
class PushResult:
    """What was pushed.

    Attributes:
        repository: "owner/name".
        commit: on the hub.
        files: the bytes of each file, by name.
        private: of a repository that was made; None if an existing one was updated.
    """

    repository: str
    commit: PushedCommit
    files: dict[str, int]
    private: bool | None

    def to_json(self) -> JsonObject:
        """The repository, its page, the commit, and the files with their bytes."""
        return {
            "repository": self.repository,
            "url": self.commit.url,
            "revision": self.commit.revision,
            "private": self.private,
            "files": self.files,
        }

    def to_text(self) -> str:
        """Where it is and how it is loaded."""
        size = f"{len(self.files)} files, {sum(self.files.values()) / 1e6:.1f} MB"
        pinned = f'potstill.load("{self.repository}", revision="{self.commit.revision}")'
        return f"Pushed {size}: {self.commit.url}\n{pinned}"


def push(
    model: Annotated[str | Path, "A run's folder, or a bundle's."],
    repository: Annotated[str, "OWNER/NAME on the Hugging Face hub."],
    *,
    slim: Annotated[bool, "Only what is served: no other graph, and no weights for transformers."] = False,
    public: Annotated[bool, "Make a public repository; else it is private."] = False,
    update: Annotated[bool, "Commit to a repository that exists, in place of the bundle that it holds."] = False,
    yes: Annotated[bool, "Push without asking first."] = False,
    reporter: ProgressReporter | None = None,
) -> PushResult:
    """Push a run's model to the Hugging Face hub, in one commit: a private repository, unless you say otherwise.

    It says what is uploaded and asks before it does. The model card gets the repository's name. `load("OWNER/NAME")`
    and `potstill predict OWNER/NAME` fetch it.

    Raises:
        RunNotFound: there is no bundle, or the run is not finished.
        BadInput: no repository's name, no token, no right to write, the repository exists, the hub is away, or the user
            said no.
        MissingExtra: huggingface-hub is not installed.
    """
    from tempfile import TemporaryDirectory

    from potstill.bundle.export.copy_bundle import copy_bundle, finish
    from potstill.bundle.hub import HubName
    from potstill.bundle.load import load
    from potstill.bundle.push import push_folder

    name = HubName.parse(repository)
    if name is None or name.revision is not None:
        raise BadInput(f"{repository!r} is no name of a repository.", "Give it as OWNER/NAME.")
    _check_finished(as_path(model))
    bundle = load(as_path(model))
    with TemporaryDirectory(prefix="potstill-push-") as scratch:
        folder = Path(scratch) / "bundle"
        copy = copy_bundle(bundle, folder, slim=bool(slim))
        finish(folder, _without_paths(copy.record), name=repository)
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        if reporter is not None:
            _agree(reporter, bundle.record, files, repository, public=bool(public), update=bool(update), yes=bool(yes))
        commit = push_folder(
            folder,
            repository,
            private=not public,
            update=bool(update),
            message=f"A bundle of {bundle.record.made_by}",
        )
    return PushResult(repository, commit, files, None if update else not public)


def _check_finished(folder: Path) -> None:
    from potstill.ledger.store import RUN_FILE

    if (folder / RUN_FILE).exists() and not (folder / "bundle").exists():
        raise RunNotFound(
            f"The run {as_text(folder)} is not finished: it has no model yet.",
            "Run the same distill command again, which goes on from there.",
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _without_paths(record: BundleRecord) -> BundleRecord:
    """The record without the path of the pretrained weights, which names folders of this machine."""
    weights = str(record.student.get("weights", ""))
    if not weights or record.student.get("base_model") or Path(weights).name == weights:
        return record
    return replace(record, student={**record.student, "weights": Path(weights).name})


def _agree(
    reporter: ProgressReporter,
    record: BundleRecord,
    files: dict[str, int],
    repository: str,
    **flags: bool,
) -> None:
    """Say what is uploaded, and ask.

    Raises:
        BadInput: the user says no, or there is no terminal to ask on.
    """
    where = "an existing repository" if flags["update"] else f"a new {'public' if flags['public'] else 'private'} one"
    reporter.info(f"To {repository} on the Hugging Face hub, {where}, in one commit:")
    for name, size in files.items():
        reporter.info(f"  {size / 1e6:9.3f} MB  {name}")
    reporter.info("Record and card hold the task, its labels and descriptions, test metrics and the run's name.")
    if "ngrams.json" in record.preprocessor.files:
        reporter.info("ngrams.json holds words of the training texts.")
    if flags["yes"]:
        return
    if not sys.stdin.isatty():
        raise BadInput("Nothing was pushed: there is no terminal to ask on.", "Add --yes to push without a question.")
    if not reporter.confirm("Push it?"):
        raise BadInput("Nothing was pushed.", "Add --yes to push without a question.")

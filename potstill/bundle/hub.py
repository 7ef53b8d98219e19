"""Fetches bundles of the Hugging Face hub into the hub's own cache. Needs huggingface-hub. Pushing is in `push`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.bundle.check_record import check_record
from potstill.bundle.layout import find_graph
from potstill.bundle.record import RECORD_FILE, read_record
from potstill.errors import PotstillError, RunNotFound, missing_extra

_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[\w./-]+))?")
LOG_IN = "Log in with: hf auth login, or set HF_TOKEN."


@dataclass(frozen=True)
class HubName:
    """A bundle on the hub.

    Attributes:
        repository: "owner/name".
        revision: a branch, a tag or a commit; None for the newest commit.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> HubName | None:
        """What "owner/name" or "owner/name@revision" names; None for other text. `revision` overrules the text."""
        found = _NAME.fullmatch(text)
        return None if found is None else cls(found["repository"], revision or found["revision"])


def fetch_bundle(name: HubName, *, graph: str | None = None, whole: bool = False) -> Path:
    """The folder of a bundle in the hub's cache, with what is missing there downloaded.

    Args:
        name: of the bundle.
        graph: the graph that is wanted, as `load` takes it; None for the one that is served.
        whole: fetch every file, instead of those that predicting reads.

    Raises:
        RunNotFound: the repository, the revision or a bundle in it does not exist, or the hub cannot be reached.
        MissingExtra: huggingface-hub is not installed.
    """
    hub = hub_library(f"Loading {name.repository} from the Hugging Face hub")
    with _fetch_errors(hub, name):
        folder = Path(hub.hf_hub_download(name.repository, RECORD_FILE, revision=name.revision)).parent
        record = read_record(folder)
        check_record(record, folder)
        chosen = find_graph(graph or record.graph, record.files)
        for file in record.files if whole else record.needed_files(chosen):
            hub.hf_hub_download(name.repository, file, revision=folder.name)  # the commit that the record is of
    return folder


def hub_library(what: str) -> Any:
    """The module huggingface_hub, or MissingExtra, which says what needs it."""
    try:
        import huggingface_hub
    except ImportError:
        raise missing_extra("huggingface-hub", "hub", what) from None
    return huggingface_hub


@contextmanager
def _fetch_errors(hub: Any, name: HubName) -> Iterator[None]:
    """Raise a RunNotFound for what the library raises."""
    errors = hub.errors
    try:
        yield
    except PotstillError:
        raise
    except errors.GatedRepoError as error:
        raise RunNotFound(f"{name.repository} is gated.", "Ask for access on its page, and log in.") from error
    except errors.RepositoryNotFoundError as error:
        raise RunNotFound(
            f"{name.repository} is no folder here, and no repository on the Hugging Face hub that you may read.",
            f"Check the name. If it is private: {LOG_IN[0].lower()}{LOG_IN[1:]}",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RunNotFound(
            f"{name.repository} has no revision {name.revision!r}.", "Give a branch, a tag or a whole commit hash."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise RunNotFound(
            f"{name.repository} on the hub holds no whole bundle.", "Push it again, or give another repository."
        ) from error
    except (OSError, ValueError, hub.utils.HFValidationError) as error:  # no network and no copy, above all
        raise RunNotFound(
            f"{name.repository} is no folder here, and could not be fetched from the Hugging Face hub: "
            f"{first_line(error)}.",
            "Check the name and the network, or give a folder.",
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error of the library, without its full stop."""
    return ((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".")[:200]

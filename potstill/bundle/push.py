"""Pushes a bundle's folder to the Hugging Face hub, in one commit. Needs huggingface-hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from potstill.bundle.hub import LOG_IN, first_line, hub_library
from potstill.bundle.layout import ENCODER, FP32, INT8, TRANSFORMERS_FILES
from potstill.errors import BadInput, PotstillError

# Files of earlier bundles, deleted in a repository if the pushed one lacks them.
REPLACED_FILES = (FP32, INT8, ENCODER, *TRANSFORMERS_FILES, "tokenizer.json", "ngrams.json")
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT = 401, 403, 404, 409


@dataclass(frozen=True)
class PushedCommit:
    """A commit on the hub: the page of the repository, and the commit's hash."""

    url: str
    revision: str


def push_folder(folder: Path, repository: str, *, private: bool, update: bool, message: str) -> PushedCommit:
    """Upload a bundle's folder in one commit.

    Args:
        folder: a whole bundle.
        repository: "owner/name".
        private: of a repository that is made.
        update: commit to a repository that exists, instead of making one.
        message: of the commit.

    Raises:
        BadInput: no or no valid token, no right to write, the repository exists, or does not, or the hub is away.
        MissingExtra: huggingface-hub is not installed.
    """
    hub = hub_library(f"Pushing to {repository}")
    if hub.get_token() is None:
        raise BadInput("There is no token of the Hugging Face hub on this machine.", LOG_IN)
    with _push_errors(repository, update):
        if not update:
            hub.create_repo(repository, private=private)
        made = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            delete_patterns=list(REPLACED_FILES) if update else None,
        )
        return PushedCommit(made.repo_url.url if made.repo_url else str(made.commit_url), made.oid)


@contextmanager
def _push_errors(repository: str, update: bool) -> Iterator[None]:
    """Raise a BadInput for what the library raises."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == UNAUTHORIZED:
            found = BadInput("The Hugging Face hub does not accept the token of this machine.", LOG_IN)
        elif status == FORBIDDEN:
            found = BadInput(
                f"The token of this machine has no right to write to {repository}.",
                "Take a token with write access, or a name of your own: YOU/NAME.",
            )
        elif status == CONFLICT and not update:
            found = BadInput(f"{repository} exists on the hub.", "Add --update to commit to it, or give another name.")
        elif status == NOT_FOUND:
            found = BadInput(f"{repository} does not exist on the hub.", "Leave --update out: it is then made.")
        elif status is not None or _is_network(error):
            found = BadInput(
                f"Pushing to {repository} failed: {first_line(error)}.",
                "Check the network, and run it again; with --update if the repository exists by now.",
            )
        else:
            raise
        raise found from error


def _is_network(error: Exception) -> bool:
    """Whether an error is one of the connection; the library's HTTP client has a tree of its own."""
    names = {each.__name__ for each in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & {"TransportError", "NetworkError", "OfflineModeIsEnabled"})

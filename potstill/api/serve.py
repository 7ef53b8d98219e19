"""`serve`: bundles behind HTTP, in the protocols of other servers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

from potstill.api.table_options import SEVERAL
from potstill.data.paths import as_path_or_none
from potstill.data.task import JsonObject
from potstill.errors import BadSpec

if TYPE_CHECKING:
    from potstill.run import ProgressReporter
    from potstill.serving.limits import ServingLimits

PORT = 8080


@dataclass(frozen=True)
class ServeResult:
    """What was served until the server was stopped."""

    models: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """All of it."""
        return {"models": list(self.models)}

    def to_text(self) -> str:
        """One line."""
        return "Stopped; every request that had arrived was answered."


class ServeOptions(TypedDict, total=False):
    """The options of `serve` about what it does besides answering."""

    watch: Annotated[bool, "Load a bundle anew when its folder gets another; SIGHUP does so in any case."]
    mlflow: Annotated[bool, "Answer /invocations as MLflow does, not as SageMaker does."]
    log: Annotated[str | Path, "Write a line of JSON a request to a file; it holds no text."]
    log_texts: Annotated[bool, "Texts and labels go into the log, and onto the page."]


class LimitOptions(TypedDict, total=False):
    """The options of `serve` about its limits."""

    max_texts: Annotated[int, "The texts of one request at most (1024)."]
    max_characters: Annotated[int, "The characters of one text at most (500000)."]
    max_body: Annotated[int, "The bytes of one request at most (2000000)."]
    max_queue: Annotated[int, "The texts that may wait for a model; more are refused with 429 (4096)."]
    batch_tokens: Annotated[int, "The padded tokens that are computed at once at most (4096)."]
    threads: Annotated[int, "The processors that each model uses; else all."]


class AllOptions(ServeOptions, LimitOptions, total=False):
    """All of them."""


def serve(
    models: Annotated[str | Path, "Folders of runs or bundles, or NAME=FOLDER; the first is the default.", SEVERAL],
    *,
    host: Annotated[str, "The address to listen on; beyond this machine a key is asked for."] = "127.0.0.1",
    port: Annotated[int, "The port; 0 takes any free one."] = PORT,
    key_file: Annotated[str | Path | None, "A file with the keys callers may use, one a line."] = None,
    reporter: ProgressReporter | None = None,
    **options: Unpack[AllOptions],
) -> ServeResult:
    """Serve bundles over HTTP until Ctrl-C or SIGTERM, which answer the requests in flight first.

    The protocols are those of text-embeddings-inference, of the Hugging Face InferenceClient, and others; the address
    /docs lists them. Without --host other machines cannot connect; with it, every request needs a key from --key-file
    or from the variable POTSTILL_SERVE_KEY. There is no TLS: put a proxy before it. No text is logged.

    Raises:
        RunNotFound: a folder holds no bundle.
        BadSpec: the address cannot be listened on, a key is missing or too short, or a limit is below one.
        MissingExtra: starlette or uvicorn is not installed.
    """
    from potstill.serving.access import read_access
    from potstill.serving.metrics import ServingMetrics
    from potstill.serving.pool import ModelPool, name_bundles
    from potstill.serving.request_log import RequestLog
    from potstill.serving.server import Address, serve_until_stopped
    from potstill.serving.service import Service, served_protocols

    folders = name_bundles(models if isinstance(models, tuple | list) else (models,))
    access = read_access(as_path_or_none(key_file), os.environ, host)
    metrics = ServingMetrics()
    pool = ModelPool(folders, _limits(options), threads=options.get("threads"), on_batch=metrics.batch)
    file, texts = as_path_or_none(options.get("log")), bool(options.get("log_texts"))
    service = Service(
        pool,
        access,
        served_protocols(mlflow=bool(options.get("mlflow"))),
        metrics,
        RequestLog(file, texts=texts) if file or texts else None,
    )

    def ready(url: str) -> None:
        if reporter is not None:
            reporter.info(f"Serving {', '.join(folders)} at {url}   (Ctrl-C ends it)")

    serve_until_stopped(service, Address(host, port), ready, watch=bool(options.get("watch")))
    return ServeResult(tuple(folders))


def _limits(options: AllOptions) -> ServingLimits:
    from potstill.serving.limits import ServingLimits

    named = [name for name in LimitOptions.__annotations__ if options.get(name) is not None]
    low = next((name for name in named if int(str(options[name])) < 1), None)  # type: ignore[literal-required]
    if low is not None:
        raise BadSpec(f"--{low.replace('_', '-')} is below one.", "Give one or more, or leave it out.")
    usual = ServingLimits()
    return ServingLimits(
        body_bytes=options.get("max_body", usual.body_bytes),
        texts=options.get("max_texts", usual.texts),
        characters=options.get("max_characters", usual.characters),
        queued_texts=options.get("max_queue", usual.queued_texts),
        batch_tokens=options.get("batch_tokens", usual.batch_tokens),
    )

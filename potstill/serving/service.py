"""What the routes of a server share: its models, who may ask, the protocols, what is counted and logged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from potstill import __version__
from potstill.serving.access import Access
from potstill.serving.metrics import ServingMetrics
from potstill.serving.pool import ModelPool
from potstill.serving.protocols.base import ServingProtocol, Situation
from potstill.serving.protocols.classify import CLASSIFY
from potstill.serving.protocols.label import LABEL
from potstill.serving.protocols.mlflow import MLFLOW
from potstill.serving.protocols.open_inference import OPEN_INFERENCE
from potstill.serving.protocols.tei import SAGEMAKER, TEI
from potstill.serving.request_log import RequestLog


def served_protocols(*, mlflow: bool = False) -> tuple[ServingProtocol, ...]:
    """The protocols of a server; `/invocations` is SageMaker's, or with `mlflow` MLflow's.

    The first one renders the errors of addresses that none of them has.
    """
    if mlflow:
        return (TEI, OPEN_INFERENCE, CLASSIFY, LABEL, MLFLOW)
    tei = replace(TEI, operations=TEI.operations + SAGEMAKER, prefixes=(*TEI.prefixes, "/invocations"))
    return (tei, OPEN_INFERENCE, CLASSIFY, LABEL)


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Attributes:
        pool: the models.
        access: who may ask.
        protocols: the protocols that are served.
        metrics: what is counted.
        log: of requests; None for none.
    """

    pool: ModelPool
    access: Access = Access()  # noqa: RUF009 - frozen
    protocols: tuple[ServingProtocol, ...] = field(default_factory=served_protocols)
    metrics: ServingMetrics = field(default_factory=ServingMetrics)
    log: RequestLog | None = None

    def situation(self) -> Situation:
        """What routes about the server may look at."""
        return Situation(tuple(self.pool), self.pool.default, self.pool.ready, self.pool.limits, __version__)

    def protocol_of(self, path: str) -> ServingProtocol:
        """The protocol whose addresses begin like this path."""
        fits = (each for each in self.protocols if any(path.startswith(prefix) for prefix in each.prefixes))
        return next(fits, self.protocols[0])

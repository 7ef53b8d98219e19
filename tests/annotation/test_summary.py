"""The summary of the labels: at once without a model, and with each annotator's quality on request."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.annotation_run import LABELS, begin, truth

from potstill.annotation import summary
from potstill.annotation.summary import summarise
from potstill.api import annotate
from potstill.data.task import Task
from potstill.ledger.store import Annotation, AnnotationStore


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Twenty texts, each labelled by two careful annotators and one who always says the same."""
    run = begin(tmp_path, teacher="annotators_per_text = 3", prices="usd_per_label = 0.01")
    store = AnnotationStore(run)
    for request in store.requests():
        for annotator, label in (("ann", truth(request.text)), ("bob", truth(request.text)), ("eve", "money")):
            store.add(Annotation(request.id, annotator, label, 2.0))
    store.close()
    return run


def test_without_quality_no_model_is_trained_and_the_majority_decides(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(summary, "cross_val_probs")
    store = AnnotationStore(run)
    found = summarise(store, Task(LABELS))
    store.close()
    assert found.consensus_method == "majority"
    assert (found.labels, found.n_overlapping, found.kappa["ann, bob"]) == (60, 20, 1.0)
    assert found.alpha is not None
    assert {each.consensus == truth(each.text) for each in found.disagreements} == {True}
    assert {each.quality for each in found.annotators} == {None}


def test_the_quality_of_each_annotator_is_shown_on_request(run: Path) -> None:
    shown = annotate(run, quality=True)
    quality = {each.name: each.quality for each in shown.summary.annotators}
    assert quality["ann"] == quality["bob"] > quality["eve"]  # type: ignore[operator]
    assert "CROWDLAB" in shown.to_text()
    assert "--quality" not in shown.to_text()
    without = annotate(run, export=run.parent / "out.csv").to_text()
    assert f"potstill annotate {run} --quality" in without

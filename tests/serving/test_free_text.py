"""A server of a bundle that answers in words: the Hugging Face client, /label, other protocols, and the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient, constants
from support.served_bundles import Served, serving

from potstill.api.distill import DistillResult
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.serving.request_log import RequestLog

TEXT, OTHER = "the soup bank please", "a goal tennis and"


@pytest.fixture(scope="module")
def folder(free_text_run: DistillResult) -> Path:
    """A bundle of a tiny causal student."""
    return free_text_run.folder / "bundle"


@pytest.fixture(scope="module")
def served(folder: Path, bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of two models: answers (the default), and one of labels."""
    log = RequestLog(tmp_path_factory.mktemp("log") / "log.jsonl", texts=True)
    with serving({"answers": folder, "small": bundle_folder}, log=log) as server:
        yield server


def test_the_hugging_face_client_reads_the_answer(
    served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would refuse loopback, too
    expected = FreeTextBundle.open(folder).predict([TEXT, OTHER])
    assert InferenceClient(model=served.url).text_generation(TEXT) == expected[0]
    batch = served.ask("/models/answers", {"inputs": [TEXT, OTHER]}).json()
    assert [each["generated_text"] for each in batch] == expected


def test_label_gives_the_answer_to_each_text_and_nothing_about_labels(served: Served, folder: Path) -> None:
    reply = served.ask("/label", {"texts": [TEXT, ""]}).json()
    (answer, _) = FreeTextBundle.open(folder).generate([TEXT, ""])
    assert reply["texts"][0] == {
        "answer": answer.text,
        "confidence": round(answer.confidence, 4),
        "complete": answer.complete,
    }
    assert served.ask("/label", {"texts": [TEXT], "coverage": 0.9}).status == 422
    assert served.ask("/label", {"texts": [[TEXT, OTHER]]}).status == 422
    assert served.ask("/label", {"texts": ["soup " * 60], "truncate": False}).status == 422
    assert "probabilities" in served.ask("/label", {"texts": [TEXT], "model": "small"}).json()["texts"][0]


def test_protocols_without_a_place_for_answers_refuse_in_one_sentence(served: Served) -> None:
    for path, body in (("/predict", {"inputs": TEXT}), ("/classify", {"input": TEXT, "model": "answers"})):
        refused = served.ask(path, body)
        assert refused.status == 422
        assert "answers in words" in refused.body.decode()


def test_facts_and_the_log_say_what_the_model_is(served: Served) -> None:
    models = served.ask("/models").json()["models"]
    assert [(each["name"], each["form"], each["entities"]) for each in models] == [
        ("answers", "free", False),
        ("small", None, False),
    ]
    assert served.ask("/info").json()["task"] == "text_generation"
    response = served.ask("/", {"inputs": TEXT})
    assert int(response.headers["x-compute-tokens"]) > len(TEXT.split())
    assert served.ask("/recent").json()["texts"][0]["labels"] == [response.json()[0]["generated_text"]]

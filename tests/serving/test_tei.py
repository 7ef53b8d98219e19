"""The protocol of text-embeddings-inference and the Hugging Face client, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient, constants
from support.served_bundles import LABELS, Served

from potstill.bundle.bundle import load

SOUP, GOAL = "the soup and the bread", "a goal in the stadium"


def scores(ranked: list[dict[str, Any]]) -> dict[str, float]:
    assert [each["score"] for each in ranked] == sorted((each["score"] for each in ranked), reverse=True)
    return {each["label"]: each["score"] for each in ranked}


def test_scores_are_those_of_the_bundle_best_first(served: Served, bundle_folder: Path) -> None:
    wanted = load(bundle_folder).predict_proba([SOUP, GOAL])
    one = served.ask("/predict", {"inputs": SOUP})
    assert scores(one.json()) == dict(zip(LABELS, wanted[0].tolist(), strict=True))
    batch = served.ask("/predict", {"inputs": [[SOUP], [GOAL]]})
    assert [scores(each) for each in batch.json()] == [dict(zip(LABELS, row.tolist(), strict=True)) for row in wanted]
    assert served.ask("/predict", {"inputs": [SOUP]}).json() == one.json()
    assert int(one.headers["x-compute-characters"]) == len(SOUP)
    assert int(one.headers["x-compute-tokens"]) > 0
    for name in ("total", "tokenization", "queue", "inference"):
        assert one.headers[f"x-{name}-time"].isdigit()


def test_two_strings_are_a_pair_and_three_are_refused(served: Served, pair_folder: Path) -> None:
    wanted = load(pair_folder).predict_proba([(SOUP, GOAL)])[0]
    found = served.ask("/models/pairs/predict", {"inputs": [SOUP, GOAL]}).json()
    assert scores(found) == dict(zip(LABELS, wanted.tolist(), strict=True))
    assert served.ask("/models/pairs/predict", {"inputs": [[SOUP, GOAL]]}).json() == [found]
    assert served.ask("/models/pairs", {"inputs": {"text": SOUP, "text_pair": GOAL}}).json() == [found]
    for model, inputs in (("small", [SOUP, GOAL]), ("small", [SOUP, GOAL, SOUP]), ("pairs", SOUP), ("pairs", [[SOUP]])):
        refused = served.ask(f"/models/{model}/predict", {"inputs": inputs})
        assert refused.status == 422, inputs
        assert refused.json()["error_type"] == "Validation"


def test_several_labels_a_text_have_a_probability_each(served: Served, multilabel_folder: Path) -> None:
    text = f"{SOUP}, {GOAL}"
    wanted = load(multilabel_folder).predict_proba([text])[0]
    found = scores(served.ask("/models/several/predict", {"inputs": text}).json())
    assert found == dict(zip(LABELS, wanted.tolist(), strict=True))
    assert abs(sum(found.values()) - 1) > 1e-3


def test_raw_scores_are_logits(served: Served, bundle_folder: Path) -> None:
    found = scores(served.ask("/predict", {"inputs": SOUP, "raw_scores": True}).json())
    np.testing.assert_array_equal([found[label] for label in LABELS], load(bundle_folder).predict_logits([SOUP])[0])


@pytest.mark.parametrize("direction", ["Left", "left", "Right", "right"])
def test_options_of_truncation_are_read(served: Served, direction: str) -> None:
    asked = {"inputs": SOUP, "truncate": False, "truncation_direction": direction}
    assert served.ask("/predict", asked).status == 200


def test_info_has_every_field_that_clients_read(served: Served) -> None:
    info = served.ask("/models/pairs/info").json()
    assert info["model_type"]["classifier"]["id2label"] == {str(k): label for k, label in enumerate(LABELS)}
    assert info["model_type"]["classifier"]["label2id"] == {label: k for k, label in enumerate(LABELS)}
    assert {name for name, value in info.items() if value is None} == {"sha", "docker_label", "max_batch_requests"}
    assert served.ask("/info").json()["model_id"] == "small"
    for path in ("/health", "/ping", "/"):
        assert (served.ask(path).status, served.ask(path).body) == (200, b"")


class WithEmbedding:
    """A session whose graph has a second output: the lengths of the texts, roughly, and ones."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def get_outputs(self) -> list[Any]:
        return [*self._inner.get_outputs(), SimpleNamespace(name="sentence_embedding", shape=["n", 2])]

    def run(self, names: list[str], feeds: Any) -> list[Any]:
        found = dict(zip(["logits"], self._inner.run(["logits"], feeds), strict=True))
        lengths = (feeds["values"] != 0).sum(axis=1, keepdims=True).astype(np.float32)
        found["sentence_embedding"] = np.concatenate([lengths, np.ones_like(lengths)], axis=1)
        return [found[name] for name in names]


def test_embed_gives_the_graphs_second_output(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served.ask("/embed", {"inputs": SOUP}).status == 424
    bundle = served.pool.find("small").bundle
    monkeypatch.setattr(bundle, "session", WithEmbedding(bundle.session))
    (one,) = served.ask("/embed", {"inputs": SOUP, "normalize": False}).json()
    assert one[1] == 1
    assert one[0] > 1
    both = served.ask("/models/small/embed", {"inputs": [SOUP, GOAL]}).json()
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(both[0][0] / both[0][1], one[0], rtol=1e-5)
    assert served.ask("/predict", {"inputs": SOUP}).json()[0]["label"] == bundle.predict([SOUP])[0]
    for wrong in ([[SOUP, GOAL]], [1], {"text": SOUP}):
        assert served.ask("/embed", {"inputs": wrong}).status == 422
    assert served.ask("/embed", {"inputs": []}).status == 400
    assert served.ask("/models/pairs/embed", {"inputs": SOUP}).status == 424


def test_the_hugging_face_client_reads_all_labels_or_the_best(
    served: Served, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would refuse loopback, too
    bundle = load(bundle_folder)
    client = InferenceClient(model=served.url)
    found = client.text_classification(SOUP)
    assert {each.label: each.score for each in found} == dict(
        zip(LABELS, bundle.predict_proba([SOUP])[0].tolist(), strict=True)
    )
    assert len(client.text_classification(SOUP, top_k=1)) == 1
    logits = client.text_classification(SOUP, function_to_apply="none")
    assert logits[0].score == pytest.approx(float(bundle.predict_logits([SOUP]).max()))
    named = InferenceClient(model=f"{served.url}/models/several").text_classification(SOUP)
    assert {each.label for each in named} == set(LABELS)
    assert [len(each) for each in served.ask("/", {"inputs": [SOUP, GOAL, SOUP]}).json()] == [3, 3, 3]

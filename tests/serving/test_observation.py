"""What a server shows of itself: metrics, the OpenAPI document, the log of requests, the pages, and reloads."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.browser import Page, browsing, chromium
from support.served_bundles import KEY, Served, ask, serve_process, serving

from potstill.errors import BadSpec
from potstill.serving.metrics import ServingMetrics
from potstill.serving.reload import Reloader
from potstill.serving.request_log import RequestLog
from potstill.serving.service import served_protocols

SOUP = "the soup and the bread"


def samples(server: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = server.ask("/metrics").body.decode()
    return {
        (sample.name.removesuffix("_total"), frozenset(sample.labels.items())): sample.value  # added by the parser
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_under_the_names_of_tei(bundle_folder: Path) -> None:
    with serving(bundle_folder) as server:
        server.ask("/predict", {"inputs": SOUP})
        server.ask("/predict", {"inputs": [[SOUP], [SOUP]]})
        server.ask("/predict", {"inputs": [1]})
        found = samples(server)
    model = ("model", "small")
    assert found["te_request_success", frozenset([model, ("method", "single")])] == 1
    assert found["te_request_success", frozenset([model, ("method", "batch")])] == 1
    assert found["te_predict_count", frozenset([model])] == 3
    assert found["te_request_failure", frozenset([("err", "validation")])] == 1
    for part in ("", "tokenization_", "queue_", "inference_"):
        for start in ("te_request", "te_predict"):
            assert found[f"{start}_{part}duration_count", frozenset([model])] == 2
            assert found[f"{start}_{part}duration_bucket", frozenset([model, ("le", "+Inf")])] == 2
    assert found["te_batch_next_size_sum", frozenset([model])] == 3
    assert found["te_queue_size", frozenset([model])] == 0
    assert found["potstill_ready", frozenset()] == 1


def test_the_document_names_every_route_and_its_body(served: Served) -> None:
    document = served.ask("/openapi.json").json()
    assert served.ask("/api-doc/openapi.json").json() == document
    for protocol in served_protocols():
        for operation in protocol.operations:
            described = document["paths"][operation.path]["post"]
            (content,) = described["requestBody"]["content"].values()
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert set(operation.request.model_fields) == set(document["components"]["schemas"][name]["properties"])
        assert all(document["paths"][fact.path]["get"]["summary"] for fact in protocol.facts)
    assert b"/v2/models/{model}/infer" in served.ask("/docs").body


def test_the_log_holds_texts_only_if_asked(bundle_folder: Path, tmp_path: Path) -> None:
    for texts in (False, True):
        log = RequestLog(tmp_path / f"{texts}.jsonl", texts=texts)
        with serving(bundle_folder, log=log) as server:
            server.ask("/predict", {"inputs": SOUP})
            server.ask("/predict", {"inputs": [3]})
            recent = server.ask("/recent").json()
        written = (tmp_path / f"{texts}.jsonl").read_text()
        first, second = map(json.loads, written.splitlines())
        assert (first["address"], first["status"], first["model"], first["texts"]) == ("/predict", 200, "small", 1)
        assert second["status"] == 422
        assert (SOUP in written) is texts
        assert recent["logged"] is texts
        assert [each["text"] for each in recent["texts"]] == [SOUP] * texts
        log.close()
    with pytest.raises(BadSpec, match="cannot be written"):
        RequestLog(tmp_path / "no" / "log")


def test_a_bundle_is_loaded_anew_and_a_damaged_one_is_not(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    said: list[str] = []
    with serving(folder) as server:
        reloader = Reloader(server.pool, ServingMetrics(), said.append)
        reloader.remember()
        reloader.reload_changed()
        assert said == []
        graph = (folder / "onnx" / "model.onnx").read_bytes()
        (folder / "onnx" / "model.onnx").write_bytes(b"half a copy")
        (folder / "potstill.json").touch()
        reloader.reload_changed()
        reloader.reload_changed()
        assert len(said) == 1
        assert "served as before" in said[0]
        assert server.ask("/predict", {"inputs": SOUP}).status == 200
        (folder / "onnx" / "model.onnx").write_bytes(graph)
        reloader.reload_changed()
        assert "loaded anew" in said[1]
        assert server.ask("/predict", {"inputs": SOUP}).status == 200
        shutil.rmtree(folder)
        reloader.reload_changed()
        assert server.ask("/predict", {"inputs": SOUP}).status == 200


def test_sighup_loads_another_bundle_and_the_log_moves_on(
    bundle_folder: Path, multilabel_folder: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "bundle", tmp_path / "log"
    shutil.copytree(bundle_folder, folder)
    with serve_process(folder, "--log", log) as (process, port):
        before = ask("127.0.0.1", port, "/info").json()["model_sha"]
        shutil.rmtree(folder)
        shutil.copytree(multilabel_folder, folder)
        log.rename(tmp_path / "old")
        process.send_signal(signal.SIGHUP)
        assert "loaded anew" in process.stderr.readline()
        info = ask("127.0.0.1", port, "/info").json()
        assert (info["task"], info["model_sha"] == before) == ("multi_label_classification", False)
        assert ask("127.0.0.1", port, "/predict", {"inputs": SOUP}).status == 200
        assert json.loads(log.read_text())["status"] == 200


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Page]:
    if chromium() is None:
        pytest.skip("no Chromium on this machine (apt install chromium, or set POTSTILL_CHROMIUM)")
    with browsing(tmp_path / "profile") as page:
        page.size(390, 844)
        yield page


def test_a_text_is_tried_on_the_page_with_a_key(
    bundle_folder: Path, pair_folder: Path, tmp_path: Path, browser: Page
) -> None:
    log = RequestLog(None, texts=True)
    with serving({"small": bundle_folder, "pairs": pair_folder}, keys=(KEY.encode(),), log=log) as server:
        browser.open(f"{server.url}/")
        browser.until("!document.getElementById('login').hidden")
        browser.value("document.getElementById('key').value = 'wrong'; document.querySelector('#login button').click()")
        browser.until("document.getElementById('error').textContent.includes('not a key')")
        browser.value(f"document.getElementById('key').value = '{KEY}'")
        browser.value("document.querySelector('#login button').click()")
        browser.until("!document.getElementById('ask').hidden")
        browser.value("document.getElementById('first').value = '<b>soup</b>'; document.getElementById('send').click()")
        browser.until("!document.getElementById('answer').hidden")
        assert browser.value("document.querySelectorAll('#scores li').length") == 3
        assert browser.value("document.getElementById('notes').textContent")
        browser.until("document.getElementById('recent').textContent.includes('<b>soup</b>')")
        assert browser.value("document.querySelector('#recent b')") is None
        browser.value("document.getElementById('model').selectedIndex = 1; choose(); 1")
        assert browser.value("document.getElementById('pair').hidden") is False
        assert browser.value("document.documentElement.scrollWidth") <= 390

"""Pushing a bundle to a hub on loopback, and loading it from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_hub import OWNER, READ_ONLY, TOKEN, FakeHub, fake_hub

import potstill
from potstill.api import push
from potstill.bundle.layout import FP32
from potstill.bundle.load import load
from potstill.errors import BadInput, RunNotFound
from potstill.run import SilentReporter

constants = pytest.importorskip("huggingface_hub.constants")
NAME = f"{OWNER}/topics"
FORMAT_2 = Path(__file__).parent.parent / "bundle" / "format2" / "linear"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that huggingface_hub takes for the real one, with an empty cache here and a token that writes."""
    with fake_hub() as hub:
        settings = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HF_HUB_OFFLINE": False,  # it would refuse loopback, too
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits before it tries again
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield hub


def test_a_bundle_is_pushed_in_one_commit_and_loaded_by_name(hub: FakeHub, tmp_path: Path) -> None:
    result = push(FORMAT_2, NAME)
    repository = hub.repositories[NAME]
    assert repository.private
    assert list(repository.commits) == [result.commit.revision]
    assert set(repository.commits[result.commit.revision]) == {FP32, "ngrams.json", "potstill.json", "README.md"}
    assert f'potstill.load("{NAME}")' in repository.commits[result.commit.revision]["README.md"].decode()
    assert NAME in result.to_text()
    answers = json.loads(FORMAT_2.with_suffix(".answers.json").read_text(encoding="utf-8"))
    loaded: Any = potstill.load(NAME)
    np.testing.assert_allclose(loaded.predict_proba(answers["texts"]), answers["probs"], atol=1e-6)
    assert "README.md" not in {path.name for path in loaded.folder.iterdir()}, "only what predicting reads is fetched"
    assert potstill.load(NAME, verify=True).folder == loaded.folder
    (tmp_path / OWNER / "topics").mkdir(parents=True)
    with pytest.raises(RunNotFound, match="holds no bundle"):  # a folder here comes first
        load(NAME)


def test_an_update_is_a_commit_more_and_an_old_one_can_be_pinned(hub: FakeHub) -> None:
    first = push(FORMAT_2, NAME, public=True)
    assert not hub.repositories[NAME].private
    repository = hub.repositories[NAME]
    repository.commits[first.commit.revision]["model.safetensors"] = b"of an earlier bundle"
    repository.commits[first.commit.revision]["notes.txt"] = b"of another person"
    with pytest.raises(BadInput, match="exists on the hub") as raised:
        push(FORMAT_2, NAME)
    assert "--update" in raised.value.hint
    second = push(FORMAT_2.parent / "multi", NAME, update=True)
    assert list(repository.commits) == [first.commit.revision, second.commit.revision]
    assert set(repository.commits[second.commit.revision]) == {
        FP32, "ngrams.json", "potstill.json", "README.md", "notes.txt",
    }  # fmt: skip
    newest: Any = load(NAME)
    pinned: Any = load(NAME, revision=first.commit.revision)
    assert (newest.multilabel, pinned.multilabel) == (True, False)
    assert load(f"{NAME}@{first.commit.revision}").folder == pinned.folder
    with pytest.raises(RunNotFound, match="no revision 'v9'"):
        load(NAME, revision="v9")
    with pytest.raises(BadInput, match="only a repository has revisions"):
        load(FORMAT_2, revision="v9")


def test_what_cannot_be_pushed_is_said_in_a_sentence(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, model: Path = FORMAT_2, name: str = NAME, **options: Any) -> str:
        with pytest.raises(BadInput, match=match) as raised:
            push(model, name, **options)
        assert raised.value.hint
        return raised.value.hint

    refused("no name of a repository", name="topics")
    refused("no name of a repository", name=f"{NAME}@main")
    refused("holds no bundle", tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.sqlite").touch()
    assert "distill" in refused("is not finished", tmp_path / "run")
    refused("has no right to write to you/topics", name="you/topics")
    assert "--update" in refused("does not exist on the hub", update=True)
    monkeypatch.setenv("HF_TOKEN", READ_ONLY)
    refused("has no right to write")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("does not accept the token")
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refused("no token")
    assert hub.repositories == {}
    assert not [request for request in hub.requests if "commit" in request]


def test_without_the_network_the_copy_of_the_cache_is_loaded_and_nothing_else(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(FORMAT_2, NAME)
    load(NAME)
    for name, value in (
        ("ENDPOINT", "http://127.0.0.1:1"),
        ("HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1/{repo_id}"),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:1")
    assert load(NAME)
    with pytest.raises(RunNotFound, match="could not be fetched"):
        load(f"{OWNER}/other")
    with pytest.raises(BadInput, match="failed"):
        push(FORMAT_2, f"{OWNER}/other")


def test_what_is_not_there_is_said(hub: FakeHub) -> None:
    with pytest.raises(RunNotFound, match="no repository on the Hugging Face hub that you may read"):
        load("you/private")
    push(FORMAT_2, NAME)
    head = hub.repositories[NAME].commits[hub.repositories[NAME].head]
    del head["ngrams.json"]
    with pytest.raises(RunNotFound, match="holds no whole bundle"):
        load(NAME)


class Terminal(SilentReporter):
    """Keeps what is said, and answers."""

    def __init__(self, answer: bool) -> None:
        self.answer, self.said = answer, ""

    def info(self, sentence: str) -> None:
        self.said += sentence + "\n"

    def confirm(self, question: str) -> bool:
        return self.answer


def test_it_says_what_is_uploaded_and_asks(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(answer=False)
    with pytest.raises(BadInput, match="no terminal to ask on"):
        push(FORMAT_2, NAME, reporter=terminal)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(BadInput, match="Nothing was pushed"):
        push(FORMAT_2, NAME, reporter=terminal)
    assert hub.requests == []
    assert f"To {NAME} on the Hugging Face hub, a new private one" in terminal.said
    assert FP32 in terminal.said
    assert "words of the training texts" in terminal.said
    push(FORMAT_2, NAME, reporter=Terminal(answer=True))
    push(FORMAT_2, NAME, update=True, yes=True, reporter=Terminal(answer=False))
    assert len(hub.repositories[NAME].commits) == 2

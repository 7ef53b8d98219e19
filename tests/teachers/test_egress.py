"""What leaves the machine in a whole run, and what never does: the key, and what gives a person away."""

from __future__ import annotations

import csv
import json
import logging
import traceback
from pathlib import Path

import pytest
from support.chat_server import FakeServer, Fault

from potstill.api import distill
from potstill.errors import SpendingDeclined, TeacherError

KEY = "sk-planted-9f8e7d6c5b4a"
PLANTED = ("jo{i}@example.com", "4111 1111 1111 1111", "DE89370400440532013000", "+49 170 1234567", "10.1.2.{i}")


class Heard:
    """A teller that writes down what it hears."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def info(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def progress(self, what: str, done: float, total: float, detail: str = "") -> None:
        self.sentences.append(f"{what} {detail}")

    def confirm(self, question: str) -> bool:
        self.sentences.append(question)
        return True


def order(folder: Path, server: FakeServer, *teacher: str) -> Path:
    """A spec and its data: sixty texts, a third of them gold, every one of them with something to take out."""
    with (folder / "mail.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(60):
            label = ("sports", "business")[i % 2]
            writer.writerow([f"{label} {i} from {PLANTED[i % 5].format(i=i)}", label if i < 20 else ""])
    lines = ["budget = 1.0", '[data]\nfile = "mail.csv"', '[student]\nname = "linear"']
    lines += ["[prices.m]", "usd_per_million_input = 1", "usd_per_million_output = 2"]
    lines += ['[teacher]\nname = "openai:m"', f'base_url = "{server.url}"', 'key_env = "SPENDING_API_KEY"', *teacher]
    (folder / "potstill.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "potstill.toml"


def planted_in(content: str) -> list[str]:
    return [each for i in range(60) if (each := PLANTED[i % 5].format(i=i)) in content]


@pytest.mark.parametrize("options", [(), ('examples = "nearest"', "n_nearest = 3"), ("shortlist = 2",)], ids=str)
def test_a_run_sends_no_personal_data_and_reports_what_it_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SPENDING_API_KEY", KEY)
    with FakeServer(key=KEY) as server:
        done = distill(order(tmp_path, server, "redact = true", *options), out=tmp_path / "run", reporter=Heard())
    assert len(server.seen) > 40
    assert not planted_in(json.dumps(server.seen))
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert server.url.split("/")[2] in page
    assert "Removed from them before" in page
    assert set(done.predict(["more sports", "all business"])) == {"sports", "business"}


def test_the_host_is_named_before_the_first_text_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDING_API_KEY", KEY)
    with FakeServer(key=KEY) as server:

        class Refusing(Heard):
            def confirm(self, question: str) -> bool:
                assert not server.seen
                assert f"go to {server.url.split('/')[2]}" in " ".join(self.sentences)
                return False

        with pytest.raises(SpendingDeclined):
            distill(order(tmp_path, server), out=tmp_path / "run", reporter=Refusing())
        assert not server.seen


def test_without_redaction_texts_are_sent_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDING_API_KEY", KEY)
    with FakeServer(key=KEY) as server:
        distill(order(tmp_path, server), out=tmp_path / "run", reporter=Heard())
    assert planted_in(json.dumps(server.seen))


def test_the_key_is_in_no_file_no_log_and_no_output(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SPENDING_API_KEY", KEY)
    heard = Heard()
    # A server that repeats the key in whatever it refuses, before and after it works.
    blabbing = Fault(400, message=f"invalid request with key {KEY}")
    by_word = {"sports 22 ": blabbing, "business 23 ": Fault(500, times=1, message=f"upstream says {KEY}")}
    with FakeServer(key=KEY, by_word=by_word) as server:
        done = distill(order(tmp_path, server), out=tmp_path / "run", reporter=heard)
        assert f"Bearer {KEY}" in {each["authorization"] for each in server.headers}
    said = [*heard.sentences, *capfd.readouterr(), caplog.text, done.to_text(), json.dumps(done.to_json()), repr(done)]
    assert not [each for each in said if KEY in each]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_key_is_in_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPENDING_API_KEY", KEY)
    with FakeServer(key="another") as server, pytest.raises(TeacherError, match="SPENDING_API_KEY") as caught:
        distill(order(tmp_path, server), out=tmp_path / "run", reporter=Heard())
    assert server.seen
    whole = "".join(traceback.format_exception(caught.value))
    assert KEY not in whole + "".join(capfd.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

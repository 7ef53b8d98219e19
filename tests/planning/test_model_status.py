"""When a model shuts down: `plan --check` and a new `distill` ask the server and say so; nothing else asks it."""

from __future__ import annotations

import json
import socket
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.chat_server import FakeServer
from support.chat_teacher import KEY
from support.csv_tables import write_tickets

from potstill import api, cli
from potstill.reports.console import ConsoleReporter
from potstill.teachers.model_status import ModelLife, ModelStatus

TODAY = date(2026, 11, 30)


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    return write_tickets(tmp_path / "tickets.csv")


def spec_at(tickets: Path, url: str, kind: str = "openai") -> Path:
    """A spec whose teacher is the model `m` of the server at `url`."""
    toml = tickets.with_name("potstill.toml")
    toml.write_text(
        f'budget = 1\nstudent = "linear"\n[data]\nfile = "{tickets}"\n[teacher]\nname = "{kind}:m"\n'
        f'base_url = "{url}"\n[prices.m]\nusd_per_million_input = 0.1\nusd_per_million_output = 0.1\n',
        encoding="utf-8",
    )
    return toml


def listed(*models: dict[str, Any]) -> dict[str, Any]:
    return {"/models": {"object": "list", "data": list(models)}}


@pytest.mark.parametrize(
    ("life", "said"),
    [
        (ModelLife(date(2027, 1, 14)), "m shuts down on 14 January 2027, in 45 days, says host."),
        (ModelLife(TODAY + timedelta(1)), "tomorrow"),
        (ModelLife(TODAY), "today"),
        (ModelLife(TODAY - timedelta(3)), "m was to shut down on 27 November 2026"),
        (ModelLife(date(2027, 1, 14), retired=True), "m was to shut down on 14 January 2027"),
        (ModelLife(retired=True), "host has shut m down"),
    ],
)
def test_an_end_names_the_model_the_day_and_what_to_do(life: ModelLife, said: str) -> None:
    status = ModelStatus("m", "host", life)
    assert status.ends
    assert said in status.sentence(TODAY)
    assert "--teacher" in status.sentence(TODAY)


def test_a_plan_asks_the_server_only_if_the_user_says_so(tickets: Path) -> None:
    end = (date.today() + timedelta(45)).isoformat()
    with FakeServer(catalogue=listed({"id": "other"}, {"id": "m", "shutdown_date": end})) as server:
        spec = spec_at(tickets, server.url)
        assert api.plan(spec).teacher.model_status == ""
        assert server.shown == []
        done = CliRunner().invoke(cli.app, ["plan", str(spec), "--check", "--json"])
        text = api.plan(spec, check=True).to_text()
    assert server.seen == []
    assert [path for path, _ in server.shown] == ["/models"] * 2
    found = json.loads(done.stdout)
    assert (found["shutdown_date"], found["model_ends"]) == (end, True)
    assert "m shuts down on" in text
    assert "in 45 days" in text


def test_anthropics_entry_of_the_model_is_read(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    entry = {"id": "m", "type": "model", "lifecycle": "deprecated", "retires_at": "2027-01-22T17:00:00Z"}
    with FakeServer(catalogue={"/models/m": entry}) as server:
        plan = api.plan(spec_at(tickets, server.url, "anthropic"), check=True).teacher
    assert (plan.shutdown_date, plan.model_ends) == ("2027-01-22", True)
    ((path, key),) = server.shown
    assert path == "/models/m"
    assert KEY in key


@pytest.mark.parametrize(
    ("catalogue", "said"),
    [
        (listed({"id": "m", "shutdown_date": None}), "announces no shutdown"),
        (listed({"id": "m"}), "announces no shutdown"),
        (listed({"id": "a"}, {"id": "b\x1b[31m"}), "does not list m; it lists a, b"),
        ({}, "does not list m."),
        ({"/models": 401}, "it answered 401"),
        ({"/models": 500}, "it answered 500"),
        ({"/models": b"<html>"}, "sent nothing that can be read"),
        ({"/models": {"data": "x"}}, "cannot be read"),
        (listed({"id": "m", "shutdown_date": "soon"}), "cannot be read"),
        (listed({"id": "m", "shutdown_date": [1]}), "cannot be read"),
    ],
)
def test_whatever_the_catalogue_is_the_plan_is_printed(tickets: Path, catalogue: dict[str, Any], said: str) -> None:
    with FakeServer(catalogue=catalogue) as server:
        plan = api.plan(spec_at(tickets, server.url), check=True).teacher
    assert said in plan.model_status
    assert not plan.model_ends
    assert plan.high_usd > 0
    assert "\x1b" not in plan.to_text()


def test_an_unreachable_server_fails_no_plan(tickets: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    plan = api.plan(spec_at(tickets, url), check=True).teacher
    assert "cannot be reached" in plan.model_status


def test_without_a_key_a_provider_is_not_asked(tickets: Path) -> None:
    """A request would fail this test: it stays on loopback."""
    plan = api.plan(tickets, teacher="openai:gpt-6-luna", budget=5, check=True).teacher
    assert "OPENAI_API_KEY is not set" in plan.model_status


class Recording(ConsoleReporter):
    """A console that agrees, and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []

    def info(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def confirm(self, question: str) -> bool:
        self.sentences.append(question)
        return True


def test_a_new_run_warns_before_the_question_and_a_resumed_one_asks_nothing(tickets: Path, tmp_path: Path) -> None:
    end = (date.today() + timedelta(9)).isoformat()
    with FakeServer(catalogue=listed({"id": "m", "shutdown_date": end})) as server:
        spec = spec_at(tickets, server.url)
        first, second = Recording(), Recording()
        api.distill(spec, out=tmp_path / "run", reporter=first, limit=120)
        api.distill(spec, out=tmp_path / "run", reporter=second, limit=120)
    warned = next(number for number, line in enumerate(first.sentences) if "m shuts down on" in line)
    assert "in 9 days" in first.sentences[warned]
    assert warned < first.sentences.index("Spend it?")
    assert not any("shuts down" in line for line in second.sentences)
    assert len(server.shown) == 1

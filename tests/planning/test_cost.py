"""The plan: what a teacher will cost, before any money moves and without a key."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.csv_tables import write_csv, write_tickets

from potstill import api, cli
from potstill.errors import BadData, BadSpec, SpendingDeclined, UnknownPrice
from potstill.ledger.prices import parse_usd
from potstill.reports.console import ConsoleReporter


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    return write_tickets(tmp_path / "tickets.csv")


def test_a_plan_needs_no_key_and_calls_no_teacher(tickets: Path):
    plan = api.plan(tickets, teacher="openai:gpt-6-luna", budget=5).teacher
    assert plan.host == "api.openai.com"
    assert plan.costs_money
    assert 0 < plan.low_usd < plan.high_usd
    assert plan.low_texts <= plan.high_texts == plan.n_texts == 400
    assert "genai-prices" in plan.price_source


def test_where_all_texts_have_a_label_the_plan_says_so_and_distill_refuses_before_it_asks(tmp_path: Path):
    rows = [(f"my {'card' if i % 2 else 'transfer'} {i}", "card" if i % 2 else "transfer") for i in range(40)]
    labelled = write_csv(tmp_path / "all.csv", {"text": [t for t, _ in rows], "label": [y for _, y in rows]})
    plan = api.plan(labelled, teacher="openai:gpt-6-luna", budget=5).teacher
    assert plan.lacks_pool
    assert "--pool FILE" in plan.to_text()
    assert "--pool FILE" not in api.plan(labelled, teacher="openai:gpt-6-luna", budget=5, procedure="pgkd").to_text()
    folder, reporter = tmp_path / "run", ConsoleReporter()
    with pytest.raises(BadData, match="needs unlabelled texts"):
        api.distill(labelled, teacher="openai:gpt-6-luna", budget=5, out=folder, reporter=reporter)
    assert not folder.exists()


def test_the_estimate_is_in_proportion_to_the_prompt(tickets: Path):
    short = api.plan(tickets, teacher="openai:gpt-6-luna", budget=5).teacher
    toml = tickets.with_name("potstill.toml")
    toml.write_text(
        f'budget = 5\nteacher = "openai:gpt-6-luna"\n[task]\ninstruction = "{"Mind this rule. " * 400}"\n'
        f'[data]\nfile = "{tickets}"\n',
        encoding="utf-8",
    )
    long = api.plan(toml).teacher
    assert long.low_usd > 3 * short.low_usd


def test_a_small_budget_buys_some_of_the_texts(tickets: Path):
    plan = api.plan(tickets, teacher="openai:gpt-6-luna", budget=0.02).teacher
    assert 0 < plan.low_texts < plan.high_texts <= 400
    assert "reaches for" in plan.summary()


def test_an_unknown_price_is_refused_and_a_given_one_is_used(tickets: Path):
    with pytest.raises(UnknownPrice):
        api.plan(tickets, teacher="openai:gpt-99", budget=5)
    toml = tickets.with_name("potstill.toml")
    toml.write_text(
        f'budget = 5\nteacher = "openai:gpt-99"\n[data]\nfile = "{tickets}"\n'
        '[prices."gpt-99"]\nusd_per_million_input = 1.0\nusd_per_million_output = 2.0\n',
        encoding="utf-8",
    )
    assert api.plan(toml).teacher.high_usd > 0


def test_rate_limits_stretch_the_time(tickets: Path):
    toml = tickets.with_name("potstill.toml")
    head = f'budget = 5\n[data]\nfile = "{tickets}"\n[teacher]\nname = "openai:gpt-6-luna"\n'
    toml.write_text(head + "requests_per_minute = 10\n", encoding="utf-8")
    plan = api.plan(toml).teacher
    assert plan.high_s == pytest.approx(400 * 6)
    assert "10" in plan.time_basis


def test_a_teacher_on_this_machine_sends_nothing_away(tickets: Path, tmp_path: Path):
    known = tmp_path / "known.csv"
    known.write_text("text,label\na,card\nb,transfer\n", encoding="utf-8")
    toml = tickets.with_name("potstill.toml")
    toml.write_text(
        f'budget = 5\n[data]\nfile = "{tickets}"\n[teacher]\nname = "replay"\nfile = "{known}"\nusd_per_label = 0.1\n',
        encoding="utf-8",
    )
    plan = api.plan(toml).teacher
    assert (plan.host, plan.costs_money, plan.simulated) == ("", False, True)
    n_gold = int(re.search(r"asked about (\d+) gold texts", plan.extra_calls).group(1))
    assert 0 < n_gold < 20
    assert parse_usd(plan.low_usd) == parse_usd(plan.high_usd) == (400 + n_gold) * 100_000
    assert "simulation" in plan.to_text()
    assert "No text leaves" in plan.to_text()


def test_the_plan_of_a_tiny_pool_prints_no_zeros(tmp_path: Path):
    rows = [(f"a {label} {i}", label) for i in range(6) for label in ("card", "transfer")] + [("which is it", "")]
    file = write_csv(tmp_path / "few.csv", {"text": [t for t, _ in rows], "label": [y for _, y in rows]})
    toml = tmp_path / "potstill.toml"
    toml.write_text(
        f'budget = 0.004\n[data]\nfile = "{file}"\n[teacher]\nname = "replay"\nfile = "{file}"\n'
        "usd_per_million_tokens = 0.001\n",
        encoding="utf-8",
    )
    page = api.plan(toml).to_text()
    assert "costs under $0.0001; the budget of $0.004 reaches for all of them, in under a second." in page
    assert not re.search(r"\$0\.0+\b", page)


def test_a_plan_shows_what_missing_descriptions_cost(tickets: Path):
    plan = api.plan(tickets, teacher="openai:gpt-6-luna", budget=5).teacher
    assert plan.n_undescribed == 2
    assert 0 < plan.low_description_usd < plan.high_description_usd < plan.high_usd
    assert "2 have no description; init --describe has them written for up to $0." in plan.to_text()
    toml = tickets.with_name("potstill.toml")
    described = 'card = "About a card."\n'
    head = f'budget = 5\nteacher = "openai:gpt-6-luna"\n[data]\nfile = "{tickets}"\n[task.descriptions]\n'
    toml.write_text(head + described, encoding="utf-8")
    one = api.plan(toml).teacher
    assert one.n_undescribed == 1
    assert one.high_description_usd < plan.high_description_usd
    assert "1 has no description; init --describe has it written for up to $0." in one.to_text()
    toml.write_text(f'{head}{described}transfer = "About a transfer."\n', encoding="utf-8")
    assert "no description" not in api.plan(toml).to_text()


def test_the_plan_is_json_too_and_needs_a_budget(tickets: Path):
    result = CliRunner().invoke(cli.app, ["plan", str(tickets), "-t", "openai:gpt-6-luna", "-b", "5", "--json"])
    assert json.loads(result.stdout)["n_texts"] == 400
    with pytest.raises(BadSpec):
        api.plan(tickets, teacher="openai:gpt-6-luna")


class Declining(ConsoleReporter):
    """A console whose user says no."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []
        self.questions = 0

    def info(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def confirm(self, question: str) -> bool:
        self.questions += 1
        return False


def test_the_user_is_asked_before_money_is_spent_and_may_decline(tickets: Path, tmp_path: Path):
    reporter = Declining()
    with pytest.raises(SpendingDeclined) as declined:
        api.distill(
            tickets, teacher="openai:gpt-6-luna", student="linear", budget=1, out=tmp_path / "run", reporter=reporter
        )
    assert reporter.questions == 1
    assert any("costs $" in sentence for sentence in reporter.sentences)
    assert "--yes" in declined.value.hint
    assert not (tmp_path / "run").exists()


def test_a_script_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert ConsoleReporter().confirm("Spend it?")


def test_a_teacher_that_generates_is_planned_by_its_rounds(tickets: Path):
    toml = tickets.with_name("potstill.toml")
    head = (
        f'budget = 5\n[data]\nfile = "{tickets}"\n[teacher]\nname = "openai:gpt-6-luna"\n[procedure]\nname = "pgkd"\n'
    )
    toml.write_text(head, encoding="utf-8")
    plan = api.plan(toml).teacher
    assert plan.n_texts == 320
    assert plan.generates
    assert 0 < plan.low_usd < plan.high_usd < 10 * plan.max_call_usd
    assert plan.high_s == pytest.approx(600)
    assert "write up to 320 texts" in plan.summary()
    assert "Training texts" in plan.to_text()
    toml.write_text(head + "rounds = 5\ntexts_per_round = 16\n", encoding="utf-8")
    fewer = api.plan(toml).teacher
    assert fewer.n_texts == 80
    assert fewer.high_usd < plan.high_usd


def test_a_simulated_generation_is_planned_to_the_micro_dollar(tickets: Path, tmp_path: Path):
    known = tmp_path / "known.csv"
    known.write_text("text,label\na,card\nb,transfer\n", encoding="utf-8")
    toml = tickets.with_name("potstill.toml")
    toml.write_text(
        f'budget = 5\n[data]\nfile = "{tickets}"\n[teacher]\nname = "replay"\nfile = "{known}"\n'
        f'generate_from = "{known}"\nusd_per_label = 0.1\n'
        '[procedure]\nname = "pgkd"\nrounds = 1\ntexts_per_round = 10\n',
        encoding="utf-8",
    )
    assert parse_usd(api.plan(toml).teacher.high_usd) == 1_000_000


@pytest.mark.parametrize("procedure", ["finetune", "selftrain"])
def test_a_recipe_without_a_teacher_has_no_price(tickets: Path, procedure: str) -> None:
    result = api.plan(tickets, procedure=procedure, budget=1)
    assert result.teacher is None
    assert "asks no teacher" in result.to_text()

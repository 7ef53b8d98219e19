"""A package with a teacher, a student, a recipe and an engine works in `plan`, `distill` and `compare`."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest
from support.plugin.first_texts import RECIPE
from support.plugin.one_by_one import OneByOne

from potstill.engines.base import Engine
from potstill.testing import EngineContract, RecipeContract

SOURCES = Path(__file__).parent.parent / "support" / "plugin"
ENTRY_POINTS = """[potstill.teachers]
words = shop_plugin.word_teacher:open_teacher
[potstill.students]
plain = shop_plugin.plain_student:PlainStudent
[potstill.procedures]
first-texts = shop_plugin.first_texts:RECIPE
undeclared = shop_plugin.first_texts:first_texts
[potstill.engines]
one-by-one = shop_plugin.one_by_one:OneByOne
"""
WORDS = {"food": "soup bread cheese dinner apple", "sport": "match goal referee tennis runner"}


class TestFirstTexts(RecipeContract):
    """The plug-in's recipe keeps the contract."""

    def open_recipe(self):
        return RECIPE


class TestOneByOne(EngineContract):
    """The plug-in's engine keeps the contract."""

    @pytest.fixture(autouse=True)
    def log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLUGIN_LOG", str(tmp_path / "log.txt"))

    def open_engine(self) -> Engine:
        return OneByOne()


@dataclass(frozen=True)
class Shop:
    """The installed package, and a task for it."""

    folder: Path

    @property
    def log(self) -> list[str]:
        """What the plug-in's teacher and engine did."""
        file = self.folder / "log.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(self.folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PLUGIN_LOG": str(self.folder / "log.txt")}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line in a process of its own, without a terminal."""
        command = [sys.executable, "-m", "potstill", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def run_on_terminal(self, answer: str, *arguments: str) -> tuple[int, str]:
        """The same on a terminal, where the user types `answer`: the exit code and what was printed."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "potstill", *arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        printed = b""
        try:
            while chunk := os.read(ours, 4096):
                printed += chunk
        except OSError:  # the other side was closed
            pass
        finally:
            os.close(ours)
        return process.wait(), printed.decode(errors="replace")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    package = tmp_path / "site" / "shop_plugin"
    shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    record = tmp_path / "site" / "shop_plugin-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-plugin\nVersion: 1.0\n", encoding="utf-8")
    (record / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    rows = ["text,label"]
    for label, words in WORDS.items():
        for i, pair in enumerate(permutations(words.split(), 2)):
            rows.append(f"some {label} with {pair[0]} and {pair[1]},{label if i % 2 else ''}")
    (tmp_path / "shop.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "potstill.toml").write_text(
        'budget = 1\nengine = "one-by-one"\nteacher = "words"\nstudent = "plain"\n'
        '[data]\nfile = "shop.csv"\n[procedure]\nname = "first-texts"\nn_texts = 6\n',
        encoding="utf-8",
    )
    return Shop(tmp_path)


def test_a_plan_prices_what_the_plug_in_s_recipe_buys_from_its_teacher(shop: Shop):
    done = shop.run("plan", "potstill.toml", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["teacher"], plan["n_texts"], plan["host"], plan["remote"]) == ("words", 6, "words.example", True)
    assert 0 < plan["low_usd"] <= plan["high_usd"] < 0.001
    assert "asked" not in " ".join(shop.log)


def test_a_bare_function_plans_as_unknown_at_most_the_budget(shop: Shop):
    done = shop.run("plan", "potstill.toml", "--procedure", "undeclared")
    assert done.returncode == 0, done.stderr
    assert "unknown: at most the budget of $1.00" in done.stdout


@pytest.mark.parametrize("procedure", [pytest.param("first-texts", marks=pytest.mark.nightly), "undeclared"])
def test_a_teacher_that_may_send_a_bill_is_asked_about_before_it_spends(shop: Shop, procedure: str):
    command = ("distill", "potstill.toml", "-o", "run", "--procedure", procedure)
    code, printed = shop.run_on_terminal("n", *command)
    assert code == 2, printed
    assert "Spend it?" in printed
    assert "nothing was spent" in printed
    assert not (shop.folder / "run").exists()
    assert shop.log == []


def test_a_distillation_uses_all_four(shop: Shop):
    done = shop.run("distill", "potstill.toml", "-o", "run", "--yes")
    assert done.returncode == 0, done.stderr
    assert shop.log[0] == "engine opened"
    assert sum(int(line.split()[1]) for line in shop.log if line.startswith("asked")) >= 6
    predicted = shop.run("predict", "run", "some food with bread and soup", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert "food" in predicted.stdout


def test_a_comparison_uses_all_four(shop: Shop):
    (shop.folder / "study.toml").write_text(
        'budget = 1\nengine = "one-by-one"\nteacher = "words"\nprocedures = ["ft", "first-texts"]\nsizes = [2]\n'
        'seeds = 1\nvalidation_share = 0\nmax_unlabelled = 8\n[[backbones]]\nname = "plain"\nstudent = "plain"\n'
        '[data.shop]\nfile = "shop.csv"\n',
        encoding="utf-8",
    )
    done = shop.run("compare", "study.toml", "-o", "study", "--json")
    assert done.returncode == 0, done.stderr
    cells = json.loads((shop.folder / "study" / "compare.json").read_text(encoding="utf-8"))["cells"]
    learnt = {cell["procedure"]: cell for cell in cells if cell["procedure"] in ("FT", "first-texts")}
    assert [cell["reason"] for cell in learnt.values()] == ["", ""]
    assert "engine opened" in shop.log
    assert any(line.startswith("asked") for line in shop.log)

"""The file of results: a benchmark writes its section and touches no other."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "bench" / "sections.py"


@pytest.fixture(scope="module")
def sections() -> Any:
    spec = importlib.util.spec_from_file_location("bench_sections", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_section_is_added_then_replaced_and_its_neighbours_stay(sections: Any, tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    sections.write_section("one", "## One\n\nfirst", file)
    sections.write_section("two", "## Two", file)
    sections.write_section("one", "## One\n\nagain", file)
    text = file.read_text("utf-8")
    assert text.startswith("# What was measured")
    assert "first" not in text
    assert text.index("again") < text.index("<!-- /one -->") < text.index("<!-- two -->\n## Two\n<!-- /two -->")


def test_what_a_person_wrote_between_the_sections_stays(sections: Any, tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", "utf-8")
    sections.write_section("x", "new", file)
    assert file.read_text("utf-8") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"


@pytest.mark.parametrize("text", ["<!-- x -->", "<!-- /x -->\n<!-- x -->", "<!-- x --><!-- x --><!-- /x -->"])
def test_broken_markers_are_refused_and_nothing_is_written(sections: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError):
        sections.write_section("x", "new", file)
    assert file.read_text("utf-8") == text


@pytest.mark.parametrize(("name", "text"), [("A b", "x"), ("", "x"), ("x", "<!-- /x -->")])
def test_a_name_or_a_text_that_would_break_the_markers_is_refused(
    sections: Any, tmp_path: Path, name: str, text: str
) -> None:
    with pytest.raises(ValueError):
        sections.write_section(name, text, tmp_path / "RESULTS.md")
    assert not (tmp_path / "RESULTS.md").exists()


def test_sections_written_at_once_are_all_there(sections: Any, tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: sections.write_section(f"s{i}", f"text {i}", file), range(24)))
    text = file.read_text("utf-8")
    assert all(f"<!-- s{i} -->\ntext {i}\n<!-- /s{i} -->" in text for i in range(24))


def test_a_table_keeps_its_columns(sections: Any) -> None:
    assert sections.table(["runner", "texts/s"], [["a | b", "1"]]).splitlines() == [
        "| runner | texts/s |",
        "| --- | ---: |",
        "| a \\| b | 1 |",
    ]

"""The page and the terminal: everything is there, nothing is fetched, nothing that a user wrote becomes markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.study_results import QUALITY, made_study

from potstill.study.page import render_page
from potstill.study.records import Cell, CellResult
from potstill.study.terminal import render_study, setfit_table


def test_the_page_needs_nothing_but_itself() -> None:
    page = render_page(made_study())
    assert not re.search(r"(?:src|href)\s*=|@import|url\(|fetch\(|https?://(?!www\.w3\.org)", page)
    assert "default-src 'none'" in page
    figures = json.loads(re.search(r'<script id="figures"[^>]*>(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert len(figures[0]["points"]) == sum(len(curve) for curve in QUALITY.values())


def test_every_mean_stands_in_a_table_of_the_page_and_of_the_terminal() -> None:
    study = made_study()
    page, text = render_page(study), render_study(study, width=120)
    for (_, who), curve in QUALITY.items():
        for value in curve.values():
            assert f"{100 * value:.1f} <small>" in page
            assert f"{100 * value:.1f} [" in text
        assert who in text
    assert "Joint front of compute, labels and accuracy" in page
    assert "Take " in page
    assert "Take " in text


def test_names_and_reasons_cannot_become_markup() -> None:
    nasty = "<script>alert(1)</script>\x1b[31m\x9b2J\u202e"
    study = made_study()
    study.results[Cell("d", 8, 0, "p", "lm")] = CellResult("failed", reason=nasty)  # type: ignore[index]
    study.results[Cell("d", 8, 9, "ft", nasty)] = study.results[Cell("d", 8, 0, "ft", "big")]  # type: ignore[index]
    page = render_page(study)
    assert nasty[:20] not in page
    assert not [c for c in page if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c == "\u202e"]
    assert "1 cell failed" in render_study(study)


def test_what_was_not_measured_is_called_so() -> None:
    study = made_study()
    assert "not measured" in render_page(study)
    for key in study.footprints:
        study.footprints[key] = type(study.footprints[key])(note="not exported: no graph")  # type: ignore[index]
    assert "not measured" in render_page(study)
    assert "Take " in render_study(study)


def test_the_setfit_layout_has_a_block_a_size_and_a_column_a_data_set() -> None:
    table = setfit_table(made_study())
    assert [line for line in table.splitlines() if line.startswith("|N|")] == [
        "|N| = 8 per total", "|N| = 64 per total", "|N| = 512 per total",
    ]  # fmt: skip
    assert re.search(r"^FT big\s+62\.0 \(0\.0\)\s+62\.0 \(0\.0\)$", table, re.MULTILINE)
    assert "standard deviation" in table


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_terminal_keeps_to_its_width(width: int) -> None:
    text = render_study(made_study(), width=width, page="/x/compare.html")
    assert max(len(line) for line in text.splitlines() if not line.startswith("report")) <= width


def test_the_page_of_an_empty_study_still_opens(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render_page(made_study({})))
    assert "</html>" in (tmp_path / "page.html").read_text()

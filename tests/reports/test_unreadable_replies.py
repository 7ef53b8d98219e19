"""Replies of a teacher that name no label: the report counts them, shows three, and says what to do."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import FakeServer
from support.reports import HOSTILE, empty

from potstill.api import distill
from potstill.reports import UnreadableSummary, read_report, render_html, render_terminal

LABELS = ("sports", "world")
UNREADABLE = {
    "story 41": "<b>none</b>\n\x1b]52;c;x\x07 \u202e",
    "story 43": "=cmd|x",
    "story 47": "x" * 5000,
    "story 49": "=cmd|x",
}


def run(folder: Path, server: FakeServer) -> Path:
    """The folder of a finished run whose teacher is the server."""
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"{LABELS[i % 2]} story {i}", LABELS[i % 2] if i < 30 else ""] for i in range(60))
    (folder / "potstill.toml").write_text(
        f"""
budget = 2
student = "linear"
data.file = "data.csv"
teacher = {{ name = "openai:m", base_url = "{server.url}", parallel = 1 }}
prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2 }}
""",
        encoding="utf-8",
    )
    return distill(folder / "potstill.toml", out=folder / "run").folder


def test_a_run_reports_the_replies_that_could_not_be_read(tmp_path: Path) -> None:
    def garble(done: dict[str, Any]) -> None:
        asked = json.dumps(server.seen[-1]["messages"])
        for story, reply in UNREADABLE.items():
            if story in asked:
                done["choices"][0]["message"]["content"] = reply

    with FakeServer(mutate=garble) as server:
        folder = run(tmp_path, server)
    report = read_report(folder / "report.json")
    (unreadable,) = report.unreadable
    assert (unreadable.teacher, unreadable.n_replies, len(unreadable.replies)) == ("openai:m", 4, 3)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "4 replies of openai:m name no label of the task." in page
    assert "&lt;b&gt;none&lt;/b&gt; \\x1b]52;c;x\\x07 \\u202e" in page
    assert "=cmd|x" in page
    assert "x" * 199 in page
    assert "x" * 201 not in page


@pytest.mark.parametrize("render", [render_html, lambda report: render_terminal(report, width=400)])
def test_the_sentence_says_how_many_and_what_to_do(render: Any) -> None:
    replies = ("", HOSTILE, "fine")
    for n, words in ((1, "1 reply of openai:m names no label"), (1200, "1,200 replies of openai:m name no label")):
        unreadable = UnreadableSummary(teacher="openai:m", n_replies=n, replies=replies)
        page = render(replace(empty(), unreadable=(unreadable,)))
        assert words in page
        assert "[teacher.aliases]" in page
        assert "max_tokens" in page
        assert "(an empty reply)" in page
        assert "“fine”" in page
        assert not [c for c in page if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\ud800"]
    assert "name no label" not in render(empty())

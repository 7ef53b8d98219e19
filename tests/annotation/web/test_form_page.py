"""The page for marks and answers in a real browser: mouse, keys, emoji, undo, a phone, requests that are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.answer_run import EMOJI, begin, labels_of
from support.browser import Page
from support.page_requests import ask

pytest.importorskip("torch")
pytest.importorskip("transformers")

PASSAGE = "document.querySelector('#passage p').textContent"
STATUS = "document.getElementById('status').textContent"
COUNT = "document.getElementById('count').textContent"
STORE = "document.getElementById('store').textContent"


def shown(page: Page) -> str:
    """Wait for a text; returns it."""
    return str(page.until(f"!document.getElementById('text').hidden && {PASSAGE}"))


def skip_to(page: Page, text: str) -> None:
    """Skip texts until this one is shown."""
    for _ in range(20):
        if (before := shown(page)) == text:
            return
        page.press("s")
        page.until(f"{PASSAGE} !== {json.dumps(before)}")
    raise AssertionError(text)


def arrow(page: Page, key: str, times: int = 1, *, shift: bool = False) -> None:
    for _ in range(times):
        for kind in ("rawKeyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=39, modifiers=8 * shift)


def select(page: Page, words: str) -> None:
    """Select words of the text behind its last mark."""
    place = f"at = last.data.indexOf({json.dumps(words)}), end = at + {len(words)}"
    range_ = "getSelection().setBaseAndExtent(last, at, last, end)"
    page.value(f"(() => {{ const last = document.querySelector('#passage p').lastChild, {place}; {range_}; }})()")
    page.until(f"getSelection().toString() === {json.dumps(words)}")


def drag(page: Page, words: str) -> None:
    """Select words with the mouse, from their first letter to behind their last."""
    select(page, words)
    box = "getSelection().getRangeAt(0).getBoundingClientRect()"
    left, right, y = page.value(f"(() => {{ const b = {box}; return [b.left, b.right, (b.top + b.bottom) / 2]; }})()")
    page.value("getSelection().removeAllRanges()")
    for kind, x in (("mousePressed", left + 1), ("mouseMoved", right - 1), ("mouseReleased", right - 1)):
        page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def test_spans_are_marked_by_mouse_and_keys_and_stored_in_characters(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    run = begin(tmp_path, "entities", n=3, extra=(EMOJI,))
    browser.open(served(run).url + "?annotator=ann")
    skip_to(browser, EMOJI)
    browser.press("1")
    browser.until(f"{STATUS}.includes('Select words')")
    drag(browser, "soup bread")
    browser.until("getSelection().toString().trim() === 'soup bread'")
    browser.press("1")
    browser.until("document.querySelectorAll('#passage mark').length === 1")
    arrow(browser, "ArrowRight")  # goes on behind the mark
    assert browser.value("getSelection().toString()") == "and"
    arrow(browser, "ArrowRight", shift=True)
    browser.press("2")
    browser.until("document.querySelectorAll('#passage mark').length === 2")
    names = browser.value("[...document.querySelectorAll('#passage mark')].map((m) => m.getAttribute('aria-label'))")
    assert names[0] == "soup bread, dish: remove this mark"
    browser.value("document.querySelectorAll('#passage mark')[1].click()")
    browser.until("document.querySelectorAll('#passage mark').length === 1")
    select(browser, "bank")
    browser.type("fin")  # the search takes the focus, and the words stay picked
    browser.press("Enter")
    browser.until(f"{STORE}.startsWith('Store 2 marks')")
    assert browser.value(PASSAGE) == EMOJI
    browser.press("Enter")
    browser.until(f"{COUNT}.startsWith('ann · 1 marked')")
    start = EMOJI.index("bank")
    marks = f'[[6, 16, "dish"], [{start}, {start + 4}, "finance"]]'
    assert EMOJI[6:16] == "soup bread"
    assert labels_of(run) == {EMOJI: marks}

    browser.press("u")
    browser.until(f"{PASSAGE} === {json.dumps(EMOJI)}")
    assert browser.value("[...document.querySelectorAll('#passage mark')].map((m) => m.textContent)") == [
        "soup bread",
        "bank",
    ]
    browser.press("Enter")
    browser.until(f"{COUNT}.startsWith('ann · 1 marked')")
    assert labels_of(run) == {EMOJI: marks}

    second = shown(browser)
    assert browser.value(STORE).startswith("Nothing in it")
    browser.press("Enter")
    browser.until(f"{COUNT}.startsWith('ann · 2 marked')")
    third = shown(browser)
    browser.press("?")
    browser.until(f"{COUNT}.startsWith('ann · 3 marked')")
    assert labels_of(run) == {EMOJI: marks, second: "[]", third: ""}


def test_answers_are_written_and_ctrl_enter_stores_them(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    run = begin(tmp_path, "free", n=3)
    browser.open(served(run).url + "?annotator=ann")
    first = shown(browser)
    store = {"type": "keyDown", "key": "Enter", "windowsVirtualKeyCode": 13, "modifiers": 2}
    browser.send("Input.dispatchKeyEvent", **store)
    browser.until(f"{STATUS}.includes('Write an answer first')")
    browser.type("us? [1]")  # letters that are keys elsewhere
    browser.send("Input.dispatchKeyEvent", **store)
    browser.until(f"{COUNT}.startsWith('ann · 1 answered')")
    assert labels_of(run) == {first: "us? [1]"}
    browser.press("Escape")
    browser.press("u")
    browser.until("document.getElementById('answer').value === 'us? [1]'")
    assert shown(browser) == first
    browser.value("document.getElementById('store').click()")
    browser.until(f"{COUNT}.startsWith('ann · 1 answered')")
    second = shown(browser)
    browser.press("Escape")
    browser.press("?")
    browser.until(f"{COUNT}.startsWith('ann · 2 answered')")
    assert labels_of(run) == {first: "us? [1]", second: ""}
    assert browser.value("document.getElementById('answer').getAttribute('aria-label')") == "Answer"


@pytest.mark.parametrize("form", ["entities", "free"])
def test_the_pages_fit_a_phone_and_refuse_what_is_no_answer(
    tmp_path: Path, served: Callable[..., Any], browser: Page, form: str
) -> None:
    run = begin(tmp_path, form, n=2)
    url = served(run).url
    browser.size(390, 844)
    browser.open(url + "?annotator=ann")
    shown(browser)
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    targets = "[...document.querySelectorAll('#labels button, footer button, textarea')]"
    boxes = f"{targets}.map((b) => b.getBoundingClientRect()).filter((b) => b.width)"
    assert browser.value(f"{boxes}.every((b) => b.height >= 38 && b.left >= 0 && b.right <= innerWidth)")
    id = browser.value("current.id")
    wrong = ["", " "] + (
        ["x" * 10_001] if form == "free" else ['[[0, 999, "dish"]]', '[[0, 2, "pets"]]', "[[0", '"soup"']
    )
    for label in wrong:
        status, _, said = ask(url, "/label", {"annotator": "ann", "id": id, "label": label, "seconds": 1})
        assert status == 400
        assert re.search(r"The text has (an|marks)", json.loads(said)["error"]), said
    assert labels_of(run) == {}
    status, _, said = ask(url, "/label", {"annotator": "ann", "id": "no-such", "label": "[]", "seconds": 1})
    assert json.loads(said)["outcome"] == "unknown"

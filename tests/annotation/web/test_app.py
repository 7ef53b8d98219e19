"""The annotation page in a real browser: keyboard, crash of the server, search, undo; injected scripts never run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.annotation_run import LABELS, begin, go_on, human_calls, labels_of, truth, write_spec, write_texts
from support.browser import Page

from potstill.errors import Waiting

COUNT = "document.getElementById('count').textContent"
PASSAGE = "document.getElementById('passage').innerText"
STATUS = "document.getElementById('status').textContent"


def shown(page: Page) -> str:
    """Wait for a text; returns it."""
    return str(page.until(f"!document.getElementById('text').hidden && {PASSAGE}"))


def done(page: Page, n: int, annotator: str = "ann") -> None:
    """Wait until n texts are labelled."""
    page.until(f"{COUNT}.startsWith('{annotator} · {n} labelled')")


def label_by_number(page: Page, already: int, n: int) -> None:
    """Label n texts correctly with the number keys."""
    numbers = {label: str(LABELS.index(label) + 1) for label in LABELS}
    order = page.value("task.labels.map((label) => label.name)")
    numbers = {label: str(order.index(label) + 1) for label in order}
    for number in range(already, already + n):
        page.press(numbers[truth(shown(page))])
        done(page, number + 1)


def test_twenty_texts_by_keyboard_through_a_killed_server_are_twenty_labels_in_the_ledger(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    run = begin(tmp_path)
    server = served(run)
    browser.open(server.url)
    browser.until("!document.getElementById('start').hidden")
    browser.type("ann")
    browser.press("Enter")
    label_by_number(browser, 0, 11)
    server.kill()
    before = shown(browser)
    browser.press("1")  # the server is down
    browser.until("!document.getElementById('error').hidden")
    assert shown(browser) == before
    served(run, port=int(server.url.split(":")[2].strip("/")))
    done(browser, 12)  # the request was repeated until the server answered
    browser.press("u")
    done(browser, 11)
    assert shown(browser) == before
    browser.open(f"{server.url}?annotator=ann")  # a new page continues where the old one was
    done(browser, 11)
    label_by_number(browser, 11, 9)
    browser.until("!document.getElementById('end').hidden")
    finished = go_on(tmp_path)
    calls = human_calls(run)
    assert sum(call.usage.labels for call in calls) == 20
    assert sum(call.charged for call in calls) == 2_000_000
    assert finished.report.student.evaluation.accuracy.value == 1.0
    labels = labels_of(run)
    assert all(each.seconds > 0 for each in labels.annotations() if each.label == truth_of(labels, each.id))
    labels.close()


def truth_of(labels: Any, id: str) -> str:
    return truth(labels.question(id).text)


def test_seventy_labels_are_searched_and_every_key_works(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    names = [f"{what}_{kind}" for what in ("card", "cash", "transfer", "top_up", "user") for kind in "abcdefghijklmn"]
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"{name} number {i}", name] for name in names for i in range(3))
        rows.writerows([f"open text {i}", ""] for i in range(6))
    run = begin(tmp_path, described="")
    browser.open(served(run).url + "?annotator=ann")
    first = shown(browser)
    browser.type("tran c")  # beginnings of words, in order
    assert browser.value("document.querySelectorAll('#labels li').length") == 1
    browser.press("Enter")
    done(browser, 1)
    assert browser.value(STATUS).startswith("transfer_c")
    second = shown(browser)
    assert second != first
    browser.press("s")
    browser.until(f"{PASSAGE} !== {second!r}")
    third = shown(browser)
    browser.press("?")
    done(browser, 2)
    browser.press("/")
    browser.type("user")
    browser.press("ArrowDown")
    browser.press("Enter")
    done(browser, 3)
    assert browser.value(STATUS).startswith("user_b")
    browser.type("cash")
    browser.press("3")
    done(browser, 4)
    assert browser.value(STATUS).startswith("cash_c")
    browser.type("zzz")
    browser.press("Enter")  # no match, so no label
    browser.press("Escape")
    assert browser.value("document.getElementById('search').value") == ""
    browser.press("u")
    done(browser, 3)
    browser.press("1")
    done(browser, 4)
    browser.press("1")
    done(browser, 5)
    assert shown(browser) == second  # a skipped text comes last
    labels = labels_of(run)
    stored = {labels.question(each.id).text: each.label for each in labels.annotations()}  # type: ignore[union-attr]
    labels.close()
    assert stored[first] == "transfer_c"
    assert stored[third] == ""
    assert second not in stored


def test_two_tabs_of_one_annotator_lose_nothing_and_two_annotators_see_different_texts(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    run = begin(tmp_path)
    url = served(run).url
    other = "request('next', {annotator: 'bob'}).then((state) => state.text.parts[0])"
    browser.open(url + "?annotator=ann")
    first = shown(browser)
    assert browser.value(other) != first
    # Another tab of the same annotator labels the same text, then this one does.
    labels = labels_of(run)
    id = browser.value("current.id")
    body = f"JSON.stringify({{annotator: 'ann', id: '{id}', label: 'sports', seconds: 1}})"
    post = f"fetch('/label', {{method: 'POST', headers: {{'Content-Type': 'application/json'}}, body: {body}}})"
    assert browser.value(f"{post}.then((reply) => reply.json()).then((found) => found.outcome)") == "new"
    browser.press(str(browser.value("task.labels.findIndex((label) => label.name === 'money')") + 1))
    browser.until(f"{STATUS}.includes('another tab')")
    assert [(each.id, each.label) for each in labels.annotations()] == [(id, "money")]
    labels.close()


def test_a_label_chosen_at_once_has_a_time_above_zero(
    tmp_path: Path, served: Callable[..., Any], browser: Page
) -> None:
    run = begin(tmp_path)
    browser.open(served(run).url + "?annotator=ann")
    shown(browser)
    browser.value("restartClock(), choose(task.labels[0])")
    done(browser, 1)
    labels = labels_of(run)
    assert [each.seconds > 0 for each in labels.annotations()] == [True]
    labels.close()


def test_html_in_texts_and_labels_is_never_run(tmp_path: Path, served: Callable[..., Any], browser: Page) -> None:
    attack = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"{label} text {i}", label] for label in (attack, "plain") for i in range(30))
        rows.writerows([f"open {i} {attack}", ""] for i in range(3))
    spec = write_spec(tmp_path, described=f'plain = "{attack}"')
    text = spec.read_text(encoding="utf-8").replace("What is the story about?", attack)
    spec.write_text(text, encoding="utf-8")
    with pytest.raises(Waiting):
        go_on(tmp_path)
    browser.open(served(tmp_path / "run").url + "?annotator=%3Cimg%20src=x%20onerror=stolen=1%3E")
    assert attack in shown(browser)
    browser.press("1")
    browser.until(f"{COUNT}.includes('1 labelled')")
    assert browser.value(
        "window.stolen === undefined && document.querySelectorAll('main img, header img').length === 0"
    )


def test_the_page_fits_a_phone(tmp_path: Path, served: Callable[..., Any], browser: Page) -> None:
    write_texts(tmp_path, n=2)
    browser.size(390, 844)
    browser.open(served(begin(tmp_path)).url + "?annotator=ann")
    shown(browser)
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    boxes = "[...document.querySelectorAll('#labels button, footer button')].map((b) => b.getBoundingClientRect())"
    assert browser.value(f"{boxes}.every((b) => b.height >= 38 && b.left >= 0 && b.right <= innerWidth)")

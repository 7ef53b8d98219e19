"""Building a pool: no leaks between splits, every row counted, and splits that depend on the texts alone."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.near_duplicates import normalise
from potstill.data.pairs import PAIR_SEPARATOR
from potstill.data.pool import SPLITS, Pool, PoolBuild, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.errors import BadData, BadSpec

WORDS = [
    "river",
    "stone",
    "cloud",
    "paper",
    "green",
    "seven",
    "music",
    "bread",
    "light",
    "horse",
    "winter",
    "signal",
    "garden",
    "copper",
    "island",
]


def table(rows: Sequence[tuple[str, str]], name: str = "data") -> Table:
    return Table.from_columns({"text": [t for t, _ in rows], "label": [y for _, y in rows]}, name)


def corpus(n: int, labels: str = "abc", seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [(f"{' '.join(draw.choices(WORDS, k=8))} {i}-{seed}", labels[i % len(labels)]) for i in range(n)]


def membership(pool: Pool) -> dict[str, str]:
    return dict(zip(pool.texts, pool.split.tolist(), strict=True))


def sides(pool: Pool) -> dict[str, set[str]]:
    return {s: {normalise(t) for t in pool.subset(s).texts} for s in SPLITS}


def refused(sources: object, labels: Sequence[str] = (), **options: object) -> BadData:
    with pytest.raises(BadData) as caught:
        build_pool(sources, labels=labels, options=PoolOptions(**options))  # type: ignore[arg-type]
    assert caught.value.hint
    return caught.value


def sentences(built: PoolBuild) -> str:
    return " ".join(built.report.sentences())


# ---- splitting


def test_one_file_is_split_into_disjoint_stratified_parts() -> None:
    built = build_pool(table(corpus(300, "aaabbc") + [(f"unlabelled {i}", "") for i in range(40)]))
    pool = built.pool
    assert [len(pool.subset(s)) for s in ("test", "pool")] == [60, 40]
    assert built.report.created_splits == ("test", "validation")
    assert pool.counts("test") == {"a": 30, "b": 20, "c": 10}
    assert (pool.subset("pool").gold == -1).all()
    assert len(pool) == 340 == sum(len(pool.subset(s)) for s in SPLITS)


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(4, 60), st.integers(0, 5))
def test_row_order_changes_no_split(draw: random.Random, n: int, seed: int) -> None:
    rows = corpus(n, "ab") + [(t.upper() + "!", y) for t, y in corpus(n // 3, "ab")]
    shuffled = rows.copy()
    draw.shuffle(shuffled)
    options = PoolOptions(seed=seed)
    one, other = build_pool(table(rows), options=options).pool, build_pool(table(shuffled), options=options).pool
    assert membership(one) == membership(other)


def test_the_same_files_give_the_same_key_and_another_seed_another_split() -> None:
    rows = table(corpus(100))
    one, again = build_pool(rows).pool, build_pool(rows).pool
    other = build_pool(rows, options=PoolOptions(seed=1)).pool
    assert one.key == again.key != other.key
    assert membership(one) != membership(other)


TEXTS = st.text("aAbB .!é", max_size=4)
ROLES = st.sampled_from(["data", "train", "pool", "validation", "test"])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(ROLES, TEXTS, st.sampled_from(["x", "y", ""])), max_size=40))
def test_no_leak_remains_whatever_the_files(rows: list[tuple[str, str, str]]) -> None:
    sources: dict[str, list[tuple[str, str]]] = {}
    for role, text, label in rows:
        sources.setdefault(role, []).append((text, label))
    try:
        built = build_pool({role: table(given, role) for role, given in sources.items()}, labels=["x", "y"])
    except (BadData, BadSpec):
        return
    pool, report, found = built.pool, built.report, sides(built.pool)
    to_learn = found["train"] | found["pool"]
    assert not to_learn & found["test"]
    assert not to_learn & found["validation"]
    assert not found["validation"] & found["test"]
    c = report.cleaning
    left_out = (
        c.empty + c.duplicates + c.conflicting_rows + c.leaks_exact + c.leaks_normalised + report.unlabelled_dropped
    )
    assert len(pool) + left_out == len(rows), "every row is in the pool or counted"


def test_a_rare_label_keeps_a_training_row_and_is_reported() -> None:
    rows = [*corpus(200, "ab"), ("the only one of c", "c"), ("d one", "d"), ("d two", "d"), ("d three", "d")]
    built = build_pool(table(rows))
    train = built.pool.counts("train")
    assert train["c"] == 1
    assert train["d"] >= 1
    assert "No row of test has the label 'c'" in sentences(built)
    assert "Only one row of train has the label 'c'" in sentences(built)


def test_labels_that_are_no_labels_or_alike_are_named() -> None:
    said = "labels have one row each, as numbers or texts would"
    assert said in sentences(build_pool(table([(f"text number {i}", f"0.{i}1") for i in range(40)])))
    assert said not in sentences(build_pool(table([*corpus(60, "ab"), *((f"rare {i}", f"r{i}") for i in range(30))])))
    alike = sentences(build_pool(table([(f"text number {i}", ("Yes", "yes", "No", "NO")[i % 4]) for i in range(40)])))
    assert "'Yes' and 'yes'; " in alike or "'yes' and 'Yes'; " in alike or "; 'Yes' and 'yes'" in alike
    assert "Each is a label of its own; write those that mean the same alike." in alike


def test_a_given_test_set_is_unchanged_and_only_validation_is_set_aside() -> None:
    test = corpus(50, seed=1)
    built = build_pool({"train": table(corpus(100)), "test": table([*test, test[0]])})
    assert built.report.created_splits == ("validation",)
    assert len(built.pool.subset("test")) == 51
    assert built.report.cleaning.test_duplicates == 1


def test_a_split_column_is_used() -> None:
    names = ["train"] * 20 + ["dev"] * 6 + ["test"] * 6 + ["unlabelled"] * 6
    rows = corpus(38, "ab")
    source = Table.from_columns({"text": [t for t, _ in rows], "label": [y for _, y in rows], "split": names})
    built = build_pool(source)
    assert Counter(built.pool.split.tolist()) == {"train": 20, "validation": 6, "test": 6, "pool": 6}
    assert built.report.hidden == 6
    odd = Table.from_columns({"text": ["a", "b"], "label": ["x", "y"], "split": ["train", "tset"]})
    assert "'tset' (1); first on line 2" in refused(odd, split="split").message
    assert refused(odd).message == refused(odd, split="split").message


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("split", ["train", "test", "holdout"]),
        ("Partition", ["TRAIN", "TEST", "blind"]),
        ("data_split", ["train", "train", "challenge"]),
        ("usage", ["train", "test", "private"]),
        ("split", ["alpha", "beta", "gamma"]),
    ],
)
def test_an_unknown_split_name_is_refused_whether_the_column_is_named_or_guessed(column: str, names: list[str]) -> None:
    rows = corpus(60)
    source = Table.from_columns({"text": [t for t, _ in rows], "label": [y for _, y in rows], column: names * 20})
    error = refused(source)
    assert error.message == refused(source, split=column).message
    assert repr(names[-1]) in error.message
    assert "train (training, tr); validation (valid, val, dev" in error.hint
    built = build_pool(source, options=PoolOptions(split="-"))
    assert built.report.created_splits == ("test", "validation")


@pytest.mark.parametrize(
    ("column", "values"),
    [("label", ["train", "bus", "tram"]), ("fold", ["0", "1", "2"]), ("topic", ["test", "a", "b"])],
)
def test_a_column_that_only_shares_a_word_with_splits_is_none(column: str, values: list[str]) -> None:
    rows = corpus(60)
    source = Table.from_columns({"text": [t for t, _ in rows], "gold": [y for _, y in rows], column: values * 20})
    assert build_pool(source, options=PoolOptions(label="gold")).report.created_splits == ("test", "validation")


def test_the_split_column_of_a_file_that_is_one_split_is_said_to_be_unused() -> None:
    rows = corpus(60)
    columns = {"text": [t for t, _ in rows], "label": [y for _, y in rows], "split": ["train", "test", "dev"] * 20}
    built = build_pool({"train": Table.from_columns(columns, "a.csv")})
    assert "The column 'split' of a.csv has 'train' (20), 'test' (20), 'dev' (20); it is not used" in sentences(built)


def test_labels_of_pool_rows_are_hidden_from_learning() -> None:
    built = build_pool({"train": table(corpus(60)), "pool": table(corpus(30, seed=2))})
    subset = built.pool.subset("pool")
    assert (subset.gold == -1).all()
    assert (built.pool.hidden_labels[subset.rows] >= 0).all()
    assert "nothing learns from it" in sentences(built)


def test_a_limit_is_drawn_by_content() -> None:
    rows = corpus(200)
    one = build_pool(table(rows), options=PoolOptions(limit=50))
    other = build_pool(table(rows[::-1]), options=PoolOptions(limit=50))
    assert len(one.pool) == 50
    assert one.report.over_limit == 150
    assert membership(one.pool) == membership(other.pool)


# ---- cleaning


def test_empty_and_duplicate_texts_are_left_out_and_counted() -> None:
    rows = corpus(40)
    built = build_pool(table([*rows, rows[0], (rows[1][0], ""), ("  ", "a"), ("", "")]))
    assert (built.report.cleaning.duplicates, built.report.cleaning.empty) == (2, 2)
    assert len(built.pool) == 40
    kept = build_pool(table([*rows, rows[0]]), options=PoolOptions(on_duplicate="keep"))
    assert len(kept.pool) == 41


@pytest.mark.parametrize(("choice", "n_left"), [("drop", 0), ("first", 1)])
def test_a_text_with_two_labels_is_left_out_or_the_first_taken(choice: str, n_left: int) -> None:
    rows = [*corpus(40), ("hard to say", "b"), ("hard to say", "c")]
    built = build_pool(table(rows), options=PoolOptions(on_conflict=choice))  # type: ignore[arg-type]
    assert built.pool.texts.count("hard to say") == n_left
    assert built.report.cleaning.conflicting_texts == 1
    assert built.report.cleaning.conflicting_rows == 2 - n_left


def test_a_text_with_two_labels_can_be_an_error_with_its_lines() -> None:
    rows = [*corpus(10), ("hard to say", "b"), ("hard to say", "c")]
    assert "data:11, data:12" in refused(table(rows), on_conflict="error").message


def test_test_texts_are_left_out_of_train_and_pool_and_counted() -> None:
    test = corpus(20, seed=1)
    train = [*corpus(60), test[0], (test[1][0].upper().replace(" ", ",  ") + "!", "a")]
    sources = {"train": table(train), "pool": table([test[2], ("new", "")]), "test": table(test)}
    built = build_pool(sources)
    assert (built.report.cleaning.leaks_exact, built.report.cleaning.leaks_normalised) == (2, 1)
    assert "in test or validation as well" in sentences(built)
    assert "3 rows" in refused(sources, on_leak="error").message
    allowed = build_pool(sources, options=PoolOptions(on_leak="allow"))
    assert allowed.report.cleaning.leaks_kept == 3
    assert test[0][0] in allowed.pool.subset("train").texts + allowed.pool.subset("validation").texts


def test_near_duplicates_are_a_warning_and_are_kept() -> None:
    test = [(f"{' '.join(random.Random(i).choices(WORDS, k=30))}", "ab"[i % 2]) for i in range(10)]
    train = [*corpus(50, "ab"), (test[3][0] + " indeed", "a")]
    built = build_pool({"train": table(train, "train"), "test": table(test, "test")})
    assert built.report.cleaning.near_duplicates == 1
    assert "test:4 like train:51" in sentences(built)
    assert test[3][0] + " indeed" in built.pool.texts


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("Hello, World!", "hello world", True),
        ("“Straße” – 5", "strasse 5", True),
        ("I love C++", "I love C", False),
        ("fine 😀", "fine 😡", False),
        ("की", "का", False),
        ("1.5", "15", False),
        ("!!!", "???", False),
    ],
)
def test_only_case_punctuation_and_white_space_are_ignored(a: str, b: str, equal: bool) -> None:
    assert (normalise(a) == normalise(b)) is equal


# ---- labels and columns


def test_labels_are_sorted_or_in_the_given_order() -> None:
    assert build_pool(table(corpus(30, "cab"))).pool.labels == ("a", "b", "c")
    numbers = [(f"text {i}", str(i % 11)) for i in range(44)]
    assert build_pool(table(numbers)).pool.labels == tuple(map(str, range(11)))
    assert build_pool(table(corpus(30, "cab")), labels=["c", "b", "a", "z"]).pool.labels == ("c", "b", "a", "z")


@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
def test_labels_of_test_that_are_not_in_the_task_are_refused_with_counts(labels: tuple[str, ...]) -> None:
    test = table([*corpus(20, seed=1), ("odd one", "cc"), ("odd two", "cc")])
    error = refused({"train": table(corpus(60)), "test": test}, labels)
    assert "Test has a label that is not in the task" in error.message
    assert "'cc' (2 rows)" in error.message


def test_one_class_and_no_class_are_refused() -> None:
    assert "the same, 'a'" in refused(table(corpus(20, "a"))).message
    assert "No row has a label" in refused(table([("a", ""), ("b", "")])).message


def test_a_pool_without_gold_needs_named_labels() -> None:
    built = build_pool(Table.from_columns({"text": ["one thing", "another"]}), labels=["x", "y"])
    assert len(built.pool.subset("pool")) == 2
    assert "no test set" in sentences(built)


def test_equal_train_and_test_files_are_refused() -> None:
    rows = table(corpus(30))
    assert "Nothing is left" in refused({"train": rows, "test": rows}).message


def test_the_error_of_a_missing_column_lists_the_columns() -> None:
    error = refused(table(corpus(10)), text="txt")
    assert "it has 'text', 'label'" in error.message
    assert "'text'" in error.hint


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"id": "number", "review": "long", "sentiment": "few"}, "review", "sentiment"),
        ({"Unnamed": "number", "Stuff": "long", "Kind": "few"}, "Stuff", "Kind"),
        ({"author": "short", "Message Body": "long", "Category": "few"}, "Message Body", "Category"),
        ({"content": "long", "author": "short"}, "content", None),
        ({"question": "long", "label": "numbers", "true_label": "few"}, "question", "label"),
    ],
)
def test_columns_are_guessed_with_reasons(columns: Mapping[str, str], text: str, label: str | None) -> None:
    values = {
        "number": [str(i) for i in range(60)],
        "numbers": [str(i % 2) for i in range(60)],
        "long": [t for t, _ in corpus(60)],
        "few": ["good", "bad", "so-so"] * 20,
        "short": [f"name {i}" for i in range(60)],
    }
    source = Table.from_columns({name: values[kind] for name, kind in columns.items()})
    built = build_pool(source, labels=() if label else ["x", "y"])
    read = built.report.sources[0]
    assert read.columns["text"] == text
    assert read.columns.get("label") == label
    assert all(guess.reason for guess in read.guesses)


def test_sparse_regularly_spaced_labels_are_found() -> None:
    rows = [(f"text number {i}", "ab"[i // 200 % 2] if i % 100 == 1 else "") for i in range(10_000)]
    assert len(build_pool(table(rows)).pool.subset("pool")) == 9_900


def test_the_two_texts_of_a_pair_become_one() -> None:
    source = Table.from_columns(
        {"premise": ["a man", "", "a cat"], "hypothesis": ["sleeps", "x", "runs"], "label": list("xyy")}
    )
    built = build_pool(source, options=PoolOptions(test_share=0, validation_share=0))
    assert built.pool.texts == (f"a man{PAIR_SEPARATOR}sleeps", f"a cat{PAIR_SEPARATOR}runs")
    assert built.report.cleaning.empty == 1


# ---- options and the report


@pytest.mark.parametrize("options", [PoolOptions(test_share=1.0), PoolOptions(limit=-1), PoolOptions(split="x")])
def test_options_out_of_range_are_refused(options: PoolOptions) -> None:
    with pytest.raises(BadSpec):
        build_pool({"train": table(corpus(10))}, options=options)


def test_an_unknown_source_name_offers_the_nearest() -> None:
    with pytest.raises(BadSpec, match="'train'"):
        build_pool({"trian": table(corpus(10))})


def test_bad_rows_of_a_file_are_counted_and_origins_kept(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in corpus(30)) + "lonely\n")
    assert "line 32" in refused(path).message
    built = build_pool(path, options=PoolOptions(on_bad_row="skip"))
    assert built.report.sources[0].skipped == 1
    assert "line 32" in sentences(built)
    assert built.pool.ids[0] == "reviews.csv:2"


def test_the_report_survives_json() -> None:
    built = build_pool(table([*corpus(40), ("", "a")]))
    report = json.loads(json.dumps(built.report.to_json()))
    assert report["format"] == 2
    assert report["cleaning"]["empty"] == 1
    assert report["counts"]["train"] == built.pool.counts("train")

"""potstill.Classifier is a scikit-learn classifier: its own checks, pipelines, searches, copies and joblib."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data
from support.tinybert import write_tinybert

import potstill
from potstill.errors import BadData, BadSpec, UnknownName
from potstill.testing import StudentContract

LESSON = StudentContract().training_data()
TEXTS = np.array(LESSON.texts, dtype=object)
Y = np.array(StudentContract.labels)[LESSON.targets.argmax(axis=1)]


@pytest.fixture(scope="module")
def fitted() -> Any:
    return potstill.Classifier().fit(TEXTS, Y)


# --- scikit-learn's own checks -------------------------------------------------------------------------------------


def test_it_passes_check_estimator_which_knows_that_texts_are_not_numbers() -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(potstill.Classifier())


class OfNumbers(potstill.Classifier):  # type: ignore[misc, valid-type]
    """The classifier over numbers, each cell a word: so that scikit-learn's checks, which know only numbers, run."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        X, y = validate_data(self, X, y, ensure_min_samples=1)
        return super().fit(self._words(X), y, sample_weight)

    def predict(self, X: Any) -> Any:
        self._fitted()
        return super().predict(self._words(validate_data(self, X, reset=False)))

    def predict_proba(self, X: Any) -> Any:
        self._fitted()
        return super().predict_proba(self._words(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags

    @staticmethod
    def _words(X: Any) -> list[str]:
        return [" ".join(f"c{column}w{round(float(cell) * 2)}" for column, cell in enumerate(row)) for row in X]


EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "how rare a word is counts texts, not their weights",
}


def test_with_numbers_for_words_it_passes_scikit_learns_checks_but_the_one_on_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(OfNumbers(), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    failed = {each["check_name"]: repr(each["exception"])[:300] for each in done if each["status"] == "failed"}
    assert not failed
    assert [each["check_name"] for each in done if each["status"] == "xfail"] == list(EXPECTED)
    assert sum(each["status"] == "passed" for each in done) > 50


# --- what one does with a classifier --------------------------------------------------------------------------------


def test_it_learns_labels_of_any_type_and_gives_them_back(fitted: Any) -> None:
    assert (fitted.predict(TEXTS) == Y).mean() > 0.9
    assert fitted.score(TEXTS, Y) > 0.9
    assert list(fitted.classes_) == sorted(set(Y))
    numbers = np.unique(Y, return_inverse=True)[1] * 10 - 10
    assert set(potstill.Classifier().fit(list(TEXTS), numbers).predict(TEXTS)) == {-10, 0, 10}
    assert is_classifier(fitted)


def test_probabilities_are_rows_that_sum_to_one_and_agree_with_predict(fitted: Any) -> None:
    probs = fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(fitted.classes_[probs.argmax(axis=1)], fitted.predict(TEXTS))


def test_parameters_are_got_set_and_cloned(fitted: Any) -> None:
    model = potstill.Classifier("linear", {"c": 3.0}, seed=4)
    assert model.get_params() == {"student": "linear", "options": {"c": 3.0}, "seed": 4}
    copy = clone(model).set_params(seed=5)
    assert (copy.options, copy.seed, model.seed) == ({"c": 3.0}, 5, 4)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(TEXTS)


def test_it_works_in_a_pipeline_a_search_and_cross_validation() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", potstill.Classifier(options={"c": 10.0}))])
    assert pipeline.fit(TEXTS, Y).score(TEXTS, Y) > 0.9
    search = GridSearchCV(pipeline, {"model__options": [{"c": 1.0}, {"c": 10.0}]}, cv=2).fit(TEXTS, Y)
    assert search.best_params_["model__options"] in ({"c": 1.0}, {"c": 10.0})
    assert cross_val_score(potstill.Classifier(), TEXTS, Y, cv=2).mean() > 0.5


def test_other_processes_get_it_too() -> None:
    assert len(cross_val_score(potstill.Classifier(options={"c": 3.0}), TEXTS, Y, cv=2, n_jobs=2)) == 2


def test_data_frames_columns_tuples_and_one_column_tables_are_texts(fitted: Any) -> None:
    want = fitted.predict_proba(TEXTS)
    forms: list[Any] = [list(TEXTS), tuple(TEXTS), np.array(list(TEXTS)), TEXTS.reshape(-1, 1)]
    if (pandas := _pandas()) is not None:
        forms += [pandas.Series(TEXTS), pandas.DataFrame({"text": TEXTS})]
    for form in forms:
        np.testing.assert_array_equal(fitted.predict_proba(form), want)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        return None
    return pandas


def test_it_survives_joblib_pickle_and_copies_exactly(fitted: Any, tmp_path: Path) -> None:
    joblib.dump(fitted, tmp_path / "model.joblib")
    once = joblib.load(tmp_path / "model.joblib")
    twice = pickle.loads(pickle.dumps(once))
    for copy in (once, twice):
        np.testing.assert_array_equal(copy.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
        assert copy.get_params() == fitted.get_params()
    unfitted = pickle.loads(pickle.dumps(potstill.Classifier(seed=3)))
    assert unfitted.seed == 3


def test_what_is_pickled_of_a_student_is_its_files(fitted: Any) -> None:
    files = fitted.__getstate__()["student_files"]
    assert set(files) == {"student.json", "ngrams.json", "weights.npy", "bias.npy"}
    assert all(isinstance(data, bytes) for data in files.values())


def test_another_process_reads_the_joblib_file(fitted: Any, tmp_path: Path) -> None:
    joblib.dump(fitted, tmp_path / "model.joblib")
    code = f"import joblib; print(joblib.load({str(tmp_path / 'model.joblib')!r}).predict([{TEXTS[0]!r}])[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fitted.predict(TEXTS[:1])[0]


def test_an_encoder_survives_too(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    weights = write_tinybert(tmp_path / "weights")
    model = potstill.Classifier(f"encoder:{weights}", {"mode": "frozen", "c": 100.0}).fit(TEXTS, Y)
    once = pickle.loads(pickle.dumps(model))
    twice = pickle.loads(pickle.dumps(once))
    np.testing.assert_allclose(twice.predict_proba(TEXTS), model.predict_proba(TEXTS), atol=1e-6)


def test_texts_that_weigh_nothing_do_not_exist() -> None:
    half = np.arange(len(Y)) % 2
    weighted = potstill.Classifier(options={"c": 3.0}).fit(TEXTS, Y, sample_weight=half)
    left_out = potstill.Classifier(options={"c": 3.0}).fit(TEXTS[half > 0], Y[half > 0])
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), left_out.predict_proba(TEXTS), atol=1e-4)


def test_equal_seeds_give_equal_students() -> None:
    one, other = (potstill.Classifier(seed=1).fit(TEXTS, Y).predict_proba(TEXTS) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_it_becomes_a_bundle_with_guarantees(fitted: Any, tmp_path: Path) -> None:
    many = np.tile(TEXTS, 3)
    folder = fitted.export(tmp_path / "bundle", many, np.tile(Y, 3))
    bundle = potstill.load(folder)
    assert bundle.guarantees is not None
    assert bundle.predict(list(TEXTS)) == list(fitted.predict(TEXTS))
    assert potstill.load(fitted.export(tmp_path / "bare", TEXTS)).guarantees is None
    with pytest.raises(ValueError, match="not in `classes_`"):
        fitted.export(tmp_path / "wrong", TEXTS, ["nonsense"] * len(TEXTS))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "not a list of texts"),
        ([], [], "no texts"),
        (["a", 3], ["x", "y"], "Text 1 is of type int"),
        (["a", None], ["x", "y"], "NoneType"),
        (["a", "b"], ["x"], "2 texts and labels of shape"),
        (["a", "b"], ["x", "x"], "one class"),
        (["a", "b"], [[1, 0], [0, 1]], "labels of shape"),
        (["a", "b"], None, "requires y"),
    ],
)
def test_unusable_training_data_is_a_value_error_and_a_potstill_error(texts: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        potstill.Classifier().fit(texts, labels)
    assert isinstance(raised.value, BadData)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan], [0.0, 0.0]])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="sample_weight"):
        potstill.Classifier().fit(["a", "b"], ["x", "y"], sample_weight=weights)


def test_unknown_students_and_options_are_named() -> None:
    with pytest.raises(UnknownName, match="linaer"):
        potstill.Classifier("linaer").fit(TEXTS, Y)
    with pytest.raises(BadSpec, match="no option"):
        potstill.Classifier("linear", {"depth": 3}).fit(TEXTS, Y)


def test_a_data_frame_is_read_by_the_columns_that_a_warning_names() -> None:
    rows = [
        {"id": i, "body": f"{'soup bread' if i % 2 else 'goal match'} number {i}", "topic": i % 2} for i in range(20)
    ]
    with pytest.warns(UserWarning, match="the texts from 'body' and the labels from 'topic'"):
        fitted = potstill.Classifier().fit(rows)
    assert (fitted.text_column_, fitted.classes_.tolist()) == ("body", [0, 1])
    expected = potstill.Classifier().fit([row["body"] for row in rows], [row["topic"] for row in rows])
    texts = [row["body"] for row in rows]
    assert fitted.predict(rows).tolist() == fitted.predict(texts).tolist() == expected.predict(texts).tolist()
    with pytest.warns(UserWarning, match="the texts from 'body'"):
        assert potstill.Classifier().fit(rows, "topic").predict(rows).tolist() == expected.predict(texts).tolist()
    pd = pytest.importorskip("pandas")
    with pytest.warns(UserWarning, match="the texts from 'body'"):
        by_frame = potstill.Classifier().fit(pd.DataFrame(rows)[["id", "body"]], pd.DataFrame(rows)["topic"])
    assert by_frame.predict(pd.DataFrame(rows)[["body"]]).tolist() == expected.predict(texts).tolist()
    with pytest.raises(BadData, match="no column 'body', which it was trained on"):
        by_frame.predict(pd.DataFrame(rows)[["id", "topic"]])
    with pytest.raises(BadData, match="several columns"):
        expected.predict(rows)

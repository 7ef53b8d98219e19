"""The claims of Aina et al. on made-up results whose answers are known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.study_results import made_study

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "path", [str(BENCH / "papers"), str(BENCH), *sys.path])
    import compare_claims

    monkeypatch.setattr(compare_claims, "teacher_of", lambda _: "lm")
    yield compare_claims
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(BENCH)):
            del sys.modules[name]


QUALITY = {
    ("p", "lm"): {8: 0.80, 64: 0.84, 512: 0.90},
    ("ft", "lm"): {8: 0.60, 64: 0.82, 512: 0.90},
    ("ft", "small"): {8: 0.62, 64: 0.70, 512: 0.80},
    ("ft+kd", "small"): {8: 0.61, 64: 0.70},
    ("p+kd", "small"): {8: 0.79, 64: 0.84},
    ("p+kd", "big"): {8: 0.60, 64: 0.60},
}


def test_each_claim_is_judged_on_its_own_cells(claims: Any) -> None:
    found = {each.claim: each for each in claims.judge_all(made_study(QUALITY))}
    verdicts = {claim: found[claim].verdict for claim in claims.CLAIMS}
    assert verdicts["a"] == "held"
    assert "8 labels 80.0 % and 60.0 %" in found["a"].evidence
    assert "below about" in found["a"].evidence or "at every size" in found["a"].evidence
    assert verdicts["a0"] == verdicts["i"] == verdicts["e'"] == "not measured"
    assert verdicts["a'"] == "held"
    assert verdicts["b"] in ("held", "undecided")
    assert verdicts["c"] in ("held", "undecided")  # students by their parameters: small, then big
    assert verdicts["c'"] == "did not hold"
    assert verdicts["e"] == "did not hold"
    assert (verdicts["f"], verdicts["g"]) == ("held", "held")
    assert verdicts["h"] == "undecided"
    assert found["f"].figure.startswith("small, 8 labels: +18.0 [")


def test_one_seed_decides_nothing(claims: Any) -> None:
    verdicts = {each.claim: each.verdict for each in claims.judge_all(made_study(QUALITY, seeds=1))}
    assert verdicts["a"] == "undecided (1 seed, else held)"

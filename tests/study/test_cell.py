"""The keys of cells: results of earlier versions stay valid, and what a cell depends on changes its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.study import study_of

from potstill.study.backbones import resolve_backbones
from potstill.study.cell import cell_key
from potstill.study.records import Cell

TEACHER = {"name": "replay", "file": "known.csv"}


def key_of(procedure: str, backbone: str = "", **over: Any) -> str:
    asked = {"procedures": ["ft", "ft+kd", "llm+kd"], "teacher": TEACHER, "kd": {"ft_teacher": "large", "shots": 1}}
    study = study_of(Path("/nowhere"), **{**asked, **over})
    return cell_key(Cell("topics", 6, 0, procedure, backbone), study, resolve_backbones(study, "topics"), "pool")


# Of the version before there were studies of entities: a key that changes loses the results of a study that is there.
@pytest.mark.parametrize(
    ("procedure", "backbone", "key"),
    [
        ("ft", "tiny", "9eb630389bd2d293d941b782e875d55d"),
        ("ft+kd", "tiny", "b74ca94a7519ffef95b6dd2c190fd04d"),
        ("llm+kd", "tiny", "551043235a617cc4902a5761e0d9a8b0"),
        ("majority", "", "830074b6f0bc8b5178fdbcfe756a56c6"),
        ("few-llm", "replay", "4a7c4fede8ee1f65a75b91691d9fdda4"),
        ("tf-idf", "", "d56c7afaf6795359f99ad95044e66aef"),
    ],
)
def test_the_keys_of_label_cells_are_those_of_earlier_versions(procedure: str, backbone: str, key: str) -> None:
    assert key_of(procedure, backbone) == key


def test_a_key_depends_on_what_the_cell_does() -> None:
    large = {"ft_teacher": "large", "shots": 1}
    assert key_of("ft", "tiny") == key_of("ft", "tiny", kd={**large, "temperature": 4.0})
    assert key_of("ft+kd", "tiny") != key_of("ft+kd", "tiny", kd={**large, "temperature": 4.0})
    assert key_of("llm+kd", "tiny") != key_of("llm+kd", "tiny", kd={**large, "shots": 2})

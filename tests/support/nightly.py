"""Marks an inherited test in one class alone. pytest stores a mark in the function, which all classes share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest


def nightly(test: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of the test with the mark `nightly`."""

    @wraps(test)
    def copy(*given: Any, **options: Any) -> Any:
        return test(*given, **options)

    marked: Callable[..., Any] = pytest.mark.nightly(copy)
    return marked

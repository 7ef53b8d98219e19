"""Engines: where calls and cells run. A kind is one file and one line here."""

from __future__ import annotations

from potstill.registry import Registry

REGISTRY = Registry("engine", {"local": "potstill.engines.local:LocalEngine"})
DEFAULT_ENGINE = "local"  # of a run that names none

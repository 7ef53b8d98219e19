"""Engines: where calls and cells run. A kind is one file and one line here."""

from __future__ import annotations

from potstill.registry import Registry

MENU = Registry("engine", {"local": "potstill.engines.local:LocalEngine"})

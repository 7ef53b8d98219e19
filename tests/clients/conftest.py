"""Programs of others, as their users install them, against bundles and servers of potstill.

They are large (node packages of some hundred megabytes) and are not installed for the ordinary tests: what they need
lies in the folder that `POTSTILL_CLIENTS` names, and without it every test here is skipped at once. `make clients`
makes the folder and runs them. Nothing is downloaded while they run.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """The folder whose `node_modules` holds the packages of `make clients`."""
    folder = Path(os.environ.get("POTSTILL_CLIENTS", ""))
    if not os.environ.get("POTSTILL_CLIENTS") or not (folder / "node_modules").is_dir():
        pytest.skip("make clients installs what this test needs")
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    return folder.absolute()

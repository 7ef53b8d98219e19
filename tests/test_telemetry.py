"""Nothing is sent by the libraries either: onnxruntime's own telemetry is off, unless the user turned it on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VARIABLE = "ORT_DISABLE_TELEMETRY"
RUN = "import potstill, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"


def run(home: Path, **given: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE and "XDG" not in name}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**environment, "HOME": str(home), **given},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_onnxruntime_stores_no_device_id_and_sends_nothing(tmp_path: Path) -> None:
    assert run(tmp_path) == "1"
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # its database and its device id


def test_the_users_own_setting_wins(tmp_path: Path) -> None:
    assert run(tmp_path, ORT_DISABLE_TELEMETRY="0") == "0"

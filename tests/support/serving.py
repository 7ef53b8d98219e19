"""Bundles made here and answered elsewhere: both halves of `.ci/serve`. Not a test itself.

python tests/support/serving.py make FOLDER    with everything installed: two bundles, and what they answer
python serving.py check FOLDER         with numpy, onnxruntime and tokenizers alone: they answer the same
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distributions
from pathlib import Path

TEXTS = ["the soup and the bread", "a goal in the stadium", "one loan or shares", "", "unknown words 🙂"]
# What a machine that serves must not need; each would be missed here at once.
NOT_NEEDED = {"torch", "transformers", "scikit-learn", "scipy", "pydantic", "jinja2", "onnx", "pandas", "genai-prices"}


def make(folder: Path) -> None:
    """Write the bundles `encoder` and `linear`, and `answers.json`."""
    import numpy as np
    from support.tinybert import write_tinybert

    from potstill.bundle.bundle import load
    from potstill.bundle.export.export import export
    from potstill.data.task import Task
    from potstill.students.base import StudentConfig
    from potstill.students.encoder import EncoderStudent
    from potstill.students.linear import LinearStudent
    from potstill.testing import StudentContract

    lesson, labels = StudentContract().training_data(), StudentContract.labels
    weights = str(write_tinybert(folder / "weights"))
    students = {
        "encoder": EncoderStudent(StudentConfig(labels, weights=weights, options={"mode": "frozen", "c": 100.0})),
        "linear": LinearStudent(StudentConfig(labels)),
    }
    answers = {}
    for name, student in students.items():
        gold = np.asarray(lesson.targets).argmax(axis=1)
        export(student.fit(lesson), folder / name, task=Task(labels), texts=lesson.texts, gold=gold)
        answers[name] = load(folder / name).predict_proba(TEXTS).tolist()
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def check(folder: Path) -> None:
    """Exit with what is wrong, or say what was there."""
    there = {found.metadata["Name"].lower() for found in distributions()}
    if there & NOT_NEEDED:
        sys.exit(f"this environment is not clean: {sorted(there & NOT_NEEDED)}")
    import numpy as np

    import potstill

    for name, wanted in json.loads((folder / "answers.json").read_text(encoding="utf-8")).items():
        bundle = potstill.load(folder / name, verify=True)
        if not np.allclose(bundle.predict_proba(TEXTS), wanted, atol=1e-4):
            sys.exit(f"the {name} bundle answers otherwise than where it was made")
        if [said.label for said in bundle.iter_predictions(iter(TEXTS))] != bundle.predict(TEXTS):
            sys.exit(f"the {name} bundle streams other labels than it predicts")
    print(f"served with {', '.join(sorted(there - {'pip', 'setuptools'}))}")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))

"""A bundle in a program of its own: numpy, onnxruntime and tokenizers, no potstill.

    python examples/bundle_elsewhere.py [FOLDER]

`Classifier` is all another program needs to label texts with an encoder's bundle; docs/artefact.md has the files.
Without a folder an encoder is trained first (`potstill fetch minilm`), and its bundle is copied elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Classifier:
    """Labels single-label texts with an encoder's bundle; of a long text it reads the beginning only.

    Args:
        folder: the bundle.
    """

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "potstill.json").read_text(encoding="utf-8"))
        config = record["preprocessor"]["config"]
        self.labels = record["task"]["labels"]
        self.session = onnxruntime.InferenceSession(folder / record["graph"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(config["max_length"])
        self.tokenizer.enable_padding(pad_id=config["pad_id"])

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        """(N, K) calibrated probabilities of N texts."""
        encoded = self.tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
        }
        logits = self.session.run(None, feeds)[0]  # calibrated
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exp / exp.sum(axis=1, keepdims=True)

    def predict(self, texts: list[str]) -> list[str]:
        """The likeliest label of each text."""
        return [self.labels[column] for column in self.predict_proba(texts).argmax(axis=1)]


# --- only to try it: make a bundle, and compare with potstill -----------------------------------------------------


def make_bundle(folder: Path) -> Path:
    """Train an encoder on `tickets.csv` and copy its bundle to `folder`."""
    import shutil

    import potstill

    run = Path("runs/encoder")
    potstill.distill(Path(__file__).parent / "encoder.toml", out=run)
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(run / "bundle", folder))


def main(folder: str | None = None) -> None:
    """Label three texts."""
    bundle = Path(folder) if folder else make_bundle(Path("my-classifier"))
    classifier = Classifier(bundle)
    texts = ["where is my parcel", "I was charged twice", "the password does not work"]
    for text, label in zip(texts, classifier.predict(texts), strict=True):
        print(f"{label:10}  {text}")
    if not folder:
        import potstill

        expected = potstill.load(bundle).predict_proba(texts)
        difference = float(np.abs(classifier.predict_proba(texts) - expected).max())
        if difference > 0.01:
            sys.exit(f"potstill and this program differ by {difference:.3f}")
        print(f"potstill and this program agree: the largest difference of a probability is {difference:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

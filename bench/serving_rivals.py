"""The rivals of `serving.py`: what one would write for the same model with FastAPI and transformers, or with LitServe.

    python bench/serving_rivals.py fastapi|litserve FOLDER PORT THREADS -> a server, until it is ended

Started by `serving.py --rivals PYTHON` in an environment with fastapi, uvicorn, litserve, torch and transformers; does
not import potstill. Both take `{"inputs": text}` at /predict and answer as text-embeddings-inference does, so that the
same requests are sent to all. Each is written as its documentation shows; LitServe collects up to 64 texts for 5 ms.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

try:
    from litserve import LitAPI
except ModuleNotFoundError:  # in the environment of FastAPI, or of the tests
    LitAPI = object

BATCH, TIMEOUT_S = 64, 0.005
Scores = list[dict[str, Any]]


class Classifier:
    """A transformers model in PyTorch, fp32.

    Args:
        folder: of the model, as `from_pretrained` reads it.
        threads: of PyTorch.
    """

    def __init__(self, folder: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self._labels = self._model.config.id2label

    def __call__(self, texts: Sequence[str]) -> list[Scores]:
        """Every label of each text, best first."""
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with self._torch.inference_mode():
            probs = self._model(**inputs).logits.softmax(dim=1)
        scores, order = probs.sort(dim=1, descending=True)
        return [
            [{"score": score, "label": self._labels[k]} for score, k in zip(row, ranked, strict=True)]
            for row, ranked in zip(scores.tolist(), order.tolist(), strict=True)
        ]


def serve_fastapi(folder: str, port: int, threads: int) -> None:
    """One route, one text a call, in FastAPI's threads."""
    import uvicorn
    from fastapi import Body, FastAPI

    app, classify = FastAPI(), Classifier(folder, threads)

    @app.post("/predict")
    def predict(inputs: str = Body(embed=True)) -> Any:
        return classify([inputs])[0]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


class Api(LitAPI):  # type: ignore[misc]
    """LitServe's worker. It is pickled, so its settings are attributes."""

    folder, threads = "", 1

    def setup(self, device: Any) -> None:
        self.classify = Classifier(self.folder, self.threads)

    def decode_request(self, request):  # LitServe reads a type here as that of the body
        return str(request["inputs"])

    def predict(self, texts: Any) -> Any:
        return self.classify(texts)

    def encode_response(self, output: Any) -> Any:
        return output


def serve_litserve(folder: str, port: int, threads: int) -> None:
    """LitServe's batches, one worker."""
    import litserve

    api = Api(max_batch_size=BATCH, batch_timeout=TIMEOUT_S, api_path="/predict")
    api.folder, api.threads = folder, threads
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


SERVERS = {"fastapi": serve_fastapi, "litserve": serve_litserve}


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    else:
        name, folder, port, threads = sys.argv[1:]
        SERVERS[name](folder, int(port), int(threads))

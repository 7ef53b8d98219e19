"""tritonclient asks the server by the Open Inference Protocol, with binary tensors and with JSON."""

import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1].removeprefix("http://"))
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("small")
about = client.get_model_metadata("small")
assert any(each["name"] == "text" for each in about["inputs"]), about
texts = np.array(["we had soup and bread", "naïve 東京", "the team won the match"], dtype=object)
found = {}
for binary in (True, False):
    given = triton.InferInput("text", [len(texts)], "BYTES")
    given.set_data_from_numpy(texts, binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")]
    result = client.infer("small", [given], outputs=wanted)
    labels = [each.decode() if isinstance(each, bytes) else each for each in result.as_numpy("label")]
    found[binary] = labels, result.as_numpy("probabilities")
    assert found[binary][1].shape == (3, 3), found[binary]
assert found[True][0] == found[False][0], found
assert np.allclose(found[True][1], found[False][1], atol=1e-6)
plain = triton.InferInput("text", [1], "BYTES")
plain.set_data_from_numpy(texts[:1])
assert client.infer("small", [plain]).as_numpy("label") is not None
refused = ""
try:
    client.infer("absent", [plain])
except triton.InferenceServerException as error:
    refused = str(error)
assert "absent" in refused, refused
print("tritonclient", found[True][0])

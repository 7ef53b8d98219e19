"""huggingface_hub's InferenceClient and prometheus-client ask the server at the address in the first argument."""

import sys
import urllib.request

from huggingface_hub import InferenceClient
from prometheus_client.parser import text_string_to_metric_families

url = sys.argv[1]
client = InferenceClient(model=url)
found = client.text_classification("we had soup and bread")
assert len(found) == 3, found
assert abs(sum(each.score for each in found) - 1) < 1e-5, found
assert len(client.text_classification("we had soup and bread", top_k=2)) == 2
with urllib.request.urlopen(f"{url}/metrics") as reply:
    families = {family.name: family for family in text_string_to_metric_families(reply.read().decode())}
assert sum(sample.value for sample in families["te_request_success"].samples if "created" not in sample.name) >= 2
assert "te_queue_size" in families, sorted(families)
print("InferenceClient", [each.label for each in found], len(families), "metrics")

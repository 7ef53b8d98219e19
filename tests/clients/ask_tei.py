"""tei-client, the HTTP client of text-embeddings-inference, asks the server at the address in the first argument."""

import sys

import tei_client
from tei_client.models import ModelType

client = tei_client.HttpClient(sys.argv[1])
assert client.health()
info = client.info()
assert info.server_model_type == ModelType.Classifier, info
labels = sorted(info.server_model_metadata.label2id)
one = client.classify("we had soup and bread")
assert len(one) == 1, one
scores = [each.score for each in one[0].scores]
assert sorted(each.label for each in one[0].scores) == labels, one
assert abs(sum(scores) - 1) < 1e-5, scores
assert scores == sorted(scores, reverse=True), scores
batch = client.classify(["we had soup and bread", "the team won the match"])
assert len(batch) == 2, batch
assert {each.label: round(each.score, 5) for each in batch[0].scores} == {
    each.label: round(each.score, 5) for each in one[0].scores
}
raw = client.classify("we had soup and bread", raw_scores=True)
assert raw[0].scores[0].label == one[0].scores[0].label, raw
assert abs(sum(each.score for each in raw[0].scores) - 1) > 1e-3, raw
pairs = tei_client.HttpClient(f"{sys.argv[1]}/models/pairs")
pair = pairs.classify(("the team won", "the match was lost"))
assert [sorted(each.label for each in one.scores) for one in pair] == [labels], pair
print("tei-client", len(labels), "labels")

"""The classifiers of transformers that an encoder's network is written as: class, names of weights, how they pool.

All of them read the first token only, but ModernBERT's, which can average the tokens. To add a family, add a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClassifierFamily:
    """A family of encoders, and its class for classification.

    Attributes:
        architecture: name of the class.
        prefix: of the encoder's weights within it.
        layers: where the layers are within the encoder.
        n_layers: the key of the number of layers in the config.
        value, attention_out: of a layer: the projection of the values, and the one after the attention.
        dense: the layer between encoder and classifier.
        classifier: the last layer.
        activation: between both; "norm" is a layer norm without activation.
        mean_pooling: whether a layer can be added that averages the tokens, or the class does so itself.
    """

    architecture: str
    prefix: str
    layers: str = "encoder.layer"
    n_layers: str = "num_hidden_layers"
    value: str = "attention.self.value"
    attention_out: str = "attention.output.dense"
    dense: str = "classifier.dense"
    classifier: str = "classifier.out_proj"
    activation: Literal["tanh", "relu", "gelu", "norm"] = "tanh"
    mean_pooling: bool = True


FAMILIES: Mapping[str, ClassifierFamily] = {
    "bert": ClassifierFamily(
        "BertForSequenceClassification", "bert", dense="bert.pooler.dense", classifier="classifier"
    ),
    "roberta": ClassifierFamily("RobertaForSequenceClassification", "roberta"),
    "xlm-roberta": ClassifierFamily("XLMRobertaForSequenceClassification", "roberta"),
    "camembert": ClassifierFamily("CamembertForSequenceClassification", "roberta"),
    "electra": ClassifierFamily("ElectraForSequenceClassification", "electra", activation="gelu"),
    "distilbert": ClassifierFamily(
        "DistilBertForSequenceClassification",
        "distilbert",
        layers="transformer.layer",
        n_layers="n_layers",
        value="attention.v_lin",
        attention_out="attention.out_lin",
        dense="pre_classifier",
        classifier="classifier",
        activation="relu",
    ),
    "deberta-v2": ClassifierFamily(
        "DebertaV2ForSequenceClassification",
        "deberta",
        value="attention.self.value_proj",
        dense="pooler.dense",
        classifier="classifier",
    ),
    # All its layers share one table of relative positions, so that no layer can weigh the tokens alike.
    "mpnet": ClassifierFamily("MPNetForSequenceClassification", "mpnet", mean_pooling=False),
    "modernbert": ClassifierFamily(
        "ModernBertForSequenceClassification", "model", dense="head.dense", classifier="classifier", activation="norm"
    ),
}

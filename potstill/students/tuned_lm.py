"""A transformers language model of which a part is trained: its layers, which weights are trained, and their state.

Does not cover what is predicted from its states, or training itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from potstill.errors import BadInput, BadSpec
from potstill.students.lora import add_lora, merge_lora

TuningMode = Literal["lora", "full", "frozen"]


class TunedLM(nn.Module):
    """A language model with its head.

    Args:
        model: a masked or causal language model of transformers.
        causal: whether it is causal.

    Attributes:
        blocks: the transformer layers.
        trained_state: the trained parameters by name, after `merge_and_freeze`.
    """

    def __init__(self, model: Any, *, causal: bool) -> None:
        super().__init__()
        self.model: Any = model
        self.causal = causal
        self.blocks: nn.ModuleList = _blocks(model)
        self.trained_state: dict[str, Tensor] = {}

    @property
    def backbone(self) -> Any:
        """The transformers model, under the name that `torch_onnx` uses."""
        return self.model

    @property
    def dim(self) -> int:
        """D of its states."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    def unfreeze(self, mode: TuningMode, layers: int, rank: int) -> int:
        """Make parameters trainable; the first layer whose inputs depend on them.

        In the top `layers`, the weights ("full") or LoRA of rank `rank` ("lora"). "full" on all layers of a masked
        model includes its embeddings and head.
        """
        first = len(self.blocks) - layers if mode != "frozen" else len(self.blocks)
        for block in self.blocks[first:]:
            if mode == "lora":
                add_lora(block, rank, 2.0 * rank)
            else:
                block.requires_grad_(True)
        if mode == "full":
            lower = {id(parameter) for block in self.blocks[:first] for parameter in block.parameters()}
            everything = not self.causal and first == 0
            tied = (self.model.get_input_embeddings().weight, _output_weight(self.model))
            for name, parameter in self.model.named_parameters():
                is_embedding = "embed" in name or any(parameter is weight for weight in tied)
                if id(parameter) not in lower and (everything or not is_embedding):
                    parameter.requires_grad_(True)
        return min(first, len(self.blocks) - 1)

    def merge_and_freeze(self) -> None:
        """Copy the trained parameters to `trained_state`, merge LoRA into the weights, and freeze all."""
        self.trained_state = {
            name: parameter.detach().clone() for name, parameter in self.named_parameters() if parameter.requires_grad
        }
        merge_lora(self.model)
        self.requires_grad_(False)
        self.eval()

    def load_trained_state(self, state: Mapping[str, Tensor], mode: TuningMode, layers: int, rank: int) -> None:
        """Load the `trained_state` of another network of the same weights."""
        with torch.random.fork_rng(devices=[]):  # initialised on the CPU, and overwritten
            self.unfreeze(mode, layers, rank)
        parameters = dict(self.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(value)
        self.merge_and_freeze()


def keep_layers(model: Any, n: int) -> None:
    """Cut a language model down to its first `n` layers, in place. Raises BadSpec if it has fewer."""
    blocks, config = _blocks(model), model.config.get_text_config()
    if n > len(blocks):
        raise BadSpec(f"The model has {len(blocks)} layers, and {n} are to be kept.", "Leave layers out to keep all.")
    del blocks[n:]
    config.num_hidden_layers = n
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:n]


def _blocks(model: Any) -> nn.ModuleList:
    n = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return module
    raise BadInput(f"A {model.config.model_type} has no list of layers that is known here.", "Use another model.")


def _output_weight(model: Any) -> Any:
    head = model.get_output_embeddings()
    return None if head is None else head.weight

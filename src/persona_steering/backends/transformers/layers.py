"""Where the decoder blocks of a model are, and a check that they are what the layer convention says.

The check is one forward: the output of block i must equal `hidden_states[i+1]` for every i but the last (whose
hidden state is taken after the final norm). A model that fails it is refused, since every vector would be off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from persona_steering.errors import LayerDiscoveryError, ModelError

_FOREIGN_TOWERS = ("vision", "visual", "audio", "encoder", "image", "speech")


class DecoderLayers(NamedTuple):
    """The decoder blocks in order, and the attribute path of their list."""

    blocks: tuple[nn.Module, ...]
    path: str


def text_config(model: nn.Module) -> object:
    """The configuration of the language model, also where it is wrapped by a vision model."""
    config: Any = model.config
    found: object = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    return found


def find_layers(model: nn.Module, override: str | None = None) -> DecoderLayers:
    """The decoder blocks of `model`. `override` names the attribute path of their list.

    Raises LayerDiscoveryError that lists the candidates.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    if override is not None:
        if override not in lists:
            raise LayerDiscoveryError(f"the model has no module list {override!r}.", hint=_candidates(lists))
        return DecoderLayers(tuple(lists[override]), override)
    expected = getattr(text_config(model), "num_hidden_layers", None)
    fitting = {
        name: module
        for name, module in lists.items()
        if len(module) == expected and not any(tower in name.lower() for tower in _FOREIGN_TOWERS)
    }
    # Experts inside a block may be as many as there are blocks: the outermost list is the one meant.
    outermost = {
        name: module
        for name, module in fitting.items()
        if not any(name.startswith(other + ".") for other in fitting if other != name)
    }
    if len(outermost) != 1:
        raise LayerDiscoveryError(
            f"cannot tell which modules of {type(model).__name__} are its decoder blocks.",
            hint=f"In Python, name their list: load_model(..., layer_path=...). {_candidates(outermost or lists)}",
        )
    ((path, found),) = outermost.items()
    return DecoderLayers(tuple(found), path)


def block_output(output: object) -> torch.Tensor:
    """The residual stream in what a block returns: a tensor, or the first element of a tuple or model output."""
    if isinstance(output, torch.Tensor):
        return output
    first = output[0]  # type: ignore[index]
    if not isinstance(first, torch.Tensor):
        raise LayerDiscoveryError(f"a decoder block returned {type(output).__name__}, not a hidden state.")
    return first


def replace_block_output(output: object, hidden: torch.Tensor) -> object:
    """What the block returned, with another residual stream in it."""
    if isinstance(output, torch.Tensor):
        return hidden
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    raise LayerDiscoveryError(f"a decoder block returned {type(output).__name__}, which cannot be steered.")


@torch.inference_mode()
def check_layers(model: nn.Module, layers: DecoderLayers) -> None:
    """Raises LayerDiscoveryError unless block i outputs hidden_states[i+1] for every i but the last.

    Raises ModelError when the residual stream overflows, as float16 does in some families.
    """
    outputs: dict[int, torch.Tensor] = {}

    def keep(index: int) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            outputs[index] = block_output(output).detach().clone()

        return hook

    handles = [block.register_forward_hook(keep(i)) for i, block in enumerate(layers.blocks)]
    try:
        ids = torch.arange(1, 7, device=_input_device(model)).reshape(1, 6)
        result = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if not all(bool(torch.isfinite(output).all()) for output in outputs.values()):
        raise ModelError(
            f"{type(model).__name__} computes values that are not finite in {outputs[0].dtype}.",
            hint="Use --dtype bfloat16 or float32.",
        )
    for i in range(len(layers.blocks) - 1):
        if i not in outputs or not torch.equal(outputs[i], result.hidden_states[i + 1].to(outputs[i].device)):
            raise LayerDiscoveryError(
                f"block {i} of {layers.path} does not output hidden_states[{i + 1}].",
                hint="In Python, name the right list: load_model(..., layer_path=...). Please report it.",
            )


def _input_device(model: nn.Module) -> torch.device:
    return model.get_input_embeddings().weight.device  # type: ignore[operator, no-any-return]


def _candidates(lists: dict[str, nn.ModuleList]) -> str:
    rows = [f"{name} ({len(module)})" for name, module in lists.items()]
    return f"Candidates: {', '.join(rows[:12]) or 'none'}."

"""A vector of another tool, from its file to a steered answer: the model that is named is loaded to be told."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.cli.conftest import Cli, make_vector

from persona_steering.vectors import ModelIdentity, VectorStore


def test_a_bare_tensor_becomes_a_vector_of_the_named_model_and_steers_it(
    on_tiny: Cli, store: VectorStore, tiny_model: ModelIdentity
) -> None:
    layers, size = tiny_model.num_layers, tiny_model.hidden_size
    torch.save(5 * torch.randn(layers + 1, size, generator=torch.Generator().manual_seed(0)), "evil.pt")
    result = on_tiny("import", "evil.pt", "--json")
    assert result.code == 0, result.err
    assert "extract-axes" in result.data["warnings"][0]
    assert result.data["status"] == "not calibrated" and result.data["layers"] == list(range(layers - 1))
    assert store.load("trait", "evil", tiny_model).metadata.model == tiny_model

    prompt = ("generate", "Hello there", "--max-new-tokens", "8", "--no-safety", "--temperature", "0")
    unsaid = on_tiny(*prompt, "--persona", "evil")
    assert unsaid.code == 2 and "extract-axes" in unsaid.err  # nothing says yet how long a hidden state is

    store.save(make_vector(tiny_model, "assistant-baseline", kind="baseline"))
    plain, steered = on_tiny(*prompt), on_tiny(*prompt, "--persona", "evil", "--strength", "2")
    assert plain.code == steered.code == 0
    assert "not calibrated" in steered.err and plain.out != steered.out


def test_a_tensor_that_does_not_fit_the_named_model_is_refused(on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    torch.save(torch.ones(tiny_model.num_layers + 3, tiny_model.hidden_size), "odd.pt")
    result = on_tiny("import", "odd.pt")
    assert result.code == 8 and f"neither {tiny_model.num_layers + 1} rows" in result.err
    assert not list(Path().rglob("*.safetensors"))

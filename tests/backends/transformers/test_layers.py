"""Finding the decoder blocks, and refusing a model whose blocks are not what the convention says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backends.tiny import FAMILIES, LAYERS, save_tiny
from torch import nn

from persona_steering.backends.transformers.layers import DecoderLayers, check_layers, find_layers
from persona_steering.backends.transformers.loading import load_model
from persona_steering.errors import LayerDiscoveryError, ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(str(folder), device="cpu", dtype="float32", cache=folder).model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_yields_its_decoder_blocks(family: str, tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(family, tmp_path)), device="cpu", dtype="float32", cache=tmp_path)
    assert len(loaded.layers.blocks) == LAYERS == loaded.identity.num_layers
    assert "vision" not in loaded.layers.path and "expert" not in loaded.layers.path


def test_experts_as_many_as_blocks_are_not_taken_for_blocks(model: Any) -> None:
    for block in model.model.layers:
        block.mlp.experts = nn.ModuleList(nn.Identity() for _ in range(LAYERS))
    assert find_layers(model).path == "model.layers"


def test_a_tower_for_images_as_deep_as_the_language_model_is_not_taken_for_it(model: Any) -> None:
    model.visual = nn.Module()
    model.visual.blocks = nn.ModuleList(nn.Identity() for _ in range(LAYERS))
    assert find_layers(model).path == "model.layers"


def test_two_lists_that_fit_are_refused_with_both_as_candidates(model: Any) -> None:
    model.model.others = nn.ModuleList(nn.Identity() for _ in range(LAYERS))
    with pytest.raises(LayerDiscoveryError, match="cannot tell") as caught:
        find_layers(model)
    assert "model.layers (4)" in caught.value.hint and "model.others (4)" in caught.value.hint
    assert find_layers(model, "model.layers").path == "model.layers"


def test_no_list_that_fits_is_refused_with_what_there_is(model: Any) -> None:
    model.config.num_hidden_layers = 7
    with pytest.raises(LayerDiscoveryError, match="cannot tell") as caught:
        find_layers(model)
    assert "model.layers (4)" in caught.value.hint


def test_a_path_that_is_no_list_is_refused_with_the_candidates(folder: Path) -> None:
    with pytest.raises(LayerDiscoveryError, match=r"'model\.blocks'") as caught:
        load_model(str(folder), device="cpu", cache=folder, layer_path="model.blocks")
    assert "model.layers (4)" in caught.value.hint


def test_blocks_in_another_order_fail_the_check(model: Any) -> None:
    blocks = find_layers(model).blocks
    with pytest.raises(LayerDiscoveryError, match=r"block 1 of model\.layers does not output hidden_states"):
        check_layers(model, DecoderLayers((blocks[0], blocks[2], blocks[1], blocks[3]), "model.layers"))


def test_modules_that_are_no_blocks_fail_the_check_and_leave_no_hook(model: Any) -> None:
    inner = tuple(block.mlp for block in model.model.layers)
    with pytest.raises(LayerDiscoveryError, match="block 0"):
        check_layers(model, DecoderLayers(inner, "model.layers.mlp"))
    assert not any(module._forward_hooks for module in inner)


def test_a_model_that_overflows_in_its_number_format_says_so(model: Any) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match="not finite") as caught:
        check_layers(model, find_layers(model))
    assert not isinstance(caught.value, LayerDiscoveryError) and "bfloat16" in caught.value.hint

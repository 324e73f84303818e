"""Turned products of few rows: the values of torch's own product, whatever the shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.backends.tiny import open_tiny, save_tiny
from torch import nn

from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.products import MOST_ROWS, FewRowsLinear, turn_few_rows

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2], ids=["one_thread", "two_threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 1), (1, 3), (4, 4), (MOST_ROWS, 1), (MOST_ROWS + 1, 1), (2, 3, 5), (7,), (0, 1), ()]
)
def test_a_turned_product_is_the_product(shape: tuple[int, ...], bias: bool, threads: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    values = torch.randn(*shape, 24)
    expected = layer(values)
    layer.__class__ = FewRowsLinear
    found = layer(values)
    assert found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_turned_product_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40)
    found = []
    for kind in (nn.Linear, FewRowsLinear):
        layer.__class__ = kind
        values = torch.linspace(-1, 1, 72).reshape(3, 24).requires_grad_()
        layer.zero_grad()
        layer(values).square().sum().backward()
        found.append((values.grad, layer.weight.grad, layer.bias.grad))
    for plain, turned in zip(*found, strict=True):
        torch.testing.assert_close(turned, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="needs torch with MKL")
def test_only_plain_linear_layers_in_float32_are_turned() -> None:
    class Own(nn.Linear):
        """Somebody's subclass, which may compute something else."""

    def kinds(dtype: torch.dtype) -> list[type]:
        model = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.LayerNorm(2))
        turn_few_rows(model, CPU, dtype)
        return [type(module) for module in model]

    assert kinds(torch.float32) == [FewRowsLinear, Own, nn.LayerNorm]
    assert kinds(torch.bfloat16) == [nn.Linear, Own, nn.LayerNorm]


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="needs torch with MKL")
def test_a_loaded_model_turns_its_products(tmp_path: Path) -> None:
    backend = open_tiny(save_tiny("llama", tmp_path))
    assert isinstance(backend, TransformersBackend)
    linear = [module for module in backend.loaded.model.modules() if isinstance(module, nn.Linear)]
    assert linear and all(type(module) is FewRowsLinear for module in linear)

"""Products of few rows with a matrix, which MKL makes faster from the other side.

With `[out, in]` weights W and a handful of rows x, x Wᵀ spends its time on packing W, and a single row is left to
one core's bandwidth; W xᵀ does neither. On two cores a decoding step of a small model takes about half the time
(`benchmarks/products.py`; the bounds below were found on an AMD EPYC with MKL 2024.2). On a GPU, in bfloat16 and
with other libraries the usual product is the fast one.
"""

from __future__ import annotations

import torch
from torch import nn

MOST_ROWS = 64  # of a product that is turned, on several threads
MOST_ROWS_ALONE = 4  # on one thread, where only the very narrow ones gain


class FewRowsLinear(nn.Linear):
    """A linear layer whose products of few rows are turned. The same values, up to rounding."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows = input.numel() // self.in_features
        if not 0 < rows <= (MOST_ROWS if torch.get_num_threads() > 1 else MOST_ROWS_ALONE):
            return super().forward(input)
        flat = input.reshape(rows, self.in_features)
        # one column would be a product with a vector, which is slower than with two columns
        columns = (flat if rows > 1 else flat.expand(2, -1).contiguous()).T
        product = (self.weight @ columns)[:, :rows].T.contiguous()
        if self.bias is not None:
            product = product + self.bias
        return product.reshape(*input.shape[:-1], self.out_features)


def turn_few_rows(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Lets the linear layers of a model in float32 on a CPU with MKL turn their products of few rows."""
    has_mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    if device.type != "cpu" or dtype != torch.float32 or not has_mkl:
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRowsLinear

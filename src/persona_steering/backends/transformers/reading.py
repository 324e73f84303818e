"""Projections of the residual stream, token by token, before and after the interventions of a layer.

All traced rows of a batch are read at a layer by one product with their unit directions, and the readings of a whole
forward leave the device in one copy. Rows that trace nothing take no part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from persona_steering.backends.tokens import Projection, TokenReading, Trace


class Tracer:
    """Reads the rows of one batch: `traces` has an entry per row. Give it to a forward, and `take` what it has read."""

    def __init__(self, traces: Sequence[Sequence[Trace]], *, hidden: int, device: torch.device) -> None:
        self.rows = [row for row, own in enumerate(traces) if own]
        layers = sorted({trace.layer for own in traces for trace in own})
        self.places = {layer: place for place, layer in enumerate(layers)}
        most = max(Counter((row, trace.layer) for row, own in enumerate(traces) for trace in own).values(), default=0)
        units = np.zeros((len(layers), len(self.rows), hidden, most), np.float32)
        self._order = [self._fill(units[:, n], traces[row]) for n, row in enumerate(self.rows)]
        self._units = torch.from_numpy(units).to(device)
        everyone = len(self.rows) == len(traces)
        self._chosen = None if everyone else torch.tensor(self.rows, device=device)
        self._found: dict[int, torch.Tensor] = {}

    def _fill(self, units: np.ndarray, traces: Sequence[Trace]) -> tuple[list[int], list[int]]:
        """Writes a row's directions into `[layers, hidden, columns]`; returns the place and column of each trace."""
        places, columns = [self.places[trace.layer] for trace in traces], list[int]()
        for i, (trace, place) in enumerate(zip(traces, places, strict=True)):
            columns.append(places[:i].count(place))
            units[place, :, columns[i]] = trace.vector.unit(trace.layer)
        return places, columns

    def add(self, layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Takes hidden `[rows, tokens, hidden]` of `layer` before and after the interventions."""
        place = self.places[layer]
        pre = self._project(place, before)
        self._found[place] = torch.stack([pre, pre if after is before else self._project(place, after)])

    def _project(self, place: int, hidden: torch.Tensor) -> torch.Tensor:
        chosen = hidden if self._chosen is None else hidden[self._chosen]
        return torch.bmm(chosen.float(), self._units[place])  # [traced rows, tokens, columns]

    def take(self) -> list[np.ndarray]:
        """What the last forward has read: of each of `rows` float32 `[traces, tokens, 2]`."""
        values = torch.stack([self._found.pop(place) for place in range(len(self.places))]).cpu().numpy()
        return [values[places, :, n, :, columns].transpose(0, 2, 1) for n, (places, columns) in enumerate(self._order)]


def labelled(traces: Sequence[Trace], readings: Sequence[np.ndarray], tokens: int) -> dict[str, np.ndarray]:
    """Readings `[traces, 2]` of the first tokens of an answer, by label `[tokens, 2]`; NaN where there is none."""
    values = np.full((len(traces), tokens, 2), np.nan, np.float32)
    if readings:
        values[:, : len(readings)] = np.stack(readings, 1)
    return {trace.label: values[i] for i, trace in enumerate(traces)}


def token_reading(index: int, traces: Sequence[Trace], reading: np.ndarray) -> TokenReading:
    """One token's reading `[traces, 2]`."""
    pairs = zip(traces, reading.tolist(), strict=True)
    return TokenReading(index, {trace.label: Projection(*pair) for trace, pair in pairs})

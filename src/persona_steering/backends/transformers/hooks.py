"""Recipes and captures as tensors, and the one forward hook per layer that serves every row of a batch.

A recipe lowers to steps (interventions.base). Step number k of every row at a layer forms slot k: one tensor of
directions or deltas `[rows, hidden]`, with bounds per row; a row without such a step gets one that changes
nothing. So the hot path has no loop over rows or tokens. Where a slot acts is an interval of absolute positions
per row, known on the host, so no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from persona_steering.backends.transformers.layers import block_output, replace_block_output
from persona_steering.backends.transformers.reading import Tracer
from persona_steering.interventions import END, Clamp, Recipe, Scope, Shift, displace, displacement, shift
from persona_steering.interventions.base import UNBOUNDED


@dataclass
class Where:
    """The positions that a slot touches: per row an interval, and whether only thinking tokens count."""

    start: np.ndarray  # [rows] int
    stop: np.ndarray  # [rows] int
    thinking: np.ndarray  # [rows] bool

    def mask(self, positions: np.ndarray, inside_thought: np.ndarray) -> np.ndarray:
        """`[rows, tokens]` bool for absolute positions `[rows, tokens]` (negative: padding)."""
        mask = (positions >= self.start[:, None]) & (positions < self.stop[:, None])
        if self.thinking.any():
            mask &= inside_thought | ~self.thinking[:, None]
        return mask


@dataclass
class ShiftSlot:
    delta: torch.Tensor  # [rows, 1, hidden], model dtype
    where: Where


@dataclass
class ClampSlot:
    direction: torch.Tensor  # [rows, 1, hidden] float32
    low: torch.Tensor  # [rows, 1] float32
    high: torch.Tensor  # [rows, 1] float32
    cap: torch.Tensor  # [rows, 1] bool: whether this row's bound is a floor or ceiling, to be counted
    counts: bool
    where: Where


Slot = ShiftSlot | ClampSlot


@dataclass
class Plan:
    """What one batch does at each layer. Made once a batch, for rows in batch order."""

    slots: dict[int, list[Slot]]
    engaged: torch.Tensor  # [rows] int64: (layer, token) pairs at which a floor or ceiling acted
    _masks: dict[int, torch.Tensor | None] = field(default_factory=dict)

    def begin(self, positions: np.ndarray, inside_thought: np.ndarray) -> None:
        """Says which absolute positions `[rows, tokens]` the next forward computes."""
        self._masks = {}
        wheres = {id(slot.where): slot.where for slots in self.slots.values() for slot in slots}
        for key, where in wheres.items():
            mask = where.mask(positions, inside_thought)
            # None: every position is touched, as in every decoding step of the default scope
            self._masks[key] = None if mask.all() else torch.from_numpy(mask).to(self.engaged.device)

    def steer(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden `[rows, tokens, hidden]` of `layer` after the interventions of every row.

        Additions come first, in the model's dtype; bounds are computed in float32 and rounded once.
        """
        dtype = hidden.dtype
        for slot in self.slots[layer]:
            mask = self._masks[id(slot.where)]
            if isinstance(slot, ShiftSlot):
                changed = shift(hidden, slot.delta)
            else:
                hidden = hidden.float()
                distance = displacement(hidden, slot.direction, slot.low, slot.high)
                changed = displace(hidden, slot.direction, distance)
                if slot.counts:
                    acted = (distance != 0) & slot.cap
                    self.engaged += (acted if mask is None else acted & mask).sum(-1)
            hidden = changed if mask is None else torch.where(mask[..., None], changed, hidden)
        return hidden.to(dtype)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every row but those at the given indices. The `engaged` counts of dropped rows are lost."""
        chosen = rows.cpu().numpy()
        self.engaged = self.engaged[rows]
        kept: dict[int, Where] = {}
        for slot in (slot for slots in self.slots.values() for slot in slots):
            old = slot.where
            if id(old) not in kept:
                kept[id(old)] = Where(old.start[chosen], old.stop[chosen], old.thinking[chosen])
            slot.where = kept[id(old)]
            if isinstance(slot, ShiftSlot):
                slot.delta = slot.delta[rows]
            else:
                slot.direction, slot.cap = slot.direction[rows], slot.cap[rows]
                slot.low, slot.high = slot.low[rows], slot.high[rows]


def make_plan(
    recipes: Sequence[Recipe],
    prompt_lengths: Sequence[int],
    *,
    hidden: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Plan:
    """Lowers the recipes of a batch's rows to slots. Deltas are added in float32 and rounded once."""
    layers = sorted({layer for recipe in recipes for layer in recipe.layers})
    shared: dict[tuple[Scope, ...], Where] = {}

    def where(scopes: list[Scope]) -> Where:
        return shared.setdefault(tuple(scopes), _where(scopes, prompt_lengths))

    slots: dict[int, list[Slot]] = {}
    for layer in layers:
        shifts, clamps = zip(*(_row_steps(recipe, layer) for recipe in recipes), strict=True)
        row_slots: list[Slot] = []
        for k in range(max(map(len, shifts))):
            delta = np.zeros((len(recipes), 1, hidden), np.float32)
            scopes = [Scope("all")] * len(recipes)
            for row, steps in enumerate(shifts):
                if k < len(steps):
                    delta[row, 0], scopes[row] = steps[k]
            row_slots.append(ShiftSlot(torch.from_numpy(delta).to(device, dtype), where(scopes)))
        for k in range(max(map(len, clamps))):
            row_slots.append(_clamp_slot([steps[k : k + 1] for steps in clamps], where, hidden, device))
        slots[layer] = row_slots
    return Plan(slots, torch.zeros(len(recipes), dtype=torch.int64, device=device))


def _row_steps(recipe: Recipe, layer: int) -> tuple[list[tuple[np.ndarray, Scope]], list[tuple[Clamp, Scope]]]:
    """One row's shifts (those of one scope summed) and clamps at a layer, in order."""
    deltas: dict[Scope, np.ndarray] = {}
    clamps: list[tuple[Clamp, Scope]] = []
    for step, scope in recipe.steps(layer):
        if isinstance(step, Shift):
            deltas[scope] = deltas.get(scope, np.float32(0)) + step.delta
        else:
            clamps.append((step, scope))
    return [(delta, scope) for scope, delta in deltas.items()], clamps


def _clamp_slot(
    steps: Sequence[Sequence[tuple[Clamp, Scope]]],
    where: Callable[[list[Scope]], Where],
    hidden: int,
    device: torch.device,
) -> ClampSlot:
    rows = len(steps)
    direction = np.zeros((rows, 1, hidden), np.float32)
    low, high = np.full((rows, 1), -UNBOUNDED, np.float32), np.full((rows, 1), UNBOUNDED, np.float32)
    cap = np.zeros((rows, 1), bool)
    scopes = [Scope("all")] * rows
    for row, own in enumerate(steps):
        for step, scope in own:
            direction[row, 0], low[row], high[row] = step.direction, step.low, step.high
            cap[row] = step.low != step.high
            scopes[row] = scope
    return ClampSlot(
        direction=torch.from_numpy(direction).to(device),
        low=torch.from_numpy(low).to(device),
        high=torch.from_numpy(high).to(device),
        cap=torch.from_numpy(cap).to(device),
        counts=bool(cap.any()),
        where=where(scopes),
    )


def _where(scopes: Sequence[Scope], prompt_lengths: Sequence[int]) -> Where:
    bounds = [scope.interval(length) for scope, length in zip(scopes, prompt_lengths, strict=True)]
    start, stop = (np.array(side, np.int64) for side in zip(*bounds, strict=True))
    return Where(start, np.minimum(stop, END), np.array([scope.kind == "thinking" for scope in scopes]))


class Pool:
    """Running float32 sums of block outputs over chosen positions; nothing is kept per token.

    Several sets of positions ("parts") may be summed in one pass. `sums` is `[parts, layers, rows, hidden]`;
    `norm_sums`, `[layers, rows]`, sums the token norms of the first part.
    """

    def __init__(self, layers: Sequence[int], rows: int, *, hidden: int, device: torch.device, parts: int = 1):
        self.places = {layer: place for place, layer in enumerate(layers)}
        self.sums = torch.zeros(parts, len(self.places), rows, hidden, device=device)
        self.norm_sums = torch.zeros(len(self.places), rows, device=device)
        self._weights: torch.Tensor | None = None
        self._active = False
        self._counts_norms = False
        self._one_token = False
        self._held: dict[int, torch.Tensor] = {}

    def begin(self, *chosen: np.ndarray) -> None:
        """Says which positions `[rows, tokens]` (bool) of the next forward count, for every part."""
        self._held.clear()
        self._active = any(part.any() for part in chosen)
        self._counts_norms = bool(chosen[0].any())
        self._one_token = chosen[0].shape[1] == 1
        everything = len(chosen) == 1 and chosen[0].all()
        self._weights = (
            None if everything else torch.from_numpy(np.stack(chosen).astype(np.float32)).to(self.sums.device)
        )

    def add(self, layer: int, hidden: torch.Tensor) -> None:
        """Takes hidden `[rows, tokens, hidden]` of `layer`. The forward is over only after `end`."""
        if not self._active:
            return
        if self._one_token:  # a decoding step: all layers are added up at once, in `end`
            self._held[self.places[layer]] = hidden
        else:
            self._accumulate(slice(self.places[layer], self.places[layer] + 1), hidden[None])

    def end(self) -> None:
        """Adds up what a decoding step has left."""
        if self._held:
            self._accumulate(slice(None), torch.stack([self._held[place] for place in range(len(self.places))]))
            self._held.clear()

    def _accumulate(self, places: slice, hidden: torch.Tensor) -> None:
        wide = hidden.float()  # [layers, rows, tokens, hidden]
        if self._weights is None:
            self.sums[0, places] += wide.sum(2)
        else:
            self.sums[:, places] += torch.einsum("prt,lrth->plrh", self._weights, wide)
        if self._counts_norms:
            norms = torch.linalg.vector_norm(wide, dim=-1)
            self.norm_sums[places] += (norms if self._weights is None else norms * self._weights[0]).sum(2)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every row but those at the given indices."""
        self.sums, self.norm_sums = self.sums[:, :, rows], self.norm_sums[:, rows]

    def joined(self, other: Pool) -> Pool:
        """A pool of the rows of both, at the layers of either; a row has seen nothing at a layer that is new to it."""
        layers = sorted({*self.places, *other.places})
        split, parts = self.sums.shape[2], self.sums.shape[0]
        rows, hidden = split + other.sums.shape[2], self.sums.shape[3]
        pool = Pool(layers, rows, hidden=hidden, device=self.sums.device, parts=parts)
        for old, chosen in ((self, slice(None, split)), (other, slice(split, None))):
            for layer, place in old.places.items():
                pool.sums[:, pool.places[layer], chosen] = old.sums[:, place]
                pool.norm_sums[pool.places[layer], chosen] = old.norm_sums[place]
        return pool


@contextmanager
def hooked(
    blocks: Sequence[nn.Module],
    plan: Plan,
    pools: Sequence[Pool] = (),
    *,
    trunk: nn.Module | None = None,
    tracer: Tracer | None = None,
) -> Iterator[None]:
    """Installs one hook on every block that one of these needs; all are gone after the block, also on error.

    Pools see the residual stream as it flows on: after the interventions. Where they want its ends (-1 and the
    number of blocks), `trunk` is the module that runs them and the final norm.
    """
    handles = []
    traced = tracer.places if tracer is not None else {}
    try:
        for layer in sorted({*plan.slots, *traced, *(layer for pool in pools for layer in pool.places)}):
            watching = [pool for pool in pools if layer in pool.places]
            if layer < 0:
                handles.append(blocks[0].register_forward_pre_hook(_entry_hook(layer, watching), with_kwargs=True))
            else:
                module = blocks[layer] if layer < len(blocks) else trunk
                assert module is not None
                handles.append(
                    module.register_forward_hook(_make_hook(layer, plan, watching, tracer if layer in traced else None))
                )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entry_hook(layer: int, pools: Sequence[Pool]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        for pool in pools:
            pool.add(layer, hidden)

    return hook


def _make_hook(
    layer: int, plan: Plan, pools: Sequence[Pool], tracer: Tracer | None
) -> Callable[[nn.Module, object, object], object]:
    steered = layer in plan.slots

    def hook(module: nn.Module, args: object, output: object) -> object:
        before = block_output(output)
        hidden = plan.steer(layer, before) if steered else before
        if tracer is not None:
            tracer.add(layer, before, hidden)
        for pool in pools:
            pool.add(layer, hidden)
        return replace_block_output(output, hidden) if steered else None

    return hook

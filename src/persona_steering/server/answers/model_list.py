"""The model as clients list it: itself, its personas, and its presets, each under an id of its own."""

from __future__ import annotations

from collections.abc import Iterator

from persona_steering.server.answers.steering import request_of_model
from persona_steering.server.model.serving import PRESET, Serving, created
from persona_steering.server.paging import MAX_LIMIT, PageQuery
from persona_steering.server.schemas.openai import ModelEntry, ModelSteering
from persona_steering.server.stores.presets import Preset, PresetStore
from persona_steering.vectors.card import Card


def model_entries(serving: Serving, presets: PresetStore) -> list[ModelEntry]:
    """The model, then every persona that was measured to steer it, then the presets."""
    base = ModelEntry(id=serving.model_id, created=serving.started, root=serving.model_id)
    personas = (_persona_entry(card, serving) for card in serving.ready_personas())
    return [base, *personas, *(_preset_entry(preset, serving) for preset in _all(presets))]


def model_entry(model: str, serving: Serving, presets: PresetStore) -> ModelEntry:
    """One model id, listed or not. Raises ApiError: 404 for an unknown one."""
    asked = request_of_model(model, serving, presets)
    if asked.preset is not None:
        found = _preset_entry(presets.get(asked.preset), serving)
    elif asked.vectors:
        found = _steered_entry(asked.vectors[0].name, serving)
    else:
        found = ModelEntry(id=model, created=serving.started, root=serving.model_id)
    return found.model_copy(update={"id": model})


def _steered_entry(name: str, serving: Serving) -> ModelEntry:
    for card in serving.ready_personas():
        if card.name == name:
            return _persona_entry(card, serving)
    return ModelEntry(id=name, created=serving.started, root=serving.model_id, parent=serving.model_id)


def _persona_entry(card: Card, serving: Serving) -> ModelEntry:
    found = card.calibration
    return ModelEntry(
        id=f"{serving.model_id}:{card.name}",
        created=created(card, serving.started),
        root=serving.model_id,
        parent=serving.model_id,
        steering=ModelSteering(
            kind="persona",
            default_coefficient=serving.config.steering.default_strength,
            layers=list(found.layers) if found else [],
            coherence_at_1=found.coherence.mean if found and found.coherence else None,
        ),
    )


def _preset_entry(preset: Preset, serving: Serving) -> ModelEntry:
    return ModelEntry(
        id=f"{serving.model_id}:{PRESET}{preset.name}",
        created=int(preset.created_at),
        root=serving.model_id,
        parent=serving.model_id,
        steering=ModelSteering(kind="preset", default_coefficient=None, layers=[], coherence_at_1=None),
    )


def _all(presets: PresetStore) -> Iterator[Preset]:
    query = PageQuery(order="asc", limit=MAX_LIMIT)
    while True:
        page = presets.page(query)
        yield from page.data
        if not page.has_more:
            return
        query = query.model_copy(update={"after": page.last_id})

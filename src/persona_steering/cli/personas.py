"""`list` and `info`: the vectors on disk. No model is loaded, so they answer at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_vector
from persona_steering.cli.context import Session, joining_options, pass_session, store_options
from persona_steering.errors import UsageError, unknown

if TYPE_CHECKING:
    from persona_steering.vectors import Calibration, Interval, ModelIdentity, VectorMetadata
    from persona_steering.vectors.card import Card

COLUMNS = ("name", "kind", "model", "strength", "persona score", "coherence", "status")
NOTHING = "-"  # a cell for what does not apply or was not measured


@dataclass(frozen=True)
class Entry:
    """One vector as it is shown: its card, and where its file is."""

    card: Card
    path: Path

    @property
    def name(self) -> str:
        return self.card.name

    def cells(self) -> tuple[str, ...]:
        """A row for COLUMNS."""
        found = self.card.calibration
        score = found.persona_score if found else None
        coherence = found.coherence if found else None
        return (
            self.name,
            self.card.kind,
            self.card.model_name,
            "up to 1.0" if found else NOTHING,
            f"{score.mean:.2f}" if score else NOTHING,
            f"{coherence.mean:.0f}" if coherence else NOTHING,
            self.card.status,
        )

    def to_json(self, *, full: bool = False) -> dict[str, object]:
        """Stable keys; with `full` the whole metadata too."""
        card, found = self.card, self.card.calibration
        data: dict[str, object] = {
            "name": self.name,
            "kind": card.kind,
            "model": card.model_name,
            "status": card.status,
            "reason": card.reason,
            "max_strength": card.max_strength,
            "persona_score": _interval(found.persona_score if found else None),
            "coherence": _interval(found.coherence if found else None),
            "weak_reason": found.weak_reason if found else "",
            "error": card.reason if card.status == "broken" else "",
            "path": str(self.path),
        }
        if full and card.metadata is not None:
            data |= {"layers": list(card.layers)} if card.layers else {}
            data |= {"norms": {str(layer): norm for layer, norm in card.norms.items()}} if card.norms else {}
            data["metadata"] = card.metadata.model_dump(mode="json")
        return data


@click.command(name="list")
@click.option("--personas", "kinds", flag_value="persona", multiple=True, help="Only personas.")
@click.option("--traits", "kinds", flag_value="trait", multiple=True, help="Only traits.")
@click.option("--axes", "kinds", flag_value="axis", multiple=True, help="Only axes and baselines.")
@click.option("--loaded", is_flag=True, help="Only those in the running server's memory, else on the preload list.")
@click.option("--all-models", is_flag=True, help="Also vectors of other models.")
@joining_options
@store_options
@pass_session
def list_(session: Session, kinds: tuple[str, ...], loaded: bool, all_models: bool) -> None:
    """Show the personas, traits and axes of the model.

    \b
    Status: ready · weak (steers this model little) · stale (made with something that has changed since)
    not calibrated (its strength was not measured) · other model · broken (the file cannot be read)

    \b
    Examples:
      persona-steer list
      persona-steer list --traits --all-models
      persona-steer list --loaded --json
    """
    from persona_steering.cli.render import emit_json, note

    if session.server is not None and not loaded:
        raise UsageError("a server is only asked what is in its memory.", hint="Add --loaded.")
    session.local |= not loaded  # what there is lies on this disk; what is in memory only a server knows
    everything = all_entries(session)
    entries = [entry for entry in everything if all_models or entry.card.status != "other model"]
    hidden = len(everything) - len(entries)
    kept = set(in_memory(session) if loaded else preloaded(session))
    entries = [entry for entry in entries if not kinds or entry.card.kind.replace("baseline", "axis") in kinds]
    entries = [entry for entry in entries if not loaded or is_loaded(entry, kept)]
    if session.as_json:
        emit_json([{**entry.to_json(), "loaded": is_loaded(entry, kept)} for entry in entries])
    elif session.quiet:
        click.echo("".join(f"{entry.name}\n" for entry in entries), nl=False)
    elif entries:
        show_table(entries)
    elif not everything:
        note("There are no vectors yet. Make one: persona-steer create pirate --from-archetype pirate")
    else:
        note("There are none of these.")
    if hidden:
        note(f"{hidden} of other models are not shown. See them: persona-steer list --all-models", quiet=session.quiet)


@click.command()
@click.argument("name", shell_complete=complete_vector)
@store_options
@pass_session
def info(session: Session, name: str) -> None:
    """Show what is known and measured about the vector NAME, after checking its file.

    \b
    Examples:
      persona-steer info pirate
      persona-steer info pirate --json
    """
    from persona_steering.cli.render import emit_json
    from persona_steering.vectors.formats import safetensors

    entry = find_entry(session, name)
    norms = safetensors.read(entry.path).norms  # reading the values also finds damaged ones
    entry = replace(entry, card=entry.card.model_copy(update={"norms": norms}))
    if session.as_json:
        emit_json(entry.to_json(full=True))
    else:
        show_card(entry)


def show_table(entries: list[Entry]) -> None:
    """The entries in a table; a model that all share is said once, beside it."""
    from persona_steering.cli.render import note, table

    models = {entry.card.model_name for entry in entries}
    rows = [COLUMNS, *(entry.cells() for entry in entries)]
    if len(models) == 1:
        place = COLUMNS.index("model")
        rows = [(*row[:place], *row[place + 1 :]) for row in rows]
        note(f"Of the model {models.pop()}:")
    table(rows[0], rows[1:])


def in_memory(session: Session) -> tuple[str, ...]:
    """The names that the running server has in memory; without one those of the preload list."""
    return preloaded(session) if session.joined is None else tuple(session.service.loaded())


def preloaded(session: Session) -> tuple[str, ...]:
    """The names that the workspace loads from the start for the configured model."""
    from persona_steering.personas.preload import PreloadList

    model = session.stored_model()
    return PreloadList(session.config.workspace).names(model) if model else ()


def is_loaded(entry: Entry, names: set[str]) -> bool:
    """Whether the preload list means this vector."""
    return entry.card.fits and entry.card.kind in ("persona", "trait") and entry.name in names


def all_entries(session: Session) -> list[Entry]:
    """Every file of the store, as it is shown."""
    from persona_steering.vectors.card import make_cards

    stored = session.entries()
    cards = make_cards(stored, session.stored_model(), safety=session.config.steering.safety)
    return [Entry(card, one.path) for card, one in zip(cards, stored, strict=True)]


def describe(metadata: VectorMetadata, path: Path, *, own: ModelIdentity | None, safety: bool) -> Entry:
    """A vector just made for the model `own`, as it is shown."""
    from persona_steering.vectors.card import Surroundings, metadata_card

    return Entry(metadata_card(metadata, Surroundings(own, safety)), path)


def active_calibration(metadata: VectorMetadata, *, safety: bool) -> Calibration | None:
    """The calibration that holds for how the vector is used."""
    from persona_steering.vectors import card

    return card.active_calibration(metadata, safety=safety)


def find_entry(session: Session, name: str) -> Entry:
    """The vector of that name: of the configured model, else of the only model that has it.

    Raises NotFoundError with the nearest names, or UsageError when several other models have it.
    """
    entries = all_entries(session)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        raise unknown("persona or trait", name, {entry.name for entry in entries}, hint="See: persona-steer list")
    own = [entry for entry in found if entry.card.fits]
    if not own and len({entry.path.parent.parent for entry in found}) > 1:
        models = ", ".join(sorted({entry.card.model_name for entry in found}))
        raise UsageError(f"{name!r} is there for several models: {models}.", hint="Say which with --model.")
    return (own or found)[0]


def show_card(entry: Entry) -> None:
    """All that is known of a vector, in a box."""
    from persona_steering.cli.measured import evidence_lines
    from persona_steering.cli.render import calibration_rows, card, layer_ranges

    known = entry.card
    rows = {"status": known.status, "because": known.reason}
    if known.calibration is not None:
        rows |= calibration_rows(known.calibration)
    if known.layers:
        rows["directions"] = f"at layers {layer_ranges(known.layers)}"
    if known.evidence is not None:
        rows |= evidence_lines(known.evidence)
    if known.metadata is not None:
        about = known.metadata
        rows |= {"description": about.description, "sign": about.sign, "source": about.source}
        counts = {"kept": known.kept, "dropped": known.dropped}
        rows["answers"] = ", ".join(f"{count} {what}" for what, count in counts.items() if count is not None)
        rows["made"] = about.created
    rows["saved"] = str(entry.path)
    card(
        f"{entry.name} ({known.kind}) on {known.model_name}",
        {k: v for k, v in rows.items() if v},
        status=known.status,
    )


def _interval(value: Interval | None) -> dict[str, object] | None:
    return None if value is None else value.model_dump(mode="json")

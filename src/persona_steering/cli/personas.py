"""`list`, `info` and `delete`: the vectors on disk. No model is loaded, so they answer at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, pass_session, same_model_name, store_options
from persona_steering.errors import CancelledError, ModelMismatchError, UsageError, unknown

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
            "… 1.0" if found else NOTHING,
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
@store_options
@pass_session
def list_(session: Session) -> None:
    """Show the personas, traits and axes there are, of all models.

    \b
    Examples:
      persona-steer list
      persona-steer list --json
    """
    from persona_steering.cli.render import emit_json, note, table

    entries = all_entries(session)
    if session.as_json:
        emit_json([entry.to_json() for entry in entries])
    elif session.quiet:
        click.echo("".join(f"{entry.name}\n" for entry in entries), nl=False)
    elif entries:
        table(COLUMNS, [entry.cells() for entry in entries])
    else:
        note("There are no vectors yet. Make one: persona-steer create pirate --from-archetype pirate")


@click.command()
@click.argument("name")
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


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@pass_session
def delete(session: Session, name: str, yes: bool) -> None:
    """Delete the persona or trait NAME of the model.

    \b
    Examples:
      persona-steer delete pirate
      persona-steer delete pirate --model Qwen/Qwen2.5-7B-Instruct --yes
    """
    from persona_steering.cli.render import emit_json, note

    entry = find_entry(session, name)
    check_deletable(session, entry)
    confirm(f"Delete the {entry.card.kind} {name!r} of {entry.card.model_name}?", yes=yes)
    removed = remove(session, entry)
    if session.as_json:
        emit_json({"deleted": [str(path) for path in removed]})
    note(f"Deleted {name!r}.", quiet=session.quiet)
    if len(removed) > 1:
        note("The assistant axis was made with it and is deleted too. Make it again: persona-steer extract-axes")


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


def check_deletable(session: Session, entry: Entry) -> None:
    """Raises unless the entry is a persona or trait of the configured model, or a broken file."""
    model = session.config.model.name
    made_for = entry.card.model_name
    if entry.card.status == "other model" and not same_model_name(made_for, model.removeprefix("hf:")):
        raise ModelMismatchError(
            f"{entry.name!r} was made for {made_for!r}, and the model is {model!r}.",
            hint=f"To delete it, add: --model {made_for}",
        )
    if entry.card.kind in ("axis", "baseline"):
        raise UsageError(
            f"{entry.name!r} is the model's own {entry.card.kind}, not a persona or trait.",
            hint="Make it again with: persona-steer extract-axes",
        )


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal, unless `yes`. Raises CancelledError on a no, and UsageError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked: stdin is not a terminal.", hint="Add --yes to delete it.")
    if not click.confirm(question, err=True):
        raise CancelledError("nothing was deleted.")


def remove(session: Session, entry: Entry) -> list[Path]:
    """Deletes the file, and the assistant axis that a persona was part of. Returns what is gone."""
    store = session.manager.store
    model = entry.card.metadata.model if entry.card.metadata else None
    if model is None:
        unlink(entry.path)
        return [entry.path]
    store.delete(entry.card.kind, entry.name, model)
    if entry.card.kind != "persona" or not store.exists("axis", "assistant", model):
        return [entry.path]
    axis = store.path("axis", "assistant", model)
    store.delete("axis", "assistant", model)
    return [entry.path, axis]


def unlink(path: Path) -> None:
    """Deletes a file that no model can be told from. Raises StorageError."""
    from persona_steering.vectors.files import storage_error

    try:
        path.unlink()
    except OSError as error:
        raise storage_error(error, path) from error


def show_card(entry: Entry) -> None:
    """All that is known of a vector, in a box."""
    from persona_steering.cli.render import calibration_rows, card

    known = entry.card
    rows = {"status": known.status, "because": known.reason}
    if known.calibration is not None:
        rows |= calibration_rows(known.calibration)
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

"""`export` and `import`: vectors to files and back, in this package's formats and those of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.complete import complete_vector
from persona_steering.cli.context import Session, pass_session, store_options

if TYPE_CHECKING:
    from persona_steering.engine.exchange import Exchange, Imported
    from persona_steering.vectors import ModelIdentity, VectorKind
    from persona_steering.vectors.formats import Writer

# Written out here, because the help must not wait for the modules that know them.
FORMATS = (
    "safetensors",
    "archive",
    "gguf",
    "persona_vectors",
    "assistant-axis",
    "assistant-axis-capping",
    "legacy-pt",
    "legacy-json",
)
WRITERS = ("persona_vectors", "assistant-axis", "repeng", "cvector-generator")
KINDS = ("persona", "trait", "axis", "baseline")


@click.command()
@click.argument("name", shell_complete=complete_vector)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "format_name", metavar="F", help=f"{', '.join(FORMATS)}.  [default: by FILE's ending]")
@click.option("--safe", is_flag=True, help="Without the component along the safety axis.")
@click.option("--at-strength", "strength", type=float, metavar="X", help="gguf: with the measured dose in it.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@store_options
@pass_session
def export(
    session: Session, name: str, file: Path, format_name: str | None, safe: bool, strength: float | None, force: bool
) -> None:
    """Write the vector NAME to FILE; what FILE cannot hold is said.

    Without more it is the raw vector. A control vector for llama.cpp at scale 1 is made with --at-strength 1.0.

    \b
    Examples:
      persona-steer export sage sage.safetensors
      persona-steer export sage sage.zip
      persona-steer export sage sage.gguf --at-strength 1.0
      persona-steer export sage sage.pt --format persona_vectors
    """
    from persona_steering.cli.personas import find_entry
    from persona_steering.cli.render import emit_json, note, warn
    from persona_steering.vectors.formats import safetensors

    vector = safetensors.read(find_entry(session, name).path)
    done = exchange(session).export(vector, file, format=format_name, safe=safe, strength=strength, overwrite=force)
    for warning in done.warnings:
        warn(warning)
    if session.as_json:
        layers = list(done.vector.layers)
        emit_json({"name": name, "file": str(file), "format": done.format, "layers": layers, "warnings": done.warnings})
    elif session.quiet:
        click.echo(str(file))
    note(f"Wrote {name!r} to {file} ({done.format}).", quiet=session.quiet)


@click.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="N", help="What to call it.  [default: as the file says]")
@click.option("--kind", type=click.Choice(KINDS), help="What a file that does not say holds.")
@click.option("--written-by", type=click.Choice(WRITERS), help="Who made a bare tensor or a GGUF file.")
@click.option("--force", is_flag=True, help="Replace the vector of that name.")
@store_options
@pass_session
def import_(
    session: Session, file: Path, name: str | None, kind: VectorKind | None, written_by: Writer | None, force: bool
) -> None:
    """Store the vector in FILE, whose format is told by its content.

    A file that does not say which model it was made for needs --model, and is checked against that model. Vectors
    of other tools are not calibrated: their strength was not measured.

    \b
    Examples:
      persona-steer import sage.zip
      persona-steer import evil_response_avg_diff.pt --name evil --model Qwen/Qwen2.5-7B-Instruct
      persona-steer import happy.gguf --written-by repeng --model embedded
    """
    done = exchange(session).read(
        file, name=name, kind=kind, model=asked_model(session), written_by=written_by, overwrite=force
    )
    show_imported(session, done)


def exchange(session: Session) -> Exchange:
    """The use case on this session's store and data sets."""
    from persona_steering.engine.exchange import Exchange
    from persona_steering.personas.datasets import Datasets

    return Exchange(session.manager, Datasets(session.config.datasets_dir))


def asked_model(session: Session) -> ModelIdentity | None:
    """The model of --model, which is loaded unless the store knows it; None when none was named."""
    if "model.name" not in session.settings:
        return None
    return session.stored_model() or session.model.identity


def show_imported(session: Session, done: Imported) -> None:
    """The card of what was stored, what came with it, and what its user should know."""
    from persona_steering.cli.personas import Entry, show_card
    from persona_steering.cli.render import emit_json, note, warn
    from persona_steering.vectors import make_cards

    model, safety = done.vector.metadata.model, session.config.steering.safety
    files = session.entries()
    cards = zip(make_cards(files, model, safety=safety), files, strict=True)
    entry = next(Entry(card, stored.path) for card, stored in cards if stored.path == done.path)
    if session.as_json:
        prompts = str(done.persona) if done.persona else None
        emit_json(entry.to_json(full=True) | {"axes": done.axes, "prompts": prompts, "warnings": done.warnings})
    elif session.quiet:
        click.echo(done.vector.name)
    else:
        show_card(entry)
    for warning in done.warnings:
        warn(warning)
    for axis in done.axes:
        note(f"The {axis} axis came with it, and this model had none.", quiet=session.quiet)
    if done.persona is not None:
        note(f"Its prompts are in {done.persona}.", quiet=session.quiet)

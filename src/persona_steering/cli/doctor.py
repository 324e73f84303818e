"""`doctor`: whether everything works here, for oneself and for a bug report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, pass_session, store_options
from persona_steering.errors import PersonaSteeringError

if TYPE_CHECKING:
    from persona_steering.engine.doctor import Check

MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "broken": ("broken", "bold red")}


@click.command()
@store_options
@pass_session
def doctor(session: Session) -> None:
    """Check Python, libraries, device, settings, model, vectors and disk. Nothing is downloaded or changed.

    Exit code 1 when something is broken.

    \b
    Examples:
      persona-steer doctor
      persona-steer doctor --json
    """
    from persona_steering.cli.context import prepare_libraries
    from persona_steering.cli.render import emit_json, working
    from persona_steering.engine.doctor import diagnose

    prepare_libraries("embedded")  # nothing here needs a network
    with working("Looking", quiet=session.quiet):
        checks = diagnose(session.config_path, overrides=session.overrides())
    healthy = all(check.health != "broken" for check in checks)
    if session.as_json:
        emit_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        show(checks, quiet=session.quiet)
    if not healthy:
        click.get_current_context().exit(PersonaSteeringError.exit_code)


def show(checks: list[Check], *, quiet: bool) -> None:
    """A line a check, and beneath it what to do; with `quiet` only what is not ok."""
    from rich.text import Text

    from persona_steering.cli.render import out

    console = out()
    width = max(len(check.name) for check in checks)
    for check in checks:
        if quiet and check.health == "ok":
            continue
        mark, style = MARKS[check.health]
        line = Text.assemble((f"{mark:<8}", style), (f"{check.name:<{width}}  ", "dim"), check.detail)
        console.print(line, soft_wrap=True)
        if check.advice:
            console.print(Text(f"{'':<{width + 10}}{check.advice}", style="italic"), soft_wrap=True)
    counts = {health: sum(check.health == health for check in checks) for health in MARKS}
    if not quiet:
        console.print(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['broken']} broken", highlight=False)

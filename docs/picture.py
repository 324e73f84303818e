"""Draws docs/quickstart.svg: what `persona-steer quickstart` shows, from a real run (a stored persona is reused)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path

from rich.console import Console

from persona_steering import ModelWrapper, PersonaManager, get_config
from persona_steering.cli import quickstart, render
from persona_steering.engine.quickstart import run_quickstart


class Terminal(io.StringIO):
    """A place for text that calls itself a terminal, so that boxes are drawn."""

    def isatty(self) -> bool:
        return True


config = get_config()
with ModelWrapper(config) as model:
    result = run_quickstart(model, PersonaManager(config), config)
# where it lies for a reader, not for whoever draws the picture
shown = Path("~/.local/share/persona-steering") / result.path.relative_to(config.workspace)
console = Console(record=True, width=116, file=io.StringIO(), force_terminal=True, highlight=False)
render.out = render.err = lambda: console  # type: ignore[assignment]
with contextlib.redirect_stdout(Terminal()):
    quickstart.render(dataclasses.replace(result, path=shown))
console.save_svg(str(Path(__file__).with_name("quickstart.svg")), title="persona-steer quickstart")

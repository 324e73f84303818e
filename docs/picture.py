"""Draws docs/quickstart.svg: what `persona-steer quickstart` shows, from a real run (a stored persona is reused)."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from persona_steering import ModelWrapper, PersonaManager, get_config
from persona_steering.cli import quickstart, render
from persona_steering.engine.quickstart import run_quickstart

config = get_config()
with ModelWrapper(config) as model:
    result = run_quickstart(model, PersonaManager(config), config)
console = Console(record=True, width=116, file=io.StringIO(), force_terminal=True, highlight=False)
render.out = render.err = lambda: console  # type: ignore[assignment]
quickstart.render(result)
console.save_svg(str(Path(__file__).with_name("quickstart.svg")), title="persona-steer quickstart")

"""All slash commands. A new one is an entry in its group; a new group is a module and one name here."""

from __future__ import annotations

from persona_steering.cli.repl import (
    conversation_commands,
    general_commands,
    sampling_commands,
    steering_commands,
    vector_commands,
)
from persona_steering.cli.repl.registry import Registry, registry

COMMANDS: Registry = registry(
    steering_commands.COMMANDS,
    vector_commands.COMMANDS,
    conversation_commands.COMMANDS,
    sampling_commands.COMMANDS,
    general_commands.COMMANDS,
)

"""Slash commands about how the model is steered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.cli.render import layer_ranges, lines, note
from persona_steering.cli.repl.registry import Command, on_off_words, on_or_off
from persona_steering.errors import UsageError
from persona_steering.interventions import parse_blend, parse_strength

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_steering.cli.repl.state import Chat
    from persona_steering.engine.service import Action

OPS = {"add": "adds", "floor": "floor on", "ceiling": "ceiling on", "ablate": "removes", "set": "sets"}


def persona(chat: Chat, argument: str) -> None:
    """Steers with one persona or trait."""
    name, *rest = argument.split()
    if len(rest) > 1:
        raise UsageError("/persona takes one name.", hint="Write /persona NAME [STRENGTH], or /blend a:0.5,b:-0.3.")
    strength = parse_strength(rest[0]) if rest else chat.session.config.steering.default_strength
    chat.steer({name: strength})


def strength(chat: Chat, argument: str) -> None:
    """Changes how strongly a persona is steered."""
    words, blend = argument.split(), dict(chat.plan.blend)
    if not blend:
        raise UsageError("nothing is steered.", hint="Choose a persona first: /persona NAME.")
    if len(words) == 1 and len(blend) == 1:
        words = [*blend, *words]
    if len(words) != 2:
        raise UsageError("it is not clear which strength is meant.", hint="Write /strength NAME X.")
    name, number = words
    if name not in blend:
        raise UsageError(f"{name!r} is not steered now.", hint=f"Steered: {', '.join(blend)}.")
    chat.steer(blend | {name: parse_strength(number)})


def blend(chat: Chat, argument: str) -> None:
    """Steers with several at once."""
    default = chat.session.config.steering.default_strength
    chat.steer(parse_blend(argument.replace(", ", ",").replace(" ", ","), default=default))


def none(chat: Chat, argument: str) -> None:
    """Steers no more."""
    chat.steer({})


def safety(chat: Chat, argument: str) -> None:
    """Turns safe vectors and the floor on the safety axis on or off."""
    chat.steer(chat.plan.blend, safety=on_or_off("safety", argument))
    if chat.safety:
        note("Safety is on: safe vectors, and a floor on the safety axis, for whatever is steered.")
    else:
        note("Safety is off: raw vectors, and no floor.")


def status(chat: Chat, argument: str) -> None:
    """Shows what the next answer is made with."""
    info, talk = chat.service.model, chat.conversation
    sampling = {key: value for key, value in chat.generation.model_dump().items() if key != "seed"}
    used = f"{talk.used_tokens}" + (f" of {info.context_length}" if info.context_length else "")
    seed = chat.generation.seed
    rows = [
        ("model", f"{info.id} · {info.backend} · {info.device} · {info.quantization or info.dtype}"),
        ("steering", chat.plan.describe()),
        ("safety", "on" if chat.safety else "off"),
        ("sampling", " · ".join(f"{key} {value}" for key, value in sampling.items())),
        ("seed", "random" if seed is None else str(seed)),
        ("system prompt", talk.system or "none"),
        ("compare", "on" if chat.compare else "off"),
        ("conversation", f"{len(talk.turns)} turns · {used} tokens of context"),
        ("in memory", ", ".join(chat.service.loaded()) or "nothing"),
    ]
    lines(rows)


def why(chat: Chat, argument: str) -> None:
    """Shows what is applied, and how often a bound acted in the last answer."""
    rows = [_row(action) for action in chat.plan.actions]
    if not rows:
        note("Nothing is applied: the model answers as it is.")
    lines(rows)
    if not chat.conversation.turns:
        return
    last = chat.conversation.last
    if last.recipe_hash != chat.plan.recipe_hash:
        note(f"The last answer was made with another recipe: {last.steering}. Ask again to see this one act.")
        return
    bounds = [action for action in chat.plan.actions if action.op in ("floor", "ceiling")]
    if bounds:
        most = last.tokens * sum(len(action.layers) for action in bounds)
        note(f"In the last answer the bounds acted on {last.caps_engaged} of {most} (token, layer) pairs.")
    note(f"recipe {chat.plan.recipe_hash} · seed {last.sampling.seed}")


def _row(action: Action) -> tuple[str, str]:
    dose = "" if action.relative_dose is None else f" · dose {action.relative_dose:.2g} of the hidden state"
    plural = "s" if len(action.layers) > 1 else ""
    return f"{OPS.get(action.op, action.op)} {action.vector}", f"layer{plural} {layer_ranges(action.layers)}{dose}"


def _names(chat: Chat, argument: str) -> Iterable[str]:
    return () if " " in argument else chat.service.available()


def _blend_names(chat: Chat, argument: str) -> Iterable[str]:
    return [f"{name}:" for name in chat.service.available()]


def _steered(chat: Chat, argument: str) -> Iterable[str]:
    return () if " " in argument else tuple(chat.plan.blend)


COMMANDS = (
    Command("persona", "NAME [STRENGTH]", "steer with one persona or trait", persona, _names),
    Command(
        "strength",
        "[NAME] X",
        "change how strongly: -2 to 2",
        strength,
        _steered,
        details="1.0 is the strongest dose measured to stay coherent. NAME is needed in a blend only.",
    ),
    Command("blend", "A:0.5,B:-0.3", "steer with several at once", blend, _blend_names),
    Command("none", "", "steer no more", none),
    Command(
        "safety",
        "on|off",
        "safe vectors and the floor on the safety axis",
        safety,
        on_off_words,
    ),
    Command("status", "", "show what the next answer is made with", status),
    Command(
        "why",
        "",
        "show what is applied, where and how strongly",
        why,
        details="A dose is the length of what is added, as a share of the hidden state's, summed over the layers.",
    ),
)

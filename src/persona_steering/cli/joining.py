"""Whether a command uses a running server, and which: one that is named, else the one of the workspace.

A server is used only where it does just what the command was told; if not, the model is loaded here, and why is said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.errors import UsageError

if TYPE_CHECKING:
    from persona_steering.cli.context import Session
    from persona_steering.engine.remote.client import ApiClient
    from persona_steering.engine.remote.presence import Presence

SERVER_VARIABLE = "PERSONA_STEER_SERVER"
# What a request can carry. Any other setting that was given on the command line is for a model that is loaded here.
_CARRIED = ("generation.", "steering.safety", "steering.default_strength", "model.name", "server.")


@dataclass(frozen=True)
class Joined:
    """The server that a command uses. `is_here`: it serves this workspace, so what it makes lies on this disk."""

    api: ApiClient
    is_here: bool


def join(session: Session) -> Joined | None:
    """The server to use, said in one line; None to load the model here.

    Raises UsageError where a server was named and cannot do what was asked; BusyError for one that hangs.
    """
    named = os.environ.get(SERVER_VARIABLE) if session.server is None else session.server
    if session.local and session.server is not None:
        raise UsageError("--server and --local were both given.", hint="Give one of them.")
    if session.local:
        return None
    return _named(session, named) if named else _own(session)


def running(session: Session) -> Joined | None:
    """As `join`, for commands that are about a server and not about a model: whichever it has."""
    named = os.environ.get(SERVER_VARIABLE) if session.server is None else session.server
    return _at(session, named) if named else _alive(session, _presence(session))


def _named(session: Session, url: str) -> Joined:
    from persona_steering.engine.remote.service import model_of

    joined = _at(session, url)
    model = model_of(joined.api).id
    _say(session, joined, model)
    asked = session.overrides().get("model.name")
    if asked is not None and not _is_called(str(asked), model):
        raise UsageError(f"the server at {joined.api.url} has {model!r}, and not {asked!r}.", hint="Leave out --model.")
    if untold := _untold(session):
        raise UsageError(f"a running server cannot be told {untold}.", hint="Leave it out, or add --local.")
    return joined


def _own(session: Session) -> Joined | None:
    from persona_steering.cli.render import note

    presence = _presence(session)
    joined = _alive(session, presence)
    if joined is None or presence is None:
        return None
    if why := _why_not(session, presence):
        note(f"The server at {presence.url} is not used, since {why}.", quiet=session.quiet)
        return None
    _say(session, joined, presence.model or "no model yet")
    return joined


def _at(session: Session, url: str) -> Joined:
    from persona_steering.engine.remote.client import ApiClient, checked_url

    url, presence = checked_url(url), _presence(session)
    is_here = presence is not None and presence.url == url
    key = presence.key if presence is not None and is_here else None
    api = ApiClient(url, api_key=session.api_key or key)
    click.get_current_context().call_on_close(api.close)
    return Joined(api, is_here)


def _presence(session: Session) -> Presence | None:
    from persona_steering.engine.remote.presence import find_presence

    return find_presence(session.config)


def _alive(session: Session, presence: Presence | None) -> Joined | None:
    joined = None if presence is None else _at(session, presence.url)
    return joined if joined is not None and joined.api.is_alive() else None


def _why_not(session: Session, presence: Presence) -> str:
    """Why a server would not do just what was asked; empty when it would."""
    asked = session.overrides().get("model.name")
    if asked is not None and presence.model is not None and not _is_same(presence.model, str(asked)):
        return f"it has {presence.model}, and not {asked}"
    untold = _untold(session)
    return f"it cannot be told {untold}" if untold else ""


def _untold(session: Session) -> str:
    """The first setting of the command line that no request carries."""
    if session.generator is not None:
        return f"--generator {session.generator}"
    untold = [key for key in session.overrides() if not key.startswith(_CARRIED)]
    return f"{untold[0]}={session.overrides()[untold[0]]}" if untold else ""


def _is_same(served: str, asked: str) -> bool:
    """Whether two names as people write them mean one model."""
    one, other = served.removeprefix("hf:"), asked.removeprefix("hf:")
    return one == other or (Path(other).is_dir() and Path(one).resolve() == Path(other).resolve())


def _is_called(asked: str, public: str) -> bool:
    """Whether a model could go by the name that a server tells, which of a folder is its last part."""
    name = asked.removeprefix("hf:")
    return public in (name, Path(name).name)


def _say(session: Session, joined: Joined, model: str) -> None:
    from persona_steering.cli.render import note

    note(f"Using the server at {joined.api.url} ({model}).", quiet=session.quiet)

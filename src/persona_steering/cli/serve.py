"""`serve`: the model behind an OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, model_options, pass_session
from persona_steering.errors import UsageError

if TYPE_CHECKING:
    import socket

    from persona_steering.server.security import Door
    from persona_steering.server.state import ServerState

KEY_VARIABLE = "PERSONA_STEER_API_KEY"


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: the configured one, else 127.0.0.1]")
@click.option("--port", metavar="N", help="0 takes a free one.  [default: the configured one, else 8642]")
@click.option(
    "--api-key",
    envvar=KEY_VARIABLE,
    show_envvar=True,
    metavar="KEY",
    help="What clients must send. Beyond this machine one is needed, and made where none is given.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name the server is asked under. Repeatable.")
@model_options
@pass_session
def serve(
    session: Session, host: str | None, port: str | None, api_key: str | None, allow_host: tuple[str, ...]
) -> None:
    """Serve the model to any OpenAI client, with every persona as a model of its own.

    Only this machine can reach it unless --host says otherwise. Ctrl-C stops it.

    \b
    Examples:
      persona-steer serve
      persona-steer serve --model hf:Qwen/Qwen2.5-7B-Instruct --port 8000
      persona-steer serve --host 0.0.0.0 --allow-host models.example.org
    """
    from persona_steering.server.listening import listen
    from persona_steering.server.security import Door, is_loopback

    session.settings |= {k: v for k, v in (("server.host", host), ("server.port", port)) if v is not None}
    address = session.config.server.host
    key = checked_key(api_key, needed=not is_loopback(address))
    with listen(address, session.config.server.port) as listening:
        run(session, listening, Door.at(address, allowed=allow_host, api_key=key), made=key is not api_key)


def checked_key(given: str | None, *, needed: bool) -> str | None:
    """The key that clients must send: the given one, a new one where it is needed, or None. Raises UsageError."""
    import secrets

    if given is None:
        return secrets.token_urlsafe(24) if needed else None
    if not (given.isascii() and given.isprintable() and given.strip() == given and given):
        raise UsageError("the API key is empty, or has characters that no header can carry.", hint="Use ASCII letters.")
    return given


def run(session: Session, listening: socket.socket, door: Door, *, made: bool) -> None:
    """Serves until it is stopped; the model is loaded meanwhile. Raises what kept it from being loaded."""
    import contextlib
    import logging
    import signal
    import sys

    from persona_steering.cli.render import note
    from persona_steering.server.app import create_app
    from persona_steering.server.database import Database, database_file
    from persona_steering.server.listening import server_of, url_of
    from persona_steering.server.slot import ModelSlot
    from persona_steering.server.state import ServerState

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("persona_steering").setLevel(logging.WARNING if session.quiet else logging.INFO)
    state = ServerState(session.config, Database(database_file(session.config.workspace)), ModelSlot(session.config))
    server = server_of(create_app(state, door))
    url = url_of(listening)

    def loaded() -> None:
        if state.slot.error is not None:
            server.should_exit = True
            return
        note(f"Ready. {state.slot.status.model} at {url}/v1   (Ctrl-C stops it)\n\n{example(state, url, door)}\n")

    if made:
        note(f"A key was made for this run:\n\nexport {KEY_VARIABLE}={door.api_key}\n")
    note(f"Loading {session.config.model.name}; the server listens at {url}", quiet=session.quiet)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals stop it the same way
    try:
        state.slot.begin_loading(done=loaded)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        failed = state.slot.error
    finally:
        state.close()
    if failed is not None:
        raise failed
    note("Stopped.", quiet=session.quiet)


def example(state: ServerState, url: str, door: Door) -> str:
    """A request to the first persona that is ready, else to the model itself."""
    serving = state.slot.serving
    ready = serving.ready_personas()
    model = f"{serving.model_id}:{ready[0].name}" if ready else serving.model_id
    return curl_line(url, model, door.api_key)


def curl_line(url: str, model: str, key: str | None) -> str:
    """A request that works as it stands; the key is taken from the environment, so that no history holds it."""
    token = f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n' if key else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "How are you?"}}]}}'
    return f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n{token}  -d '{body}'"

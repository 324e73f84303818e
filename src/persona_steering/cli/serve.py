"""`serve`: the model behind an OpenAI-compatible server."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import Session, model_options, pass_session

if TYPE_CHECKING:
    import socket

    from persona_steering.errors import PersonaSteeringError
    from persona_steering.server.door.security import Door
    from persona_steering.server.logs import LogFormat
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
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same, out of a file that only you may read (chmod 600).",
)
@click.option("--unsafe-no-auth", is_flag=True, help="Ask for no key, whoever can reach the address.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name the server is asked under. Repeatable.")
@click.option(
    "--cors-origin",
    multiple=True,
    metavar="ORIGIN",
    help="A site whose pages may use the server, such as https://app.example.org. Repeatable.",
)
@click.option(
    "--log-format",
    type=click.Choice(["plain", "json"]),
    default="plain",
    show_default=True,
    help="Lines for people, or one JSON object a line.",
)
@model_options
@pass_session
def serve(
    session: Session,
    host: str | None,
    port: str | None,
    api_key: str | None,
    api_key_file: Path | None,
    unsafe_no_auth: bool,
    allow_host: tuple[str, ...],
    cors_origin: tuple[str, ...],
    log_format: LogFormat,
) -> None:
    """Serve the model to any OpenAI client, with every persona as a model of its own.

    Only this machine can reach it unless --host says otherwise. Ctrl-C stops it.

    \b
    Examples:
      persona-steer serve
      persona-steer serve --model hf:Qwen/Qwen2.5-7B-Instruct --port 8000
      persona-steer serve --host 0.0.0.0 --allow-host models.example.org
    """
    from persona_steering.server.door.keys import chosen_key
    from persona_steering.server.door.security import Door, is_loopback
    from persona_steering.server.listening import listen
    from persona_steering.server.logs import set_up_logging

    session.settings |= {k: v for k, v in (("server.host", host), ("server.port", port)) if v is not None}
    address = session.config.server.host
    key = chosen_key(api_key, api_key_file, only_here=is_loopback(address), unsafe=unsafe_no_auth)
    door = Door.at(address, allowed=allow_host, api_key=key, origins=cors_origin)
    set_up_logging(sys.stderr, form=log_format, level=logging.WARNING if session.quiet else logging.INFO)
    with listen(address, session.config.server.port) as listening:
        run(session, listening, door, made=key is not None and api_key is None and api_key_file is None)


def run(session: Session, listening: socket.socket, door: Door, *, made: bool) -> None:
    """Serves until it is stopped; the model is loaded meanwhile. Raises what kept it from being loaded."""
    import contextlib
    import signal

    from persona_steering.cli.render import note
    from persona_steering.errors import ServerError
    from persona_steering.server.app import create_app
    from persona_steering.server.listening import server_of, url_of
    from persona_steering.server.model.slot import ModelSlot
    from persona_steering.server.presence import announced
    from persona_steering.server.state import ServerState
    from persona_steering.server.stores.database import Database, database_file

    state = ServerState(session.config, Database(database_file(session.config.workspace)), ModelSlot(session.config))
    server = server_of(create_app(state, door))
    url = url_of(listening)

    failed: list[PersonaSteeringError] = []  # to load the first model; one that is asked for later fails by itself

    def loaded() -> None:
        if state.slot.error is not None:
            failed.append(state.slot.error)
            server.should_exit = True
            return
        note(f"Ready. {state.slot.status.model} at {url}/v1   (Ctrl-C stops it)\n{page_line(url, door)}")
        note(f"{example(state, url, door)}\n")

    if made:
        note(f"A key was made for this run:\n\nexport {KEY_VARIABLE}={door.api_key}\n")
    note(f"Loading {session.config.model.name}; the server listens at {url}", quiet=session.quiet)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals stop it the same way
    try:
        state.slot.begin_loading(done=loaded)
        with contextlib.suppress(KeyboardInterrupt), announced(state, url, key=door.api_key):
            server.run(sockets=[listening])
    except SystemExit as error:  # so uvicorn ends where the start of the application fails
        raise ServerError("the server could not start.", hint="Its log above has the reason.") from error
    finally:
        state.close()
    if failed:
        raise failed[0]
    note("Stopped.", quiet=session.quiet)


def page_line(url: str, door: Door) -> str:
    """Where the page is, where there is one; with a key, a link that lets one browser in."""
    from persona_steering.server.page import is_built

    if not is_built():
        return ""
    once = "   (this link is good once)" if door.keyring else ""
    return f"In a browser: {door.keyring.link(url) if door.keyring else url}{once}\n"


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

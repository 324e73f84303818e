"""The socket, and the loop that serves it."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

from persona_steering.errors import BusyError, UsageError
from persona_steering.server.limits import LIMITS

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

PATIENCE = 10  # seconds that answers have to end by themselves when the server stops
FAREWELL = 5  # seconds in which those that have not are told


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0 takes a free one.

    Raises: BusyError when the port is taken, UsageError for an address that is not this machine's.
    """
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
        return listening
    except OSError as error:
        if listening is not None:
            listening.close()
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"port {port} of {host} is taken, perhaps by another server.",
                hint="Stop that one, or choose another: --port N (0 takes a free one).",
            ) from error
        raise UsageError(
            f"the server cannot listen at {host!r}, port {port}: {error.strerror or error}.",
            hint="Use an address of this machine, such as 127.0.0.1, and a port above 1023.",
        ) from error


def url_of(listening: socket.socket) -> str:
    """Where the server is reached from this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: FastAPI) -> uvicorn.Server:
    """The loop, not yet running. `run(sockets=[...])` ends on SIGINT or SIGTERM, or when `should_exit` is set.

    Answers then have a while to end by themselves; what is left is told that the server stops. A signal is raised
    again in the end, in the main thread.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            loop = asyncio.get_running_loop()
            app.state.server.end_feeds()
            ending = loop.call_later(PATIENCE, loop.run_in_executor, None, app.state.server.end_answers)
            try:
                await super().shutdown(sockets)
            finally:
                ending.cancel()

    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=LIMITS.frame_bytes,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE + FAREWELL,
        )
    )

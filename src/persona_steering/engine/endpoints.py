"""A configured OpenAI-compatible server, or another that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_steering.config import EndpointConfig

if TYPE_CHECKING:
    from persona_steering.backends.openai import OpenAIBackend

SCHEME = "openai:"


def connect_configured(choice: str, settings: EndpointConfig, *, concurrency: int = 8) -> OpenAIBackend:
    """The server and model of "openai:URL#MODEL".

    The configured key goes to the configured server alone, never to another that `choice` names. Raises UsageError
    or ConfigError.
    """
    from persona_steering.backends.openai import connect  # late: who stays local needs no HTTP client

    address = choice.removeprefix(SCHEME)
    same_server = address.partition("#")[0].rstrip("/") == settings.base_url.rstrip("/")
    return connect(address, api_key_env=settings.api_key_env if same_server else "", concurrency=concurrency)

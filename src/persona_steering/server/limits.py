"""How much the server takes: every bound in one place. What goes beyond one is refused, never cut."""

from __future__ import annotations

from pydantic import Field

from persona_steering.vectors.values import Closed


class Limits(Closed):
    """The bounds of a server, as it tells them to its clients."""

    body_bytes: int = Field(default=1024**2, description="of a request's JSON")
    upload_bytes: int = Field(default=512 * 1024**2, description="of a file that is imported")
    uploads: int = Field(default=4, description="files that are taken at once")
    conversation_bytes: int = Field(default=16 * 1024**2, description="of a conversation that is imported")
    messages: int = Field(default=256, description="of a conversation that is sent with a request")
    max_tokens: int = Field(default=4096, description="of an answer")
    choices: int = Field(default=8, description="answers of one request, `n`")
    schema_bytes: int = Field(default=64 * 1024, description="of a JSON schema that an answer is held to")
    stops: int = Field(default=16, description="stop texts of a request")
    vectors: int = Field(default=8, description="that steer one answer")
    caps: int = Field(default=8, description="bounds on projections of one answer")
    trace_axes: int = Field(default=4, description="whose readings come with an answer")
    lanes: int = Field(default=4, description="of a comparison")
    rows: int = Field(default=32, description="answers that are written at once")
    waiting: int = Field(default=16, description="answers that wait for a place; beyond it 429")
    jobs: int = Field(default=50, description="unfinished jobs")
    feeds: int = Field(default=32, description="clients of event streams")
    sockets: int = Field(default=32, description="open WebSockets")
    frame_bytes: int = Field(default=256 * 1024, description="of a WebSocket's frame")
    answer_seconds: float = Field(default=600.0, description="after which an answer ends as it then stands")
    idle_seconds: float = Field(default=300.0, description="after which a silent WebSocket is closed")
    resume_seconds: float = Field(default=60.0, description="in which a dropped WebSocket's answers can be taken up")


LIMITS = Limits()

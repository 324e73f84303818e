"""Conversations: trees of messages that are kept, and answers that are written into them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from persona_steering.server.answers.conversing import Reply, Turn, keep_message, plan_answer, plan_message
from persona_steering.server.answers.events import reply_events
from persona_steering.server.answers.transcripts import ConversationFile, FileFormat, add_file, file_of, to_markdown
from persona_steering.server.deps import ERRORS, ExpectedDep, PageDep, StateDep, tag
from persona_steering.server.feeds.streams import EventStream, streaming
from persona_steering.server.feeds.waiting import on_leaving
from persona_steering.server.paging import Page
from persona_steering.server.schemas.conversations import (
    MAX_SEARCH,
    Again,
    Ask,
    Exchange,
    Failed,
    Finished,
    NewConversation,
    Started,
    Transcript,
    WrittenToken,
)
from persona_steering.server.state import ServerState
from persona_steering.server.stores.conversation_models import Conversation, ConversationEdit, FoundConversation

router = APIRouter(prefix="/api/v1/conversations", tags=["conversations"], responses=ERRORS)
EVENTS = streaming(
    Started,
    WrittenToken,
    Finished,
    Failed,
    description="the answer; with stream: `start`, `token`, `done`, `error`",
)


@router.get("", operation_id="listConversations")
def list_conversations(
    state: StateDep,
    query: PageDep,
    q: Annotated[str, Query(max_length=MAX_SEARCH, description="a text in the title or in a message")] = "",
) -> Page[FoundConversation]:
    """Conversations, the newest first."""
    return state.conversations.page(query, text=q)


@router.post("", operation_id="createConversation", status_code=201)
def create_conversation(body: NewConversation, state: StateDep, response: Response) -> Conversation:
    """Begins a conversation, without messages."""
    made = state.conversations.create(title=body.title, model=state.slot.status.model or "")
    tag(response, made.version)
    return made


@router.post("/import", operation_id="importConversation", status_code=201)
def import_conversation(body: ConversationFile, state: StateDep, response: Response) -> Conversation:
    """Adds a conversation that was exported as JSON. Its messages get new ids."""
    made = add_file(state.conversations, body)
    tag(response, made.version)
    return made


@router.get("/{conversation_id}", operation_id="getConversation")
def get_conversation(conversation_id: str, state: StateDep, response: Response) -> Conversation:
    """A conversation without its messages."""
    found = state.conversations.get(conversation_id)
    tag(response, found.version)
    return found


@router.patch("/{conversation_id}", operation_id="changeConversation")
def change_conversation(
    conversation_id: str, body: ConversationEdit, state: StateDep, expected: ExpectedDep, response: Response
) -> Conversation:
    """Renames a conversation, or has it go on from another of its messages."""
    changed = state.conversations.change(conversation_id, body, expected=expected)
    tag(response, changed.version)
    return changed


@router.delete("/{conversation_id}", operation_id="deleteConversation", status_code=204)
def delete_conversation(conversation_id: str, state: StateDep, expected: ExpectedDep) -> None:
    """Removes a conversation with all its messages."""
    state.conversations.delete(conversation_id, expected=expected)


@router.get("/{conversation_id}/messages", operation_id="listMessages")
def list_messages(conversation_id: str, state: StateDep, response: Response) -> Transcript:
    """A conversation with all messages of its tree, a parent before its children."""
    head, messages = state.conversations.whole(conversation_id)
    tag(response, head.version)
    return Transcript(conversation=head, messages=messages)


@router.get("/{conversation_id}/path", operation_id="getPath")
def get_path(
    conversation_id: str,
    state: StateDep,
    response: Response,
    leaf: Annotated[
        str | None, Query(max_length=64, description="the last message; left out: where the shown branch ends")
    ] = None,
) -> Transcript:
    """A conversation with the messages of one branch, in order."""
    head, messages = state.conversations.branch(conversation_id, leaf)
    tag(response, head.version)
    return Transcript(conversation=head, messages=messages)


@router.get(
    "/{conversation_id}/export",
    operation_id="exportConversation",
    response_model=ConversationFile,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}, "description": "the file"}},
)
def export_conversation(
    conversation_id: str,
    state: StateDep,
    format: Annotated[FileFormat, Query(description="json: the whole tree; md: the shown branch, to be read")] = "json",
) -> Response:
    """A conversation as a file: JSON can be imported again."""
    if format == "json":
        head, messages = state.conversations.whole(conversation_id)
        text, kind = file_of(head, messages).model_dump_json(), "application/json"
    else:
        head, messages = state.conversations.branch(conversation_id)
        text, kind = to_markdown(head, messages), "text/markdown; charset=utf-8"
    # titles may hold anything, so the file is named by the identifier
    named = {"content-disposition": f'attachment; filename="{head.id}.{format}"'}
    return Response(text, headers=named, media_type=kind)


@router.post("/{conversation_id}/messages", operation_id="addMessage", response_model=Exchange, responses=EVENTS)
async def add_message(
    conversation_id: str, body: Ask, request: Request, state: StateDep, expected: ExpectedDep
) -> Response | Exchange:
    """Adds a message and has it answered. Whoever leaves before the end stops the answer; what there is is kept."""
    if not body.answer:
        return await run_in_threadpool(keep_message, state, conversation_id, body, expected)
    turn = await run_in_threadpool(plan_message, state, conversation_id, body, expected)
    return await _answer(state, turn, request, stream=body.stream)


@router.post(
    "/{conversation_id}/messages/{message_id}/answers",
    operation_id="answerMessage",
    response_model=Exchange,
    responses=EVENTS,
)
async def answer_message(
    conversation_id: str, message_id: str, body: Again, request: Request, state: StateDep, expected: ExpectedDep
) -> Response | Exchange:
    """Answers a message that is there, once more: another branch. See `addMessage`."""
    turn = await run_in_threadpool(plan_answer, state, conversation_id, message_id, body, expected)
    return await _answer(state, turn, request, stream=body.stream)


@router.delete("/{conversation_id}/messages/{message_id}", operation_id="deleteMessage")
def delete_message(
    conversation_id: str, message_id: str, state: StateDep, expected: ExpectedDep, response: Response
) -> Conversation:
    """Removes a message with everything below it."""
    left = state.conversations.delete_branch(message_id, conversation=conversation_id, expected=expected)
    tag(response, left.version)
    return left


async def _answer(state: ServerState, turn: Turn, request: Request, *, stream: bool) -> Response | Exchange:
    reply = await Reply.begin(state, turn)
    if stream:
        return EventStream(reply_events(reply), reply)
    async with on_leaving(request, reply.leave):
        return await reply.whole()

"""`chat`: a conversation, streaming. Without a terminal: one answer to what stdin holds."""

from __future__ import annotations

import sys

import click

from persona_steering.cli.context import Session, answer_options, joining_options, model_options, pass_session


@click.command()
@click.option("--no-history", is_flag=True, help="Keep nothing of what is written for the next chat.")
@answer_options
@joining_options
@model_options
@pass_session
def chat(session: Session, no_history: bool) -> None:
    """Talk with the model. Ctrl-C stops an answer and keeps it; Ctrl-D or /quit leaves; /help shows the commands.

    Without a terminal, one answer to what stdin holds is written.

    \b
    Examples:
      persona-steer chat --persona pirate --strength 0.8
      echo "What is courage?" | persona-steer chat --blend sage:0.5,pirate:0.4
    """
    if not sys.stdin.isatty():
        from persona_steering.cli.generate import answer_once, read_stdin

        answer_once(session, read_stdin())
        return
    from persona_steering.cli.repl.loop import converse
    from persona_steering.cli.repl.state import open_chat

    converse(open_chat(session), history=not no_history)

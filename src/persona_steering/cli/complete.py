"""Names that the shell completes: of vectors, archetypes and settings. Read from the disk, no model library loaded.

A completion never fails and never complains: where nothing can be read, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from persona_steering.cli.context import Session

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_KINDS = {"personas": "persona", "traits": "trait", "axes": "axis"}


def _offering(found: Callable[[click.Context, str], Iterable[tuple[str, str]]]) -> Completer:
    """A completer that offers those of the (word, meaning) pairs which begin as the user wrote."""

    @wraps(found)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            pairs = list(found(ctx, incomplete))
        except Exception:  # a broken file or setting is no reason to write into somebody's prompt
            return []
        return [CompletionItem(word, help=meaning) for word, meaning in pairs if word.startswith(incomplete)]

    return complete


def _session(ctx: click.Context) -> Session:
    from persona_steering.cli.context import Session

    return ctx.ensure_object(Session)


def _vectors(ctx: click.Context, *folders: str) -> dict[str, str]:
    """Name to kind of the files in the store; their content is not read."""
    root = _session(ctx).config.vectors_dir
    return {
        path.stem: _KINDS[path.parent.name]
        for path in sorted(root.glob("*/*/*.safetensors"))
        if path.parent.name in folders
    }


@_offering
def complete_steerable(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """Personas and traits there are."""
    return _vectors(ctx, "personas", "traits").items()


@_offering
def complete_vector(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """Every vector there is."""
    return _vectors(ctx, *_KINDS).items()


@_offering
def complete_blend(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """The last name of a blend such as sage:0.5,pi."""
    head = incomplete[: incomplete.rfind(",") + 1]
    return [(f"{head}{name}:", kind) for name, kind in _vectors(ctx, "personas", "traits").items()]


@_offering
def complete_archetype(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """Archetypes that ship with the package."""
    from persona_steering.personas import list_archetypes

    return [(name, "archetype") for name in list_archetypes()]


@_offering
def complete_trait(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """Traits that ship with the package."""
    from persona_steering.personas import list_traits

    return [(name, "trait") for name in list_traits()]


@_offering
def complete_key(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """Keys of the settings."""
    from persona_steering.config.schema import FIELDS

    return [(key, field.description or "") for key, field in FIELDS.items()]


@_offering
def complete_assignment(ctx: click.Context, incomplete: str) -> Iterable[tuple[str, str]]:
    """The key of KEY=VALUE."""
    from persona_steering.config.schema import FIELDS

    return [(f"{key}=", field.description or "") for key, field in FIELDS.items()]

"""Letting a model write: which model that is, and the system prompts of a persona that is only described."""

from __future__ import annotations

from collections.abc import Callable

from persona_steering.authoring.collect import Generated
from persona_steering.authoring.generator import DatasetGenerator
from persona_steering.backends.base import Backend, ProgressCallback, no_progress
from persona_steering.config import Config
from persona_steering.engine.endpoints import SCHEME, connect_configured
from persona_steering.errors import UsageError, nearest
from persona_steering.personas import Persona, Question, SafetyPrompt
from persona_steering.personas.datasets import Datasets, SetKind, save_jsonl
from persona_steering.vectors import check_name

LOCAL = "local"


def open_writer(choice: str | None, config: Config, *, local: Callable[[], Backend]) -> Backend:
    """The backend that writes: `choice` ("local" or "openai:URL#MODEL"), else the configured one, else the local model.

    `local` gives the loaded model, and is called only where it is meant. Raises UsageError or ConfigError.
    """
    settings = config.generator
    if choice is None and settings.base_url:
        choice = f"{SCHEME}{settings.base_url}#{settings.model}"
    if choice is None or choice == LOCAL:
        return local()
    if not choice.startswith(SCHEME):
        raise UsageError(
            f"{choice!r} is no generator.",
            hint=f"{nearest(choice, [LOCAL])} Write {LOCAL}, or openai:URL#MODEL.".strip(),
        )
    return connect_configured(choice, settings)


def write_set(
    writer: Backend,
    datasets: Datasets,
    kind: SetKind,
    n: int,
    *,
    replace: bool = False,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Generated[Question] | Generated[SafetyPrompt]:
    """Has `n` questions, safe or unsafe prompts written into the workspace, which uses them from then on.

    What is valid is kept in KIND.partial.jsonl meanwhile, with which a later call goes on. Raises: UsageError where
    the workspace has such a set, unless `replace`; QualityError where too few passed; what the writer raises.
    """
    path = datasets.path(kind)
    if path.exists() and not replace:
        raise UsageError(f"{path} is there already.", hint="Add --replace to have it written anew.")
    partial = path.with_name(f"{kind}.partial.jsonl")
    generator = DatasetGenerator(writer, seed=seed, progress=progress, cancelled=cancelled)
    written: Generated[Question] | Generated[SafetyPrompt]
    if kind == "questions":
        written = generator.generate_extraction_questions(n, keep_in=partial)
    elif kind == "safe":
        written = generator.generate_safe_prompts(n, keep_in=partial)
    else:
        written = generator.generate_unsafe_prompts(n, keep_in=partial)
    kept = f"What there is, is in {partial}: the same command goes on from there, also with another --generator."
    save_jsonl(written.require("questions" if kind == "questions" else f"{kind} prompts", hint=kept), path)
    partial.unlink(missing_ok=True)
    return written


def propose_persona(
    writer: Backend,
    datasets: Datasets,
    name: str,
    description: str,
    *,
    prompts: int = 5,
    replace: bool = False,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Persona:
    """The persona `name` as the workspace has it, else with system prompts newly written and saved for editing.

    With `replace` they are written anew. Raises: UsageError where the workspace's prompts were written for another
    description; QualityError where too few prompts passed; what the writer raises.
    """
    check_name(name)
    description = " ".join(description.split())
    path = datasets.persona_path(name)
    if not replace and (found := datasets.persona(name)) is not None:
        if found.description != description:
            raise UsageError(
                f"{path} holds prompts for another description of {name!r}: {found.description!r}.",
                hint=f"Use them with --prompts {path}, or delete the file to have new ones written.",
            )
        return found
    generator = DatasetGenerator(writer, seed=seed, progress=progress, cancelled=cancelled)
    written = generator.generate_persona_prompts(description, prompts).require("system prompts")
    datasets.save_persona(Persona(name=name, description=description, system_prompts=written))
    found = datasets.persona(name)
    assert found is not None  # read back, so that a first run and a later one have the same persona
    return found

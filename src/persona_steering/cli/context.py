"""The options that commands share, and the objects made from them: configuration, manager, model, engine.

A decorator (`model_options`, `store_options`, `answer_options`) puts options on a command, whose values go into the
`Session` that `pass_session` hands to it. What is costly is made when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from persona_steering.cli.complete import Completer, complete_assignment, complete_blend, complete_steerable
from persona_steering.errors import UsageError, unknown

if TYPE_CHECKING:
    from persona_steering.backends.base import Backend
    from persona_steering.backends.wrapper import ModelWrapper
    from persona_steering.cli.joining import Joined
    from persona_steering.config import Config
    from persona_steering.engine.create import Effort
    from persona_steering.engine.service import SteeringService
    from persona_steering.interventions.recipe import Blend
    from persona_steering.personas.manager import PersonaManager
    from persona_steering.vectors import ModelIdentity, StoredVector

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Session:
    """What one command was given, and what it needs."""

    settings: dict[str, object] = field(default_factory=dict)  # "section.key" of the flags that were given
    assignments: tuple[str, ...] = ()  # of --set
    config_path: Path | None = None
    quiet: bool = False
    as_json: bool = False
    effort_name: str = "standard"
    persona: str | None = None
    strength: str | None = None
    blend_text: str | None = None
    system: str | None = None
    generator: str | None = None  # of --generator
    server: str | None = None  # of --server
    local: bool = True  # of --local; a command without that option never uses a server
    api_key: str | None = None
    is_nested: bool = False  # of a command that runs inside another, which says what comes next

    @cached_property
    def config(self) -> Config:
        """The settings: flags over --set over everything else. Raises ConfigError or UsageError."""
        from persona_steering.config import get_config

        return get_config(self.config_path, overrides=self.overrides())

    def overrides(self) -> dict[str, object]:
        """What --set and the flags say, by "section.key". Raises UsageError for a --set without a value."""
        overrides: dict[str, object] = {}
        for assignment in self.assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                raise UsageError(
                    f"--set {assignment!r} gives no value.", hint="Write --set extraction.num_questions=20."
                )
            overrides[key.strip()] = value
        return overrides | self.settings

    @cached_property
    def manager(self) -> PersonaManager:
        """The vectors on disk. No model is loaded for them."""
        from persona_steering.personas.manager import PersonaManager

        return PersonaManager(self.config)

    @cached_property
    def model(self) -> ModelWrapper:
        """The model, loaded. It is closed when the command ends."""
        from persona_steering.backends.wrapper import ModelWrapper
        from persona_steering.cli.render import working

        prepare_libraries(self.config.model.name)
        wrapper = ModelWrapper(self.config)
        with working(f"Loading {self.config.model.name}", quiet=self.quiet):
            self.manager.bind(wrapper.identity)
        click.get_current_context().call_on_close(wrapper.close)
        return wrapper

    @cached_property
    def effort(self) -> Effort:
        """How much is measured: --quick, --thorough or neither."""
        from persona_steering.engine.create import EFFORTS

        return EFFORTS[self.effort_name]

    @cached_property
    def service(self) -> SteeringService:
        """Where answers come from. The one place that chooses it: a running server, else a model loaded here."""
        if self.joined is not None:
            from persona_steering.engine.remote.service import RemoteService

            return RemoteService(self.joined.api, self.config)
        from persona_steering.engine.service import LocalService
        from persona_steering.engine.steering import SteeringEngine

        return LocalService(SteeringEngine(self.model, self.manager, self.config))

    @cached_property
    def joined(self) -> Joined | None:
        """The running server that the command uses; None where it works here. Said once, on stderr."""
        from persona_steering.cli.joining import join

        return join(self)

    @cached_property
    def writer(self) -> Backend:
        """Who writes data sets: --generator, else the configured one, else the model. Closed when the command ends."""
        from persona_steering.engine.writing import open_writer

        writer = open_writer(self.generator, self.config, local=lambda: self.model.backend)
        click.get_current_context().call_on_close(writer.close)
        return writer

    def nested(self) -> Session:
        """A session for a command that runs inside this one's: same settings, same loaded model and vectors."""
        inner = Session(dict(self.settings), self.assignments, self.config_path, quiet=self.quiet, is_nested=True)
        inner.joined = self.joined
        if self.joined is None:
            inner.model, inner.manager = self.model, self.manager
        return inner

    def check_model_of(self, outer: Session) -> None:
        """Raises UsageError when a nested command asks for another model or other folders than it was given."""
        if (self.config.model, self.config.paths) != (outer.config.model, outer.config.paths):
            raise UsageError(
                "the model and the folders cannot be changed here.",
                hint=f"Leave them out: {outer.config.model.name!r} is loaded.",
            )

    def blend(self) -> Blend:
        """What to steer with: of --persona and --strength, or of --blend. Raises RecipeError or UsageError.

        Names that no model has are refused here, before a model is loaded; a server's names by the server.
        """
        from persona_steering.interventions import parse_blend, parse_strength
        from persona_steering.vectors import check_name

        default = self.config.steering.default_strength
        if self.persona is not None and self.blend_text is not None:
            raise UsageError("--persona and --blend were both given.", hint="Name everything in --blend.")
        if self.strength is not None and self.persona is None:
            raise UsageError("--strength was given without --persona.", hint="In a blend, write name:strength.")
        blend: Blend = {}
        if self.persona is not None:
            blend = {check_name(self.persona): default if self.strength is None else parse_strength(self.strength)}
        elif self.blend_text is not None:
            blend = parse_blend(self.blend_text, default=default)
        if self.joined is None:
            self.check_names(list(blend))
        return blend

    def stored_model(self) -> ModelIdentity | None:
        """The server's model, else the configured one as the store knows it; None when it holds nothing of it."""
        if self.joined is not None:
            return self.service.model.identity
        name = self.config.model.name.removeprefix("hf:")
        found = [(entry.metadata.created, entry.metadata.model) for entry in self.entries() if entry.metadata]
        own = [(created, model) for created, model in found if model is not None and same_model_name(model.id, name)]
        return max(own, key=lambda pair: pair[0])[1] if own else None

    def entries(self) -> list[StoredVector]:
        """Every vector in the store, of all models."""
        return self.manager.store.list()

    def check_names(self, names: list[str]) -> None:
        """Raises NotFoundError for a name that no vector has, before a model is loaded."""
        model = self.stored_model() if names else None
        if model is not None:
            self.manager.bind(model)
            for name in names:
                self.manager.kind_of(name)
            return
        known = {entry.name for entry in self.entries() if entry.folder != "axes"} if names else set()
        for name in names:
            if name not in known:
                raise unknown("persona or trait", name, known, hint="Make it with: persona-steer create")


def same_model_name(stored: str, asked: str) -> bool:
    """Whether two names mean one model: equal, or the same folder."""
    return stored == asked or (Path(asked).is_dir() and Path(stored).resolve() == Path(asked).resolve())


def prepare_libraries(model: str) -> None:
    """Settings that the model library reads on import: no waiting for a hub that is not needed or not there."""
    local = model.split(":")[0] in ("embedded", "openai") or Path(model.removeprefix("hf:")).is_dir()
    if "HF_HUB_OFFLINE" not in os.environ and (local or not hub_is_reachable()):
        os.environ["HF_HUB_OFFLINE"] = "1"  # else a machine without a network spends most of a minute on retries
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def hub_is_reachable(timeout: float = 3.0) -> bool:
    """Whether the model hub takes a connection. Behind a proxy that is taken for granted."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if getproxies().keys() & {hub.scheme, "all"}:
        return True
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout).close()
    except (OSError, ValueError):
        return False
    return True


pass_session = click.make_pass_decorator(Session, ensure=True)


def _attribute(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        setattr(ctx.ensure_object(Session), name, value)

    return remember


def _setting(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        session = ctx.ensure_object(Session)
        if value is not None:
            session.settings[key] = value

    return remember


def _effort(ctx: click.Context, parameter: click.Parameter, given: bool) -> None:
    session = ctx.ensure_object(Session)
    if not given:
        return
    if session.effort_name != "standard":
        raise UsageError("--quick and --thorough were both given.", hint="Give one of them, or neither.")
    session.effort_name = str(parameter.name)


def _option(
    *names: str,
    help: str,
    to: str = "",
    key: str = "",
    metavar: str | None = None,
    type: click.ParamType[Any] | None = None,
    is_flag: bool | None = None,  # None, since False would make an option's value optional
    multiple: bool = False,
    complete: Completer | None = None,
    envvar: str | None = None,
) -> Callable[[Function], Function]:
    """An option whose value goes to an attribute of the session (`to`), or to a setting (`key`)."""
    return click.option(
        *names,
        expose_value=False,
        callback=_setting(key) if key else _attribute(to),
        help=help,
        metavar=metavar,
        type=type,
        is_flag=is_flag,
        multiple=multiple,
        shell_complete=complete,
        envvar=envvar,
        show_envvar=envvar is not None,
    )


_COMMON = (
    _option("--config", to="config_path", type=click.Path(path_type=Path), help="A config.yaml, or a workspace."),
    _option(
        "--set",
        to="assignments",
        multiple=True,
        metavar="KEY=VALUE",
        complete=complete_assignment,
        help="Override one setting. Repeatable.",
    ),
    _option("-q", "--quiet", to="quiet", is_flag=True, help="No progress and no notes; the result only."),
    click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks."),
)
_MODEL = (
    _option("--model", key="model.name", metavar="NAME", help="'embedded', a folder, or a Hugging Face id."),
    _option("--device", key="model.device", metavar="DEVICE", help="auto, cpu, mps, cuda or cuda:N."),
    _option(
        "--dtype",
        key="model.dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        help="Number format of the weights.",
    ),
    _option(
        "--quantization",
        key="model.quantization",
        type=click.Choice(["4bit", "8bit"]),
        help="Load the weights in fewer bits.",
    ),
)
_BLEND = (
    _option("--persona", to="persona", metavar="NAME", help="A persona or trait.", complete=complete_steerable),
    _option("--strength", to="strength", metavar="X", help="-2 to 2; 1.0 is the strongest dose measured coherent."),
    _option(
        "--blend",
        to="blend_text",
        metavar="A:0.5,B:-0.3",
        help="Several at once, each with its strength.",
        complete=complete_blend,
    ),
)
_SAMPLING = (
    click.option(
        "--no-safety",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, parameter, off: _setting("steering.safety")(ctx, parameter, False if off else None),
        help="Use raw vectors, without the floor on the safety axis.",
    ),
    _option("--system", to="system", metavar="TEXT", help="A system prompt."),
    _option("--seed", key="generation.seed", metavar="N", help="The same seed gives the same answer."),
    _option("--temperature", key="generation.temperature", metavar="T", help="0 is greedy."),
    _option("--max-new-tokens", key="generation.max_new_tokens", metavar="N", help="Length of an answer."),
)
_EFFORT = (
    click.option("--quick", is_flag=True, expose_value=False, callback=_effort, help="Fewer answers, wider intervals."),
    click.option("--thorough", is_flag=True, expose_value=False, callback=_effort, help="More answers, narrower ones."),
)
_GENERATOR = (
    _option(
        "--generator",
        to="generator",
        metavar="WRITER",
        help="Who writes: local (the model), or openai:URL#MODEL.  [default: the configured one, else local]",
    ),
)
_ASKING = (
    _option(
        "--server",
        to="server",
        metavar="URL",
        help="The server to ask.  [env var: PERSONA_STEER_SERVER; default: the one of the workspace, if it runs]",
    ),
    _option("--api-key", to="api_key", metavar="KEY", envvar="PERSONA_STEER_API_KEY", help="The key of that server."),
)
_JOINING = (*_ASKING, _option("--local", to="local", is_flag=True, help="Load the model here, whatever runs."))
_JSON = (_option("--json", to="as_json", is_flag=True, help="One JSON object on stdout."),)


def _decorated(function: Function, options: tuple[Any, ...]) -> Function:
    for option in reversed(options):
        function = option(function)
    return function


def model_options(function: Function) -> Function:
    """Options of every command that loads a model."""
    return _decorated(function, (*_MODEL, *_COMMON))


def base_options(function: Function) -> Function:
    """Those of `model_options`, for a command whose model is the base of another: --base names it."""
    base = _option("--base", key="model.name", metavar="NAME", help="'embedded', a folder, or a Hugging Face id.")
    return _decorated(function, (base, *_MODEL[1:], *_COMMON))


def common_options(function: Function) -> Function:
    """Options of commands that only need the settings."""
    return _decorated(function, _COMMON)


def store_options(function: Function) -> Function:
    """Options of commands that read the store only."""
    return _decorated(function, (_MODEL[0], *_COMMON, *_JSON))


def answer_options(function: Function) -> Function:
    """Options that say what steers and how to answer. They come before `model_options`."""
    return _decorated(function, (*_BLEND, *_SAMPLING))


def joining_options(function: Function) -> Function:
    """Options of commands that use a running server where there is one. They come before `model_options`."""
    return _decorated(function, _JOINING)


def asking_options(function: Function) -> Function:
    """Options of commands that are about a server."""
    return _decorated(function, _ASKING)


def sampling_options(function: Function) -> Function:
    """Options that say how to answer, for a command that is told otherwise what steers."""
    return _decorated(function, _SAMPLING)


def effort_options(function: Function) -> Function:
    """--quick and --thorough."""
    return _decorated(function, _EFFORT)


def generator_option(function: Function) -> Function:
    """--generator."""
    return _decorated(function, _GENERATOR)


def json_option(function: Function) -> Function:
    """--json."""
    return _decorated(function, _JSON)

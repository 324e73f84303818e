"""Typed settings: closed sections, one YAML file, and for every value where it came from.

A value is taken from the first of these that has it:

    1. overrides            get_config(overrides={"model.name": "hf:..."}), and the flags of the command line
    2. the environment      PERSONA_STEER_MODEL__NAME=hf:...  (section and key joined by a double underscore)
    3. the workspace        its config.yaml
    4. the user             config.yaml in the user's configuration folder
    5. the built-in default

The workspace is the nearest folder upward from the current one with a `config.yaml` that either lies beside a
`vectors/` folder or has the top-level line `persona_steering: 1`; otherwise the user's data folder. Relative
paths in a file start at that file's folder. `PERSONA_STEER_HOME` replaces the user's folders by `data/`,
`config/` and `cache/` beneath it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from persona_steering.errors import ConfigError, DependencyError, nearest

APP_NAME = "persona-steering"
FILE_NAME = "config.yaml"
ENV_PREFIX = "PERSONA_STEER_"
HOME_VARIABLE = "PERSONA_STEER_HOME"
MARKER = "persona_steering"  # top-level key of a config.yaml that is ours; its value is the file's version
MAX_LAYERS = 10_000


def _parse_layers(value: object) -> object:
    """The texts "8-10,12" and "[8, 9]" and the number 8 as layers; anything else is left to the type."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, (list, tuple)) and all(type(layer) is int for layer in value):
        return tuple(sorted(set(value)))
    text = value.replace(" ", "").strip("[]") if isinstance(value, str) else ""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return value
    layers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            return value
        layers |= {int(first), *range(int(first), min(int(last or first), MAX_LAYERS) + 1)}
    return tuple(sorted(layers))


Layers = Annotated[
    Literal["auto"] | Annotated[tuple[Annotated[int, Field(ge=0, lt=MAX_LAYERS)], ...], Field(min_length=1)],
    BeforeValidator(_parse_layers),
]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu|npu)(:\d+)?)$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelConfig(_Section):
    """Which model, and how it is loaded."""

    name: str = Field(default="embedded", min_length=1, description='"embedded", "hf:ORG/NAME", "gguf:FILE" ...')
    device: Device = Field(default="auto", description='"auto", "cpu", "mps", "cuda" or "cuda:N"')
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description='"auto", "float32", "bfloat16" or "float16"'
    )
    quantization: Literal["4bit", "8bit"] | None = Field(default=None, description='"4bit", "8bit" or null')
    revision: str | None = Field(default=None, description="commit, tag or branch on the hub")
    trust_remote_code: bool = Field(default=False, description="run code that the model's repository brings")


class ExtractionConfig(_Section):
    """How a vector is measured."""

    target_layers: Layers = Field(default="auto", description='"auto" (all), or layers such as [8, 9] or "8-10"')
    num_questions: int = Field(default=20, ge=1, le=10_000, description="per system prompt")
    num_samples_per_prompt: int = Field(default=1, ge=1, le=1_000, description="answers per question")
    max_new_tokens: int = Field(default=48, ge=1, le=100_000, description="length of an answer, in tokens")
    temperature: float = Field(default=0.7, ge=0, le=5, description="0 is greedy")
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        default="auto", description='"auto", or rows per batch'
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the sampled answers")


class SteeringConfig(_Section):
    """What a request gets when it does not say otherwise."""

    default_strength: float = Field(default=1.0, ge=-2, le=2, description="1.0 is the strongest coherent dose")
    steering_scale: float = Field(default=1.0, ge=0.01, le=2, description="multiplies every strength")
    steering_layers: Layers = Field(default="auto", description='"auto", or layers such as [8, 9] or "8-10"')
    safety: bool = Field(default=True, description="use safe vectors and the floor on the safety axis")
    safety_floor_percentile: float = Field(default=1.0, ge=0, le=100, description="of safe responses")
    capping_layers: Layers = Field(default="auto", description='"auto", or layers such as [8, 9] or "8-10"')


class GenerationConfig(_Section):
    """How an answer is sampled."""

    temperature: float = Field(default=0.7, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(default=0.95, gt=0, le=1, description="nucleus sampling")
    max_new_tokens: int = Field(default=200, ge=1, le=1_000_000, description="length of an answer, in tokens")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="null: a new one for each request")


class EndpointConfig(_Section):
    """An OpenAI-compatible server. Empty: none is used."""

    base_url: str = Field(default="", description="for instance http://127.0.0.1:11434/v1")
    model: str = Field(default="", description="the model's name on that server")
    api_key_env: str = Field(default="", description="the environment variable that holds the key")


class PathsConfig(_Section):
    """Folders. null: inside the workspace; the cache in the user's cache folder."""

    datasets: Path | None = Field(default=None, description="questions, prompts and generated data sets")
    vectors: Path | None = Field(default=None, description="extracted vectors")
    runs: Path | None = Field(default=None, description="extraction runs, resumable")
    cache: Path | None = Field(default=None, description="converted models and downloads")


class ServerConfig(_Section):
    """Where the server listens."""

    host: str = Field(default="127.0.0.1", min_length=1, description="127.0.0.1 is reachable from this machine only")
    port: int = Field(default=8642, ge=0, le=65_535, description="0 to 65535; 0 takes a free one")


class Config(_Section):
    """All settings. Made by `get_config`; `Config()` holds the built-in defaults."""

    model: ModelConfig = ModelConfig()
    extraction: ExtractionConfig = ExtractionConfig()
    steering: SteeringConfig = SteeringConfig()
    generation: GenerationConfig = GenerationConfig()
    generator: EndpointConfig = EndpointConfig()
    judge: EndpointConfig = EndpointConfig()
    paths: PathsConfig = PathsConfig()
    server: ServerConfig = ServerConfig()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _workspace: Path | None = PrivateAttr(default=None)

    @property
    def workspace(self) -> Path:
        """The folder that holds `datasets/`, `vectors/` and `runs/` unless `paths` says otherwise."""
        return self._workspace or user_data_dir()

    @property
    def datasets_dir(self) -> Path:
        return self.paths.datasets or self.workspace / "datasets"

    @property
    def vectors_dir(self) -> Path:
        return self.paths.vectors or self.workspace / "vectors"

    @property
    def runs_dir(self) -> Path:
        return self.paths.runs or self.workspace / "runs"

    @property
    def cache_dir(self) -> Path:
        return self.paths.cache or user_cache_dir()

    def origin(self, key: str) -> str:
        """Where a value came from: "built-in", a file, an environment variable or "override".

        Raises: ConfigError for a key that does not exist.
        """
        _field(key, "origin()")
        return self._origins.get(key, "built-in")


class _Value(NamedTuple):
    value: object
    origin: str


_FIELDS: dict[str, FieldInfo] = {
    f"{section}.{key}": field
    for section, info in Config.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    for key, field in info.annotation.model_fields.items()
}


def config_keys() -> tuple[str, ...]:
    """Every key as "section.key", in the order of the file."""
    return tuple(_FIELDS)


def get_config(path: Path | None = None, *, overrides: Mapping[str, object] | None = None) -> Config:
    """The settings that hold here and now.

    path: a config file, or a workspace folder, to use instead of looking for one upward.
    overrides: "section.key" to value; text is parsed as in the environment.
    Raises: ConfigError for an unknown key, a value out of range or a broken file.
    """
    workspace, file = _locate(path)
    user_file = user_config_file()
    merged: dict[str, _Value] = {}  # lowest precedence first
    if user_file.is_file() and (file is None or user_file.resolve() != file.resolve()):
        merged.update(_from_file(user_file))
    if file is not None:
        merged.update(_from_file(file))
    merged.update(_from_environment(os.environ))
    merged.update((key, _given(key, value, "override")) for key, value in (overrides or {}).items())
    config = _validated(merged)
    config._workspace = workspace
    config._origins = {key: value.origin for key, value in merged.items()}
    return config


def user_data_dir() -> Path:
    """Where vectors and runs live outside any workspace."""
    return _user_dir("data")


def user_cache_dir() -> Path:
    """What can be deleted at any time."""
    return _user_dir("cache")


def user_config_file() -> Path:
    """The user's own config.yaml, which need not exist."""
    return _user_dir("config") / FILE_NAME


def find_workspace(start: Path | None = None) -> Path | None:
    """The nearest workspace at or above a folder (the current one), or None."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        file = folder / FILE_NAME
        if file.is_file() and ((folder / "vectors").is_dir() or _is_marked(file)):
            return folder
    return None


def _is_marked(file: Path) -> bool:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False  # on the way up lie other people's files
    return re.search(rf"^{MARKER}\s*:", text, re.MULTILINE) is not None


def _user_dir(kind: Literal["data", "config", "cache"]) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser().absolute() / kind
    try:
        import platformdirs
    except ImportError as exc:
        raise DependencyError(
            "the package 'platformdirs' is not installed, so the user's folders are not known.",
            hint=f"Run `pip install platformdirs`, or set {HOME_VARIABLE} to a folder.",
        ) from exc
    dirs = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    return {"data": dirs.user_data_path, "config": dirs.user_config_path, "cache": dirs.user_cache_path}[kind]


def _locate(path: Path | None) -> tuple[Path, Path | None]:
    """The workspace, and its config file when there is one."""
    if path is None:
        workspace = find_workspace() or user_data_dir()
    else:
        path = Path(path).expanduser().absolute()
        if path.is_file():
            return path.parent, path
        if not path.is_dir():
            raise ConfigError(f"there is no configuration file {path}.", hint="Check the path.")
        workspace = path
    file = workspace / FILE_NAME
    return workspace, file if file.is_file() else None


def _field(key: str, where: str) -> FieldInfo:
    if key in _FIELDS:
        return _FIELDS[key]
    raise ConfigError(f"unknown setting {key!r} in {where}.", hint=nearest(key, _FIELDS) or _sections_hint())


def _sections_hint() -> str:
    return f"The sections are {', '.join(Config.model_fields)}."


def _given(key: str, value: object, origin: str, base: Path | None = None) -> _Value:
    """One value from a person: "null" as None where that is allowed, and paths made absolute."""
    field = _field(key, origin)
    if field.default is None and isinstance(value, str) and value.lower() in {"", "null", "none"}:
        value = None
    if key.startswith("paths.") and isinstance(value, (str, Path)):
        value = (base or Path.cwd()) / Path(value).expanduser()
    return _Value(value, origin)


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, _Value]]:
    flat = {key.replace(".", "_"): key for key in _FIELDS}
    for variable, value in environment.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if "__" in name:
            key = name.replace("__", ".", 1)
            yield key, _given(key, value, f"environment variable {variable}")
        elif name in flat:  # one underscore where two are meant would otherwise do nothing
            meant = ENV_PREFIX + flat[name].replace(".", "__").upper()
            raise ConfigError(f"unknown environment variable {variable}.", hint=f"Did you mean {meant}?")


def _from_file(file: Path) -> Iterator[tuple[str, _Value]]:
    for section, settings in _read_yaml(file).items():
        if section == MARKER:
            if settings != 1:
                raise ConfigError(
                    f"{file} has version {settings!r} of the configuration, and only 1 is known.",
                    hint="Upgrade persona-steering, or write `persona_steering: 1`.",
                )
            continue
        if section not in Config.model_fields:
            known = [*Config.model_fields, *_FIELDS]
            hint = nearest(str(section), known) or _sections_hint()
            raise ConfigError(f"unknown section {section!r} in {file}.", hint=hint)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise ConfigError(
                f"{section!r} in {file} is {settings!r}, but it is a section.",
                hint=f"Write its settings indented below it: {', '.join(_keys_of(section))}.",
            )
        for key, value in settings.items():
            yield f"{section}.{key}", _given(f"{section}.{key}", value, str(file), file.parent)


def _keys_of(section: str) -> list[str]:
    return [key.partition(".")[2] for key in _FIELDS if key.startswith(f"{section}.")]


def _read_yaml(file: Path) -> dict[object, object]:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: {exc.problem or 'not valid YAML'}.", hint="Correct that line.") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{file} is not a YAML text file in UTF-8.", hint="Correct or delete it.") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror}.", hint="Check its permissions.") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a list of sections.", hint=_sections_hint())
    return content


def _validated(merged: Mapping[str, _Value]) -> Config:
    nested: dict[str, dict[str, object]] = {}
    for key, (value, _) in merged.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    try:
        return Config.model_validate(nested)
    except ValidationError as exc:
        raise _value_error(exc, merged) from exc


def _value_error(exc: ValidationError, merged: Mapping[str, _Value]) -> ConfigError:
    """The first wrong value, with every alternative of its type that it failed."""
    errors = exc.errors(include_url=False)
    key = ".".join(str(part) for part in errors[0]["loc"][:2])
    value, origin = merged[key]
    reasons = dict.fromkeys(e["msg"] for e in errors if ".".join(map(str, e["loc"][:2])) == key)
    return ConfigError(
        f"{key} is {value!r} in {origin}: {'; or '.join(reasons)}.",
        hint=f"{key}: {_FIELDS[key].description}.",
    )

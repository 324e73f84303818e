"""The settings there are: closed sections with a default and a description for every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic.fields import FieldInfo

from persona_steering.config.places import user_cache_dir, user_data_dir
from persona_steering.errors import ConfigError, nearest

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
    """An OpenAI-compatible server."""

    base_url: str = Field(default="", description="for instance http://127.0.0.1:11434/v1")
    model: str = Field(default="", description="the model's name on that server")
    api_key_env: str = Field(default="", description="the environment variable that holds the key")


class JudgeConfig(EndpointConfig):
    """An OpenAI-compatible server that judges, and how it is asked."""

    concurrency: int = Field(default=8, ge=1, le=256, description="calls at once")
    samples: int = Field(
        default=5, ge=1, le=100, description="answers averaged where the server gives no log-probabilities"
    )
    max_calls: int | None = Field(default=None, ge=1, description="calls of one command at most; null: no limit")
    max_tokens: int | None = Field(default=None, ge=1, description="tokens of one command at most; null: no limit")


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
    generator: EndpointConfig = Field(
        default=EndpointConfig(),
        description="An OpenAI-compatible server that writes data sets. Empty: the model itself writes them.",
    )
    judge: JudgeConfig = Field(
        default=JudgeConfig(), description="An OpenAI-compatible server that judges answers. Empty: none is used."
    )
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
        field_of(key, "origin()")
        return self._origins.get(key, "built-in")


FIELDS: dict[str, FieldInfo] = {
    f"{section}.{key}": field
    for section, info in Config.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    for key, field in info.annotation.model_fields.items()
}


def config_keys() -> tuple[str, ...]:
    """Every key as "section.key", in the order of the file."""
    return tuple(FIELDS)


def field_of(key: str, where: str) -> FieldInfo:
    if key in FIELDS:
        return FIELDS[key]
    raise ConfigError(f"unknown setting {key!r} in {where}.", hint=nearest(key, FIELDS) or sections_hint())


def sections_hint() -> str:
    return f"The sections are {', '.join(Config.model_fields)}."


def keys_of(section: str) -> list[str]:
    return [key.partition(".")[2] for key in FIELDS if key.startswith(f"{section}.")]
